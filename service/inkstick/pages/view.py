"""What the sandboxed worker says about a document and its pages: plain values, no parser objects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inkstick.document import Box, Flag


class Ink(StrEnum):
    """Is anything printed on the page? Decided from the image, before any model can invent text for it."""

    BLANK = "blank"
    PRINTED = "printed"
    UNSURE = "unsure"


class TextLayerMode(StrEnum):
    """`auto`: read the image, keep a good text layer as reference; a born-digital page with a good layer is taken as
    it is. `force`: take the text layer wherever there is any. `skip`: never look at it."""

    AUTO = "auto"
    FORCE = "force"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Pixels:
    """An upright page: RGB, 8 bits a channel, row-major, ``len(data) == width * height * 3``."""

    width: int
    height: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Word:
    """A word (or line) of a page's text layer, its box in thousandths of the page as read."""

    text: str
    box: Box


@dataclass(frozen=True, slots=True)
class TextLayer:
    """The page's own text. `good` says that it passed the quality test, `reason` why not.

    `born_digital` says that the page has real (visible) text and no page-covering image."""

    words: tuple[Word, ...]
    good: bool
    born_digital: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an over-large page, rendered at readable resolution. `box` in thousandths of the page as read."""

    pixels: Pixels
    box: Box


@dataclass(frozen=True, slots=True)
class PageView:
    """One page, ready to be read.

    `rotation`: degrees clockwise that were applied to make it upright. `dpi`: effective resolution of `pixels`, None
    when the file states none. `tiles` (reading order, overlapping) where the page is too large to be read as one.
    `flags`: what is known before reading (rotated, tiled, low_dpi, blank; suspect: a part of a picture is missing).
    """

    number: int
    pixels: Pixels
    ink: Ink
    rotation: int = 0
    dpi: float | None = None
    text_layer: TextLayer | None = None
    tiles: tuple[Tile, ...] = ()
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """What opening a document told: media type, number of pages, and warnings (stable words such as ``xfa``)."""

    type: str
    pages: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """How large a page may be rendered. Pixels, not dpi: a page may state any size it likes.

    `pixels`: area of one rendered image. `min_dpi`: below it, a page is tiled. `max_tiles`: beyond it, `too_large`.
    """

    pixels: int = 3_400_000
    min_dpi: float = 110.0
    max_tiles: int = 24
