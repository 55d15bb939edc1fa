"""The transformers engine: the model's weights in plain PyTorch, in a process of its own. The reference for vLLM.

The process (`transformers_worker`) runs in the engine's Python environment; it has no network where bubblewrap works,
and ends with us. One page at a time. A page that is cancelled is told to stop and its late answer is dropped by its
number, so the weights stay loaded; a page past its deadline costs the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inkstick.document import Flag
from inkstick.engines import answers
from inkstick.engines.protocol import Health, Load, Reading, Request
from inkstick.engines.spec import ModelSpec
from inkstick.errors import EngineDown, PageFailed, Timeout
from inkstick.pages.view import Pixels
from inkstick.reading.repetition import Watch, cleaned

WORKER = Path(__file__).with_name("transformers_worker.py")
START_SECONDS = 600.0
"""Until the weights are loaded: 2 GB from a slow stick."""
ANSWER_BYTES = 16 << 20
NOT_ITS_LANGUAGE = (ValueError, KeyError, TypeError, AttributeError)
"""What reading a message raises that is not shaped as the process's messages are."""


@dataclass(frozen=True, slots=True)
class Start:
    """How the process is started: the command for a pixel file's number, and its whole environment."""

    command: Callable[[int], Sequence[str]]
    environment: Mapping[str, str]


class Ended(Exception):
    """The process ended; the message says how."""


class TransformersEngine:
    """See the module's docstring. `model` is what pages say read them."""

    name = "transformers"
    remote = False
    limit = 1

    def __init__(self, start: Start, spec: ModelSpec, *, deadline_seconds: float = 300.0) -> None:
        self.spec, self.model, self.tasks = spec, spec.id, spec.tasks
        self.deadline_seconds = deadline_seconds
        self._worker = Worker(start)
        self._turn = asyncio.Lock()
        self._open = False

    async def start(self) -> None:
        """Load the weights. Raises EngineDown if that fails."""
        self._open = True
        async with self._turn:
            await self._revived()

    async def close(self) -> None:
        self._open = False
        await self._worker.stop()

    async def health(self) -> Health:
        if not self._worker.alive:
            return Health(False, "stopped" if not self._open else "down")
        return Health(True, "ready", facts={"model": self.model, **self._worker.facts})

    async def load(self) -> Load | None:
        return None

    async def read(self, image: Pixels, request: Request) -> Reading:
        """See `Engine.read`."""
        prompt = self.spec.prompt(request)
        question = {
            "prompt": prompt,
            "system": self.spec.system,
            "sampling": {
                **asdict(self.spec.sampled(request.attempt)),
                "seed": self.spec.seed,
                "skip_special_tokens": request.task not in self.spec.marked,
            },
        }
        async with self._turn:
            await self._revived()
            watch, finish = await self._asked(image, question)
        return self._reading(watch, finish, request, prompt)

    async def _revived(self) -> None:
        if not self._open:
            raise EngineDown("The transformers engine is not running.")
        try:
            await self._worker.start()
        except (Ended, OSError, TimeoutError, *NOT_ITS_LANGUAGE) as error:
            raise EngineDown(f"The transformers engine does not start: {error}") from error

    async def _asked(self, image: Pixels, question: Mapping[str, Any]) -> tuple[Watch, str]:
        """The answer and how it ended: stop, length, loop."""
        try:
            async with asyncio.timeout(self.deadline_seconds):
                return await self._worker.ask(image, question)
        except TimeoutError:
            await self._worker.stop()  # it may sit in one long forward, which no message ends
            raise Timeout(f"The page was not read within {self.deadline_seconds:.0f} seconds.") from None
        except (Ended, OSError, *NOT_ITS_LANGUAGE) as error:
            await self._worker.stop()
            raise EngineDown(f"The transformers engine ended while it read: {error}") from error

    def _reading(self, watch: Watch, finish: str, request: Request, prompt: str) -> Reading:
        text, flags = watch.text, set[Flag]()
        if finish == "loop" or watch.finish():
            flags.add(Flag.REPETITION)
            text = cleaned(text)
        elif finish != "stop":
            flags.add(Flag.TRUNCATED)
        blocks = answers.parse_as(text, request.task, self.spec.forms.get(request.task))
        return Reading(blocks, self.model, prompt, None, frozenset(flags), text)


class Worker:
    """The process and the memory file that it shares with us."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._process: asyncio.subprocess.Process | None = None
        self._pixels = -1
        self._number = 0
        self.facts: dict[str, str] = {}

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None and bool(self.facts)

    async def start(self) -> None:
        """Start it, unless it lives, and wait until the weights are loaded. Raises Ended, TimeoutError, OSError."""
        if self.alive:
            return
        await self.stop()
        self._pixels = os.memfd_create("page")
        self._process = await asyncio.create_subprocess_exec(
            *self._start.command(self._pixels), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._pixels,), limit=ANSWER_BYTES, env=dict(self._start.environment),
        )  # fmt: skip
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = (await self._message())["ready"]
            self.facts = {str(name): str(value) for name, value in ready.items()}
        except BaseException:
            await self.stop()
            raise

    async def ask(self, image: Pixels, question: Mapping[str, Any]) -> tuple[Watch, str]:
        """Have a page read. Raises Ended, and PageFailed for a fault in reading it. Cancelling tells the process to
        stop and leaves it alive."""
        self._number = number = self._number + 1
        await asyncio.to_thread(_write, self._pixels, image.data)
        self._say({"id": number, "width": image.width, "height": image.height, **question})
        try:
            return await self._followed(number)
        except asyncio.CancelledError:
            self._say({"cancel": number})
            raise

    async def _followed(self, number: int) -> tuple[Watch, str]:
        """The answer as it grows, until it ends or goes round in circles. Late words of earlier pages are dropped."""
        watch, loop = Watch(), False
        while True:
            message = await self._message()
            if message.get("id") != number:
                continue
            if "error" in message:
                raise PageFailed(f"The transformers engine could not read the page: {message['error']}")
            if "piece" in message:
                if not loop and watch.feed(message["piece"]):
                    loop = True
                    self._say({"cancel": number})
                continue
            watch.feed(message["text"][len(watch.text) :])
            return watch, "loop" if loop else str(message["finish"])

    async def _message(self) -> dict[str, Any]:
        assert self._process and self._process.stdout
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise Ended(f"status {await self._process.wait()}")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("it says what is no message")
        return message

    def _say(self, message: Mapping[str, Any]) -> None:
        assert self._process and self._process.stdin
        with contextlib.suppress(ConnectionError):  # it has ended: reading will tell
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def stop(self) -> None:
        self.facts = {}
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
        if self._pixels >= 0:
            os.close(self._pixels)
            self._pixels = -1


def _write(pixels: int, data: bytes) -> None:
    os.ftruncate(pixels, 0)
    view = memoryview(data)
    while view:
        view = view[os.pwrite(pixels, view, len(data) - len(view)) :]
