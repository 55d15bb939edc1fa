"""One CSV file for each table: ``tables/page-003-table-01.csv``.

UTF-8 with a byte order mark, because Excel takes a file without one for Latin text. Spanning cells are repeated in each
place. Every value is quoted, and one that a spreadsheet would run as a formula gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from inkstick.document import Header, Kind, Page
from inkstick.results.tables import grid, parse_table
from inkstick.results.text import without_controls

FOLDER = "tables"
_FORMULA = "=+-@\t\r＝＋－＠"
_NUMBER = re.compile(r"[+-]?(\d[\d.,'’\u00a0\u202f ]*)?%?")


def write(header: Header, pages: Iterable[Page], stem: Path) -> list[Path]:
    """Write the tables of all pages below ``tables/`` beside `stem`; no folder if there are none."""
    paths: list[Path] = []
    for page in pages:
        sources = [block.text for block in page.blocks if block.kind is Kind.TABLE]
        for number, source in enumerate(sources, 1):
            path = stem.parent / FOLDER / f"page-{page.number:03d}-table-{number:02d}.csv"
            path.parent.mkdir(exist_ok=True)
            _write_table(path, source)
            paths.append(path)
    return paths


def _write_table(path: Path, source: str) -> None:
    with path.open("w", encoding="utf-8-sig", errors="replace", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([harmless(cell) for cell in row] for row in grid(parse_table(source)))


def harmless(cell: str) -> str:
    """The cell on one line, with an apostrophe in front if a spreadsheet would take it for a formula."""
    text = without_controls(" ".join(cell.split()))
    seen = next((char for char in text if unicodedata.category(char) != "Cf"), "")
    if seen and seen in _FORMULA and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text
