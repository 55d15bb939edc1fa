"""image/debs.lock: every Debian package file of an image, by hash. One line each: set, file name, sha256."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from inkstick_image.debs import Deb
from inkstick_image.errors import ImageError

_HEAD = "# Written by `./build.sh fetch --update-lock`: set, package file (name_version_architecture), sha256.\n"


def text(sets: Mapping[str, Sequence[Deb]]) -> str:
    """The whole file. `sets`: base, builder … → their packages."""
    lines = [f"{name} {deb.name} {deb.sha256}\n" for name in sorted(sets) for deb in sorted(sets[name], key=_name)]
    return _HEAD + "".join(lines)


def updated(locked: str, sets: Mapping[str, Sequence[Deb]]) -> str:
    """The whole file with these sets written anew; sets that are not among them stay as they were."""
    kept = [line for line in _lines(locked) if line.split()[0] not in sets]
    return _HEAD + "".join(f"{line}\n" for line in sorted([*kept, *_lines(text(sets))], key=_place))


def differences(locked: str, sets: Mapping[str, Sequence[Deb]]) -> list[str]:
    """What is not as the lock says, a line each: `+` is new, `-` is no longer there."""
    before = {line for line in _lines(locked) if line.split()[0] in sets}
    now = set(_lines(text(sets)))
    return [f"+ {line}" for line in sorted(now - before)] + [f"- {line}" for line in sorted(before - now)]


def check(path: Path, sets: Mapping[str, Sequence[Deb]]) -> None:
    """Raises ImageError unless the packages are exactly those of the lock."""
    found = differences(path.read_text(encoding="utf-8") if path.exists() else "", sets)
    if found:
        shown = "\n  ".join(found[:10])
        raise ImageError(
            f"{len(found)} packages are not as {path.name} says:\n  {shown}",
            "Debian has newer ones: ./build.sh fetch --update-lock takes them, and git shows what changed.",
        )


def _lines(whole: str) -> list[str]:
    return [line for line in whole.splitlines() if line and not line.startswith("#")]


def _place(line: str) -> tuple[str, ...]:
    return tuple(line.split()[:2])


def _name(deb: Deb) -> str:
    return deb.name
