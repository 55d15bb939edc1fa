"""Archives and mails become files that we name. The service's side: it writes, counts and identifies.

The parser process only streams: a member's name, then its bytes. It holds no folder and names no file. Limits are
counted here, on the bytes that really arrive, so that a hostile process cannot get around them.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inkstick.errors import ArchiveUnsafe, Damaged, DocumentError, Empty, Encrypted, Unsupported
from inkstick.pages import answer, wire

ARCHIVES = ("application/zip", "message/rfc822")
TEXT = "text/plain"
_MAX_NAME = 400
_OURS = re.compile(r"[0-9]{4,}\.[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold: number of members, bytes in all, inflation ratio, and how deep archives may nest."""

    members: int = 5000
    total_bytes: int = 20 << 30
    ratio: int = 200
    depth: int = 2

    @staticmethod
    def for_folder(folder: Path) -> Limits:
        """The default limits, with at most a quarter of what is free on the folder's disk."""
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        return Limits(total_bytes=min(20 << 30, shutil.disk_usage(existing).free // 4))


@dataclass(frozen=True, slots=True)
class Member:
    """A member: its name inside (of nested archives joined by ``/``), its file and type, or its error."""

    name: str
    path: Path | None
    type: str
    error: Mapping[str, str] | None = None


Unpacker = Callable[[Path, str, Sequence[str], Limits, Callable[[wire.Frame], None]], Awaitable[None]]


class Expansion:
    """One archive being unpacked into a folder. `unpack` streams the frames of one level."""

    def __init__(self, unpack: Unpacker, into: Path, limits: Limits, passwords: tuple[str, ...]) -> None:
        self._unpack = unpack
        self._into = into
        self._limits = limits
        self._passwords = passwords
        self._written = 0
        self._count = 0
        self._files = 0

    async def run(self, path: Path, media_type: str) -> list[Member]:
        """All members in order. Raises ArchiveUnsafe, Damaged, Empty, Encrypted for the whole archive."""
        self._into.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._into.iterdir():  # of an earlier attempt that was cut off
            if _OURS.fullmatch(left.name):
                left.unlink()
        members = await self._level(path, media_type, "", 1)
        if not members:
            raise Empty("The archive holds no documents.")
        if all(member.error and member.error["code"] == Encrypted.code for member in members):
            raise Encrypted.despite(self._passwords)
        return members

    async def _level(self, path: Path, media_type: str, prefix: str, depth: int) -> list[Member]:
        level = _Level(self, path.stat().st_size, media_type)
        try:
            await self._unpack(path, media_type, self._passwords, self._limits, level.take)
        except BaseException:
            level.drop()  # the reader was killed, or the disk is full, in the middle of a member
            raise
        members: list[Member] = []
        for found in level.finish():
            member = replace(found, name=prefix + found.name)
            members += await self._nested(member, depth) if member.type in ARCHIVES and member.path else [member]
        return members

    async def _nested(self, member: Member, depth: int) -> list[Member]:
        """The members of a member that is itself an archive; its own file is then gone."""
        assert member.path is not None
        try:
            if depth >= self._limits.depth:
                raise ArchiveUnsafe("Archives inside archives are nested too deeply.")
            return await self._level(member.path, member.type, member.name + "/", depth + 1)
        except DocumentError as error:
            if isinstance(error, ArchiveUnsafe) and depth < self._limits.depth:
                raise
            return [replace(member, path=None, error=_told(error))]
        finally:
            member.path.unlink(missing_ok=True)

    def new_file(self) -> tuple[Path, int]:
        self._files += 1
        path = self._into / f"{self._files:04d}.part"
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def count_member(self) -> None:
        self._count += 1
        if self._count > self._limits.members:
            raise ArchiveUnsafe(f"The archive holds more than {self._limits.members} files.")

    def count_bytes(self, more: int, so_far: int, packed: int) -> None:
        self._written += more
        if self._written > self._limits.total_bytes:
            raise ArchiveUnsafe("The archive unpacks to more than there is room for.")
        if so_far > (1 << 20) and so_far > self._limits.ratio * max(packed, 1):
            raise ArchiveUnsafe("The archive unpacks to many times its size, as an archive bomb does.")


class _Level:
    """The frames of one archive as they arrive: a name, its chunks, its end. Called from one thread at a time, but for
    `drop`: whoever waits for the archive may be called away while a frame is being written."""

    def __init__(self, whole: Expansion, packed: int, media_type: str) -> None:
        self._whole = whole
        self._packed = packed
        self._ratio_counts = media_type == "application/zip"
        self._so_far = 0
        self._members: list[Member] = []
        self._name, self._type = "", ""
        self._file: tuple[Path, int] | None = None
        self._lock = threading.Lock()
        self._dropped = False

    def take(self, frame: wire.Frame) -> None:
        """Raises ArchiveUnsafe over a limit, WireError as Damaged on nonsense, and after `drop`."""
        try:
            with self._lock:
                if self._dropped:  # the folder may be another's by now: nothing is made there any more
                    raise wire.WireError("nobody waits for it")
                self._take(frame)
        except wire.WireError as error:
            raise Damaged("The file's reader answers nonsense.") from error

    def _take(self, frame: wire.Frame) -> None:
        head = frame.head
        if "member" in head:
            self._begin(answer.clean(head["member"], _MAX_NAME), head.get("type"))
        elif "chunk" in head and self._file and len(frame.blobs) == 1:
            self._so_far += len(frame.blobs[0])
            packed = self._packed if self._ratio_counts else self._so_far
            self._whole.count_bytes(len(frame.blobs[0]), self._so_far, packed)
            _write(self._file[1], frame.blobs[0])
        elif "bad" in head:
            error = answer.error({"error": head["bad"]})
            self._end(error)
        else:
            raise wire.WireError("unexpected")

    def _begin(self, name: str, media_type: object) -> None:
        if self._file:
            self._end(None)
        self._whole.count_member()
        self._name, self._type = name or "unnamed", TEXT if media_type == TEXT else ""
        self._file = self._whole.new_file()

    def _end(self, error: DocumentError | None) -> None:
        """Close the member's file; keep it under a name of its type if it is one that is read."""
        if not self._file:
            raise wire.WireError("no member")
        path, fd = self._file
        os.close(fd)
        self._file = None
        if error is None and not path.stat().st_size:
            error = Empty("The file is empty.")
        kind = None if error else (self._type or identify(path))
        if kind is None:
            path.unlink()
            self._members.append(Member(self._name, None, self._type, _told(error or Unsupported())))
            return
        final = path.with_suffix(suffix(kind))
        path.rename(final)
        self._members.append(Member(self._name, final, kind))

    def drop(self) -> None:
        """Forget the member that is not whole, and take no more."""
        with self._lock:
            self._dropped = True
            if self._file:
                (path, fd), self._file = self._file, None
                os.close(fd)
                path.unlink(missing_ok=True)

    def finish(self) -> list[Member]:
        if self._file:
            self._end(None)
        return self._members


def identify(path: Path) -> str | None:
    """The media type by content, None for what is not read."""
    from inkstick.intake.identify import identify_file

    found = identify_file(path)
    return found.value if found else None


def suffix(media_type: str) -> str:
    from inkstick.intake.identify import SUFFIXES, MediaType

    return ".txt" if media_type == TEXT else SUFFIXES[MediaType(media_type)]


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _told(error: DocumentError) -> dict[str, str]:
    return {key: str(value) for key, value in error.as_json().items()}
