"""The documents behind a job: one file, or the members of an archive, numbered through. Opened when needed, closed
when done."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inkstick.document import Part
from inkstick.errors import DocumentError, TooLarge, Unsupported
from inkstick.pages.view import Budget, PageView, Probe, TextLayerMode

XFA = "This is a form (XFA) whose only page says that another program is needed to show it."


class OpenDocument(Protocol):
    """What `pages.pool` gives for an open document."""

    @property
    def probe(self) -> Probe: ...

    async def page(self, number: int, *, budget: Budget, mode: TextLayerMode, orient: bool = True) -> PageView: ...

    async def close(self) -> None: ...


class Opener(Protocol):
    """The part of `pages.pool.PagePool` that reading needs."""

    async def open(self, path: Path, media_type: str, *, passwords: tuple[str, ...] = ()) -> OpenDocument: ...


@dataclass(frozen=True, slots=True)
class PartFile:
    """A file whose pages belong to the job. `name`: within its archive or mail; None for a plain document. `error`:
    it was refused while unpacking; its path is then None."""

    name: str | None
    path: Path | None
    media_type: str
    error: DocumentError | None = None


class Source:
    """One `PartFile` whose pages are ``first..last`` of the job (both 0: it has none). `most`: it may not have more."""

    def __init__(self, pool: Opener, part: PartFile, passwords: tuple[str, ...], most: int) -> None:
        self.part, self.error = part, part.error
        self.first = self.last = 0
        self._pool, self._passwords, self._most = pool, passwords, most
        self._open: OpenDocument | None = None
        self._lock = asyncio.Lock()
        self._left = 0

    async def probe(self, first: int, *, keep: bool) -> int:
        """Number its pages from `first`; how many there are. `keep` it open. A DocumentError is kept in `error`."""
        if self.error is not None:
            return 0
        try:
            document = await self._document()
            pages = document.probe.pages
            if pages > self._most:
                raise TooLarge(f"The document has {pages:,} pages; this appliance reads {self._most:,}.")
            if "xfa" in document.probe.warnings:
                raise Unsupported(
                    XFA, hint="Open it in the program that it was made for, print it to a PDF there, and drop that."
                )
        except DocumentError as error:
            self.error = error
            return 0
        self.first, self.last, self._left = first, first + pages - 1, pages
        if not keep:
            await self.close()
        return pages

    async def page(self, number: int, *, budget: Budget, mode: TextLayerMode) -> PageView:
        """Page `number` of the job (its own number in the view is the file's). Raises DocumentError."""
        document = await self._document()
        return await document.page(number - self.first + 1, budget=budget, mode=mode)

    async def done_with(self, pages: int = 1) -> None:
        """That many pages need no more rendering; after the last, the file is closed."""
        self._left -= pages
        if self._left <= 0:
            await self.close()

    async def close(self) -> None:
        async with self._lock:
            document, self._open = self._open, None
        if document is not None:
            await document.close()

    def record(self) -> Part:
        error = {k: str(v) for k, v in self.error.as_json().items()} if self.error else None
        return Part(self.part.name or "", self.part.media_type, self.first, self.last, error)

    async def _document(self) -> OpenDocument:
        async with self._lock:
            if self._open is None:
                assert self.part.path is not None
                self._open = await self._pool.open(self.part.path, self.part.media_type, passwords=self._passwords)
            return self._open
