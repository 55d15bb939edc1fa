"""A page's own text layer as blocks: words to lines to paragraphs by where they stand. Pure.

Keeps the order of the words as the file gives them, which in born-digital documents is nearly always the reading order.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from statistics import median

from inkstick.document import Block, Box, Kind, Line
from inkstick.pages.view import TextLayer, Word

GAP = 0.9
"""Space between lines, in line heights, above which a new paragraph begins."""


def blocks(layer: TextLayer) -> tuple[Block, ...]:
    """The layer's text, numbered from 1."""
    found = lines(layer.words)
    typical = median([line.box[3] - line.box[1] for line in found]) if found else 0
    out: list[list[Line]] = []
    for line in found:
        if out and _continues(out[-1][-1], line, typical):
            out[-1].append(line)
        else:
            out.append([line])
    return tuple(_block(n, group) for n, group in enumerate(out, 1))


def characters(layer: TextLayer) -> int:
    """Characters without spaces."""
    return sum(not c.isspace() for word in layer.words for c in word.text)


def lines(words: Sequence[Word]) -> list[Line]:
    """Words that follow each other on one height, joined."""
    rows: list[list[Word]] = []
    for word in words:
        if not word.text.strip():
            continue
        if rows and _same_row(rows[-1][-1], word):
            rows[-1].append(word)
        else:
            rows.append([word])
    return [Line(_sentence([w.text.strip() for w in row]), _around([w.box for w in row])) for row in rows]


def _same_row(a: Word, b: Word) -> bool:
    """The next word stands beside the one before: to the right, or to the left where both are written that way (a
    number among such words has no way of its own)."""
    height = min(a.box[3] - a.box[1], b.box[3] - b.box[1])
    common = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    near = 6 * max(6, height)
    onwards = b.box[0] >= a.box[0] and b.box[0] - a.box[2] < near
    backwards = b.box[2] <= a.box[2] and a.box[0] - b.box[2] < near and (_leftward(a.text) or _leftward(b.text))
    return common >= 0.5 * max(1, height) and (onwards or backwards)


def _leftward(text: str) -> bool:
    return any(unicodedata.bidirectional(char) in ("R", "AL") for char in text)


def _continues(above: Line, below: Line, typical: float) -> bool:
    gap = below.box[1] - above.box[3]
    tall, short = (line.box[3] - line.box[1] for line in (above, below))
    alike = max(tall, short) <= 1.4 * max(1, min(tall, short))
    overlap = min(above.box[2], below.box[2]) > max(above.box[0], below.box[0])
    return alike and overlap and -typical < gap < GAP * max(1.0, typical)


def _block(order: int, group: Sequence[Line]) -> Block:
    text = "\n".join(line.text for line in group)
    return Block(order, Kind.PARAGRAPH, text, _around([line.box for line in group]), None, tuple(group))


def _around(boxes: Sequence[Box]) -> Box:
    return min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)


def _sentence(words: Sequence[str]) -> str:
    """Joined with spaces, except between characters of scripts that have none."""
    text = words[0]
    for word in words[1:]:
        text += word if _wide(text[-1]) and _wide(word[0]) else " " + word
    return text


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")
