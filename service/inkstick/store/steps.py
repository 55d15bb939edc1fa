"""Sequences of steps that every durable protocol is made of."""

from __future__ import annotations

from pathlib import Path

from inkstick.store.disk import Disk


def write_atomic(disk: Disk, path: Path, data: bytes, at: str) -> None:
    """After a crash `path` holds the old bytes or the new, never a mixture; when this returns, the new."""
    new = path.with_name(path.name + ".tmp")
    disk.write(new, data, at=f"{at}.write")
    disk.sync_file(new, at=f"{at}.sync")
    disk.rename(new, path, at=f"{at}.rename")
    disk.sync_dir(path.parent, at=f"{at}.sync_folder")


def make_dirs(disk: Disk, folder: Path, at: str) -> None:
    """`folder` and what it lies in, each durable before the next is made in it."""
    missing = []
    while not disk.exists(folder):
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        disk.make_dir(new, at=f"{at}.make")
        disk.sync_dir(new.parent, at=f"{at}.sync")


def sync_tree(disk: Disk, folder: Path, at: str) -> None:
    """All that lies in `folder`, then `folder` itself, on the disk when this returns."""
    for name in disk.list(folder):
        if disk.stat(folder / name).kind == "folder":
            sync_tree(disk, folder / name, at)
        else:
            disk.sync_file(folder / name, at=f"{at}_file")
    disk.sync_dir(folder, at=f"{at}_folder")
