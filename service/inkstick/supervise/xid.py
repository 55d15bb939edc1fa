"""What the kernel says of the graphics card: Xid messages and what follows from each. Pure, but for the reader.

    NVRM: Xid (PCI:0000:01:00): 79, pid=1234, GPU has fallen off the bus.

A card can also be lost without any Xid; then only the words tell. Meanings after NVIDIA's Xid catalogue: what a program
did wrong, or lost, is over once the engine is started anew; what the card itself cannot leave needs a reset, which on a
consumer card means the machine; a lost card needs the machine's power switched off.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

KMSG = Path("/dev/kmsg")
DEVICE = os.makedev(1, 11)  # the kernel's admin-guide/devices.txt
_XID = re.compile(r"NVRM: Xid \(?(?:PCI:)?([0-9a-fA-F:.]+)\)?: (\d{1,4})\b,?\s*(.*)")
_NOTHING = " to 0x0 "
"""The end of what an Xid 154 asked for: "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"."""
_LOST = re.compile(r"NVRM:.*?(?:PCI:|GPU )([0-9a-fA-F]{4}:[0-9a-fA-F:.]+)?.*?(?:fallen off the bus|GPU is lost)")


class Meaning(StrEnum):
    """What to do: nothing; start the engine anew; wait for a reset of the card (a restart of the machine); the card is
    gone until the machine was switched off."""

    IGNORE = "ignore"
    RESTART = "restart"
    RESET = "reset"
    GONE = "gone"


MEANINGS: dict[int, tuple[Meaning, str]] = {
    13: (Meaning.RESTART, "an error in a computation"),
    31: (Meaning.RESTART, "an access to memory that is not there"),
    32: (Meaning.RESTART, "a damaged command"),
    43: (Meaning.IGNORE, "a program was stopped after an error of its own"),
    45: (Meaning.IGNORE, "what a stopped program left was cleared up"),
    48: (Meaning.RESET, "a memory error that could not be corrected"),
    61: (Meaning.RESET, "the card's own controller stopped"),
    62: (Meaning.RESET, "the card's own controller stopped"),
    63: (Meaning.IGNORE, "a bad row of memory was replaced"),
    64: (Meaning.RESET, "a bad row of memory could not be replaced"),
    68: (Meaning.RESTART, "an error in a computation"),
    69: (Meaning.RESTART, "an error in a computation"),
    74: (Meaning.RESET, "an error on the link between cards"),
    79: (Meaning.GONE, "the card has fallen off the bus"),
    92: (Meaning.IGNORE, "many corrected memory errors"),
    94: (Meaning.RESTART, "a memory error that hit one program"),
    95: (Meaning.RESET, "a memory error that hit all programs"),
    109: (Meaning.RESTART, "a computation that could not be switched"),
    119: (Meaning.RESET, "the card's own processor does not answer"),
    120: (Meaning.RESET, "the card's own processor failed"),
    140: (Meaning.RESET, "a memory error that was not mended"),
    143: (Meaning.RESET, "the card could not be initialised"),
    154: (Meaning.RESET, "the card asks to be reset"),
}


@dataclass(frozen=True, slots=True)
class Xid:
    """`number` None: the card was lost without one. `device`: its PCI address, "" if the line has none."""

    number: int | None
    device: str
    meaning: Meaning
    detail: str

    @property
    def sentence(self) -> str:
        """For people: what happened and what follows."""
        name = "" if self.number is None else f" (Xid {self.number})"
        then = {
            Meaning.IGNORE: "Nothing needs to be done.",
            Meaning.RESTART: "The engine is started again.",
            Meaning.RESET: "The card needs a reset: restart this machine. The CPU engine reads meanwhile.",
            Meaning.GONE: "Switch this machine off and on again. The CPU engine reads meanwhile.",
        }[self.meaning]
        return f"Graphics card: {self.detail}{name}. {then}"


def parse(record: str) -> Xid | None:
    """What a record of the kernel's log says of an NVIDIA card; None if nothing. An unknown number is ignored, and
    told as such."""
    text = record.partition(";")[2] if re.match(r"\d+,\d+,", record) else record
    if (found := _XID.search(text)) is not None:
        number = int(found[2])
        meaning, detail = MEANINGS.get(number, (Meaning.IGNORE, "an event of a kind that is not known here"))
        lost = "fallen off the bus" in found[3] or "GPU is lost" in found[3]
        if number == 154 and _NOTHING in found[3]:
            meaning, detail = Meaning.IGNORE, "the card no longer asks for anything"
        return Xid(number, found[1], *(MEANINGS[79] if lost else (meaning, detail)))
    if (found := _LOST.search(text)) is not None:
        return Xid(None, found[1] or "", *MEANINGS[79])
    return None


def worst(records: list[str]) -> Xid | None:
    """The gravest thing that `records` say of a card, the first of equals."""
    order = list(Meaning)
    found = [xid for record in records if (xid := parse(record)) is not None]
    return max(found, key=lambda xid: order.index(xid.meaning), default=None)


class KernelLog:
    """The kernel's log from now on, never waited for. Where it may not be read, nothing is ever new. `handle`: open
    already."""

    def __init__(self, path: Path = KMSG, handle: int | None = None) -> None:
        self._handle = handle
        with contextlib.suppress(OSError):
            if self._handle is None:
                self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.set_blocking(self._handle, False)
            with contextlib.suppress(OSError):  # a pipe has no end to go to
                os.lseek(self._handle, 0, os.SEEK_END)

    @property
    def readable(self) -> bool:
        return self._handle is not None

    def new(self) -> list[str]:
        """The records since the last look."""
        records: list[str] = []
        while self._handle is not None and len(records) < 1000:
            try:
                data = os.read(self._handle, 8192)
            except BrokenPipeError:
                continue  # some were overwritten before they were read; go on with the rest
            except OSError:
                break
            if not data:
                break
            records += data.decode("utf-8", "replace").splitlines()
        return records

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def kernel_log(path: Path = KMSG) -> KernelLog:
    """The one that this process was given as its input (a unit that is kept from the kernel's log cannot open it), else
    the one at `path`."""
    with contextlib.suppress(OSError):
        if os.fstat(0).st_rdev == DEVICE:
            return KernelLog(handle=0)
    return KernelLog(path)
