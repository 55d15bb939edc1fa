"""Real processes on a real file system, killed by SIGKILL: at a step, or at some microsecond.

Each life is a data folder of its own. A forked process is the office; its promises come to the parent through a pipe,
byte by byte as they are made, so that the parent knows after the kill what the dead one had said. In one life of four
the office has a real SQLite ledger.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crash.simulate import SCENARIOS
from crash.world import MemoryIndex, Office, Scenario, Violation, World
from inkstick.clock import SystemClock
from inkstick.config import DataFolder
from inkstick.store.claim import Claim, Outcome
from inkstick.store.disk import Disk
from inkstick.store.ledger import Ledger
from inkstick.store.spool import Spool


class KillingDisk(Disk):
    """Ends its process at a step, before it is taken."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._left = at

    def step(self, at: str) -> bool:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1
        return super().step(at)


class KillingLedger(Ledger):
    """Takes part in the count: the commit is a step too."""

    disk: Disk | None = None

    def before_commit(self) -> None:
        if self.disk is not None:
            self.disk.step("ledger.commit")


class LedgerIndex:
    """The real ledger, as the office's index."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.ledger = KillingLedger(path)
        self.ledger.disk = disk

    def accept(self, claims: list[Claim]) -> None:
        self.ledger.accept(claims)

    def concluded(self, identifier: str, outcome: Outcome) -> None:
        self.ledger.concluded(identifier, outcome)

    def reopened(self, identifier: str) -> None:
        self.ledger.reopened(identifier)

    def states(self) -> dict[str, str]:
        return {row.id: row.state for row in self.ledger.list(limit=10_000)}

    def rebuild(self, spool: Spool) -> object:
        return self.ledger.rebuild(spool)


@dataclass(frozen=True)
class Kill:
    """`step`: at which step of this start; or `seconds`: after how long. Both None: not at all."""

    step: int | None = None
    seconds: float | None = None


def live(scenario: Scenario, kills: list[Kill], folder: Path, *, sqlite: bool) -> int:
    """A life on the real file system below `folder`. Returns how many kills hit. Raises Violation."""
    data = DataFolder(folder / "data")
    data.create()
    with tempfile.TemporaryDirectory(dir=_other_device(folder)) as other:
        world = World(scenario, Disk(), MemoryIndex({}), os.urandom, data, Path(other), SystemClock())
        hits = 0
        while world.round < len(scenario):
            if _start(world, kills.pop(0) if kills else Kill(), sqlite):
                hits += 1
                world.inspect_image()
            else:
                world.round += 1
        _inspect_end(world, sqlite)
    return hits


def _other_device(folder: Path) -> Path:
    return Path("/dev/shm") if folder.stat().st_dev != Path("/dev/shm").stat().st_dev else Path("/tmp")


def _start(world: World, kill: Kill, sqlite: bool) -> bool:
    """One start of the office; True when it was killed. Raises Violation, also one that the office found."""
    ear, mouth = os.pipe()
    process = os.fork()
    if process == 0:
        _be_the_office(world, kill, sqlite, mouth)
    os.close(mouth)
    if kill.seconds is not None:
        time.sleep(kill.seconds)
        os.kill(process, signal.SIGKILL)
    with os.fdopen(ear) as lines:
        said = lines.read().splitlines(keepends=True)
    _, status = os.waitpid(process, 0)
    for line in said:
        if line.endswith("\n"):
            _hear(world, line)
    return os.WIFSIGNALED(status)


def _hear(world: World, line: str) -> None:
    if line.startswith("!"):
        raise Violation("recovery", line[1:].replace("\\n", "\n"))
    world.witness.hear(line)


def _be_the_office(world: World, kill: Kill, sqlite: bool, mouth: int) -> None:
    try:
        world.disk = KillingDisk(kill.step) if kill.step is not None else Disk()
        world.witness.send = lambda line: _say(mouth, line)
        world.index = LedgerIndex(world.data.ledger, world.disk) if sqlite else MemoryIndex({})
        office = Office(world)
        office.start()
        world.bring()
        office.run(world.scenario[world.round])
    except BaseException:
        _say(mouth, "!" + traceback.format_exc().replace("\n", "\\n"))
    os._exit(0)


def _say(mouth: int, line: str) -> None:
    os.write(mouth, line.encode() + b"\n")


def _inspect_end(world: World, sqlite: bool) -> None:
    if not sqlite:
        world.index.rebuild(Spool(world.data, world.disk, world.clock))
        world.inspect_end()
        return
    index = world.index = LedgerIndex(world.data.ledger, world.disk)
    world.inspect_end()
    states, problems = index.states(), index.ledger.check()
    index.ledger.close()
    for path in world.data.state.glob("ledger.*"):
        path.unlink()
    again = LedgerIndex(world.data.ledger, world.disk)
    again.rebuild(Spool(world.data, world.disk, world.clock))
    rebuilt = again.states()
    again.ledger.close()
    if problems or rebuilt != states:
        raise Violation("ledger", f"{problems}, rebuilt {rebuilt}, was {states}")


def random_kills(chance: random.Random, scenario: Scenario) -> list[Kill]:
    reach = 60 * sum(len(drops) for drops in scenario)
    kills = []
    for _ in range(chance.randint(1, 8)):
        if chance.random() < 0.7:
            kills.append(Kill(step=chance.randrange(chance.choice((10, 40, reach)))))
        else:
            kills.append(Kill(seconds=chance.random() ** 2 * 0.03))
    return kills


def one_life(number: int, folder: Path) -> int:
    """Life `number` of a campaign, in a folder of its own that is removed afterwards. Returns its kills."""
    chance = random.Random(number)
    scenario = SCENARIOS[chance.choice(sorted(SCENARIOS))]
    home = Path(tempfile.mkdtemp(prefix="inkstick-", dir=folder))
    try:
        return live(scenario, random_kills(chance, scenario), home, sqlite=chance.random() < 0.25)
    finally:
        shutil.rmtree(home)


def campaign(kills: int, seed: int, first: int, say: Callable[[str], None], *, folder: Path) -> Counter[str]:
    """Lives until so many processes were killed. Counts crashes, lives, and violations by kind."""
    counts: Counter[str] = Counter()
    number, spoke = seed * 10_000_000 + first, time.monotonic()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    while counts["crashes"] < kills and not stopped:
        try:
            counts["crashes"] += one_life(number, folder)
        except Violation as violation:
            counts[violation.kind] += 1
            say(f"killed life {number}: {violation}")
        counts["lives"] += 1
        number += 1
        if time.monotonic() - spoke > 30:
            spoke = time.monotonic()
            say(f"{counts['crashes']:,} kills at life {number}")
    return counts
