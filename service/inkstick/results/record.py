"""``<name>.json``: the full record, from which every other format could be made again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from inkstick.document import Header, Page, record_chunks

_HEAD_END = '},\n "pages": ['


def write(header: Header, pages: Iterable[Page], stem: Path, notes: Sequence[str] = ()) -> list[Path]:
    """Write the record; `notes` (sentences for people) become ``document.notes``."""
    path = stem.with_name(stem.name + ".json")
    with path.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.writelines(_chunks(header, pages, notes))
    return [path]


def _chunks(header: Header, pages: Iterable[Page], notes: Sequence[str]) -> Iterator[str]:
    chunks = record_chunks(header, pages)
    head = next(chunks)
    if notes:
        extra = json.dumps(list(notes), ensure_ascii=False)
        head = f'{head.removesuffix(_HEAD_END)}, "notes": {extra}{_HEAD_END}'
    yield head
    yield from chunks
