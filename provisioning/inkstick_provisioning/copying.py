"""Files copied so that a cut at any moment leaves a whole file or none: hidden name, fsync, rename, folder fsynced.

What a cut leaves under a hidden name, `sweep` takes away: nobody else sees it, and it may be as large as a document is.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from inkstick.store.disk import rename_noreplace

PIECE = 1 << 20
MODE = 0o640
LONGEST = 255
"""Bytes of a name, on every file system here."""
_PART = re.compile(r"\..+\.(\d+)\.part", re.DOTALL)


def copy(source: Path, target: Path, owner: int = -1) -> Path:
    """`source` durably at `target`, or beside it as "name (2)" where another file has the name; where that file is
    this one, nothing is done. The path that it has. Symbolic links are not followed. Raises OSError.

    `owner`: user and group of what is made."""
    with opened(source) as file:
        return pour(file, target, owner)


def opened(source: Path) -> BinaryIO:
    """For reading; no link, and no pipe that would hold us up."""
    return os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0)


class Source(Protocol):
    """What is read to its end: an empty answer is the end."""

    def read(self, size: int, /) -> bytes: ...


def pour(file: Source, target: Path, owner: int = -1) -> Path:
    """The same for an open file."""
    part = target.with_name(_fitted(f".{target.name}", f".{os.getpid()}.part"))
    try:
        _fill(file, part, owner)
        for place in names(target):
            if os.path.lexists(place):
                if _same(part, place):
                    return place
                continue
            rename_noreplace(part, place)
            sync_folder(place.parent)
            return place
    finally:
        part.unlink(missing_ok=True)
    raise AssertionError("names never end")


def is_part(name: str) -> bool:
    """Whether it is a hidden name of ours, under which a file is being copied, or was when the power went."""
    return _PART.fullmatch(name) is not None


def sweep(folder: Path) -> None:
    """Remove what processes that are no more left below it. Links are not followed."""
    for path in () if folder.is_symlink() else folder.rglob(".*.part"):
        match = _PART.fullmatch(path.name)
        if match and not _runs(int(match[1])):
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def make_folder(folder: Path, top: Path, owner: int = -1) -> None:
    """`folder` and what is missing above it, below `top`, each durable in its parent. A link to a folder is none: who
    knows where it leads. Raises OSError."""
    if folder == top:
        return
    if folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if folder.is_dir():
        make_folder(folder.parent, top, owner)
        return
    make_folder(folder.parent, top, owner)
    folder.mkdir(mode=0o750, exist_ok=True)
    os.chown(folder, owner, owner)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill(file: Source, part: Path, owner: int) -> None:
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, MODE), "wb") as out:
        while piece := file.read(PIECE):
            out.write(piece)
        out.flush()
        os.fchown(out.fileno(), owner, owner)
        os.fsync(out.fileno())


def names(target: Path) -> Iterator[Path]:
    """The path itself, then "name (2)" and so on, without end."""
    yield target
    number = 2
    while True:
        yield target.with_name(_fitted(target.stem, f" ({number}){target.suffix}"))
        number += 1


def _fitted(start: str, end: str) -> str:
    """Both as one name, the first cut where the whole would be longer than names may be."""
    if len(os.fsencode(start + end)) <= LONGEST:
        return start + end
    return os.fsencode(start)[: LONGEST - len(os.fsencode(end))].decode(errors="ignore") + end


def _same(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes; a link or a folder is no file."""
    if other.is_symlink() or not other.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        while piece := a.read(PIECE):
            if piece != b.read(PIECE):
                return False
    return True
