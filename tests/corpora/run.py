"""Reads every file below some folders as hostile input: ``python -m corpora.run DIR...`` (with tests/ on the path).

Each file is identified, opened, and its first pages are rendered, in the sandboxed parsers; archives are unpacked.
Prints how files ended, by folder, the slowest page and the largest memory. Exit status 1 if the service itself failed
on any file, or a call took longer than its deadline.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from inkstick.errors import DocumentError, Unsupported
from inkstick.intake.identify import identify_file
from inkstick.pages.expand import ARCHIVES
from inkstick.pages.pool import PagePool
from inkstick.pages.view import Budget, PageView

T = TypeVar("T")
PAGES = 3
SLACK = 30.0
"""Seconds beyond the deadline in which a call must have ended: it may first wait for a process to be replaced."""


@dataclass
class Report:
    """What happened, over all files."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    pages: int = 0
    parser_bytes: int = 0

    def end(self, group: str, outcome: str) -> None:
        self.outcomes.setdefault(group, Counter())[outcome] += 1


def files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path


async def read(pool: PagePool, path: Path, report: Report, verbose: bool) -> str:
    """The outcome of one file: ok, partial, or an error code."""
    media = await asyncio.to_thread(identify_file, path)
    if media is None:
        return Unsupported.code
    if media.value in ARCHIVES:
        with tempfile.TemporaryDirectory() as folder:
            members = await pool.expand(path, media.value, Path(folder))
        return "partial" if any(member.error for member in members) else "ok"
    document = await timed(pool.open(path, media.value), f"{path.name} open", pool, report)
    failed: list[str] = []
    try:
        for number in range(1, min(PAGES, document.probe.pages) + 1):
            try:
                page = await timed(document.page(number, budget=Budget()), f"{path.name} {number}", pool, report)
                check(page)
                report.pages += 1
            except DocumentError as error:
                failed.append(error.code)
                if verbose:
                    print(f"    {path.name} {number}: {error.code}: {error.message}", flush=True)
    finally:
        await document.close()
    return "ok" if not failed else ("partial" if len(failed) < min(PAGES, document.probe.pages) else failed[0])


def check(page: PageView) -> None:
    """What every page must hold, whatever the file."""
    for pixels in (page.pixels, *(tile.pixels for tile in page.tiles)):
        assert len(pixels.data) == pixels.width * pixels.height * 3
        assert min(pixels.width, pixels.height) >= 1


async def timed(call: Awaitable[T], what: str, pool: PagePool, report: Report) -> T:
    """The call, with its seconds noted; too slow is broken, whatever it answers."""
    started = time.monotonic()
    try:
        return await call
    finally:
        seconds = time.monotonic() - started
        report.slowest = max(report.slowest, (seconds, what))
        if seconds > pool.page_seconds + SLACK:
            report.broken.append(f"{what}: {seconds:.1f} s")


async def one(pool: PagePool, root: Path, path: Path, report: Report, verbose: bool) -> None:
    started = time.monotonic()
    try:
        outcome = await read(pool, path, report, verbose)
    except DocumentError as error:
        outcome = error.code
        if verbose and outcome in ("internal", "timeout", "too_complex", "too_large", "archive_unsafe"):
            print(f"    {path.name}: {outcome}: {error.message}", flush=True)
    except Exception as error:
        outcome = "BROKEN"
        report.broken.append(f"{path}: {type(error).__name__}: {error}")
    report.end(root.name, outcome)
    if verbose and time.monotonic() - started > 5:
        print(f"    {path.name}: {time.monotonic() - started:.1f} s", flush=True)


async def run(folders: list[Path], processes: int, page_seconds: float, verbose: bool) -> Report:
    report = Report()
    pool = PagePool(processes=processes, page_seconds=page_seconds)
    await pool.start()
    gate = asyncio.Semaphore(processes)
    try:
        for root in folders:
            await asyncio.gather(*[gated(gate, one(pool, root, path, report, verbose)) for path in files(root)])
    finally:
        report.parser_bytes = pool.peak_bytes
        await pool.close()
    return report


async def gated(gate: asyncio.Semaphore, work: Awaitable[None]) -> None:
    async with gate:
        await work


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="corpora.run", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--page-seconds", type=float, default=60.0)
    parser.add_argument("-v", "--verbose", action="store_true")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    report = asyncio.run(run(chosen.folders, chosen.processes, chosen.page_seconds, chosen.verbose))
    for group, outcomes in report.outcomes.items():
        print(f"{group}: {outcomes.total()} files:", ", ".join(f"{n} {name}" for name, n in outcomes.most_common()))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    total = sum(outcomes.total() for outcomes in report.outcomes.values())
    print(f"{total} files, {report.pages} pages in {time.monotonic() - started:.0f} s; slowest {report.slowest}")
    print(f"largest memory: service {own} MiB, parser {report.parser_bytes >> 20} MiB; {len(report.broken)} broken")
    for line in report.broken:
        print("BROKEN", line)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
