"""What ends an engine's life from outside: the card, a suspended machine, age, growing memory. Looked at every second.

Trouble ends it at once; a renewal waits until no page is in flight. The decisions are pure; the kernel's log, clocks
and /proc are passed in.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inkstick.supervise.process import answer_of, descendants
from inkstick.supervise.xid import KernelLog, Meaning, worst

SLEPT_SECONDS = 2.0
"""CLOCK_BOOTTIME runs on while the machine sleeps, CLOCK_MONOTONIC does not: a jump by more is a suspend."""
REPAIR_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When an engine that runs well is started anew all the same: after `hours`, after `pages`, or when its processes
    hold more memory than when it became ready, by `growth` of the machine's. 0: never."""

    hours: float = 24.0
    pages: int = 50_000
    growth: float = 0.25


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the engine's life is over, for people. `reload`: the driver's nvidia_uvm may need to be loaded anew."""

    meaning: Meaning
    detail: str
    reload: bool = False


def asleep() -> float:
    """Seconds that this machine has slept since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def resident(pid: int) -> int:
    """Bytes of memory that a process and all below it hold; what they share counts for each."""
    return sum(_resident(each) for each in (pid, *descendants(pid)))


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Guard:
    """See the module's docstring. `begin` when the engine is ready."""

    def __init__(
        self,
        limits: Limits | None = None,
        kernel: KernelLog | None = None,
        *,
        slept: Callable[[], float] = asleep,
        held: Callable[[int], int] = resident,
        memory: int | None = None,
    ) -> None:
        self.limits, self._kernel = limits or Limits(), kernel or KernelLog()
        self._slept, self._held = slept, held
        self._memory = memory or machine_memory()
        self._asleep = slept()
        self._pid, self._since, self._pages, self._first = 0, 0.0, 0, 0

    def begin(self, pid: int, now: float) -> None:
        """The engine of process `pid` is ready at `now` (monotonic seconds)."""
        self._pid, self._since, self._pages, self._first = pid, now, 0, self._held(pid)

    def trouble(self) -> Trouble | None:
        """What has happened since the last look that the engine does not survive."""
        before, self._asleep = self._asleep, self._slept()
        found = worst(self._kernel.new())
        if found is not None and found.meaning is not Meaning.IGNORE:
            return Trouble(found.meaning, found.sentence, reload=found.meaning is not Meaning.RESTART)
        if self._asleep - before > SLEPT_SECONDS:
            seconds = self._asleep - before
            detail = f"The machine slept for {seconds:.0f} s: the engine is started again, its card may be lost to it."
            return Trouble(Meaning.IGNORE, detail, reload=True)
        return None

    def renewal(self, now: float, pages: int) -> str | None:
        """Why it should be started anew when nothing is in flight; `pages`: read since its start. None: go on."""
        limits = self.limits
        if limits.hours and now - self._since > limits.hours * 3600:
            return f"It has run for {limits.hours:g} hours: started anew while there is nothing to read."
        if limits.pages and pages >= limits.pages:
            return f"It has read {pages} pages: started anew while there is nothing to read."
        grown = self._held(self._pid) - self._first
        if limits.growth and grown > limits.growth * self._memory:
            return f"Its memory has grown by {grown / (1 << 30):.1f} GiB: started anew while there is nothing to read."
        return None


def reload_driver(command: Sequence[str]) -> str:
    """Run the helper that loads nvidia_uvm anew, and say how it went. Blocks, at most `REPAIR_SECONDS`."""
    done = answer_of(command, REPAIR_SECONDS)
    if done is None:
        return f"The driver could not be loaded anew ({command[0]} gave no answer)."
    status, _ = done
    return f"The driver could not be loaded anew (status {status})." if status else "The driver was loaded anew."
