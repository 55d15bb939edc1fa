"""The disks of this machine, as `lsblk --json --bytes` tells them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SECTOR = 512
"""lsblk tells START in units of 512 bytes, whatever the device's own sectors are."""
COLUMNS = "NAME,PATH,TYPE,SIZE,START,FSTYPE,LABEL,PARTLABEL,PARTTYPE,PTTYPE,TRAN,RM,RO,MOUNTPOINTS,MODEL,VENDOR,SERIAL"
"""Without NAME lsblk writes a flat list: no partition would be inside its disk."""
COMMAND = ("lsblk", "--json", "--bytes", "--output", COLUMNS)


@dataclass(frozen=True, slots=True)
class Block:
    """A disk or a part of one. `size` and `start` in bytes; texts are "" where nothing is known.

    `kind`: disk part rom loop crypt dm …. `table`: gpt, dos or "". `transport`: usb nvme sata mmc …. `mounts`: where it
    is mounted. `inside`: partitions, and what is opened on top of it.
    """

    path: str
    kind: str
    size: int
    start: int = 0
    filesystem: str = ""
    label: str = ""
    name: str = ""
    type: str = ""
    table: str = ""
    transport: str = ""
    removable: bool = False
    read_only: bool = False
    mounts: tuple[str, ...] = ()
    model: str = ""
    serial: str = ""
    inside: tuple[Block, ...] = ()

    @property
    def end(self) -> int:
        """The byte after its last one, on the disk that it is a part of."""
        return self.start + self.size

    def everything(self) -> Iterator[Block]:
        """Itself and all that lies inside."""
        yield self
        for block in self.inside:
            yield from block.everything()


def parse(text: str) -> tuple[Block, ...]:
    """From lsblk's JSON. Raises ValueError where it is none."""
    found = json.loads(text)
    if not isinstance(found, dict) or not isinstance(found.get("blockdevices"), list):
        raise ValueError("not what lsblk writes")
    return tuple(_block(entry) for entry in found["blockdevices"])


def walk(blocks: tuple[Block, ...]) -> Iterator[Block]:
    """Every block, outer ones first."""
    for block in blocks:
        yield from block.everything()


def _block(entry: Mapping[str, Any]) -> Block:
    def text(key: str) -> str:
        return str(entry.get(key) or "").strip()

    return Block(
        path=text("path"),
        kind=text("type"),
        size=int(entry.get("size") or 0),
        start=int(entry.get("start") or 0) * SECTOR,
        filesystem=text("fstype"),
        label=text("label"),
        name=text("partlabel"),
        type=text("parttype").lower(),
        table=text("pttype"),
        transport=text("tran"),
        removable=bool(entry.get("rm")),
        read_only=bool(entry.get("ro")),
        mounts=tuple(str(point) for point in entry.get("mountpoints") or () if point),
        model=" ".join(part for part in (text("vendor"), text("model")) if part and not part.startswith("0x")),
        serial=text("serial"),
        inside=tuple(_block(inner) for inner in entry.get("children") or ()),
    )
