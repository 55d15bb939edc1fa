"""Tables: the HTML of a table block, read into a grid. Never trusted, never passed through.

Whatever the HTML holds beside rows and cells (attributes, scripts, links, styles) is dropped; every writer that needs a
table as HTML gets it rebuilt by `clean_html`.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TypeVar

MAX_SPAN = 200
MAX_COLUMNS = 1000
APART = frozenset(("p", "div", "li", "ul", "ol", "table", "tr", "td", "th", "h1", "h2", "h3", "h4", "h5", "h6", "hr"))
"""Tags within a cell that part what is before them from what follows: 1 and 2 in paragraphs are not 12."""
RAISED = str.maketrans("0123456789+-\u2212()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell as written: its text (lines parted by newlines) and how many rows and columns it covers."""

    text: str
    rowspan: int = 1
    colspan: int = 1
    header: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A cell and where it stands in the grid, from 0."""

    row: int
    column: int
    cell: Cell


Rows = tuple[tuple[Cell, ...], ...]


def parse_table(source: str) -> Rows:
    """The rows of the first table in `source`. Malformed HTML gives what can be made of it; no table gives one cell
    with all of the text (or nothing, for an empty text)."""
    reader = _Reader()
    reader.feed(source)
    reader.close()
    reader.end_row()
    rows = tuple(tuple(row) for row in with_cells(reader.rows, lambda cell: cell.rowspan))
    if rows:
        return rows
    text = " ".join(reader.outside).strip()
    return ((Cell(text),),) if text else ()


def with_cells(rows: Iterable[Sequence[T]], tall: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """The rows that have cells, and those that are empty because cells above reach into them: without these, what is
    below would stand beside those cells. `tall`: how many rows a cell covers."""
    reach = 0
    for row in rows:
        if row or reach > 0:
            yield row
        reach = max((reach - 1, *(tall(cell) - 1 for cell in row)))


def places(rows: Rows) -> Iterator[Place]:
    """Each cell with its position, after the spans of cells before it; a span ends with the table's last row."""
    taken: set[tuple[int, int]] = set()
    for y, row in enumerate(rows):
        x = 0
        for cell in row:
            while (y, x) in taken:
                x += 1
            if x >= MAX_COLUMNS:
                break
            height = min(cell.rowspan, len(rows) - y)
            width = _free_width(taken, y, x, min(cell.colspan, MAX_COLUMNS - x))
            taken.update((y + dy, x + dx) for dy in range(height) for dx in range(width))
            yield Place(y, x, Cell(cell.text, height, width, cell.header))
            x += width


def _free_width(taken: set[tuple[int, int]], y: int, x: int, wanted: int) -> int:
    width = 1
    while width < wanted and (y, x + width) not in taken:
        width += 1
    return width


def grid(rows: Rows) -> list[list[str]]:
    """A rectangle of texts. A cell that spans several places has its text in each of them: a row read alone (as in a
    spreadsheet filter) then is complete."""
    placed = list(places(rows))
    columns = max((p.column + p.cell.colspan for p in placed), default=0)
    out = [[""] * columns for _ in rows]
    for p in placed:
        for y in range(p.row, p.row + p.cell.rowspan):
            for x in range(p.column, p.column + p.cell.colspan):
                out[y][x] = p.cell.text
    return out


def plain_text(source: str) -> str:
    """The table as text: one line a row, cells parted by tabs; a spanning cell stands once."""
    rows = parse_table(source)
    return "\n".join("\t".join(" ".join(cell.text.split()) for cell in row) for row in rows)


def clean_html(source: str) -> str:
    """The table rebuilt from its cells: only table, tr, th, td, br, rowspan and colspan; all text escaped."""
    return rows_html(parse_table(source))


def rows_html(rows: Rows) -> str:
    """Rows as such a table."""
    body = "\n".join(f"<tr>{''.join(_cell_html(cell) for cell in row)}</tr>" for row in rows)
    return f"<table>\n{body}\n</table>"


def _cell_html(cell: Cell) -> str:
    tag = "th" if cell.header else "td"
    spans = f' rowspan="{cell.rowspan}"' if cell.rowspan > 1 else ""
    spans += f' colspan="{cell.colspan}"' if cell.colspan > 1 else ""
    text = "<br>".join(html.escape(line, quote=False) for line in cell.text.split("\n"))
    return f"<{tag}{spans}>{text}</{tag}>"


@dataclass
class _Reader(HTMLParser):
    """Collects rows. Text in script and style is dropped; a nested table's cells become text of the cell around it."""

    rows: list[list[Cell]] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self, convert_charrefs=True)
        self._row: list[Cell] | None = None
        self._text: list[str] | None = None
        self._spans = (1, 1, False)
        self._depth = 0
        self._silent = 0
        self._apart = self._raised = False
        self._done = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._apart |= tag in APART
        self._raised = tag == "sup"
        if tag in ("script", "style"):
            self._silent += 1
        elif tag == "table":
            self._depth += 1
        elif tag == "br" and self._text is not None:
            self._text.append("\n")
        elif self._depth <= 1 and not self._done:
            if tag == "tr":
                self.end_row()
                self._row = []
            elif tag in ("td", "th"):
                self._start_cell(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        self._apart |= tag in APART
        self._raised = False
        if tag in ("script", "style"):
            self._silent = max(0, self._silent - 1)
        elif tag == "table":
            self._depth -= 1
            if self._depth <= 0:
                self.end_row()
                self._done = True
        elif self._depth <= 1:
            if tag == "tr":
                self.end_row()
            elif tag in ("td", "th"):
                self._end_cell()

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        if self._text is not None:
            if self._apart and data.strip():
                self._text.append("\n")
                self._apart = False
            self._text.append((data.translate(RAISED) if self._raised else data).replace("\n", " "))
        elif data.strip() and not self._done:
            self.outside.append(" ".join(data.split()))

    def _start_cell(self, tag: str, attrs: dict[str, str | None]) -> None:
        self._end_cell()
        if self._row is None:
            self._row = []
        self._text = []
        self._apart = False
        self._spans = (_span(attrs.get("rowspan")), _span(attrs.get("colspan")), tag == "th")

    def _end_cell(self) -> None:
        if self._text is None:
            return
        lines = [" ".join(line.split()) for line in "".join(self._text).split("\n")]
        assert self._row is not None
        self._row.append(Cell("\n".join(lines).strip(), *self._spans))
        self._text = None

    def end_row(self) -> None:
        self._end_cell()
        if self._row is not None:
            self.rows.append(self._row)
        self._row = None


def _span(value: str | None) -> int:
    digits = (value or "").strip()
    return max(1, min(int(digits), MAX_SPAN)) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 1
