# ruff: noqa: SIM117
"""The reader on drawn documents and the fake engine: nothing lost, doubled or mixed up, whatever the engine does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inkstick.document import Block, Flag, Kind, Page, Task
from inkstick.engines.openai import Deadlines, OpenAiEngine
from inkstick.engines.protocol import Engine, Health, Load, Reading, Request
from inkstick.errors import Damaged, DiskFull, Encrypted, Unsupported
from inkstick.pages.view import Budget, Pixels, TextLayerMode
from inkstick.profile import EngineChoice, Priority, Profile
from inkstick.reading.reader import Engines, Job, JobSummary, PartFile, Reader, Ticket
from support import drawn_pool, page_code
from support.fake_engine import FakeEngine, Rule
from support.until import until

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
    budget: Budget | None = None,
) -> AsyncIterator[Desk]:
    engines = Engines(primary, fallback)
    pool = drawn_pool.DrawnPool()
    reader = Reader(pool=pool, engines=engines, grace=grace, poll=poll, image_bytes=image_bytes, budget=budget)
    await reader.start()
    try:
        yield Desk(reader, tmp_path)
    finally:
        await reader.close()


async def test_pages_of_several_documents_are_read_once_each_with_their_own_text(tmp_path: Path) -> None:
    async with FakeEngine(speed=40) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
            tickets = [desk.submit(f"d{n}", first=n * 10, pages=n + 1) for n in range(5)]
            summaries = [await asyncio.wait_for(ticket, 60) for ticket in tickets]
        assert [s.read for s in summaries] == [1, 2, 3, 4, 5]
        for n in range(5):
            desk.assert_all_read(f"d{n}", n * 10, n + 1)
            assert desk.opened[f"d{n}"] == n + 1
        assert fake.seen.requests == 15


# -- whatever the engine does (all of it: test_fault_matrix.py)


async def test_an_answer_that_was_cut_off_is_never_taken_as_complete(tmp_path: Path) -> None:
    async with FakeEngine(speed=60, rules=[Rule("length")]) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
            await desk.submit("d", first=1)
    (page,) = desk.pages["d"]
    assert Flag.TRUNCATED in page.flags
    assert Flag.SUSPECT in page.flags


async def test_a_loop_closes_the_stream_and_the_kept_text_has_no_loop(tmp_path: Path) -> None:
    async with FakeEngine(speed=30, rules=[Rule("repetition")]) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
            await asyncio.wait_for(desk.submit("d", first=1), 60)
        assert fake.seen.finished == 0
        await until(lambda: fake.report()["running"] == 0, 2)
    (page,) = desk.pages["d"]
    assert {Flag.REPETITION, Flag.SUSPECT} <= set(page.flags)
    assert page.attempts >= 3
    assert page.text().count("and so it goes") <= 2


async def test_a_page_that_recovers_still_tells_of_its_repetition(tmp_path: Path) -> None:
    async with FakeEngine(speed=60, rules=[Rule("repetition", first=1)]) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
            await desk.submit("d", first=1)
    (page,) = desk.pages["d"]
    assert page.flags == (Flag.REPETITION,)
    assert page.attempts == 2


async def test_connection_faults_are_no_attempts(tmp_path: Path) -> None:
    async with FakeEngine(speed=60, rules=[Rule("reset", "middle", first=2)]) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
            await desk.submit("d", first=1)
    (page,) = desk.pages["d"]
    assert page.attempts == 1
    assert page.flags == ()


async def test_mixed_up_pages_are_what_these_tests_would_see(tmp_path: Path) -> None:
    """The guard of the guards: a server that swaps texts is noticed by `assert_all_read`."""
    async with FakeEngine(speed=60, rules=[Rule("mixed", every=3)]) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
            await desk.submit("d", first=0, pages=6)
    with pytest.raises(AssertionError):
        desk.assert_all_read("d", 0, 6)


# -- the engine goes and comes


async def test_without_a_fallback_a_job_waits_and_goes_on_by_itself(tmp_path: Path) -> None:
    async with FakeEngine(speed=20) as fake, desk_with(tmp_path, OpenAiEngine(fake.url, deadlines=QUICK)) as desk:
        ticket = desk.submit("d", first=0, pages=20)
        await until(lambda: len(desk.finished) >= 1 or fake.seen.requests > 5)
        await fake.restart(1.0)
        assert (await asyncio.wait_for(ticket, 60)).read == 20
    desk.assert_all_read("d", 0, 20)
    assert all(page.attempts == 1 for page in desk.pages["d"])
    told = desk.blocked  # a slow machine may lose the engine more than once
    assert len(told) >= 2
    assert told == ["d engine_down", "d goes on"] * (len(told) // 2)


async def test_an_engine_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    socket = str(tmp_path / "engine.sock")
    async with desk_with(tmp_path, OpenAiEngine(f"unix://{socket}", deadlines=QUICK)) as desk:
        ticket = desk.submit("d", first=5, pages=2)
        await until(lambda: desk.blocked == ["d engine_down"])
        async with FakeEngine(uds=socket, speed=60):
            await asyncio.wait_for(ticket, 60)
    desk.assert_all_read("d", 5, 2)


async def test_the_fallback_takes_over_after_the_grace_and_gives_back(tmp_path: Path) -> None:
    async with FakeEngine(speed=60) as fake:
        cpu = CpuEngine()
        async with desk_with(tmp_path, OpenAiEngine(fake.url, deadlines=QUICK), cpu) as desk:
            away = asyncio.ensure_future(fake.restart(2.0))
            await asyncio.sleep(0.05)
            await asyncio.wait_for(desk.submit("during", first=0, pages=4), 60)
            await away
            await until(lambda: desk.reader.stats().engines["vllm"]["up"] == 1)
            await asyncio.wait_for(desk.submit("after", first=10, pages=4), 60)
    desk.assert_all_read("during", 0, 4)
    desk.assert_all_read("after", 10, 4)
    assert {page.engine for page in desk.pages["during"]} == {"rapidocr"}
    assert all(page.flags == (Flag.FALLBACK_CPU,) for page in desk.pages["during"])
    assert {page.engine for page in desk.pages["after"]} == {"vllm"}
    assert all(page.flags == () for page in desk.pages["after"])


async def test_an_engine_that_hangs_with_a_healthy_health_is_left_for_the_fallback(tmp_path: Path) -> None:
    async with FakeEngine(speed=60, rules=[Rule("hang")]) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url, deadlines=QUICK), CpuEngine()) as desk:
            summary = await asyncio.wait_for(desk.submit("d", first=0, pages=6), 60)
            assert summary.failed == {}
            fake.control({"rules": []})
            await asyncio.sleep(0.3)
            await asyncio.wait_for(desk.submit("later", first=20, pages=3), 60)
            await asyncio.wait_for(desk.submit("last", first=30, pages=3), 60)
    desk.assert_all_read("d", 0, 6)
    desk.assert_all_read("later", 20, 3)
    assert {page.engine for page in desk.pages["last"]} == {"vllm"}


async def test_a_page_that_kills_the_engine_is_found_and_the_others_are_read(tmp_path: Path) -> None:
    async with FakeEngine(speed=60, rules=[Rule("reset", "before", pages=(7,))]) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url, deadlines=QUICK)) as desk:
            summary = await asyncio.wait_for(desk.submit("d", first=0, pages=20), 60)
    assert set(summary.failed) == {8}
    assert summary.read == 19
    assert sum(page.error is None for page in desk.pages["d"]) == 19


async def test_a_page_that_the_engine_cannot_read_goes_to_the_fallback(tmp_path: Path) -> None:
    async with FakeEngine(speed=60, rules=[Rule("500", pages=(2,))]) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url), CpuEngine()) as desk:
            await desk.submit("d", first=0, pages=4)
    desk.assert_all_read("d", 0, 4)
    by_number = {page.number: page for page in desk.pages["d"]}
    assert by_number[3].engine == "rapidocr"
    assert by_number[3].flags == (Flag.FALLBACK_CPU,)
    assert {by_number[n].engine for n in (1, 2, 4)} == {"vllm"}


async def test_a_page_that_nobody_can_read_makes_the_document_partial(tmp_path: Path) -> None:
    async with FakeEngine(speed=60, rules=[Rule("500", pages=(2,))]) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
            summary = await desk.submit("d", first=0, pages=4)
    assert summary.pages == 4
    assert summary.read == 3
    assert summary.failed[3]["code"] == "page_failed"


async def test_who_asks_for_one_engine_by_name_gets_that_one(tmp_path: Path) -> None:
    async with FakeEngine(speed=60) as fake, desk_with(tmp_path, OpenAiEngine(fake.url), CpuEngine()) as desk:
        await desk.submit("cpu", first=0, profile=Profile(engine=EngineChoice.RAPIDOCR))
        await desk.submit("gpu", first=1, profile=Profile(engine=EngineChoice.VLLM))
    assert (desk.pages["cpu"][0].engine, desk.pages["cpu"][0].flags) == ("rapidocr", ())
    assert desk.pages["gpu"][0].engine == "vllm"


async def test_a_task_that_no_engine_offers_is_refused_with_its_reason(tmp_path: Path) -> None:
    async with desk_with(tmp_path, None, CpuEngine()) as desk:
        with pytest.raises(Unsupported, match="chart"):
            await desk.submit("d", first=0, profile=Profile(task=Task.CHART))


async def test_with_no_engine_at_all_jobs_wait(tmp_path: Path) -> None:
    async with desk_with(tmp_path, None) as desk:
        ticket = desk.submit("d", first=0)
        await until(lambda: desk.blocked == ["d engine_down"])
        assert not ticket.done


# -- what a page is


async def test_blank_pages_are_never_sent_to_an_engine(tmp_path: Path) -> None:
    async with FakeEngine(speed=60) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url), CpuEngine()) as desk:
            await desk.submit("d", first=0, pages=3, blank=[2], unsure=[3])
        assert fake.seen.pages == [0]
    flags = {page.number: page.flags for page in desk.pages["d"]}
    assert flags == {1: (), 2: (Flag.BLANK,), 3: (Flag.BLANK,)}


async def test_a_born_digital_page_is_taken_from_its_text_layer(tmp_path: Path) -> None:
    async with FakeEngine(speed=60) as fake, desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
        await desk.submit("d", first=0, pages=2, layer=[2])
        await desk.submit("image", first=1, layer=[1], profile=Profile(text_layer=TextLayerMode.SKIP))
    page = next(page for page in desk.pages["d"] if page.number == 2)
    assert (page.engine, page.flags) == ("textlayer", (Flag.TEXT_LAYER,))
    assert page.text() == "layer of page 1"
    assert desk.pages["image"][0].engine == "vllm"


async def test_tiles_are_read_apart_and_merged_without_doubles(tmp_path: Path) -> None:
    async with FakeEngine(speed=60) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
            await desk.submit("d", first=3, tiled=[1])
        assert fake.seen.requests == 2
    (page,) = desk.pages["d"]
    assert page.flags == (Flag.TILED,)
    assert page.text().count("Paragraph 2 of page 3") == 1


async def test_pages_that_break_the_parser_are_the_only_ones_missing(tmp_path: Path) -> None:
    async with FakeEngine(speed=60) as fake, desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
        summary = await desk.submit("d", first=0, pages=5, damaged=[2], late=[4])
    assert {n: error["code"] for n, error in summary.failed.items()} == {2: "damaged", 4: "timeout"}
    assert summary.read == 3
    assert len(desk.pages["d"]) == 5


async def test_a_document_that_cannot_be_opened_ends_with_its_code(tmp_path: Path) -> None:
    async with FakeEngine(speed=60) as fake, desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
        with pytest.raises(Encrypted):
            await desk.submit("d", first=0, error="encrypted")


async def test_pages_of_an_archive_are_numbered_through_and_name_their_part(tmp_path: Path) -> None:
    parts = (
        PartFile("a", drawn_pool.write(tmp_path / "a", first=0, pages=2), drawn_pool.MEDIA),
        PartFile("bad", None, "application/pdf", Damaged()),
        PartFile("locked", drawn_pool.write(tmp_path / "l", first=0, error="encrypted"), drawn_pool.MEDIA),
        PartFile("b", drawn_pool.write(tmp_path / "b", first=2, pages=3), drawn_pool.MEDIA),
    )
    async with FakeEngine(speed=60) as fake, desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
        summary = await desk.submit_parts("zip", parts)
    desk.assert_all_read("zip", 0, 5)
    assert {page.number: page.part for page in desk.pages["zip"]} == {1: "a", 2: "a", 3: "b", 4: "b", 5: "b"}
    assert [(p.name, p.first, p.last) for p in summary.parts] == [
        ("a", 1, 2), ("bad", 0, 0), ("locked", 0, 0), ("b", 3, 5),
    ]  # fmt: skip
    assert summary.parts[2].error is not None
    assert summary.parts[2].error["code"] == "encrypted"


async def test_pages_already_read_are_not_read_again(tmp_path: Path) -> None:
    path = drawn_pool.write(tmp_path / "d", first=0, pages=5)
    async with FakeEngine(speed=60) as fake, desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
        part = PartFile(None, path, drawn_pool.MEDIA)
        assert (await desk.submit_parts("d", (part,), have={1, 4})).read == 3
        assert (await desk.submit_parts("all", (part,), have={1, 2, 3, 4, 5})).read == 0
    assert sorted(page.number for page in desk.pages["d"]) == [2, 3, 5]


# -- order and bounds


async def test_a_persons_page_overtakes_a_long_batch(tmp_path: Path) -> None:
    async with FakeEngine(speed=20, slots=8) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url, in_flight=8)) as desk:
            batch = desk.submit("batch", first=0, pages=40, profile=Profile(priority=Priority.BULK))
            await until(lambda: len(desk.finished) > 8)
            done = len(desk.finished)
            await asyncio.wait_for(desk.submit("upload", first=99, profile=Profile(priority=Priority.PERSON)), 60)
            assert len(desk.finished) - done < 24
            assert not batch.done
            await asyncio.wait_for(batch, 60)
        assert fake.seen.finished == 41
        assert fake.seen.requests > 41, "pages of the batch were taken back"
    desk.assert_all_read("batch", 0, 40)
    assert all(page.attempts == 1 for page in desk.pages["batch"]), "a page taken back has lost no attempt"


async def test_images_in_memory_stay_below_the_bound(tmp_path: Path) -> None:
    bound = 8 << 20
    small = Budget(pixels=600 * 848)
    engine_slow = FakeEngine(speed=20, slots=4)
    async with engine_slow as fake:
        engine = OpenAiEngine(fake.url, in_flight=16)
        async with desk_with(tmp_path, engine, image_bytes=bound, budget=small) as desk:
            ticket = desk.submit("d", first=0, pages=24, photo=list(range(1, 25)))
            most = 0
            while not ticket.done:
                most = max(most, desk.reader.stats().image_bytes)
                await asyncio.sleep(0.005)
            assert 0 < most <= bound
    desk.assert_all_read("d", 0, 24)


async def test_cancelling_a_job_stops_the_engine_and_leaves_others_alone(tmp_path: Path) -> None:
    async with FakeEngine(speed=5) as fake, desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
        doomed = desk.submit("doomed", first=0, pages=10)
        other = desk.submit("other", first=30, pages=2)
        await until(lambda: fake.report()["running"] >= 10)
        doomed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        await until(lambda: fake.report()["running"] <= 2)
        await asyncio.wait_for(other, 60)
        assert desk.reader.stats().in_flight == 0
        assert desk.reader.stats().image_bytes == 0
    desk.assert_all_read("other", 30, 2)


async def test_a_callback_that_finds_the_disk_full_ends_the_job_with_it(tmp_path: Path) -> None:
    async def full(page: Page) -> None:
        raise DiskFull

    part = PartFile(None, drawn_pool.write(tmp_path / "d", first=0, pages=3), drawn_pool.MEDIA)
    async with FakeEngine(speed=60) as fake, desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
        with pytest.raises(DiskFull):
            await desk.reader.submit(Job("d", (part,), Profile(), 0, full))


async def test_a_server_that_refuses_lowers_what_is_sent_to_it(tmp_path: Path) -> None:
    async with FakeEngine(speed=40, rules=[Rule("503", first=24)]) as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url, in_flight=32), grace=10) as desk:
            ticket = desk.submit("d", first=0, pages=20)
            await until(lambda: desk.reader.stats().engines["vllm"]["limit"] < 32)
            summary: JobSummary = await asyncio.wait_for(ticket, 60)
    assert summary.read == 20
    desk.assert_all_read("d", 0, 20)


async def test_pages_that_are_cancelled_before_they_begin_give_their_places_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeEngine(speed=5) as fake, desk_with(tmp_path, OpenAiEngine(fake.url, in_flight=1)) as desk:
        doomed = desk.submit("doomed", first=0, pages=10)
        await until(lambda: fake.report()["running"] >= 1)
        doomed.cancel()
        with monkeypatch.context() as room:  # something makes room at that very moment
            room.setattr(desk.reader, "_room", lambda _: True)
            desk.reader._pump()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        assert desk.reader.stats().preparing == 0
        await asyncio.wait_for(desk.submit("other", first=30, pages=2), 60)
    desk.assert_all_read("other", 30, 2)


async def test_an_engine_whose_figures_are_nonsense_for_a_while_is_used_again(tmp_path: Path) -> None:
    class Confused(CpuEngine):
        looks, wrong = 0, True

        async def load(self) -> Load | None:
            self._look()
            return None

        async def health(self) -> Health:
            self._look()
            return Health(True, "ready")

        def _look(self) -> None:
            self.looks += 1
            if self.wrong:
                raise ValueError("no figures")

        async def read(self, image: Pixels, request: Request) -> Reading:
            while self.wrong and self.looks < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            return await super().read(image, request)

    engine = Confused()
    async with desk_with(tmp_path, engine) as desk:
        ticket = desk.submit("d", first=3, pages=2)
        await until(lambda: engine.looks >= 3)
        engine.wrong = False
        await asyncio.wait_for(ticket, 60)
        await until(lambda: desk.reader.admits(engine))
    assert sorted(page.number for page in desk.pages["d"]) == [1, 2]


async def test_a_form_that_only_says_to_open_it_elsewhere_is_refused_and_closed(tmp_path: Path) -> None:
    async with FakeEngine() as fake:
        async with desk_with(tmp_path, OpenAiEngine(fake.url)) as desk:
            with pytest.raises(Unsupported, match="XFA"):
                await desk.submit("d", first=1, warnings=["xfa"])
        assert fake.seen.requests == 0
