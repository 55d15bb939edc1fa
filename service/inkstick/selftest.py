"""The self-test: pages of known print, read as a person's page would be, and compared with what is on them."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import cv2
import numpy as np
from rapidfuzz import fuzz

from inkstick.document import Page, Task
from inkstick.engines.canary import CanaryPage, pages
from inkstick.engines.protocol import Request
from inkstick.errors import InkstickError

PAGES = 3
ALIKE = 90.0
"""Per cent of letters that must be right; digits must all be."""

Read = Callable[[bytes, Request], Awaitable[Page]]


@dataclass(frozen=True, slots=True)
class Tried:
    """One page: `expected` and `read` are our own print, no document's."""

    expected: str
    read: str
    engine: str
    seconds: float
    good: bool


@dataclass(frozen=True, slots=True)
class SelfTest:
    """`problem`: why no verdict could be had; then nothing is good."""

    engine: str
    tried: tuple[Tried, ...] = ()
    problem: str = ""

    @property
    def good(self) -> bool:
        return not self.problem and bool(self.tried) and all(page.good for page in self.tried)


async def test(read: Read, engine: str) -> SelfTest:
    """Read `PAGES` pages, which must be read right and by `engine`."""
    tried: list[Tried] = []
    for page in pages(PAGES):
        started = time.monotonic()
        try:
            found = await read(_png(page), Request(task=Task.TEXT))
        except InkstickError as error:
            return SelfTest(engine, tuple(tried), error.message)
        good = found.engine == engine and same(page.text, found.text())
        tried.append(Tried(page.text, found.text(), found.engine or "", time.monotonic() - started, good))
    return SelfTest(engine, tuple(tried))


def same(expected: str, read: str) -> bool:
    """Are all digits right, and nearly all letters?"""
    digits = [re.sub(r"\D", "", text) for text in (expected, read)]
    letters = ["".join(text.split()) for text in (expected, read)]
    return digits[0] == digits[1] and fuzz.ratio(*letters) >= ALIKE


def _png(page: CanaryPage) -> bytes:
    width, height = page.pixels.width, page.pixels.height
    done, data = cv2.imencode(".png", np.frombuffer(page.pixels.data, np.uint8).reshape(height, width, 3))
    assert done
    return bytes(data)
