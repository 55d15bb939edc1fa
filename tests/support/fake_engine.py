"""A deterministic stand-in for vLLM's OpenAI-compatible server: same routes, metric names and stream format.

Runs in the test's own event loop (``async with FakeEngine() as fake``) or as a process
(``python -m support.fake_engine --port 0`` or ``--uds PATH``; prints ``listening <url>`` when it does).

**What it answers.** It looks at the image. If the page carries a number (`support.page_code`) the answer is the text
registered for that number, else `text_for(number)`, which names the number in every paragraph; a page without a
number gets a text that names the image's hash. So a page that ends up with another page's text is seen.
`look="bytes"` hashes the encoded image and does not decode it (for benches).

**How long it takes.** One loop moves all running requests a token at a time, as a GPU does: a step lasts 4 ms +
0.12 ms x running; prefill is serial, 30 ms a request; at most `slots` run, the rest wait in order; the number of
tokens is log-normal with mean 1,000 and drawn from the image's hash. `speed` divides all times. `interval` tokens
make one event of the stream.

**Faults.** A `Rule` says which requests (every n-th, the first n, from one on, or given page numbers) suffer what:

    429 503 500 404 oom      refused, with that status (oom: 500 with a CUDA out of memory text)
    hang                     accepted, never answered; /health stays 200
    reset                    connection reset     at = before | middle | end (before [DONE])
    truncated                stream ends early without finish_reason     at = before | middle | end
    length                   finish_reason = length     at = before | middle | end of the text
    repetition               at `at`, the last words come again and again
    garbage                  bytes that are no event stream     at = before | middle | end
    noise                    text of unmapped characters
    empty                    an empty answer, finish_reason = stop
    echo                     the prompt comes back as the answer
    coordinates              only coordinates, as HunyuanOCR gives on some figures
    mixed                    the text of another page
    wrong_id, wrong_model    another id (model) than announced     at = before (first event) | middle | end
    slow_first, drip         `seconds` before the first token; `seconds` between events
    restart                  all connections drop, nothing listens for `seconds`
    exit                     the process ends (in-process: the server stops for good)

``POST /control {"rules": [{"kind": "reset", "at": "middle", "every": 3}], "texts": {"7": "..."}, "slots": 8}``
changes them while it runs; ``GET /control`` tells what was seen. `start_seconds` delays the moment from which
/health and the API answer.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import math
import os
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from support import page_code

MODEL = "tencent/HunyuanOCR"
STATUS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}
STATUS |= {503: "Service Unavailable"}


@dataclass(frozen=True)
class Rule:
    """One fault. `every` = 3: the 3rd, 6th, ...; `first` = 2: the first two; `after` = 5: from the 6th on; `pages`:
    those page numbers, each time. With none of them: all requests. `times` bounds how often it strikes (0: no
    bound). `crowd`: only while at least so many requests are under way."""

    kind: str
    at: str = "middle"
    every: int = 0
    first: int = 0
    after: int = 0
    pages: tuple[int, ...] = ()
    seconds: float = 1.0
    times: int = 0
    crowd: int = 0

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


@dataclass(frozen=True)
class Timing:
    """Seconds, before division by `speed`."""

    step: float = 0.004
    step_per_running: float = 0.00012
    prefill: float = 0.030
    tokens: float = 1000.0
    spread: float = 0.45

    def tokens_for(self, seed: str) -> int:
        """Log-normal with mean `tokens`, drawn from `seed`."""
        mu = math.log(self.tokens) - self.spread**2 / 2
        return max(4, round(random.Random(seed).lognormvariate(mu, self.spread)))


def text_for(page: int | str, words: int = 60) -> str:
    """Markdown that names `page` in its heading and in each paragraph, and is the same each time."""
    chance = random.Random(f"text {page}")
    vocabulary = [
        "amber",
        "basin",
        "cedar",
        "delta",
        "ember",
        "fjord",
        "grove",
        "heron",
        "inlet",
        "jetty",
        "knoll",
        "larch",
        "marsh",
        "north",
        "orbit",
        "plain",
    ]
    paragraphs = [f"# Page {page}"]
    for n in range(1, 4):
        body = " ".join(chance.choice(vocabulary) + str(chance.randrange(100)) for _ in range(words // 3))
        paragraphs.append(f"Paragraph {n} of page {page}: {body}.")
    return "\n\n".join(paragraphs)


@dataclass
class Running:
    """One request on the pretended GPU."""

    id: str
    pieces: list[str]
    finish: str
    fault: Rule | None
    total: int
    emitted: int = 0
    tokens: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def done(self) -> bool:
        return self.tokens >= self.total


@dataclass
class Seen:
    """What the server was asked, for assertions."""

    requests: int = 0
    finished: int = 0
    aborted: int = 0
    struck: dict[str, int] = field(default_factory=dict)
    pages: list[int | None] = field(default_factory=list)
    most_running: int = 0
    generated: int = 0
    prompt_tokens: int = 0
    connections: int = 0
    bodies: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=8))


class Dropped(Exception):
    """The connection is to be cut, now."""


class _CutShort(Exception):
    """The stream was ended early, in good order."""


class FakeEngine:
    """See the module's docstring. Listens on `uds` or on 127.0.0.1:`port` (0: any); `url` tells where."""

    def __init__(
        self,
        *,
        port: int = 0,
        uds: str | None = None,
        slots: int = 64,
        speed: float = 1.0,
        interval: int = 16,
        timing: Timing | None = None,
        rules: Sequence[Rule] = (),
        texts: dict[int, str] | None = None,
        look: str = "image",
        start_seconds: float = 0.0,
        on_exit: Callable[[], None] | None = None,
    ) -> None:
        self.slots, self.speed, self.interval, self.look = slots, speed, interval, look
        self.timing = timing or Timing()
        self.rules, self.texts = list(rules), dict(texts or {})
        self.seen = Seen()
        self._port, self._uds = port, uds
        self._ready_at = time.monotonic() + start_seconds
        self._on_exit = on_exit
        self._server: asyncio.Server | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._running: dict[str, Running] = {}
        self._taken = 0
        self._inside = 0
        self._prefill = asyncio.Lock()
        self._turn = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[Any]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._struck: dict[int, int] = {}

    # -- life

    @property
    def url(self) -> str:
        return f"unix://{self._uds}" if self._uds else f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        await self._listen()
        self._spawn(self._gpu())

    async def stop(self) -> None:
        await self._deafen()
        ending = [*self._tasks, *self._connections]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _listen(self) -> None:
        if self._uds:
            self._server = await asyncio.start_unix_server(self._connection, self._uds)
            return
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self._port, limit=1 << 20)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _deafen(self) -> None:
        if self._server:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        if self._uds:
            Path(self._uds).unlink(missing_ok=True)
        await asyncio.sleep(0)

    async def restart(self, seconds: float) -> None:
        """Drop every connection, listen to nothing for `seconds`, come back."""
        await self._deafen()
        await asyncio.sleep(seconds)
        await self._listen()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- HTTP

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.connections += 1
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (Dropped, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        except asyncio.CancelledError:  # the loop is closing; streams would log it as an error
            writer.transport.abort()
        finally:
            self._writers.discard(writer)
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        late = self._ready_at - time.monotonic()
        if late > 0:
            await asyncio.sleep(late)
        await self._route(method, path.partition("?")[0], body, reader, writer)
        return headers.get("connection", "").lower() != "close"

    async def _route(
        self, method: str, path: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if path == "/health":
            await self._reply(writer, 200, b"", "text/plain")
        elif path == "/v1/models":
            entry = {"id": MODEL, "object": "model", "owned_by": "vllm", "max_model_len": 32768}
            await self._json(writer, 200, {"object": "list", "data": [entry]})
        elif path == "/metrics":
            await self._reply(writer, 200, self.metrics().encode(), "text/plain; version=0.0.4")
        elif path == "/control":
            await self._json(writer, 200, self.control(json.loads(body)) if method == "POST" else self.report())
        elif path == "/v1/chat/completions" and method == "POST":
            await self._completion(body, reader, writer)
        else:
            await self._error(writer, 404, "Not Found")

    async def _reply(self, writer: asyncio.StreamWriter, status: int, body: bytes, kind: str) -> None:
        head = f"HTTP/1.1 {status} {STATUS[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async def _json(self, writer: asyncio.StreamWriter, status: int, value: Any) -> None:
        await self._reply(writer, status, json.dumps(value).encode(), "application/json")

    async def _error(self, writer: asyncio.StreamWriter, status: int, message: str) -> None:
        await self._json(writer, status, {"error": {"message": message, "type": "Error", "code": status}})

    # -- control and figures

    def control(self, wishes: dict[str, Any]) -> dict[str, Any]:
        if "rules" in wishes:
            self.rules = [Rule(**{**rule, "pages": tuple(rule.get("pages", ()))}) for rule in wishes["rules"]]
            self._struck = {}
        self.texts |= {int(page): text for page, text in wishes.get("texts", {}).items()}
        self.slots = wishes.get("slots", self.slots)
        return self.report()

    def report(self) -> dict[str, Any]:
        seen = {k: v for k, v in vars(self.seen).items() if k != "bodies"}
        return {**seen, "running": len(self._running), "waiting": len(self._waiting)}

    def metrics(self) -> str:
        label = f'{{engine="0",model_name="{MODEL}"}}'
        rows = [
            ("gauge", "vllm:num_requests_running", len(self._running)),
            ("gauge", "vllm:num_requests_waiting", len(self._waiting)),
            ("gauge", "vllm:kv_cache_usage_perc", round(min(1.0, len(self._running) / max(1, self.slots) * 0.8), 4)),
            ("counter", "vllm:prompt_tokens_total", self.seen.prompt_tokens),
            ("counter", "vllm:generation_tokens_total", self.seen.generated),
        ]
        lines = [f"# HELP {name} vLLM's.\n# TYPE {name} {kind}\n{name}{label} {float(v)}" for kind, name, v in rows]
        done = f'{{engine="0",finished_reason="stop",model_name="{MODEL}"}}'
        lines.append(
            f"# TYPE vllm:request_success_total counter\nvllm:request_success_total{done} {self.seen.finished}.0"
        )
        return "\n".join(lines) + "\n"

    # -- the pretended GPU

    async def _gpu(self) -> None:
        due = time.monotonic()
        while True:
            if not self._running:
                self._turn.clear()
                await self._turn.wait()
                due = time.monotonic()
            due += (self.timing.step + self.timing.step_per_running * len(self._running)) / self.speed
            now = time.monotonic()
            due = max(due, now - 0.25)  # a late loop catches up, but not for ever
            await asyncio.sleep(max(0.0, due - now))
            for request in list(self._running.values()):
                request.tokens += 1
                self.seen.generated += 1
                if request.tokens % self.interval == 0 or request.done:
                    request.wake.set()

    async def _slot(self) -> None:
        if self._taken < self.slots and not self._waiting:
            self._taken += 1
            return
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ticket)
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            else:
                self._free()
            raise

    def _free(self) -> None:
        self._taken -= 1
        while self._waiting and self._taken < self.slots:
            ticket = self._waiting.popleft()
            if not ticket.done():
                self._taken += 1
                ticket.set_result(None)

    # -- completions

    async def _completion(self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._inside += 1
        try:
            await self._complete(json.loads(body), reader, writer)
        finally:
            self._inside -= 1

    async def _complete(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.seen.requests += 1
        number = self.seen.requests  # others come in while this one's image is looked at
        self.seen.bodies.append({**request, "messages": len(request["messages"])})
        key, page, prompt = await self._look(request)
        self.seen.pages.append(page)
        rule = self._rule(number, page)
        if rule and await self._refuse(rule, reader, writer):
            return
        answer = self._answer(number, key, page, prompt, rule)
        watch = asyncio.ensure_future(self._gone(reader))
        work = asyncio.ensure_future(self._serve(request, answer, key, writer))
        try:
            await asyncio.wait({watch, work}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.seen.aborted += 1
                raise Dropped
            work.result()
        finally:
            watch.cancel()
            work.cancel()
            await asyncio.gather(watch, work, return_exceptions=True)

    async def _gone(self, reader: asyncio.StreamReader) -> None:
        """Returns when the client has closed its side (no pipelining: nothing else can arrive)."""
        while not reader.at_eof() and reader.exception() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def _look(self, request: dict[str, Any]) -> tuple[str, int | None, str]:
        parts = request["messages"][-1]["content"]
        prompt = next((part["text"] for part in parts if part["type"] == "text"), "")
        url = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
        if self.look == "bytes":
            return hashlib.sha256(url[-4096:].encode()).hexdigest(), None, prompt
        data = base64.b64decode(url.partition(",")[2])
        page = await asyncio.to_thread(page_code.look_encoded, data)
        return hashlib.sha256(data).hexdigest() if page is None else str(page), page, prompt

    def _rule(self, number: int, page: int | None) -> Rule | None:
        for place, rule in enumerate(self.rules):
            if rule.strikes(number, page, self._inside) and not (
                rule.times and self._struck.get(place, 0) >= rule.times
            ):
                self._struck[place] = self._struck.get(place, 0) + 1
                self.seen.struck[rule.kind] = self.seen.struck.get(rule.kind, 0) + 1
                return rule
        return None

    async def _refuse(self, rule: Rule, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Faults that need no answer. True: the exchange is over."""
        if rule.kind in ("429", "503", "500", "404"):
            await self._error(writer, int(rule.kind), f"injected {rule.kind}")
        elif rule.kind == "oom":
            await self._error(writer, 500, "CUDA out of memory. Tried to allocate 2.00 GiB")
        elif rule.kind == "hang":
            await self._gone(reader)
            raise Dropped
        elif rule.kind == "reset" and rule.at == "before":
            raise Dropped
        elif rule.kind == "restart":
            self._spawn(self.restart(rule.seconds))
            raise Dropped
        elif rule.kind == "exit":
            if self._on_exit:
                self._on_exit()
            self._spawn(self._deafen())
            raise Dropped
        else:
            return False
        return True

    def _answer(self, number: int, key: str, page: int | None, prompt: str, rule: Rule | None) -> Running:
        text = self.texts.get(page, text_for(page)) if page is not None else text_for(key[:12])
        kind = rule.kind if rule else ""
        finish = "stop"
        if kind == "mixed":
            others = [p for p in self.seen.pages if p != page]
            text = text_for(others[-1] if others and others[-1] is not None else (page or 0) + 1)
        elif kind == "empty":
            text = ""
        elif kind == "echo":
            text = prompt
        elif kind == "coordinates":
            text = "(156,68),(783,758)"
        elif kind == "noise":
            text = "".join(chr(0xE000 + i % 97) for i in range(400))
        elif kind == "length" and rule:
            text, finish = text[: _cut(len(text), rule.at)], "length"
        elif kind == "repetition" and rule:
            text = text[: _cut(len(text), rule.at)] + " and so it goes on and on" * 400
        total = self.timing.tokens_for(key) if kind != "repetition" else max(2000, round(self.timing.tokens * 4))
        count = min(max(1, math.ceil(total / self.interval)), max(1, len(text)))
        size = len(text) / count
        pieces = [text[round(i * size) : round((i + 1) * size)] for i in range(count)] if text else []
        return Running(f"chatcmpl-{number:08d}-{key[:8]}", pieces, finish, rule, total)

    async def _serve(self, request: dict[str, Any], run: Running, key: str, writer: asyncio.StreamWriter) -> None:
        await self._slot()
        try:
            async with self._prefill:
                await asyncio.sleep(self.timing.prefill / self.speed)
            self.seen.prompt_tokens += 1500
            if run.fault and run.fault.kind == "slow_first":
                await asyncio.sleep(run.fault.seconds)
            self._running[run.id] = run
            self.seen.most_running = max(self.seen.most_running, len(self._running))
            self._turn.set()
            with contextlib.suppress(_CutShort):
                await (self._stream(run, writer) if request.get("stream") else self._whole(run, writer))
                self.seen.finished += 1
        finally:
            self._running.pop(run.id, None)
            self._free()

    async def _whole(self, run: Running, writer: asyncio.StreamWriter) -> None:
        while not run.done:
            run.wake.clear()
            await run.wake.wait()
        message = {"role": "assistant", "content": "".join(run.pieces)}
        choice = {"index": 0, "message": message, "finish_reason": run.finish}
        usage = {"prompt_tokens": 1500, "completion_tokens": run.total, "total_tokens": 1500 + run.total}
        value = {"id": run.id, "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}
        await self._json(writer, 200, value)

    async def _stream(self, run: Running, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        stream = _Stream(run, writer)
        stream.send({"role": "assistant", "content": ""})
        while run.emitted < len(run.pieces):
            run.wake.clear()
            await run.wake.wait()
            due = len(run.pieces) if run.done else min(len(run.pieces), run.tokens // self.interval)
            while run.emitted < due:
                piece = run.pieces[run.emitted]
                stream.fault("before" if run.emitted == 0 else "middle", run.emitted * 2 >= len(run.pieces))
                stream.send({"content": piece})
                run.emitted += 1
                if run.fault and run.fault.kind == "drip":
                    await asyncio.sleep(run.fault.seconds)
            await writer.drain()
        while not run.done:
            run.wake.clear()
            await run.wake.wait()
        stream.fault("end", True)
        stream.send({}, run.finish)
        stream.close()
        await writer.drain()


class _Stream:
    """Writes one answer's events, and breaks them as its fault says."""

    def __init__(self, run: Running, writer: asyncio.StreamWriter) -> None:
        self.run, self.writer = run, writer
        self.id, self.model = run.id, MODEL

    def send(self, delta: dict[str, str], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        event = {"id": self.id, "object": "chat.completion.chunk", "model": self.model, "choices": [choice]}
        self._chunk(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")

    def close(self) -> None:
        tokens = {"prompt_tokens": 1500, "completion_tokens": self.run.total, "total_tokens": 1500 + self.run.total}
        usage = {"id": self.id, "model": self.model, "choices": [], "usage": tokens}
        self._chunk(b"data: " + json.dumps(usage).encode() + b"\n\ndata: [DONE]\n\n")
        self.writer.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    def fault(self, phase: str, half: bool) -> None:
        rule = self.run.fault
        if rule is None or rule.at != phase or (phase == "middle" and not half):
            return
        if rule.kind == "reset":
            raise Dropped
        if rule.kind == "truncated":
            self.writer.write(b"0\r\n\r\n")
            raise _CutShort
        if rule.kind == "garbage":
            self._chunk(b"data: {\xff\xfe not json\n\n")
        if rule.kind == "wrong_id":
            self.id = "chatcmpl-of-somebody-else"
        if rule.kind == "wrong_model":
            self.model = "another/model"


def _cut(length: int, at: str) -> int:
    return {"before": 0, "middle": length // 2, "end": length}[at]


async def _main(arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(description="A deterministic stand-in for vLLM's server.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--uds")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--interval", type=int, default=16)
    parser.add_argument("--tokens", type=float, default=1000.0)
    parser.add_argument("--look", choices=("image", "bytes"), default="image")
    parser.add_argument("--start-seconds", type=float, default=0.0)
    parser.add_argument("--rules", default="[]", help="JSON, as for POST /control")
    chosen = parser.parse_args(arguments)
    fake = FakeEngine(
        port=chosen.port,
        uds=chosen.uds,
        slots=chosen.slots,
        speed=chosen.speed,
        interval=chosen.interval,
        timing=Timing(tokens=chosen.tokens),
        look=chosen.look,
        start_seconds=chosen.start_seconds,
        on_exit=lambda: os._exit(1),
    )
    fake.control({"rules": json.loads(chosen.rules)})
    async with fake:
        print(f"listening {fake.url}", flush=True)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(None))
