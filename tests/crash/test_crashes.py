"""Simulated crashes at every step, and at every pair of steps: nothing accepted is lost, doubled or altered."""

from __future__ import annotations

import random

import pytest

from crash.model import IMAGES
from crash.mutants import EXEMPT, all_names, names_in_code, notice
from crash.simulate import SCENARIOS, live, random_plan
from inkstick.clock import ManualClock

SMALL = [name for name in SCENARIOS if name != "everything"]
TEN_YEARS = 10 * 365.25 * 86400


@pytest.mark.parametrize("name", SMALL)
def test_a_crash_at_any_step_leaving_any_image_breaks_no_promise(name: str) -> None:
    steps = live(SCENARIOS[name]).steps
    stride = 1 if len(SCENARIOS[name]) == 1 else 2
    points = [(step, image) for step in range(0, steps, stride) for image in IMAGES]
    crashes = sum(live(SCENARIOS[name], [point], seed=point[0]).crashes for point in points)
    assert crashes == len(points)


@pytest.mark.parametrize(
    "name", ["rename of an old file", "copy of an old file", "upload", "kept", "failed", "retried"]
)
def test_a_crash_and_then_one_in_its_recovery_break_no_promise(name: str) -> None:
    steps = live(SCENARIOS[name]).steps
    chance = random.Random(7)
    for first in range(steps):
        for second in range(first % 6, steps, 6):
            plan = [(first, chance.choice(IMAGES)), (second, chance.choice(IMAGES))]
            live(SCENARIOS[name], plan, seed=chance.randrange(1 << 30))


def test_many_crashes_in_a_life_with_every_kind_of_document_break_no_promise() -> None:
    steps = live(SCENARIOS["everything"]).steps
    crashes = 0
    for seed in range(60):
        plan = random_plan(random.Random(seed), steps, 6)
        crashes += live(SCENARIOS["everything"], plan, seed).crashes
    assert crashes > 120


@pytest.mark.parametrize("start", [0.0, 1e9 - TEN_YEARS, 1e9 + TEN_YEARS], ids=["1970", "-10 years", "+10 years"])
def test_the_wall_clock_decides_nothing(start: float) -> None:
    """The clock even steps back a day at every look."""

    class Falling(ManualClock):
        def wall(self):  # type: ignore[no-untyped-def]
            self.now = max(0.0, self.now - 86400)
            return super().wall()

    scenario = SCENARIOS["everything"]
    for step in range(0, live(scenario).steps, 10):
        live(scenario, [(step, "some")], seed=step, clock=Falling(start))


def test_every_step_in_the_code_is_taken_by_some_life() -> None:
    assert names_in_code() - all_names() <= set(EXEMPT)


@pytest.mark.parametrize("name", sorted(names_in_code() | {"ledger.accept", "ledger.concluded", "ledger.reopened"}))
def test_leaving_a_step_out_is_noticed(name: str) -> None:
    if name in EXEMPT:
        pytest.skip(EXEMPT[name])
    assert notice(name) is not None
