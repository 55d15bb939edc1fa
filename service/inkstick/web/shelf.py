"""Answers that somebody is waiting for or looking at: in memory only, for ten minutes, under a name nobody can guess.

A page that is read at once is stored nowhere, yet its picture, its text and its downloads are requests of their own.
So the answer stays on this shelf for a while. The oldest is dropped when the shelf is full; dropping one that is still
being read stops the engine.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inkstick.atonce import PageRead, Told
from inkstick.clock import Clock, SystemClock
from inkstick.errors import InkstickError, Internal, Unavailable, UsageError

log = logging.getLogger("inkstick.web")

KEEP_SECONDS = 600.0
MOST = 24
AT_ONCE = 4
"""Pages read for people at the same time; each holds its file in memory until it is at the parser."""

Work = Callable[[Told], Awaitable[PageRead]]


@dataclass
class Slip:
    """One question. `about`: what the page says of it. `since`: monotonic seconds. `waits`: the code of what it waits
    for. Exactly one of `read` and `error` is set once it has ended."""

    about: Mapping[str, Any]
    since: float
    waits: str | None = None
    read: PageRead | None = None
    error: InkstickError | None = None
    seconds: float = 0.0
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def state(self) -> str:
        """reading, blocked, done or failed."""
        if self.error is not None:
            return "failed"
        return "done" if self.read is not None else "blocked" if self.waits else "reading"


class Shelf:
    """See the module's docstring."""

    def __init__(self, clock: Clock | None = None, *, keep: float = KEEP_SECONDS, most: int = MOST) -> None:
        self._clock, self._keep, self._most = clock or SystemClock(), keep, most
        self._slips: dict[str, Slip] = {}

    def begin(self, work: Work, about: Mapping[str, Any]) -> str:
        """Start reading; the name under which the answer can be asked for. Raises `Unavailable` while too many are
        being read."""
        self._sweep()
        if sum(slip.state in ("reading", "blocked") for slip in self._slips.values()) >= AT_ONCE:
            raise Unavailable("Several pages are being read for people already.", hint="Try again in a moment.")
        while len(self._slips) >= self._most:
            self.drop(next(iter(self._slips)))
        name, slip = secrets.token_urlsafe(18), Slip(about, self._clock.monotonic())
        slip.task = asyncio.create_task(self._read(slip, work), name="a page at once")
        self._slips[name] = slip
        asyncio.get_running_loop().call_later(self._keep, self.drop, name)  # nobody may ask for it ever again
        return name

    def get(self, name: str) -> Slip:
        """Raises `UsageError` (not_found) for one that is not here, or not any more."""
        self._sweep()
        if name not in self._slips:
            raise UsageError(
                "This answer is not kept any more: nothing is stored.", hint="Ask again.", code="not_found"
            )
        return self._slips[name]

    def waited(self, slip: Slip) -> float:
        """Seconds since it was asked, or that it took."""
        return slip.seconds or self._clock.monotonic() - slip.since

    def drop(self, name: str) -> None:
        """Forget it; what is still being read is stopped."""
        slip = self._slips.pop(name, None)
        if slip is not None and slip.task is not None:
            slip.task.cancel()

    async def _read(self, slip: Slip, work: Work) -> None:
        def told(code: str | None) -> None:
            slip.waits = code

        try:
            slip.read = await work(told)
        except InkstickError as error:
            slip.error = error
        except asyncio.CancelledError:
            slip.error = Unavailable("The reading was stopped.", hint="Ask again.")
            raise
        except Exception:
            log.exception("fault while reading a page at once")
            slip.error = Internal()
        finally:
            slip.seconds = self._clock.monotonic() - slip.since

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        for name in [name for name, slip in self._slips.items() if now - slip.since > self._keep]:
            self.drop(name)
