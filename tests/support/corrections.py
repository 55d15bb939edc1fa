"""Corrections in memory: the pure core behind the port, for tests of the web alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from inkstick.correct.change import Change, apply, reread
from inkstick.correct.doubt import is_doubtful
from inkstick.document import Block, Flag, Kind, Page, Task
from inkstick.errors import UsageError
from inkstick.store.edits import Version, conflict
from inkstick.web.corrections_port import PageNow, Proposal, VersionInfo, Wish
from inkstick.web.office_port import PageInfo

Read = Callable[[str, int], tuple[str, PageInfo] | None]


def page_of(text: str, info: PageInfo) -> Page:
    """A block for each paragraph, tables for those that begin like one, evenly down the page."""
    parts = [part for part in text.split("\n\n") if part] or [""]
    high = 900 // len(parts)
    blocks = tuple(
        Block(
            n, Kind.TABLE if part.startswith("<table") else Kind.PARAGRAPH, part, (80, n * high, 920, n * high + high)
        )
        for n, part in enumerate(parts, 1)
    )
    flags = tuple(Flag(flag) for flag in info.flags)
    return Page(info.number, 714, 1000, info.engine, score=info.score, flags=flags, blocks=blocks)


class MemoryCorrections:
    """`read` gives a page's text and figures once it is read; `numbers` the pages of a document."""

    def __init__(self, read: Read, numbers: Callable[[str], Sequence[PageInfo]]) -> None:
        self._read, self._numbers = read, numbers
        self._versions: dict[tuple[str, int], list[Version]] = {}
        self._proposals: dict[str, tuple[str, int, Page]] = {}

    async def page(self, id: str, number: int) -> PageNow | None:
        known = self._versions.get((id, number))
        if known:
            return PageNow(known[-1].page, known[-1].number)
        found = self._read(id, number)
        return PageNow(page_of(*found)) if found else None

    async def version(self, id: str, number: int, version: int) -> Page:
        known = self._versions.get((id, number), [])
        if version >= len(known):
            raise UsageError("There is no such version.", code="not_found")
        return known[version].page

    async def versions(self, id: str, number: int) -> Sequence[VersionInfo]:
        self._numbers(id)
        return [VersionInfo(v.number, v.who, v.when, v.what) for v in self._versions.get((id, number), [])]

    async def change(self, id: str, number: int, version: int, changes: Sequence[Change], *, who: str) -> PageNow:
        return await self._save(id, number, version, lambda page: apply(page, changes), who, "text")

    async def restore(self, id: str, number: int, version: int, to: int, *, who: str) -> PageNow:
        old = await self.version(id, number, to)
        return await self._save(id, number, version, lambda page: old, who, "restored")

    async def reread(self, id: str, number: int, wish: Wish) -> Proposal:
        now = await self.page(id, number)
        if now is None:
            raise UsageError("The page is not read yet.", code="not_ready")
        block = Block(1, Kind.PARAGRAPH, f"{now.page.text()} read once more, {wish.prompt or wish.task}")
        key = f"{len(self._proposals):x}"
        self._proposals[key] = (id, number, replace(now.page, blocks=(block,)))
        return Proposal(key, self._proposals[key][2])

    async def proposal(self, id: str, number: int, key: str) -> Proposal:
        known = self._proposals.get(key)
        if known is None or known[:2] != (id, number):
            raise UsageError("That reading is not kept any more.", code="not_found")
        return Proposal(key, known[2])

    async def accept(self, id: str, number: int, version: int, key: str, *, who: str) -> PageNow:
        found = await self.proposal(id, number, key)
        return await self._save(id, number, version, lambda page: reread(page, found.page), who, "reread")

    async def doubtful(self, id: str, number: int, *, back: bool = False) -> int | None:
        found = [page.number for page in self._numbers(id) if is_doubtful(page.flags, page.score)]
        rest = [page for page in found if (page < number if back else page > number)]
        return (max(rest) if back else min(rest)) if rest else None

    async def engines(self) -> Sequence[tuple[str, Sequence[Task]]]:
        return [("rapidocr", [Task.PARSE, Task.TEXT])]

    async def exported(self, id: str) -> None: ...

    async def _save(
        self, id: str, number: int, version: int, changed: Callable[[Page], Page], who: str, what: str
    ) -> PageNow:
        now = await self.page(id, number)
        if now is None:
            self._numbers(id)
            raise UsageError("The page cannot be changed now.", code="not_ready")
        if now.version != version:
            raise conflict()
        known = self._versions.setdefault((id, number), [])
        new = Version(version + 1, changed(now.page), who, "2026-11-21T08:00:00+00:00", what)
        known += [new] if known else [Version(0, now.page), new]
        return PageNow(new.page, new.number)
