"""Fill a staging folder with everything a document's profile asks for. Making it durable and visible is the store's.

The record (json) is written last, so that it can tell what went wrong with the other formats. A format that fails costs
only itself; a full disk or a missing device (`Blocked`, OSError) stops everything, and the document waits.

An archive or mail gets the whole-document files at the top, and a folder for each part, ``01 letter/``, with that
part's own files, its searchable PDF among them, and its pages counted from 1.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from inkstick.document import Header, Page, Part, page_from_json, page_json
from inkstick.errors import Blocked, DiskFull, DocumentError, InkstickError
from inkstick.profile import Format
from inkstick.results import record
from inkstick.results.formats import FORMATS, PageSource, result_path
from inkstick.results.names import part_names

Originals = Callable[[Part], Path | None]
_JSONL = ".pages.jsonl"
_SPARE = 16 << 20  # bytes: what a PDF may grow by its text


class PdfMaker(Protocol):
    """What is needed of `pages.pool.PagePool`: it runs `pdf.add_text_layer` in the sandbox."""

    def searchable_pdf(
        self, path: Path, media_type: str, pages_jsonl: Path, out: Path, *, passwords: Sequence[str] = ()
    ) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class JsonlPages:
    """Pages in a file, one `page_json` a line: a `PageSource` that holds one page at a time."""

    path: Path

    def __iter__(self) -> Iterator[Page]:
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                yield page_from_json(json.loads(line))


async def build(
    staging: Path,
    name: str,
    header: Header,
    pages: PageSource,
    formats: Iterable[Format],
    *,
    original: Path | None,
    pool: PdfMaker | None,
    passwords: Sequence[str] = (),
    part_original: Originals | None = None,
) -> list[str]:
    """Write `name` in each of `formats` (json always) into the folder `staging`, which exists.

    `original` is the document as claimed, `part_original` gives the file of an archive's member. Returns notes for
    people on what could not be written; they are in the record's ``document.notes`` too. Raises Blocked or OSError
    when the disk, not the document, is at fault, and whatever writing the record raises."""
    wanted: list[Format] = [format for format in Format if format in set(formats) and format is not Format.JSON]
    notes: list[str] = []
    job = _Job(pool, passwords, notes)
    if len(header.parts) > 1:
        flat = [format for format in wanted if format is not Format.PDF]
        await job.write(staging, name, header, pages, flat)
        await _build_parts(job, staging, header, pages, wanted, part_original)
    else:
        if header.parts and part_original is not None:  # a mail or archive around a single document
            original = part_original(header.parts[0])
            job.media_type = header.parts[0].type
        await job.write(staging, name, header, pages, wanted, original)
    await asyncio.to_thread(record.write, header, pages, staging / name, notes)
    return notes


async def _build_parts(
    job: _Job, staging: Path, header: Header, pages: PageSource, wanted: list[Format], originals: Originals | None
) -> None:
    """One pass over the pages for all parts: each part's are set aside in a file while it is written."""
    source = iter(pages)
    folders = part_names([part.name for part in header.parts])
    held: Page | None = None
    for part, folder in zip(header.parts, folders, strict=True):
        if part.first < 1 or part.last < part.first:
            continue
        path = staging / folder
        path.mkdir()
        jsonl = path / _JSONL
        held = await asyncio.to_thread(_set_aside, source, held, part, jsonl)
        original = originals(part) if originals else None
        own = await asyncio.to_thread(_part_header, header, part, original)
        name = folder.split(" ", 1)[1]
        before = len(job.notes)
        await job.write(path, name, own, JsonlPages(jsonl), wanted, original, where=f"{part.name}: ")
        await asyncio.to_thread(record.write, own, JsonlPages(jsonl), path / name, job.notes[before:])
        jsonl.unlink()


def _set_aside(source: Iterator[Page], held: Page | None, part: Part, path: Path) -> Page | None:
    """Write the part's pages, counted from 1, to `path`. Returns the first page after them."""
    with path.open("w", encoding="utf-8") as file:
        page = held or next(source, None)
        while page is not None and page.number <= part.last:
            if page.number >= part.first:
                own = replace(page, number=page.number - part.first + 1, part=None)
                file.write(json.dumps(page_json(own)) + "\n")
            page = next(source, None)
    return page


def _part_header(header: Header, part: Part, original: Path | None) -> Header:
    sha256, size = "", 0
    if original is not None:
        with original.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = original.stat().st_size
    return Header(part.name, sha256, size, part.type, header.task, header.versions)


class _Job:
    """Writes one folder's formats and notes what failed."""

    def __init__(self, pool: PdfMaker | None, passwords: Sequence[str], notes: list[str]) -> None:
        self.pool = pool
        self.passwords = passwords
        self.notes = notes
        self.media_type: str | None = None

    async def write(
        self,
        folder: Path,
        name: str,
        header: Header,
        pages: PageSource,
        formats: Iterable[Format],
        original: Path | None = None,
        where: str = "",
    ) -> None:
        """Each format in turn; in a thread, because page after page would hold up everybody else."""
        for format in formats:
            try:
                if format is Format.PDF:
                    await self._pdf(folder, name, self.media_type or header.type, pages, original)
                else:
                    await asyncio.to_thread(FORMATS[format].write, header, pages, folder / name)
            except (Blocked, OSError):
                raise
            except Exception as error:  # whatever a writer trips over must not cost the other formats
                self.notes.append(f"{where}{format} was not written: {_reason(error)}")
                await asyncio.to_thread(_discard, folder, name, format)

    async def _pdf(self, folder: Path, name: str, media_type: str, pages: PageSource, original: Path | None) -> None:
        if self.pool is None or original is None or not _can_be_pdf(media_type):
            return
        jsonl, out = folder / f"{_JSONL}.pdf", result_path(folder, name, Format.PDF)
        try:
            await asyncio.to_thread(_write_jsonl, pages, jsonl)
            await self.pool.searchable_pdf(original, media_type, jsonl, out, passwords=self.passwords)
        except DocumentError:
            _check_room(folder, original)
            raise
        finally:
            jsonl.unlink(missing_ok=True)


def _can_be_pdf(media_type: str) -> bool:
    """Not a mail's text, nor an archive as a whole: they have no pages that look like anything."""
    return media_type == "application/pdf" or media_type.startswith("image/")


def _check_room(folder: Path, original: Path) -> None:
    """Raises DiskFull if the disk may be why no PDF came out: the sandbox is not trusted to put it on the disk."""
    if shutil.disk_usage(folder).free < original.stat().st_size + _SPARE:
        raise DiskFull


def _write_jsonl(pages: PageSource, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for page in pages:
            file.write(json.dumps(page_json(page)) + "\n")


def _reason(error: Exception) -> str:
    if isinstance(error, InkstickError):
        return f"{error.message} ({error.code})"
    return f"{type(error).__name__}: {error}"


def _discard(folder: Path, name: str, format: Format) -> None:
    path = result_path(folder, name, format)
    if format is Format.CSV:
        shutil.rmtree(path, ignore_errors=True)
        return
    path.unlink(missing_ok=True)
    if format is Format.DOCX:
        for more in folder.glob("*.docx"):
            more.unlink()
