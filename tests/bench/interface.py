"""How quick the page stays while many use it: p95 of its answers under load, over the same on the idle service.

The real office with its ledger, parsers and formats runs in a process of its own on two cores; an instant engine reads,
so that the interface is measured and not the OCR. It holds `--documents` documents. One visitor asks for screens and
lists, again and again: first alone, then beside 50 event listeners, 20 searchers and 10 uploaders (they are one process
more, so that the visitor's clock does not wait for them; all of it shares the cores of this machine).

    python -m bench.interface [--documents 200] [--seconds 20]        goal: p95 under load <= 300 ms
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from bench.efficiency import machine
from inkstick.config import Settings
from inkstick.document import Block, Kind
from inkstick.engines.protocol import Reading, Request
from inkstick.office import Office
from inkstick.pages.view import Pixels
from inkstick.reading.reader import Engines
from inkstick.web.server import serve
from support import numbered
from support.hostile_reader import HostileReader

LISTENERS, SEARCHERS, UPLOADERS = 50, 20, 10
VISITED = ("/", "/documents", "/api/v1/documents?limit=50", "/api/v1/status", "/api/v1/search?q=paragraph")
CORES = 2


class InstantReader(HostileReader):
    """Reads every page at once, as some ordinary paragraphs."""

    async def read(self, image: Pixels, request: Request) -> Reading:
        text = f"An ordinary paragraph of {image.width} by {image.height} points. " * 8
        return Reading(tuple(Block(n, Kind.PARAGRAPH, text) for n in range(1, 9)), self.model)


def run_server(data: Path) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    office = Office(Settings(data=data, port=0, parsers=2, reserve_bytes=0), engines=Engines(InstantReader()))
    asyncio.run(serve(office, lambda address: print(address, flush=True)))


@asynccontextmanager
async def served(data: Path) -> AsyncIterator[httpx.AsyncClient]:
    command = [sys.executable, "-m", "bench.interface", "--serve", str(data)]
    process = await asyncio.to_thread(lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    try:
        assert process.stdout is not None
        address = await asyncio.to_thread(process.stdout.readline)
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address.strip().rstrip("/"), timeout=120, limits=limits) as client:
            yield client
    finally:
        process.terminate()
        process.wait(30)


async def upload(client: httpx.AsyncClient, number: int) -> None:
    answer = await client.put(f"/api/v1/documents/scan-{number}.png", content=numbered.png(number % 1000))
    answer.raise_for_status()


async def filled(client: httpx.AsyncClient, documents: int) -> None:
    for number in range(documents):
        await upload(client, number)
    while True:
        if (await client.get("/api/v1/status")).json()["documents"].get("done", 0) >= documents:
            return
        await asyncio.sleep(0.5)


async def visits(client: httpx.AsyncClient, seconds: float) -> list[float]:
    """Seconds of each answer to one visitor who asks without a pause."""
    taken: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for address in VISITED:
            started = time.monotonic()
            (await client.get(address)).raise_for_status()
            taken.append(time.monotonic() - started)
    return taken


async def listener(client: httpx.AsyncClient, number: int) -> None:
    async with client.stream("GET", "/api/v1/events", headers={"Last-Event-ID": "0"}) as stream:
        async for _ in stream.aiter_lines():
            pass


async def searcher(client: httpx.AsyncClient, number: int) -> None:
    while True:
        await client.get("/api/v1/search", params={"q": f"points {number}"})
        await asyncio.sleep(1.0)


async def uploader(client: httpx.AsyncClient, number: int) -> None:
    for turn in range(10**6):
        await upload(client, 10_000 + 1000 * number + turn)
        await asyncio.sleep(1.0)


async def crowd(address: str) -> None:
    """Listeners, searchers (each once a second) and uploaders (each once a second), until killed."""
    parts: list[tuple[Callable[[httpx.AsyncClient, int], Coroutine[None, None, None]], int]] = [
        (listener, LISTENERS), (searcher, SEARCHERS), (uploader, UPLOADERS),
    ]  # fmt: skip
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client, asyncio.TaskGroup() as group:
        for act, many in parts:
            for number in range(many):
                group.create_task(act(client, number))


@contextmanager
def crowded(address: str) -> Iterator[None]:
    """Beside the crowd. Raises when one of it was turned away."""
    process = subprocess.Popen([sys.executable, "-m", "bench.interface", "--crowd", address])
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError("a visitor was turned away")
    finally:
        process.kill()
        process.wait()


def p95(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=20)[-1]


async def measure(documents: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with served(Path(folder)) as client:
            await filled(client, documents)
            idle = await visits(client, seconds)
            with crowded(str(client.base_url)):
                await asyncio.sleep(2)
                busy = await visits(client, seconds)
    print(machine())
    print(f"{documents} documents; {LISTENERS} listeners, {SEARCHERS} searchers, {UPLOADERS} uploaders; {CORES} cores")
    for name, taken in (("idle", idle), ("busy", busy)):
        print(f"{name}: p95 {p95(taken) * 1000:.0f} ms of {len(taken)} answers")
    print(f"ratio {p95(busy) / p95(idle):.1f}; load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--crowd", metavar="ADDRESS")
    chosen = parser.parse_args()
    if chosen.serve is not None:
        run_server(chosen.serve)
    elif chosen.crowd is not None:
        asyncio.run(crowd(chosen.crowd))
    else:
        asyncio.run(measure(chosen.documents, chosen.seconds))
