"""A simulated life of a data folder: work, crash, recover, crash, recover, … until all is done; inspected each time."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from crash.model import IMAGES, Crash, ModelDisk
from crash.place import place
from crash.world import Drop, MemoryIndex, Office, Scenario, Violation, World
from inkstick.clock import Clock, ManualClock
from inkstick.config import DataFolder
from inkstick.errors import InkstickError
from inkstick.profile import Originals

CrashPlan = Iterable[tuple[int, str]]
"""Crashes to come: after how many steps since the last start, and which image it leaves."""

# No content begins with another: a file that a person was still writing would pass for it after a power cut.
_A, _B, _C, _D, _E, _F = (f"document {letter} ".encode() * 3 for letter in "ABCDEF")

SCENARIOS: dict[str, Scenario] = {
    "rename": ((Drop("a.pdf", _A, pages=2),),),
    "rename of an old file": ((Drop("a.pdf", _A, synced=True),),),
    "copy of an old file": ((Drop("a.pdf", _A, how="copy", synced=True),),),
    "copy": ((Drop("sub/a.pdf", _A, how="copy"),),),
    "upload": ((Drop("web/a.pdf", _A, how="upload"),),),
    "kept": ((Drop("a.pdf", _A, originals=Originals.KEEP),),),
    "deleted": ((Drop("a.pdf", _A, originals=Originals.DELETE),),),
    "failed": ((Drop("sub/a.pdf", _A, fails=True),),),
    "kept and failed": ((Drop("a.pdf", _A, fails=True, originals=Originals.KEEP),),),
    "retried": ((Drop("a.pdf", _A, fails=True, retry=True),),),
    "same bytes twice": ((Drop("a.pdf", _A, pages=2), Drop("sub/b.pdf", _A, pages=2)),),
    "same name twice": ((Drop("a.pdf", _A),), (Drop("a.pdf", _B),)),
    "same name failed twice": ((Drop("a.pdf", _A, fails=True),), (Drop("a.pdf", _B, fails=True),)),
    "everything": (
        (
            Drop("sub/a.pdf", _A, pages=2),
            Drop("sub/b.pdf", _B, how="copy", synced=True),
            Drop("c.pdf", _C, how="upload"),
            Drop("d.pdf", _D, fails=True, retry=True),
        ),
        (Drop("sub/a.pdf", _E), Drop("d.pdf", _F, fails=True)),
    ),
}


@dataclass
class Life:
    """What happened: `crashes` injected, `steps` of the last start, whether all ended well is in the exceptions."""

    crashes: int = 0
    steps: int = 0
    images: dict[str, int] = field(default_factory=dict)
    where: list[str] = field(default_factory=list)


def new_world(scenario: Scenario, chance: random.Random, clock: Clock | None = None) -> tuple[World, ModelDisk]:
    disk, root = ModelDisk(), place("/")
    disk.add_device(root / "data", 2)
    disk.add_device(root / "usb", 3)
    for name in ("inbox", "results", "done", "failed", "state", "state/spool"):
        disk.make_dir(root / "data" / name, at="setup")
    disk.sync_all(root, at="setup")
    disk.steps = 0
    world = World(
        scenario,
        disk,
        MemoryIndex({}),
        chance.randbytes,
        data=DataFolder(root / "data"),
        other_inbox=root / "usb",
        clock=clock or ManualClock(1e9),
    )
    return world, disk


def live(
    scenario: Scenario,
    plan: CrashPlan = (),
    seed: int = 0,
    *,
    omit: str | None = None,
    clock: Clock | None = None,
    trace: list[str] | None = None,
) -> Life:
    """Lives through `scenario` with the crashes of `plan`. Raises `Violation` when an invariant does not hold."""
    chance, life, crashes = random.Random(seed), Life(), iter(plan)
    world, disk = new_world(scenario, chance, clock)
    disk.omit = omit
    disk.trace = trace
    image = _arm(disk, crashes)
    while world.round < len(scenario):
        world.disk = disk
        world.index.step = disk.step  # type: ignore[attr-defined]
        try:
            _work(world)
            world.round += 1
        except Crash as crash:
            life.crashes += 1
            life.where.append(f"{crash} ({image})")
            life.images[image] = life.images.get(image, 0) + 1
            disk = disk.after_crash(chance, image)
            disk.trace = trace
            image = _arm(disk, crashes)
            world.disk = disk
            world.inspect_image()
    world.inspect_end()
    life.steps = disk.steps
    return life


def _arm(disk: ModelDisk, crashes: Iterator[tuple[int, str]]) -> str:
    after, image = next(crashes, (-1, IMAGES[0]))
    disk.crash_at = disk.steps + after if after >= 0 else -1
    return image


def _work(world: World) -> None:
    office = Office(world)
    office.start()
    world.bring()  # after the start, which makes everything durable that it finds
    office.run(world.scenario[world.round])


def noticed(scenario: Scenario, plan: CrashPlan, seed: int, omit: str) -> str | None:
    """What gave the missing step away: a violation or an error. None if nothing did."""
    try:
        live(scenario, plan, seed, omit=omit)
    except (Violation, InkstickError, OSError, ValueError, KeyError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def random_plan(chance: random.Random, steps: int, crashes: int) -> list[tuple[int, str]]:
    """The first crash anywhere in the life; most of the following ones early, where recovery is at work."""
    plan = [(chance.randrange(steps), chance.choice(IMAGES))]
    for _ in range(crashes - 1):
        reach = chance.choice((8, 40, steps))
        plan.append((chance.randrange(reach), chance.choice(IMAGES)))
    return plan
