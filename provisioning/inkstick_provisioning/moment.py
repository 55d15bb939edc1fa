"""The clock of a laptop that never sees a time server: it can be years off after its battery died.

No document was ever accepted before the image was built, nor before the last moment that the data volume has seen: the
later of the two is the floor. A clock below it is wrong for certain, and a person is asked; above it is believed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

CEILING = 20 * 365 * 86400
"""Seconds after the build beyond which a clock is wrong too."""
SEEN = "last-seen"
"""The file in state/ with the last moment, in seconds since 1970; written every few minutes."""


@dataclass(frozen=True, slots=True)
class Clock:
    """`now`, `floor`, `ceiling`: seconds since 1970, UTC. `right`: as far as can be known."""

    now: float
    floor: float
    right: bool
    ceiling: float = math.inf

    @property
    def best(self) -> float:
        """What to set it to until somebody says better: time never goes back."""
        return self.now if self.right else self.floor


def judge(now: float, built: float, last_seen: float | None) -> Clock:
    floor = max(built, last_seen if last_seen is not None and last_seen <= built + CEILING else built)
    return Clock(now, floor, floor <= now <= built + CEILING, built + CEILING)


def parse_seen(text: str) -> float | None:
    """From the file's text; None where it says nothing."""
    try:
        return float(text.strip())
    except ValueError:
        return None


def parse_typed(text: str) -> float | None:
    """A date and time as a person types them, `2026-11-20 14:05`, taken as UTC; None where it is none. Between numbers
    stands whatever their keyboard has: `2026年11月20日 14：05`; blanks, where it has neither hyphen nor colon."""
    match = re.fullmatch(r"\s*(\d{4})\D{1,3}(\d{1,2})\D{1,3}(\d{1,2})\D{1,3}(\d{1,2})\D{1,3}(\d{2})\D{0,3}", text)
    if match is None:
        return None
    year, month, day, hour, minute = map(int, match.groups())
    try:
        return datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()
    except ValueError:
        return None


def shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
