"""How long a person waits for one page while a 3,000-page batch runs, over the same on an idle engine.

Real PagePool, Reader and OpenAiEngine; the fake engine in its own process (64 slots). The same one-page uploads are
timed on the idle engine, and again while the batch keeps all places taken.

    python -m bench.first_page [--uploads 6]        goal: ratio <= 2
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import pymupdf

from bench.efficiency import BUDGET, IN_FLIGHT, PDF, engine_arguments, fake_server, machine, make_documents
from inkstick.document import Page
from inkstick.engines.openai import OpenAiEngine
from inkstick.pages.pool import PagePool
from inkstick.pages.view import TextLayerMode
from inkstick.profile import Priority, Profile
from inkstick.reading.reader import Engines, Job, PartFile, Reader

BATCH = 3000


def make_batch(folder: Path) -> Path:
    """A PDF of `BATCH` pages: 30 different ones, again and again (the pages are read one by one all the same)."""
    (source,) = make_documents(folder, (30,))
    batch = pymupdf.open()
    with pymupdf.open(source) as few:
        for _ in range(BATCH // len(few)):
            batch.insert_pdf(few)
    path = folder / "batch.pdf"
    batch.save(path)
    return path


async def upload(reader: Reader, path: Path, order: int) -> float:
    """Seconds from handing in a one-page document to its page."""
    arrived = asyncio.Event()

    async def on_page(page: Page) -> None:
        assert page.error is None
        arrived.set()

    profile = Profile(text_layer=TextLayerMode.SKIP, priority=Priority.PERSON)
    started = time.monotonic()
    ticket = reader.submit(Job(path.name, (PartFile(None, path, PDF),), profile, order, on_page))
    await arrived.wait()
    seconds = time.monotonic() - started
    await ticket
    return seconds


async def settled(reader: Reader) -> None:
    """The batch has filled every place for a while."""
    full = 0
    while full < 20:
        full = full + 1 if reader.stats().in_flight >= IN_FLIGHT * 0.9 else 0
        await asyncio.sleep(0.2)


async def measure(uploads: int, *arguments: str) -> tuple[list[float], list[float]]:
    async def ignore(page: Page) -> None:
        pass

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batch = await asyncio.to_thread(make_batch, folder)
        singles = (await asyncio.to_thread(make_documents, folder, (1,) * (uploads + 1)))[1:]
        pool = PagePool(processes=2, page_seconds=60)
        await pool.start()
        async with fake_server(*arguments) as url:
            reader = Reader(pool=pool, engines=Engines(OpenAiEngine(url, in_flight=IN_FLIGHT)), budget=BUDGET)
            await reader.start()
            idle = [await upload(reader, path, n) for n, path in enumerate(singles)]
            profile = Profile(text_layer=TextLayerMode.SKIP, priority=Priority.BULK)
            ticket = reader.submit(Job("batch", (PartFile(None, batch, PDF),), profile, 100, ignore))
            busy = []
            for n, path in enumerate(singles):
                await asyncio.wait_for(settled(reader), 120)
                busy.append(await upload(reader, path, 200 + n))
                print(f"upload {n + 1}: idle {idle[n]:.2f} s, during the batch {busy[n]:.2f} s", flush=True)
            ticket.cancel()
            await reader.close()
        await pool.close()
    return idle, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=6)
    parser.add_argument("--interval", type=int, default=16)
    parser.add_argument("--speed", type=float, default=1.0)
    chosen = parser.parse_args()
    print(f"machine: {machine()}")
    idle, busy = asyncio.run(measure(chosen.uploads, *engine_arguments(chosen)))
    a, b = statistics.median(busy), statistics.median(idle)
    print(f"median during a {BATCH}-page batch {a:.2f} s / idle {b:.2f} s = {a / b:.2f}   (goal <= 2)")


if __name__ == "__main__":
    main()
