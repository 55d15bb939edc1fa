"""What this machine has to read with: NVIDIA cards by nvidia-smi, asked in a child of its own (it can hang)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inkstick.supervise.process import answer_of

QUERY = ("name", "memory.total", "compute_cap", "driver_version", "index")
SECONDS = 5.0
PATIENT_SECONDS = 60.0
"""For a driver that runs but gave no answer at once: a card that is not kept initialized takes seconds, and longer from
a slow stick."""
DRIVER = Path("/proc/driver/nvidia/version")
NVIDIA = "0x10de"

Run = Callable[[Sequence[str], float], str | None]
"""Run a command for at most so many seconds; its output, or None where it failed, hung or is not there."""


@dataclass(frozen=True, slots=True)
class Card:
    """`gib`: its memory. `capability`: compute capability. `driver`: the NVIDIA driver's branch (550 of 550.163.01).
    `number`: its place in the order of PCI addresses, which is nvidia-smi's."""

    name: str
    gib: float
    capability: tuple[int, int]
    driver: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """`cards` in the driver's order; none: everything runs on the CPU. `trouble`: why a card that is there is not."""

    cards: tuple[Card, ...] = ()
    trouble: str | None = None

    @property
    def card(self) -> Card | None:
        """The one that reads: the largest."""
        return max(self.cards, key=lambda card: card.gib, default=None)


def driven(driver: Path = DRIVER) -> bool:
    """Whether NVIDIA's driver is loaded, and so a card is meant to read."""
    return driver.exists()


def look(run: Run | None = None, *, seconds: float | None = None) -> Machine:
    """This machine, as nvidia-smi sees it within so many seconds (`SECONDS`)."""
    seconds = seconds or SECONDS
    command = ("nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits")
    if run is None and shutil.which(command[0]) is None:
        return Machine()
    output = (run or _run)(command, seconds)
    if output is None:
        return Machine(trouble=f"nvidia-smi failed or gave no answer within {seconds:.0f} s")
    return Machine(parse(output))


def parse(output: str) -> tuple[Card, ...]:
    """The cards in nvidia-smi's CSV; a line that is no card (an error, "[N/A]") is left out."""
    cards = []
    for line in output.splitlines():
        try:
            name, memory, capability, driver, number = (part.strip() for part in line.split(","))
            major, minor = (int(part) for part in capability.split("."))
            branch = int(driver.split(".")[0])
            cards.append(Card(name, float(memory) / 1024, (major, minor), branch, int(number)))
        except ValueError:
            continue
    return tuple(cards)


def pci_cards(devices: Path) -> list[str]:
    """PCI addresses of NVIDIA display controllers, with a driver or without, from sysfs (class 0x03…)."""
    found = []
    for device in sorted(devices.glob("*")):
        vendor, kind = device / "vendor", device / "class"
        if vendor.exists() and vendor.read_text().strip() == NVIDIA and kind.read_text().startswith("0x03"):
            found.append(device.name)
    return found


def _run(command: Sequence[str], seconds: float) -> str | None:
    done = answer_of(command, seconds)
    return done[1] if done is not None and done[0] == 0 else None
