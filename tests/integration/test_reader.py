"""The reader on drawn documents and the fake engine: nothing lost, doubled or mixed up, whatever the engine does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inkstick.document import Block, Kind, Page, Task
from inkstick.engines.openai import Deadlines, OpenAiEngine
from inkstick.engines.protocol import Engine, Health, Load, Reading, Request
from inkstick.pages.view import Pixels
from inkstick.profile import Profile
from inkstick.reading.reader import Engines, Job, PartFile, Reader, Ticket
from support import drawn_pool, page_code
from support.fake_engine import FakeEngine

QUICK = Deadlines(connect=1.0, first=1.0, idle=0.6, total=8.0, figures=1.0)


class CpuEngine:
    """A small second engine: it reads the number on the page, and nothing else."""

    name, model, remote = "rapidocr", "reads-the-number", False
    tasks = frozenset({Task.PARSE, Task.TEXT})
    limit = 2

    def __init__(self) -> None:
        self.read_pages: list[int | None] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def health(self) -> Health:
        return Health(True, "ready")

    async def load(self) -> Load | None:
        return None

    async def has_text(self, image: Pixels) -> bool:
        return any(byte < 128 for byte in image.data[::97])

    async def read(self, image: Pixels, request: Request) -> Reading:
        import numpy as np

        page = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)[:, :, 0]
        code = page_code.look(np.ascontiguousarray(page))
        self.read_pages.append(code)
        return Reading((Block(1, Kind.PARAGRAPH, f"cpu read page {code}"),), self.model)


@dataclass
class Desk:
    """Submits drawn documents and keeps what comes back."""

    reader: Reader
    folder: Path
    pages: dict[str, list[Page]] = field(default_factory=dict)
    finished: list[tuple[str, int]] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    opened: dict[str, int] = field(default_factory=dict)

    def submit(self, name: str, first: int, pages: int = 1, *, profile: Profile | None = None, **wishes: Any) -> Ticket:
        path = drawn_pool.write(self.folder / name, first=first, pages=pages, **wishes)
        return self.submit_parts(name, (PartFile(None, path, drawn_pool.MEDIA),), profile=profile)

    def submit_parts(
        self, name: str, parts: tuple[PartFile, ...], *, profile: Profile | None = None, **more: Any
    ) -> Ticket:
        self.pages.setdefault(name, [])

        async def on_page(page: Page) -> None:
            self.pages[name].append(page)
            self.finished.append((name, page.number))

        async def on_opened(total: int) -> None:
            self.opened[name] = total

        async def on_blocked(code: str) -> None:
            self.blocked.append(f"{name} {code}")

        async def on_unblocked() -> None:
            self.blocked.append(f"{name} goes on")

        job = Job(
            name, parts, profile or Profile(), len(self.pages), on_page, on_opened, on_blocked, on_unblocked, **more
        )
        return self.reader.submit(job)

    def assert_all_read(self, name: str, first: int, pages: int) -> None:
        """Each page came once, with its own text."""
        got = Counter(page.number for page in self.pages[name])
        assert got == Counter(range(1, pages + 1)), name
        for page in self.pages[name]:
            assert page.error is None, (name, page.number, page.error)
            assert f"page {first + page.number - 1}" in page.text().lower(), (name, page.number, page.text()[:80])
            others = [n for n in range(60) if f"page {n}:" in page.text().lower() and n != first + page.number - 1]
            assert not others, f"page {page.number} of {name} holds text of {others}"


@contextlib.asynccontextmanager
async def desk_with(
    tmp_path: Path,
    primary: Engine | None,
    fallback: Engine | None = None,
    *,
    grace: float = 0.5,
    poll: float = 0.1,
    image_bytes: int = 512 << 20,
) -> AsyncIterator[Desk]:
    engines = Engines(primary, fallback)
    reader = Reader(pool=drawn_pool.DrawnPool(), engines=engines, grace=grace, poll=poll, image_bytes=image_bytes)
    await reader.start()
    try:
        yield Desk(reader, tmp_path)
    finally:
        await reader.close()


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_pages_of_several_documents_are_read_once_each_with_their_own_text(tmp_path: Path) -> None:
    async with FakeEngine(speed=40) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
            tickets = [desk.submit(f"d{n}", first=n * 10, pages=n + 1) for n in range(5)]
            summaries = [await asyncio.wait_for(ticket, 20) for ticket in tickets]
        assert [s.read for s in summaries] == [1, 2, 3, 4, 5]
        for n in range(5):
            desk.assert_all_read(f"d{n}", n * 10, n + 1)
            assert desk.opened[f"d{n}"] == n + 1
        assert fake.seen.requests == 15
