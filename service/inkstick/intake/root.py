"""The watched folder itself: is it the one that was there before, and can nothing that we write come back into it?

A folder that is a mount point shows an empty directory when its file system is gone. That must read as "unavailable",
not as "everything was deleted". A small hidden file with a random name in it (`.inkstick-id`), remembered in state/,
tells the two apart; where it cannot be written (read-only shares) device and inode must do.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inkstick.config import DataFolder
from inkstick.errors import Unavailable, UsageError
from inkstick.intake.scan import OPEN_FILE, FolderId

MARK_NAME: Final = ".inkstick-id"
MARK_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Root:
    """What identifies a watched folder at one moment. `mark` is the content of its hidden file, None without one and
    empty for one that a power cut tore: a bare mount point has none at all."""

    dev: int
    ino: int
    mark: str | None


def same_root(known: Root, now: Root, *, has_files: bool) -> bool:
    """Whether `now` is the folder `known`, or has become the inbox in its stead because there are files in it.

    An empty folder of another identity is taken for the bare mount point of a file system that is gone.
    """
    if now.mark == "" or (now.mark is not None and now.mark == known.mark):
        return True
    return (known.dev, known.ino) == (now.dev, now.ino) or has_files


def read_root(path: Path) -> Root:
    """The folder's identity now. Raises Unavailable."""
    try:
        status = path.stat()
    except OSError as error:
        raise Unavailable(f"The folder {path.name} is not there: {error.strerror}.") from error
    return Root(status.st_dev, status.st_ino, _read_mark(path / MARK_NAME))


def mark_root(path: Path, remembered: Path) -> Root:
    """Give the folder a mark if it has none, note it in `remembered`, and return its identity. Raises Unavailable."""
    root = read_root(path)
    if not root.mark:
        with suppress(OSError):  # read-only: device and inode must do
            if root.mark == "":
                (path / MARK_NAME).unlink()
            _write_new(path / MARK_NAME, secrets.token_hex(MARK_BYTES // 2))
        root = read_root(path)
    if root.mark and _read_mark(remembered) != root.mark:
        with suppress(OSError):  # only a hint for the next start
            remembered.write_text(root.mark)
    return root


def remembered_root(remembered: Path) -> Root | None:
    """The folder of the last run, known by its mark alone: device numbers do not survive a reboot."""
    mark = _read_mark(remembered)
    return Root(-1, -1, mark) if mark else None


def reserved_folders(folder: DataFolder) -> frozenset[FolderId]:
    """(device, inode) of the folders that we write, so that a scan can refuse them under any name."""
    found: set[FolderId] = set()
    for path in (folder.results, folder.done, folder.failed, folder.state):
        with suppress(OSError):
            status = path.stat()
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def guard_against_loops(folder: DataFolder) -> None:
    """Refuse a set-up in which results or originals would be dropped into the inbox again. Raises UsageError.

    Links are resolved first, and each folder above ours is compared with the inbox by device and inode, so that a link
    or a bind mount of the inbox under another name is seen too.
    """
    inbox = _identity(folder.inbox)
    for path in (folder.results, folder.done, folder.failed, folder.state):
        if _lies_in(path, inbox):
            raise UsageError(
                f"The folder {path.name} lies inside the watched inbox: results would be read again, for ever.",
                hint="Remove the link or mount that puts it there, or use another data folder.",
            )
        if _lies_in(folder.inbox, _identity(path)):
            raise UsageError(
                f"The inbox lies inside {path.name}, which belongs to Inkstick itself.",
                hint="Remove the link or mount that puts it there, or use another data folder.",
            )


def _lies_in(path: Path, outer: FolderId) -> bool:
    resolved = path.resolve()
    return any(_identity(step) == outer for step in (resolved, *resolved.parents))


def _identity(path: Path) -> FolderId:
    try:
        status = path.stat()
    except OSError as error:
        raise Unavailable(f"The folder {path.name} is not there: {error.strerror}.") from error
    return status.st_dev, status.st_ino


def _read_mark(path: Path) -> str | None:
    try:
        fd = os.open(path, OPEN_FILE)
    except OSError:
        return None
    try:
        return os.read(fd, MARK_BYTES).decode("ascii", "replace").strip("\0")
    except OSError:
        return None
    finally:
        os.close(fd)


def _write_new(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text.encode())
        with suppress(OSError):  # no disk is given up because of it
            os.fsync(fd)
    finally:
        os.close(fd)
