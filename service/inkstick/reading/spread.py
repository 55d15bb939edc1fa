"""The first reader's text laid over the second reader's lines, so that each word lies where it is printed. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from inkstick.document import Box, Line
from inkstick.reading.comparable import Comparable, weight

PIECE = 4
"""Text between two lines that weighs less belongs to one of them; more is a line of its own."""


Place = tuple[int, int, Line]
"""First key of the text, the one after the last, and the printed line that stands there."""


def printed_lines(text: Comparable, places: Sequence[Place]) -> tuple[Line, ...]:
    """All of `text`, cut where the printed lines begin and end; each piece with its line's box and score. `places` in
    the order of the text. Text that no line has lies between its neighbours. () without places."""
    if not places:
        return ()
    pieces = list(_cuts(text, places))
    boxes = [line.box if line else None for _, _, line in pieces]
    out = []
    for n, (start, end, line) in enumerate(pieces):
        written = " ".join(text.text[start:end].split())
        box = line.box if line else around([b for b in boxes[:n] if b][-1:], [b for b in boxes[n + 1 :] if b][:1])
        if written and box:
            out.append(Line(written, box, line.score if line else None))
    return tuple(out)


def around(before: Sequence[Box], after: Sequence[Box]) -> Box | None:
    """The strip between the last line before and the first line after; a line's height beside the only one."""
    if not before and not after:
        return None
    if not after:
        x0, y0, x1, y1 = before[-1]
        return (x0, min(y1, 999), x1, min(1000, y1 + max(1, y1 - y0)))
    if not before:
        x0, y0, x1, y1 = after[0]
        return (x0, max(0, y0 - max(1, y1 - y0)), x1, max(1, y0))
    above, below = before[-1], after[0]
    x0, x1 = min(above[0], below[0]), max(above[2], below[2])
    if below[1] > above[3]:
        return (x0, above[3], x1, below[1])
    return (x0, min(above[1], below[1]), x1, max(above[3], below[3]))


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around all; there is at least one."""
    return (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))


def _cuts(text: Comparable, places: Sequence[Place]) -> Iterator[tuple[int, int, Line | None]]:
    """(start, end, line) over the whole written text, without gaps; None: no line has it."""
    begin = 0
    if _unseen(text, 0, places[0][0]):
        begin = _head(text, 0, text.at[places[0][0]])
        yield 0, begin, None
    starts = [place[0] for place in places[1:]]
    for (_, last, line), following in zip(places, [*starts, None], strict=True):
        edge = text.at[last - 1] + 1
        limit = _head(text, edge, text.at[following]) if following is not None else len(text.text)
        apart = _unseen(text, last, following if following is not None else len(text.keys))
        end = _tail(text, edge, limit) if apart else limit
        yield begin, end, line
        if apart:
            yield end, limit, None
        begin = limit


def _unseen(text: Comparable, first: int, last: int) -> bool:
    return weight(text.keys[first:last]) >= PIECE


def _head(text: Comparable, low: int, place: int) -> int:
    """Opening quotes and brackets before `place` go with what follows."""
    while place > low and unicodedata.category(text.text[place - 1]) in ("Ps", "Pi"):
        place -= 1
    return place


def _tail(text: Comparable, place: int, high: int) -> int:
    """Closing punctuation from `place` on goes with what stands before it."""
    while place < high and unicodedata.category(text.text[place]) in ("Pe", "Pf", "Po"):
        place += 1
    return place
