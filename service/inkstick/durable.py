"""Writing that survives a power cut: bytes synced, then renamed, then the folder synced."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def publish(part: Path, final: Path) -> None:
    """Make a finished file appear under its name, whole or not at all, and durably. Replaces what was there."""
    sync_file(part)
    part.replace(final)
    sync_folder(final.parent)


def write(path: Path, data: bytes) -> None:
    """Write a small file durably, replacing what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.new")
    part.write_bytes(data)
    publish(part, path)
    sync_folder(path.parent.parent)
