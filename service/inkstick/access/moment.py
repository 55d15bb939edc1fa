"""A point in time that two processes of one boot understand alike, and that no wrong wall clock can move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inkstick.clock import Clock

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Moment:
    """`seconds` since the boot named `boot`."""

    boot: str
    seconds: float

    def since(self, earlier: Moment) -> float:
        """Seconds from `earlier` to here; infinite if the machine was started again between them."""
        return self.seconds - earlier.seconds if self.boot == earlier.boot else math.inf

    def as_json(self) -> list[Any]:
        return [self.boot, self.seconds]


def moment_from(value: Any) -> Moment:
    """The reverse of `Moment.as_json`. Raises ValueError or TypeError."""
    boot, seconds = value
    return Moment(str(boot), float(seconds))


def now(clock: Clock) -> Moment:
    return Moment(_boot(), clock.monotonic())


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
