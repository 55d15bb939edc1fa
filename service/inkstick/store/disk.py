"""Every durable operation, one method each, and every one of them named.

The protocols of the spool are sequences of these steps. Each step carries a name (`at`), for example
``disk.sync_dir(folder, at="accept.sync_spool")``. `Disk.step` is called with it before anything happens: the crash
tests derive from `Disk` to stop, kill, fill up or leave out exactly one step. The service runs `Disk` itself.

Three rules hold in every method:

- A failed sync is never tried again: the kernel may have dropped the data and would answer "yes" the second time.
  The disk is `suspect` from then on and every further change raises `StorageSuspect`.
- A full disk is `errors.DiskFull`, a vanished device `errors.Unavailable`; nothing else is translated.
- Nothing that was dropped by somebody else is reached by a path twice: see `Source`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat as stat_module
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from inkstick.errors import DiskFull, Unavailable, no_room

_GONE = {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE}
_NO_FLAGS = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
_NO_SYNC = {errno.EROFS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


class StorageSuspect(Unavailable):
    """A sync failed: what was written may not be on the disk. Nothing is accepted until the service starts again."""

    default_message = "The disk failed to save data."
    default_hint = "Copy your results away, check or replace the disk, and start the appliance again."


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it is and in what condition. Equal identities: the same file, not written since."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def same_file(self, other: Identity) -> bool:
        return (self.dev, self.ino) == (other.dev, other.ino)


@dataclass(frozen=True, slots=True)
class Stat:
    """`kind` is file, folder or other (symbolic links are not followed: they are other)."""

    kind: str
    identity: Identity
    links: int

    @classmethod
    def of(cls, result: os.stat_result) -> Stat:
        mode = result.st_mode
        kind = "file" if stat_module.S_ISREG(mode) else "folder" if stat_module.S_ISDIR(mode) else "other"
        found = Identity(result.st_dev, result.st_ino, result.st_size, result.st_mtime_ns, result.st_ctime_ns)
        return cls(kind, found, result.st_nlink)


class Sink(Protocol):
    """A new file that is being filled. `close` does not sync."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class Source(Protocol):
    """A file dropped by somebody else, held by its folder's descriptor so that no later look-up can be led astray."""

    def stat(self) -> Stat:
        """Of the name as it is now. Raises FileNotFoundError."""

    def open(self) -> BinaryIO:
        """Unbuffered, for reading. Raises OSError ELOOP for a symbolic link."""

    def sync(self, at: str) -> None: ...

    def move_to(self, target: Path, at: str) -> None:
        """Rename. Raises OSError EXDEV, EROFS, EACCES or EPERM where that cannot be."""

    def unlink(self, at: str) -> None: ...

    def sync_dir(self, at: str) -> None: ...


class Disk:
    """The real file system. Paths are absolute; symbolic links are not followed in the last component."""

    def __init__(self) -> None:
        self.suspect: str | None = None

    def step(self, at: str) -> bool:
        """Called before each change; False leaves the change out (only tests do)."""
        if self.suspect is not None:
            raise StorageSuspect(f"The disk failed to save data ({self.suspect}).")
        return True

    # -- changes

    def make_dir(self, path: Path, at: str) -> None:
        """Make one folder; its being there already is fine."""
        if self.step(at):
            with _translated():
                path.mkdir(mode=0o755, exist_ok=True)

    def write(self, path: Path, data: bytes, at: str) -> None:
        """Make or replace a file with `data`, not atomically and not synced: write to a name nobody reads."""
        if self.step(at):
            with _translated(), os.fdopen(_open_new(path), "wb", buffering=0) as file:
                _write_all(file, data)

    def create(self, path: Path, at: str) -> Sink:
        """A new, empty file to be filled piece by piece; each piece is a step too."""
        self.step(at)
        with _translated():
            return _FileSink(self, os.fdopen(_open_new(path), "wb", buffering=0), at)

    def grow(self, path: Path, size: int, at: str) -> Sink:
        """A file that is there, cut to `size` bytes, to be added to piece by piece; each piece is a step too."""
        self.step(at)
        with _translated():
            handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
            os.ftruncate(handle, size)
            os.lseek(handle, 0, os.SEEK_END)
            return _FileSink(self, os.fdopen(handle, "wb", buffering=0), at)

    def sync_file(self, path: Path, at: str) -> None:
        if self.step(at):
            self._sync(path, os.O_RDONLY | os.O_NOFOLLOW, at)

    def sync_dir(self, path: Path, at: str) -> None:
        if self.step(at):
            self._sync(path, os.O_RDONLY | os.O_DIRECTORY, at)

    def sync_all(self, path: Path, at: str) -> None:
        """Everything that the file system of `path` shows becomes durable (syncfs)."""
        if self.step(at):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if _libc.syncfs(handle) != 0:
                    self._suspect(at, OSError(ctypes.get_errno(), "syncfs"))
            finally:
                os.close(handle)

    def rename(self, source: Path, target: Path, at: str) -> None:
        """Atomic; replaces `target`."""
        if self.step(at):
            with _translated():
                source.rename(target)

    def rename_new(self, source: Path, target: Path, at: str) -> None:
        """Atomic; raises FileExistsError where there is a `target` already."""
        if self.step(at):
            with _translated():
                rename_noreplace(source, target)

    def exchange(self, one: Path, other: Path, at: str) -> None:
        """Two folders change names, atomically. Where the file system cannot do that, `one`'s neighbour ``replaced``
        holds `other` for a moment, and a crash in it may leave `other` there and nowhere else."""
        if self.step(at):
            with _translated():
                rename_exchange(one, other)

    def unlink(self, path: Path, at: str) -> None:
        """Remove a name; its not being there is fine."""
        if self.step(at):
            with _translated():
                path.unlink(missing_ok=True)

    def remove_tree(self, path: Path, at: str) -> None:
        """Remove a folder and all below it, never through a symbolic link; its not being there is fine."""
        if self.step(at):
            with _translated():
                try:
                    shutil.rmtree(path)
                except FileNotFoundError:
                    return

    # -- reads

    def read(self, path: Path) -> bytes:
        with _translated(), os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read()

    def open(self, path: Path) -> BinaryIO:
        """Unbuffered, for reading."""
        return _open_regular(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))

    def exists(self, path: Path) -> bool:
        return os.path.lexists(path)

    def stat(self, path: Path) -> Stat:
        with _translated():
            return Stat.of(path.lstat())

    def list(self, path: Path) -> list[str]:
        """Names in a folder, sorted. Raises FileNotFoundError."""
        with _translated():
            return sorted(os.listdir(path))  # noqa: PTH208 (ten times quicker, and names are what is wanted)

    def free_bytes(self, path: Path) -> int:
        with _translated():
            figures = os.statvfs(path)
        return figures.f_bavail * figures.f_frsize

    @contextmanager
    def source(self, root: Path, relative: PurePosixPath, home: Path | None = None) -> Iterator[Source]:
        """The file `relative` below `root`, its folder opened component by component without following links. `home`
        lies on the disk that we write to: a sync that fails on another one (a stick, a share) says nothing of ours."""
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in relative.parts[:-1]:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = inner
            ours = home is None or os.fstat(handle).st_dev == home.stat().st_dev
            yield _FileSource(self, handle, relative.parts[-1], ours=ours)
        finally:
            os.close(handle)

    # -- syncing

    def _sync(self, path: Path, flags: int, at: str) -> None:
        with _translated():
            handle = os.open(path, flags)
        try:
            self.fsync(handle, at)
        finally:
            os.close(handle)

    def fsync(self, handle: int, at: str, *, ours: bool = True) -> None:
        """fsync, once. An error makes the disk suspect if it is `ours`, and is Unavailable if not; a file system that
        only reads, or has no fsync, is no error."""
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno in _NO_SYNC:
                return
            if ours:
                self._suspect(at, error)
            raise _unavailable(error) from error

    def _suspect(self, at: str, error: OSError) -> None:
        self.suspect = f"{at}: {os.strerror(error.errno or 0)}"
        raise StorageSuspect(f"The disk failed to save data ({self.suspect}).") from error


class _FileSink:
    def __init__(self, disk: Disk, file: Any, at: str) -> None:
        self._disk, self._file, self._at = disk, file, at

    def write(self, data: bytes) -> None:
        if self._disk.step(self._at):
            with _translated():
                _write_all(self._file, data)

    def close(self) -> None:
        with _translated():
            self._file.close()


class _FileSource:
    def __init__(self, disk: Disk, folder: int, name: str, *, ours: bool) -> None:
        self._disk, self._folder, self._name, self._ours = disk, folder, name, ours

    def stat(self) -> Stat:
        with _translated():
            return Stat.of(os.stat(self._name, dir_fd=self._folder, follow_symlinks=False))

    def open(self) -> BinaryIO:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        return _open_regular(os.open(self._name, flags, dir_fd=self._folder))

    def sync(self, at: str) -> None:
        if self._disk.step(at):
            with self.open() as file:
                self._disk.fsync(file.fileno(), at, ours=self._ours)

    def move_to(self, target: Path, at: str) -> None:
        if self._disk.step(at):
            with _translated():
                os.rename(self._name, target, src_dir_fd=self._folder)

    def unlink(self, at: str) -> None:
        if self._disk.step(at):
            with _translated():
                os.unlink(self._name, dir_fd=self._folder)

    def sync_dir(self, at: str) -> None:
        if self._disk.step(at):
            self._disk.fsync(self._folder, at, ours=self._ours)


def rename_noreplace(source: Path, target: Path) -> None:
    """renameat2(RENAME_NOREPLACE). Where the file system has no such thing: link and unlink for a file, and for a
    folder a rename that only an empty folder of that name, or none, lets through. Raises FileExistsError."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code not in _NO_FLAGS:
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    rename_by_link(source, target)


def rename_exchange(one: Path, other: Path) -> None:
    """renameat2(RENAME_EXCHANGE); three renames where the file system has no such thing."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return
    code = ctypes.get_errno()
    if code not in _NO_FLAGS:
        raise OSError(code, os.strerror(code), str(one), None, str(other))
    exchange_by_renames(one, other)


def exchange_by_renames(one: Path, other: Path) -> None:
    """The same without renameat2, not atomic: see `Disk.exchange`."""
    aside = one.with_name("replaced")
    rename_noreplace(other, aside)
    rename_noreplace(one, other)
    rename_noreplace(aside, one)


def rename_by_link(source: Path, target: Path) -> None:
    """The same without renameat2: for vfat, exfat, old NFS and some FUSE file systems."""
    if stat_module.S_ISDIR(source.lstat().st_mode):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        source.rename(target)  # refuses a folder that is not empty, so nothing is overwritten even in a race
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # takes the name, then fills it
        source.rename(target)
        return
    source.unlink()


def _open_new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)


def _open_regular(handle: int) -> BinaryIO:
    return os.fdopen(handle, "rb", buffering=0)


def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if no_room(error):
            raise DiskFull from error
        if error.errno in _GONE:
            raise _unavailable(error) from error
        raise


def _unavailable(error: OSError) -> Unavailable:
    return Unavailable(f"A folder or device is not there: {os.strerror(error.errno or 0)}.")
