"""Multipart bodies as a stream of parts: a file goes to its place in chunks, never into memory or /tmp as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from inkstick.errors import TooLarge, UsageError

FIELD_BYTES = 64 << 10
MAX_PARTS = 2000


@dataclass
class Part:
    """One part of a form. `filename` is None for a plain field, and empty where a form's file was left out."""

    name: str
    filename: str | None
    source: AsyncIterator[bytes]

    async def text(self) -> str:
        """The value of a plain field. Raises `TooLarge` beyond 64 KiB, `UsageError` if it is no UTF-8."""
        return (await read_all(self.source, FIELD_BYTES, f"field {self.name!r}")).decode("utf-8", "replace")


async def read_all(source: AsyncIterator[bytes], limit: int, what: str) -> bytes:
    """Everything from `source`. Raises `TooLarge` once there are more than `limit` bytes."""
    out = bytearray()
    async for chunk in source:
        out += chunk
        if len(out) > limit:
            raise TooLarge(f"{what} is larger than {limit >> 10:,} KiB")
    return bytes(out)


@dataclass
class _Events:
    """Collects the parser's callbacks: ("head", headers), ("data", bytes), ("end", None)."""

    queue: deque[tuple[str, bytes | dict[str, bytes]]] = field(default_factory=deque)
    headers: dict[str, bytes] = field(default_factory=dict)
    name: bytes = b""
    value: bytes = b""
    finished: bool = False

    def begin(self) -> None:
        self.headers, self.name, self.value = {}, b"", b""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def header_end(self) -> None:
        self.headers[self.name.decode("latin-1").lower()] = self.value
        self.name, self.value = b"", b""

    def headers_finished(self) -> None:
        self.queue.append(("head", self.headers))

    def data(self, data: bytes, start: int, end: int) -> None:
        self.queue.append(("data", data[start:end]))

    def end(self) -> None:
        self.queue.append(("end", b""))

    def finish(self) -> None:
        self.finished = True


class Parts:
    """The parts of a request's form, one after another; each must be read (or is skipped) before the next.

    Raises `UsageError` if the body is no form, is cut off, or has more than 2,000 parts."""

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise UsageError(
                "The body is not a form.", hint="Send multipart/form-data with a field named file, or PUT the bytes."
            )
        self._events = _Events()
        events = self._events
        self._parser = _parser(options[b"boundary"], events)
        self._stream = request.stream()
        self._count = 0

    async def next(self) -> Part | None:
        """The next part, or None at the end of the form."""
        while (event := await self._event()) is not None:
            kind, headers = event
            if kind == "head" and isinstance(headers, dict):
                return self._part(headers)
        if not self._events.finished:
            raise UsageError("The form is cut off.", hint="Send it again.")
        return None

    def _part(self, headers: dict[str, bytes]) -> Part:
        self._count += 1
        if self._count > MAX_PARTS:
            raise UsageError(f"the form has more than {MAX_PARTS:,} parts")
        _, options = parse_options_header(headers.get("content-disposition", b""))
        filename = options.get(b"filename")
        return Part(
            options.get(b"name", b"").decode("utf-8", "replace"),
            None if filename is None else filename.decode("utf-8", "replace"),
            self._data(),
        )

    async def _data(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._event()
            if event is None:
                raise UsageError("The form is cut off.", hint="Send it again.")
            if event[0] == "end":
                return
            if isinstance(event[1], bytes):
                yield event[1]

    async def _event(self) -> tuple[str, bytes | dict[str, bytes]] | None:
        while not self._events.queue:
            try:
                chunk = await anext(self._stream)
                self._parser.write(chunk) if chunk else self._parser.finalize()
            except StopAsyncIteration:
                return None
            except FormParserError as error:
                raise UsageError(f"The form cannot be understood: {error}", hint="Send it again.") from error
        return self._events.queue.popleft()


def _parser(boundary: bytes, events: _Events) -> MultipartParser:
    try:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": events.begin,
                "on_part_data": events.data,
                "on_part_end": events.end,
                "on_header_field": events.header_field,
                "on_header_value": events.header_value,
                "on_header_end": events.header_end,
                "on_headers_finished": events.headers_finished,
                "on_end": events.finish,
            },
        )
    except FormParserError as error:
        raise UsageError(f"The form cannot be understood: {error}") from error
