"""The appliance's keeper as far as a page meets it: its own dialogue and its own files, without a machine to set up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from inkstick_provisioning import firststart, requests, status
from inkstick_provisioning.firststart import Dialogue, Situation, Step
from inkstick_provisioning.moment import Clock
from inkstick_provisioning.network import Port
from inkstick_provisioning.requests import Asked
from inkstick_provisioning.status import Status, Stick
from inkstick_provisioning.volume import Offer, Refusal, State, Survey, Where

PLACE = Offer(Where.STICK, State.FREE, "/dev/sda", 60 * 10**9, "Kingston DataTraveler, 64 GB")
REFUSED = Refusal("/dev/nvme0n1", "SAMSUNG, 512 GB", "It holds data of somebody else (BitLocker).")
FRESH = Situation(
    Survey((), (PLACE, Offer(Where.MEMORY, State.FREE)), (REFUSED,)), Clock(2e9, 1e9, True), (Port("e0"),)
)


@dataclass
class Keeper:
    """`run`: where it tells. `taken`: every request, in order. `work`: set when the choices may be carried out."""

    run: Path
    requests: Path
    dialogue: Dialogue = field(default_factory=lambda: firststart.begin(FRESH))
    sticks: tuple[Stick, ...] = ()
    number: int = 0
    taken: list[Asked] = field(default_factory=list)
    work: asyncio.Event = field(default_factory=asyncio.Event)
    secret: str = ""

    def tell(self) -> None:
        shown = asdict(firststart.screen(self.dialogue))
        told = {**shown, "number": self.number, "language": self.dialogue.wishes.language}
        status.write(self.run / "first-start.json", told)
        asks = self.dialogue.step is not Step.DONE
        status.save(self.run / "status.json", Status(kept=not asks, sticks=self.sticks, question=asks))

    def tick(self) -> None:
        for asked in requests.take(self.requests, requests.PAGE):
            self.taken.append(asked)
            if asked.what == "answer" and asked.number == self.number:
                self.dialogue = firststart.answer(self.dialogue, asked.value)
                self.number += 1
        if self.dialogue.step is Step.WORKING and self.work.is_set():
            self.secret = self.dialogue.secret
            self.dialogue = firststart.finished(self.dialogue)
            self.number += 1
        self.tell()

    async def keep(self) -> None:
        while True:
            self.tick()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def keeper(run: Path, data: Path) -> AsyncIterator[Keeper]:
    """At work until the block ends. `data`: the data folder whose requests it takes."""
    run.mkdir(parents=True, exist_ok=True)
    found = Keeper(run, data / "state/requests")
    found.tell()
    task = asyncio.create_task(found.keep())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.wait([task])
