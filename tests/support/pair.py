"""A printed ledger of many pages, and two readers of it: one that writes a wrong digit on some pages, and one that sees
what is printed, line by line, with places. Both tell pages by the strip that `page_code` stamps."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inkstick.document import Block, Kind, Line, Task
from inkstick.engines.protocol import Health, Load, Reading, Request
from inkstick.pages.view import Pixels
from support import page_code
from support.pages import font

WIDTH, HEIGHT = 1000, 1414
TOP, STEP, SIZE, LEFT = 150, 60, 30, 100
WORDS = ("Harbour office, northern district", "Goods received and weighed in the presence of the clerk")


@functools.cache
def face() -> ImageFont.FreeTypeFont:
    return font("helv", SIZE)


def lines(number: int, amount: str | None = None) -> list[str]:
    """What stands on page `number`, from the top."""
    return [
        f"Ledger of the harbour, sheet {number}",
        *WORDS,
        f"Paid to the carrier on this day {amount or printed(number)} in full",
        "Entered by the clerk and found correct at the evening count",
    ]


def printed(number: int) -> str:
    """The amount that is printed on page `number`."""
    return f"{10 + number},{(317 * number) % 900 + 100}.50"


def misread(number: int) -> str:
    """The same with one digit wrong."""
    amount = printed(number)
    return amount[:-4] + str((int(amount[-4]) + 3) % 10) + amount[-3:]


def pdf(pages: int) -> bytes:
    """A scan: images only."""
    first, *rest = [_page(number) for number in range(1, pages + 1)]
    out = io.BytesIO()
    first.save(out, "PDF", save_all=True, append_images=rest, resolution=120)
    return out.getvalue()


def _page(number: int) -> Image.Image:
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    for n, text in enumerate(lines(number)):
        draw.text((LEFT, TOP + STEP * n), text, "black", face())
    array = np.array(image)
    page_code.stamp(array, number)
    return Image.fromarray(array)


def _number(image: Pixels) -> int:
    page = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)[:, :, 0]
    found = page_code.look(np.ascontiguousarray(page))
    assert found is not None
    return found


class _Engine:
    tasks = frozenset({Task.PARSE, Task.TEXT})
    limit = 4
    model = "stand-in"

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def health(self) -> Health:
        return Health(True, "ready")

    async def load(self) -> Load | None:
        return None

    async def has_text(self, image: Pixels) -> bool:
        return any(byte < 128 for byte in image.data[::97])


class First(_Engine):
    """Writes good text without places; `wrong` says what it writes instead of the amount, by page."""

    name, remote = "vllm", True

    def __init__(self, wrong: Mapping[int, str]) -> None:
        self.wrong = wrong

    async def read(self, image: Pixels, request: Request) -> Reading:
        number = _number(image)
        title, *rest = lines(number, self.wrong.get(number))
        blocks = [Block(1, Kind.TITLE, title)]
        blocks += [Block(n, Kind.PARAGRAPH, text) for n, text in enumerate(rest, 2)]
        return Reading(tuple(blocks), self.model, raw="\n\n".join([title, *rest]))


class Second(_Engine):
    """Sees what is printed."""

    name, remote = "rapidocr", False

    async def read(self, image: Pixels, request: Request) -> Reading:
        found = []
        for n, text in enumerate(lines(_number(image))):
            y0, y1 = (1000 * (TOP + STEP * n + d) // HEIGHT for d in (0, SIZE + 8))
            x1 = 1000 * LEFT // WIDTH + int(1000 * face().getlength(text) / WIDTH)
            found.append(Line(text, (1000 * LEFT // WIDTH, y0, min(x1, 1000), y1), 0.99))
        text = "\n".join(line.text for line in found)
        return Reading((Block(1, Kind.PARAGRAPH, text, (90, 90, 910, 400), 0.99, tuple(found)),), self.model)
