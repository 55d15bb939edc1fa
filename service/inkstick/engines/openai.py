"""Client of an OpenAI-compatible server that reads one page image a request: vLLM, or whatever speaks like it.

What is sent is a closed schema (`body`): exactly these fields, an image that we encoded ourselves as a data URL,
text after it. What comes back is streamed and checked while it streams: the id and model stay the same, a loop
closes the stream at once (the server then stops generating), ``length`` is never a complete answer, silence has a
deadline.

    cannot connect, connection breaks, 5xx of a dying engine     EngineDown, EngineLost      no attempt
    429, 503                                                     EngineBusy                  no attempt, send less
    broken HTTP, a line without end, finish_reason abort, error  EngineLost                  no attempt
    silence before or between tokens, or too long in all         Timeout                     an attempt
    400, 500, not an event stream, another id or model           PageFailed                  an attempt

An error event in the midst of an answer is what the same status would have been before it.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import unquote

import httpx

from inkstick.document import Flag, Task
from inkstick.engines import answers
from inkstick.engines.encode import Encoded, encode
from inkstick.engines.extraction import extracted
from inkstick.engines.faults import EngineBusy, EngineLost
from inkstick.engines.protocol import Health, Load, Reading, Request
from inkstick.engines.spec import ModelSpec, Sampling, default_spec
from inkstick.errors import EngineDown, PageFailed, Timeout
from inkstick.pages.view import Pixels
from inkstick.plain import NO_TLS
from inkstick.reading.repetition import Watch, cleaned

_METRIC = re.compile(r"^vllm:(\w+?)(?:\{[^}]*\})? ([-+.\deE]+)$", re.MULTILINE)
LINE_BYTES = 1 << 20
"""No event of an answer is as long as this; what has no end is not waited for."""
CHARACTERS_PER_TOKEN = 16
"""More than any text has, so more characters than this for each token asked for is a server that does not stop."""
FIGURES_BYTES = 4 << 20
"""Figures and lists of models are far shorter; what is longer is not read to its end."""
FAULT_BYTES = 2000
"""Of what a server says of its own fault, the beginning is enough."""
_ABORTED = frozenset({"abort", "error"})
"""vLLM's reasons for an answer that it gave up itself."""
_DYING = re.compile(r"CUDA|out of memory|EngineDead|EngineCore|engine is dead", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. `first`: until the first token, waiting in the server's queue included. `idle`: between tokens."""

    connect: float = 5.0
    first: float = 120.0
    idle: float = 30.0
    total: float = 300.0
    figures: float = 5.0


@dataclass(slots=True)
class _Answer:
    """An answer as it grows."""

    watch: Watch
    most: int = 0
    length: int = 0
    id: str | None = None
    finish: str | None = None
    loop: bool = False
    tokens: int = 0


def body(
    spec: ModelSpec, url: bytes, prompt: str, sampling: Sampling, *, task: Task = Task.PARSE, priority: int = 0
) -> bytes:
    """The request as sent, JSON. The field set is closed: nothing of a client's request ever reaches the server.
    `task`: whether the answer's special tokens are wanted, and how large an image may be, depends on it."""
    fields: dict[str, Any] = {
        "model": spec.served,
        "messages": [],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
        "max_tokens": sampling.max_tokens,
        "skip_special_tokens": task not in spec.marked,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if (most := spec.most_pixels.get(task)) is not None:
        fields["mm_processor_kwargs"] = {"max_pixels": most}
    if spec.seed is not None:
        fields["seed"] = spec.seed
    if spec.priority:
        fields["priority"] = priority
    parts = {"image": {"type": "image_url", "image_url": {"url": "@"}}, "text": {"type": "text", "text": prompt}}
    user = {"role": "user", "content": [parts[name] for name in spec.order]}
    system = [] if spec.system is None else [{"role": "system", "content": spec.system}]
    fields["messages"] = [*system, user]
    whole = json.dumps(fields, ensure_ascii=False).encode()
    cut = whole.split if spec.order[0] == "image" else whole.rsplit  # the words may be "@", too
    head, tail = cut(b'"@"', 1)
    return b"".join((head, b'"', url, b'"', tail))


class OpenAiEngine:
    """See the module's docstring. `url` is ``http://host:port`` or ``unix:///path`` of a socket.

    `spec` says what is particular to the model (None: the catalogue's default one); `model` replaces its name on the
    server. `in_flight` bounds connections and is what `limit` says. `threads` encode pages. The owner of a page's
    pixels may let go of them after `encode`: `read_encoded` needs only what that returned.
    """

    remote = True

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        name: str = "vllm",
        spec: ModelSpec | None = None,
        deadline_seconds: float = 300.0,
        deadlines: Deadlines | None = None,
        in_flight: int = 64,
        threads: int = 2,
        api_key: str | None = None,
    ) -> None:
        self.name, self.spec, self._in_flight = name, spec or default_spec(), in_flight
        self.tasks: frozenset[Task] = self.spec.tasks
        self.model = self.spec.id if model is None else model
        self._served = model
        self.deadlines = deadlines or Deadlines(first=min(120.0, deadline_seconds), total=deadline_seconds)
        self._url, self._api_key = url, api_key
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._http: httpx.AsyncClient | None = None
        self._names: frozenset[str] = frozenset()
        self._most_tokens: int | None = None

    @property
    def limit(self) -> int:
        return self._in_flight

    # -- life

    async def start(self) -> None:
        """Connect and learn the served model's name. Raises EngineDown if nothing answers."""
        if self._http is None:
            self._http = self._client()
        listed = await self._get_json("/v1/models")
        names = frozenset(str(entry.get("id")) for entry in _entries(listed))
        wanted = self._served or self.spec.served
        if wanted not in names and len(names) == 1:
            (wanted,) = names  # somebody's own server: one model, under a name of their choice
        if wanted not in names:
            raise EngineDown(f"The engine serves {', '.join(sorted(names)) or 'no model'}, not {wanted}.")
        self._served, self._names = wanted, names
        self._most_tokens = _most_tokens(listed, wanted)

    def asking(self, spec: ModelSpec) -> OpenAiEngine:
        """The same connection with other prompts and sampling. Close only the one that was made first."""
        other = copy.copy(self)
        other.spec, other.tasks = spec, spec.tasks
        return other

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=self._in_flight + 8, max_keepalive_connections=self._in_flight + 8)
        headers = {"accept-encoding": "identity"}  # what is small on the way could be endless when it is unpacked
        headers |= {"authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        if self._url.startswith("unix://"):
            socket = unquote(self._url.removeprefix("unix://"))
            transport = httpx.AsyncHTTPTransport(uds=socket, limits=limits, verify=NO_TLS)
            return httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers, trust_env=False)
        plain = self._url.startswith("http://")
        transport = httpx.AsyncHTTPTransport(limits=limits, verify=NO_TLS if plain else True)
        base = self._url.rstrip("/").removesuffix("/v1")
        return httpx.AsyncClient(transport=transport, base_url=base, headers=headers, trust_env=False)

    # -- figures

    async def health(self) -> Health:
        """Whether the server answers and serves the model. Says nothing of a hang: silence while reading does."""
        try:
            if self._names:
                await self._get("/health")
            else:
                await self.start()
        except EngineDown as error:
            return Health(False, "down", error.message)
        return Health(True, "ready", facts={"model": self._served or self.spec.served})

    async def load(self) -> Load | None:
        """vLLM's own figures; None where the server has none (it may be another kind), or none that are numbers."""
        try:
            return _load((await self._get("/metrics")).decode("utf-8", "replace"))
        except (EngineDown, ValueError, OverflowError):
            return None

    async def _get(self, path: str) -> bytes:
        """The body of a short answer. Raises EngineDown for any other."""
        limit = self.deadlines.figures
        try:
            async with (
                asyncio.timeout(limit),
                self._connected().stream("GET", path, timeout=httpx.Timeout(limit)) as response,
            ):
                found = await _beginning(response, FIGURES_BYTES + 1)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            raise EngineDown(f"The engine does not answer ({type(error).__name__}).") from error
        if response.status_code != 200:
            raise EngineDown(f"The engine answers {path} with {response.status_code}.")
        if len(found) > FIGURES_BYTES:
            raise EngineDown(f"The engine's answer to {path} has no end.")
        return found

    async def _get_json(self, path: str) -> Mapping[str, Any]:
        try:
            value = json.loads(await self._get(path))
        except (ValueError, RecursionError) as error:
            raise EngineDown("The engine's answer is no JSON: is this an OpenAI-compatible server?") from error
        return value if isinstance(value, dict) else {}

    def _connected(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = self._client()
        return self._http

    # -- reading

    async def read(self, image: Pixels, request: Request) -> Reading:
        """One page. Errors as in the module's docstring; cancelling closes the stream."""
        return await self.read_encoded(await self.encode(image, task=request.task), request)

    async def encode(self, image: Pixels, *, scale: float = 1.0, task: Task = Task.PARSE) -> Encoded:
        """The page as it will be sent for a task, made in a thread; `scale` below 1 for a smaller picture of it."""
        work = partial(encode, image, scale=scale, double_below=self.spec.doubled.get(task, 0))
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def read_encoded(self, image: Encoded, request: Request) -> Reading:
        """Like `read`, for a page that was encoded ahead."""
        prompt = self.spec.prompt(request)
        sampling = self.spec.sampled(request.attempt)
        if self._most_tokens is not None:
            sampling = replace(sampling, max_tokens=min(sampling.max_tokens, self._most_tokens))
        spec, task = self._named(), request.task
        content = body(spec, image.url, prompt, sampling, task=task, priority=request.priority)
        answer = _Answer(Watch(), sampling.max_tokens * CHARACTERS_PER_TOKEN)
        try:
            async with asyncio.timeout(self.deadlines.total):
                await self._stream(content, answer)
        except TimeoutError:
            raise Timeout(f"The engine had not finished the page after {self.deadlines.total:.0f} s.") from None
        return self._reading(answer, request, prompt)

    def _named(self) -> ModelSpec:
        return replace(self.spec, served=self._served) if self._served else self.spec

    def _reading(self, answer: _Answer, request: Request, prompt: str) -> Reading:
        text = _characters(answer.watch.text)
        flags: set[Flag] = set()
        if answer.loop or answer.watch.finish():
            flags.add(Flag.REPETITION)
            text = cleaned(text)
        elif answer.finish != "stop":
            flags.add(Flag.TRUNCATED)
        blocks = answers.parse_as(text, request.task, self.spec.forms.get(request.task))
        if request.task is Task.EXTRACT and request.keys and not flags:
            found = extracted(text, request.keys)
            if found is None:
                raise PageFailed("The model's answer holds none of the fields that were asked for.")
            blocks = found.blocks
            flags |= {Flag.SUSPECT} if found.missing else set()
        return Reading(blocks, self.model, prompt, None, frozenset(flags), text)

    async def _stream(self, content: bytes, answer: _Answer) -> None:
        """Fill `answer` from the stream; returns at its end, or as soon as it goes round in circles or has no end."""
        async with self._posted(content) as response:
            await _refused(response)
            events = _events(response)
            while True:
                patience = self.deadlines.idle if answer.tokens else self.deadlines.first
                event = await _next(events, patience)
                if event is None or self._take(event, answer):
                    break  # leaving closes the connection, and the server stops generating
        if not answer.loop and (answer.finish is None or answer.finish in _ABORTED):
            raise EngineLost("The engine's answer broke off.")

    @asynccontextmanager
    async def _posted(self, content: bytes) -> AsyncIterator[httpx.Response]:
        d = self.deadlines
        timeout = httpx.Timeout(d.first, connect=d.connect, read=max(d.first, d.idle), pool=d.first)
        headers = {"content-type": "application/json"}
        try:
            async with self._connected().stream(
                "POST", "/v1/chat/completions", content=content, headers=headers, timeout=timeout
            ) as response:
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise EngineDown("The engine cannot be reached.") from error
        except httpx.TimeoutException as error:
            raise Timeout("The engine is silent.") from error
        except (httpx.TransportError, httpx.StreamError, OSError) as error:
            raise EngineLost(f"The connection to the engine broke ({type(error).__name__}).") from error

    def _take(self, event: bytes, answer: _Answer) -> bool:
        """Add one event. True: nothing more is wanted. Raises PageFailed for what no such server sends."""
        if event == b"[DONE]":
            return False  # read on to the end of the body, so that the connection can be used again
        try:
            value = json.loads(event)
            choices, identity = value.get("choices", ()), value.get("id")
        except (ValueError, AttributeError, RecursionError) as error:
            raise PageFailed("The engine's answer is no event stream.") from error
        if "error" in value:
            raise _told_fault(value["error"])
        self._check_identity(identity, value.get("model"), answer)
        return self._grow(choices, answer)

    def _check_identity(self, identity: Any, model: Any, answer: _Answer) -> None:
        if answer.id is None:
            answer.id = identity
        elif identity != answer.id:
            raise PageFailed("The engine answered with another request's id.")
        if model is not None and self._served and model != self._served:
            raise PageFailed("The engine answered as another model.")

    def _grow(self, choices: Any, answer: _Answer) -> bool:
        for piece, finish in _pieces(choices):
            answer.finish = finish or answer.finish
            answer.tokens += bool(piece)
            answer.length += len(piece)
            if piece and answer.watch.feed(piece):
                answer.loop = True
                return True
        if answer.length > answer.most:
            answer.finish = "length"
        return answer.length > answer.most


def _pieces(choices: Any) -> list[tuple[str, str | None]]:
    """(text, finish_reason) of each choice. Raises PageFailed for another shape, or for an answer beside the one that
    was asked for, which would be somebody else's."""
    if choices is None:
        return []
    if not isinstance(choices, list):
        raise PageFailed("The engine's answer is no event stream.")
    return [_piece(choice) for choice in choices]


def _piece(choice: Any) -> tuple[str, str | None]:
    delta = (choice.get("delta") or {}) if isinstance(choice, dict) else None
    text = (delta.get("content") or "") if isinstance(delta, dict) else None
    finish = choice.get("finish_reason") if isinstance(choice, dict) else None
    if not isinstance(text, str) or not isinstance(finish, str | None):
        raise PageFailed("The engine's answer is no event stream.")
    if choice.get("index", 0) != 0:
        raise PageFailed("The engine gave more than one answer.")
    return text, finish


def _characters(text: str) -> str:
    """The text without halves of characters, which JSON can carry and no file can: pairs joined, the rest marked."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _load(text: str) -> Load | None:
    """vLLM's metrics, each summed over its labels. Raises ValueError or OverflowError for what is no number."""
    figures: dict[str, float] = {}
    for name, value in _METRIC.findall(text):
        figures[name] = figures.get(name, 0.0) + float(value)
    if "num_requests_running" not in figures:
        return None
    return Load(
        running=int(figures["num_requests_running"]),
        waiting=int(figures.get("num_requests_waiting", 0)),
        cache_usage=figures.get("kv_cache_usage_perc", 0.0),
        generated_tokens=int(figures.get("generation_tokens_total", 0)),
        finished=int(figures.get("request_success_total", 0)),
    )


def _entries(listed: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The models of a listing, whatever else somebody's server put there."""
    data = listed.get("data")
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []


def _most_tokens(listed: Mapping[str, Any], name: str) -> int | None:
    """The longest answer that a server with a small context takes: half of what its listing says, which leaves the
    other half for the page. A request for more is refused by vLLM. None where the listing says nothing."""
    for entry in _entries(listed):
        if entry.get("id") == name and isinstance(entry.get("max_model_len"), int):
            return max(1, int(entry["max_model_len"]) // 2)
    return None


async def _next(events: AsyncIterator[bytes], patience: float) -> bytes | None:
    try:
        async with asyncio.timeout(patience):
            return await anext(events, None)
    except TimeoutError:
        raise Timeout(f"The engine was silent for {patience:.0f} s.") from None


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    """The data of each server-sent event, without decoding. Raises EngineLost for a line without end."""
    rest = b""
    async for piece in response.aiter_raw():
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > LINE_BYTES:
            raise EngineLost("The engine's answer is no event stream.")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


async def _refused(response: httpx.Response) -> None:
    """Raise what a status other than 200 means."""
    if response.status_code != 200:
        raise _fault(response.status_code, (await _beginning(response, FAULT_BYTES)).decode("utf-8", "replace"))


async def _beginning(response: httpx.Response, most: int) -> bytes:
    """The first bytes of a body, at most so many: it may have no end."""
    found = b""
    async for piece in response.aiter_raw():
        found += piece[: most - len(found)]
        if len(found) >= most:
            break
    return found


def _told_fault(error: Any) -> EngineDown | PageFailed:
    """What an error event means: the status that it names, or one of a server's own fault."""
    code = error.get("code") if isinstance(error, dict) else None
    return _fault(code if isinstance(code, int) and 300 <= code < 600 else 500, str(error)[:FAULT_BYTES])


def _fault(status: int, text: str) -> EngineDown | PageFailed:
    if status in (429, 503):
        return EngineBusy(f"The engine is busy ({status}).")
    if status < 400 or status in (401, 403, 404, 502, 504):
        return EngineDown(f"The engine refuses the request ({status}).")
    if status >= 500 and _DYING.search(text):
        return EngineLost(f"The engine failed ({status}): {text[:200]}")
    return PageFailed(f"The engine could not read the page ({status}): {text[:200]}")
