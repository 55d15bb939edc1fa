"""Every fault of an engine at every moment of a request: no page is lost, doubled or mixed up, and none tells a lie.

Two documents of three pages; the fault strikes two of their requests, once. Whatever happens, each page comes back once
and without an error (the CPU engine is there); it has its own text, whole, or a flag that says why not; what the CPU
read says so; and afterwards the engine reads again by itself, unless it is gone for good. What is not in this table is
a server that gives another page's text in perfect order: no client can see that, and the canary is there for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from inkstick.document import Flag, Page, Task
from inkstick.engines import answers
from inkstick.engines.openai import Deadlines, OpenAiEngine
from inkstick.engines.spec import default_spec
from inkstick.pages.view import Budget
from integration.test_reader import CpuEngine, Desk, desk_with
from support.engine_faults import PHASES
from support.fake_engine import FakeEngine, Rule, Timing

PATIENT = Deadlines(connect=20, first=60, idle=60, total=120, figures=20)
"""Never reached: what ends these pages is the fault, not a clock, so a slow machine changes nothing."""
HASTY = Deadlines(connect=1, first=0.4, idle=0.4, total=1.5, figures=0.4)
SHORT = replace(default_spec(), sampling=replace(default_spec().sampling, max_tokens=500))
SMALL = Timing(tokens=36)
TEXTS = {
    n: f"# Page {n}\n\n第 {n} 页。Paragraph 1 of page {n}: naïve café, {n}{n}{n}.\n\nParagraph 2 of page {n}: end."
    for n in range(40)
}


@dataclass(frozen=True)
class Ending:
    """What becomes of the pages. `tries`: most tries that a page may have needed; 0: it depends on the moment.
    `flags`: that a page read by vllm may carry. `engines`: that may have read. `quick`: the client's deadlines are
    part of it. `back`: the engine reads again afterwards."""

    tries: int = 1
    flags: frozenset[Flag] = frozenset()
    engines: frozenset[str] = frozenset({"vllm"})
    quick: bool = False
    back: bool = True


BOTH = frozenset({"vllm", "rapidocr"})
UNHARMED = Ending()
"""Nobody's fault, or none at all: no try is counted."""
AGAIN = Ending(tries=3)
"""The answer was unusable, and was asked for again; one page may be struck twice."""
TOLD = Ending(tries=0, flags=frozenset({Flag.TRUNCATED, Flag.REPETITION, Flag.TILED, Flag.SUSPECT}), engines=BOTH)
"""It was noticed in the text: another way, and the page tells of it."""
LATE = Ending(tries=0, flags=frozenset({Flag.TILED}), engines=BOTH, quick=True)
"""Silence: who waits for how long depends on the machine; that each page comes out right does not."""
GONE = Ending(tries=0, engines=BOTH, back=False)

FAULTS: dict[str, tuple[Ending, float]] = {
    **dict.fromkeys(("404", "429", "503", "504", "redirect"), (UNHARMED, 0.0)),
    **dict.fromkeys(("oom", "dead", "reset", "truncated", "chunk", "no_http"), (UNHARMED, 0.0)),
    **dict.fromkeys(("restart", "loading", "deaf", "crash_loop"), (UNHARMED, 0.15)),
    **dict.fromkeys(("comments", "split", "early", "stall", "stuck", "slow_first"), (UNHARMED, 0.1)),
    **dict.fromkeys(("abort", "flood"), (UNHARMED, 0.0)),
    **dict.fromkeys(("400", "500", "garbage", "malformed", "binary", "deep"), (AGAIN, 0.0)),
    **dict.fromkeys(("wrong_id", "no_id", "wrong_model", "crossed", "second"), (AGAIN, 0.0)),
    "html": (UNHARMED, 0.0),
    **dict.fromkeys(("length", "repetition", "noise", "empty", "echo", "coordinates"), (TOLD, 0.0)),
    **dict.fromkeys(("endless", "surrogates"), (TOLD, 0.0)),
    "hang": (LATE, 0.0),
    "drip": (LATE, 0.6),
    "frozen": (LATE, 0.6),
    "exit": (GONE, 0.0),
}
UNSEEN = {("empty", "middle"), ("coordinates", "middle"), ("coordinates", "end")}
"""A text that stops early, or goes astray, with nothing to tell it by: for the second reader to find. It must still be
its own page's."""
MATRIX = [(kind, phase) for kind in FAULTS for phase in PHASES]


def whole(page: Page, number: int) -> bool:
    """All of the page's text, and nothing else."""
    return page.blocks == answers.parse(TEXTS[number], Task.PARSE)


def assert_right(desk: Desk, name: str, first: int, ending: Ending, *, unseen: bool) -> None:
    """Each page once, with its own text, by an engine and with flags as they may be."""
    assert Counter(page.number for page in desk.pages[name]) == Counter({1: 1, 2: 1, 3: 1})
    for page in desk.pages[name]:
        code, flags = first + page.number - 1, set(page.flags)
        assert page.error is None, page.error
        assert page.engine in ending.engines, page
        if page.engine == "rapidocr":
            assert page.text() == f"cpu read page {code}"
            assert Flag.FALLBACK_CPU in flags
            continue
        assert flags <= ending.flags, page
        assert whole(page, code) or flags or unseen, page.text()
        assert not [n for n in (*TEXTS, 999999) if n != code and f"of page {n}:" in page.text()], page.text()
        assert f"page {code}" in page.text().lower(), page.text()
        assert not ending.tries or page.attempts <= ending.tries, page
        page.text().encode()


async def reads_again(desk: Desk) -> None:
    """Wait until the engine is given pages again, and gives them back."""
    for n in range(100):
        name = f"later {n}"
        await desk.submit(name, first=30)
        (page,) = desk.pages[name]
        assert page.error is None, page.error
        if page.engine == "vllm":
            assert whole(page, 30)
            assert page.flags == ()
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the engine was never asked again")


@pytest.mark.parametrize(("kind", "phase"), MATRIX)
async def test_no_fault_at_any_moment_loses_doubles_or_mixes_up_a_page(kind: str, phase: str, tmp_path: Path) -> None:
    ending, seconds = FAULTS[kind]
    rule = Rule(kind, phase, after=1, times=2, seconds=seconds)
    async with FakeEngine(speed=10, slots=2, interval=6, timing=SMALL, rules=[rule], texts=TEXTS) as fake:
        deadlines, grace = (HASTY, 0.3) if ending.quick or not ending.back else (PATIENT, 60.0)
        engine = OpenAiEngine(fake.url, spec=SHORT, deadlines=deadlines, in_flight=4)
        async with desk_with(tmp_path, engine, CpuEngine(), grace=grace, poll=0.05, budget=Budget(120_000)) as desk:
            async with asyncio.timeout(120):
                tickets = [desk.submit(f"d{n}", n * 10, 3, width=240, height=340) for n in range(2)]
                for ticket in tickets:
                    summary = await ticket
                    assert (summary.read, summary.failed) == (3, {})
                for n in range(2):
                    assert_right(desk, f"d{n}", n * 10, ending, unseen=(kind, phase) in UNSEEN)
                assert fake.seen.struck[kind] >= 1, "the fault must have happened"
                engine.deadlines = PATIENT
                if ending.back:
                    await reads_again(desk)
            stats = desk.reader.stats()
            assert (stats.in_flight, stats.waiting, stats.image_bytes) == (0, 0, 0)


def test_the_table_is_as_large_as_it_is_meant_to_be() -> None:
    assert len(FAULTS) >= 30
    assert len(PHASES) == 5
