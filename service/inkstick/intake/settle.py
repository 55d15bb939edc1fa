"""When a dropped file is ready: pure functions over frozen values and a clock reading.

A scan sees a file and calls `observe`. The file is *still* when its size, mtime, ctime, blocks and inode were the same
in at least two scans that span `settle_seconds` of the monotonic clock. mtime is compared with its own former value and
never with "now": `cp -p` and Explorer set old times while they are still copying. A still file is then opened and
looked at (`needs_look`), and `looked` says what follows::

    new ──> moving ──> still ──look──> due            whole: claim it
              ^          │             incomplete     cut off so far: looked at again, less and less often
              └──────────┴── changed   expired        cut off, and untouched for `incomplete_seconds`: give it up
                                       unsupported    stays where it is, listed once, looked at again only if it changes

Any change of the file, in any phase, starts it anew at *moving*.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from enum import StrEnum


class Phase(StrEnum):
    """Where a candidate stands. See the module's drawing."""

    MOVING = "moving"
    STILL = "still"
    INCOMPLETE = "incomplete"
    DUE = "due"
    EXPIRED = "expired"
    UNSUPPORTED = "unsupported"


class Finding(StrEnum):
    """What a look into a still file found.

    WHOLE: its structure ends where the file ends. CUT: it does not. DOUBTFUL: nothing contradicts, but somebody has it
    open for writing, or its end was never written (a hole), or is missing where many programs leave it out: waited for
    as if cut, then taken as whole.
    """

    WHOLE = "whole"
    DOUBTFUL = "doubtful"
    CUT = "cut"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Rules:
    """Seconds. `look_again`: wait after the first look that found a cut file; it doubles up to `look_limit`."""

    settle_seconds: float = 2.0
    incomplete_seconds: float = 600.0
    look_again: float = 2.0
    look_limit: float = 60.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A file as one stat() saw it. Two equal sightings mean: nobody touched it in between, as far as a file tells."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int
    blocks: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Sighting:
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_blocks)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One file under watch. Times are readings of the monotonic clock; `looks` counts looks since the last change."""

    sighting: Sighting
    since: float
    scans: int = 1
    phase: Phase = Phase.MOVING
    looks: int = 0
    look_at: float = 0.0


def observe(candidate: Candidate | None, sighting: Sighting, now: float, rules: Rules) -> Candidate:
    """The candidate after a scan saw `sighting` at `now`. `candidate` is None when the file is new."""
    if candidate is None or candidate.sighting != sighting:
        return Candidate(sighting, since=now)
    if candidate.phase is not Phase.MOVING:
        return candidate
    if now - candidate.since >= rules.settle_seconds:
        return replace(candidate, scans=candidate.scans + 1, phase=Phase.STILL)
    return replace(candidate, scans=candidate.scans + 1)


def needs_look(candidate: Candidate, now: float) -> bool:
    """Whether the file should be opened now to see if it is whole."""
    return candidate.phase is Phase.STILL or (candidate.phase is Phase.INCOMPLETE and now >= candidate.look_at)


def looked(candidate: Candidate, finding: Finding, now: float, rules: Rules) -> Candidate:
    """The candidate after a look found `finding` at `now`."""
    looks = candidate.looks + 1
    if finding is Finding.WHOLE:
        return replace(candidate, phase=Phase.DUE, looks=looks)
    if finding is Finding.UNSUPPORTED:
        return replace(candidate, phase=Phase.UNSUPPORTED, looks=looks)
    deadline = candidate.since + rules.incomplete_seconds
    if now >= deadline:
        phase = Phase.DUE if finding is Finding.DOUBTFUL else Phase.EXPIRED
        return replace(candidate, phase=phase, looks=looks)
    wait = min(rules.look_again * 2.0 ** min(looks - 1, 30), rules.look_limit)
    return replace(candidate, phase=Phase.INCOMPLETE, looks=looks, look_at=min(now + wait, deadline))


def next_moment(candidate: Candidate, rules: Rules) -> float | None:
    """When this candidate can next change by waiting alone; None when only its file can change it."""
    if candidate.phase is Phase.MOVING:
        return candidate.since + rules.settle_seconds
    return candidate.look_at if candidate.phase is Phase.INCOMPLETE else None
