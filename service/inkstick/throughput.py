"""How many pages were read in each minute of the last day; it can be saved, and goes on after a restart."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Series:
    """`pages`: per stretch of `minutes` minutes, the oldest first, the present one last. `known`: of how many
    minutes (at most a day) it is known: what lies before is not zero but unknown."""

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

    def saved(self, now: float, wall: float) -> dict[str, Any]:
        """What `restored` takes: minutes by their age at the moment `wall` (unix seconds)."""
        last = int(now // 60)
        known = min(MINUTES, int((now - self.started) // 60) + 1)
        return {"at": int(wall), "known": known, "minutes": [[last - minute, n] for minute, n in self._minutes]}

    @classmethod
    def restored(cls, value: Mapping[str, Any], now: float, wall: float) -> Throughput:
        """Going on with what was saved; the time between, in which nothing ran, is known to have read nothing.

        A day later, by a clock that was set back, or from what is no such value: a fresh one."""
        try:
            passed = (int(wall) - int(value["at"])) // 60
            known, kept = int(value["known"]), [(int(age), int(n)) for age, n in value["minutes"]]
        except (KeyError, TypeError, ValueError):
            return cls(now)
        if not 0 <= passed < MINUTES or not 0 < known <= MINUTES or any(age < 0 or n < 0 for age, n in kept):
            return cls(now)
        found, last = cls(now - 60 * (known + passed - 1)), int(now // 60)
        ages = sorted(((age + passed, n) for age, n in kept), reverse=True)
        found._minutes.extend((last - age, n) for age, n in ages if age < MINUTES)
        return found

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
