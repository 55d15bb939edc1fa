"""``GET /api/v1/events``: what happens, as server-sent events, resumable by Last-Event-ID.

Nothing is kept per client but its position: the next events are asked for when the last ones have been sent, so a slow
client costs nothing. A comment every 15 seconds keeps the connection and tells that it lives. A position from another
data folder (beyond the last event) is answered by one event of kind ``reset``: reload and go on from there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from inkstick.errors import Unavailable, UsageError
from inkstick.web.office_port import Event, OfficePort
from inkstick.web.shapes import Problem, event_json

HEARTBEAT = 15.0
RECONNECT_MS = 2000
MAX_CLIENTS = 64
BATCH = 200


class Streams:
    """The open event streams of this process: how many there are, and their common end."""

    def __init__(self, office: OfficePort, *, heartbeat: float = HEARTBEAT, most: int = MAX_CLIENTS) -> None:
        self.office, self.heartbeat, self.most = office, heartbeat, most
        self.open = 0
        self._closing = asyncio.Event()

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

    async def follow(self, position: int) -> AsyncIterator[str]:
        """The stream's text, until the client goes or the service stops."""
        self.open += 1
        try:
            yield f"retry: {RECONNECT_MS}\n\n"
            if position < 0:
                position = await self.office.last_event()
                yield _message(Event(position, "reset", None))
            while not self._closing.is_set():
                events = await self.office.events(after=position, limit=BATCH)
                for event in events:
                    yield _message(event)
                    position = event.id
                if not events and not await self._wait(position):
                    yield ": still here\n\n"
        finally:
            self.open -= 1

    async def _wait(self, position: int) -> bool:
        """Until there is an event or the service stops (True), or the heartbeat is due (False)."""
        waiting = asyncio.ensure_future(self.office.wait_event(after=position, timeout=self.heartbeat))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({waiting, closing}, timeout=self.heartbeat, return_when=asyncio.FIRST_COMPLETED)
            return (waiting.done() and waiting.result()) or closing.done()
        finally:
            waiting.cancel()
            closing.cancel()


_NUMBER: dict[str, Any] = {"pattern": "^[0-9]{0,18}$"}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events"},
    503: {"model": Problem, "description": "Too many clients follow already."},
}


def router(streams: Streams) -> APIRouter:
    api = APIRouter(prefix="/api/v1", tags=["service"])

    @api.get("/events", summary="What happens, as it happens", response_class=StreamingResponse, responses=_STREAM)
    async def events(
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

    return api


def _number(text: str | None) -> int | None:
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise UsageError("Last-Event-ID is not a number.", hint="Send back an id that this service gave.")


def _message(event: Event) -> str:
    return f"id: {event.id}\ndata: {json.dumps(event_json(event), ensure_ascii=False)}\n\n"
