"""The use cases: everything that the page, the API and the watch daemon ask of Inkstick, in one object.

One office per data folder, and the only one that opens its ledger. It implements `inkstick.web.office_port.OfficePort`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from inkstick import appliance, atonce, diagnostics, selftest
from inkstick.appliance import Machine
from inkstick.appliance import Request as MachineRequest
from inkstick.atonce import Asked, PageOf, PageRead, Told, untold
from inkstick.clock import Clock, SystemClock
from inkstick.config import Settings
from inkstick.corrections import Corrections
from inkstick.desk import Desk
from inkstick.document import Box, Page
from inkstick.engines.info import EngineInfo, engine_info
from inkstick.engines.protocol import Engine, Request
from inkstick.engines.registry import engines_for
from inkstick.errors import InkstickError, TooLarge, Unsupported, UsageError, no_such_page
from inkstick.intake.watcher import exclusive_lock
from inkstick.pages.pool import PagePool
from inkstick.profile import Format, Priority, Profile, merge
from inkstick.reading.reader import Engines, Reader
from inkstick.recent import Recent
from inkstick.results.names import result_name
from inkstick.selftest import SelfTest
from inkstick.store.ballast import Ballast
from inkstick.store.claim import Claim
from inkstick.store.disk import Disk
from inkstick.store.edits import Edits
from inkstick.store.ledger import Ledger, Row, profile_of
from inkstick.store.listing import Filter
from inkstick.store.spool import Spool, Upload
from inkstick.store.strips import Strip
from inkstick.system import System
from inkstick.uploads import Uploads
from inkstick.web.office_port import DocumentInfo, Event, Hit, OfficeHealth, PageInfo, Stats
from inkstick.web.screens_port import Remaining, SystemInfo
from inkstick.web.words import WARNING_FLAGS
from inkstick.work import CONTAINERS, files_of, formats_in, record_parts, work_key

log = logging.getLogger(__name__)

T = TypeVar("T")

ENGINES_SECONDS = 1.0
"""How old what the engines said of themselves may be."""
PROBE_SECONDS = 2.0
"""How old the last proof may be that a document could be accepted."""

BALLAST_SECONDS = 60.0
"""How often it is looked whether a disk that was full has room for its ballast again."""


class Office:
    """See `OfficePort` for what each method promises."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        engines: Engines | None = None,
        disk: Disk | None = None,
    ) -> None:
        self.settings = settings
        self._disk = disk or Disk()
        self._clock = clock or SystemClock()
        self._folder = settings.folder
        self._engines = engines
        self._changed = asyncio.Event()
        self._watch: Mapping[str, Any] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._opened = contextlib.AsyncExitStack()
        self._engines_said = Recent(lambda: self._engines_now(), time.monotonic)
        self._probed = Recent(lambda: asyncio.to_thread(self._can_accept), self._clock.monotonic)
        self._system = System(settings, self._clock)
        self._ballast = Ballast(self._folder.ballast, settings.reserve_bytes)

    # ---- life

    async def start(self) -> None:
        """See `OfficePort`. Each part is closed again, in the opposite order, where a later one fails or the start is
        cancelled."""
        async with contextlib.AsyncExitStack() as opened:
            await self._open(opened)
            self._opened = opened.pop_all()

    async def _open(self, opened: contextlib.AsyncExitStack) -> None:
        self._system.start()
        opened.callback(self._system.close)
        await asyncio.to_thread(self._ballast.spend)
        self._folder.create()
        await _to_the_end(asyncio.to_thread(self._open_ledger, opened))
        self._spool = Spool(
            self._folder,
            self._disk,
            self._clock,
            name_of=result_name,
            reserve_bytes=self.settings.reserve_bytes,
        )
        self._corrections = Corrections(
            self.settings,
            self._clock,
            self._spool,
            self._ledger,
            Edits(self._folder, self._disk),
            original=self._original,
            notify=self._tell,
        )
        await _to_the_end(asyncio.to_thread(self._recover))
        engines = self._engines = self._engines or engines_for(self.settings)
        self._pool = PagePool(
            processes=self.settings.parser_processes,
            page_seconds=self.settings.page_seconds,
            units=self.settings.pages_socket,
        )
        self._reader = Reader(
            pool=self._pool,
            engines=engines,
            clock=self._clock,
            image_bytes=self.settings.image_bytes,
            max_pages=self.settings.max_pages,
        )
        self._desk = Desk(self.settings, self._spool, self._ledger, self._pool, self._reader, self._tell)
        opened.push_async_callback(self._pool.close)
        await self._pool.start()
        opened.push_async_callback(self._reader.close)
        await self._reader.start()
        self.uploads = Uploads(self._spool, self.settings.max_bytes, self._uploaded)
        await _to_the_end(self.uploads.resume())
        opened.push_async_callback(self._corrections.close)
        self._corrections.start(self._pool, self._reader, engines)
        self._tasks = [
            asyncio.create_task(self._desk.run(), name="desk"),
            asyncio.create_task(self._system.keep(), name="system"),
            asyncio.create_task(self._keep_ballast(), name="ballast"),
        ]
        opened.push_async_callback(self._end_tasks)

    def _open_ledger(self, opened: contextlib.AsyncExitStack) -> None:
        self._ledger = Ledger(self._folder.ledger)
        opened.push_async_callback(asyncio.to_thread, self._ledger.close)

    async def _keep_ballast(self) -> None:
        while True:
            await asyncio.to_thread(self._ballast.keep)
            await asyncio.sleep(BALLAST_SECONDS)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def corrections(self) -> Corrections:
        return self._corrections

    def _recover(self) -> None:
        with exclusive_lock(self._folder):
            for id in self._spool.removals():  # before the last trace of them goes
                self._forget(id)
            found = self._spool.recover()
        rebuilt = self._ledger.rebuild(self._spool)
        self._corrections.recover()
        for scratch in self._folder.state.glob("read-*"):  # of pages that were read or shown when the power failed
            shutil.rmtree(scratch, ignore_errors=True)
        for leftover in found.leftovers:
            log.warning("nobody knows what this is, it is left alone: %s", leftover)
        if rebuilt.added or rebuilt.healed:
            log.info("ledger mended from the folders: %d added, %d healed", rebuilt.added, rebuilt.healed)
        waiting = self._ledger.waiting()
        if all(row.sha256 for row in waiting):  # of a document without one we cannot tell which pages are its own
            works = {work_key(row.sha256 or "", profile_of(row.profile)) for row in waiting}
            self._spool.sweep_checkpoints(works)

    async def close(self) -> None:
        await self._opened.aclose()

    def _tell(self) -> None:
        """Something changed: wake those who wait for events. Who waits from now on waits for the next change."""
        self._system.note(self._reader.stats().pages_read)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # ---- coming in

    async def admit(self, size: int | None) -> None:
        if size is not None and size > self.settings.max_bytes:
            raise TooLarge(f"The file has {size:,} bytes; this appliance accepts {self.settings.max_bytes:,}.")
        await asyncio.to_thread(self._spool.check_space, size or 0)

    async def accept_upload(
        self,
        name: str,
        chunks: AsyncIterator[bytes],
        *,
        sha256: str | None = None,
        wishes: Mapping[str, Any] | None = None,
        relpath: str | None = None,
    ) -> DocumentInfo:
        profile = merge(Profile(priority=Priority.PERSON), wishes or {}, where="upload")
        upload = await asyncio.to_thread(self._spool.begin_upload, name, relpath or name, profile)
        try:
            claim = await self._fill(upload, chunks, sha256)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(upload.abort))
            raise
        await self._desk.register()
        self._desk.wake()
        return await self.document(claim.id)

    async def _fill(self, upload: Upload, chunks: AsyncIterator[bytes], sha256: str | None) -> Claim:
        async for chunk in chunks:
            if upload.size + len(chunk) > self.settings.max_bytes:
                raise TooLarge
            await _to_the_end(asyncio.to_thread(upload.write, chunk))
        return await _to_the_end(asyncio.to_thread(upload.commit, sha256))

    async def _uploaded(self, _id: str) -> None:
        await self._desk.register()
        self._desk.wake()

    async def watched(self, claims: Sequence[str], status: Mapping[str, Any]) -> None:
        self._watch = status
        if claims:
            await self._desk.register()
            self._desk.wake()

    # ---- looking

    def _row(self, id: str) -> Row:
        row = self._ledger.get(id)
        if row is None:
            raise UsageError(
                "There is no such document.", hint="The list of documents shows them all.", code="not_found"
            )
        return row

    def _info(self, row: Row) -> DocumentInfo:
        folder = self._place(row)
        formats = formats_in(folder, result_name(row.name)) if folder else ()
        return DocumentInfo(
            id=row.id,
            seq=row.seq,
            name=row.name,
            relpath=row.relpath,
            state=row.state,
            task=row.task,
            priority=Priority(row.priority).name.lower(),
            received=row.received,
            size=row.size,
            sha256=row.sha256,
            type=row.type,
            pages=row.pages or None,
            pages_done=row.pages_done,
            flags=row.flags,
            code=row.code,
            message=row.message,
            hint=row.hint,
            results=row.results,
            formats=tuple(format.value for format in formats),
            attempts=row.attempts,
        )

    def _place(self, row: Row) -> Path | None:
        """Where the document's result folder was published."""
        return self._folder.results / row.results if row.results else None

    def _results(self, row: Row) -> Path | None:
        """The document's result folder, if it is still there."""
        folder = self._place(row)
        return folder if folder is not None and folder.is_dir() else None

    def _published(self, row: Row) -> Path:
        """The document's result folder. Raises UsageError that says why there is none."""
        folder = self._results(row)
        if folder is not None:
            return folder
        if row.state == "failed":
            raise UsageError(
                "The document could not be read: it has no results.", hint="Its error says why.", code="not_found"
            )
        if row.results is not None:
            raise UsageError(
                "The results are not in their place any more.",
                hint="Somebody carried them away or deleted them. Read the document again to have them anew.",
                code="not_found",
            )
        raise UsageError("The document has no results yet.", hint="Wait until its state is done.", code="not_ready")

    def _files(self, row: Row, format: Format) -> list[Path]:
        folder = self._results(row)
        return files_of(folder, result_name(row.name), format) if folder else []

    async def document(self, id: str) -> DocumentInfo:
        return await asyncio.to_thread(lambda: self._info(self._row(id)))

    async def documents(
        self, *, q: str | None = None, state: str | None = None, after: int | None = None, limit: int = 100
    ) -> Sequence[DocumentInfo]:
        def listed() -> list[DocumentInfo]:
            return [self._info(row) for row in self._ledger.list(q=q, state=state, after=after, limit=limit)]

        return await asyncio.to_thread(listed)

    async def pages(self, id: str, *, after: int = 0, limit: int = 1000) -> Sequence[PageInfo]:
        def listed() -> list[PageInfo]:
            row = self._row(id)
            known = {page.number: page for page in self._ledger.pages(id, after, limit)}
            last = max([*known, min(row.pages, after + limit)], default=0)
            return [
                PageInfo(
                    number=number,
                    state={"done": "read"}.get(page.state, page.state),
                    engine=page.engine,
                    flags=page.flags,
                    score=page.score,
                    seconds=page.seconds,
                    attempts=page.attempts,
                )
                if (page := known.get(number))
                else PageInfo(number=number, state="waiting")
                for number in range(after + 1, last + 1)
            ]

        return await asyncio.to_thread(listed)

    async def page_text(self, id: str, number: int) -> str | None:
        now = await self._corrections.page(id, number)
        return now.page.text() if now else None

    async def page_image(self, id: str, number: int, *, max_side: int, box: Box | None = None) -> tuple[bytes, str]:
        row = await asyncio.to_thread(self._row, id)
        if row.pages and number > row.pages:
            raise no_such_page()
        page = await asyncio.to_thread(self._corrections.as_read, row, number)
        with self._scratch() as scratch:
            path, media_type, own = await self._page_file(row, number, scratch)
            try:
                document = await self._pool.open(path, media_type, passwords=_passwords(row))
            except Unsupported:
                raise UsageError(
                    "There is no picture of this page.", hint="Files of this type are not read.", code="not_found"
                ) from None
            try:
                data = await document.image(own, max_side=max_side, rotation=page.rotation if page else 0, box=box)
            finally:
                await document.close()
        return data, "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"

    async def _page_file(self, row: Row, number: int, scratch: Path) -> tuple[Path, str, int]:
        """The file that page `number` is in, its type, and the page's number in it. An archive is unpacked again."""
        original = self._original(row)
        if row.type not in CONTAINERS:
            return original, row.type or "", number
        records = self._files(row, Format.JSON)
        parts = await asyncio.to_thread(record_parts, records[0]) if records else ()
        part = next((part for part in parts if part.first <= number <= part.last), None)
        members = await self._pool.expand(original, row.type, scratch, passwords=_passwords(row)) if part else []
        for member in members:
            if part and member.name == part.name and member.path:
                return member.path, member.type, number - part.first + 1
        raise UsageError("There is no picture of this page yet.", hint="Wait until it is read.", code="not_ready")

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._folder.state, prefix="read-") as folder:
            yield Path(folder)

    def _original(self, row: Row) -> Path:
        """Where the document's bytes are now."""
        waiting = self._spool.original(row.id)
        path = self._folder.root / row.original if row.original else waiting
        if not path.is_file():
            raise UsageError(
                f"The original of {row.name} is not kept here any more.",
                hint="It was deleted, or stays where it was dropped.",
                code="not_found",
            )
        return path

    async def result_files(self, id: str, format: str) -> Sequence[Path]:
        await self._corrections.exported(id)

        def files() -> list[Path]:
            row = self._row(id)
            return files_of(self._published(row), result_name(row.name), Format(format))

        return await asyncio.to_thread(files)

    async def retry(self, id: str, *, password: str | None = None) -> DocumentInfo:
        def reopen() -> None:
            with self._spool.lock:  # of two who ask at once the second is told that it is being read
                row = self._row(id)
                if row.state not in ("failed", "partial", "done"):
                    raise UsageError("The document is still being read.", hint="Wait for its end.", code="not_ready")
                if password:
                    profile = {**row.profile, "passwords": [password, *_passwords(row)]}
                    self._spool.amend(id, profile)
                    self._ledger.set_profile(id, profile)
                self._spool.reopen(id)
                self._ledger.reopened(id)

        await asyncio.to_thread(reopen)
        self._desk.again(id)
        return await self.document(id)

    async def search(self, q: str, *, limit: int = 50) -> Sequence[Hit]:
        hits = await asyncio.to_thread(self._ledger.search, q, limit)
        plain = str.maketrans("", "", "\u2068\u2069")
        return [Hit(hit.document, hit.name, hit.page, hit.snippet.translate(plain)) for hit in hits]

    # ---- for the screens (see `ScreensPort`)

    async def listed(self, wanted: Filter, *, after: int | None = None, limit: int = 50) -> Sequence[DocumentInfo]:
        def listed() -> list[DocumentInfo]:
            return [self._info(row) for row in self._ledger.list(wanted=wanted, after=after, limit=limit)]

        return await asyncio.to_thread(listed)

    async def folders(self) -> Sequence[str]:
        return await asyncio.to_thread(self._ledger.folders)

    async def strips(self, ids: Sequence[str]) -> Mapping[str, Strip]:
        return await asyncio.to_thread(self._ledger.strips, ids, WARNING_FLAGS)

    async def remaining(self) -> Remaining:
        return Remaining(*await asyncio.to_thread(self._ledger.remaining))

    async def failures(self) -> Mapping[str, int]:
        return await asyncio.to_thread(self._ledger.failures)

    async def remove(self, id: str) -> None:
        def remove() -> None:
            row = self._row(id)
            self._ballast.spend()
            if self._spool.entries(id):
                self._spool.remove(id, self._forget)
            else:
                self._remove_lost(row)
            if row.sha256 is not None and not self._ledger.at_work(row.sha256):
                self._spool.drop_checkpoints(work_key(row.sha256, profile_of(row.profile)))

        await asyncio.to_thread(remove)
        log.info("document %s was deleted", id)
        self._tell()

    def _remove_lost(self, row: Row) -> None:
        """Nothing tells any more which files are the document's: none is touched, and it goes when they are gone."""
        left = [path for path in (self._place(row), row.original and self._folder.root / row.original) if path]
        if any(path.exists() for path in left):
            raise UsageError(
                f"What was written down about {row.name} is gone, so its files are not certain to be its own.",
                hint="Delete them in results/ and done/ or failed/ yourself, and then the document here.",
                code="not_ready",
            )
        self._forget(row.id)

    def _forget(self, id: str) -> None:
        self._ledger.forget(id)
        self._corrections.forget(id)

    async def original_file(self, id: str) -> Path:
        return await asyncio.to_thread(lambda: self._original(self._row(id)))

    async def result_folder(self, id: str) -> Path:
        return await asyncio.to_thread(lambda: self._published(self._row(id)))

    async def system(self) -> SystemInfo:
        return await self._system.info(self._reader.stats().pages_read)

    async def self_test(self) -> SelfTest:
        first = (await self.stats()).engines[0]
        return await selftest.test(self.read_image, first.name)

    async def diagnostics(self) -> bytes:
        rows = await asyncio.to_thread(self._ledger.list, limit=diagnostics.DOCUMENTS)
        return await self._system.export(await self.stats(), self._reader.stats().pages_read, rows)

    async def appliance(self, action: str) -> None:
        if action not in (await self.machine()).offers:
            raise UsageError("This machine does not offer that.", hint="Use its own switch.", code="not_found")
        await self.ask_machine(MachineRequest(appliance.ACTIONS[action]))

    async def machine(self) -> Machine:
        return await asyncio.to_thread(appliance.look, self.settings.appliance_folder)

    async def ask_machine(self, request: MachineRequest) -> None:
        await asyncio.to_thread(appliance.ask, self._folder.requests, request)

    # ---- events

    async def events(self, *, after: int, limit: int = 200) -> Sequence[Event]:
        rows = await asyncio.to_thread(self._ledger.events, after, limit)
        return [Event(row.id, row.kind, row.document, row.data) for row in rows]

    async def last_event(self) -> int:
        return await asyncio.to_thread(self._ledger.last_event)

    async def wait_event(self, *, after: int, timeout: float) -> bool:
        until = asyncio.get_running_loop().time() + timeout
        while True:
            changed = self._changed  # taken before the look, so that nothing between the two is missed
            if await self.last_event() > after:
                return True
            try:
                async with asyncio.timeout_at(until):
                    await changed.wait()
            except TimeoutError:
                return False

    # ---- how it goes

    async def stats(self) -> Stats:
        figures = self._reader.stats()
        disk = shutil.disk_usage(self._folder.root)
        return Stats(
            documents=await asyncio.to_thread(self._ledger.counts),
            pages_read={name: engine["read"] for name, engine in figures.engines.items()},
            pages_failed=figures.pages_failed,
            in_flight=figures.in_flight,
            waiting=figures.waiting,
            bytes_held=figures.image_bytes,
            pages_per_second=figures.pages_per_second,
            engines=await self._engine_infos(),
            watch=self._watch,
            disk_free=disk.free,
            disk_total=disk.total,
            disk_reserve=self.settings.reserve_bytes,
            blocked=self._desk.blocked,
        )

    async def _engine_infos(self) -> tuple[EngineInfo, ...]:
        """As they were a second ago at most. Every page that is opened shows them, and an engine that hangs keeps who
        asks it waiting for seconds."""
        return await self._engines_said.get(ENGINES_SECONDS)

    async def _engines_now(self) -> tuple[EngineInfo, ...]:
        engines = self._engines
        assert engines is not None
        roles: list[tuple[str, Engine | None]] = [("primary", engines.primary), ("fallback", engines.fallback)]
        present = [(role, engine) for role, engine in roles if engine is not None]
        return tuple([await engine_info(engine, role, admits=self._reader.admits(engine)) for role, engine in present])

    async def health(self) -> OfficeHealth:
        live = bool(self._tasks) and not any(task.done() for task in self._tasks)
        # Anybody may ask, and a crowd's probes would keep the disk and the threads from all else.
        state = await self._probed.get(PROBE_SECONDS)
        checks = {"desk": "ok" if live else "the desk has stopped", "storage": state}
        return OfficeHealth(live=live, ready=live and state == "ok", checks=checks)

    def _can_accept(self) -> str:
        """Write and sync a real file, as accepting a document would."""
        try:
            self._disk.step("probe")
            self._spool.check_space(0)
            probe = self._folder.state / "probe"
            with probe.open("wb") as file:
                file.write(b"inkstick")
                file.flush()
                os.fsync(file.fileno())
        except InkstickError as error:
            return error.message
        except OSError as error:
            return f"The data folder cannot be written: {error.strerror}."
        return "ok"

    # ---- at once

    async def read_image(self, image: bytes, request: Request) -> Page:
        return (await self.read_page(image, Asked(atonce.profile_of(request)))).page

    async def read_page(self, source: bytes | PageOf, asked: Asked, told: Told = untold) -> PageRead:
        asked = replace(asked, profile=atonce.check(asked.profile, await self._engine_infos()))
        with self._scratch() as scratch:
            if isinstance(source, bytes):
                path, media_type = await atonce.written(source, scratch / "image", self.settings.max_bytes)
            else:
                row = await asyncio.to_thread(self._row, source.document)
                path, media_type, number = await self._page_file(row, source.number, scratch)
                profile = replace(asked.profile, passwords=(*asked.profile.passwords, *_passwords(row)))
                asked = replace(asked, number=number, profile=profile)
            return await atonce.read(self._pool, self._reader, path, media_type, asked, told)


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Not given up in the middle: a cancellation waits until it is done."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _passwords(row: Row) -> tuple[str, ...]:
    return tuple(row.profile.get("passwords", ()))
