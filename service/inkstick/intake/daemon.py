"""The watch as a process of its own (`inkstick watch`), and the loop that it shares with `inkstick serve`.

The process never opens the ledger. It tells the service of new claims and of its status over the service's unix socket
(``POST /internal/watch``, JSON ``{"claims": [id, …], "status": {…}}``). That is a courtesy: a service that is away
finds the claims in the spool when it comes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import watchfiles

from inkstick.clock import SystemClock
from inkstick.config import DataFolder, Settings
from inkstick.errors import UsageError
from inkstick.intake.status import WatchStatus
from inkstick.intake.watcher import Watcher
from inkstick.plain import NO_TLS
from inkstick.store.claim import Claim
from inkstick.store.disk import Disk
from inkstick.store.spool import Spool
from inkstick.supervise.notify import Notifier

LOCK_NAME: Final = "watch.lock"
ID_LETTERS: Final = 26
TELL_SECONDS: Final = 2.0
HINT_FOLDERS: Final = 1000
HINT_RETRY_SECONDS: Final = 30.0
FIRST_SCAN_SECONDS: Final = 0.1
STUCK_SECONDS: Final = 600.0


async def keep_watching(watcher: Watcher, stop: asyncio.Event, *, hints: bool = True) -> None:
    """Tick until `stop` is set, sooner when events come. Every tick runs in a thread: it waits for disks."""
    wake = asyncio.Event()
    hinting = asyncio.create_task(_hint(watcher, wake, stop)) if hints else None
    try:
        while not stop.is_set():
            wake.clear()
            await asyncio.to_thread(watcher.tick)
            breath = watcher.breath()
            await _wait([stop], breath)
            await _wait([wake, stop], watcher.wait_seconds() - breath)
    finally:
        if hinting is not None:
            hinting.cancel()
            with suppress(asyncio.CancelledError):
                await hinting


async def watch_main(settings: Settings) -> int:
    """Watch until SIGTERM or SIGINT; the exit status. Raises UsageError when another watcher has the data folder."""
    folder = settings.folder
    folder.create()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    notifier = Notifier()
    clock = SystemClock()
    with only_watcher(folder):
        teller = Teller(folder.door, loop)
        spool = Spool(folder, Disk(), clock, reserve_bytes=settings.reserve_bytes)
        continue_ids(spool)
        watcher = Watcher(folder, spool, clock, settings, on_claims=teller.claimed)
        notifier.ready("Watching the inbox.")
        helpers = [
            asyncio.create_task(teller.keep_telling(watcher)),
            asyncio.create_task(_feed(notifier, watcher, clock)),
        ]
        try:
            await keep_watching(watcher, stop)
        finally:
            notifier.stopping()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await teller.close(watcher.status())
    return 0


@contextmanager
def only_watcher(folder: DataFolder) -> Iterator[None]:
    """Hold the lock of the one watcher of a data folder. Raises UsageError when it is taken."""
    fd = os.open(folder.state / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UsageError(
            "Another watcher is already at work on this data folder.", hint="Stop it, or give --data another folder."
        ) from None
    try:
        yield
    finally:
        os.close(fd)


def continue_ids(spool: Spool) -> None:
    """New ids sort behind those of earlier runs even where the clock went back (a laptop without a battery)."""
    names = (path.name for path in spool.data.spool.iterdir())
    newest = max((name for name in names if len(name) == ID_LETTERS), default=None)
    if newest is not None:
        spool.ids.saw(newest)


class Teller:
    """Tells the service what the watcher did. What it cannot tell now goes with the next message."""

    def __init__(self, socket: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket), verify=NO_TLS), base_url="http://service", timeout=10.0
        )
        self._loop = loop
        self._new = asyncio.Event()
        self._claims: list[str] = []

    def claimed(self, claims: list[Claim]) -> None:
        """The watcher's listener; called from its thread."""
        self._loop.call_soon_threadsafe(self._note, [claim.id for claim in claims])

    async def keep_telling(self, watcher: Watcher) -> None:
        """At once when there are new claims, else every `TELL_SECONDS`, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TELL_SECONDS):
                    await self._new.wait()
            self._new.clear()
            await self.tell(watcher.status())

    async def tell(self, status: WatchStatus) -> bool:
        """One message. False when the service did not take it; its claims are then told again."""
        claims = list(self._claims)
        try:
            answer = await self._client.post("/internal/watch", json={"claims": claims, "status": status.as_json()})
            answer.raise_for_status()
        except (httpx.HTTPError, OSError):
            return False
        del self._claims[: len(claims)]
        return True

    async def close(self, status: WatchStatus) -> None:
        await self.tell(status)
        await self._client.aclose()

    def _note(self, ids: list[str]) -> None:
        self._claims += ids
        del self._claims[:-100_000]  # a service that is away for days finds them in the spool
        self._new.set()


async def _feed(notifier: Notifier, watcher: Watcher, clock: SystemClock) -> None:
    """Feed the service manager's watchdog while ticks come to an end."""

    async def alive() -> bool:
        return clock.monotonic() - watcher.progress < STUCK_SECONDS

    async def text() -> str:
        return watcher.status().line()

    await notifier.feed(alive, text)


async def _wait(events: Sequence[asyncio.Event], seconds: float) -> None:
    """Until one of the events is set or the time is up."""
    if any(event.is_set() for event in events):
        return
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _hint(watcher: Watcher, wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Set `wake` when something changes in the folders that the last scan entered.

    Each folder is watched by itself, not recursively: the recursive watch follows symbolic links out of the inbox.
    """
    while not stop.is_set():
        folders = watcher.directories(HINT_FOLDERS)
        try:
            await _listen(folders, watcher, wake, stop)
        except* (OSError, RuntimeError):
            # No inotify here, not enough of it, or a name that is no UTF-8: the scan finds everything anyway.
            wake.set()
            await asyncio.sleep(HINT_RETRY_SECONDS)


async def _listen(folders: list[Path], watcher: Watcher, wake: asyncio.Event, stop: asyncio.Event) -> None:
    if not folders:
        await asyncio.sleep(FIRST_SCAN_SECONDS)
        return
    changes = watchfiles.awatch(
        *folders, watch_filter=None, recursive=False, force_polling=False, stop_event=stop, debounce=200, step=50,
        rust_timeout=1000, yield_on_timeout=True,
    )  # fmt: skip
    behind = True  # what came before the first answer may have been missed: one more scan
    async for change in changes:
        if change or behind:
            wake.set()
            behind = False
        if watcher.directories(HINT_FOLDERS) != folders:
            return
