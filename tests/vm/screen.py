"""What is on a machine's screen, in words: read by the CPU engine, on this computer."""

from __future__ import annotations

import asyncio
import re
import time

import numpy as np
from PIL import Image

from inkstick.document import Task
from inkstick.engines.protocol import Request
from inkstick.engines.rapidocr import RapidOcrEngine
from inkstick.pages.view import Pixels
from vm.machine import Machine

LARGER = 2
"""The letters of a text console are eight dots wide: drawn twice as large they are read better."""


def words(shown: Image.Image) -> str:
    """All that stands there, line by line, without spaces and quotation marks: between and beside letters of one width
    the engine sees too many or too few."""
    array = np.asarray(shown.convert("RGB").resize((shown.width * LARGER, shown.height * LARGER)))
    return re.sub(r"""[ "']""", "", asyncio.run(_read(Pixels(array.shape[1], array.shape[0], array.tobytes()))))


async def _read(pixels: Pixels) -> str:
    engine = RapidOcrEngine(1)
    try:
        await engine.start()
        return "\n".join(block.text for block in (await engine.read(pixels, Request(Task.SPOTTING))).blocks)
    finally:
        await engine.close()


def shows(machine: Machine, wanted: str, seconds: float) -> str:
    """All words on the screen, once these are among them. Fails with what is there instead."""
    end, seen, found = time.monotonic() + seconds, None, ""
    while wanted.replace(" ", "") not in found:
        assert time.monotonic() < end, found
        time.sleep(2)
        if (shown := machine.picture()) != seen:  # reading takes the processor that the machine needs
            seen, found = shown, words(shown)
    return found
