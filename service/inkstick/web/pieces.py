"""A page's text in pieces that a template can lay out: plain text, and tables as rows of cells.

The text is hostile. Of a table only its cells' plain texts and spans are taken; the template writes both, escaped. A
paragraph that pretends to be a table becomes at worst an odd table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from inkstick.results.tables import Rows, parse_table

LONGEST = 400_000
MOST_CELLS = 20_000


@dataclass(frozen=True, slots=True)
class Piece:
    """Either `text` (may hold line breaks) or `rows` of a table."""

    text: str = ""
    rows: Rows = ()


def pieces(text: str) -> list[Piece]:
    """The pieces of `Page.text()`, where a table is one block of HTML and blocks are parted by blank lines."""
    found: list[Piece] = []
    for piece in _split(text):
        if piece.rows or not found or found[-1].rows:
            found.append(piece)
        else:
            found[-1] = Piece(f"{found[-1].text}\n\n{piece.text}")
    return found


def _split(text: str) -> Iterator[Piece]:
    for block in text.split("\n\n"):
        if block.startswith("<table") and block.rstrip().endswith("</table>") and len(block) <= LONGEST:
            rows = parse_table(block)
            if 0 < sum(len(row) for row in rows) <= MOST_CELLS:
                yield Piece(rows=rows)
                continue
        yield Piece(block)
