"""What is on a machine's screen, in words: read by the CPU engine, on this computer."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from PIL import Image

from inkstick.engines.protocol import Request
from inkstick.engines.rapidocr import RapidOcrEngine
from inkstick.pages.view import Pixels
from vm.machine import Machine

LARGER = 2
"""The letters of a text console are eight dots wide: drawn twice as large they are read better."""


def words(shown: Image.Image) -> str:
    """All that stands there, without spaces: between letters of one width the engine sees too many or too few."""
    array = np.asarray(shown.convert("RGB").resize((shown.width * LARGER, shown.height * LARGER)))
    return asyncio.run(_read(Pixels(array.shape[1], array.shape[0], array.tobytes()))).replace(" ", "")


async def _read(pixels: Pixels) -> str:
    engine = RapidOcrEngine(1)
    try:
        await engine.start()
        return "\n".join(block.text for block in (await engine.read(pixels, Request())).blocks)
    finally:
        await engine.close()


def shows(machine: Machine, wanted: str, seconds: float) -> str:
    """All words on the screen, once these are among them. Fails with what is there instead."""
    end = time.monotonic() + seconds
    while True:
        found = words(machine.picture())
        if wanted.replace(" ", "") in found:
            return found
        assert time.monotonic() < end, found
        time.sleep(5)
