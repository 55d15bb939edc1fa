"""`inkstick ocr`: files in, result folders out, without a server, a spool or a ledger.

Several files are read at a time, as the service does it: the same page pool, reader, engines and formats.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from inkstick.clock import SystemClock
from inkstick.config import Settings
from inkstick.desk import ending
from inkstick.document import Page
from inkstick.engines.registry import engines_for
from inkstick.errors import Blocked, DiskFull, DocumentError, Encrypted, Internal, Unavailable, no_room
from inkstick.pages.pool import PagePool
from inkstick.profile import Profile
from inkstick.reading.reader import Job, Reader
from inkstick.reading.source import PartFile
from inkstick.results.names import numbered, result_name
from inkstick.results.publish import build
from inkstick.store.disk import rename_noreplace
from inkstick.web.office_port import OnProgress
from inkstick.work import Pages, Summary, header_of, identify_file, is_whole, part_originals, parts_of, with_cut

log = logging.getLogger(__name__)

LOCKED_HINT = "Save it without a password, or give its password: --passwords FILE, a line each (-: standard input)."
OPEN_FILES = 8
"""Documents that are read at the same time."""


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file. `state`: done, partial or failed. `results`: its folder, if there are results.
    `flags`: how many pages carry each flag. `error`: {code, message, hint}; of the first failed page if partial."""

    path: Path
    state: str
    results: Path | None = None
    pages: int = 0
    flags: Mapping[str, int] = field(default_factory=dict)
    error: Mapping[str, str] | None = None


async def read_files(
    settings: Settings, profile: Profile, files: Sequence[Path], out: Path, on_progress: OnProgress
) -> list[FileOutcome]:
    """Read `files` into folders of their own below `out`. Outcomes come in the order of `files`; a file that cannot
    be read does not stop the others. Raises EngineDown or UsageError when nothing can be read at all."""
    out.mkdir(parents=True, exist_ok=True)
    async with reading(settings) as (pool, reader):
        gate = asyncio.Semaphore(OPEN_FILES)
        names = folder_names(out, files)

        async def one(order: int, path: Path) -> FileOutcome:
            async with gate:
                return await _File(profile, pool, reader, path, names[order], on_progress).read(
                    order, settings.max_bytes
                )

        return list(await asyncio.gather(*(one(order, path) for order, path in enumerate(files))))


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[tuple[PagePool, Reader]]:
    """A page pool and a reader, running."""
    pool = PagePool(
        processes=settings.parser_processes, page_seconds=settings.page_seconds, units=settings.pages_socket
    )
    reader = Reader(
        pool=pool,
        engines=engines_for(settings, beside=False),
        clock=SystemClock(),
        image_bytes=settings.image_bytes,
        max_pages=settings.max_pages,
    )
    try:
        await pool.start()
        await reader.start()
        yield pool, reader
    finally:
        await reader.close()
        await pool.close()


def folder_names(out: Path, files: Sequence[Path]) -> list[Path]:
    """A folder below `out` for each file that nothing else has: ``scan``, ``scan (2)``, …"""
    names: list[Path] = []
    taken: set[Path] = set()
    next_number: dict[str, int] = {}  # thousands of scans may all be called page.tif
    for path in files:
        name = result_name(path.name)
        number = next_number.get(name, 1)
        while (folder := out / numbered(name, number)) in taken or folder.exists():
            number += 1
        next_number[name] = number + 1
        taken.add(folder)
        names.append(folder)
    return names


class _File:
    """One file on its way."""

    def __init__(
        self, profile: Profile, pool: PagePool, reader: Reader, path: Path, target: Path, on_progress: OnProgress
    ) -> None:
        self._profile, self._pool, self._reader = profile, pool, reader
        self._path, self._target, self._on_progress = path, target, on_progress
        self._pages: dict[int, Page] = {}
        self._total: int | None = None

    async def read(self, order: int, max_bytes: int) -> FileOutcome:
        """To the end. The result folder appears by one rename, as it does in the service."""
        try:
            with tempfile.TemporaryDirectory(dir=self._target.parent, prefix=".inkstick-") as scratch:
                outcome = await self._read(order, max_bytes, Path(scratch))
        except Encrypted as error:
            outcome = FileOutcome(self._path, "failed", error=Encrypted(error.message, hint=LOCKED_HINT).as_json())
        except DocumentError as error:
            outcome = FileOutcome(self._path, "failed", pages=self._total or 0, error=error.as_json())
        except (Blocked, OSError) as error:  # no permission, a bad sector, no room for its results: others may do well
            outcome = FileOutcome(self._path, "failed", pages=self._total or 0, error=_refused(error).as_json())
        except Exception as error:
            log.exception("%s failed by a fault of our own", self._path)
            stumbled = Internal(f"Inkstick failed on it: {type(error).__name__}.")
            outcome = FileOutcome(self._path, "failed", pages=self._total or 0, error=stumbled.as_json())
        self._on_progress(self._path, self._total or 0, self._total or 0)
        return outcome

    async def _read(self, order: int, max_bytes: int, scratch: Path) -> FileOutcome:
        content = await asyncio.to_thread(identify_file, self._path, max_bytes)
        content = replace(content, whole=await asyncio.to_thread(is_whole, self._path))
        files = await parts_of(self._pool, self._path, content, scratch / "parts", self._profile.passwords)
        read = await self._reader.submit(self._job(order, files))
        parts = await asyncio.to_thread(with_cut, read.parts, files)
        pages = Pages(lambda: iter([self._pages[number] for number in sorted(self._pages)]))
        summary = Summary.of(pages)
        if summary.read == 0:
            raise summary.reason()
        staging = scratch / "results"
        staging.mkdir()
        await build(
            staging,
            result_name(self._path.name),
            header_of(self._path.name, content, self._profile, parts),
            pages,
            self._profile.formats,
            original=self._path,
            pool=self._pool,
            passwords=self._profile.passwords,
            part_original=part_originals(parts, files),
        )
        folder = await asyncio.to_thread(self._publish, staging)
        end = ending(content, parts, summary)
        flags = Counter(flag.value for page in pages for flag in page.flags)
        return FileOutcome(self._path, end.state, folder, end.pages, flags, end.error)

    def _publish(self, staging: Path) -> Path:
        """Give the results their folder's name; the next one where it was taken meanwhile, by another run or, on a disk
        that does not tell `Scan` from `scan`, by another file of this one."""
        folder, number = self._target, 1
        while True:
            try:
                rename_noreplace(staging, folder)
            except FileExistsError:
                number += 1
                folder = self._target.with_name(numbered(result_name(self._path.name), number))
            else:
                return folder

    def _job(self, order: int, files: tuple[PartFile, ...]) -> Job:
        return Job(
            id=f"{order} {self._path}",
            parts=files,
            profile=self._profile,
            order=order,
            on_page=self._on_page,
            on_opened=self._on_opened,
        )

    async def _on_opened(self, pages: int) -> None:
        self._total = pages
        self._on_progress(self._path, 0, pages)

    async def _on_page(self, page: Page) -> None:
        self._pages[page.number] = page
        # The last step is for the results: the file is through when its folder is there.
        self._on_progress(self._path, min(len(self._pages), max(0, (self._total or 0) - 1)), self._total)


def _refused(error: Blocked | OSError) -> Blocked:
    """What kept a file from being read, for somebody who waits: here nothing goes on by itself."""
    if isinstance(error, DiskFull) or (isinstance(error, OSError) and no_room(error)):
        return DiskFull("There is no room for its results.", hint="Make room there, and read it again.")
    if isinstance(error, OSError):
        what = f"It could not be read or written: {error.strerror or error}."
        return Unavailable(what, hint="Look whether it is there, who may read it, and who may write where results go.")
    return type(error)(error.message, hint="Mend that, and read it again.")
