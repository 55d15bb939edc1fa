"""An office in memory: a real implementation of the web's port, for tests of the web alone.

Its documents are UTF-8 text files, a page per form feed; "reading" one takes `page_seconds`. A page that says
``FAIL`` cannot be read (``LOCKED``: without a password), one
that says ``DOUBT`` is flagged suspect. Nothing here is used outside the tests.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import hashlib
import json
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inkstick import appliance, diagnostics
from inkstick.appliance import Machine
from inkstick.appliance import Request as MachineRequest
from inkstick.atonce import Asked, PageOf, PageRead, Told, check, untold
from inkstick.clock import SystemClock
from inkstick.config import Settings
from inkstick.document import Block, Box, Flag, Kind, Page
from inkstick.engines.info import EngineInfo
from inkstick.engines.protocol import Request
from inkstick.errors import Damaged, DiskFull, Encrypted, InkstickError, TooLarge, UsageError
from inkstick.inventory import inventory
from inkstick.logring import Line
from inkstick.profile import Priority, Profile, merge
from inkstick.selftest import SelfTest, Tried
from inkstick.store import strips
from inkstick.store.disk import Disk
from inkstick.store.listing import Filter
from inkstick.store.spool import Spool
from inkstick.store.strips import Strip
from inkstick.throughput import Series
from inkstick.uploads import Uploads
from inkstick.web.corrections_port import CorrectionsPort
from inkstick.web.office_port import DocumentInfo, Event, Hit, OfficeHealth, PageInfo, Stats
from inkstick.web.screens_port import Remaining, SystemInfo
from support.corrections import MemoryCorrections


def png(width: int, height: int) -> bytes:
    """A plain light page."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\xf4" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@dataclass
class Held:
    info: DocumentInfo
    texts: list[str]
    pages: list[PageInfo] = field(default_factory=list)


class MemoryOffice:
    """See the module's docstring. `full` makes the disk full, `settings.max_bytes` bounds an upload."""

    def __init__(self, data: Path, *, page_seconds: float = 0.0, settings: Settings | None = None) -> None:
        self._settings = settings or Settings(data=data)
        self.page_seconds = page_seconds
        self.full = False
        self.live = True
        self.engine_ready = True
        self.last_watch: tuple[tuple[str, ...], Mapping[str, Any]] = ((), {})
        self.requests: list[Request] = []
        self.engine_tasks: tuple[str, ...] = ("parse", "text", "spotting", "table")
        self.engine_prompts = False
        self.page_blocks: tuple[Block, ...] | None = None
        self.page_asked: list[Asked] = []
        self.gate: asyncio.Event | None = None
        self._held: dict[str, Held] = {}
        self._seq = 0
        self.passwords: list[str] = []
        self.offered: tuple[str, ...] = ()
        self.ordered: list[str] = []
        self._events: list[Event] = []
        self._happened = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.corrections: CorrectionsPort = MemoryCorrections(self._page_read, lambda id: self._get(id).pages)

    def _page_read(self, id: str, number: int) -> tuple[str, PageInfo] | None:
        held = self._get(id)
        found = next((page for page in held.pages if page.number == number and page.state == "read"), None)
        return (held.texts[number - 1], found) if found else None

    @property
    def settings(self) -> Settings:
        return self._settings

    async def start(self) -> None:
        self._settings.folder.create()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def admit(self, size: int | None) -> None:
        if self.full:
            raise DiskFull
        if size is not None and size > self._settings.max_bytes:
            raise TooLarge

    async def accept_upload(
        self,
        name: str,
        chunks: AsyncIterator[bytes],
        *,
        sha256: str | None = None,
        wishes: Mapping[str, Any] | None = None,
        relpath: str | None = None,
    ) -> DocumentInfo:
        profile = merge(Profile(priority=Priority.PERSON), wishes or {})
        data = bytearray()
        async for chunk in chunks:
            data += chunk
            await self.admit(len(data))
        digest = hashlib.sha256(data).hexdigest()
        if sha256 and sha256 != digest:
            raise UsageError("The bytes are not those that were announced.", code="checksum")
        return self._take(f"{self._seq + 1:026d}", name, bytes(data), profile, relpath)

    def _take(self, id: str, name: str, data: bytes, profile: Profile, relpath: str | None = None) -> DocumentInfo:
        digest = hashlib.sha256(data).hexdigest()
        seq = self._seq = self._seq + 1
        info = DocumentInfo(
            id=id,
            seq=seq,
            name=name,
            relpath=relpath or name,
            state="queued",
            task=profile.task,
            priority=profile.priority.name.lower(),
            received=datetime.datetime.now(datetime.UTC).isoformat(),
            size=len(data),
            sha256=digest,
            type="text/plain",
        )
        original = self._settings.folder.done / info.id
        original.parent.mkdir(parents=True, exist_ok=True)
        original.write_bytes(data)
        self._held[info.id] = Held(info, data.decode("utf-8", "replace").split("\f"))
        self._tell(info.id)
        self._read(info.id)
        return info

    @functools.cached_property
    def uploads(self) -> Uploads:
        """Resumable uploads on the real spool; what they become is kept in memory like everything else."""
        spool = Spool(self._settings.folder, Disk(), SystemClock(), reserve_bytes=1 << 62 if self.full else 0)

        async def accepted(id: str) -> None:
            claim = spool.claim(id)
            self._take(id, claim.name, spool.original(id).read_bytes(), merge(Profile(), claim.profile), claim.relpath)

        return Uploads(spool, self._settings.max_bytes, accepted)

    async def document(self, id: str) -> DocumentInfo:
        return self._get(id).info

    async def documents(
        self, *, q: str | None = None, state: str | None = None, after: int | None = None, limit: int = 100
    ) -> Sequence[DocumentInfo]:
        rows = [held.info for held in reversed(self._held.values()) if q is None or self._matches(held, q)]
        rows = [row for row in rows if (state is None or row.state == state) and (after is None or row.seq < after)]
        return rows[:limit]

    async def pages(self, id: str, *, after: int = 0, limit: int = 1000) -> Sequence[PageInfo]:
        held = self._get(id)
        read = {page.number: page for page in held.pages}
        numbers = range(after + 1, min(after + limit, held.info.pages or 0) + 1)
        return [read.get(n, PageInfo(n, "waiting")) for n in numbers]

    async def page_text(self, id: str, number: int) -> str | None:
        held = self._get(id)
        read = any(page.number == number and page.state == "read" for page in held.pages)
        return held.texts[number - 1] if read else None

    async def page_image(self, id: str, number: int, *, max_side: int, box: Box | None = None) -> tuple[bytes, str]:
        if number > len(self._get(id).texts):
            raise UsageError("There is no such page.", code="not_found")
        return png(max_side * 5 // 7, max_side), "image/png"

    async def result_files(self, id: str, format: str) -> Sequence[Path]:
        info = self._get(id).info
        if format not in info.formats:
            raise UsageError("There is no such result yet.", code="not_ready", hint="Wait until it was read.")
        folder = self._settings.folder.results / str(info.results)
        return sorted(folder.glob("tables/*.csv")) if format == "csv" else [folder / f"{folder.name}.{format}"]

    async def retry(self, id: str, *, password: str | None = None) -> DocumentInfo:
        held = self._get(id)
        if password:
            self.passwords.append(password)
            held.texts = [text.replace("LOCKED", "open") for text in held.texts]
        if held.info.state not in ("failed", "partial"):
            raise UsageError("The document did not fail.", code="not_ready", hint="Only failed ones are read again.")
        held.info = replace(
            held.info, state="queued", code=None, message=None, hint=None, pages_done=0, flags=(), results=None
        )
        held.pages.clear()
        self._tell(id)
        self._read(id)
        return held.info

    async def listed(self, wanted: Filter, *, after: int | None = None, limit: int = 50) -> Sequence[DocumentInfo]:
        rows = await self.documents(q=wanted.q, state=wanted.state, after=after, limit=len(self._held))
        return [row for row in rows if _meets(row, wanted)][:limit]

    async def folders(self) -> Sequence[str]:
        return sorted({path.rpartition("/")[0] for held in self._held.values() if "/" in (path := held.info.relpath)})

    async def strips(self, ids: Sequence[str]) -> Mapping[str, Strip]:
        return {id: _strip(held) for id in ids if (held := self._held.get(id)) and held.info.pages}

    async def remaining(self) -> Remaining:
        rows = [held.info for held in self._held.values()]
        pages = sum((row.pages or 0) - row.pages_done for row in rows if row.state == "reading")
        return Remaining(pages, sum(row.state == "queued" for row in rows), 1.0)

    async def failures(self) -> Mapping[str, int]:
        rows = [held.info for held in self._held.values()]
        return Counter(row.code for row in rows if row.code and row.state in ("failed", "partial"))

    async def remove(self, id: str) -> None:
        held = self._get(id)
        if held.info.state not in ("done", "partial", "failed"):
            raise UsageError("It is still being worked on.", hint="Wait for its end.", code="not_ready")
        shutil.rmtree(self._settings.folder.results / id, ignore_errors=True)
        (self._settings.folder.done / id).unlink()
        del self._held[id]
        self._event(id, state="removed", pages=0, pages_done=0, code=None)

    async def original_file(self, id: str) -> Path:
        return self._settings.folder.done / self._get(id).info.id

    async def result_folder(self, id: str) -> Path:
        info = self._get(id).info
        if not info.results:
            raise UsageError("There is no such result yet.", code="not_ready", hint="Wait until it was read.")
        return self._settings.folder.results / info.results

    async def system(self) -> SystemInfo:
        read = sum(len(held.pages) for held in self._held.values())
        series = Series(15, (0,) * 95 + (read,), 30)
        log = (Line("2026-11-21T07:00:00+00:00", "info", "the service started"),)
        return SystemInfo(inventory(), series, log, self.offered)

    async def self_test(self) -> SelfTest:
        return SelfTest("rapidocr", (Tried("ABC 1", "ABC 1", "rapidocr", 0.5, self.engine_ready),))

    async def diagnostics(self) -> bytes:
        info = await self.system()
        stats = await self.stats()
        return diagnostics.export(self._settings, info.inventory, stats, info.series, info.log, ())

    async def appliance(self, action: str) -> None:
        if action not in self.offered:
            raise UsageError("This machine does not offer that.", code="not_found", hint="Use its own switch.")
        self.ordered.append(action)

    async def machine(self) -> Machine:
        return appliance.look(self._settings.appliance_folder)

    async def ask_machine(self, request: MachineRequest) -> None:
        appliance.ask(self._settings.folder.requests, request)

    async def search(self, q: str, *, limit: int = 50) -> Sequence[Hit]:
        hits = [
            Hit(held.info.id, held.info.name, number, text[:200])
            for held in self._held.values()
            for number, text in enumerate(held.texts, 1)
            if q.lower() in text.lower()
        ]
        return hits[:limit]

    async def events(self, *, after: int, limit: int = 200) -> Sequence[Event]:
        return self._events[after : after + limit]

    async def last_event(self) -> int:
        return len(self._events)

    async def wait_event(self, *, after: int, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                while len(self._events) <= after:
                    await self._happened.wait()
        except TimeoutError:
            return False
        return True

    async def stats(self) -> Stats:
        states = [held.info.state for held in self._held.values()]
        read = sum(len(held.pages) for held in self._held.values())
        engine = EngineInfo(
            "rapidocr",
            "pp-ocrv6-small@3.10.0",
            "primary",
            self.engine_ready,
            "ready" if self.engine_ready else "gone",
            tasks=self.engine_tasks,
            prompts=self.engine_prompts,
        )
        return Stats(
            documents={state: states.count(state) for state in set(states)},
            pages_read={"rapidocr": read},
            engines=(engine,),
            watch={"settling": 1, "note": "words are no figures", **self.last_watch[1]},
            disk_free=52 << 30,
            disk_total=256 << 30,
            disk_reserve=self._settings.reserve_bytes,
            blocked=("disk_full", DiskFull.default_message) if self.full else None,
        )

    async def health(self) -> OfficeHealth:
        return OfficeHealth(self.live, not self.full, {"disk": "full" if self.full else "ok"})

    async def watched(self, claims: Sequence[str], status: Mapping[str, Any]) -> None:
        self.last_watch = (tuple(claims), status)

    async def read_image(self, image: bytes, request: Request) -> Page:
        if not image.startswith(b"\x89PNG"):
            raise Damaged
        self.requests.append(request)
        if self.gate is not None:
            await self.gate.wait()
        flags = (Flag.TRUNCATED,) if request.prompt == "cut it" else ()
        blocks = (Block(1, Kind.TITLE, "Invoice 墨"), Block(2, Kind.PARAGRAPH, f"{len(image)} bytes"))
        return Page(1, 10, 10, "rapidocr", "pp-ocrv6-small@3.10.0", score=0.9, flags=flags, blocks=blocks)

    async def read_page(self, source: bytes | PageOf, asked: Asked, told: Told = untold) -> PageRead:
        """Blocks are `page_blocks`, else a title and a field for each key; it waits for `gate` if there is one."""
        check(asked.profile, (await self.stats()).engines)
        if isinstance(source, PageOf):
            source = self._get(source.document).texts[source.number - 1].encode()
        elif not source.startswith(b"\x89PNG"):
            raise Damaged
        self.page_asked.append(asked)
        if asked.picture == 0:
            plain = Request(asked.profile.task, keys=asked.profile.keys, prompt=asked.profile.prompt)
            return PageRead(await self.read_image(source, plain), 1)
        if self.gate is not None:
            told("engine_down")
            await self.gate.wait()
            told(None)
        fields = [Block(n, Kind.FIELD, f"{key}: {n}", (100, 100 * n, 500, 100 * n + 60))
                  for n, key in enumerate(asked.profile.keys, 2)]  # fmt: skip
        blocks = self.page_blocks or (Block(1, Kind.TITLE, "Invoice 墨", (80, 50, 600, 120)), *fields)
        page = Page(asked.number, 700, 1000, "rapidocr", "pp-ocrv6-small@3.10.0", score=0.9, blocks=blocks)
        return PageRead(page, 3, png(asked.picture * 7 // 10, asked.picture) if asked.picture else b"")

    def _get(self, id: str) -> Held:
        if id not in self._held:
            raise UsageError("There is no such document.", code="not_found", hint="It may have been removed.")
        return self._held[id]

    def _matches(self, held: Held, q: str) -> bool:
        return q.lower() in held.info.name.lower() or any(q.lower() in text.lower() for text in held.texts)

    def _tell(self, id: str) -> None:
        """The event that the ledger writes with every change of a document's state."""
        info = self._get(id).info
        self._event(id, state=info.state, pages=info.pages or 0, pages_done=info.pages_done, code=info.code)

    def _event(self, id: str, **data: Any) -> None:
        self._events.append(Event(len(self._events) + 1, "document", id, data))
        self._happened.set()
        self._happened = asyncio.Event()

    def _read(self, id: str) -> None:
        task = asyncio.create_task(self._reading(self._get(id)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reading(self, held: Held) -> None:
        await asyncio.sleep(self.page_seconds)
        held.info = replace(held.info, state="reading", pages=len(held.texts), attempts=held.info.attempts + 1)
        self._tell(held.info.id)
        for number, text in enumerate(held.texts, 1):
            await asyncio.sleep(self.page_seconds)
            self._page(held, number, text)
        self._conclude(held)

    def _page(self, held: Held, number: int, text: str) -> None:
        flags = ("suspect",) if "DOUBT" in text else ()
        state = "failed" if "FAIL" in text or "LOCKED" in text else "read"
        held.pages.append(PageInfo(number, state, "rapidocr", flags, 0.97, self.page_seconds, 1))
        found = tuple(dict.fromkeys([*held.info.flags, *flags]))
        held.info = replace(held.info, pages_done=number, flags=found)
        self._tell(held.info.id)

    def _conclude(self, held: Held) -> None:
        failed = sum(page.state == "failed" for page in held.pages)
        state = "failed" if failed == len(held.pages) else "partial" if failed else "done"
        locked = any("LOCKED" in text for text in held.texts)
        error: InkstickError | None = (Encrypted() if locked else Damaged()) if state == "failed" else None
        formats = () if error else self._write(held)
        held.info = replace(
            held.info,
            state=state,
            results=held.info.id if formats else None,
            formats=formats,
            code=error.code if error else None,
            message=error.message if error else None,
            hint=error.hint if error else None,
        )
        self._tell(held.info.id)

    def _write(self, held: Held) -> tuple[str, ...]:
        folder = self._settings.folder.results / held.info.id
        (folder / "tables").mkdir(parents=True, exist_ok=True)
        text = "\n".join(held.texts)
        (folder / f"{folder.name}.md").write_text(text, encoding="utf-8")
        (folder / f"{folder.name}.txt").write_text(text, encoding="utf-8")
        (folder / f"{folder.name}.json").write_text(json.dumps({"inkstick": 1, "text": text}), encoding="utf-8")
        tables = [line for line in held.texts if "," in line]
        for n, table in enumerate(tables, 1):
            (folder / "tables" / f"page-{n}.csv").write_text(table, encoding="utf-8")
        return ("md", "json", "txt", "csv") if tables else ("md", "json", "txt")


def _meets(row: DocumentInfo, wanted: Filter) -> bool:
    day = row.received[:10]
    return (
        (not wanted.flag or wanted.flag in row.flags)
        and (not wanted.folder or row.relpath.startswith(wanted.folder.strip("/") + "/"))
        and (not wanted.code or row.code == wanted.code)
        and (not wanted.since or day >= wanted.since)
        and (not wanted.until or day <= wanted.until)
    )


def _strip(held: Held) -> Strip:
    """As the ledger counts it, of at most 60 pages."""
    levels = {"failed": 4, "read": 1}
    rows = [(page.number - 1, 3 if page.flags else levels[page.state], 1) for page in held.pages]
    return strips.strip(held.info.pages or 0, rows)
