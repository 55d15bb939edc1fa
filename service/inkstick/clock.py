"""Time as a value that is passed in, so that no test waits and no decision trusts the wall clock."""

from __future__ import annotations

import datetime
import time
from typing import Protocol


class Clock(Protocol):
    """`monotonic()` in seconds decides; `wall()` is for people to read and never compared."""

    def monotonic(self) -> float: ...

    def wall(self) -> datetime.datetime: ...


class SystemClock:
    """The machine's clocks. CLOCK_BOOTTIME, so that a suspended laptop does not stop the time of a lease."""

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)


class ManualClock:
    """A clock that moves when told to."""

    def __init__(self, start: float = 0.0) -> None:
        self.now = start

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.now, datetime.UTC)

    def advance(self, seconds: float) -> None:
        self.now += seconds
