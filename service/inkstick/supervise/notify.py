"""Talk to systemd: ready, status, watchdog, stopping. Without a NOTIFY_SOCKET every call does nothing.

The watchdog is fed at half its interval, by a task of the very event loop that serves, and only while the service is
alive by its own account: a loop that does not turn and a dispatcher that is stuck both end in a restart.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping

log = logging.getLogger("inkstick.supervise")

TELLING_SECONDS = 5.0
Alive = Callable[[], Awaitable[bool]]


class Notifier:
    """One line of talk with the service manager. `environment` is the process's own; tests give their own."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._present = bool(environment.get("NOTIFY_SOCKET"))
        self._interval = _interval(environment)
        self._status = ""

    @property
    def present(self) -> bool:
        """True when a service manager listens."""
        return self._present

    @property
    def interval(self) -> float | None:
        """Seconds between two feedings (half of WatchdogSec=), or None when no watchdog is set on this process."""
        return self._interval

    def ready(self, text: str = "") -> None:
        self._send("READY=1" + (f"\nSTATUS={_line(text)}" if text else ""))

    def status(self, text: str) -> None:
        """One human line, for `systemctl status` and the console; sent only when it changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={_line(text)}")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    async def feed(self, alive: Alive, text: Callable[[], Awaitable[str]] | None = None) -> None:
        """Feed the watchdog until cancelled, but only while `alive()` says so; returns at once without one. Meanwhile
        tell what `text()` says, which changes more often than a watchdog must be fed.

        `alive` is given half an interval to answer: no answer counts as not alive."""
        if self._interval is None:
            return
        while True:
            if await _within(alive, self._interval):
                self.watchdog()
            if text is not None:
                await self._tell(text)
            await asyncio.sleep(min(self._interval, TELLING_SECONDS))

    async def _tell(self, text: Callable[[], Awaitable[str]]) -> None:
        """A line that cannot be said now is said later: the feeding does not end with it, nor with the service."""
        try:
            self.status(await text())
        except Exception:
            log.exception("there is no status line")

    def _send(self, message: str) -> None:
        if self._present:
            from systemd import daemon

            daemon.notify(message)


async def _within(alive: Alive, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await alive()
    except TimeoutError:
        return False
    except Exception:
        log.exception("whether the service lives could not be told")
        return False


def _interval(environment: Mapping[str, str]) -> float | None:
    """Half of WATCHDOG_USEC in seconds, if a watchdog is set and meant for this process."""
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not environment.get("NOTIFY_SOCKET") or not microseconds.isdigit() or int(microseconds) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000


def _line(text: str) -> str:
    return " ".join(text.split())
