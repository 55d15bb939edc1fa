"""The output formats. Each is one module; adding one is a module and a line in `FORMATS`.

A writer goes over the pages once or twice, holding one page at a time, and writes the same bytes for the same pages:
no time stamps, no random ids. The searchable PDF is not here: it is made in the sandbox, from the original (pdf.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inkstick.document import Header, Page
from inkstick.profile import Format
from inkstick.results import alto, docx, hocr, markdown, record, text
from inkstick.results import csv as csv_tables


class PageSource(Protocol):
    """The pages of a document in ascending order; can be gone over again and again."""

    def __iter__(self) -> Iterator[Page]: ...


@dataclass(frozen=True, slots=True)
class Writer:
    """How a format is written: ``write(header, pages, stem)`` makes ``stem + suffix`` and gives the paths written."""

    suffix: str
    write: Callable[[Header, PageSource, Path], list[Path]]


FORMATS: Mapping[Format, Writer] = {
    Format.MD: Writer(".md", markdown.write),
    Format.TXT: Writer(".txt", text.write),
    Format.ALTO: Writer(".alto.xml", alto.write),
    Format.HOCR: Writer(".hocr.html", hocr.write),
    Format.CSV: Writer("", csv_tables.write),
    Format.DOCX: Writer(".docx", docx.write),
    Format.JSON: Writer(".json", record.write),
}


def result_path(folder: Path, name: str, format: Format) -> Path:
    """Where a format's file lies in a result folder; for csv the folder of tables, which is there if any table is."""
    if format is Format.CSV:
        return folder / csv_tables.FOLDER
    return folder / (name + (".pdf" if format is Format.PDF else FORMATS[format].suffix))
