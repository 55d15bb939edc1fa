"""A page is called blank only when nothing but paper, dust and scanner marks is on it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from inkstick.pages.ink import ink
from inkstick.pages.view import Ink

SIZE = (1550, 2190)
"""A4 at the default budget."""


def paper(colour: int = 255) -> Image.Image:
    return Image.new("L", SIZE, colour)


def noisy(image: Image.Image, sigma: float) -> Image.Image:
    random = np.random.default_rng(1)
    values = np.asarray(image, np.float32) + random.normal(0, sigma, (SIZE[1], SIZE[0])).astype(np.float32)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def texture() -> Image.Image:
    """Old paper: yellowed unevenly, with fibres of low contrast."""
    random = np.random.default_rng(2)
    small = Image.fromarray(random.integers(215, 240, (22, 16)).astype(np.uint8))
    return noisy(small.resize(SIZE, Image.Resampling.BICUBIC), 3)


def written(image: Image.Image, text: str, at: tuple[int, int], size: int, fill: int = 0) -> Image.Image:
    ImageDraw.Draw(image).text(at, text, fill=fill, font_size=size)
    return image


def answer(image: Image.Image) -> Ink:
    rgb: NDArray[np.uint8] = np.asarray(image.convert("RGB"), np.uint8)
    return ink(rgb)


def edges() -> Image.Image:
    image = noisy(paper(250), 2)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 14, SIZE[1]), fill=40)
    draw.rectangle((0, SIZE[1] - 10, SIZE[0], SIZE[1]), fill=90)
    return image.filter(ImageFilter.GaussianBlur(2))


def holes() -> Image.Image:
    image = paper(252)
    draw = ImageDraw.Draw(image)
    for y in (800, 1390):
        draw.ellipse((70, y, 115, y + 45), fill=30)
    return image


def dust() -> Image.Image:
    image, random = paper(253), np.random.default_rng(3)
    draw = ImageDraw.Draw(image)
    for _ in range(15):
        x, y = int(random.integers(0, SIZE[0])), int(random.integers(0, SIZE[1]))
        draw.ellipse((x, y, x + 3, y + 3), fill=80)
    return image


@pytest.mark.parametrize(
    "page", [paper(), paper(0), paper(230), noisy(paper(245), 4), edges(), holes(), dust()],
    ids=["white", "black", "grey", "noise", "edges", "holes", "dust"],
)  # fmt: skip
def test_paper_with_nothing_on_it_is_blank(page: Image.Image) -> None:
    assert answer(page) is Ink.BLANK


def test_paper_texture_is_not_called_printed() -> None:
    assert answer(texture()) is not Ink.PRINTED


@pytest.mark.parametrize(
    "page",
    [
        written(paper(), "One small line of text, and nothing else.", (200, 1000), 26),
        written(paper(), "Seite absichtlich leer", (560, 1080), 30),
        written(noisy(paper(245), 4), "One small line of text on noisy paper", (200, 1000), 28, 40),
        written(texture(), "A line of text on old paper", (200, 1000), 30, 60),
        written(paper(20), "White on black, a whole line of it", (200, 1000), 30, 240),
    ],
    ids=["line", "centred", "noisy", "texture", "inverse"],
)
def test_a_single_line_of_text_is_printed(page: Image.Image) -> None:
    assert answer(page) is Ink.PRINTED


def stamp(contrast: int, sigma: float) -> Image.Image:
    image = paper(245)
    draw = ImageDraw.Draw(image)
    draw.ellipse((900, 300, 1250, 520), outline=245 - contrast, width=8)
    draw.text((960, 380), "RECEIVED", fill=245 - contrast, font_size=48)
    return noisy(image, sigma)


@pytest.mark.parametrize(
    "page",
    [
        written(paper(), "7", (770, 2090), 26),
        written(paper(), "word", (700, 900), 26),
        written(noisy(paper(248), 3), "12", (760, 2080), 26, 60),
        stamp(18, 0),
        stamp(18, 3),
        stamp(10, 1),
    ],
    ids=["page number", "one word", "noisy page number", "pale stamp", "pale stamp in noise", "very pale stamp"],
)
def test_little_or_pale_ink_is_never_blank(page: Image.Image) -> None:
    assert answer(page) is not Ink.BLANK


def test_a_line_on_a_very_long_strip_is_found() -> None:
    strip = Image.new("L", (300, 20_000), 255)
    ImageDraw.Draw(strip).text((20, 9_000), "total 12.00", fill=0, font_size=26)
    assert answer(strip) is not Ink.BLANK
