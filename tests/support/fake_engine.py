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

**Faults.** A `Rule` says which requests (every n-th, the first n, from one on, or given page numbers) suffer what, and
at which moment: `support.engine_faults` names them all.

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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from support import page_code
from support.engine_faults import MODEL, STATUS, TEXTUAL, Dropped, Ended, Rule, Scene, Stream, act, spoiled

__all__ = ["MODEL", "FakeEngine", "Rule", "Timing", "text_for"]


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
    paced: bool = True
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
        self._arrived = 0
        self._prefill = asyncio.Lock()
        self._turn = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[Any]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._struck: dict[int, int] = {}
        self._loading_until = self._stuck_until = self._frozen_until = 0.0

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
        self.spawn(self._gpu())

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

    async def crash_loop(self, seconds: float) -> None:
        """Three lives, each of them short."""
        for _ in range(3):
            await self.restart(seconds / 3)
            await asyncio.sleep(0.05)

    async def reload(self, seconds: float) -> None:
        """A restart after which it says for `seconds` that it is not ready."""
        self._loading_until = time.monotonic() + 2 * seconds
        await self.restart(seconds)

    async def deaf(self, seconds: float) -> None:
        """Who is connected goes on; nobody else comes in for `seconds`."""
        if self._server:
            self._server.close()
        await asyncio.sleep(seconds)
        await self._listen()

    def leave(self) -> None:
        """The end, for good."""
        if self._on_exit:
            self._on_exit()
        self.spawn(self._deafen())

    def stop_computing(self, seconds: float) -> None:
        """Nothing moves on the pretended GPU for `seconds`; everything else answers."""
        self._stuck_until = time.monotonic() + seconds

    def freeze(self, seconds: float) -> None:
        """Nothing at all answers for `seconds`."""
        self._frozen_until = time.monotonic() + seconds
        self.stop_computing(seconds)

    async def awake(self) -> None:
        await _until(lambda: self._frozen_until)

    def spawn(self, work: Any) -> None:
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
        await self.awake()
        stream = Stream(writer)
        try:
            if path == "/v1/chat/completions":
                await self._at_the_door(stream, reader)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            late = self._ready_at - time.monotonic()
            if late > 0:
                await asyncio.sleep(late)
            await self._route(method, path.partition("?")[0], body, reader, stream)
        except Ended as end:
            return not end.close
        return headers.get("connection", "").lower() != "close"

    async def _at_the_door(self, stream: Stream, reader: asyncio.StreamReader) -> None:
        """Faults that strike before the request is read."""
        self._arrived += 1
        number = self._arrived
        for place, rule in enumerate(self.rules):
            if rule.at_the_door and self._struck_by(place, rule, number, None):
                await act(Scene(self, rule, stream, reader, self._struck[place] - 1))

    async def _route(self, method: str, path: str, body: bytes, reader: asyncio.StreamReader, stream: Stream) -> None:
        writer = stream.writer
        if path != "/control" and time.monotonic() < self._loading_until:
            await self.error(writer, 503, "The model is loading.")
        elif path == "/health":
            await self.reply(writer, 200, b"", "text/plain")
        elif path == "/v1/models":
            entry = {"id": MODEL, "object": "model", "owned_by": "vllm", "max_model_len": 32768}
            await self._json(writer, 200, {"object": "list", "data": [entry]})
        elif path == "/metrics":
            await self.reply(writer, 200, self.metrics().encode(), "text/plain; version=0.0.4")
        elif path == "/control":
            await self._json(writer, 200, self.control(json.loads(body)) if method == "POST" else self.report())
        elif path == "/v1/chat/completions" and method == "POST":
            await self._completion(body, reader, stream)
        else:
            await self.error(writer, 404, "Not Found")

    async def reply(self, writer: asyncio.StreamWriter, status: int, body: bytes, kind: str) -> None:
        head = f"HTTP/1.1 {status} {STATUS[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async def _json(self, writer: asyncio.StreamWriter, status: int, value: Any) -> None:
        await self.reply(writer, status, json.dumps(value).encode(), "application/json")

    async def error(self, writer: asyncio.StreamWriter, status: int, message: str) -> None:
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
            await _until(lambda: self._stuck_until)
            for request in list(self._running.values()):
                if request.done:  # all of it is there, and something holds its answer up
                    continue
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

    async def _completion(self, body: bytes, reader: asyncio.StreamReader, stream: Stream) -> None:
        self._inside += 1
        try:
            await self._complete(json.loads(body), reader, stream)
        finally:
            self._inside -= 1

    async def _complete(self, request: dict[str, Any], reader: asyncio.StreamReader, stream: Stream) -> None:
        self.seen.requests += 1
        number = self.seen.requests  # others come in while this one's image is looked at
        self.seen.bodies.append(request)
        key, page, prompt = await self._look(request)
        self.seen.pages.append(page)
        rule = self._rule(number, page)
        run = self._answer(number, key, page, prompt, rule)
        if not stream.begun:
            stream.id = run.id
        watch = asyncio.ensure_future(self.gone(reader))
        work = asyncio.ensure_future(self._serve(request, run, stream, reader))
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

    async def gone(self, reader: asyncio.StreamReader) -> None:
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
            if not rule.at_the_door and self._struck_by(place, rule, number, page):
                return rule
        return None

    def _struck_by(self, place: int, rule: Rule, number: int, page: int | None) -> bool:
        struck = self._struck.get(place, 0)
        if (rule.times and struck >= rule.times) or not rule.strikes(number, page, self._inside):
            return False
        self._struck[place] = struck + 1
        self.seen.struck[rule.kind] = self.seen.struck.get(rule.kind, 0) + 1
        return True

    def _answer(self, number: int, key: str, page: int | None, prompt: str, rule: Rule | None) -> Running:
        text, finish = self.texts.get(page, text_for(page)) if page is not None else text_for(key[:12]), "stop"
        if rule and rule.kind in TEXTUAL:
            others = [p for p in self.seen.pages if p != page]
            other = others[-1] if others and others[-1] is not None else (page or 0) + 1
            text, finish = spoiled(rule, text, prompt, self.texts.get(other, text_for(other)))
        long = rule is not None and rule.kind == "repetition"
        total = max(2000, round(self.timing.tokens * 4)) if long else self.timing.tokens_for(key)
        count = min(max(1, math.ceil(total / self.interval)), max(1, len(text)))
        size = len(text) / count
        pieces = [text[round(i * size) : round((i + 1) * size)] for i in range(count)] if text else []
        paced = rule is None or rule.kind not in TEXTUAL or rule.phase not in ("connect", "queue")
        return Running(f"chatcmpl-{number:08d}-{key[:8]}", pieces, finish, rule, total, paced)

    async def _serve(self, request: dict[str, Any], run: Running, stream: Stream, reader: asyncio.StreamReader) -> None:
        async def reached(phase: str) -> None:
            await self.awake()
            if run.fault and run.fault.phase == phase:
                await act(Scene(self, run.fault, stream, reader, self.seen.struck[run.fault.kind] - 1))

        await reached("queue")
        if not run.paced:
            run.tokens = run.total
            await self._stream(run, stream, reached)
            return
        await self._slot()
        try:
            async with self._prefill:
                await asyncio.sleep(self.timing.prefill / self.speed)
                await _until(lambda: self._stuck_until)
            self.seen.prompt_tokens += 1500
            if request.get("stream"):
                stream.begin()
                await reached("prefill")
            self._running[run.id] = run
            self.seen.most_running = max(self.seen.most_running, len(self._running))
            self._turn.set()
            if request.get("stream"):
                await self._stream(run, stream, reached)
            else:
                await self._whole(run, stream.writer)
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

    async def _stream(self, run: Running, stream: Stream, reached: Callable[[str], Awaitable[None]]) -> None:
        stream.begin()
        half = len(run.pieces) // 2
        while run.emitted < len(run.pieces):
            await self._turned(run)
            due = len(run.pieces) if run.done else min(len(run.pieces), run.tokens // self.interval)
            while run.emitted < due:
                if run.emitted == half:
                    await reached("middle")
                stream.send({"content": run.pieces[run.emitted]})
                run.emitted += 1
                if stream.drip:
                    await stream.writer.drain()
                    await asyncio.sleep(stream.drip)
            await stream.writer.drain()
        while not run.done:
            await self._turned(run)
        await reached("end")
        self._close(run, stream)
        await stream.writer.drain()

    async def _turned(self, run: Running) -> None:
        """Some tokens later."""
        await self.awake()
        if not run.done:
            run.wake.clear()
            await run.wake.wait()

    def _close(self, run: Running, stream: Stream) -> None:
        """The last events."""
        if run.fault and run.fault.kind == "early":
            stream.last()
            return
        stream.send({}, run.finish)
        tokens = {"prompt_tokens": 1500, "completion_tokens": run.total, "total_tokens": 1500 + run.total}
        usage = {"id": stream.id, "model": stream.model, "choices": [], "usage": tokens}
        stream.data(json.dumps(usage).encode())
        stream.data(b"[DONE]")
        stream.last()


async def _until(moment: Callable[[], float]) -> None:
    """Returns once `moment`, which may be put off meanwhile, is over."""
    while (left := moment() - time.monotonic()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(left)


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
