"""The medium's EFI system partition, from which UEFI starts: it lies outside of the ISO's files, as their copy.

On a stick a person may write into it (their `inkstick.toml`, what Windows leaves); what starts a computer is only ours.
"""

from __future__ import annotations

import struct
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from inkstick_image import hashes
from inkstick_image.errors import ImageError
from inkstick_image.tools import run

TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_SECTOR = 512
_LOOKED_INTO = ("boot/", ".disk/", "live/")
"""Where GRUB looks for what comes next: on the ISO, never here."""


def offset(device: Path) -> int | None:
    """Where the partition begins, in bytes. None: the partition table names none."""
    with device.open("rb", buffering=0) as file:
        file.seek(_SECTOR)
        header = file.read(_SECTOR)
        if len(header) < _SECTOR or header[:8] != b"EFI PART":
            return None
        table, count, size = struct.unpack_from("<QII", header, 72)
        if not (size >= 128 and count * size <= 1 << 20):
            return None
        file.seek(table * _SECTOR)
        entries = file.read(count * size)
    for at in range(0, len(entries) - size + 1, size):
        if uuid.UUID(bytes_le=entries[at : at + 16]) == uuid.UUID(TYPE):
            return int(struct.unpack_from("<Q", entries, at + 32)[0]) * _SECTOR
    return None


def differences(device: Path, sums: Mapping[str, str]) -> list[str]:
    """What of this partition is not as `sums` (path on the ISO → sha256) says: missing, changed, or not ours."""
    at = offset(device)
    if at is None:
        return ["the EFI partition"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            run(["mcopy", "-s", "-n", "-Q", "-i", f"{device}@@{at}", "::", folder], env={"MTOOLS_SKIP_CHECK": "1"})
        except ImageError:
            return ["the EFI partition"]
        found = dict(_starting(Path(folder)))
    wanted = {name.lower(): sums[name] for name in sums if _ours(name.lower())}
    names = sorted({*found, *wanted})
    return [f"{name} (EFI partition)" for name in names if found.get(name) != wanted.get(name)]


def _starting(folder: Path) -> Iterator[tuple[str, str]]:
    """Path in small letters (FAT does not tell them from others) and sha256 of the files that matter here."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix().lower()
        if path.is_file() and (_ours(name) or name.startswith(_LOOKED_INTO)):
            yield name, hashes.of_file(path)


def _ours(name: str) -> bool:
    """What starts a computer, or a key that is offered to be enrolled."""
    return name.startswith("efi/") or ("/" not in name and name.endswith((".cer", ".der")))
