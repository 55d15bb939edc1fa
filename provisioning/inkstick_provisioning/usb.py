"""Documents from a stick into the inbox, and results back onto it. Pulling the stick out in the middle loses nothing,
and what cannot be read or has no room keeps nobody else from being copied.

Each file is copied whole under a hidden name, fsynced and renamed (`copying.py`); then one line goes into the stick's
journal on the data volume, so that the same stick, put in again, goes on where it was. A cut between the two copies one
file twice, which is read once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from inkstick.config import DataFolder
from inkstick.errors import DiskFull, InkstickError, no_room
from inkstick.intake.identify import identify_file
from inkstick.intake.ignore import ignored_file, ignored_folder
from inkstick_provisioning import copying
from inkstick_provisioning.language import clean
from inkstick_provisioning.sticks import INBOX, RESULTS

DEEPEST, MOST = 32, 200_000
LONGEST = 200
"""Bytes of a name; a longer one is cut before its suffix."""
_GONE = {errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOMEDIUM, errno.ENOTCONN, errno.ESHUTDOWN}
GOING_SECONDS = 1.0
"""From the first error of a stick that is pulled out until the kernel has forgotten it. A bad sector stays."""

Progress = Callable[[int], None]


class StickGone(InkstickError):
    """It was taken out, or broke. What was copied is safe."""

    code = "stick_gone"
    default_message = "The stick was taken out."
    default_hint = "Nothing is lost. Put it in again, and the rest is copied."


class Unreadable(InkstickError):
    """One file of it; what can be read of the others is not touched by that."""

    code = "unreadable"
    default_message = "A file of the stick cannot be read."
    default_hint = "Copy it to another stick on another computer."


class VolumeFailed(InkstickError):
    """Not the stick's fault. What was copied is on the volume."""

    code = "volume_failed"
    default_message = "Nothing can be written to the data volume."
    default_hint = "Start this computer again: the volume is looked over then."


class StickFull(InkstickError):
    code = "stick_full"
    default_message = "The stick is full."
    default_hint = "Make room on it and bring the results back again."


class StickLocked(InkstickError):
    code = "stick_locked"
    default_message = "Nothing can be written to the stick."
    default_hint = "Look for a switch on it, or take the results in the browser."


@dataclass(frozen=True, slots=True)
class Found:
    """A document on a stick. `path`: below its top. `size` in bytes, `modified` in nanoseconds."""

    path: str
    size: int
    modified: int

    @property
    def key(self) -> str:
        """The same file, unchanged, has the same key."""
        return hashlib.sha256(f"{self.path}\0{self.size}\0{self.modified}".encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class Copied:
    """Where a document of a stick went. `place`: below inbox/, and below done/ or failed/ when it was read."""

    key: str
    place: str


def documents(top: Path) -> list[Found]:
    """The documents on a stick, MOST at most, by their content and not their names, by path. Links are not followed;
    what we may not read is left out. What is damaged, a folder too, counts as a document: it fails when it is copied,
    and so is told. Raises StickGone, and OSError where nothing can be read."""
    with _watching(top):
        return sorted(islice(_walk(top, top, 0), MOST), key=lambda found: found.path)


def _walk(top: Path, folder: Path, depth: int) -> Iterator[Found]:
    entries, damaged = _entries(top, folder)
    if damaged:
        yield Found(os.path.relpath(folder, top), 0, 0)
    for entry in entries:
        if entry.is_symlink():
            continue
        if entry.is_dir():
            wanted = depth < DEEPEST and not ignored_folder(entry.name) and entry.name != RESULTS
            if wanted:
                yield from _walk(top, Path(entry.path), depth + 1)
        elif entry.is_file() and not ignored_file(entry.name) and _is_document(top, Path(entry.path)):
            size = modified = 0
            with contextlib.suppress(OSError), _watching(top):
                size, modified = entry.stat().st_size, entry.stat().st_mtime_ns
            yield Found(os.path.relpath(entry.path, top), size, modified)


def _entries(top: Path, folder: Path) -> tuple[list[os.DirEntry[str]], bool]:
    """What a folder holds, as far as it can be read, and whether it is damaged."""
    found: list[os.DirEntry[str]] = []
    try:
        with _watching(top), os.scandir(folder) as entries:
            found.extend(islice(entries, MOST))
    except OSError as error:
        if folder == top:
            raise
        return found, not isinstance(error, PermissionError)
    return found, False


def _is_document(top: Path, path: Path) -> bool:
    """An unreadable sector in one file is no reason to leave the others: it fails when it is copied, and is told."""
    try:
        with _watching(top):
            return identify_file(path) is not None
    except PermissionError:
        return False
    except OSError:
        return True


def has_inbox(top: Path) -> bool:
    return (top / INBOX).is_dir() and not (top / INBOX).is_symlink()


def safe(name: str) -> str:
    """One component of a path, made fit: no control letters, no leading dot, not too long, never empty."""
    kept = clean(name.encode(errors="surrogateescape").decode("utf-8", "replace"), 255).replace("/", "_").lstrip(". ~")
    stem, dot, suffix = kept.rpartition(".")
    if dot and len(suffix.encode()) <= 16:
        stem = stem.encode()[: LONGEST - len(suffix.encode()) - 1].decode(errors="ignore")
        return f"{stem or '_'}.{suffix}"
    return kept.encode()[:LONGEST].decode(errors="ignore") or "_"


def place_of(name: str, found: Found) -> str:
    """Below inbox/: a folder with the stick's name, and in it the folders that the stick has."""
    return "/".join([safe(name), *(safe(part) for part in Path(found.path).parts)])


class Journal:
    """What was copied from one stick, ever: a file of lines in state/sticks/. A half-written line is no line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Copied]:
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        copied = {}
        for line in lines:
            try:
                entry = Copied(**json.loads(line))
            except (ValueError, TypeError):
                continue
            copied[entry.key] = entry
        return copied

    def add(self, entry: Copied) -> None:
        """Durable on return."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = not self._path.exists()
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"key": entry.key, "place": entry.place}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if new:
            copying.sync_folder(self._path.parent)


def journal(data: DataFolder, identity: str) -> Journal:
    """`identity`: whatever stays the same for a stick: the number of its file system, its name where it has none."""
    return Journal(data.state / "sticks" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.jsonl")


@dataclass(frozen=True, slots=True)
class Ingest:
    """From `top`, called `name`, into `data`. `reserve`: free bytes that are left. `only`: a folder of it."""

    top: Path
    name: str
    data: DataFolder
    reserve: int
    only: str = ""

    def find(self) -> list[Found]:
        """The documents, their paths below `top`."""
        base = self.top / self.only if self.only else self.top
        inner = documents(base)
        return [replace(found, path=f"{self.only}/{found.path}") for found in inner] if self.only else inner

    def run(self, wanted: list[Found], kept: Journal, progress: Progress = lambda _: None) -> list[Copied]:
        """Copy what the journal does not know yet. All that are in the inbox now or were before, in order; fewer than
        `wanted` where some cannot be read. Raises StickGone and VolumeFailed; and DiskFull, after all that have room
        were copied. What was copied until then stays."""
        with writing():
            copying.sweep(self.data.inbox / safe(self.name))
            known = kept.read()
        copied, full = list[Copied](), False
        for found in wanted:
            entry = known.get(found.key)
            if entry is None:
                try:
                    entry = self._copy(found)
                except Unreadable:
                    continue
                except DiskFull:
                    full = True
                    continue
                with writing():
                    kept.add(entry)
            copied.append(entry)
            progress(len(copied))
        if full:
            raise DiskFull
        return copied

    def _copy(self, found: Found) -> Copied:
        target = self.data.inbox / place_of(self.name, found)
        if self._free() - found.size < self.reserve:
            raise DiskFull
        with _reading(self.top):
            file = copying.opened(self.top / found.path)
        try:
            with file, _watching(self.top):
                copying.make_folder(target.parent, self.data.inbox)
                final = copying.pour(_Source(file, self.top), target)
        except OSError as error:
            # Folders in folders, deeper than a path can say here; or one whose name, made fit, is that of a document.
            if error.errno in (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR):
                raise Unreadable from error
            raise VolumeFailed from error
        return Copied(found.key, str(final.relative_to(self.data.inbox)))

    def _free(self) -> int:
        figures = os.statvfs(self.data.inbox)
        return figures.f_bavail * figures.f_frsize


@dataclass(frozen=True, slots=True)
class _Source:
    """A file of a stick: what goes wrong with it is told apart from what goes wrong with the file that is written."""

    file: BinaryIO
    top: Path

    def read(self, size: int) -> bytes:
        with _reading(self.top):
            return self.file.read(size)


@contextlib.contextmanager
def _reading(top: Path) -> Iterator[None]:
    try:
        with _watching(top):
            yield
    except OSError as error:
        raise Unreadable from error


@contextlib.contextmanager
def _watching(top: Path) -> Iterator[None]:
    """Errors of a stick that goes away become StickGone; an unreadable or missing file of one that is there stays an
    error."""
    try:
        yield
    except OSError as error:
        if no_room(error):
            raise DiskFull from error
        if error.errno == errno.EIO and _there(top):
            time.sleep(GOING_SECONDS)
        if error.errno in _GONE or not _there(top):
            raise StickGone from error
        raise


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Errors of the data volume, while nothing is done with the stick."""
    try:
        yield
    except OSError as error:
        raise (DiskFull if no_room(error) else VolumeFailed) from error


def is_there(block: Path) -> bool:
    """Whether the kernel knows a device by its folder in /sys, and it holds anything: a card reader stays where it is
    when its card is taken out."""
    try:
        return (block / "size").read_text(encoding="ascii").strip() != "0"
    except OSError:
        return block.exists()


def _there(top: Path) -> bool:
    """The kernel forgets a stick's device at once; of its folders it may still know."""
    try:
        device = top.stat().st_dev
        numbers = f"{os.major(device)}:{os.minor(device)}"
        if os.major(device) and not is_there(Path("/sys/dev/block", numbers)):  # 0: of no device, in memory
            return False
        return any(True for _ in os.scandir(top))
    except OSError:
        return False


# ---- results back


def ended(data: DataFolder, copied: list[Copied]) -> list[Copied]:
    """Those that were read to their end, well or not."""
    return [c for c in copied if (data.done / c.place).exists() or (data.failed / c.place).exists()]


def export(data: DataFolder, name: str, top: Path, progress: Progress = lambda _: None) -> int:
    """Results of a stick's documents into its folder inkstick-results: whole files, fsynced, none replaced. Returns the
    number of files that it has now. Raises StickGone, StickFull or StickLocked."""
    written = 0
    with contextlib.suppress(OSError):  # (whatever is wrong with the stick shows below)
        copying.sweep(top / RESULTS)
    for source, inner in _results(data, safe(name)):
        target = top / RESULTS / inner
        try:
            with _watching(top):
                copying.make_folder(target.parent, top)
                copying.copy(source, target)
        except DiskFull as error:
            raise StickFull from error
        except OSError as error:
            raise StickLocked from error
        written += 1
        progress(written)
    return written


def _results(data: DataFolder, name: str) -> Iterator[tuple[Path, Path]]:
    """Files to carry, and their paths: what was read from this stick, and why the rest was not."""
    for base, only in ((data.results / name, ""), (data.failed / name, ".error.json")):
        for path in sorted(base.rglob("*")) if base.is_dir() else ():
            if path.is_file() and not path.is_symlink() and path.name.endswith(only):
                yield path, path.relative_to(base)
