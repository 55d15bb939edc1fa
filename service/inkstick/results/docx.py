"""Word documents: headings, paragraphs, lists, tables with their spans, a page break between pages.

No macros, links or pictures. The library holds a document in memory, so at most `PAGES` pages go into one file; a
longer one is continued in ``<name>.2.docx`` and so on.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from inkstick.document import Block, Header, Kind, Page
from inkstick.results.layout import plain
from inkstick.results.notes import page_notes
from inkstick.results.tables import parse_table, places, plain_text

PAGES = 500
_MAX_CELLS = 4_000  # python-docx takes seconds beyond; such a table becomes lines of text
_MAX_COLUMNS = 63  # Word's limit


def write(header: Header, pages: Iterable[Page], stem: Path) -> list[Path]:
    notes = page_notes(header, pages)
    paths: list[Path] = []
    for number, chunk in enumerate(_chunks(pages), 1):
        path = stem.with_name(stem.name + (".docx" if number == 1 else f".{number}.docx"))
        path.write_bytes(_document(chunk, notes if number == 1 else []))
        paths.append(path)
    return paths


def _chunks(pages: Iterable[Page]) -> Iterator[list[Page]]:
    source = iter(pages)
    first = list(islice(source, PAGES))
    yield first  # also for no pages at all: an empty document
    while chunk := list(islice(source, PAGES)):
        yield chunk


def _document(pages: list[Page], notes: list[str]) -> bytes:
    import docx

    document = docx.Document()
    for note in notes:
        document.add_paragraph(f"Please check: {plain(note)}", style="Intense Quote")
    for index, page in enumerate(pages):
        if index:
            document.add_page_break()
        if page.error is not None:
            document.add_paragraph(plain(f"[Page {page.number} could not be read: {page.error.get('message', '')}]"))
        for block in page.blocks:
            if block.text.strip():
                _add(document, block)
    raw = io.BytesIO()
    document.save(raw)
    return _without_dates(raw)


def _add(document: Any, block: Block) -> None:
    text = plain(block.text.strip())
    match block.kind:
        case Kind.TITLE:
            document.add_heading(" ".join(text.split()), 0)
        case Kind.HEADING:
            document.add_heading(" ".join(text.split()), min(max(block.level or 2, 1), 6))
        case Kind.LIST:
            for line in text.splitlines():
                document.add_paragraph(line.strip(), style="List Paragraph")
        case Kind.TABLE:
            _add_table(document, text)
        case Kind.CAPTION:
            document.add_paragraph(text, style="Caption")
        case _:
            document.add_paragraph(text)


def _add_table(document: Any, source: str) -> None:
    rows = parse_table(source)
    placed = list(places(rows))
    columns = max((p.column + p.cell.colspan for p in placed), default=0)
    if not columns:
        return
    if columns > _MAX_COLUMNS or columns * len(rows) > _MAX_CELLS:
        document.add_paragraph(plain(plain_text(source)))
        return
    table = document.add_table(len(rows), columns, style="Table Grid")
    cells = table._cells  # Table.cell() would compute this list anew for every cell
    for p in placed:
        cell = cells[p.row * columns + p.column]
        if p.cell.rowspan > 1 or p.cell.colspan > 1:
            last = (p.row + p.cell.rowspan - 1) * columns + p.column + p.cell.colspan - 1
            cell = cell.merge(cells[last])
        cell.text = p.cell.text
        if p.cell.header:
            for run in cell.paragraphs[0].runs:
                run.bold = True


def _without_dates(raw: io.BytesIO) -> bytes:
    """The same package with the earliest date that a ZIP can state, so that equal pages give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(zipfile.ZipInfo(name), source.read(name), zipfile.ZIP_DEFLATED)
    return out.getvalue()
