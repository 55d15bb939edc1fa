"""Parsers as units of systemd's keep what parsers as children keep: deadlines, verdicts, replacement, and nothing left.

`support.bad_parser` stands in the place of the parser, and `support.units` in that of systemd."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from inkstick.errors import Damaged, DocumentError, TooComplex, Unavailable
from inkstick.pages import pool as pools
from inkstick.pages import sandbox
from inkstick.pages.pool import PagePool
from inkstick.pages.sandbox import Sandbox
from inkstick.supervise.process import descendants
from support import bad_parser
from support.units import Units, environment
from support.until import until

BAD = "support.bad_parser"

pytestmark = pytest.mark.xdist_group("parsers")


@dataclass
class Started:
    """A pool with one parser, which does as its documents wish. `parsers`: those that live."""

    pool: PagePool
    parsers: Callable[[], list[int]]
    document: Path

    async def ask(self, wish: str, seconds: float = 600) -> None:
        self.pool.page_seconds = seconds
        await (await self.pool.open(self.document, wish)).close()


@pytest_asyncio.fixture(params=["child", "unit"])
async def started(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Started]:
    document = tmp_path / "document"
    document.write_bytes(b"x")
    monkeypatch.setattr(sandbox, "environment", environment)
    with contextlib.ExitStack() as stack:
        if request.param == "unit":
            units = stack.enter_context(Units(BAD))
            pool = PagePool(processes=1, page_seconds=600, units=units.path)
            parsers = units.parsers
        else:
            pool = PagePool(processes=1, page_seconds=600, sandbox=Sandbox(), module=BAD)
            parsers = lambda: descendants(os.getpid())  # noqa: E731
        await pool.start()
        yield Started(pool, parsers, document)
        await pool.close()
        assert parsers() == []


async def test_a_parser_that_is_stuck_is_killed_at_its_deadline(started: Started) -> None:
    stuck = started.parsers()
    assert len(stuck) == 1
    with pytest.raises(TooComplex):
        await started.ask(bad_parser.HANG, seconds=0.5)
    assert not Path(f"/proc/{stuck[0]}").exists()
    await started.ask(bad_parser.FINE)
    assert set(started.parsers()).isdisjoint(stuck)


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        (bad_parser.CRASH, Damaged),
        (bad_parser.HALF, Damaged),
        (bad_parser.NONSENSE, Damaged),
        (bad_parser.ABORT, TooComplex),
        (bad_parser.KILLED, TooComplex),
        (bad_parser.MEMORY, Damaged),  # a Python error that nobody caught: it ends with a status
        (bad_parser.QUIET, Damaged),
    ],
)
async def test_a_document_that_ends_its_parser_gets_the_verdict_and_the_next_one_a_new_parser(
    started: Started, wish: str, error: type[DocumentError]
) -> None:
    before = started.parsers()
    with pytest.raises(error):
        await started.ask(wish)
    await started.ask(bad_parser.FINE)
    after = started.parsers()
    assert len(after) == 1
    assert after != before


async def test_what_a_parser_has_started_ends_with_it(tmp_path: Path) -> None:
    """It holds the channel: the service would hear nothing until the deadline. (Systemd ends what left the group.)"""
    (tmp_path / "document").write_bytes(b"x")
    with Units(BAD) as units:
        pool = PagePool(processes=1, page_seconds=600, units=units.path)
        started = Started(pool, units.parsers, tmp_path / "document")
        await pool.start()
        with pytest.raises(Damaged):
            await started.ask(bad_parser.FAMILY)
        await started.ask(bad_parser.FINE)
        await pool.close()


async def test_an_old_parser_is_replaced_between_two_documents(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = started.parsers()
    monkeypatch.setattr(pools, "RECYCLE_SECONDS", 0.0)
    await started.ask(bad_parser.FINE)
    assert set(started.parsers()).isdisjoint(before)


async def test_a_parser_that_dies_while_it_is_idle_costs_no_document_its_reading(started: Started) -> None:
    before = started.parsers()
    os.kill(before[0], signal.SIGKILL)
    await gone(started.pool)
    await started.ask(bad_parser.FINE)
    assert set(started.parsers()).isdisjoint(before)


async def test_where_no_connection_is_to_be_had_the_next_call_tries_again(tmp_path: Path) -> None:
    """Whose turn it was is not at fault: it has not been looked at."""
    (tmp_path / "document").write_bytes(b"x")
    with Units(BAD, most=1) as units:
        pool = PagePool(processes=1, page_seconds=600, units=units.path)
        started = Started(pool, units.parsers, tmp_path / "document")
        await pool.start()
        os.kill(units.parsers()[0], signal.SIGKILL)
        await gone(pool)
        units.wardens[0].wait(60)
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(units.path))
            await until(lambda: len(units.wardens) == 2)
            with pytest.raises(Unavailable, match="does not start"):
                await started.ask(bad_parser.FINE)
        units.wardens[1].wait(60)
        await started.ask(bad_parser.FINE)
        await pool.close()


async def gone(pool: PagePool) -> None:
    """Until the death of its only parser is to be seen."""
    (seat,) = pool._seats
    await until(lambda: seat.process is not None and seat.process.gone)


async def test_a_service_that_is_killed_leaves_no_parser(tmp_path: Path) -> None:
    (tmp_path / "document").write_bytes(b"x")
    with Units(BAD) as units:
        service = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop
            [sys.executable, "-c", SERVICE, str(units.path), str(tmp_path / "document")],
            env=environment(),
            stdout=subprocess.PIPE,
        )
        assert service.stdout is not None
        assert service.stdout.readline() == b"busy\n"
        parsers = units.parsers()
        assert len(parsers) == 2
        service.send_signal(signal.SIGKILL)
        service.communicate()
        assert [warden.wait(60) for warden in units.wardens] == [0, 0]  # one of them was at work
        assert not any(Path(f"/proc/{pid}").exists() for pid in parsers)


SERVICE = """
import asyncio, pathlib, sys
from inkstick.pages.pool import PagePool
from support import bad_parser

async def main():
    pool = PagePool(processes=2, page_seconds=600, units=pathlib.Path(sys.argv[1]))
    await pool.start()
    asyncio.create_task(pool.open(pathlib.Path(sys.argv[2]), bad_parser.HANG))
    await asyncio.sleep(0.5)
    print("busy", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_a_parser_that_does_not_start_says_why(tmp_path: Path) -> None:
    with Units("support.cannot_start") as units:
        pool = PagePool(processes=1, page_seconds=60, units=units.path)
        with pytest.raises(Unavailable, match="something is missing"):
            await pool.start()
        await pool.close()


async def test_without_its_socket_no_weaker_way_is_taken(tmp_path: Path) -> None:
    pool = PagePool(processes=1, page_seconds=60, units=tmp_path / "nobody")
    with pytest.raises(Unavailable, match="nobody"):
        await pool.start()
    await pool.close()
    assert "unit" in pool.describe()["outer"]


def test_a_connection_that_says_nothing_leaves_no_warden() -> None:
    with Units() as units:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(units.path))
        end = time.monotonic() + 60
        while not units.wardens and time.monotonic() < end:
            time.sleep(0.01)
        assert units.wardens[0].wait(60) == 0
