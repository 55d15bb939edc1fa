"""What a request's body may cost: how long it may be silent, and how much of it is held at once.

A client that vanishes in the middle of an upload (its cable was pulled, it fell asleep) is never heard of again: what
waited for its next byte would wait for ever, and with it the upload, which only one connection at a time may go on
with. And what is read whole before it is looked at (JSON, small forms) has to fit into memory; files are taken in
chunks, within limits of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inkstick.access import roles

SILENT_SECONDS = 60.0
"""So long without a byte in the middle of a body, and it is given up."""
WHOLE_BYTES = 32 << 20
"""The longest body that is read whole: a page's corrections at their longest are shorter."""
FILES = ("/folders/edit", "/folders/check")
"""Forms with a file that count towards nobody's quota."""

T = TypeVar("T")


class Bodies:
    """ASGI middleware: see the module's docstring. What it raises becomes 408 or 413 (`inkstick.web.problems`)."""

    def __init__(self, app: ASGIApp, silent: float | None = None) -> None:
        self.app, self._silent = app, silent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = None if takes_files(scope["method"], scope["path"]) else WHOLE_BYTES
        body = _Body(receive, send, SILENT_SECONDS if self._silent is None else self._silent, limit)
        await self.app(scope, body.receive, body.send)


class _Body:
    """The body of one request, until it is whole or its answer has begun."""

    def __init__(self, receive: Receive, send: Send, silent: float, limit: int | None) -> None:
        self._receive, self._send, self._silent, self._limit = receive, send, silent, limit
        self._whole = self._answered = False
        self._read = 0

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._silent):
                message = await self._receive()
        except TimeoutError:
            self._whole = True
            if self._answered:
                return {"type": "http.disconnect"}
            raise HTTPException(408) from None
        self._whole = not message.get("more_body", False)
        self._read += len(message.get("body", b""))
        if self._limit is not None and self._read > self._limit:
            raise HTTPException(413)
        return message

    async def send(self, message: Message) -> None:
        self._answered = True
        await self._send(message)


def takes_files(method: str, path: str) -> bool:
    """Does this address take its body in chunks, as large as a file is?"""
    rule = roles.rule_for(method, path)
    return path in FILES or bool(rule and rule.quota)


async def while_here(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is given up when the client has gone. For a request whose body was read. Raises
    ClientDisconnect then."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
