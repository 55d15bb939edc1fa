"""What this computer can read with: facts in, a verdict in plain words out. Pure; `machine.py` gathers the facts.

The graphics card is judged by what can be known without its driver too (PCI id, firmware, enrolled keys), because the
driver not being there is the very thing that has to be explained. Whatever the verdict is, documents are read:
without a usable card by the processor.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

NVIDIA, INTEL, AMD = 0x10DE, 0x8086, 0x1002
GIB = 1 << 30
CLASSES = (12, 16, 24, 48)
"""Memory classes in GB. A card's own figure is a little below what its box says: 11.6 GiB is 12 GB."""
SLACK = 0.92
SECURE_BOOT = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


class Generation(StrEnum):
    """Of an NVIDIA card, by its PCI id."""

    OLDER = "older"
    MAXWELL = "Maxwell"
    PASCAL = "Pascal"
    VOLTA = "Volta"
    TURING = "Turing"
    AMPERE = "Ampere"
    ADA = "Ada"
    HOPPER = "Hopper"
    BLACKWELL = "Blackwell"
    UNKNOWN = "unknown"


_RANGES = (
    (0x0000, 0x133F, Generation.OLDER),
    (0x1340, 0x15EF, Generation.MAXWELL),
    (0x15F0, 0x15FF, Generation.PASCAL),
    (0x1600, 0x1AFF, Generation.MAXWELL),
    (0x1B00, 0x1D7F, Generation.PASCAL),
    (0x1D80, 0x1DFF, Generation.VOLTA),
    (0x1E00, 0x1FFF, Generation.TURING),
    (0x2080, 0x20FF, Generation.AMPERE),
    (0x2100, 0x21FF, Generation.TURING),
    (0x2200, 0x22FF, Generation.AMPERE),
    (0x2300, 0x23FF, Generation.HOPPER),
    (0x2400, 0x25FF, Generation.AMPERE),
    (0x2600, 0x28FF, Generation.ADA),
    (0x2900, 0x2FFF, Generation.BLACKWELL),
    (0x3180, 0x31FF, Generation.BLACKWELL),
)
_DRIVER = {Generation.AMPERE: 525, Generation.ADA: 525, Generation.HOPPER: 575, Generation.BLACKWELL: 580}
"""The least driver branch with which the engine's kernels run; a generation that is not here is too old for them."""

OLDEST = (8, 0)
"""Compute capability that the engine's kernels need."""
_BY_CAPABILITY = (((10, 0), 580), ((9, 0), 575), ((8, 0), 525))


class Finding(StrEnum):
    """The verdict's kind. READY: the engine can use the card."""

    READY = "ready"
    SMALL = "small"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    LOCKED = "locked"
    NO_DRIVER = "no_driver"
    NOT_AUTHORISED = "not_authorised"
    OTHER_MAKER = "other_maker"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Pci:
    """A display device: vendor, device and class (0x0300 VGA, 0x0302 3D), as numbers. `removable`: an external one."""

    vendor: int
    device: int
    kind: int = 0x0300
    removable: bool = False

    @property
    def generation(self) -> Generation:
        return generation(self.device) if self.vendor == NVIDIA else Generation.UNKNOWN


@dataclass(frozen=True, slots=True)
class Driven:
    """A card that its driver answers for, by nvidia-smi. `memory`: bytes. `driver`: its branch."""

    name: str
    memory: int
    capability: tuple[int, int]
    driver: int


@dataclass(frozen=True, slots=True)
class Thunderbolt:
    """A device on the Thunderbolt bus that waits for permission, or has it."""

    id: str
    name: str
    authorised: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is looked at. `driver`: the branch in the image (550), 0 in an image without one. `secure_boot`: None
    where the firmware does not say (BIOS). `enrolled`: our key is among the firmware's or the machine owner's keys.
    `thunderbolt`: external devices that may be graphics cards. `chassis`: DMI's number (8 to 10, 14, 31, 32: portable).
    `tried`: what became of the driver (ready, none, locked, failed), "" while it has not been tried yet.
    """

    memory: int = 0
    cores: int = 1
    displays: tuple[Pci, ...] = ()
    driven: tuple[Driven, ...] = ()
    driver: int = 550
    secure_boot: bool | None = None
    enrolled: bool = False
    thunderbolt: tuple[Thunderbolt, ...] = ()
    product: str = ""
    chassis: int = 0
    battery: bool = False
    tried: str = "failed"


@dataclass(frozen=True, slots=True)
class Advice:
    """`sentence`: what is so. `action`: what a person can do, "" where there is nothing. Both English; `values` fill
    their placeholders."""

    sentence: str
    action: str = ""
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`memory_class`: in GB, None where the card cannot be used. `hybrid`: the picture comes from another chip, so that
    the card is free for reading. `notes`: more advice, of the whole machine."""

    finding: Finding
    card: str
    advice: Advice
    memory_class: int | None = None
    hybrid: bool = False
    portable: bool = False
    notes: tuple[Advice, ...] = ()

    @property
    def usable(self) -> bool:
        return self.finding is Finding.READY


def generation(device: int) -> Generation:
    """Of an NVIDIA device id."""
    return next((name for low, high, name in _RANGES if low <= device <= high), Generation.UNKNOWN)


def memory_class(memory: int) -> int | None:
    """The largest class that so many bytes fill; None below the smallest."""
    fitting = [size for size in CLASSES if memory >= SLACK * size * GIB]
    return max(fitting, default=None)


def judge(facts: Facts) -> Verdict:
    """The verdict on one computer."""
    finding, card, advice, size = _card(facts)
    return Verdict(
        finding, card, advice, size, hybrid=_hybrid(facts), portable=_portable(facts), notes=tuple(_notes(facts))
    )


_Judged = tuple[Finding, str, Advice, int | None]


def _card(facts: Facts) -> _Judged:
    if facts.driven:
        return _driven(max(facts.driven, key=lambda card: card.memory))
    ours = [pci for pci in facts.displays if pci.vendor == NVIDIA]
    if ours:
        return _undriven(facts, max(ours, key=lambda pci: _ORDER.index(pci.generation)))
    waiting = [device for device in facts.thunderbolt if not device.authorised]
    if waiting:
        return Finding.NOT_AUTHORISED, waiting[0].name, _waiting(waiting[0]), None
    if any(pci.vendor == AMD and not pci.removable for pci in facts.displays) and _discrete_amd(facts):
        return Finding.OTHER_MAKER, "AMD", _AMD, None
    return Finding.NONE, "", _NONE, None


_ORDER = tuple(Generation)


def _driven(card: Driven) -> _Judged:
    size = memory_class(card.memory)
    values = {"card": card.name, "memory": f"{card.memory / GIB:.0f} GB"}
    if card.capability < OLDEST:
        return Finding.TOO_OLD, card.name, _old(values), None
    needed = next((branch for least, branch in _BY_CAPABILITY if card.capability >= least), 0)
    if card.driver < needed:
        return Finding.TOO_NEW, card.name, _new({**values, "name": str(needed)}), None
    if size is None:
        return Finding.SMALL, card.name, _small(values), None
    advice = Advice("The graphics card reads the pages: {card}, {memory}.", values=values)
    return Finding.READY, card.name, advice, size


def _undriven(facts: Facts, pci: Pci) -> _Judged:
    """A card that no driver answers for: why not, in the order in which a person can do something about it."""
    card = f"NVIDIA {pci.generation.value} ({pci.device:04x})"
    values = {"card": card}
    needed = _DRIVER.get(pci.generation)
    if pci.generation is Generation.UNKNOWN:
        return Finding.TOO_NEW, card, _unknown(values), None
    if needed is None:
        return Finding.TOO_OLD, card, _old(values), None
    if facts.driver == 0:
        return Finding.NO_DRIVER, card, _edition(values), None
    if needed > facts.driver:
        return Finding.TOO_NEW, card, _new({**values, "name": str(needed)}), None
    if facts.tried == "locked" or (facts.secure_boot and not facts.enrolled):
        return Finding.LOCKED, card, _locked(values), None
    return Finding.NO_DRIVER, card, _silent(values) if facts.tried else _starting(values), None


def _small(values: dict[str, str]) -> Advice:
    return Advice(
        "The graphics card has too little memory to read with: {card}, {memory}. The processor reads the pages.",
        "Nothing needs to be done. A card with 12 GB or more would be quicker.",
        values,
    )


def _old(values: dict[str, str]) -> Advice:
    return Advice(
        "The graphics card is too old for the reading engine: {card}. The processor reads the pages.",
        "Nothing needs to be done. A computer with an RTX 30 or RTX 40 card would be quicker.",
        values,
    )


def _new(values: dict[str, str]) -> Advice:
    return Advice(
        "The graphics card is too new for this image's driver: {card} needs driver {name}. The processor reads.",
        "Ask whoever made this stick for one with the driver profile cuda13.",
        values,
    )


def _unknown(values: dict[str, str]) -> Advice:
    return Advice(
        "This image does not know the graphics card: {card}. The processor reads the pages.",
        "Ask whoever made this stick for a newer one.",
        values,
    )


def _edition(values: dict[str, str]) -> Advice:
    return Advice(
        "There is a graphics card, {card}, but this edition reads with the processor only.",
        "Start the gpu edition to use the card.",
        values,
    )


def _locked(values: dict[str, str]) -> Advice:
    return Advice(
        "The graphics card is locked by Secure Boot: {card}. Its driver's key is not enrolled on this computer.",
        "Start again and choose 'enrol key' in the boot menu, once per computer; or turn Secure Boot off.",
        values,
    )


def _starting(values: dict[str, str]) -> Advice:
    return Advice("The graphics card's driver is being started: {card}. The processor reads meanwhile.", "", values)


def _silent(values: dict[str, str]) -> Advice:
    return Advice(
        "The graphics card does not answer: {card}. The processor reads the pages.",
        "Switch the computer off, wait ten seconds, and start it again. Choose 'safe graphics' if it stays so.",
        values,
    )


def _waiting(device: Thunderbolt) -> Advice:
    return Advice(
        "A device is plugged in by Thunderbolt: {card}. It may be a graphics card; it is used only if you say so.",
        "Press G to use it, if it is yours.",
        {"card": device.name},
    )


_AMD = Advice("The graphics card is AMD's; the engine needs NVIDIA's. The processor reads the pages.")
_NONE = Advice("There is no NVIDIA graphics card. The processor reads the pages.")


def _discrete_amd(facts: Facts) -> bool:
    """An AMD chip beside another one is a card of its own; alone it is the processor's."""
    return len(facts.displays) > 1


def _hybrid(facts: Facts) -> bool:
    vendors = {pci.vendor for pci in facts.displays if not pci.removable}
    return NVIDIA in vendors and bool(vendors & {INTEL, AMD})


def _portable(facts: Facts) -> bool:
    return facts.battery or facts.chassis in (8, 9, 10, 14, 30, 31, 32)


def _notes(facts: Facts) -> list[Advice]:
    notes = []
    if facts.memory < 3.5 * GIB:
        values = {"memory": f"{facts.memory / GIB:.1f} GB"}
        notes.append(Advice("This computer has little memory: {memory}. Large documents take long.", values=values))
    if any(pci.removable and pci.vendor == NVIDIA for pci in facts.displays):
        notes.append(Advice("The graphics card is an external one. Do not unplug it while documents are read."))
    return notes


# ---- the facts, from the kernel's and the tools' own words


def display(vendor: str, device: str, kind: str, removable: str = "") -> Pci | None:
    """From the files of one PCI device in /sys; None for what is no display."""
    try:
        number = int(kind, 16) >> 8
        found = Pci(int(vendor, 16), int(device, 16), number, removable.strip() == "removable")
    except ValueError:
        return None
    return found if number in (0x0300, 0x0302, 0x0380) else None


def driven(csv: str) -> tuple[Driven, ...]:
    """From `nvidia-smi --query-gpu=name,memory.total,compute_cap,driver_version --format=csv,noheader,nounits`."""
    cards = []
    for line in csv.splitlines():
        match = re.fullmatch(r"\s*(.+?),\s*(\d+),\s*(\d+)\.(\d+),\s*(\d+)\.[\d.]+\s*", line)
        if match:
            capability = (int(match[3]), int(match[4]))
            cards.append(Driven(match[1], int(match[2]) << 20, capability, int(match[5])))
    return tuple(cards)


def secure_boot(variable: bytes | None) -> bool | None:
    """From the firmware's variable as efivarfs gives it: four bytes of attributes, then 0 or 1. None: no firmware that
    has it."""
    if variable is None or len(variable) != 5:
        return None
    return variable[4] == 1


def enrolled(lists: Sequence[bytes], certificate: bytes) -> bool:
    """Whether a certificate (DER) is in one of the EFI signature lists (db, MokListRT), itself or by its hash."""
    return any(certificate in found or hashlib.sha256(certificate).digest() in found for found in lists if certificate)
