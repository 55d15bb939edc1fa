"""Firmware for graphics and network cards: of Debian's packages, what the kernel's modules for such cards ask for."""

from __future__ import annotations

import fnmatch
import lzma
import re
from collections.abc import Iterable
from pathlib import Path

FOLDERS = (
    "drivers/gpu/drm/i915",
    "drivers/gpu/drm/xe",
    "drivers/gpu/drm/amd",
    "drivers/net/ethernet",
    "drivers/net/usb",
)
PLACE = "usr/lib/firmware"
_ASKED = re.compile(rb"\x00firmware=([^\x00]+)")


def asked(modules: Iterable[bytes]) -> set[str]:
    """The names (and patterns) of firmware in modules' own descriptions."""
    return {name.decode() for module in modules for name in _ASKED.findall(b"\x00" + module)}


def kept(files: Iterable[str], names: Iterable[str]) -> set[str]:
    """Of the files (paths below the firmware folder) those that are asked for, packed ones too."""
    exact = {name for name in names if not re.search(r"[*?[]", name)}
    patterns = [name for name in names if name not in exact]
    found = set()
    for file in files:
        plain = re.sub(r"\.(xz|zst)$", "", file)
        if plain in exact or any(fnmatch.fnmatchcase(plain, pattern) for pattern in patterns):
            found.add(file)
    return found


def trim(tree: Path, kernel: str) -> str:
    """Take all other firmware out of `tree`, but for the processor's and licence texts; what is left, a line each."""
    root = tree / f"usr/lib/modules/{kernel}/kernel"
    modules = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.ko*"))]
    names = asked(_read(path) for path in modules)
    place = tree / PLACE
    files = {str(path.relative_to(place)): path for path in place.rglob("*") if path.is_file() or path.is_symlink()}
    files = {name: path for name, path in files.items() if not name.startswith(("intel-ucode", "amd-ucode"))}
    wanted = kept(files, names)
    for name in sorted(wanted):  # a link needs what it leads to
        target = files[name].resolve()
        if files[name].is_symlink() and target.is_relative_to(place):
            wanted.add(str(target.relative_to(place)))
    for name, path in files.items():
        if name not in wanted:
            path.unlink()
    for folder in sorted((path for path in place.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return "".join(f"{name}\n" for name in sorted(wanted))


def _read(module: Path) -> bytes:
    raw = module.read_bytes()
    return lzma.decompress(raw) if module.suffix == ".xz" else raw
