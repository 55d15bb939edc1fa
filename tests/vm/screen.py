"""What is on a machine's screen: in words, read by the CPU engine on this computer; as a picture; the boot menu."""

from __future__ import annotations

import asyncio
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from inkstick.document import Task
from inkstick.engines.protocol import Request
from inkstick.engines.rapidocr import RapidOcrEngine
from inkstick.pages.view import Pixels
from vm.machine import Machine

PICTURES = "INKSTICK_PICTURES"
"""Names a folder: what the screen shows at the steps of docs/field-guide.md is kept there."""
SETTLED_SECONDS = 20.0
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


def settled(machine: Machine) -> Image.Image:
    """What the screen shows once it has stayed as it is: what a slow machine has to say may come late."""
    seen = None
    while (shown := machine.picture()) != seen:
        seen = shown
        time.sleep(SETTLED_SECONDS)
    return shown


def keep(shown: Image.Image, name: str) -> None:
    """Under its name for the field guide, if somebody asked for its pictures: a small file, with as few colours as the
    screen really has."""
    if folder := os.environ.get(PICTURES):
        file = Path(folder) / f"field-{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        shown.convert("RGB").quantize(16, dither=Image.Dither.NONE).save(file, optimize=True)


def insist(machine: Machine, wanted: str, seconds: float) -> None:
    """Press a key that does nothing, again and again, until these words are on a screen that stays as it is: so menus
    stop counting down, while the words are being read too, which may take longer than their countdown."""
    end, seen, found = time.monotonic() + seconds, None, ""
    with ThreadPoolExecutor(1) as reader:
        while seen is None or wanted.replace(" ", "") not in found or machine.picture() != seen:
            assert time.monotonic() < end, found
            seen = machine.picture()
            reading = reader.submit(words, seen)
            while not reading.done():
                machine.press("home")
            found = reading.result()


def menu(machine: Machine, seconds: float) -> None:
    """Until the boot menu is there and waits for somebody."""
    insist(machine, "Check this stick", seconds)


def choose(machine: Machine, line: int) -> None:
    """The menu's line below so many others."""
    for _ in range(line):
        machine.press("down")
    machine.press("ret")
