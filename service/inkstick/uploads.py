"""The use cases of uploads that can be resumed: begin, look, append, drop. What is on the disk decides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from inkstick.errors import Blocked, TooLarge, UsageError
from inkstick.profile import Priority, Profile, merge
from inkstick.store import growing
from inkstick.store.growing import Plan, Writer
from inkstick.store.spool import Spool
from inkstick.web.office_port import UploadInfo

MOST = 50
"""Unfinished uploads that are kept; beyond that the one that began first is forgotten."""


class Uploads:
    """See `inkstick.web.office_port.UploadsPort`. `accepted` is called when an upload has become a document."""

    def __init__(self, spool: Spool, max_bytes: int, accepted: Callable[[str], Awaitable[None]]) -> None:
        self._spool, self._max_bytes, self._accepted = spool, max_bytes, accepted
        self._busy: set[str] = set()
        self._writers: dict[str, Writer] = {}
        """Who appended last, by id: only for what it has hashed."""
        self._begun: dict[str, None] | None = None
        """Those that are not whole, the oldest first. None: not looked up yet, among all documents that there are."""

    async def resume(self) -> None:
        """After a start: accept what came whole just before the service ended. One that is not what was announced, or
        for which there is no room, is its sender's concern and keeps nobody else from starting."""
        self._begun = dict.fromkeys(await asyncio.to_thread(growing.growing, self._spool))
        for id in list(self._begun):
            with contextlib.suppress(UsageError, Blocked):
                await self.look(id)

    async def begin(
        self,
        name: str,
        length: int,
        *,
        sha256: str | None = None,
        wishes: Mapping[str, Any] | None = None,
        relpath: str | None = None,
    ) -> UploadInfo:
        profile = merge(Profile(priority=Priority.PERSON), wishes or {}, where="upload")
        if length > self._max_bytes:
            raise TooLarge(f"The file has {length:,} bytes; this appliance accepts {self._max_bytes:,}.")
        await asyncio.to_thread(self._forget_oldest)
        plan = await asyncio.to_thread(growing.begin, self._spool, name, profile, length, sha256, relpath)
        if self._begun is not None:
            self._begun[plan.claim.id] = None
        return await self.look(plan.claim.id)

    async def look(self, id: str) -> UploadInfo:
        plan = await asyncio.to_thread(growing.plan, self._spool, id)
        if plan is None:
            return await asyncio.to_thread(self._ended, id)
        here = await asyncio.to_thread(growing.offset, self._spool, id)
        if here == plan.length and id not in self._busy:
            return await self._append(plan, here, _nothing())
        return UploadInfo(id, here, plan.length)

    async def append(self, id: str, offset: int, chunks: AsyncIterator[bytes]) -> UploadInfo:
        plan = await asyncio.to_thread(growing.plan, self._spool, id)
        if plan is None:
            return await asyncio.to_thread(self._ended, id, offset)
        return await self._append(plan, offset, chunks)

    async def drop(self, id: str) -> None:
        if id in self._busy:
            raise _busy()
        if await asyncio.to_thread(growing.plan, self._spool, id) is None:
            raise _unknown()
        self._writers.pop(id, None)
        self._ends(id)
        await asyncio.to_thread(growing.drop, self._spool, id)

    async def _append(self, plan: Plan, offset: int, chunks: AsyncIterator[bytes]) -> UploadInfo:
        id = plan.claim.id
        if id in self._busy:
            raise _busy()
        self._busy.add(id)
        try:
            writer = await asyncio.to_thread(Writer, self._spool, plan, self._writers.pop(id, None))
            try:
                await self._fill(writer, offset, chunks)
            finally:  # also when the sender went away: what came counts
                await asyncio.shield(asyncio.to_thread(_put_down, writer))
            if writer.offset < plan.length:
                self._writers[id] = writer
                return UploadInfo(id, writer.offset, plan.length)
            await self._finish(writer)
        finally:
            self._busy.discard(id)
        await self._accepted(id)
        return UploadInfo(id, plan.length, plan.length, document=id)

    async def _finish(self, writer: Writer) -> None:
        try:
            await asyncio.to_thread(writer.finish)
        except UsageError:  # it is not what was announced, and forgotten
            self._ends(writer.plan.claim.id)
            raise
        self._ends(writer.plan.claim.id)

    def _ends(self, id: str) -> None:
        if self._begun is not None:
            self._begun.pop(id, None)

    async def _fill(self, writer: Writer, offset: int, chunks: AsyncIterator[bytes]) -> None:
        if offset != writer.offset:
            raise _elsewhere(writer.offset)
        async for chunk in chunks:
            await asyncio.to_thread(writer.write, chunk)

    def _ended(self, id: str, offset: int | None = None) -> UploadInfo:
        claim = growing.accepted(self._spool, id)
        if claim is None or claim.source != "upload":
            raise _unknown()
        size = claim.size or 0
        if offset not in (None, size):
            raise _elsewhere(size)
        return UploadInfo(id, size, size, document=id)

    def _forget_oldest(self) -> None:
        if self._begun is None:
            self._begun = dict.fromkeys(growing.growing(self._spool))
        idle = [id for id in list(self._begun) if id not in self._busy]
        for id in idle[: max(0, len(idle) - MOST + 1)]:
            self._writers.pop(id, None)
            self._ends(id)
            growing.drop(self._spool, id)


def _put_down(writer: Writer) -> None:
    try:
        writer.save()
    finally:
        writer.close()


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _unknown() -> UsageError:
    return UsageError("There is no such upload.", hint="Begin a new one.", code="not_found")


def _busy() -> UsageError:
    return UsageError("Another connection is sending this upload.", hint="Wait for its end.", code="wrong_offset")


def _elsewhere(offset: int) -> UsageError:
    return UsageError(
        f"The upload goes on at byte {offset:,}.", hint="Ask for the offset and send from there.", code="wrong_offset"
    )
