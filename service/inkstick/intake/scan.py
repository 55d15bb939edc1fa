"""One look at everything below a folder: the truth about what was dropped. Events only say when to look.

The walk opens each directory relative to its parent and never follows a symbolic link, so that nothing outside the
root can be reached by renaming folders under it. Only regular files count; links, pipes, sockets and devices are
counted as skipped. Other file systems mounted below the root are walked too (a plugged-in stick): their files have
another `dev`, which makes the claim a copy, and a slower pace if the file system calls for one. Directories that are
reserved (results, state, …), or that were met before (bind mounts), are not entered.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inkstick.errors import Unavailable
from inkstick.intake.ignore import SETTINGS_NAME, ignored_file, ignored_folder
from inkstick.intake.settle import Sighting

MAX_DEPTH: Final = 40
OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

FolderId = tuple[int, int]

# statfs(2) magic numbers of file systems where a change shows late, coarsely, or not at all
_SLOW_MAGIC: Final = frozenset({
    0xFF534D42, 0xFE534D42, 0x517B,  # CIFS, SMB2, smbfs
    0x6969, 0x00C36400, 0x5346414F, 0x73757245, 0x01021997, 0x786F4256,  # NFS, Ceph, AFS, Coda, 9P, VirtualBox
    0x65735546, 0x4D44, 0x2011BAB0, 0x7366746E, 0x5346544E,  # FUSE, FAT, exFAT, NTFS3, NTFS
})  # fmt: skip


@dataclass(slots=True)
class Survey:
    """What one scan saw, by path relative to the root in raw bytes.

    files: regular files that may be documents. settings: the `.inkstick.toml` of each folder (None: not a regular
    file). folders: every folder entered. unreadable: folders that could not be read, whose files are unknown, not gone,
    and files of which the disk does not tell.
    slow: devices whose file system needs the slow pace. ignored, skipped: how many names and special files were passed.
    """

    files: dict[bytes, Sighting] = field(default_factory=dict)
    settings: dict[bytes, Sighting | None] = field(default_factory=dict)
    folders: list[bytes] = field(default_factory=list)
    unreadable: list[bytes] = field(default_factory=list)
    slow: set[int] = field(default_factory=set)
    ignored: int = 0
    skipped: int = 0


def scan(root: Path, reserved: AbstractSet[FolderId] = frozenset()) -> Survey:
    """Walk everything below `root`. `reserved`: (device, inode) of directories not to enter.

    Raises Unavailable when the root itself cannot be read. Memory: about 400 bytes for each file.
    """
    survey = Survey()
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"The folder {root.name} cannot be opened: {error.strerror}.") from error
    try:
        _Walk(survey, set(reserved)).folder(fd, b"", 0)
    except OSError as error:
        raise Unavailable(f"The folder {root.name} cannot be read: {error.strerror}.") from error
    finally:
        os.close(fd)
    return survey


def is_slow(fd: int) -> bool:
    """Whether the file system of this open file is a network, FUSE or FAT-like one. Unknown ones are not slow."""
    buffer = ctypes.create_string_buffer(512)  # struct statfs is 120 bytes here; f_type is its first word
    if ctypes.CDLL(None, use_errno=True).fstatfs(fd, buffer) != 0:
        return False
    return int(ctypes.c_long.from_buffer(buffer).value) & 0xFFFFFFFF in _SLOW_MAGIC


class _Walk:
    """The state of one walk: what was found, and which directories must not be entered (again)."""

    def __init__(self, survey: Survey, closed: set[FolderId]) -> None:
        self.survey = survey
        self.closed = closed
        self.devices: set[int] = set()

    def folder(self, fd: int, path: bytes, depth: int) -> None:
        """Read one open directory and what is below it. Raises OSError for this directory alone."""
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) in self.closed:
            return
        self.closed.add((status.st_dev, status.st_ino))
        self._note_device(fd, status.st_dev)
        below: list[str] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                self._entry(entry, path, below)
        self.survey.folders.append(path)
        for name in below:
            self._enter(fd, name, path, depth)

    def _note_device(self, fd: int, device: int) -> None:
        if device not in self.devices:
            self.devices.add(device)
            if is_slow(fd):
                self.survey.slow.add(device)

    def _entry(self, entry: os.DirEntry[str], path: bytes, below: list[str]) -> None:
        """One that the disk cannot tell of (a bad sector, a broken inode) hides none of the others."""
        try:
            self._known_entry(entry, path, below)
        except OSError:
            self.survey.unreadable.append(_join(path, entry.name))

    def _known_entry(self, entry: os.DirEntry[str], path: bytes, below: list[str]) -> None:
        if entry.is_dir(follow_symlinks=False):
            if ignored_folder(entry.name):
                self.survey.ignored += 1
            else:
                below.append(entry.name)
        elif entry.name == SETTINGS_NAME:
            self._settings(entry, path)
        elif ignored_file(entry.name):
            self.survey.ignored += 1
        else:
            self._file(entry, path)

    def _file(self, entry: os.DirEntry[str], path: bytes) -> None:
        status = _stat(entry)
        if status is None:
            return
        if not stat.S_ISREG(status.st_mode):
            self.survey.skipped += 1
            return
        self.survey.files[_join(path, entry.name)] = Sighting.of(status)

    def _settings(self, entry: os.DirEntry[str], path: bytes) -> None:
        status = _stat(entry)
        if status is not None:
            self.survey.settings[path] = Sighting.of(status) if stat.S_ISREG(status.st_mode) else None

    def _enter(self, parent: int, name: str, path: bytes, depth: int) -> None:
        below = _join(path, name)
        if depth + 1 > MAX_DEPTH:
            self.survey.unreadable.append(below)
            return
        try:
            fd = os.open(name, OPEN_FOLDER, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):  # those two: swapped for something else meanwhile
                self.survey.unreadable.append(below)
            return
        try:
            self.folder(fd, below, depth + 1)
        except OSError:
            self.survey.unreadable.append(below)
        finally:
            os.close(fd)


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """The entry's own status (never its target's); None when it vanished meanwhile."""
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _join(path: bytes, name: str) -> bytes:
    raw = os.fsencode(name)
    return path + b"/" + raw if path else raw
