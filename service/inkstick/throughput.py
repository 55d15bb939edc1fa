"""How many pages were read in each minute of the last day; in memory, from the service's start."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Series:
    """`pages`: per stretch of `minutes` minutes, the oldest first, the present one last. `known`: how many of the
    minutes the service has been running (at most a day): what lies before is not zero but unknown."""

    minutes: int
    pages: tuple[int, ...]
    known: int

    @property
    def most(self) -> int:
        return max(self.pages, default=0)


@dataclass(slots=True)
class Throughput:
    """Told the total now and then; monotonic seconds, so that no change of the wall clock moves anything."""

    started: float
    _total: int = 0
    _minutes: deque[tuple[int, int]] = field(default_factory=deque)

    def note(self, now: float, total: int) -> None:
        """`total` pages were read since the service's start."""
        minute, more = int(now // 60), total - self._total
        self._total = total
        if more <= 0:
            return
        if self._minutes and self._minutes[-1][0] == minute:
            minute, before = self._minutes.pop()
            more += before
        self._minutes.append((minute, more))
        while self._minutes[0][0] <= minute - MINUTES:
            self._minutes.popleft()

    def series(self, now: float, minutes: int = 15) -> Series:
        """The last day in stretches of `minutes`, which must divide a day."""
        last = int(now // 60) // minutes
        pages = [0] * (MINUTES // minutes)
        for minute, count in self._minutes:
            place = len(pages) - 1 - (last - minute // minutes)
            if place >= 0:
                pages[place] += count
        known = min(MINUTES, int((now - self.started) // 60) + 1)
        return Series(minutes, tuple(pages), known)
