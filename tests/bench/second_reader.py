"""How many errors the second reader finds, and how many good pages it suspects: pages with a known truth.

Pages are drawn from seeds and spoilt by scanner or camera (`support.planted`); the first reader's answer is made from
the truth, with harmless differences, good or with one planted error; the second reader is the real CPU engine on the
spoilt picture. The limits were chosen on the seeds of CALIBRATION (``--calibrate`` tries others) and are reported on
those of REPORT, which had no part in that.

    PYTHONPATH=service:tests python tests/bench/second_reader.py [--calibrate] [--pages 72] [--rough 48] [--cache FILE]

Goal: >= 95 % of changed digits and of invented lines found, <= 5 % of good pages suspected.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import cpu_engine
from inkstick.document import Flag, Page, Task, page_from_json, page_json
from inkstick.engines.answers import parse
from inkstick.engines.protocol import Reading, Request
from inkstick.engines.rapidocr import RapidOcrEngine
from inkstick.reading.agreement import compare
from inkstick.reading.opinion import DEFAULT_LIMITS, Limits, Opinion, opinion_of
from support import planted
from support.pages import A4, pixels

CALIBRATION, REPORT = 0, 1000
ROUGH = 2000
"""Added to both for the rough pages."""
ATTEMPTS = 2
"""Errors of each kind planted in a page, one at a time."""
TRIALS = (
    [replace(DEFAULT_LIMITS, sure=sure) for sure in (0.6, 0.7, 0.8, 0.9, 0.95)]
    + [replace(DEFAULT_LIMITS, invented=weight) for weight in (4, 6, 8, 12)]
    + [replace(DEFAULT_LIMITS, dropped=weight) for weight in (2, 4, 8, 12)]
    + [replace(DEFAULT_LIMITS, agreement=least) for least in (0.8, 0.85, 0.9, 0.95)]
)


@dataclass
class Tally:
    """Counts over pages. `found` and `planted` by kind of error; `blocks`: judged, and below `limits.agreement`."""

    pages: int = 0
    suspected: list[int] = field(default_factory=list)
    blocks: int = 0
    low_blocks: int = 0
    found: dict[str, int] = field(default_factory=dict)
    planted: dict[str, int] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    compared: int = 0


def judge(answer: str, opinion: Opinion, limits: Limits) -> Page:
    page = Page(1, *A4, "vllm", blocks=parse(answer, Task.PARSE))
    return compare(page, opinion, limits)


def tally(opinions: Iterable[tuple[int, Opinion]], limits: Limits, attempts: int = ATTEMPTS) -> Tally:
    """Every page's good answer and its spoilt ones against its second reading."""
    sums = Tally()
    for seed, opinion in opinions:
        page = planted.printed(seed)
        _good(sums, page, opinion, limits)
        for error in planted.ERRORS:
            for attempt in range(attempts):
                _spoilt(sums, page, opinion, limits, error, attempt)
    return sums


def _good(sums: Tally, page: planted.Printed, opinion: Opinion, limits: Limits) -> None:
    started = time.perf_counter()
    judged = judge(planted.answer(page), opinion, limits)
    sums.seconds += time.perf_counter() - started
    sums.pages += 1
    scores = [block.agreement for block in judged.blocks if block.agreement is not None]
    sums.blocks += len(scores)
    sums.low_blocks += sum(score < limits.agreement for score in scores)
    if Flag.LOW_AGREEMENT in judged.flags:
        sums.suspected.append(page.seed)


def _spoilt(sums: Tally, page: planted.Printed, opinion: Opinion, limits: Limits, error: str, attempt: int) -> None:
    try:
        answer = planted.plant(page, error, attempt)
    except IndexError:
        return  # no digits on that page
    sums.planted[error] = sums.planted.get(error, 0) + 1
    if Flag.LOW_AGREEMENT in judge(answer, opinion, limits).flags:
        sums.found[error] = sums.found.get(error, 0) + 1
    else:
        sums.missed.append(f"{error} {page.seed} {attempt}")


# -- second readings


async def read(seeds: Sequence[int], *, rough: bool, cache: Path | None) -> list[tuple[int, Opinion]]:
    """The second reader's opinion of each page; `cache`: a file of those that were read before."""
    known = _cached(cache)
    left = [seed for seed in seeds if seed not in known]
    if left:
        engine = RapidOcrEngine(0)
        await engine.start()
        try:
            slots = asyncio.Semaphore(engine.limit + 1)
            readings = await asyncio.gather(*(_read(engine, slots, seed, rough) for seed in left))
        finally:
            await engine.close()
        known |= dict(zip(left, readings, strict=True))
        if cache:
            _keep(cache, {seed: known[seed] for seed in left})
    return [(seed, opinion) for seed in seeds if (opinion := opinion_of("rapidocr", known[seed]))]


async def _read(engine: RapidOcrEngine, slots: asyncio.Semaphore, seed: int, rough: bool) -> Reading:
    async with slots:
        _, picture = await asyncio.to_thread(planted.make, seed, rough=rough)
        return await engine.read(picture, Request())


def _cached(cache: Path | None) -> dict[int, Reading]:
    if cache is None or not cache.exists():
        return {}
    return {entry["seed"]: reading_of(entry) for entry in map(json.loads, cache.read_text().splitlines())}


def reading_of(entry: dict[str, Any]) -> Reading:
    """One line of a cache file."""
    return Reading(page_from_json(entry["page"]).blocks, "pp-ocrv6-small", score=entry["page"]["score"])


def _keep(cache: Path, readings: dict[int, Reading]) -> None:
    with cache.open("a", encoding="utf-8") as file:
        for seed, reading in readings.items():
            page = Page(1, *A4, "rapidocr", score=reading.score, blocks=reading.blocks)
            file.write(json.dumps({"seed": seed, "page": page_json(page)}, ensure_ascii=False) + "\n")


# -- reports


def lines(sums: Tally) -> Iterator[str]:
    for error in planted.ERRORS:
        found, of = sums.found.get(error, 0), sums.planted.get(error, 0)
        yield f"  {error:28} found {found:4} of {of:4}  {100 * found / max(1, of):5.1f} %"
    wrong = len(sums.suspected)
    yield f"  good pages suspected         {wrong:4} of {sums.pages:4}  {100 * wrong / max(1, sums.pages):5.1f} %"
    share = 100 * sums.low_blocks / max(1, sums.blocks)
    yield f"  good blocks of low agreement {sums.low_blocks:4} of {sums.blocks:4}  {share:5.1f} %"
    yield f"  comparing took {1000 * sums.seconds / max(1, sums.pages):.0f} ms a page"


def brief(sums: Tally) -> str:
    found = ", ".join(f"{error} {sums.found.get(error, 0)}/{sums.planted.get(error, 0)}" for error in planted.ERRORS)
    return f"suspected {len(sums.suspected)}/{sums.pages}; {found}"


async def samples() -> Iterator[str]:
    """The sample documents with their true texts as the first reading: which of these good pages are suspected."""
    sheets = cpu_engine.sheets()
    engine = RapidOcrEngine(0)
    await engine.start()
    try:
        readings = await asyncio.gather(*(engine.read(pixels(sheet.image), Request()) for sheet in sheets))
    finally:
        await engine.close()
    return map(_sample, sheets, readings)


def _sample(sheet: cpu_engine.Sheet, reading: Reading) -> str:
    opinion = opinion_of("rapidocr", reading)
    assert opinion
    out = judge("\n\n".join(sheet.truth.splitlines()), opinion, DEFAULT_LIMITS)
    assert out.second
    verdict = "suspected" if Flag.LOW_AGREEMENT in out.flags else "good"
    why = [*out.second.digits, *out.second.only_first, *out.second.only_second]
    return f"  {sheet.truth.split()[0]:30} {verdict}, agreement {out.second.agreement} {why or ''}"


def calibrate(opinions: list[tuple[int, Opinion]]) -> None:
    for limits in TRIALS:
        changed = {name: getattr(limits, name) for name in ("agreement", "sure", "invented", "dropped")}
        print(f"  {changed}: {brief(tally(opinions, limits, 1))}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibrate", action="store_true", help="try other limits on the seeds for calibration")
    parser.add_argument("--pages", type=int, default=72, help="pages as scanners and cameras give them")
    parser.add_argument("--rough", type=int, default=48, help="pages from copiers and cheap scanners")
    parser.add_argument("--cache", type=Path, help="keep the second readings in this file")
    parser.add_argument("--missed", action="store_true", help="name what was missed or wrongly suspected")
    parser.add_argument("--samples", action="store_true", help="only the sample documents, with their true texts")
    chosen = parser.parse_args()
    if chosen.samples:
        print("\n".join(asyncio.run(samples())))
        return
    start = CALIBRATION if chosen.calibrate else REPORT
    for name, count, rough in (("scans and photographs", chosen.pages, False), ("rough copies", chosen.rough, True)):
        first = start + ROUGH * rough
        opinions = asyncio.run(read(range(first, first + count), rough=rough, cache=chosen.cache))
        print(f"{name}, seeds {first} to {first + count - 1}:", flush=True)
        if chosen.calibrate:
            calibrate(opinions)
            continue
        sums = tally(opinions, DEFAULT_LIMITS)
        print("\n".join(lines(sums)), flush=True)
        if chosen.missed:
            print(f"  suspected: {sums.suspected}; missed: {sums.missed}", file=sys.stderr)


if __name__ == "__main__":
    main()
