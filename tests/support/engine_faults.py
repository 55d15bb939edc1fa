"""What can go wrong with an engine, and at which moment of a request: the faults of `support.fake_engine`.

A request's moments (`PHASES`), in order:

    connect    its head has arrived, its body was not looked at
    queue      it is understood and waits for a place
    prefill    it has a place and its page is being looked at; the head of the answer is out, no text is
    middle     half of the text is out
    end        all of the text is out, the closing event is not

What is refused, cut or held up happens at that moment. What is wrong with the answer itself begins there: at the first
three it spoils all of the text (at `connect` and `queue` without any work on the page), at `middle` its second half.

    400 401 404 429 500 502 503 504 redirect   that status; once the answer has begun, an error event as vLLM sends it
    oom, dead       500 with the words of a CUDA out of memory, of a dead engine core
    reset, close    the connection is reset, closed
    truncated       the answer ends in good order, but without finish_reason
    chunk, no_http  the framing of the answer is broken; bytes that are no HTTP at all
    hang            nothing more, ever; /health stays 200
    stall           nothing for `seconds`, then it goes on
    stuck           the computing part stops for everybody for `seconds`; /health stays 200
    frozen          everything stops for `seconds`, /health too
    drip            `seconds` before each event
    slow_first      `seconds` at the end of prefill
    restart         all connections drop, nothing listens for `seconds`
    crash_loop      that, three times
    loading         after a restart it answers 503 to everything for `seconds`
    deaf            this connection drops and nobody new can connect for `seconds`
    exit            the process ends (in-process: the server stops for good)
    garbage         an event that is no JSON
    html            a web page instead of events
    malformed       JSON of another shape, `SHAPES` in turn
    binary          an event that is no UTF-8
    deep            JSON nested 100,000 deep
    flood           megabytes without an end of line
    endless         text without end
    surrogates      halves of characters
    wrong_id, wrong_model, no_id    another id (model, no id) than before
    crossed         an event of another request
    second          a second choice, with another page's text
    comments        comments, foreign fields and carriage returns between the events (harmless)
    split           the bytes of the events in pieces of three (harmless)
    early           finish_reason before the rest of the text, no [DONE] (harmless)
    length, abort, failed    finish_reason = length, abort, error, with the text so far
    repetition      the last words come again and again
    noise           unmapped characters
    empty, echo     nothing; the prompt instead of the text
    coordinates     only coordinates, as HunyuanOCR gives on some figures
    mixed           the text of another page, with nothing else to tell it by
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.fake_engine import FakeEngine

MODEL = "tencent/HunyuanOCR"
PHASES = ("connect", "queue", "prefill", "middle", "end")
STATUS = {
    200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
    429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout",
}  # fmt: skip
SHAPES: tuple[Any, ...] = (
    ["text"],
    {"text": "text"},
    [{"delta": ["text"]}],
    [{"delta": {"content": ["text"]}}],
    [{"delta": {"content": 7}}],
    [{"delta": "text"}],
    [{"delta": {"content": "text"}, "finish_reason": {"stop": True}}],
    [None],
    "text",
)
_REFUSED = {
    "redirect": (307, "elsewhere"),
    "oom": (500, "CUDA out of memory. Tried to allocate 2.00 GiB"),
    "dead": (500, "EngineCore encountered an issue. See stack trace (above) for the root cause. EngineDeadError"),
    **{str(status): (status, f"injected {status}") for status in (400, 401, 404, 429, 500, 502, 503, 504)},
}
TEXTUAL = frozenset({"length", "abort", "failed", "repetition", "noise", "empty", "echo", "coordinates", "mixed"})
"""Faults of the text alone: `spoiled` makes them, the rest of the answer is as ever."""
_FINISH = {"length": "length", "abort": "abort", "failed": "error"}
_USUAL = {"drip": "middle", "slow_first": "prefill", "length": "middle", "repetition": "middle"}
_USUAL |= dict.fromkeys(("reset", "truncated", "garbage", "wrong_id", "wrong_model"), "middle")


@dataclass(frozen=True)
class Rule:
    """One fault. `at`: its moment; "": the kind's usual one; "before": before the first text. `every` = 3: the 3rd,
    6th, ...; `first` = 2: the first two; `after` = 5: from the 6th on; `pages`: those page numbers, each time (not at
    `connect`, where the page is not known). With none of them: all requests. `times` bounds how often it strikes (0: no
    bound). `crowd`: only while at least so many requests are under way."""

    kind: str
    at: str = ""
    every: int = 0
    first: int = 0
    after: int = 0
    pages: tuple[int, ...] = ()
    seconds: float = 1.0
    times: int = 0
    crowd: int = 0

    @property
    def phase(self) -> str:
        if self.at == "before":
            return "prefill"
        return self.at or _USUAL.get(self.kind, "queue")

    @property
    def at_the_door(self) -> bool:
        """It strikes before the request is read."""
        return self.phase == "connect" and self.kind not in TEXTUAL

    def strikes(self, request: int, page: int | None, inside: int = 1) -> bool:
        if inside < self.crowd:
            return False
        if self.pages and page not in self.pages:
            return False
        if self.every and request % self.every:
            return False
        if self.first and request > self.first:
            return False
        return request > self.after


class Dropped(Exception):
    """The connection is to be cut, now."""


class Ended(Exception):
    """The exchange is over; `close`: and so is the connection, in good order."""

    def __init__(self, close: bool = False) -> None:
        self.close = close


@dataclass
class Stream:
    """Writes one answer: its head, its events, its end."""

    writer: asyncio.StreamWriter
    id: str = "chatcmpl-unread"
    model: str = MODEL
    begun: bool = False
    split: bool = False
    lines: bytes = b"\n\n"
    before: bytes = b""
    drip: float = 0.0
    events: int = field(default=0)

    def begin(self) -> None:
        """The head of the answer and the event that vLLM begins with."""
        if self.begun:
            return
        self.begun = True
        self.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n")
        self.writer.write(b"transfer-encoding: chunked\r\n\r\n")
        self.send({"role": "assistant", "content": ""})

    def send(self, delta: dict[str, Any], finish: str | None = None) -> None:
        self.choices([{"index": 0, "delta": delta, "finish_reason": finish}])

    def choices(self, choices: Any) -> None:
        event = {"id": self.id, "object": "chat.completion.chunk", "model": self.model, "choices": choices}
        self.data(json.dumps(event, ensure_ascii=False).encode())

    def data(self, data: bytes) -> None:
        self.events += 1
        self.chunk(self.before + b"data: " + data + self.lines)

    def chunk(self, data: bytes) -> None:
        pieces = [data[n : n + 3] for n in range(0, len(data), 3)] if self.split else [data]
        for piece in pieces:
            self.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def last(self) -> None:
        """The end of the body."""
        self.writer.write(b"0\r\n\r\n")


@dataclass
class Scene:
    """A request in which something goes wrong now. `number`: how often this rule has struck before."""

    fake: FakeEngine
    rule: Rule
    stream: Stream
    reader: asyncio.StreamReader
    number: int

    @property
    def door(self) -> bool:
        """The body was not read: the connection cannot be used again."""
        return self.rule.at_the_door

    async def refuse(self) -> None:
        status, message = _REFUSED[self.rule.kind]
        if not self.stream.begun:
            await self.fake.error(self.stream.writer, status, message)
            raise Ended(close=self.door)
        error = {"message": message, "type": STATUS[status], "param": None, "code": status}
        self.stream.data(json.dumps({"error": error}).encode())
        self.stream.data(b"[DONE]")
        await self.finish()

    async def finish(self) -> None:
        self.stream.last()
        await self.stream.writer.drain()
        raise Ended(close=self.door)

    async def reset(self) -> None:
        raise Dropped

    async def close(self) -> None:
        await self.stream.writer.drain()
        raise Ended(close=True)

    async def truncated(self) -> None:
        self.stream.begin()
        await self.finish()

    async def chunk(self) -> None:
        self.stream.begin()
        self.stream.writer.write(b"not-a-size\r\nwhatever\r\n")
        await self.close()

    async def no_http(self) -> None:
        self.stream.writer.write(b"\x00\xff\x16\x03\x01 this is another protocol\r\n\r\n" * 3)
        await self.close()

    async def hang(self) -> None:
        await self.fake.gone(self.reader)
        raise Dropped

    async def stall(self) -> None:
        await asyncio.sleep(self.rule.seconds)

    async def stuck(self) -> None:
        self.fake.stop_computing(self.rule.seconds)

    async def frozen(self) -> None:
        self.fake.freeze(self.rule.seconds)
        await self.fake.awake()

    async def drip(self) -> None:
        self.stream.drip = self.rule.seconds

    async def restart(self) -> None:
        self.fake.spawn(self.fake.restart(self.rule.seconds))
        raise Dropped

    async def crash_loop(self) -> None:
        self.fake.spawn(self.fake.crash_loop(self.rule.seconds))
        raise Dropped

    async def loading(self) -> None:
        self.fake.spawn(self.fake.reload(self.rule.seconds))
        raise Dropped

    async def deaf(self) -> None:
        self.fake.spawn(self.fake.deaf(self.rule.seconds))
        raise Dropped

    async def exit(self) -> None:
        self.fake.leave()
        raise Dropped

    async def garbage(self) -> None:
        self.stream.begin()
        self.stream.data(b"{not json")

    async def html(self) -> None:
        page = b"<!DOCTYPE html><html><body><h1>It works!</h1></body></html>\n"
        if not self.stream.begun:
            await self.fake.reply(self.stream.writer, 200, page, "text/html")
            raise Ended(close=self.door)
        self.stream.chunk(page)
        await self.finish()

    async def malformed(self) -> None:
        self.stream.begin()
        self.stream.choices(SHAPES[self.number % len(SHAPES)])

    async def binary(self) -> None:
        self.stream.begin()
        self.stream.data(b'{"choices": [{"delta": {"content": "\xff\xfe\x00"}}]}')

    async def deep(self) -> None:
        self.stream.begin()
        self.stream.data(b"[" * 100_000)

    async def flood(self) -> None:
        self.stream.begin()
        self.stream.chunk(b"data: " + b"x" * (6 << 20))

    async def endless(self) -> None:
        self.stream.begin()
        for n in range(1_000_000):
            self.stream.send({"content": " ".join(str(n * 7919 + k * 104_729) for k in range(40))})
            await self.stream.writer.drain()
            await asyncio.sleep(0)

    async def surrogates(self) -> None:
        self.stream.begin()
        event = {"id": self.stream.id, "choices": [{"index": 0, "delta": {"content": "\ud83d \udc00 " * 400}}]}
        self.stream.data(json.dumps(event).encode())

    async def wrong_id(self) -> None:
        self.stream.begin()
        self.stream.id = "chatcmpl-of-somebody-else"
        self.stream.send({"content": ""})

    async def no_id(self) -> None:
        self.stream.begin()
        self.stream.data(b'{"choices": [{"index": 0, "delta": {"content": "text of nobody"}}]}')

    async def wrong_model(self) -> None:
        self.stream.begin()
        self.stream.model = "another/model"
        self.stream.send({"content": ""})

    async def crossed(self) -> None:
        self.stream.begin()
        mine, self.stream.id = self.stream.id, "chatcmpl-of-another-page"
        self.stream.send({"content": "Paragraph of page 999999: crossed"})
        self.stream.id = mine

    async def second(self) -> None:
        self.stream.begin()
        self.stream.choices([{"index": 1, "delta": {"content": "Paragraph of page 999999"}, "finish_reason": None}])

    async def comments(self) -> None:
        self.stream.lines = b"\r\n\r\n"
        self.stream.before = b": still here\r\n\r\nid: 7\r\nretry: 100\r\nevent: message\r\n"

    async def split_(self) -> None:
        self.stream.split = True

    async def early(self) -> None:
        self.stream.begin()
        self.stream.send({}, "stop")

    async def slow_first(self) -> None:
        await asyncio.sleep(self.rule.seconds)

    async def nothing(self) -> None:
        """A fault of the text, which is spoiled already."""


def act(scene: Scene) -> Awaitable[None]:
    """What the scene's fault does now; raises Dropped or Ended, or returns and the answer goes on."""
    kind = scene.rule.kind
    if kind in _REFUSED:
        return scene.refuse()
    special: dict[str, Callable[[], Awaitable[None]]] = {"split": scene.split_}
    special |= dict.fromkeys(TEXTUAL, scene.nothing)
    if kind in special:
        return special[kind]()
    known: Callable[[], Awaitable[None]] = getattr(scene, kind)
    return known()


def spoiled(rule: Rule, text: str, prompt: str, other: str) -> tuple[str, str]:
    """(text, finish_reason) of an answer whose own text is `text`, spoiled from the rule's moment on. `other`: the text
    of another page."""
    cut = {"middle": len(text) // 2, "end": len(text)}.get(rule.phase, 0)
    kept = text[:cut]
    bad = {
        "repetition": " and so it goes on and on" * 400,
        "noise": "".join(chr(0xE000 + i % 97) for i in range(400)),
        "coordinates": "(156,68),(783,758)",
        "echo": prompt,
        "mixed": other,
    }.get(rule.kind, "")
    if rule.kind in ("empty", "echo", "coordinates", "mixed") and rule.phase not in ("middle", "end"):
        kept = ""
    return kept + bad, _FINISH.get(rule.kind, "stop")
