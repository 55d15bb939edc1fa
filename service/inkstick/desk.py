"""One document's way through, for many documents at a time: claim, identify, read, publish, conclude.

Invariants:
- A document is on the desk only after it was accepted; leaving the desk at any moment loses nothing but work since the
  last page checkpoint.
- The folders decide. The ledger is told after a step is durable, and can be rebuilt from the folders.
- The same bytes with the same wishes are read once at a time: the second comer waits and takes the pages of the first.
- A document's fault ends that document. What is nobody's fault (engine, disk) leaves it waiting, in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inkstick import __version__
from inkstick.config import Settings
from inkstick.document import Header, Page, Part, Task, page_from_json
from inkstick.errors import Blocked, DocumentError, Internal, PageFailed, TooLarge, Unsupported
from inkstick.intake.identify import identify
from inkstick.pages.pool import PagePool
from inkstick.profile import Originals, Profile, merge
from inkstick.reading.reader import Job, PartFile, Reader
from inkstick.results.publish import build
from inkstick.store.ledger import Ledger
from inkstick.store.spool import Claim, Outcome, Spool

log = logging.getLogger(__name__)

CONTAINERS = ("application/zip", "message/rfc822")
"""Types whose members are the documents."""

EDGE = 64 << 10
"""Bytes of head and tail that identify a file's type."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the bytes are: media type, sha256, size in bytes."""

    type: str
    sha256: str
    size: int


def identify_file(path: Path, max_bytes: int) -> Identity:
    """Hash and identify a file. Raises TooLarge, or Unsupported for a type that is not read."""
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
        raise Unsupported()
    return Identity(str(media), digest.hexdigest(), size)


def record_pages(record: Path) -> Iterator[Page]:
    """The pages of a published ``<name>.json``, one line at a time (`document.record_chunks` writes a page a line)."""
    decoder = json.JSONDecoder()
    with record.open(encoding="utf-8") as file:
        for line in file:
            text = line.strip()
            if text.startswith('{"number"'):
                yield page_from_json(decoder.raw_decode(text)[0])


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
        self._known: set[str] = set()
        self._waiting: list[tuple[int, int, str]] = []
        self._active: dict[str, asyncio.Task[None]] = {}
        self._works: dict[str, asyncio.Lock] = {}
        self._publishing = asyncio.Semaphore(2)
        self._wake = asyncio.Event()

    # ---- the loop

    async def run(self) -> None:
        """Until cancelled: find accepted documents, keep enough of them on the desk."""
        await asyncio.to_thread(self._resume)
        try:
            while True:
                self._wake.clear()
                await self.register()
                self._fill()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), 1.0)
        finally:
            await self._clear()

    def wake(self) -> None:
        """Look again now: something was accepted or put back."""
        self._wake.set()

    async def register(self) -> None:
        """Take claims that the ledger does not know into it; the spool is the truth, a poke only a hint."""
        claims = await asyncio.to_thread(self._unknown_claims)
        if not claims:
            return
        await asyncio.to_thread(self._ledger.accept, claims)
        for claim in claims:
            self._known.add(claim.id)
            self._enqueue(claim.id)
        self._notify()

    def forget(self, id: str) -> None:
        """A document was put back for another reading: queue it again."""
        self._enqueue(id)
        self.wake()

    def _resume(self) -> None:
        for row in self._ledger.unfinished():
            self._known.add(row.id)
            self._enqueue(row.id)
        self._known.update(self._ledger.ids())

    def _unknown_claims(self) -> list[Claim]:
        return [claim for claim in self._spool.claims(skip=self._known) if self._spool.outcome(claim.id) is None]

    def _enqueue(self, id: str) -> None:
        row = self._ledger.get(id)
        if row is not None:
            heapq.heappush(self._waiting, (row.priority, row.seq, id))

    def _fill(self) -> None:
        """Open documents up to the reader's appetite; a person's document is opened at once."""
        limit = max(16, 2 * self._reader.limit)
        while self._waiting:
            priority, _, id = self._waiting[0]
            if len(self._active) >= limit and not (priority == 0 and len(self._active) < 2 * limit):
                return
            heapq.heappop(self._waiting)
            if id not in self._active:
                self._active[id] = asyncio.create_task(self._document(id), name=f"document {id}")

    async def _clear(self) -> None:
        tasks = list(self._active.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- one document

    async def _document(self, id: str) -> None:
        """Take one document to its end, or leave it waiting."""
        try:
            await self._take(id)
        except Blocked as error:
            await self._block(id, error)
        except Exception:
            log.exception("document %s was left waiting by a fault of our own", id)
        finally:
            self._active.pop(id, None)
            self._notify()
            self.wake()

    async def _take(self, id: str) -> None:
        claim = await asyncio.to_thread(self._spool.claim, id)
        profile = merge(Profile(), claim.profile, where=claim.name)
        await asyncio.to_thread(self._ledger.set_state, id, "reading")
        self._notify()
        try:
            if claim.verdict is not None:
                raise claim.verdict
            identity = await self._identify(claim)
            work = work_key(identity.sha256, profile)
            async with self._only_one(work):
                await self._read_and_publish(claim, profile, identity, work)
        except DocumentError as error:
            await self._fail(claim, profile, error)
        except (Blocked, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("document %s failed by a fault of our own", id)
            await self._fail(claim, profile, Internal(f"Inkstick failed on this document: {type(error).__name__}."))

    async def _identify(self, claim: Claim) -> Identity:
        path = self._spool.original(claim.id)
        identity = await asyncio.to_thread(identify_file, path, self._settings.max_bytes)
        await asyncio.to_thread(
            self._ledger.identified, claim.id, sha256=identity.sha256, size=identity.size, type=identity.type
        )
        return identity

    @contextlib.asynccontextmanager
    async def _only_one(self, work: str) -> AsyncIterator[None]:
        lock = self._works.setdefault(work, asyncio.Lock())
        async with lock:
            yield
        if not lock.locked():
            self._works.pop(work, None)

    async def _read_and_publish(self, claim: Claim, profile: Profile, identity: Identity, work: str) -> None:
        parts = await self._parts(claim, profile, identity)
        twin = await asyncio.to_thread(self._twin, claim, profile, identity)
        if twin is None:
            await self._read(claim, profile, work, parts)
        pages = Pages(twin) if twin is not None else Pages(lambda: self._spool.checkpoints(work))
        summary = await asyncio.to_thread(Summary.of, pages)
        if summary.read == 0:
            raise summary.reason or PageFailed()
        header = Header(
            name=claim.name,
            sha256=identity.sha256,
            size=identity.size,
            type=identity.type,
            task=profile.task,
            versions={"inkstick": __version__},
            parts=tuple(part_record(part, summary) for part in parts) if identity.type in CONTAINERS else (),
        )
        await self._publish(claim, profile, header, pages, parts, summary)
        if not self._shared(work, claim.id):
            await asyncio.to_thread(self._spool.drop_checkpoints, work)

    async def _parts(self, claim: Claim, profile: Profile, identity: Identity) -> tuple[PartFile, ...]:
        """The files whose pages make the document: itself, or the members of an archive or mail."""
        original = self._spool.original(claim.id)
        if identity.type not in CONTAINERS:
            return (PartFile(None, original, identity.type, None),)
        into = self._spool.folder(claim.id) / "parts"
        await asyncio.to_thread(shutil.rmtree, into, ignore_errors=True)
        into.mkdir(mode=0o700)
        return tuple(await self._pool.expand(original, identity.type, into, passwords=profile.passwords))

    def _twin(self, claim: Claim, profile: Profile, identity: Identity) -> Callable[[], Iterator[Page]] | None:
        """An earlier document with the same bytes, read whole in the same way, whose record is still there."""
        row = self._ledger.find_done(identity.sha256, profile.reading_key())
        if row is None or row.id == claim.id or not row.results:
            return None
        records = sorted((self._settings.folder.results / row.results).glob("*.json"))
        return functools.partial(record_pages, records[0]) if records else None
