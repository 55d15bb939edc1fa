"""PaddleOCR-VL's table tokens (OTSL) as an HTML table. Pure.

    <fcel>text  a cell        <ecel>  an empty one        <nl>  the row ends
    <lcel>  the cell to the left goes on    <ucel>  the one above goes on    <xcel>  both do

A table of another shape than its tokens say (rows of different lengths, a span that begins nowhere) still gives every
text once: what cannot be joined becomes an empty cell.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

_TOKEN = re.compile(r"<(fcel|ecel|lcel|ucel|xcel|ched|rhed|srow|nl)>")
FULL, HEADS = frozenset({"fcel", "ched", "rhed", "srow"}), frozenset({"ched", "rhed"})
MOST_CELLS = 20_000
"""More are cut off: a page does not hold so many."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One token and the text after it. `sort`: the token's name."""

    sort: str
    text: str = ""


def has_tokens(answer: str) -> bool:
    return _TOKEN.search(answer) is not None


def table(answer: str) -> str:
    """The whole ``<table>``; "" where no cell is."""
    grid = cells(answer)
    if not any(cell.sort in FULL for row in grid for cell in row):
        return ""
    rows = []
    for y, row in enumerate(grid):
        shown = [_html(grid, y, x) for x in range(len(row)) if not _joined(grid, y, x)]
        rows.append(f"<tr>{''.join(shown)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def cells(answer: str) -> list[list[Cell]]:
    """The rows of tokens, all of one length unless those were too many cells. Text before the first token belongs to no
    cell and is left out."""
    pieces = _TOKEN.split(answer)[1:]
    rows: list[list[Cell]] = [[]]
    for sort, text in list(zip(pieces[::2], pieces[1::2], strict=True))[:MOST_CELLS]:
        if sort == "nl":
            rows.append([])
        else:
            rows[-1].append(Cell(sort, " ".join(text.split())))
    rows = [row for row in rows if row]
    width = max((len(row) for row in rows), default=0)
    if width * len(rows) > MOST_CELLS:
        return rows  # one long row among many short ones would make millions of empty cells
    return [row + [Cell("ecel")] * (width - len(row)) for row in rows]


def _joined(grid: list[list[Cell]], y: int, x: int) -> bool:
    """Whether the cell at row y, column x only continues another one."""
    sort = grid[y][x].sort
    if sort == "lcel":
        return x > 0
    if sort == "ucel":
        return y > 0
    return sort == "xcel" and x > 0 and y > 0


def _html(grid: list[list[Cell]], y: int, x: int) -> str:
    cell = grid[y][x]
    wide = _run((grid[y][after].sort for after in range(x + 1, len(grid[y]))), "lcel")
    below = (grid[after] for after in range(y + 1, len(grid)))
    high = _run((row[x].sort if x < len(row) else "" for row in below), "ucel")
    spans = (f' rowspan="{high}"' if high > 1 else "") + (f' colspan="{wide}"' if wide > 1 else "")
    tag = "th" if cell.sort in HEADS else "td"
    return f"<{tag}{spans}>{html.escape(cell.text, quote=False)}</{tag}>"


def _run(sorts: Iterable[str], wanted: str) -> int:
    """1 and how many of `sorts` are `wanted` before the first that is not."""
    length = 1
    for sort in sorts:
        if sort != wanted:
            break
        length += 1
    return length
