"""How much one session or token may bring in: uploads at a time, and bytes within an hour."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from inkstick.errors import UsageError

HOUR = 3600.0
_SLICE = 60.0


@dataclass(frozen=True, slots=True)
class Quota:
    """`at_once`: uploads in flight; `bytes_per_hour`: of their bodies. 0: no limit."""

    at_once: int
    bytes_per_hour: int


@dataclass
class Usage:
    """What one person has used. Times are in seconds of a monotonic clock."""

    in_flight: int = 0
    _slices: deque[tuple[float, int]] = field(default_factory=deque)

    def bytes_within_hour(self, now: float) -> int:
        while self._slices and now - self._slices[0][0] >= HOUR:
            self._slices.popleft()
        return sum(size for _, size in self._slices)

    def add(self, size: int, now: float) -> None:
        """Counted by the minute, so that a million small pieces cost sixty numbers."""
        begun = now - now % _SLICE
        if self._slices and self._slices[-1][0] == begun:
            size += self._slices.pop()[1]
        self._slices.append((begun, size))


class Limits:
    """The usage of everybody, in memory: a restart of the service forgives. For one event loop."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self._usage: dict[str, Usage] = {}

    def begin(self, who: str, size: int, now: float) -> None:
        """An upload of `size` bytes (0: unknown) begins. Raises UsageError (code too_many); nothing is counted then."""
        usage = self._usage.setdefault(who, Usage())
        if self.quota.at_once and usage.in_flight >= self.quota.at_once:
            raise UsageError(
                f"{usage.in_flight} of your uploads are under way already.",
                hint="Wait until one of them is done, then send this one again.",
                code="too_many",
            )
        self._check(usage, size, now)
        usage.in_flight += 1

    def add(self, who: str, size: int, now: float) -> None:
        """Bytes have arrived. Raises UsageError (code too_many) when they are too many for the hour."""
        usage = self._usage.setdefault(who, Usage())
        self._check(usage, size, now)
        usage.add(size, now)

    def end(self, who: str) -> None:
        usage = self._usage[who]
        usage.in_flight -= 1

    def forget_idle(self, now: float) -> None:
        """Drop those who have used nothing for an hour."""
        idle = [who for who, used in self._usage.items() if not used.in_flight and not used.bytes_within_hour(now)]
        for who in idle:
            del self._usage[who]

    def _check(self, usage: Usage, size: int, now: float) -> None:
        if self.quota.bytes_per_hour and usage.bytes_within_hour(now) + size > self.quota.bytes_per_hour:
            raise UsageError(
                "You have sent as many bytes as you may within an hour.",
                hint="Wait a while, or copy the documents into the inbox at the machine itself.",
                code="too_many",
            )
