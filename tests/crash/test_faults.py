"""A disk that is full, a disk that fails, and real processes that are killed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from crash import sigkill
from crash.model import IMAGES, ModelDisk
from crash.mutants import traces
from crash.simulate import SCENARIOS, live, new_world
from crash.world import Office, World
from inkstick.errors import Blocked, DiskFull

SMALL = [name for name in SCENARIOS if name != "everything"]


def finish(world: World, disk: ModelDisk) -> int:
    """Works through all rounds; when blocked, the same process simply goes on. Returns how often it was blocked."""
    blocked = 0
    world.disk, world.index.step = disk, disk.step  # type: ignore[attr-defined]
    office = Office(world)
    started = False
    while world.round < len(world.scenario):
        try:
            if not started:
                office.start()
                started = True
            world.bring()
            office.run(world.scenario[world.round])
            world.round += 1
        except DiskFull:
            blocked += 1
    return blocked


@pytest.mark.parametrize("name", SMALL)
def test_a_disk_that_is_full_at_any_write_only_makes_the_work_wait(name: str) -> None:
    blocked = 0
    for step in range(len(traces()[name])):
        world, disk = new_world(SCENARIOS[name], random.Random(step))
        disk.full_at = step
        blocked += finish(world, disk)
        world.inspect_end()
    assert blocked > 10


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("image", IMAGES)
def test_a_sync_that_fails_stops_everything_until_the_next_start(name: str, image: str) -> None:
    failed = 0
    for step in range(len(traces()[name])):
        chance = random.Random(step)
        world, disk = new_world(SCENARIOS[name], chance)
        disk.eio_at = step
        try:
            finish(world, disk)
            continue  # not a sync
        except Blocked:
            assert disk.suspect
        with pytest.raises(Blocked):
            disk.write(world.data.state / "anything", b"", at="any")
        disk = disk.after_crash(chance, image)
        world.disk = disk
        world.inspect_image()
        finish(world, disk)
        world.inspect_end()
        failed += 1
    assert failed > 5


def test_processes_killed_at_any_step_or_moment_break_no_promise(tmp_path: Path) -> None:
    counts: Counter[str] = sigkill.campaign(60, 3, 0, print, folder=tmp_path)
    counts += sigkill.campaign(90, 4, 0, print, folder=Path("/dev/shm"))
    assert counts["crashes"] >= 150
    assert set(counts) == {"crashes", "lives"}


def test_a_life_without_faults_has_none(tmp_path: Path) -> None:
    assert live(SCENARIOS["everything"]).crashes == 0
    assert sigkill.live(SCENARIOS["everything"], [], tmp_path, sqlite=True) == 0
