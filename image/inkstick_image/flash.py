"""Write an ISO to a stick: only to a whole, removable, unmounted disk, and read back before it counts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inkstick_image.errors import ImageError
from inkstick_image.progress import Way
from inkstick_image.tools import run

BLOCK = 4 << 20
SYNCED = 64 << 20  # at a time: what waits in memory is not written, and would be told as if it were
SECTOR = 2048  # of ISO 9660
COMMAND = ("lsblk", "--json", "--bytes", "-o", "NAME,PATH,TYPE,SIZE,RM,HOTPLUG,RO,MODEL,MOUNTPOINTS")
"""Without NAME lsblk writes a flat list, the disk's partitions beside it and not inside."""


@dataclass(frozen=True, slots=True)
class Disk:
    """As `lsblk` tells it. `size` in bytes; `mounts`: where it or a part of it is mounted."""

    path: str
    kind: str
    size: int
    removable: bool
    read_only: bool
    model: str
    mounts: tuple[str, ...]


def parse(listed: str) -> Disk:
    """From `lsblk --json --bytes` of one device."""
    device: Mapping[str, Any] = json.loads(listed)["blockdevices"][0]
    mounts = tuple(_mounts(device))
    removable = bool(device["rm"]) or bool(device["hotplug"])
    return Disk(
        device["path"],
        device["type"],
        int(device["size"]),
        removable,
        bool(device["ro"]),
        (device["model"] or "").strip(),
        mounts,
    )


def _mounts(block: Mapping[str, Any]) -> Iterator[str]:
    """Of a block and of all that lies in it, however deep: an encrypted disk's file system is three steps down."""
    yield from (point for point in block.get("mountpoints") or [] if point)
    for inner in block.get("children") or []:
        yield from _mounts(inner)


def look(device: Path) -> Disk:
    if not device.exists() or not stat.S_ISBLK(device.stat().st_mode):
        raise ImageError(f"{device} is not a disk.", "Name the whole stick, such as /dev/sdb: see lsblk.")
    return parse(run([*COMMAND, device]))


def refuse(disk: Disk, needed: int) -> None:
    """Raises ImageError for whatever is no empty-handed stick."""
    reasons = (
        (disk.kind != "disk", f"{disk.path} is not a whole disk.", "Name the whole stick, not a partition."),
        (
            not disk.removable,
            f"{disk.path} is not a removable disk.",
            "Only sticks and cards are written: this looks built in.",
        ),
        (disk.read_only, f"{disk.path} is write-protected.", "Look for a switch on the stick."),
        (bool(disk.mounts), f"{disk.path} is in use: {', '.join(disk.mounts)}.", "Unmount it first."),
        (disk.size < needed, f"{disk.path} is too small.", f"It needs {needed / 1e9:.1f} GB."),
    )
    for bad, message, hint in reasons:
        if bad:
            raise ImageError(message, hint)


def write(iso: Path, device: Path, say: Callable[[str], None]) -> None:
    """Copy, sync, read back past the cache, compare. The device was looked at by the caller. Raises ImageError."""
    try:
        _write(iso, device, say)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(f"{device}: {reason}.", "Is it in use, was it pulled out, and are you root?") from error


def _write(iso: Path, device: Path, say: Callable[[str], None]) -> None:
    size = iso.stat().st_size
    wanted, way, waiting = hashlib.sha256(), Way("writing", size, say), 0
    # (for us alone: the kernel refuses a disk that was mounted after it was looked at)
    with iso.open("rb") as source, open(device, "r+b", buffering=0, opener=_alone) as target:
        while block := source.read(BLOCK):
            wanted.update(block)
            view = memoryview(block)
            while view:
                view = view[target.write(view) :]
            waiting += len(block)
            if waiting >= SYNCED:
                os.fdatasync(target.fileno())
                waiting = 0
            way.went(len(block))
        os.fsync(target.fileno())
        say("Written. Reading it back …")
        os.posix_fadvise(target.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        target.seek(0)
        found, way = hashlib.sha256(), Way("reading", size, say)
        left = size
        while left and (block := target.read(min(BLOCK, left))):
            found.update(block)
            left -= len(block)
            way.went(len(block))
    if left or found.digest() != wanted.digest():
        raise ImageError("What was read back is not what was written.", "The stick is faulty: take another one.")
    say("The stick holds exactly the image.")


def _alone(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL)


def extents(device: Path) -> dict[str, tuple[int, int]]:
    """File on the medium → where it begins and its size, in bytes. Nothing is mounted: no kernel driver is needed.
    Raises ImageError where it is not whole, OSError where it may not be read."""
    with device.open("rb"):
        pass
    try:
        listed = run(["xorriso", "-indev", f"stdio:{device}", "-find", "/", "-type", "f", "-exec", "report_lba", "--"])
    except ImageError as error:
        raise ImageError(
            f"What is on {device} is damaged, or cut short.", "Write the stick anew, or take another one."
        ) from error
    lines = re.findall(r"^File data lba:\s*\d+\s*,\s*(\d+)\s*,\s*\d+\s*,\s*(\d+)\s*,\s*'/(.*)'$", listed, re.MULTILINE)
    return {name: (int(lba) * SECTOR, int(size)) for lba, size, name in lines}


def contents(device: Path, where: tuple[int, int]) -> Iterator[bytes]:
    """The bytes of one file, in blocks. A block that cannot be read ends it early."""
    start, left = where
    with device.open("rb", buffering=0) as file:
        file.seek(start)
        with contextlib.suppress(OSError):
            while left and (block := file.read(min(BLOCK, left))):
                left -= len(block)
                yield block
