"""The settle rule, as pure values on a clock that is moved by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inkstick.clock import ManualClock
from inkstick.intake.settle import Candidate, Finding, Phase, Rules, Sighting, looked, needs_look, next_moment, observe

RULES = Rules(settle_seconds=2.0, incomplete_seconds=600.0)
SEEN = Sighting(dev=1, ino=10, size=4096, mtime_ns=5, ctime_ns=6, blocks=8)


class Story:
    """One file, scanned whenever time passes."""

    def __init__(self) -> None:
        self.clock = ManualClock(1000.0)
        self.candidate: Candidate | None = None

    def scan(self, seconds: float, seen: Sighting = SEEN) -> Candidate:
        self.clock.advance(seconds)
        self.candidate = observe(self.candidate, seen, self.clock.monotonic(), RULES)
        return self.candidate

    def look(self, finding: Finding) -> Candidate:
        assert self.candidate is not None
        self.candidate = looked(self.candidate, finding, self.clock.monotonic(), RULES)
        return self.candidate


def still() -> Story:
    story = Story()
    story.scan(0)
    assert story.scan(2.0).phase is Phase.STILL
    return story


def test_a_new_file_is_moving_however_old_its_mtime_is() -> None:
    """`cp -p` of a file from last year: only what two scans saw counts."""
    assert Story().scan(0, replace(SEEN, mtime_ns=1)).phase is Phase.MOVING


def test_two_scans_that_are_too_close_do_not_settle_it() -> None:
    story = Story()
    story.scan(0)
    assert story.scan(1.9).phase is Phase.MOVING
    assert story.scan(0.1).phase is Phase.STILL


@pytest.mark.parametrize("field", ["dev", "ino", "size", "mtime_ns", "ctime_ns", "blocks"])
def test_a_change_of_any_of_its_marks_starts_it_anew(field: str) -> None:
    story = Story()
    story.scan(0)
    changed = replace(SEEN, **{field: 99})
    assert story.scan(1.9, changed).phase is Phase.MOVING
    assert story.scan(1.9, changed).phase is Phase.MOVING
    assert story.scan(0.2, changed).phase is Phase.STILL


@pytest.mark.parametrize("finding", [Finding.WHOLE, Finding.CUT, Finding.UNSUPPORTED])
def test_a_change_in_any_phase_starts_it_anew(finding: Finding) -> None:
    story = still()
    story.look(finding)
    assert story.scan(0.1, replace(SEEN, size=5000)) == Candidate(replace(SEEN, size=5000), since=1002.1)


def test_a_slow_writer_is_never_still() -> None:
    story = Story()
    for second in range(3600):
        assert story.scan(1.0, replace(SEEN, size=56_000 * second, mtime_ns=second)).phase is Phase.MOVING


def test_a_wall_clock_jump_changes_nothing() -> None:
    """mtime in the future or before 1970 is a mark like any other."""
    for mtime in (-(10**18), 10**19):
        story = Story()
        story.scan(0, replace(SEEN, mtime_ns=mtime))
        assert story.scan(2.0, replace(SEEN, mtime_ns=mtime)).phase is Phase.STILL


def test_an_incomplete_file_is_looked_at_less_and_less_often_and_then_given_up() -> None:
    story = still()
    candidate = story.look(Finding.CUT)
    waits: list[float] = []
    while candidate.phase is Phase.INCOMPLETE:
        waits.append(candidate.look_at - story.clock.monotonic())
        assert not needs_look(candidate, candidate.look_at - 0.001)
        story.clock.now = candidate.look_at
        assert needs_look(candidate, story.clock.monotonic())
        candidate = story.look(Finding.CUT)
    assert candidate.phase is Phase.EXPIRED
    assert story.clock.monotonic() == candidate.since + RULES.incomplete_seconds
    assert waits[:6] == [2, 4, 8, 16, 32, 60]
    assert len(waits) < 20


def test_a_file_that_becomes_whole_without_a_visible_change_is_due() -> None:
    story = still()
    story.look(Finding.CUT)
    story.clock.advance(2)
    assert story.look(Finding.WHOLE).phase is Phase.DUE


def test_a_doubtful_file_is_waited_for_and_then_taken() -> None:
    story = still()
    assert story.look(Finding.DOUBTFUL).phase is Phase.INCOMPLETE
    story.clock.advance(600)
    assert story.look(Finding.DOUBTFUL).phase is Phase.DUE


def test_an_unsupported_file_is_not_looked_at_again() -> None:
    story = still()
    story.look(Finding.UNSUPPORTED)
    candidate = story.scan(10_000)
    assert candidate.phase is Phase.UNSUPPORTED
    assert not needs_look(candidate, story.clock.monotonic())


def test_the_next_moment_is_when_waiting_alone_can_change_something() -> None:
    story = Story()
    assert next_moment(story.scan(0), RULES) == 1002.0
    story.scan(2)
    assert next_moment(story.look(Finding.CUT), RULES) == 1004.0
    assert next_moment(story.look(Finding.UNSUPPORTED), RULES) is None
