"""The pages that the tiny checkpoint knows by heart: sample pages with a large number, and the canary's own pages.

python tests/engine/pages.py FOLDER     writes each as PNG, and texts.json: {file name: text}
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from inkstick.engines import canary


@dataclass(frozen=True)
class Sample:
    """A page: its file name, what is printed on it (and what the model answers), and its size in pixels."""

    name: str
    text: str
    size: tuple[int, int]


SAMPLES = (
    Sample("invoice.png", "INVOICE 1001\nPaper 12.50\nInk 29.50\nTotal 42.00", (640, 448)),
    Sample("passport.png", "PASSPORT 2002\nZHANG SAN\nBorn 1970\nValid 2031", (512, 512)),
    Sample("contract.png", "CONTRACT 3003\nParty A: Li\nParty B: Wu\nSigned 5 May", (448, 640)),
    Sample("receipt.png", "RECEIPT 4004\nCoffee 3.50\nTea 2.00\nPaid 5.50", (576, 384)),
    Sample("fieldnotes.png", "NOTES 5005\nDam, north side\ncrack 3 mm\nsee again May", (448, 576)),
)


def draw(sample: Sample) -> Image.Image:
    """Print at the top, and a mark of the page's own below: its first digit, large."""
    width, height = sample.size
    page = Image.new("RGB", sample.size, "white")
    pen = ImageDraw.Draw(page)
    pen.multiline_text((width // 14, height // 16), sample.text, fill="black", font=_font(height // 14), spacing=10)
    digit = next(c for c in sample.text if c.isdigit())
    pen.text((width // 14 * (1 + int(digit)), height // 2), digit * 3, fill="black", font=_font(height // 3))
    return page


def poster() -> Image.Image:
    """A coloured page that no model knows, for the layout stage: a heading over two columns."""
    page = Image.new("RGB", (700, 1000), (250, 244, 230))
    pen = ImageDraw.Draw(page)
    pen.rectangle((40, 30, 660, 120), fill=(190, 30, 40))
    pen.text((60, 40), "FLOOD 1998", fill="white", font=_font(60))
    pen.rectangle((380, 150, 660, 420), fill=(30, 90, 200))
    for line in range(30):
        pen.rectangle((40, 160 + 26 * line, 340 - 9 * (line % 4), 172 + 26 * line), fill=(20, 20, 60))
    pen.multiline_text((380, 450), "River\nDam\nBridge\nRoad", fill=(0, 90, 40), font=_font(80), spacing=24)
    return page


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    texts = {}
    for sample in SAMPLES:
        draw(sample).save(folder / sample.name)
        texts[sample.name] = sample.text
    for number, page in enumerate(canary.pages(canary.DISTINCT)):
        name = f"canary-{number}.png"
        Image.frombytes("RGB", (page.pixels.width, page.pixels.height), page.pixels.data).save(folder / name)
        texts[name] = page.text
    (folder / "texts.json").write_text(json.dumps(texts, indent=1), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
