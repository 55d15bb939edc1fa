"""One document's way through, for many documents at a time: identify, read, publish, conclude.

Invariants:
- A document comes to the desk after it was accepted; leaving the desk at any moment loses nothing but the work since
  its last page checkpoint.
- The folders decide. The ledger is told after a step is durable, and can be rebuilt from the folders.
- The same bytes with the same wishes are read once: who comes second waits for the first and takes its pages.
- A document's fault ends that document. What is nobody's fault (engine, disk) leaves it waiting, in place; and those
  that wait leave the others their turn, however many they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from inkstick.config import Settings
from inkstick.document import Page, Part
from inkstick.errors import (
    Blocked,
    DiskFull,
    DocumentError,
    Incomplete,
    InkstickError,
    Internal,
    Unavailable,
    by_code,
    refused_by,
)
from inkstick.pages.pool import PagePool
from inkstick.profile import Format, Priority, Profile, merge
from inkstick.reading.reader import Job, Reader
from inkstick.reading.source import PartFile
from inkstick.results.publish import build
from inkstick.store.claim import Claim, Outcome
from inkstick.store.edits import Edits
from inkstick.store.ledger import Ledger, Row
from inkstick.store.shelf import UNREADABLE
from inkstick.store.spool import Spool
from inkstick.work import (
    CONTAINERS,
    Content,
    Pages,
    Summary,
    check_whole,
    files_of,
    header_of,
    identify_file,
    is_whole,
    part_originals,
    parts_of,
    record_pages,
    record_parts,
    with_cut,
    work_key,
)

log = logging.getLogger(__name__)

Entry = tuple[int, int, int, str]
"""A document in line: how often it was held up, its priority, its number, its id."""

BLOCKED_SECONDS = 5.0
"""How long a document that nobody's fault holds up waits before it is tried again."""


class Desk:
    """Takes accepted documents to their end. `notify` is called after anything changed that people may be watching."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        ledger: Ledger,
        pool: PagePool,
        reader: Reader,
        notify: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._spool, self._ledger = settings, spool, ledger
        self._pool, self._reader, self._notify = pool, reader, notify
        self._edits = Edits(settings.folder, spool.disk)
        self._known: set[str] = set()
        self._waiting: list[Entry] = []
        self._retries: list[Entry] = []
        """In line once more after they were held up, those first that were least often."""
        self._held: dict[str, int] = {}
        """How often a document was held up since it came to the desk."""
        self._contents: dict[str, Content] = {}
        """Of those at work: nobody writes into the spool, and hashing gigabytes anew each time would keep the disk."""
        self._active: dict[str, asyncio.Task[None]] = {}
        self._asleep: set[str] = set()
        """Of the active ones those that wait and need no place. On a full disk they keep it: nothing else would go."""
        self._works: dict[str, tuple[asyncio.Lock, int]] = {}
        self._publishing = asyncio.Semaphore(2)
        self._again: set[str] = set()
        self._blocked: dict[str, InkstickError] = {}
        self._registering = asyncio.Lock()
        self._wake = asyncio.Event()

    @property
    def blocked(self) -> tuple[str, str] | None:
        """Code and message of what documents on the desk wait for, if they do."""
        return next(((error.code, error.message) for error in self._blocked.values()), None)

    # ---- the loop

    async def run(self) -> None:
        """Until cancelled: find accepted documents, keep enough of them on the desk."""
        await asyncio.to_thread(self._resume)
        try:
            while True:
                self._wake.clear()
                try:
                    await self.register()
                except (InkstickError, OSError) as error:  # a full disk: the claims are in the spool, and stay there
                    log.warning("new documents wait: %s", error)
                self._fill()
                await self._finish_removals()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._wake.wait()
        finally:
            await self._clear()

    async def _finish_removals(self) -> None:
        try:
            await asyncio.to_thread(self._spool.finish_removals)
        except (InkstickError, OSError) as error:
            log.warning("a deletion waits: %s", type(error).__name__)

    def wake(self) -> None:
        """Look again now: something was accepted or put back."""
        self._wake.set()

    async def register(self) -> None:
        """Take claims that the ledger does not know into it; the spool is the truth, a poke only a hint."""
        async with self._registering:
            claims = await asyncio.to_thread(lambda: list(self._spool.claims(skip=self._known)))
            if not claims:
                return
            await asyncio.to_thread(self._ledger.accept, claims)
            for claim in claims:
                self._known.add(claim.id)
        self._enqueue(await asyncio.to_thread(lambda: [self._ledger.get(claim.id) for claim in claims]))
        self._notify()

    def again(self, id: str) -> None:
        """A document was put back for another reading."""
        self._again.add(id)
        self._enqueue([self._ledger.get(id)])
        self.wake()

    def _resume(self) -> None:
        """After a start: everything in the ledger is known, what is not at its end is to be taken up again."""
        rows = self._ledger.waiting()
        self._known.update(self._ledger.ids())
        self._enqueue(rows)

    def _enqueue(self, rows: Iterable[Row | None]) -> None:
        """Line documents up. Never beside `_fill`: on the loop's thread, or before the loop begins."""
        for row in rows:
            if row is not None:
                self._line_up((self._held.get(row.id, 0), row.priority, row.seq, row.id))

    def _line_up(self, entry: Entry) -> None:
        heapq.heappush(self._retries if entry[0] else self._waiting, entry)

    def _fill(self) -> None:
        """Open documents up to the reader's appetite; a person's document is opened at once."""
        limit = max(8, 2 * self._reader.limit)
        leaving = []
        while (entry := self._next(limit)) is not None:
            id = entry[-1]
            if id in self._active:  # put back for another reading while its task has not quite left
                leaving.append(entry)
            else:
                self._active[id] = asyncio.create_task(self._document(id), name=f"document {id}")
        for entry in leaving:
            self._line_up(entry)

    def _next(self, limit: int) -> Entry | None:
        """Whose turn it is, if there is room. Those that were held up have half of it at the most, asleep or not."""
        busy = len(self._active) - len(self._asleep)
        retrying = sum(1 for id in self._held if id in self._active)
        if self._retries and busy < limit and retrying < limit // 2:
            return heapq.heappop(self._retries)
        if self._waiting and busy < (2 * limit if self._waiting[0][1] == Priority.PERSON else limit):
            return heapq.heappop(self._waiting)
        return None

    async def _clear(self) -> None:
        tasks = list(self._active.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- one document

    async def _document(self, id: str) -> None:
        """Take one document to its end, or leave it waiting and take it up again a little later."""
        try:
            await self._take(id)
        except (Blocked, OSError) as error:
            await self._wait(id, error if isinstance(error, Blocked) else refused_by(error))
        except Exception:
            log.exception("document %s was left waiting by a fault of our own", id)
            await self._wait(id, Unavailable("Inkstick stumbled over this document and will try again."))
        finally:
            self._active.pop(id, None)
            self._asleep.discard(id)
            self._blocked.pop(id, None)
            self._notify()
            self.wake()

    async def _wait(self, id: str, error: Blocked) -> None:
        self._blocked[id] = error
        with contextlib.suppress(InkstickError, OSError):  # the ledger may be what cannot be written
            await self._state(id, "blocked", error)
        self._held[id] = self._held.get(id, 0) + 1
        if not isinstance(error, DiskFull):
            self._asleep.add(id)
            self.wake()
        self._enqueue([await self._later(id)])

    async def _later(self, id: str) -> Row | None:
        """The document's row, a little later; later still where the ledger cannot be asked."""
        while True:
            await asyncio.sleep(BLOCKED_SECONDS)
            with contextlib.suppress(InkstickError, OSError):
                return await asyncio.to_thread(self._ledger.get, id)

    async def _state(self, id: str, state: str, error: InkstickError | None = None) -> None:
        if error is None:
            self._blocked.pop(id, None)
        else:
            self._blocked[id] = error
        explained = (error.code, error.message, error.hint) if error else (None, None, None)
        await asyncio.to_thread(self._ledger.set_state, id, state, *explained)
        self._notify()

    async def _take(self, id: str) -> None:
        try:
            claim = await asyncio.to_thread(self._spool.claim, id)
            intended = await asyncio.to_thread(self._spool.outcome, id)
        except (*UNREADABLE, FileNotFoundError):
            await asyncio.to_thread(self._lost, id)
            return
        if intended is not None:  # its end was written down, and then the disk was full
            await self._conclude(claim, intended)
            return
        await self._state(id, "reading")
        try:
            if claim.verdict is not None and id not in self._again:
                raise by_code(claim.verdict["code"], claim.verdict["message"], claim.verdict["hint"])
            profile = merge(Profile(), claim.profile, where=claim.name)
            identity = await self._identify(claim)
            work = work_key(identity.sha256, profile)
            async with self._alone(work):
                await self._read_and_publish(claim, profile, identity, work)
        except (Blocked, OSError, asyncio.CancelledError):
            raise
        except DocumentError as error:
            await self._conclude(claim, failure(error))
        except Exception as error:
            log.exception("document %s failed by a fault of our own", id)
            await self._conclude(claim, failure(Internal(f"Inkstick failed on it: {type(error).__name__}.")))

    def _lost(self, id: str) -> None:
        """Somebody, or the disk, has taken away what was written down about the document: it can never go on."""
        if not self._spool.disk.exists(self._settings.folder.spool):
            raise Unavailable
        log.error("document %s is not in the spool any more, or cannot be read there", id)
        row = self._ledger.get(id)
        error = Internal("What Inkstick had written down about the document is gone.", hint="Drop it once more.")
        outcome = replace(failure(error), attempts=max(1, row.attempts if row else 1))
        self._held.pop(id, None)
        self._contents.pop(id, None)
        self._ledger.concluded(id, outcome)

    async def _identify(self, claim: Claim) -> Content:
        path = self._spool.original(claim.id)
        content = self._contents.get(claim.id)
        if content is None:
            content = await asyncio.to_thread(identify_file, path, self._settings.max_bytes)
            self._contents[claim.id] = content
        await asyncio.to_thread(self._ledger.set_content, claim.id, content.sha256, content.size)
        if claim.id in self._again:  # somebody wants what there is of it
            return replace(content, whole=await asyncio.to_thread(is_whole, path))
        if claim.source == "upload":  # a dropped file was judged before it was taken
            await asyncio.to_thread(check_whole, path)
        return content

    @contextlib.asynccontextmanager
    async def _alone(self, work: str) -> AsyncIterator[None]:
        """One document at a time for the same work; the page checkpoints go with the last one."""
        lock, users = self._works.get(work, (asyncio.Lock(), 0))
        self._works[work] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._works.pop(work)
            if users > 1:
                self._works[work] = (lock, users - 1)

    async def _read_and_publish(self, claim: Claim, profile: Profile, content: Content, work: str) -> None:
        files = await self._parts(claim, profile, content)
        twin = await asyncio.to_thread(self._twin, claim, profile, content)
        if twin is None:
            parts = await self._read(claim, profile, content, work, files)
            parts = await asyncio.to_thread(with_cut, parts, files)
            pages = Pages(functools.partial(self._spool.checkpoints, work))
            if await asyncio.to_thread(self._spool.drop_torn_checkpoints, work):
                raise Unavailable("Pages that were read came back damaged from the disk: they are read again.")
        else:
            id, record = twin
            read = Pages(functools.partial(record_pages, record))
            pages = Pages(functools.partial(self._edits.under, id, read))  # its corrections are not this one's
            parts = await asyncio.to_thread(record_parts, record)
            await asyncio.to_thread(self._ledger.pages_done, claim.id, pages)
        summary = await asyncio.to_thread(Summary.of, pages)
        if summary.read == 0:
            await self._let_go(work)  # or a retry would find all its pages read already: as failed
            raise summary.reason()
        await self._publish(claim, profile, content, pages, _Parts(files, parts), summary)
        await self._let_go(work)

    async def _let_go(self, work: str) -> None:
        """The page checkpoints go, unless somebody else waits for them."""
        if self._works[work][1] == 1:
            await asyncio.to_thread(self._spool.drop_checkpoints, work)

    async def _parts(self, claim: Claim, profile: Profile, content: Content) -> tuple[PartFile, ...]:
        into = self._spool.folder(claim.id) / "parts"
        await asyncio.to_thread(shutil.rmtree, into, ignore_errors=True)
        return await parts_of(self._pool, self._spool.original(claim.id), content, into, profile.passwords)

    def _twin(self, claim: Claim, profile: Profile, content: Content) -> tuple[str, Path] | None:
        """An earlier document of the same bytes, read whole in the same way: id and record. A retry reads anew."""
        row = self._ledger.find_done(content.sha256, profile.reading_key())
        if row is None or row.id == claim.id or not row.results or claim.id in self._again:
            return None
        records = files_of(self._settings.folder.results / row.results, self._spool.name_of(row.name), Format.JSON)
        return (row.id, records[0]) if records and _is_intact(records[0], row) else None

    async def _read(
        self, claim: Claim, profile: Profile, content: Content, work: str, files: tuple[PartFile, ...]
    ) -> tuple[Part, ...]:
        """Have every page read that has no checkpoint yet. Returns the parts of an archive or mail."""

        async def on_opened(pages: int) -> None:
            await asyncio.to_thread(self._ledger.set_pages, claim.id, pages, content.type)
            self._notify()

        async def on_page(page: Page) -> None:
            await asyncio.to_thread(self._spool.checkpoint, work, page)
            await asyncio.to_thread(self._ledger.page_done, claim.id, page)
            self._notify()

        async def on_blocked(code: str) -> None:
            await self._state(claim.id, "blocked", by_code(code))

        async def on_unblocked() -> None:
            await self._state(claim.id, "reading")

        row = await asyncio.to_thread(self._ledger.get, claim.id)
        job = Job(
            id=claim.id,
            parts=files,
            profile=profile,
            order=row.seq if row else 0,
            on_page=on_page,
            on_opened=on_opened,
            on_blocked=on_blocked,
            on_unblocked=on_unblocked,
            have=await asyncio.to_thread(self._spool.checkpoint_numbers, work),
        )
        ticket = self._reader.submit(job)
        try:
            return (await ticket).parts
        except asyncio.CancelledError:
            ticket.cancel()
            raise

    async def _publish(
        self, claim: Claim, profile: Profile, content: Content, read: Pages, parts: _Parts, summary: Summary
    ) -> None:
        # What people corrected before this reading stays as they left it.
        pages = Pages(functools.partial(self._edits.over, claim.id, read))
        async with self._publishing:
            staging = await asyncio.to_thread(self._spool.staging, claim.id)
            await build(
                staging,
                self._spool.name_of(claim.name),
                header_of(claim.name, content, profile, parts.records),
                pages,
                profile.formats,
                original=self._spool.original(claim.id),
                pool=self._pool,
                passwords=profile.passwords,
                part_original=part_originals(parts.records, parts.files),
            )
            await asyncio.to_thread(self._tell_corrected, claim.id)  # before its end, which people wait for
            await self._conclude(claim, ending(content, parts.records, summary))

    def _tell_corrected(self, id: str) -> None:
        """The ledger was told of pages as they were read: here are those that people had corrected before."""
        corrected = [version.page for number in self._edits.pages(id) if (version := self._edits.newest(id, number))]
        if corrected:
            self._ledger.pages_done(id, corrected)

    async def _conclude(self, claim: Claim, wish: Outcome) -> None:
        row = await asyncio.to_thread(self._ledger.get, claim.id)
        wish = replace(wish, attempts=max(1, row.attempts if row else 1))  # putting it back for another reading counts
        outcome = await asyncio.to_thread(self._spool.conclude, claim.id, wish)
        self._held.pop(claim.id, None)
        self._contents.pop(claim.id, None)
        self._again.discard(claim.id)  # before its end is told: from then on it may be put back for yet another reading
        await asyncio.to_thread(self._ledger.concluded, claim.id, outcome)
        self._notify()


def _is_intact(record: Path, row: Row) -> bool:
    """Whether a published record still has all that was read: it lies where people may write."""
    try:
        parts, pages = record_parts(record), sum(1 for _ in record_pages(record))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return pages == row.pages and (bool(parts) or row.type not in CONTAINERS)


@dataclass(frozen=True, slots=True)
class _Parts:
    """An archive's files as unpacked, and what is said of them in the record."""

    files: tuple[PartFile, ...]
    records: tuple[Part, ...]


def ending(content: Content, parts: tuple[Part, ...], summary: Summary) -> Outcome:
    """How a document ends of which at least one page was read."""
    refused = next((part.error for part in parts if part.error is not None), None)
    error = refused if not summary.failed else summary.reason().as_json()
    if error is None and not content.whole:
        error = Incomplete().as_json()
    return Outcome(
        state="done" if error is None else "partial",
        error=error,
        pages=summary.read + len(summary.failed),
        sha256=content.sha256,
        size=content.size,
        type=content.type,
        failed_pages=summary.failed,
    )


def failure(error: DocumentError) -> Outcome:
    return Outcome(state="failed", error=error.as_json())
