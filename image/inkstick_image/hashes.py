"""Hashes of files, folders and values: the names of the layers in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


def of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_value(value: object) -> str:
    """Of anything that JSON can say, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def of_tree(root: Path, *, skip: Iterable[str] = ("__pycache__",)) -> dict[str, str]:
    """Path below `root` → mode and hash (or link target), for every file; folders count only by what they hold."""
    found = {}
    for path in sorted(root.rglob("*")):
        if any(part in skip for part in path.parts):
            continue
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"link {path.readlink()}"
        elif path.is_file():
            found[name] = f"{'x' if path.stat().st_mode & 0o100 else '-'} {of_file(path)}"
    return found
