"""Sticks that are plugged in: which of them may hold documents, and how they are mounted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inkstick_provisioning.blocks import Block
from inkstick_provisioning.language import clean
from inkstick_provisioning.unattended import Usb
from inkstick_provisioning.volume import is_boot, is_ours

SYSTEMS = {"vfat": "vfat", "exfat": "exfat", "ntfs": "ntfs3", "ext4": "ext4", "ext3": "ext4", "ext2": "ext4"}
"""File systems that are mounted, and the kernel's driver for each; nothing else that a stick claims to be is."""
OTHERS = ("BitLocker", "crypto_LUKS", "apfs", "hfsplus", "btrfs", "xfs", "f2fs", "udf")
"""What people have on their sticks besides: it is not mounted, and that it cannot be read is told."""
_OWNED = ("vfat", "exfat", "ntfs3")
TRANSPORTS = ("usb", "mmc")
SAFE = "nosuid,nodev,noexec"
INBOX, RESULTS = "inkstick-inbox", "inkstick-results"


@dataclass(frozen=True, slots=True)
class Candidate:
    """`id`: the kernel's name of the part, as in sdb1. `system`: "" for one of the others. `name`: for people."""

    id: str
    device: str
    system: str
    name: str


def candidates(blocks: Sequence[Block]) -> tuple[Candidate, ...]:
    """Parts of removable media with a file system that we read, and those with one of the others; never the stick that
    we run from, nor a volume of ours, nor what is mounted already."""
    found: list[Candidate] = []
    for disk in blocks:
        if disk.kind != "disk" or disk.transport not in TRANSPORTS or is_boot(disk):
            continue
        known = (p for p in disk.everything() if p.filesystem in (*SYSTEMS, *OTHERS))
        parts = (p for p in known if not p.mounts and not is_ours(p))
        found += [_candidate(disk, part) for part in parts]
    return tuple(found)


def _candidate(disk: Block, part: Block) -> Candidate:
    name = clean(part.label, 40) or clean(disk.model, 40) or "USB"
    return Candidate(part.path.rpartition("/")[2], part.path, SYSTEMS.get(part.filesystem, ""), name)


def mount_command(candidate: Candidate, folder: str, owner: int, *, write: bool = False) -> list[str]:
    """Read-only unless results are carried back; nothing on it is ever run. `owner`: whose its files are, where the
    file system knows no owners."""
    options = [("rw" if write else "ro"), SAFE]
    if candidate.system in _OWNED:
        options.append(f"uid={owner},gid={owner},umask=0077")
    if candidate.system == "vfat":
        options.append("utf8=1")
    if candidate.system == "ext4" and not write:
        options.append("noload")  # a stick that was not closed: its journal is not replayed, nothing is written
    return ["mount", "-t", candidate.system, "-o", ",".join(options), candidate.device, folder]


def starts(usb: Usb, has_inbox: bool) -> bool:
    """Whether copying begins without a click."""
    return usb is Usb.INBOX and has_inbox
