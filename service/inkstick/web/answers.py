"""A page that was read at once, as the Ask screen shows it and as files to take away.

The texts are hostile: they go to templates as plain values and into files through the writers of the results.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

from inkstick.document import Block, Box, Kind, Page, page_json
from inkstick.results.csv import harmless
from inkstick.results.markdown import block_markdown
from inkstick.results.tables import grid, parse_table
from inkstick.results.text import page_text, without_controls
from inkstick.web.pieces import Piece, pieces

DOWNLOADS = {"txt": "text/plain", "md": "text/markdown", "json": "application/json", "csv": "text/csv"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A box on the picture in thousandths, what was read there, and its number in reading order from 1."""

    number: int
    text: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class FieldOf:
    key: str
    value: str


def shown(page: Page) -> list[Piece]:
    """The page's text without its fields, laid out in pieces."""
    texts = [block.text for block in page.blocks if block.text and block.kind is not Kind.FIELD]
    return pieces("\n\n".join(texts)) if texts else []


def fields(page: Page) -> list[FieldOf]:
    """What was extracted, a key each."""
    return [
        FieldOf(key, value)
        for block in page.blocks
        if block.kind is Kind.FIELD
        for key, _, value in (block.text.partition(": "),)
    ]


def marks(page: Page) -> list[Mark]:
    """Where the text stands: its lines, or where those are not known its blocks."""
    return [
        Mark(n, text, box[0], box[1], max(1, box[2] - box[0]), max(1, box[3] - box[1]))
        for n, (text, box) in enumerate(_boxes(page), 1)
    ]


def _boxes(page: Page) -> Iterator[tuple[str, Box]]:
    for block in page.blocks:
        if block.lines:
            yield from ((line.text, line.box) for line in block.lines)
        elif block.box is not None:
            yield _label(block), block.box


def _label(block: Block) -> str:
    if block.kind is Kind.TABLE:
        return " ".join(cell.text for row in parse_table(block.text) for cell in row)
    return block.text


def tables(page: Page) -> list[list[list[str]]]:
    """Grids for a spreadsheet: the fields if there are any, and each table."""
    found = [grid(parse_table(block.text)) for block in page.blocks if block.kind is Kind.TABLE]
    named = [[field.key, field.value] for field in fields(page)]
    return [named, *found] if named else found


def formats(page: Page) -> list[str]:
    """The downloads that make sense for this page."""
    return [word for word in DOWNLOADS if word != "csv" or tables(page)]


def file(page: Page, format: str) -> bytes:
    """The page as a file of this format (a key of `DOWNLOADS`)."""
    return {"txt": page_text, "md": _markdown, "json": _json, "csv": _csv}[format](page).encode("utf-8", "replace")


def _markdown(page: Page) -> str:
    return without_controls("\n\n".join(text for block in page.blocks if (text := block_markdown(block))) + "\n")


def _json(page: Page) -> str:
    return json.dumps(page_json(page), ensure_ascii=False, indent=1) + "\n"


def _csv(page: Page) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    for n, rows in enumerate(tables(page)):
        if n:
            writer.writerow([])
        writer.writerows([harmless(cell) for cell in row] for row in rows)
    return "\ufeff" + out.getvalue()
