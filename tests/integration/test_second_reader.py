# ruff: noqa: SIM117
"""The second reader beside the first, on drawn documents and the fake engine: marks, places, and never in the way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from inkstick.document import Block, Flag, Kind, Line, Page, Task
from inkstick.engines.openai import OpenAiEngine
from inkstick.engines.protocol import Engine, Health, Load, Reading, Request
from inkstick.errors import PageFailed
from inkstick.pages.view import Pixels
from inkstick.profile import EngineChoice, Profile, SecondMode
from inkstick.reading.reader import Engines, Job, PartFile, Reader
from support import drawn_pool, page_code
from support.fake_engine import FakeEngine, text_for

ON, OFF = Profile(second_reader=SecondMode.ON), Profile(second_reader=SecondMode.OFF)


class LineEngine:
    """A CPU engine that knows what stands on each numbered page, line by line. `wrong`: pages where it reads other
    digits; `seconds` each page takes."""

    name, model, remote = "rapidocr", "knows-the-page", False
    tasks = frozenset({Task.PARSE, Task.TEXT})
    limit = 2

    def __init__(self, *, seconds: float = 0.0, wrong: frozenset[int] = frozenset(), fails: bool = False) -> None:
        self.seconds, self.wrong, self.fails = seconds, wrong, fails
        self.looks: list[int | None] = []
        self.running = self.most = 0

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def health(self) -> Health:
        return Health(True, "ready")

    async def load(self) -> Load | None:
        return None

    async def has_text(self, image: Pixels) -> bool:
        return any(byte < 128 for byte in image.data[::97])

    async def read(self, image: Pixels, request: Request) -> Reading:
        page = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)[:, :, 0]
        code = page_code.look(np.ascontiguousarray(page))
        self.looks.append(code)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        if self.fails:
            raise PageFailed("the second reader cannot")
        return Reading((_lines(code, code in self.wrong),), self.model)


def _lines(code: int | None, wrong: bool) -> Block:
    text = text_for(code if code is not None else "?")
    texts = [part for paragraph in text.split("\n\n") for part in _halves(paragraph)]
    if wrong:
        texts = [part.replace("page", "page 9").replace("Page", "Page 9") for part in texts]
    boxes = [(100, 50 + 60 * n, 900, 90 + 60 * n) for n in range(len(texts))]
    lines = tuple(Line(part, box, 0.99) for part, box in zip(texts, boxes, strict=True))
    return Block(1, Kind.PARAGRAPH, text, (100, 50, 900, 900), 0.99, lines)


def _halves(text: str) -> list[str]:
    words = text.split()
    middle = (len(words) + 1) // 2
    return [part for part in (" ".join(words[:middle]), " ".join(words[middle:])) if part]


class Place:
    """A reader, and the pages that came out of it."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self.folder = reader, folder

    async def read(self, pages: int = 1, profile: Profile | None = None, **wishes: list[int]) -> list[Page]:
        out: list[Page] = []

        async def on_page(page: Page) -> None:
            out.append(page)

        path = drawn_pool.write(self.folder / f"d{pages}{len(wishes)}", first=0, pages=pages, **wishes)
        part = PartFile(None, path, drawn_pool.MEDIA)
        await asyncio.wait_for(self.reader.submit(Job("d", (part,), profile or Profile(), 0, on_page)), 60)
        return sorted(out, key=lambda page: page.number)


@contextlib.asynccontextmanager
async def place_with(folder: Path, primary: Engine, cpu: Engine) -> AsyncIterator[Place]:
    reader = Reader(pool=drawn_pool.DrawnPool(), engines=Engines(primary, cpu), grace=0.5, poll=0.1)
    await reader.start()
    try:
        yield Place(reader, folder)
    finally:
        await reader.close()


async def test_a_page_read_twice_alike_has_its_text_where_it_is_printed(tmp_path: Path) -> None:
    async with FakeEngine(speed=60) as fake, place_with(tmp_path, OpenAiEngine(fake.url), LineEngine()) as place:
        (page,) = await place.read()
    assert page.flags == ()
    assert page.second is not None
    assert (page.second.engine, page.second.agreement, page.second.digits) == ("rapidocr", 1.0, ())
    assert page.text() == "\n\n".join(text_for(0).removeprefix("# ").split("\n\n"))
    assert all(block.box and block.agreement == 1.0 for block in page.blocks)
    assert [line.box for block in page.blocks[1:] for line in block.lines][:2] == [
        (100, 170, 900, 210),
        (100, 230, 900, 270),
    ]


async def test_digits_that_differ_are_listed_and_flag_the_page(tmp_path: Path) -> None:
    cpu = LineEngine(wrong=frozenset({1}))
    async with FakeEngine(speed=60) as fake, place_with(tmp_path, OpenAiEngine(fake.url), cpu) as place:
        good, bad, _ = await place.read(3, ON)
    assert good.flags == ()
    assert bad.flags == (Flag.LOW_AGREEMENT,)
    assert bad.second is not None
    assert {(pair.first, pair.second) for pair in bad.second.digits} >= {("", "9")} or bad.second.digits
    assert all(pair.box for pair in bad.second.digits)


async def test_switched_off_nobody_looks(tmp_path: Path) -> None:
    cpu = LineEngine()
    async with FakeEngine(speed=60) as fake, place_with(tmp_path, OpenAiEngine(fake.url), cpu) as place:
        pages = await place.read(4, OFF)
    assert cpu.looks == []
    assert all(page.second is None for page in pages)


async def test_mode_on_looks_at_every_page_however_slow_it_is(tmp_path: Path) -> None:
    cpu = LineEngine(seconds=0.2)
    async with FakeEngine(speed=60) as fake, place_with(tmp_path, OpenAiEngine(fake.url), cpu) as place:
        pages = await place.read(10, ON)
    assert all(page.second is not None for page in pages)
    assert sorted(look for look in cpu.looks if look is not None) == list(range(10))


async def test_mode_idle_never_makes_the_first_engine_wait(tmp_path: Path) -> None:
    """With a second reader that takes two seconds a page, forty pages take as long as without one."""
    seconds = []
    for profile in (OFF, Profile()):
        cpu = LineEngine(seconds=2.0)
        async with FakeEngine(speed=60, slots=4) as fake:
            async with place_with(tmp_path, OpenAiEngine(fake.url, in_flight=4), cpu) as place:
                started = time.monotonic()
                pages = await place.read(40, profile)
                seconds.append(time.monotonic() - started)
        assert len(pages) == 40
        assert cpu.most <= cpu.limit
    assert seconds[1] < seconds[0] + 2.0 + 2.0, "only the last looks may be waited for, and only so long"
    assert sum(page.second is None for page in pages) >= 30


async def test_pages_without_a_first_reading_are_not_looked_at_twice(tmp_path: Path) -> None:
    cpu = LineEngine()
    async with FakeEngine(speed=60) as fake, place_with(tmp_path, OpenAiEngine(fake.url), cpu) as place:
        blank, layer, tiled, plain = await place.read(4, ON, blank=[1], layer=[2], tiled=[3])
    assert (blank.second, layer.second, tiled.second) == (None, None, None)
    assert plain.second is not None
    assert cpu.looks == [3]


async def test_the_cpu_engine_is_not_its_own_second_reader(tmp_path: Path) -> None:
    cpu = LineEngine()
    async with FakeEngine(speed=60) as fake, place_with(tmp_path, OpenAiEngine(fake.url), cpu) as place:
        pages = await place.read(2, Profile(engine=EngineChoice.RAPIDOCR, second_reader=SecondMode.ON))
    assert [page.second for page in pages] == [None, None]
    assert len(cpu.looks) == 2


@pytest.mark.parametrize("profile", [Profile(), ON])
async def test_a_second_reader_that_fails_costs_the_page_nothing(tmp_path: Path, profile: Profile) -> None:
    cpu = LineEngine(fails=True)
    async with FakeEngine(speed=60) as fake, place_with(tmp_path, OpenAiEngine(fake.url), cpu) as place:
        pages = await place.read(3, profile)
    assert all(page.error is None and page.flags == () and page.second is None for page in pages)


async def test_images_are_let_go_when_all_is_read(tmp_path: Path) -> None:
    async with FakeEngine(speed=60) as fake:
        async with place_with(tmp_path, OpenAiEngine(fake.url), LineEngine(seconds=0.05)) as place:
            await place.read(12, ON)
            await asyncio.sleep(0.1)
            assert place.reader.stats().image_bytes == 0
