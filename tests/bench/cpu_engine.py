"""Pages per second and character error rate of the CPU engine beside OCRmyPDF and plain RapidOCR, in one run.

``PYTHONPATH=service:tests python tests/bench/cpu_engine.py [--repeat N]``. All three read the same page images, with
the same cores, one after another. OCRmyPDF (with Tesseract, eng+chi_sim) must be installed; without it, its figures are
left out. RapidOCR is called page after page with its defaults. Loading the models is not counted for either; OCRmyPDF
is a command and is timed whole. The CPU engine does the full task, structure and tables included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inkstick.document import Kind
from inkstick.engines.protocol import Request
from inkstick.engines.rapidocr import RapidOcrEngine
from inkstick.results.tables import plain_text
from support.cer import error_rate, plain
from support.pages import pixels

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
NAMES = ("english-letter.pdf", "chinese-notice.pdf", "stock-list.pdf", "tide-table.jpg", "two-page.tif")

PLAIN_RAPIDOCR = """
import json, sys, time
from rapidocr import RapidOCR
engine = RapidOCR(params={"Global.log_level": "critical"})
files = sys.argv[1:]
engine(files[0])
started = time.perf_counter()
texts = ["\\n".join(engine(name).txts or ()) for name in files]
print(json.dumps([time.perf_counter() - started, texts]))
"""


@dataclass(frozen=True)
class Sheet:
    """A page image, RGB, and what is printed on it."""

    image: np.ndarray[Any, np.dtype[np.uint8]]
    truth: str


@dataclass(frozen=True)
class Result:
    """Wall and processor seconds (the latter with starting and loading), and the text of each page."""

    seconds: float
    texts: Sequence[str]
    cpu: float = 0.0


def processor_seconds() -> float:
    """What all finished child processes have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sheets() -> list[Sheet]:
    import pymupdf

    found = []
    for name in NAMES:
        truths = (SAMPLES / "truth" / f"{Path(name).stem}.txt").read_text(encoding="utf-8").split("\f")
        with pymupdf.open(SAMPLES / name) as document:
            for page, truth in zip(document, truths, strict=True):
                wide = round(page.rect.width * 200 / 72) if name.endswith(".pdf") else 1654
                scale = wide / page.rect.width
                drawn = page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), colorspace="rgb")
                array = np.frombuffer(drawn.samples, np.uint8).reshape(drawn.h, drawn.w, 3)
                found.append(Sheet(array.copy(), truth))
    return found


async def ours(pages: Sequence[Sheet]) -> Result:
    engine = RapidOcrEngine(0)
    await engine.start()
    try:
        images = [pixels(page.image) for page in pages]
        await asyncio.gather(*(engine.read(image, Request()) for image in images[: engine.limit]))
        started = time.perf_counter()
        readings = await asyncio.gather(*(engine.read(image, Request()) for image in images))
        seconds = time.perf_counter() - started
    finally:
        await engine.close()
    texts = [
        "\n".join(plain_text(block.text) if block.kind is Kind.TABLE else block.text for block in reading.blocks)
        for reading in readings
    ]
    return Result(seconds, texts)


def rapidocr(files: Sequence[Path]) -> Result:
    command = [sys.executable, "-c", PLAIN_RAPIDOCR, *map(str, files)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, texts = json.loads(done.stdout.splitlines()[-1])
    return Result(seconds, texts)


def ocrmypdf(files: Sequence[Path], folder: Path, cores: int) -> Result | None:
    if not shutil.which("ocrmypdf"):
        return None
    import pymupdf

    with pymupdf.open() as document:
        for name in files:
            height, width = cv2.imread(str(name)).shape[:2]
            page = document.new_page(width=width * 72 / 200, height=height * 72 / 200)
            page.insert_image(page.rect, filename=str(name))
        document.save(folder / "in.pdf")
    command = ["ocrmypdf", "-q", "-l", "eng+chi_sim", "--jobs", str(cores), "--output-type", "pdf", "--optimize", "0"]
    command += ["--sidecar", str(folder / "out.txt"), str(folder / "in.pdf"), str(folder / "out.pdf")]
    # Without OMP_THREAD_LIMIT=1 every Tesseract starts a thread per core; OCRmyPDF sets it by itself.
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    return Result(seconds, (folder / "out.txt").read_text(encoding="utf-8").split("\f"))


def rate(result: Result, pages: Sequence[Sheet]) -> float:
    """Character error rate over all pages together."""
    sizes = [len(plain(page.truth)) for page in pages]
    errors = [error_rate(text, page.truth) * n for text, page, n in zip(result.texts, pages, sizes, strict=False)]
    return sum(errors) / sum(sizes)


def measured(read: Callable[[], Result | None]) -> Result | None:
    before = processor_seconds()
    result = read()
    return replace(result, cpu=processor_seconds() - before) if result else None


def report(pages: Sequence[Sheet], results: dict[str, Result | None]) -> None:
    mine = results["inkstick"]
    assert mine is not None
    for name, result in results.items():
        if result is None:
            print(f"{name:24} not installed")
            continue
        speed = len(pages) / result.seconds
        ratio = result.seconds / mine.seconds
        print(
            f"{name:22} {result.seconds:6.1f} s  {speed:6.3f} pages/s  CER {100 * rate(result, pages):5.2f} %"
            f"  inkstick / it = {ratio:.2f}   ({result.cpu / len(pages):.1f} processor seconds a page,"
            f" ratio {result.cpu / mine.cpu:.2f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=2, help="how often each of the six pages is read")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    pages = sheets() * options.repeat
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    print(f"{platform.platform()}, {model.split(':')[-1].strip()}, {cores} cores, {len(pages)} pages", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{number:03}.png" for number in range(len(pages))]
        for file, page in zip(files, pages, strict=True):
            cv2.imwrite(str(file), np.ascontiguousarray(page.image[:, :, ::-1]))
        results = {
            "inkstick": measured(lambda: asyncio.run(ours(pages))),
            "rapidocr, defaults": measured(lambda: rapidocr(files)),
            "ocrmypdf, eng+chi_sim": measured(lambda: ocrmypdf(files, folder, cores)),
        }
    report(pages, results)


if __name__ == "__main__":
    main()
