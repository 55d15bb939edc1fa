"""Blocks, lines and words with boxes in pixels: what ALTO and hOCR have in common. And text that XML may hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from inkstick.document import Block, Box, Page
from inkstick.results.glyphless import natural_width
from inkstick.results.placement import Placed, place_blocks

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Word:
    """`score` is the line's, 0 to 1: engines judge lines."""

    text: str
    box: Box
    score: float | None


@dataclass(frozen=True, slots=True)
class TextLine:
    box: Box
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Area:
    """A block on the page. `lines` may be estimated where the engine gave only the block (see `placement`)."""

    block: Block
    box: Box
    lines: tuple[TextLine, ...]


def areas(page: Page) -> list[Area]:
    """The page's blocks with text in reading order, in pixels of the page as read."""
    out = []
    for block, placed in place_blocks(page):
        scores = {line.box: line.score for line in block.lines}
        lines = tuple(_line(line, scores.get(_ints(line.box), block.score), page) for line in placed)
        if lines:
            box = pixels(block.box, page) if block.box else union([line.box for line in lines])
            out.append(Area(block, box, lines))
    return out


def pixels(box: Sequence[float], page: Page) -> Box:
    """A box in thousandths as pixels, at least one wide and high, inside the page."""
    x0, y0 = (int(min(max(v, 0), 1000) * side / 1000) for v, side in ((box[0], page.width), (box[1], page.height)))
    x1, y1 = (round(min(max(v, 0), 1000) * side / 1000) for v, side in ((box[2], page.width), (box[3], page.height)))
    return (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))


def union(boxes: Sequence[Box]) -> Box:
    return (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))


def xml_text(text: str) -> str:
    """Escaped for element content, without characters that XML cannot hold."""
    return escape(_NOT_XML.sub("", text))


def xml_attribute(text: str) -> str:
    """Escaped and quoted."""
    return quoteattr(_NOT_XML.sub("", text))


def plain(text: str) -> str:
    """Without characters that XML cannot hold."""
    return _NOT_XML.sub("", text)


def _ints(box: Sequence[float]) -> Box:
    return (int(box[0]), int(box[1]), int(box[2]), int(box[3]))


def _line(line: Placed, score: float | None, page: Page) -> TextLine:
    """Words share the line's length by the width of their characters."""
    box = pixels(line.box, page)
    start, end = (box[1], box[3]) if line.down else (box[0], box[2])
    scale = (end - start) / (natural_width(line.text) or 1.0)
    words = []
    at = 0.0
    for text in line.text.split(" "):
        width = natural_width(text)
        a, b = start + round(at * scale), start + round((at + width) * scale)
        b = max(b, a + 1)
        words.append(Word(text, (box[0], a, box[2], b) if line.down else (a, box[1], b, box[3]), score))
        at += width + natural_width(" ")
    return TextLine(box, tuple(words))
