"""A file system in memory that loses what was not synced: as much, and in any order, as POSIX lets it.

The rules, harsher than any file system in use:

- Written bytes are durable after `sync_file` of that file, a name after `sync_dir` of its folder, and nothing makes
  anything else durable.
- A crash keeps any subset of the rest. A file that was not synced holds its old bytes, its new ones, the beginning of
  them, or zeros.
- A rename inside a folder is atomic. A file's rename between folders is two entries: the new name may be there without
  the old one gone, never the other way round, *unless* the folder left is synced first: then the file is lost.
- A folder's rename between folders is atomic, and certain only after both were synced.
"""

from __future__ import annotations

import errno
import io
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from inkstick.errors import DiskFull
from inkstick.store.disk import Disk, Identity, Sink, Source, Stat, StorageSuspect

KEEP_NOTHING, KEEP_ALL, KEEP_FIRST, KEEP_SOME, KILL = "nothing", "all", "first", "some", "kill"
IMAGES = (KEEP_NOTHING, KEEP_ALL, KEEP_FIRST, KEEP_SOME, KILL)


_NEEDS_NO_SPACE = (
    "unlink_source",
    "unlink_original",
    "undo",
    "drop",
    "tidy.folder",
    "tidy.file",
    "withdraw_error",
    "drop_replaced",
    "edit.done",
)


class Crash(BaseException):
    """The process ends here. Not an Exception: nobody may catch it and go on."""


class File:
    __slots__ = ("data", "device", "durable", "time")

    def __init__(self, device: int, time: int) -> None:
        self.data = self.durable = b""
        self.device, self.time = device, time


class Folder:
    __slots__ = ("device", "durable", "entries", "time")

    def __init__(self, device: int, time: int) -> None:
        self.entries: dict[str, int] = {}
        self.durable: dict[str, int] = {}
        self.device, self.time = device, time


class Op:
    """Changes of folder entries that are not durable yet: they come together, and not before `after`."""

    __slots__ = ("after", "changes", "waits")

    def __init__(self, changes: tuple[tuple[int, str, int | None], ...], after: Op | None = None) -> None:
        self.changes, self.after = changes, after
        self.waits = {change[0] for change in changes}


class ModelDisk(Disk):
    """`crash_at`: at which step (from 0) the process ends. `full_at`, `eio_at`: at which the disk is full, or a sync
    fails, once. `omit`: the name of a step that is left out. `trace`: the names of the steps so far, if wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[int, File | Folder] = {1: Folder(1, 0)}
        self.pending: list[Op] = []
        self._found: dict[Path, int | None] = {}
        self.time = 0
        self.steps = 0
        self.crash_at = self.full_at = self.eio_at = -1
        self.omit: str | None = None
        self.trace: list[str] | None = None

    # -- faults

    def step(self, at: str) -> bool:
        number, self.steps = self.steps, self.steps + 1
        if self.trace is not None:
            self.trace.append(at)
        if number == self.crash_at:
            raise Crash(at)
        if self.suspect is not None:
            raise StorageSuspect
        if number == self.full_at and not at.endswith(_NEEDS_NO_SPACE) and ".sync" not in at:
            raise DiskFull
        if number == self.eio_at and ".sync" in at:
            self.suspect = at
            raise StorageSuspect
        return at != self.omit

    def after_crash(self, chance: random.Random, image: str) -> ModelDisk:
        """The disk as the next start finds it."""
        new = ModelDisk()
        new.time, new.omit = self.time, self.omit
        if image == KILL:
            new.nodes, new.pending, new.suspect = self.nodes, self.pending, None
            return new
        kept = self._kept(chance, image)
        for number, node in self.nodes.items():
            if isinstance(node, File):
                file = new.nodes[number] = File(node.device, node.time)
                file.data = file.durable = self._bytes_kept(node, chance, image)
            else:
                folder = new.nodes[number] = Folder(node.device, node.time)
                folder.durable = dict(node.durable)
        for op in kept:
            _apply(new.nodes, op)
        for fresh in new.nodes.values():
            if isinstance(fresh, Folder):
                fresh.entries = dict(fresh.durable)
        return new

    def _kept(self, chance: random.Random, image: str) -> list[Op]:
        if image == KEEP_NOTHING:
            return []
        if image == KEEP_ALL:
            return self.pending
        if image == KEEP_FIRST:
            return self.pending[: chance.randint(0, len(self.pending))]
        kept: list[Op] = []
        for op in self.pending:
            if chance.random() < 0.5 and (op.after is None or op.after in kept or op.after not in self.pending):
                kept.append(op)
        return kept

    @staticmethod
    def _bytes_kept(node: File, chance: random.Random, image: str) -> bytes:
        if node.data is node.durable or node.data == node.durable or image == KEEP_NOTHING:
            return node.durable
        if image == KEEP_ALL:
            return node.data
        torn = node.data[: chance.randint(0, len(node.data))]
        return chance.choice((node.durable, node.data, torn, bytes(len(node.data))))

    # -- names

    def _find(self, path: Path) -> int | None:
        """Looked up once until any name changes."""
        try:
            return self._found[path]
        except KeyError:
            number = self._found[path] = self._walk(path)
            return number

    def _walk(self, path: Path) -> int | None:
        number: int | None = 1
        for part in path.parts[1:]:
            node = self.nodes[number]  # type: ignore[index]
            if isinstance(node, File):
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(path))
            number = node.entries.get(part)
            if number is None:
                return None
        return number

    def _number(self, path: Path) -> int:
        number = self._find(path)
        if number is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return number

    def _folder(self, path: Path) -> tuple[int, Folder]:
        number = self._number(path)
        node = self.nodes[number]
        if isinstance(node, File):
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(path))
        return number, node

    def _file(self, path: Path) -> File:
        node = self.nodes[self._number(path)]
        if isinstance(node, Folder):
            raise IsADirectoryError(errno.EISDIR, "a folder", str(path))
        return node

    def _enter(self, changes: tuple[tuple[int, str, int | None], ...], after: Op | None = None) -> Op:
        self._found = {}
        for folder, name, number in changes:
            entries = self.nodes[folder].entries  # type: ignore[union-attr]
            if number is None:
                entries.pop(name, None)
            else:
                entries[name] = number
        op = Op(changes, after)
        self.pending.append(op)
        return op

    def _new(self, node: File | Folder) -> int:
        number = len(self.nodes) + 1
        self.nodes[number] = node
        return number

    def _tick(self) -> int:
        self.time += 1
        return self.time

    # -- changes

    def make_dir(self, path: Path, at: str) -> None:
        if self.step(at) and self._find(path) is None:
            parent, node = self._folder(path.parent)
            self._enter(((parent, path.name, self._new(Folder(node.device, self._tick()))),))

    def write(self, path: Path, data: bytes, at: str) -> None:
        if self.step(at):
            self._create(path).data = data

    def create(self, path: Path, at: str) -> Sink:
        self.step(at)
        return ModelSink(self, self._create(path), at)

    def _create(self, path: Path) -> File:
        number = self._find(path)
        if number is None:
            parent, node = self._folder(path.parent)
            number = self._new(File(node.device, self._tick()))
            self._enter(((parent, path.name, number),))
        file = self.nodes[number]
        assert isinstance(file, File)
        file.data, file.time = b"", self._tick()
        return file

    def sync_file(self, path: Path, at: str) -> None:
        if self.step(at):
            file = self._file(path)
            file.durable = file.data

    def sync_dir(self, path: Path, at: str) -> None:
        if self.step(at):
            self.sync_entries(self._folder(path)[0])

    def sync_entries(self, folder: int) -> None:
        left = []
        for op in self.pending:
            op.waits.discard(folder)
            if op.waits:
                left.append(op)
            else:
                _apply(self.nodes, op)
        self.pending = left

    def sync_all(self, path: Path, at: str) -> None:
        if self.step(at):
            for op in self.pending:
                _apply(self.nodes, op)
            self.pending = []
            for node in self.nodes.values():
                if isinstance(node, File):
                    node.durable = node.data

    def rename(self, source: Path, target: Path, at: str) -> None:
        if self.step(at):
            self._rename(source, target)

    def rename_new(self, source: Path, target: Path, at: str) -> None:
        if self.step(at):
            if self._find(target) is not None:
                raise FileExistsError(errno.EEXIST, "exists", str(target))
            self._rename(source, target)

    def _rename(self, source: Path, target: Path) -> None:
        number = self._number(source)
        (left, left_node), (entered, entered_node) = self._folder(source.parent), self._folder(target.parent)
        if left_node.device != entered_node.device:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source), None, str(target))
        gone, come = (left, source.name, None), (entered, target.name, number)
        if left == entered or isinstance(self.nodes[number], Folder):
            self._enter((gone, come))
        else:
            self._enter((gone,), after=self._enter((come,)))

    def exchange(self, one: Path, other: Path, at: str) -> None:
        if self.step(at):
            first, second = self._number(one), self._number(other)
            left, right = self._folder(one.parent)[0], self._folder(other.parent)[0]
            self._enter(((left, one.name, second), (right, other.name, first)))

    def unlink(self, path: Path, at: str) -> None:
        if self.step(at) and self._find(path) is not None:
            self._enter(((self._folder(path.parent)[0], path.name, None),))

    def remove_tree(self, path: Path, at: str) -> None:
        """In reality many steps: so here too."""
        if self._find(path) is None:
            return
        for name in self.list(path):
            if isinstance(self.nodes[self._number(path / name)], Folder):
                self.remove_tree(path / name, at)
            else:
                self.unlink(path / name, at)
        self.unlink(path, at)

    # -- reads

    def read(self, path: Path) -> bytes:
        return self._file(path).data

    def open(self, path: Path) -> BinaryIO:
        return io.BytesIO(self._file(path).data)

    def exists(self, path: Path) -> bool:
        try:
            return self._find(path) is not None
        except NotADirectoryError:
            return False

    def stat(self, path: Path) -> Stat:
        number = self._number(path)
        node = self.nodes[number]
        if isinstance(node, Folder):
            return Stat("folder", Identity(node.device, number, 0, node.time, node.time), 2)
        return Stat("file", Identity(node.device, number, len(node.data), node.time, node.time), 1)

    def list(self, path: Path) -> list[str]:
        return sorted(self._folder(path)[1].entries)

    def free_bytes(self, path: Path) -> int:
        return 1 << 40

    @contextmanager
    def source(self, root: Path, relative: PurePosixPath, home: Path | None = None) -> Iterator[Source]:
        yield ModelSource(self, root / relative)

    def add_device(self, path: Path, device: int) -> None:
        """Make `path` a folder on a device of its own, durable."""
        parent, _ = self._folder(path.parent)
        self._enter(((parent, path.name, self._new(Folder(device, 0))),))
        self.sync_entries(parent)


class ModelSink:
    def __init__(self, disk: ModelDisk, file: File, at: str) -> None:
        self._disk, self._file, self._at = disk, file, at

    def write(self, data: bytes) -> None:
        if self._disk.step(self._at):
            self._file.data += data

    def close(self) -> None:
        return None


class ModelSource:
    def __init__(self, disk: ModelDisk, path: Path) -> None:
        self._disk, self._path = disk, path

    def stat(self) -> Stat:
        return self._disk.stat(self._path)

    def open(self) -> BinaryIO:
        return self._disk.open(self._path)

    def sync(self, at: str) -> None:
        self._disk.sync_file(self._path, at)

    def move_to(self, target: Path, at: str) -> None:
        self._disk.rename(self._path, target, at)

    def unlink(self, at: str) -> None:
        self._disk.unlink(self._path, at)

    def sync_dir(self, at: str) -> None:
        self._disk.sync_dir(self._path.parent, at)


def _apply(nodes: dict[int, File | Folder], op: Op) -> None:
    for folder, name, number in op.changes:
        node = nodes[folder]
        assert isinstance(node, Folder)
        entries = node.durable
        if number is None:
            entries.pop(name, None)
        else:
            entries[name] = number
