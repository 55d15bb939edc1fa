"""What the desk and the command line share: a file's content, its parts, its pages, and what became of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from inkstick import __version__
from inkstick.document import Header, Page, Part, header_from_json, page_from_json
from inkstick.errors import (
    DocumentError,
    Incomplete,
    InkstickError,
    Internal,
    PageFailed,
    TooLarge,
    Unsupported,
    by_code,
)
from inkstick.intake.complete import examine
from inkstick.intake.identify import identify
from inkstick.intake.settle import Finding
from inkstick.pages.pool import PagePool
from inkstick.profile import Format, Profile
from inkstick.reading.source import PartFile
from inkstick.results.formats import result_path

CONTAINERS = ("application/zip", "message/rfc822")
"""Types whose members are the documents."""

EDGE = 64 << 10
"""Bytes of head and tail that identify a file's type."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the bytes are: media type, sha256, size in bytes. `whole`: nothing is known to be cut off."""

    type: str
    sha256: str
    size: int
    whole: bool = True


def identify_file(path: Path, max_bytes: int) -> Content:
    """Hash and identify a file. Raises TooLarge, Incomplete where not even its start is there, or Unsupported for a
    type that is not read."""
    size = path.stat().st_size
    if size > max_bytes:
        raise TooLarge(f"The file has {size:,} bytes; this appliance accepts {max_bytes:,}.")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        head = file.read(EDGE)
        file.seek(max(0, size - EDGE))
        tail = file.read(EDGE)
        file.seek(0)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    media = identify(head, tail, size)
    if media is None:
        raise Unsupported() if head.strip(b"\0") else Incomplete()
    return Content(str(media), digest.hexdigest(), size)


def check_whole(path: Path) -> None:
    """Raises Incomplete for a file that was cut short: the rule by which a dropped file is taken or waited for."""
    with path.open("rb") as file:
        finding, _ = examine(file.fileno())
    if finding is Finding.CUT:
        raise Incomplete


def is_whole(path: Path) -> bool:
    """The same as a truth value: of a file that was cut short somebody may want what is there, but that is not all."""
    try:
        check_whole(path)
    except Incomplete:
        return False
    return True


def record_parts(record: Path) -> tuple[Part, ...]:
    """The parts that a published ``<name>.json`` lists, from its head alone."""
    with record.open(encoding="utf-8") as file:
        for line in file:
            text = line.strip()
            if text.startswith('"document":'):
                return header_from_json(json.JSONDecoder().raw_decode(text, len('"document": '))[0]).parts
    return ()


def record_pages(record: Path) -> Iterator[Page]:
    """The pages of a published ``<name>.json``, one line at a time (`document.record_chunks` writes a page a line)."""
    decoder = json.JSONDecoder()
    with record.open(encoding="utf-8") as file:
        for line in file:
            text = line.strip()
            if text.startswith('{"number"'):
                yield page_from_json(decoder.raw_decode(text)[0])


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages that can be gone through again and again, each time from the disk, so that 20,000 need no memory."""

    source: Callable[[], Iterator[Page]]

    def __iter__(self) -> Iterator[Page]:
        return self.source()


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the pages. `failed` are those that could not be read, `error` what the first of them says."""

    read: int
    failed: tuple[int, ...]
    error: InkstickError | None

    @classmethod
    def of(cls, pages: Pages) -> Summary:
        read, failed, error = 0, [], None
        for page in pages:
            if page.error is None:
                read += 1
            else:
                failed.append(page.number)
                error = error or by_code(page.error["code"], page.error["message"], page.error["hint"])
        return cls(read, tuple(failed), error)

    def reason(self) -> InkstickError:
        """Why pages are missing."""
        return self.error or PageFailed()


async def parts_of(
    pool: PagePool, original: Path, content: Content, into: Path, passwords: tuple[str, ...]
) -> tuple[PartFile, ...]:
    """The files whose pages make the document: itself, or the members of an archive or a mail, unpacked into `into`."""
    if content.type not in CONTAINERS:
        return (PartFile(None, original, content.type),)
    members = await pool.expand(original, content.type, into, passwords=passwords)
    return tuple(PartFile(member.name, member.path, member.type, _refusal(member.error)) for member in members)


def _refusal(error: Mapping[str, str] | None) -> DocumentError | None:
    found = by_code(error["code"], error["message"], error["hint"]) if error else None
    return found if isinstance(found, DocumentError | None) else Internal(found.message)


def header_of(name: str, content: Content, profile: Profile, parts: tuple[Part, ...]) -> Header:
    """The head of the document's record."""
    versions = {"inkstick": __version__}
    return Header(name, content.sha256, content.size, content.type, profile.task, versions, parts)


def part_originals(records: tuple[Part, ...], files: tuple[PartFile, ...]) -> Callable[[Part], Path | None]:
    """Which unpacked file is behind a part's record. Records stand in the order of the files that have a name."""
    named = [file for file in files if file.name is not None]
    paths = {(record.name, record.first): file.path for record, file in zip(records, named, strict=True)}
    return lambda part: paths.get((part.name, part.first))


def with_cut(records: tuple[Part, ...], files: tuple[PartFile, ...]) -> tuple[Part, ...]:
    """The records of an archive's members; one that was cut short says so, whatever could be read of it."""
    path_of = part_originals(records, files)
    cut = [record.error is None and (path := path_of(record)) is not None and not is_whole(path) for record in records]
    told = Incomplete().as_json()
    return tuple(replace(record, error=told) if is_cut else record for record, is_cut in zip(records, cut, strict=True))


def files_of(folder: Path, name: str, format: Format) -> list[Path]:
    """The files of one format in a result folder whose document's result name is `name`; several only for csv."""
    path = result_path(folder, name, format)
    if format is Format.CSV:
        return sorted(path.glob("*.csv"))
    return [path] if path.is_file() else []


def formats_in(folder: Path, name: str) -> tuple[Format, ...]:
    """The formats of which `files_of` finds files, by one look into the folder; none where it is gone."""
    try:
        there = {path.name for path in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(format for format in Format if result_path(folder, name, format).name in there)


def work_key(sha256: str, profile: Profile) -> str:
    """Names the folder of page checkpoints: the same bytes asked for in the same way share it."""
    return hashlib.sha256(f"{sha256}|{profile.reading_key()}".encode()).hexdigest()
