"""Orchestrator efficiency: pages/s of the whole pipeline over pages/s of a plain load generator, side by side.

Real PagePool, Reader and OpenAiEngine; the fake engine in its own process (64 slots, timing of
`support.fake_engine`); 145 pages in 15 PDF documents, a third each born digital (text layer not used), 1-bit scans
and grey scans with paper noise; 64 in flight. The load generator sends the very same requests, encoded beforehand.
Both run twice, alternating.

    python -m bench.efficiency [--runs 2] [--interval 16] [--second idle]        goal: ratio >= 0.97
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import cv2
import httpx
import numpy as np
import pymupdf

from inkstick.document import Page
from inkstick.engines.openai import OpenAiEngine, body
from inkstick.engines.rapidocr import RapidOcrEngine
from inkstick.engines.spec import default_spec
from inkstick.pages.pool import PagePool
from inkstick.pages.view import Budget, TextLayerMode
from inkstick.profile import Profile, SecondMode
from inkstick.reading.reader import Engines, Job, PartFile, Reader

PAGES = (3, 24, 1, 12, 7, 1, 30, 5, 9, 16, 2, 11, 4, 13, 7)
IN_FLIGHT = 64
BUDGET = Budget(pixels=1_870_000)
PDF = "application/pdf"
WORDS = (
    "harbour",
    "ledger",
    "northern",
    "district",
    "records",
    "goods",
    "received",
    "sent",
    "weight",
    "price",
    "owner",
)


def make_documents(folder: Path, counts: Sequence[int] = PAGES) -> list[Path]:
    """PDF files, `counts[n]` pages each."""
    paths, number = [], 0
    for n, count in enumerate(counts):
        document = pymupdf.open()
        for _ in range(count):
            number += 1
            _add_page(document, number)
        paths.append(folder / f"document-{n:02d}.pdf")
        document.save(paths[-1])
    return paths


def _add_page(document: pymupdf.Document, number: int) -> None:
    page = document.new_page(width=595, height=842)
    for line in range(48):
        words = " ".join(WORDS[(number * 7 + line * 5 + k) % len(WORDS)] for k in range(11))
        page.insert_text((50, 60 + line * 15.5), f"{number}.{line} {words}", fontsize=10)
    if number % 3 == 0:
        return
    pixmap = page.get_pixmap(dpi=200, colorspace="gray")
    grey = np.frombuffer(pixmap.samples, np.uint8).reshape(pixmap.height, pixmap.width)
    document.delete_page(-1)
    scan = document.new_page(width=595, height=842)
    scan.insert_image(scan.rect, stream=_scanned(grey, number))


def _scanned(grey: np.ndarray[tuple[int, int], np.dtype[np.uint8]], number: int) -> bytes:
    if number % 3 == 1:
        return bytes(cv2.imencode(".png", (grey > 128).astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1])
    noise = np.random.default_rng(number).normal(-12, 9, grey.shape)
    aged = np.clip(grey.astype(np.float32) + noise, 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", aged, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])


@contextlib.asynccontextmanager
async def fake_server(*arguments: str) -> AsyncIterator[str]:
    """The fake engine in a process of its own; its URL."""
    command = [sys.executable, "-m", "support.fake_engine", "--look", "bytes", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        yield (await process.stdout.readline()).decode().split()[1]
    finally:
        process.kill()
        await process.wait()


async def plain_load(url: str, requests: Sequence[bytes], in_flight: int = IN_FLIGHT) -> float:
    """The load generator: pages/s for requests that are ready."""
    left = iter(requests)
    limits = httpx.Limits(max_connections=in_flight)
    headers = {"content-type": "application/json"}

    async def one_after_another(client: httpx.AsyncClient) -> None:
        for content in left:
            async with client.stream("POST", "/v1/chat/completions", content=content, headers=headers) as response:
                async for _ in response.aiter_raw():
                    pass

    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=300) as client:
        started = time.monotonic()
        await asyncio.gather(*(one_after_another(client) for _ in range(in_flight)))
        return len(requests) / (time.monotonic() - started)


async def pipeline(url: str, pool: PagePool, paths: Sequence[Path], second: SecondMode) -> float:
    """Pages/s from files to checked pages; unless `second` is off, with the CPU engine as second reader."""
    engine = OpenAiEngine(url, in_flight=IN_FLIGHT)
    cpu = RapidOcrEngine(0) if second is not SecondMode.OFF else None
    reader = Reader(pool=pool, engines=Engines(engine, cpu), budget=BUDGET)
    await reader.start()
    pages: list[Page] = []

    async def on_page(page: Page) -> None:
        pages.append(page)

    started = time.monotonic()
    profile = Profile(text_layer=TextLayerMode.SKIP, second_reader=second)
    jobs = [Job(p.name, (PartFile(None, p, PDF),), profile, n, on_page) for n, p in enumerate(paths)]
    summaries = await asyncio.gather(*(_finished(reader, job) for job in jobs))
    seconds = time.monotonic() - started
    await reader.close()
    assert sum(summaries) == len(pages) == sum(PAGES), "a page was lost"
    bad = [page for page in pages if page.error or page.attempts > 1]
    assert not bad, f"{len(bad)} pages were not read at once: {bad[0]}"
    if cpu:
        print(f"second opinions: {sum(page.second is not None for page in pages)} of {len(pages)} pages", flush=True)
    return len(pages) / seconds


async def _finished(reader: Reader, job: Job) -> int:
    return (await reader.submit(job)).read


async def requests_of(pool: PagePool, paths: Sequence[Path]) -> list[bytes]:
    """What the pipeline will send, made beforehand."""
    engine, requests = OpenAiEngine("http://nowhere"), []
    prompt, sampling = default_spec().prompts[Profile().task], default_spec().sampling
    for path in paths:
        document = await pool.open(path, PDF)
        for number in range(1, document.probe.pages + 1):
            view = await document.page(number, budget=BUDGET, mode=TextLayerMode.SKIP)
            shot = await engine.encode(view.pixels)
            requests.append(body(default_spec(), shot.url, prompt, sampling))
        await document.close()
    await engine.close()
    return requests


async def measure(runs: int, processes: int, second: SecondMode, *arguments: str) -> tuple[list[float], list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        paths = await asyncio.to_thread(make_documents, Path(folder))
        pool = PagePool(processes=processes, page_seconds=60)
        await pool.start()
        ours, plain = [], []
        try:
            started = time.monotonic()
            requests = await requests_of(pool, paths)
            feeding = len(requests) / (time.monotonic() - started)
            print(f"feeding alone, page after page: {feeding:.1f} pages/s", flush=True)
            for _ in range(runs):
                async with fake_server(*arguments) as url:
                    plain.append(await plain_load(url, requests))
                async with fake_server(*arguments) as url:
                    ours.append(await pipeline(url, pool, paths, second))
                print(f"load generator {plain[-1]:.3f}, pipeline {ours[-1]:.3f} pages/s", flush=True)
        finally:
            await pool.close()
    return ours, plain


def engine_arguments(chosen: argparse.Namespace) -> tuple[str, ...]:
    return "--interval", str(chosen.interval), "--speed", str(chosen.speed)


def machine() -> str:
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return f"{cores} cores, {platform.machine()}, {platform.system()} {platform.release()}, load {load:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument(
        "--interval", type=int, default=16, help="tokens in one event of the stream (vLLM: --stream-interval)"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--speed", type=float, default=1.0, help="of the engine: 1 reaches 4.5 pages/s, an RTX 4090 1 to 3"
    )
    parser.add_argument("--second", type=SecondMode, default=SecondMode.OFF, help="second reader: off, idle or on")
    chosen = parser.parse_args()
    print(f"machine: {machine()}")
    ours, plain = asyncio.run(measure(chosen.runs, chosen.processes, chosen.second, *engine_arguments(chosen)))
    a, b = sum(ours) / len(ours), sum(plain) / len(plain)
    print(f"pipeline {a:.3f} pages/s / load generator {b:.3f} pages/s = {a / b:.3f}   (goal >= 0.97)")


if __name__ == "__main__":
    main()
