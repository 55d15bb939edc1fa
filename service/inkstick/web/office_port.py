"""What the web needs from the office: one protocol of async use cases over plain frozen values.

The web knows nothing of the ledger, the spool or the engines; the office knows nothing of HTTP. Every method may raise
an `InkstickError`; the web turns it into ``{code, message, hint}`` with a status. Of `UsageError` these codes have a
meaning of their own: ``not_found`` (404), ``not_ready`` (409: the document has no such result yet, or nothing to
retry), ``checksum`` (422: the bytes are not those that the sender hashed). No method blocks the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from inkstick.atonce import Asked, PageOf, PageRead, Told, untold
from inkstick.config import Settings
from inkstick.document import Box, Page
from inkstick.engines.info import EngineInfo
from inkstick.engines.protocol import Request
from inkstick.web.corrections_port import CorrectionsPort
from inkstick.web.screens_port import ScreensPort


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A document as people and programs see it.

    `state`: queued reading done partial failed blocked. `relpath`: below inbox/, posix. `pages` is None until it was
    opened. `flags`: those of any of its pages, in the order of the closed set. `received`: ISO 8601, for people.
    `code`, `message`, `hint`: why it failed or waits. `results`: its folder below results/, None before the end.
    `formats`: the words of the formats that can be fetched now. `seq`: order of arrival, the keyset cursor.
    """

    id: str
    seq: int
    name: str
    relpath: str
    state: str
    task: str
    priority: str
    received: str
    size: int | None = None
    sha256: str | None = None
    type: str | None = None
    pages: int | None = None
    pages_done: int = 0
    flags: tuple[str, ...] = ()
    code: str | None = None
    message: str | None = None
    hint: str | None = None
    results: str | None = None
    formats: tuple[str, ...] = ()
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class PageInfo:
    """One page's provenance. `state`: waiting read failed. `seconds`: spent by the engine. `score`: 0 to 1."""

    number: int
    state: str
    engine: str | None = None
    flags: tuple[str, ...] = ()
    score: float | None = None
    seconds: float = 0.0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """A page on which the words were found. `snippet` is plain text, never markup."""

    document: str
    name: str
    page: int
    snippet: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `id` only grows and is what Last-Event-ID resumes after.

    `kind`: document (`data`: its state, pages, pages_done and code), or reset. `data`: JSON values, no document text.
    """

    id: int
    kind: str
    document: str | None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures for the page and for /metrics.

    `documents`: by state. `pages_read`, `pages_failed`: since the service started, by engine. `in_flight`: pages at an
    engine now; `waiting`: pages that are open and wait for one. `bytes_held`: page images in memory. `watch`: the watch
    daemon's own last status (plain words to plain values: ``seen settling claimed refused`` …), empty if it never
    reported. `disk_free`, `disk_total`, `disk_reserve`: bytes of the data folder's file system. `blocked`: the code and
    message of what everything waits for, if anything.
    """

    documents: Mapping[str, int] = field(default_factory=dict)
    pages_read: Mapping[str, int] = field(default_factory=dict)
    pages_failed: Mapping[str, int] = field(default_factory=dict)
    in_flight: int = 0
    waiting: int = 0
    bytes_held: int = 0
    pages_per_second: float = 0.0
    engines: tuple[EngineInfo, ...] = ()
    watch: Mapping[str, Any] = field(default_factory=dict)
    disk_free: int = 0
    disk_total: int = 0
    disk_reserve: int = 0
    blocked: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class OfficeHealth:
    """`live`: the dispatcher turns. `ready`: a document could be accepted durably now (a real write and fsync, at most
    2 s old). `checks`: name of each check to ``ok`` or the reason in words."""

    live: bool
    ready: bool
    checks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UploadInfo:
    """An upload that can be resumed: `offset` of its `length` bytes are certainly here. `document`: the id of the
    document that it has become, None before."""

    id: str
    offset: int
    length: int
    document: str | None = None


class UploadsPort(Protocol):
    """Uploads that go on where they broke off, also after a restart. Errors: ``not_found``; ``wrong_offset`` (409):
    bytes from elsewhere than where it goes on, or another connection is sending."""

    async def begin(
        self,
        name: str,
        length: int,
        *,
        sha256: str | None = None,
        wishes: Mapping[str, Any] | None = None,
        relpath: str | None = None,
    ) -> UploadInfo:
        """Announce a document of `length` bytes. Raises `DiskFull` or `TooLarge` before any byte is sent. `relpath`: as
        with `OfficePort.accept_upload`."""

    async def look(self, id: str) -> UploadInfo: ...

    async def append(self, id: str, offset: int, chunks: AsyncIterator[bytes]) -> UploadInfo:
        """Add bytes at `offset`. If `chunks` raises or is cancelled, what came until then counts. With the last byte
        the document is accepted durably. Code ``checksum``: it is not what was announced; the upload is forgotten."""

    async def drop(self, id: str) -> None:
        """Forget an upload that is not whole."""


class OfficePort(ScreensPort, Protocol):
    """The use cases. One office per data folder; the only one that opens the ledger."""

    @property
    def settings(self) -> Settings: ...

    @property
    def uploads(self) -> UploadsPort: ...

    @property
    def corrections(self) -> CorrectionsPort:
        """Everything about single pages: as they are now, changed, read once more."""

    async def start(self) -> None:
        """Open the ledger, recover, start pool and engines. Raises `UsageError` if another service has the folder.
        Where it fails or is cancelled, nothing of it is left open or running."""

    async def close(self) -> None:
        """Stop reading within two seconds; what was accepted stays accepted."""

    async def admit(self, size: int | None) -> None:
        """May a document of this many bytes (None: unknown) come in? Raises `DiskFull` or `TooLarge`.
        Called before any byte of a body is read."""

    async def accept_upload(
        self,
        name: str,
        chunks: AsyncIterator[bytes],
        *,
        sha256: str | None = None,
        wishes: Mapping[str, Any] | None = None,
        relpath: str | None = None,
    ) -> DocumentInfo:
        """Stream the bytes into the spool and accept them durably; returns only then.

        If `chunks` raises, or is cancelled, nothing was accepted and nothing is left behind. `sha256` (64 lower-case
        hex digits) is compared with what arrived. `wishes` are keys of a profile (`inkstick.profile.merge`) over the
        defaults of an upload (priority person); checked before the first chunk is asked for. `relpath`: its place
        below the inbox, ending with `name`, for one of a folder; `name` alone otherwise."""

    async def document(self, id: str) -> DocumentInfo: ...

    async def documents(
        self, *, q: str | None = None, state: str | None = None, after: int | None = None, limit: int = 100
    ) -> Sequence[DocumentInfo]:
        """Newest first. `q` matches names and text; `after`: only those with a smaller `seq` (the cursor)."""

    async def pages(self, id: str, *, after: int = 0, limit: int = 1000) -> Sequence[PageInfo]:
        """Pages with a number greater than `after`, in order; those not read yet are included as waiting."""

    async def page_text(self, id: str, number: int) -> str | None:
        """The page's text as `Page.text()` gives it; None while it is not read."""

    async def page_image(self, id: str, number: int, *, max_side: int, box: Box | None = None) -> tuple[bytes, str]:
        """The page (`box`: only that part of it) as an upright picture for people, at most `max_side` pixels either
        way, and its media type."""

    async def result_files(self, id: str, format: str) -> Sequence[Path]:
        """The file of this format; for csv all the tables (none if the document has no table)."""

    async def retry(self, id: str, *, password: str | None = None) -> DocumentInfo:
        """Queue an ended document again; a `password` is tried on it, before those it had."""

    async def search(self, q: str, *, limit: int = 50) -> Sequence[Hit]: ...

    async def events(self, *, after: int, limit: int = 200) -> Sequence[Event]:
        """Events with an id greater than `after`, in order."""

    async def last_event(self) -> int: ...

    async def wait_event(self, *, after: int, timeout: float) -> bool:
        """Wait until there is an event with an id greater than `after`; False after `timeout` seconds."""

    async def stats(self) -> Stats: ...

    async def health(self) -> OfficeHealth: ...

    async def watched(self, claims: Sequence[str], status: Mapping[str, Any]) -> None:
        """The watch daemon says: these claims are in the spool (take them into the ledger), and this is my status."""

    async def read_image(self, image: bytes, request: Request) -> Page:
        """Read one encoded image (or the first page of a document) at once, at a person's priority, nothing stored."""

    async def read_page(self, source: bytes | PageOf, asked: Asked, told: Told = untold) -> PageRead:
        """Read one page of a file, or of a document that is here, at once; nothing is stored. Raises `Unsupported`
        that names a model where no engine here does what is asked; `UsageError` not_found for a page beyond the
        last; the page's own error if it cannot be read."""


class OnProgress(Protocol):
    """What `inkstick.standalone.read_files` calls: once when a file is opened (`done` 0), then after each page.
    `total` is None until the file was opened. Called on the event loop; it must return at once."""

    def __call__(self, path: Path, done: int, total: int | None) -> None: ...
