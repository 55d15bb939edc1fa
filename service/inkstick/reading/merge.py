"""Readings of overlapping tiles, in reading order, into the blocks of one page. Pure.

Tiles overlap so that no line is cut in both. What two neighbours both read is kept once: by boxes where both have them,
else by the run of lines that ends one and begins the other. The line at a cut edge may be garbled in one tile, so one
line on each side of the seam may be dropped if that makes the seam fit. Rows of a list are often alike but for their
numbers: those are not the same line, and where more than one seam fits, the overlap tells which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rapidfuzz import fuzz

from inkstick.document import Block, Box, Kind

SEAM_LINES = 60
SAME = 90.0
"""Similarity in per cent from which two lines are one."""
MISREAD = 4
"""At a seam, one line in so many may have other digits in the other tile: a misreading. More are other lines."""
WHOLE: Box = (0, 0, 1000, 1000)


@dataclass(frozen=True, slots=True)
class Piece:
    """What was read on the tile that covers `box` of the page."""

    box: Box
    blocks: tuple[Block, ...]


def merge(pieces: Sequence[Piece]) -> tuple[Block, ...]:
    """One page's blocks, numbered from 1, boxes in thousandths of the page."""
    merged: list[Block] = []
    above: Box | None = None
    for piece in pieces:
        placed = [mapped(block, piece.box) for block in piece.blocks]
        merged = _joined(merged, _unseen(merged, placed), _overlapped(above, piece.box))
        above = piece.box
    return tuple(replace(block, order=n) for n, block in enumerate(merged, 1))


def mapped(block: Block, tile: Box) -> Block:
    """`block` with its boxes moved from thousandths of `tile` to thousandths of the page."""
    lines = tuple(replace(line, box=_moved(line.box, tile)) for line in block.lines)
    return replace(block, box=_moved(block.box, tile) if block.box else None, lines=lines)


def _moved(box: Box, tile: Box) -> Box:
    wide, high = tile[2] - tile[0], tile[3] - tile[1]
    x0, x1 = (tile[0] + round(x * wide / 1000) for x in (box[0], box[2]))
    y0, y1 = (tile[1] + round(y * high / 1000) for y in (box[1], box[3]))
    return x0, y0, x1, y1


def same(a: str, b: str) -> bool:
    return a == b or fuzz.ratio(a, b, score_cutoff=SAME) > 0


def _unseen(old: Sequence[Block], new: Sequence[Block]) -> list[Block]:
    """`new` without the blocks that stand in `old` at the same place with the same text."""
    boxed = [block for block in old if block.box]
    return [n for n in new if not (n.box and any(_overlap(o.box, n.box) > 0.5 and same(o.text, n.text) for o in boxed))]


def _overlap(a: Box | None, b: Box | None) -> float:
    """Common area over the smaller one's."""
    if not a or not b:
        return 0.0
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return wide * high / smaller if wide > 0 and high > 0 and smaller > 0 else 0.0


def _overlapped(above: Box | None, tile: Box) -> float:
    """The share of the tile's height that the tile before it covers too; 0: it does not stand above it."""
    if above is None or min(above[2], tile[2]) - max(above[0], tile[0]) < (tile[2] - tile[0]) / 2:
        return 0.0
    return max(0.0, (above[3] - tile[1]) / max(1, tile[3] - tile[1]))


def _joined(old: list[Block], new: list[Block], overlapped: float) -> list[Block]:
    if not overlapped or any(block.box for block in (*old, *new)):
        return old + new
    above, below = _lines(old), _lines(new)
    upper, lower = [line for _, line in above], [line for _, line in below]
    lost, common, skipped = seam(upper, lower, expected=round(overlapped * len(lower)))
    if not common:
        return old + new
    return _without(old, above[len(above) - lost :]) + _without(new, below[: skipped + common])


def _lines(blocks: Sequence[Block]) -> list[tuple[int, str]]:
    """Each printed line with its block's place; a table or formula counts as one line."""
    out: list[tuple[int, str]] = []
    for place, block in enumerate(blocks):
        whole = block.kind in (Kind.TABLE, Kind.FORMULA, Kind.CODE)
        out += [(place, line) for line in ([block.text] if whole else block.text.splitlines())]
    return out


def seam(above: Sequence[str], below: Sequence[str], *, expected: int | None = None) -> tuple[int, int, int]:
    """(lines to drop at the end of `above`, lines in common, lines to drop before them at the start of `below`).

    `expected`: about how many should be in common. It decides where several seams fit; without it the longest does."""
    fits = [
        (lost, common, skipped)
        for lost in (0, 1)
        for skipped in (0, 1)
        for common in _commons(above[: len(above) - lost][-SEAM_LINES:], below[skipped:][:SEAM_LINES])
    ]
    if expected is None:
        return max(fits, key=lambda fit: fit[1], default=(0, 0, 0))
    return min(fits, key=lambda fit: (fit[0] + fit[2], abs(fit[1] - expected)), default=(0, 0, 0))


def _commons(upper: Sequence[str], lower: Sequence[str]) -> Iterator[int]:
    """How many lines may end the one and begin the other, the most first."""
    for count in range(min(len(upper), len(lower)), 0, -1):
        pairs = list(zip(upper[-count:], lower[:count], strict=True))
        if all(same(a, b) for a, b in pairs) and MISREAD * sum(_digits(a) != _digits(b) for a, b in pairs) <= count:
            yield count


def _digits(line: str) -> str:
    return "".join(char for char in line if char.isdigit())


def _without(blocks: Sequence[Block], gone: Sequence[tuple[int, str]]) -> list[Block]:
    """`blocks` without those lines, and without blocks that have none left."""
    left: dict[int, list[str]] = {}
    for place, line in gone:
        left.setdefault(place, []).append(line)
    out = []
    for place, block in enumerate(blocks):
        text = _removed(block, left[place]) if place in left else block.text
        if text:
            out.append(replace(block, text=text))
    return out


def _removed(block: Block, gone: Sequence[str]) -> str:
    lines = [block.text] if block.text in gone else block.text.splitlines()
    if lines[: len(gone)] == list(gone):
        return "\n".join(lines[len(gone) :])
    if lines[len(lines) - len(gone) :] == list(gone):
        return "\n".join(lines[: len(lines) - len(gone)])
    return block.text


def halves() -> tuple[Box, Box]:
    """The two overlapping halves into which a page is cut when it was too much as a whole."""
    return (0, 0, 1000, 550), (0, 450, 1000, 1000)
