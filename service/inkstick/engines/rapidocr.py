"""The CPU engine: PP-OCRv6-small and PyMuPDF's layout model, in processes of its own, one page at a time each.

Pixels go to a process through a memory file that it shares with us, so that a page is copied once. A process that
dies or runs past the deadline is killed and replaced; a page that kills two processes in a row is at fault itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from inkstick.document import Task, page_from_json
from inkstick.engines.protocol import Health, Load, Reading, Request
from inkstick.errors import EngineDown, PageFailed, Timeout, Unsupported
from inkstick.pages.view import Pixels

START_SECONDS = 600.0  # an old laptop, a slow stick: against a hang only
ANSWER_BYTES = 64 << 20
RECYCLE_PAGES = 500
"""A process is replaced after so many pages: MuPDF and the networks never give all their memory back."""


class WorkerDied(Exception):
    """The process ended before it answered."""


class RapidOcrEngine:
    """Reads pages on the CPU. `workers`: processes, 0 for one per core; the cores are shared out among them."""

    name = "rapidocr"
    tasks = frozenset({Task.PARSE, Task.TEXT, Task.SPOTTING, Task.TABLE})
    takes_prompts = False
    remote = False

    def __init__(self, workers: int = 0, *, deadline_seconds: float = 300.0) -> None:
        cores = len(os.sched_getaffinity(0))
        count = min(workers or cores, cores) if workers >= 0 else 1
        self.deadline_seconds = deadline_seconds
        self._model = ""
        self._workers = [Worker(max(1, cores // count)) for _ in range(count)]
        self._free: asyncio.LifoQueue[Worker] = asyncio.LifoQueue()
        self._started = False
        self._trouble = ""

    @property
    def model(self) -> str:
        if not self._model:
            from inkstick.engines.ocr_lines import model_name

            self._model = model_name()
        return self._model

    @property
    def limit(self) -> int:
        return len(self._workers)

    async def start(self) -> None:
        """Load the models in every process. Raises EngineDown if that fails."""
        if self._started:
            return
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(worker.start())
        except ExceptionGroup as errors:
            await self.close()
            raise EngineDown(f"The CPU engine does not start: {errors.exceptions[0]}") from errors
        self._started = True
        for worker in self._workers:
            self._free.put_nowait(worker)

    async def close(self) -> None:
        """End the processes. Pages that are being read, or wait for a process, get EngineDown."""
        self._started = False
        waiting, self._free = self._free, asyncio.LifoQueue()
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        waiting.put_nowait(self._workers[0])  # wakes the first of those who wait; each hands it to the next

    async def health(self) -> Health:
        alive = sum(worker.alive for worker in self._workers)
        if not self._started:
            return Health(False, "stopped")
        facts = {"processes": str(alive), "model": self.model}
        return Health(True, "ready", self._trouble, facts)

    async def load(self) -> Load | None:
        return None

    async def read(self, image: Pixels, request: Request) -> Reading:
        """See `Engine.read`. Raises Timeout past `deadline_seconds`, PageFailed for a page that cannot be read."""
        if request.task not in self.tasks:
            raise Unsupported(f"The CPU engine does not offer the task {request.task.value!r}.")
        if image.width <= 0 or image.height <= 0 or len(image.data) != image.width * image.height * 3:
            raise PageFailed("The page has no usable image.")
        async with self._worker() as worker:
            answer = await self._ask(worker, image, request.task)
        if "error" in answer:
            raise PageFailed(f"The CPU engine could not read the page: {answer['error']}")
        page = page_from_json(answer["page"])
        return Reading(page.blocks, self.model, score=page.score, flags=frozenset(page.flags))

    @contextlib.asynccontextmanager
    async def _worker(self) -> AsyncIterator[Worker]:
        self._check_started()
        free = self._free
        worker = await free.get()
        try:
            self._check_started()
            yield worker
        finally:
            free.put_nowait(worker)

    def _check_started(self) -> None:
        if not self._started:
            raise EngineDown("The CPU engine is not running.")

    async def _ask(self, worker: Worker, image: Pixels, task: Task) -> dict[str, Any]:
        for _ in range(2):
            await self._revived(worker)
            try:
                async with asyncio.timeout(self.deadline_seconds):
                    return await worker.ask(image, task)
            except WorkerDied:
                self._trouble = "A reading process died and was replaced."
            except TimeoutError:
                raise Timeout(f"The page was not read within {self.deadline_seconds:.0f} seconds.") from None
        raise PageFailed("The page made the CPU engine crash twice.")

    async def _revived(self, worker: Worker) -> None:
        self._check_started()
        try:
            await worker.start()
        except (WorkerDied, OSError, TimeoutError) as error:
            raise EngineDown(f"The CPU engine does not start: {error}") from error


class Worker:
    """One process and the memory file that it shares with us. `ask` kills it unless it answered."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._process: asyncio.subprocess.Process | None = None
        self._pixels = -1
        self._pages = 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process, unless it lives, and wait until its models are loaded."""
        if self.alive:
            return
        await self.stop()
        self._pages = 0
        self._pixels = os.memfd_create("page")
        command = [sys.executable, "-m", "inkstick.engines.ocr_worker", str(self._pixels), str(self.threads)]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._pixels,), limit=ANSWER_BYTES, env=environment(self.threads),
        )  # fmt: skip
        async with self._or_killed(), asyncio.timeout(START_SECONDS):
            await self._answer()

    async def ask(self, image: Pixels, task: Task) -> dict[str, Any]:
        """Have a page read. Raises WorkerDied; on any error and on cancellation the process is killed."""
        async with self._or_killed():
            await asyncio.to_thread(_write, self._pixels, image.data)
            request = {"width": image.width, "height": image.height, "task": task.value}
            assert self._process and self._process.stdin
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            answer = await self._answer()
        os.ftruncate(self._pixels, 0)
        self._pages += 1
        if self._pages >= RECYCLE_PAGES:
            await self.stop()
        return answer

    async def _answer(self) -> dict[str, Any]:
        assert self._process and self._process.stdout
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise WorkerDied(f"the process ended with status {await self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @contextlib.asynccontextmanager
    async def _or_killed(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            self._kill()
            raise

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        self._kill()
        if self._process is not None:
            await self._process.wait()
            self._process = None
        if self._pixels >= 0:
            os.close(self._pixels)
            self._pixels = -1


def environment(threads: int) -> dict[str, str]:
    """The variables of a reading process: as ours, no telemetry, and no library starts threads of its own accord."""
    quiet = {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    return {**os.environ, **quiet}


def _write(pixels: int, data: bytes) -> None:
    os.ftruncate(pixels, 0)
    view = memoryview(data)
    while view:
        view = view[os.pwrite(pixels, view, len(data) - len(view)) :]
