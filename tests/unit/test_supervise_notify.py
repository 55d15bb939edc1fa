"""systemd is told the truth: ready once, the watchdog only while alive, nothing where nobody listens."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inkstick.supervise.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A real datagram socket in systemd's place."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def test_tells_ready_status_and_stopping(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready("2 documents\nwaiting")
    notifier.status("reading")
    notifier.status("reading")
    notifier.stopping()
    heard = [manager.recv(1000).decode() for _ in range(3)]
    assert heard == ["READY=1\nSTATUS=2 documents waiting", "STATUS=reading", "STOPPING=1"]


def test_says_nothing_without_a_service_manager() -> None:
    notifier = Notifier({})
    notifier.ready()
    notifier.watchdog()
    assert not notifier.present
    assert notifier.interval is None


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "20000000"}, 10.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "20000000"}, None),
    ],
)
def test_feeds_at_half_the_interval_that_is_meant_for_it(environment: dict[str, str], interval: float | None) -> None:
    assert Notifier(environment).interval == interval


def drain(manager: socket.socket) -> list[bytes]:
    heard = []
    while True:
        try:
            heard.append(manager.recv(100))
        except BlockingIOError:
            return heard


async def test_a_fault_in_what_is_told_does_not_end_the_feeding(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    manager.setblocking(False)
    looks, told = itertools.count(), itertools.count()

    async def alive() -> bool:
        if next(looks) == 1:
            raise ValueError("the ledger is locked")
        return True

    async def text() -> str:
        if next(told) == 0:
            raise TypeError("no figures")
        return "reading"

    feeding = asyncio.create_task(Notifier().feed(alive, text))
    loop, heard = asyncio.get_running_loop(), list[bytes]()
    try:
        async with asyncio.timeout(60):
            while len(heard) < 3:
                heard.append(await loop.sock_recv(manager, 100))
        assert not feeding.done()
        assert sorted(heard) == [b"STATUS=reading", b"WATCHDOG=1", b"WATCHDOG=1"]
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def test_feeds_the_watchdog_only_while_alive(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    manager.setblocking(False)
    alive = [True]

    async def check() -> bool:
        return alive[0]

    feeding = asyncio.create_task(Notifier().feed(check))
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        assert await loop.sock_recv(manager, 100) == b"WATCHDOG=1"
        alive[0] = False
        drain(manager)
        await asyncio.sleep(0.1)
        assert drain(manager) == []
        alive[0] = True
        assert await loop.sock_recv(manager, 100) == b"WATCHDOG=1"
    feeding.cancel()


async def test_a_check_that_hangs_counts_as_not_alive(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    manager.setblocking(False)

    async def hang() -> bool:
        await asyncio.sleep(3600)
        return True

    feeding = asyncio.create_task(Notifier().feed(hang))
    await asyncio.sleep(0.1)
    assert drain(manager) == []
    feeding.cancel()


def test_systemd_is_not_imported_where_nobody_listens() -> None:
    code = (
        "import sys; from inkstick.supervise.notify import Notifier; "
        "Notifier({}).ready(); print('systemd' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
