"""The figures of the last day, kept over a restart of the service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkstick.clock import ManualClock
from inkstick.config import Settings
from inkstick.system import System
from inkstick.throughput import MINUTES, Throughput

DAY = 86_400.0


@given(
    st.lists(st.tuples(st.floats(0, 2 * DAY), st.integers(0, 50)), max_size=20),
    st.integers(0, 23 * 60),
    st.floats(0, 1e9),
)
def test_what_was_saved_is_shown_as_much_later_as_it_is(
    steps: list[tuple[float, int]], off_minutes: int, boot: float
) -> None:
    """The monotonic clock begins anew meanwhile (another boot); the wall clock goes on."""
    before, total, now = Throughput(0.0), 0, 0.0
    for at, pages in sorted(steps):
        now, total = at, total + pages
        before.note(now, total)
    value = json.loads(json.dumps(before.saved(now, 1e9)))
    later = Throughput.restored(value, boot, 1e9 + 60 * off_minutes)
    base = now // 60 * 60
    shown = before.series(base + 60 * off_minutes, minutes=1)
    again = later.series(boot, minutes=1)
    assert again.pages == shown.pages
    assert again.known == min(MINUTES, int(now // 60) + 1 + off_minutes) or int(now // 60) + 1 > MINUTES


@pytest.mark.parametrize(
    ("value", "wall"),
    [
        ({"at": 1000, "known": 5, "minutes": [[0, 3]]}, 1000 + DAY),
        ({"at": 1000, "known": 5, "minutes": [[0, 3]]}, 0),
        ({"at": 1000, "known": 5, "minutes": [[-3, 3]]}, 1000),
        ({"at": 1000, "known": 0, "minutes": []}, 1000),
        ({"at": 1000, "known": 5, "minutes": 7}, 1000),
        ({"at": None}, 1000),
        ({}, 1000),
    ],
)
def test_what_is_too_old_or_no_record_is_forgotten(value: dict[str, Any], wall: float) -> None:
    assert Throughput.restored(value, 50.0, wall) == Throughput(50.0)


def test_a_service_that_starts_again_shows_what_was_read_before(tmp_path: Path) -> None:
    settings, clock = Settings(data=tmp_path), ManualClock(1000)
    settings.folder.create()
    first = System(settings, clock)
    first.start()
    first.note(7)
    first.close()
    kept = tmp_path / "state/throughput.json"
    assert kept.stat().st_size < 200
    for text, pages in ((kept.read_text(), 9), ("[", 2)):
        kept.write_text(text)
        second = System(settings, clock)
        second.start()
        second.note(2)
        assert sum(second._throughput.series(clock.monotonic()).pages) == pages
        second.close()
