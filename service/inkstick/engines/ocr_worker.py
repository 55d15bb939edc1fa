"""One reading process of the CPU engine: ``python -m inkstick.engines.ocr_worker PIXELS_FD THREADS``.

Requests come as lines of JSON on standard input, ``{"width", "height", "task"}``; the page's pixels lie in the memory
file PIXELS_FD (RGB, 8 bits, row-major). Each is answered by one line of JSON on standard output: ``{"page": …}`` in the
shape of `document.page_json`, or ``{"error": "…"}``. The first line, ``{"ready": true}``, says that the models are
loaded. When standard input ends, because the parent closed it or died, the process ends at once, whatever it is doing.
"""

from __future__ import annotations

import json
import mmap
import os
import queue
import sys
import threading
from typing import Any, BinaryIO

import cv2
import numpy as np

from inkstick.document import Block, Flag, Page, Task, page_json
from inkstick.engines.layout import LayoutModel, Region
from inkstick.engines.ocr_lines import Image, LineReader, ReaderOptions
from inkstick.engines.structure import Sheet, page_score, parse, spots, tables, text

LAYOUT_LINES = 2000
"""The layout model's time grows with the square of the lines: 2 s for 500, 8 s for 1,500."""


class PageReader:
    """Both models. `read` turns an image into blocks."""

    def __init__(self, threads: int) -> None:
        self._layout = LayoutModel(threads)
        self._lines = LineReader(ReaderOptions(threads=threads))

    def read(self, image: Image, task: Task) -> Page:
        """Read an image, ``(height, width, 3)`` BGR. The page's number and engine are the caller's to fill in."""
        height, width = image.shape[:2]
        lines = self._lines.read(image)
        sheet = Sheet(width, height, lines)
        blocks = self._blocks(image, sheet, task)
        broken = task is Task.TABLE and bool(lines) and not any(block.text.count("<td") > 1 for block in blocks)
        flags = (Flag.TABLE_BROKEN,) if broken else ()
        return Page(1, width, height, "rapidocr", score=page_score(lines), blocks=tuple(blocks), flags=flags)

    def _blocks(self, image: Image, sheet: Sheet, task: Task) -> list[Block]:
        if task is Task.SPOTTING:
            return spots(sheet)
        return {Task.TEXT: text, Task.TABLE: tables}.get(task, parse)(sheet, self._regions(image, sheet))

    def _regions(self, image: Image, sheet: Sheet) -> list[Region]:
        """Lines that were read are worth more than their layout: if the model fails, each is a paragraph."""
        try:
            return self._layout.regions(image, sheet.lines) if 0 < len(sheet.lines) <= LAYOUT_LINES else []
        except Exception as error:
            sys.stderr.write(f"layout of a page failed, its lines are kept: {type(error).__name__}: {error}\n")
            return []


def main() -> None:
    """Serve until standard input ends."""
    pixels, threads = int(sys.argv[1]), int(sys.argv[2])
    answers = _own_stdout()
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    cv2.setNumThreads(threads)
    reader = PageReader(threads)
    _say(answers, {"ready": True})
    while True:
        _say(answers, _answer(reader, pixels, requests.get()))


def _own_stdout() -> BinaryIO:
    """Keep the pipe to the parent for answers alone: whatever a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _listen(stream: BinaryIO, requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in stream:
        requests.put(json.loads(line))
    os._exit(0)


def _say(answers: BinaryIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")
    answers.flush()


def _answer(reader: PageReader, pixels: int, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"page": page_json(reader.read(_image(pixels, request), Task(request["task"])))}
    except Exception as error:  # a fault in reading one page must be told, not end the process
        return {"error": f"{type(error).__name__}: {error}"}


def _image(pixels: int, request: dict[str, Any]) -> Image:
    width, height = int(request["width"]), int(request["height"])
    with mmap.mmap(pixels, width * height * 3, access=mmap.ACCESS_READ) as memory:
        shared = np.frombuffer(memory, np.uint8).reshape(height, width, 3)
        image = cv2.cvtColor(shared, cv2.COLOR_RGB2BGR)
        del shared
        return np.asarray(image, np.uint8)


if __name__ == "__main__":
    main()
