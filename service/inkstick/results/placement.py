"""Where the invisible text of a page goes: pure geometry, in thousandths of the page as read.

Lines stand where they were printed. A block without lines is broken into as many lines as fit its box; a block without
a box is spread over the page between its neighbours, in reading order, so that searching still finds its page.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from inkstick.document import Block, Box, Kind, Page
from inkstick.results.glyphless import is_control, natural_width
from inkstick.results.tables import plain_text

Point = tuple[float, float]
_MARGIN = 40
_TYPE = 16  # height of a line of ordinary type, in thousandths of a page


@dataclass(frozen=True, slots=True)
class Placed:
    """A line of text to be set so that it fills `box`. `down` is for text that runs from top to bottom.

    `glued`: the next line stands on the same height, so a blank is needed to keep their words apart."""

    text: str
    box: tuple[float, float, float, float]
    down: bool = False
    glued: bool = False


@dataclass(frozen=True, slots=True)
class Affine:
    """``(u, v) -> (a*u + c*v + e, b*u + d*v + f)``: from fractions of the page as read to points of the PDF page."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def __call__(self, u: float, v: float) -> Point:
        return (self.a * u + self.c * v + self.e, self.b * u + self.d * v + self.f)


def unturn(rotation: int, u: float, v: float) -> Point:
    """The fraction of the page *before* it was turned `rotation` degrees clockwise, of a fraction after it."""
    match rotation % 360:
        case 90:
            return (v, 1 - u)
        case 180:
            return (1 - u, 1 - v)
        case 270:
            return (1 - v, u)
        case _:
            return (u, v)


def page_affine(rotation: int, corner: Point, right: Point, bottom: Point) -> Affine:
    """From the page as read, turned `rotation` degrees, to PDF points. `corner`, `right` and `bottom` are where the
    displayed page's top left, top right and bottom left corners are in PDF points."""

    def user(u: float, v: float) -> Point:
        s, t = unturn(rotation, u, v)
        x = corner[0] + s * (right[0] - corner[0]) + t * (bottom[0] - corner[0])
        y = corner[1] + s * (right[1] - corner[1]) + t * (bottom[1] - corner[1])
        return (x, y)

    e, f = user(0, 0)
    (rx, ry), (bx, by) = user(1, 0), user(0, 1)
    return Affine(rx - e, ry - f, bx - e, by - f, e, f)


def place(page: Page) -> list[Placed]:
    """Every piece of the page's text in reading order, with its place."""
    return [line for _, lines in place_blocks(page) for line in lines]


def place_blocks(page: Page) -> list[tuple[Block, list[Placed]]]:
    """The blocks that have text, in reading order, each with its lines."""
    blocks = [block for block in page.blocks if block.lines or block.text.strip()]
    groups = [list(group) for _, group in groupby(blocks, key=lambda block: bool(block.box or block.lines))]
    out: list[tuple[Block, list[Placed]]] = []
    bottom = _MARGIN
    for index, group in enumerate(groups):
        if group[0].box or group[0].lines:
            out.extend((block, list(_place_block(block, page))) for block in group)
            bottom = extent(group[-1])[3]
        else:
            end = extent(groups[index + 1][0])[1] if index + 1 < len(groups) else 1000 - _MARGIN
            out.extend(_spread(group, bottom, end, page))
    return out


def clean(text: str) -> str:
    """One line without characters that are not text."""
    if not text.isprintable():  # most lines are, and asking costs little
        text = "".join(" " if is_control(char) else char for char in text)
    return " ".join(text.split())


def extent(block: Block) -> Box:
    """The box of a block that has one, or lines."""
    if block.box:
        return block.box
    boxes = [line.box for line in block.lines]
    return (
        min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)
    )  # fmt: skip


def _place_block(block: Block, page: Page) -> Iterator[Placed]:
    if not block.lines:
        yield from _wrap(_plain(block), extent(block), page)
        return
    lines = [(clean(line.text), _solid(line.box)) for line in block.lines]
    lines = [(text, box) for text, box in lines if text]
    for index, (text, box) in enumerate(lines):
        beside = index + 1 < len(lines) and _same_height(box, lines[index + 1][1])
        yield Placed(text, box, _runs_down(text, box, page), beside)


def _spread(blocks: Sequence[Block], top: float, bottom: float, page: Page) -> Iterator[tuple[Block, list[Placed]]]:
    """Blocks without a box, one below the other from `top`, in ordinary type, or smaller if there is less room."""
    texts = [_plain(block) for block in blocks]
    wanted = [_usual_height(text, page) for text in texts]
    if bottom - top < 10:
        top = min(top, 1000 - _MARGIN - 10)
        bottom = top + 10
    shrink = min(1.0, (bottom - top) / (sum(wanted) or 1.0))
    for block, text, height in zip(blocks, texts, wanted, strict=True):
        yield block, list(_wrap(text, (_MARGIN, top, 1000 - _MARGIN, top + height * shrink), page))
        top += height * shrink


def _usual_height(text: str, page: Page) -> float:
    """How much of the page's height `text` takes across the page in ordinary type."""
    width = (1000 - 2 * _MARGIN) / 1000 * page.width
    size = _TYPE / 1000 * page.height
    return _TYPE * sum(max(1, math.ceil(natural_width(line) * size / width)) for line in text.split("\n"))


def _plain(block: Block) -> str:
    return plain_text(block.text) if block.kind is Kind.TABLE else block.text


def _wrap(text: str, box: tuple[float, float, float, float], page: Page) -> Iterator[Placed]:
    """`text` broken into lines of one height that fill `box`; its own line breaks are kept."""
    given = [line for line in map(clean, text.split("\n")) if line]
    x0, y0, x1, y1 = _solid(box)
    width, height = (x1 - x0) * page.width, (y1 - y0) * page.height
    count = max(len(given), round(math.sqrt(sum(map(natural_width, given)) * height / width)))
    if not given:
        return
    room = sum(map(natural_width, given)) / count * 1.05
    lines = [part for line in given for part in _break(line, room)] if count > len(given) else given
    widest = max(map(natural_width, lines)) or 1.0
    step = (y1 - y0) / len(lines)
    for n, line in enumerate(lines):
        right = x0 + (x1 - x0) * max(0.02, natural_width(line) / widest)
        yield Placed(line, (x0, y0 + n * step, right, y0 + (n + 1) * step))


def _break(line: str, room: float) -> Iterator[str]:
    """`line` in pieces about `room` wide, broken at blanks, or between characters of scripts that have none."""
    piece = ""
    used = 0.0
    for word in _words(line):
        width = natural_width(word)
        if piece.strip() and used + width > room:
            yield piece.strip()
            piece, used = "", 0.0
        piece += word
        used += width
    if piece.strip():
        yield piece.strip()


def _words(line: str) -> Iterator[str]:
    word = ""
    for char in line:
        if unicodedata.east_asian_width(char) in "WF":
            if word:
                yield word
            yield char
            word = ""
        else:
            word += char
            if char == " ":
                yield word
                word = ""
    if word:
        yield word


def _solid(box: Sequence[float]) -> tuple[float, float, float, float]:
    """The box inside the page, corners in order, at least one thousandth wide and high."""
    x0, x1 = sorted((min(max(box[0], 0), 1000), min(max(box[2], 0), 1000)))
    y0, y1 = sorted((min(max(box[1], 0), 1000), min(max(box[3], 0), 1000)))
    x0, y0 = min(x0, 999), min(y0, 999)
    return (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))


def _runs_down(text: str, box: tuple[float, float, float, float], page: Page) -> bool:
    """Vertical writing, or text printed along the side: several characters in a box much higher than wide."""
    width, height = (box[2] - box[0]) * page.width, (box[3] - box[1]) * page.height
    return len(text) > 1 and height > 2 * width


def _same_height(a: Sequence[float], b: Sequence[float]) -> bool:
    overlap = min(a[3], b[3]) - max(a[1], b[1])
    return overlap > 0.5 * min(a[3] - a[1], b[3] - b[1])
