"""Correcting: pages as people left them, readings once more, results that follow.

Implements `inkstick.web.corrections_port.CorrectionsPort`. A correction is saved when its version is on the disk
(`store.edits`); the search knows it in the same breath; the results are made anew in the background, all corrections
that came meanwhile at once, and nobody is given results that lack a saved one without being told.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import logging
import secrets
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from inkstick.clock import Clock
from inkstick.config import Settings
from inkstick.correct import change as changing
from inkstick.correct.doubt import LOW, SETTLED
from inkstick.document import Header, Page, Task, header_from_json, page_json
from inkstick.engines.protocol import Engine
from inkstick.errors import Blocked, DocumentError, EngineDown, Unsupported, UsageError, by_code, no_such_page
from inkstick.pages.pool import PagePool
from inkstick.pages.view import TextLayerMode
from inkstick.profile import EngineChoice, Format, Priority, Profile, SecondMode, merge
from inkstick.reading.reader import Engines, Job, Reader
from inkstick.reading.source import PartFile
from inkstick.results.formats import result_path
from inkstick.results.pages import RecordPages
from inkstick.results.publish import build
from inkstick.store.disk import StorageSuspect
from inkstick.store.edits import Edits, Version, conflict
from inkstick.store.ledger import Ledger, Row, profile_of
from inkstick.store.shelf import NOT_TOLD
from inkstick.store.spool import Spool
from inkstick.web.corrections_port import PageNow, Proposal, VersionInfo, Wish
from inkstick.work import CONTAINERS, Content, Pages, files_of, part_originals, parts_of, record_pages, work_key

log = logging.getLogger(__name__)

PROPOSALS = 64
"""Readings once more that are remembered until somebody decides."""
PATIENCE = 20.0
"""Seconds that a download waits for results that are being made anew."""
AGAIN_SECONDS = 5.0
"""After an export that failed (the disk was full), until it is tried once more."""
TASKS = (Task.PARSE, Task.TEXT, Task.TABLE, Task.FORMULA, Task.CHART, Task.SPOTTING)
"""What a single page can be asked for again: the tasks that need no further wishes."""


class Corrections:
    """See the module's docstring. `original` finds a document's file, or raises UsageError; `notify` wakes those who
    wait for events."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        spool: Spool,
        ledger: Ledger,
        edits: Edits,
        *,
        original: Callable[[Row], Path],
        notify: Callable[[], None],
    ) -> None:
        self._settings, self._clock = settings, clock
        self._spool, self._ledger, self._edits = spool, ledger, edits
        self._original, self._notify = original, notify
        self._records = RecordPages()
        self._proposals: OrderedDict[str, tuple[str, int, Page]] = OrderedDict()
        self._exports: dict[str, asyncio.Task[None]] = {}
        self._exporting = asyncio.Semaphore(1)

    # ---- life

    def recover(self) -> None:
        """Before the office opens: what a crash cut off is put right; the search is told what it may have missed."""
        for id in self._edits.documents():
            row = self._ledger.get(id)
            try:
                self._edits.recover(id, self._results(row) if row else None)
                if row and self._edits.is_unpublished(id):
                    self._ledger.pages_done(id, list(self._changed(id)))
            except StorageSuspect:
                raise
            except (*NOT_TOLD, Blocked, OSError) as error:
                log.error("what people corrected in %s cannot be taken up: %s", id, type(error).__name__)

    def forget(self, id: str) -> None:
        """The document is deleted: so is what people wrote."""
        self._edits.forget(id)

    def _changed(self, id: str) -> Iterator[Page]:
        for number in self._edits.pages(id):
            version = self._edits.newest(id, number)
            if version:
                yield version.page

    def start(self, pool: PagePool, reader: Reader, engines: Engines) -> None:
        """From now on pages can be read once more, and results made; those that are due are."""
        self._pool, self._reader, self._engines = pool, reader, engines
        for id in self._edits.unpublished():
            self._follow(id)

    async def close(self) -> None:
        for task in self._exports.values():
            task.cancel()
        await asyncio.gather(*self._exports.values(), return_exceptions=True)

    # ---- looking

    async def page(self, id: str, number: int) -> PageNow | None:
        now = await asyncio.to_thread(self._now, self._row(id), number)
        if now is not None and now.editable and not now.exported:
            self._follow(id)  # it may have been put off while the document was read again
        return now

    def _now(self, row: Row, number: int) -> PageNow | None:
        newest = self._edits.newest(row.id, number)
        page = newest.page if newest else self.as_read(row, number)
        if page is None:
            return None
        exported = not self._edits.is_unpublished(row.id)
        return PageNow(page, newest.number if newest else 0, exported, _is_ended(row))

    def as_read(self, row: Row, number: int) -> Page | None:
        """From the published record, or from the page's checkpoint while the document is at work."""
        record = self._record(row)
        if record is not None:
            with contextlib.suppress(FileNotFoundError):
                return self._records.page(record, number)
        if row.sha256 is None:
            return None
        profile = profile_of(row.profile)
        return self._spool.checkpoint_page(work_key(row.sha256, profile), number)

    async def version(self, id: str, number: int, version: int) -> Page:
        self._row(id)
        return (await asyncio.to_thread(self._edits.version, id, number, version)).page

    async def versions(self, id: str, number: int) -> Sequence[VersionInfo]:
        self._row(id)
        found = await asyncio.to_thread(self._edits.versions, id, number)
        return [VersionInfo(version.number, version.who, version.when, version.what) for version in found]

    async def doubtful(self, id: str, number: int, *, back: bool = False) -> int | None:
        return await asyncio.to_thread(self._ledger.noted, id, number, SETTLED, LOW, back=back)

    def _row(self, id: str) -> Row:
        row = self._ledger.get(id)
        if row is None:
            hint = "The list of documents shows them all."
            raise UsageError("There is no such document.", hint=hint, code="not_found")
        return row

    def _results(self, row: Row) -> Path | None:
        return self._settings.folder.results / row.results if row.results else None

    def _record(self, row: Row) -> Path | None:
        folder = self._results(row)
        records = files_of(folder, self._spool.name_of(row.name), Format.JSON) if folder else []
        return records[0] if records else None

    # ---- changing

    async def change(
        self, id: str, number: int, version: int, changes: Sequence[changing.Change], *, who: str
    ) -> PageNow:
        def changed(page: Page) -> Page:
            return changing.apply(page, changes)

        checked = all(isinstance(change, changing.Settle) and change.text is None for change in changes)
        return await self._save(id, number, version, changed, who, "checked" if checked else "text")

    async def restore(self, id: str, number: int, version: int, to: int, *, who: str) -> PageNow:
        def restored(page: Page) -> Page:
            return self._edits.version(id, number, to).page

        return await self._save(id, number, version, restored, who, "restored")

    async def accept(self, id: str, number: int, version: int, key: str, *, who: str) -> PageNow:
        proposal = await self.proposal(id, number, key)
        now = await self._save(id, number, version, lambda page: changing.reread(page, proposal.page), who, "reread")
        self._proposals.pop(key, None)
        return now

    async def _save(
        self, id: str, number: int, version: int, changed: Callable[[Page], Page], who: str, what: str
    ) -> PageNow:
        def save() -> PageNow:
            row = self._row(id)
            now = self._now(row, number)
            if not _is_ended(row) or self._record(row) is None or now is None:
                hint = "Wait for the document's end."
                raise UsageError("The page cannot be changed now.", hint=hint, code="not_ready")
            if version != now.version:
                raise conflict()
            when = self._clock.wall().isoformat(timespec="seconds")
            saved = self._edits.save(id, version, now.page, Version(0, changed(now.page), who, when, what))
            self._ledger.pages_done(id, [saved.page])
            return PageNow(saved.page, saved.number, exported=False)

        now = await asyncio.to_thread(save)
        self._follow(id)
        self._notify()
        return now

    # ---- reading once more

    async def engines(self) -> Sequence[tuple[str, Sequence[Task]]]:
        return [(engine.name, [task for task in TASKS if task in engine.tasks]) for engine in self._all_engines()]

    def _all_engines(self) -> list[Engine]:
        return [engine for engine in (self._engines.primary, self._engines.fallback) if engine is not None]

    async def reread(self, id: str, number: int, wish: Wish) -> Proposal:
        row = await asyncio.to_thread(self._row, id)
        now = await asyncio.to_thread(self._now, row, number)
        if now is None or not now.editable:
            raise UsageError("The page is not read yet.", hint="Wait for the document's end.", code="not_ready")
        self._check(wish)
        page = await self._read(row, number, self._profile(row, wish))
        if page.error is not None:
            raise by_code(page.error["code"], page.error["message"], page.error["hint"])
        key = secrets.token_hex(8)
        self._proposals[key] = (id, number, page)
        while len(self._proposals) > PROPOSALS:
            self._proposals.popitem(last=False)
        return Proposal(key, page)

    def _check(self, wish: Wish) -> None:
        engines = [engine for engine in self._all_engines() if wish.engine in (EngineChoice.AUTO, engine.name)]
        if not engines:
            raise UsageError(f"The engine {wish.engine} is not here.", hint="Choose one of those that are.")
        if wish.task not in TASKS or not any(wish.task in engine.tasks for engine in engines):
            raise Unsupported(f"The task {wish.task} is not offered here.", hint="Choose the task parse or text.")

    def _profile(self, row: Row, wish: Wish) -> Profile:
        asked = {"task": wish.task.value, "engine": wish.engine.value, "prompt": wish.prompt}
        own = merge(Profile(), {"passwords": list(_passwords(row)), **asked}, where="reread")
        return replace(
            own, priority=Priority.PERSON, text_layer=TextLayerMode.SKIP, second_reader=SecondMode.ON
        )  # fmt: skip

    async def _read(self, row: Row, number: int, profile: Profile) -> Page:
        found: list[Page] = []

        async def on_page(page: Page) -> None:
            found.append(page)

        with self._scratch() as scratch:
            original = await asyncio.to_thread(self._true_original, row)
            files = await parts_of(self._pool, original, _content(row), scratch / "parts", profile.passwords)
            have = frozenset(range(1, max(row.pages, number) + 1)) - {number}
            job = Job(f"once more {row.id}/{number}", files, profile, order=0, on_page=on_page, have=have)
            ticket = self._reader.submit(job)
            try:
                async with asyncio.timeout(self._settings.engine_seconds):
                    await ticket
            except TimeoutError:
                raise EngineDown("The engine did not read the page in time.", hint="Try again later.") from None
            finally:
                ticket.cancel()
        if not found:
            raise no_such_page()
        return found[0]

    async def proposal(self, id: str, number: int, key: str) -> Proposal:
        known = self._proposals.get(key)
        if known is None or known[:2] != (id, number):
            hint = "Read the page once more."
            raise UsageError("That reading is not kept any more.", hint=hint, code="not_found")
        return Proposal(key, known[2])

    # ---- results that follow

    async def exported(self, id: str) -> None:
        if not self._edits.is_unpublished(id):
            return
        task = self._follow(id)
        await asyncio.wait([task], timeout=PATIENCE)
        if self._edits.is_unpublished(id):
            raise UsageError(
                "The results are being made anew with the corrections.",
                hint="Nothing is lost: ask again in a little while.",
                code="not_ready",
            )

    def _follow(self, id: str) -> asyncio.Task[None]:
        """See to it that the results of a document hold what was saved."""
        task = self._exports.get(id)
        if task is None or task.done():
            task = self._exports[id] = asyncio.create_task(self._export_all(id), name=f"export {id}")
            task.add_done_callback(functools.partial(self._followed, id))
        return task

    def _followed(self, id: str, task: asyncio.Task[None]) -> None:
        if self._exports.get(id) is task:
            del self._exports[id]
        if not task.cancelled() and task.exception() is not None:
            log.error("the results of %s do not follow its corrections", id, exc_info=task.exception())

    async def _export_all(self, id: str) -> None:
        while await asyncio.to_thread(self._edits.is_unpublished, id):
            try:
                async with self._exporting:
                    if not await self._export(id):
                        return
            except (Blocked, OSError) as error:
                log.warning("the results of %s wait to follow its corrections: %s", id, error)
                await asyncio.sleep(AGAIN_SECONDS)
        await asyncio.to_thread(self._ledger.event, "document", id, {"exported": True})
        self._notify()

    async def _export(self, id: str) -> bool:
        """Make the results anew. False where there are none (any more), or the desk is about to make them."""
        row = await asyncio.to_thread(self._row, id)
        record, results = await asyncio.to_thread(self._record, row), self._results(row)
        if record is None or results is None or not _is_ended(row):
            return False
        count = self._edits.saved_count(id)
        staging = await asyncio.to_thread(self._edits.staging, id)
        pages = Pages(lambda: self._edits.over(id, record_pages(record)))
        await self._write(row, staging, record, pages)
        await asyncio.to_thread(self._edits.publish, id, results, count)
        return True

    async def _write(self, row: Row, staging: Path, record: Path, pages: Pages) -> None:
        profile = profile_of(row.profile)
        header = await asyncio.to_thread(_header, record)
        name = self._spool.name_of(row.name)
        with self._scratch() as scratch:
            original = await asyncio.to_thread(self._kept_original, row)
            files: tuple[PartFile, ...] = ()
            if original is not None and header.parts:
                try:
                    files = await parts_of(self._pool, original, _content(row), scratch / "parts", profile.passwords)
                except DocumentError as error:  # less room than when it was read, say: its copies stay as they were
                    log.warning("the members of %s cannot be had again: %s", row.id, error.code)
                    original = None
            await build(
                staging,
                name,
                header,
                pages,
                profile.formats,
                original=original,
                pool=self._pool,
                passwords=profile.passwords,
                part_original=part_originals(header.parts, files) if files else None,
            )
            if original is None:
                await self._without_original(record.parent, staging, name, header, pages, scratch)

    async def _without_original(
        self, old: Path, staging: Path, name: str, header: Header, pages: Pages, scratch: Path
    ) -> None:
        """The original is gone: its searchable copy is the picture of the pages, its invisible text made anew. The
        copies of an archive's members stay as they were."""
        copies = await asyncio.to_thread(lambda: sorted(old.rglob("*.pdf")))
        for copy in copies:
            target = staging / copy.relative_to(old)
            if header.type in CONTAINERS or copy != result_path(old, name, Format.PDF):
                await asyncio.to_thread(_carry_over, copy, target)
                continue
            jsonl = scratch / "pages.jsonl"
            await asyncio.to_thread(_write_lines, pages, jsonl)
            await self._pool.searchable_pdf(copy, "application/pdf", jsonl, target)

    def _kept_original(self, row: Row) -> Path | None:
        try:
            return self._true_original(row)
        except UsageError:
            return None

    def _true_original(self, row: Row) -> Path:
        """The very file that was read: people may write where it lies. Raises UsageError."""
        path = self._original(row)
        with path.open("rb") as file:
            if row.sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != row.sha256:
                raise UsageError(
                    "Where the original was, there is another file now.",
                    hint="Put the original back, or drop the other file into the inbox.",
                    code="not_found",
                )
        return path

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._settings.folder.state, prefix="read-") as folder:
            yield Path(folder)


def _is_ended(row: Row) -> bool:
    return row.state in ("done", "partial")


def _content(row: Row) -> Content:
    return Content(row.type or "", row.sha256 or "", row.size or 0)


def _passwords(row: Row) -> tuple[str, ...]:
    return tuple(row.profile.get("passwords", ()))


def _header(record: Path) -> Header:
    with record.open(encoding="utf-8") as file:
        for line in file:
            text = line.strip()
            if text.startswith('"document":'):
                return header_from_json(json.JSONDecoder().raw_decode(text, len('"document": '))[0])
    raise UsageError("The record cannot be read.", hint="Read the document again.", code="not_ready")


def _write_lines(pages: Pages, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for page in pages:
            file.write(json.dumps(page_json(page)) + "\n")


def _carry_over(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
