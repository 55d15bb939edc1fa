"""Lines of a table placed into its rows and columns. Pure geometry."""

from __future__ import annotations

import bisect
import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from inkstick.engines.order import Rectangle, printed_rows


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell at `row`, `column`, that is `tall` rows high and `wide` columns wide. `members`: which lines are in it."""

    row: int
    column: int
    tall: int = 1
    wide: int = 1
    members: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. `cells` cover every place exactly once, in order of row, then column."""

    rows: int
    columns: int
    cells: tuple[Cell, ...]


Place = tuple[int, int, int, int]
"""First row, first column, rows, columns."""


def place(
    boxes: Sequence[Rectangle], box: Rectangle, rows: Sequence[float] = (), columns: Sequence[float] = ()
) -> Grid:
    """Put the lines of a table, one rectangle each, into cells.

    `rows` and `columns`: where inner borders run; without them they are found from the gaps between the lines.
    Rows and columns with nothing in them are left out.
    """
    if not boxes:
        return Grid(0, 0, ())
    across = list(columns) or gaps(boxes, axis=0)
    down = list(rows) or row_gaps(boxes)
    places = [_place(line, sorted(down), sorted(across)) for line in boxes]
    return _covered(_packed(places))


def gaps(boxes: Sequence[Rectangle], axis: int) -> list[float]:
    """The middle of every strip that no box touches, across x (`axis` 0) or y (1), at least half a line wide."""
    least = statistics.median(box[3] - box[1] for box in boxes) / 2
    found: list[float] = []
    reach = None
    for start, end in sorted((box[axis], box[axis + 2]) for box in boxes):
        if reach is not None and start - reach >= least:
            found.append((start + reach) / 2)
        reach = end if reach is None else max(reach, end)
    return found


def row_gaps(boxes: Sequence[Rectangle]) -> list[float]:
    """Borders between the printed rows."""
    rows = printed_rows(boxes)
    middles = [statistics.fmean((boxes[index][1] + boxes[index][3]) / 2 for index in row) for row in rows]
    return [(above + below) / 2 for above, below in itertools.pairwise(middles)]


def _place(box: Rectangle, rows: list[float], columns: list[float]) -> Place:
    row = bisect.bisect(rows, (box[1] + box[3]) / 2)
    first, last = _reach(box[0], box[2], columns)
    return (row, first, 1, last - first + 1)


def _reach(start: float, end: float, borders: list[float]) -> tuple[int, int]:
    """First and last column that a box reaches well into: by a fifth of its own width, or it is a ragged edge."""
    middle = bisect.bisect(borders, (start + end) / 2)
    margin = (end - start) / 5
    first, last = bisect.bisect(borders, start + margin), bisect.bisect(borders, end - margin)
    return (min(first, middle), max(last, middle))


def _packed(places: list[Place]) -> list[Place]:
    """Without the rows and columns in which nothing starts."""
    rows = {row: number for number, row in enumerate(sorted({found[0] for found in places}))}
    starts = sorted({found[1] for found in places})
    columns = {column: number for number, column in enumerate(starts)}
    packed = []
    for row, column, tall, wide in places:
        reached = sum(column <= start < column + wide for start in starts)
        packed.append((rows[row], columns[column], tall, reached))
    return packed


def _covered(places: list[Place]) -> Grid:
    """Cells that cover the grid exactly once: lines that meet share a cell as wide as the widest of them."""
    rows = max(found[0] for found in places) + 1
    columns = max(found[1] + found[3] for found in places)
    cells: list[Cell] = []
    for row in range(rows):
        cells += _row(
            row, columns, [(found[1], found[3], index) for index, found in enumerate(places) if found[0] == row]
        )
    return Grid(rows, columns, tuple(cells))


def _row(row: int, columns: int, spans: list[tuple[int, int, int]]) -> list[Cell]:
    merged: list[tuple[int, int, list[int]]] = []
    for start, wide, index in sorted(spans):
        if merged and start < merged[-1][1]:
            first, end, members = merged[-1]
            merged[-1] = (first, max(end, start + wide), [*members, index])
        else:
            merged.append((start, start + wide, [index]))
    taken = {column for start, end, _ in merged for column in range(start, end)}
    cells = [Cell(row, start, 1, end - start, tuple(members)) for start, end, members in merged]
    cells += [Cell(row, column) for column in range(columns) if column not in taken]
    return sorted(cells, key=lambda cell: cell.column)
