"""What is tried when the engine fails, step by step, and the way back up. Pure values; the clock is passed in.

    normal      as planned
    again       the same once more: most crashes are accidents
    reduced     half as many pages at once, 5 % less of the card's memory, no captured graphs
    minimal     a quarter as many, 10 % less
    cpu         given up for now: the CPU engine reads; `REST_SECONDS` later `minimal` is tried again

After `GOOD_SECONDS` without a failure it climbs one step; twice as long after each further fall to `reduced`, so that a
machine on which `normal` never holds is not for ever starting the engine anew. What the start-up canary found to be the
most pages in flight is no step: it bounds all of them, for the life of the supervising process.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from inkstick import durable

GOOD_SECONDS = 600.0
REST_SECONDS = 600.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
LOWER = 2
"""The first step that is slower."""
MOST_DOUBLINGS = 5


@dataclass(frozen=True, slots=True)
class Rung:
    """`divide`: the pages in flight by so much. `memory`: less of the card's memory, as a share. `eager`: no graphs."""

    name: str
    divide: int = 1
    memory: float = 0.0
    eager: bool = False


RUNGS = (
    Rung("normal"),
    Rung("again"),
    Rung("reduced", 2, 0.05, True),
    Rung("minimal", 4, 0.10, True),
    Rung("cpu", 4, 0.10, True),
)
LAST = len(RUNGS) - 1


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where we are: `step` into RUNGS, `failures` in a row, `since` (monotonic seconds) when this step began to be good
    or was given up, None while a start is under way. `falls`: how often it came down to a slower step."""

    step: int = 0
    failures: int = 0
    since: float | None = None
    falls: int = 0

    @property
    def rung(self) -> Rung:
        return RUNGS[self.step]

    @property
    def given_up(self) -> bool:
        return self.step == LAST

    @property
    def pause(self) -> float:
        """Seconds before the next start."""
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** max(0, self.failures - 1)) if self.failures else 0.0


def failed(ladder: Ladder, now: float) -> Ladder:
    """One step down; on the last one, rest."""
    step = min(ladder.step + 1, LAST)
    falls = ladder.falls + (ladder.step < LOWER <= step)
    return Ladder(step, ladder.failures + 1, now if step == LAST else None, falls)


def given_up(ladder: Ladder, now: float) -> Ladder:
    """Straight to rest: another start cannot help."""
    return Ladder(LAST, ladder.failures + 1, now, ladder.falls)


def started(ladder: Ladder, now: float) -> Ladder:
    """The engine is ready: from now on it is good."""
    return replace(ladder, since=now)


def climb_due(ladder: Ladder, now: float, good_seconds: float = GOOD_SECONDS) -> bool:
    """Whether it was good for long enough to climb a step."""
    good = good_seconds * 2 ** min(max(0, ladder.falls - 1), MOST_DOUBLINGS)
    return ladder.step > 0 and not ladder.given_up and ladder.since is not None and now - ladder.since >= good


def climbed(ladder: Ladder) -> Ladder:
    """A step up; `again` is `normal` already. What follows must be proved anew."""
    step = 0 if ladder.step <= LOWER else ladder.step - 1
    return Ladder(step, 0, None, ladder.falls)


def restart_needed(before: Ladder, after: Ladder) -> bool:
    """Whether climbing changes how the engine runs."""
    return replace_name(before.rung) != replace_name(after.rung)


def replace_name(rung: Rung) -> Rung:
    """The rung without its name: what it does."""
    return replace(rung, name="")


def rest_over(ladder: Ladder, now: float, rest_seconds: float = REST_SECONDS) -> bool:
    """Whether the engine, once given up, is to be tried again."""
    return ladder.given_up and ladder.since is not None and now - ladder.since >= rest_seconds


def tried_again(ladder: Ladder) -> Ladder:
    """From rest to the most careful start."""
    return Ladder(LAST - 1, ladder.failures, None, ladder.falls)


def write(path: Path, ladder: Ladder) -> None:
    """Durably, but for `since`, whose clock ends with the machine's uptime, and `falls`, which a new start forgives."""
    durable.write(path, json.dumps(asdict(replace(ladder, since=None, falls=0))).encode())


def read(path: Path) -> Ladder:
    """What was written; an engine that was given up is tried again, carefully. A damaged file is a new beginning."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        step, failures = int(value["step"]), int(value["failures"])
    except (OSError, ValueError, KeyError, TypeError):
        return Ladder()
    return Ladder(min(max(step, 0), LAST - 1), max(failures, 0))
