"""Readings of overlapping tiles, in reading order, into the blocks of one page. Pure.

Tiles overlap so that no line is cut in both. What two neighbours both read is kept once: by boxes where both have them,
else by the longest run of lines that ends one and begins the other. The line at a cut edge may be garbled in one
tile, so one line on each side of the seam may be dropped if that makes the seam fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rapidfuzz import fuzz

from inkstick.document import Block, Box, Kind

SEAM_LINES = 60
SAME = 90.0
"""Similarity in per cent from which two lines are one."""
WHOLE: Box = (0, 0, 1000, 1000)


@dataclass(frozen=True, slots=True)
class Piece:
    """What was read on the tile that covers `box` of the page."""

    box: Box
    blocks: tuple[Block, ...]


def merge(pieces: Sequence[Piece]) -> tuple[Block, ...]:
    """One page's blocks, numbered from 1, boxes in thousandths of the page."""
    merged: list[Block] = []
    for piece in pieces:
        placed = [mapped(block, piece.box) for block in piece.blocks]
        merged = _joined(merged, _unseen(merged, placed))
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


def _joined(old: list[Block], new: list[Block]) -> list[Block]:
    if any(block.box for block in (*old, *new)):
        return old + new
    above, below = _lines(old), _lines(new)
    lost, common, skipped = seam([line for _, line in above], [line for _, line in below])
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


def seam(above: Sequence[str], below: Sequence[str]) -> tuple[int, int, int]:
    """(lines to drop at the end of `above`, lines in common, lines to drop before them at the start of `below`)."""
    best = (0, 0, 0)
    for lost in (0, 1):
        for skipped in (0, 1):
            upper, lower = above[: len(above) - lost], below[skipped:]
            common = _common(upper[-SEAM_LINES:], lower[:SEAM_LINES])
            if common > best[1]:
                best = (lost, common, skipped)
    return best


def _common(upper: Sequence[str], lower: Sequence[str]) -> int:
    for count in range(min(len(upper), len(lower)), 0, -1):
        if all(same(a, b) for a, b in zip(upper[-count:], lower[:count], strict=True)):
            return count
    return 0


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
