"""``GET /api/v1/events``: what happens, as server-sent events, resumable by Last-Event-ID.

Nothing is kept per client but its position: the next events are asked for when the last ones have been sent, so a slow
client costs nothing; those who wait for the same events are answered together. A comment every 15 seconds keeps the
connection and tells that it lives. A position from another data folder (beyond the last event), or one so old that the
event after it is forgotten, is answered by one event of kind ``reset``: reload and go on from there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from inkstick.errors import Unavailable, UsageError
from inkstick.web.office_port import Event, OfficePort
from inkstick.web.shapes import ERRORS, event_json, problem
from inkstick.web.state import kept

HEARTBEAT = 15.0
RECONNECT_MS = 2000
MAX_CLIENTS = 64
BATCH = 200
GATHER = 0.1
"""Seconds in which events are gathered before they are sent: a page that is read makes several."""


class Streams:
    """The open event streams of this process: how many there are, what all of them send, and their common end."""

    def __init__(
        self, office: OfficePort, *, heartbeat: float = HEARTBEAT, most: int = MAX_CLIENTS, gather: float = GATHER
    ) -> None:
        self.office, self.heartbeat, self.most, self.gather = office, heartbeat, most, gather
        self.open = 0
        self._closing = asyncio.Event()
        self._asked: dict[int, asyncio.Task[_Batch]] = {}

    def close(self) -> None:
        """End every stream: the service is stopping, clients will come back."""
        self._closing.set()

    async def start(self, last: int | None) -> int:
        """Where a client goes on: after its last event, or from now. -1: it must reload first."""
        if self.open >= self.most:
            raise Unavailable("Too many pages are following the events.", hint="Close some of them.")
        newest = await self.office.last_event()
        if last is None:
            return newest
        return last if last <= newest else -1

    async def follow(self, position: int) -> AsyncGenerator[str, None]:
        """The stream's text, until the client goes or the service stops."""
        self.open += 1
        try:
            yield f"retry: {RECONNECT_MS}\n\n"
            while not self._closing.is_set():
                if position < 0:
                    position = await self.office.last_event()
                    yield _message(Event(position, "reset", None))
                elif (batch := await self._next(position)) is None:
                    yield ": still here\n\n"
                elif batch.first > position + 1:
                    position = -1
                elif batch.last > position:
                    yield batch.text
                    position = batch.last
        finally:
            self.open -= 1
            if not self.open:
                asked, self._asked = self._asked, {}  # who comes now asks anew
                for task in asked.values():
                    task.cancel()

    async def _next(self, position: int) -> _Batch | None:
        """What comes after `position`: nothing when the service stops, None when the heartbeat is due.

        All who are at the same position (mostly: at the end) share one question to the office, and its answer.
        """
        asked = self._asked.get(position)
        if asked is None:
            asked = self._asked[position] = asyncio.create_task(self._ask(position))
            asked.add_done_callback(lambda ended: self._answered(position, ended))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({asked, closing}, timeout=self.heartbeat, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
        if asked.done():
            return asked.result()
        return _Batch("", position, position) if self._closing.is_set() else None

    def _answered(self, position: int, ended: asyncio.Task[_Batch]) -> None:
        if self._asked.get(position) is ended:
            del self._asked[position]

    async def _ask(self, position: int) -> _Batch:
        while not (events := await self.office.events(after=position, limit=BATCH)):
            if await self.office.wait_event(after=position, timeout=self.heartbeat):
                await asyncio.sleep(self.gather)
        return _Batch("".join(map(_message, events)), events[0].id, events[-1].id)


@dataclass(frozen=True, slots=True)
class _Batch:
    """The text of some events, and the ids of the first and the last of them. Ids have no gaps."""

    text: str
    first: int
    last: int


_NUMBER: dict[str, Any] = {"pattern": "^[0-9]{0,18}$"}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events"},
    503: problem("Too many clients follow already."),
}


Following = Annotated[Streams, kept("streams")]
router = APIRouter(prefix="/api/v1", tags=["service"], responses=ERRORS)


@router.get("/events", summary="What happens, as it happens", response_class=StreamingResponse, responses=_STREAM)
async def events(
    streams: Following,
    last_event_id: Annotated[
        str | None, Header(description="Go on after this event.", json_schema_extra=_NUMBER)
    ] = None,
    after: Annotated[
        str | None, Query(description="The same, for clients that set no headers.", json_schema_extra=_NUMBER)
    ] = None,
) -> StreamingResponse:
    """Server-sent events; the data of each is `{id, kind, document, data}`. Without a position: from now on."""
    position = await streams.start(_number(last_event_id or after))
    return StreamingResponse(
        streams.follow(position), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


def _number(text: str | None) -> int | None:
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise UsageError("Last-Event-ID is not a number.", hint="Send back an id that this service gave.")


def _message(event: Event) -> str:
    return f"id: {event.id}\ndata: {json.dumps(event_json(event), ensure_ascii=False)}\n\n"
