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
from inkstick.reading.spread import union
from inkstick.results.tables import parse_table, rows_html

SEAM_LINES = 60
SAME = 90.0
"""Similarity in per cent from which two lines are one."""
MISREAD = 4
"""At a seam, one line in so many may have other digits in the other tile: a misreading. More are other lines."""
CUT = 2
"""Thousandths of the page: a line that ends so near to its tile's edge is cut by it."""
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
    earlier: list[Box] = []
    for piece in pieces:
        placed = [mapped(block, piece.box) for block in piece.blocks]
        merged, placed = _once(merged, placed, earlier, piece.box)
        merged = _joined(merged, _unseen(merged, placed), _overlapped(above, piece.box))
        above = piece.box
        earlier.append(above)
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


def _once(old: list[Block], new: list[Block], earlier: Sequence[Box], tile: Box) -> tuple[list[Block], list[Block]]:
    """Both without the printed lines that the other has: where a line was read on two tiles, the one stays that its
    tile does not cut, else the old one. What goes has a line that stays in its place."""
    edges = [box[3] for box in earlier if tile[1] < box[3] < tile[3]]
    known = [(b, n, line.box) for b, block in enumerate(old) for n, line in enumerate(block.lines)]
    known = [one for one in known if one[2][3] > tile[1]]
    stays: dict[tuple[int, int], bool] = {}
    gone: dict[int, set[int]] = {}
    for b, block in enumerate(new, len(old)):
        for n, line in enumerate(block.lines):
            there = [one for one in known if _same_line(one[2], line.box)]
            whole = line.box[1] > tile[1] + CUT
            better = whole and all(any(abs(box[3] - edge) <= CUT for edge in edges) for _, _, box in there)
            if there and not better:
                gone.setdefault(b, set()).add(n)
            for other, place, _ in there:
                stays[other, place] = stays.get((other, place), False) or not better
    for (b, n), needed in stays.items():
        if not needed:
            gone.setdefault(b, set()).add(n)
    left = [_lessened(block, gone.get(b, set())) for b, block in enumerate([*old, *new])]
    return [block for block in left[: len(old)] if block], [block for block in left[len(old) :] if block]


def _same_line(a: Box, b: Box) -> bool:
    """One printed line: at the same place, and as long."""
    common = min(a[2], b[2]) - max(a[0], b[0])
    return common >= 0.8 * (max(a[2], b[2]) - min(a[0], b[0])) and _overlap(a, b) > 0.5


def _lessened(block: Block, gone: set[int]) -> Block | None:
    """The block without some of its lines; as it is where its text is not made of them in a plain way."""
    if not gone:
        return block
    lines = [line for n, line in enumerate(block.lines) if n not in gone]
    if not lines:
        return None
    text = _rows_left(block, gone) if block.kind is Kind.TABLE else _lines_left(block, gone)
    if text is None:
        return block
    return replace(block, text=text, box=union([line.box for line in lines]), lines=tuple(lines))


def _lines_left(block: Block, gone: set[int]) -> str | None:
    """Lines are taken from the beginning and the end of a text alone."""
    text, first, last = block.text, 0, len(block.lines)
    while first in gone and text.startswith(line := block.lines[first].text.strip()):
        text, first = text[len(line) :].lstrip(), first + 1
    while last - 1 in gone and text.endswith(line := block.lines[last - 1].text.strip()):
        text, last = text[: len(text) - len(line)].rstrip(), last - 1
    return text if len(gone) == first + len(block.lines) - last else None


def _rows_left(block: Block, gone: set[int]) -> str | None:
    """Rows are taken that have no other line."""
    rows, left, at = parse_table(block.text), [], 0
    for row in rows:
        wanted = sorted("".join("".join(cell.text for cell in row).split()))
        start, found = at, ""
        while len(found) < len(wanted) and at < len(block.lines):
            found, at = found + "".join(block.lines[at].text.split()), at + 1
        if sorted(found) != wanted or any(cell.rowspan > 1 for cell in row):
            return None
        those = set(range(start, at))
        if not those & gone:
            left.append(row)
        elif those - gone:
            return None
    return rows_html(tuple(left))


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
