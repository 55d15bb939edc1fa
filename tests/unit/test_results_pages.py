"""A page out of a long record costs its own bytes, not the record's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from inkstick.document import Block, Header, Kind, Page, record_chunks
from inkstick.results import record
from inkstick.results.pages import RecordPages

HEADER = Header("long.pdf", "0" * 64, 1, "application/pdf")
PAGES = 5000


def page(number: int, text: str = "") -> Page:
    return Page(number, 10, 10, "x", blocks=(Block(1, Kind.PARAGRAPH, text or f'{{"number": {number}}}\n墨 ' * 20),))


def test_every_page_of_a_long_record_is_found_without_reading_it_again(tmp_path: Path) -> None:
    (path,) = record.write(HEADER, (page(n) for n in range(1, PAGES + 1)), tmp_path / "long")
    records = RecordPages()
    assert records.page(path, 1) == page(1)
    size = path.stat().st_size
    assert size <= records.bytes_read < size + 2000
    for number in range(1, PAGES + 1, 250):
        assert records.page(path, number) == page(number)
    assert records.page(path, PAGES) == page(PAGES)
    assert records.page(path, PAGES + 1) is None
    assert records.bytes_read < size + 25 * 2000, "a page must not cost the record"


def test_a_record_that_was_made_anew_is_looked_at_anew(tmp_path: Path) -> None:
    (path,) = record.write(HEADER, [page(1), page(2)], tmp_path / "a")
    records = RecordPages()
    assert records.page(path, 2) == page(2)
    os.utime(path, ns=(1, 1))
    (new,) = record.write(HEADER, [page(1, "longer than it was, much longer"), page(2, "new")], tmp_path / "b")
    new.replace(path)
    assert records.page(path, 2) == page(2, "new")


def test_a_record_that_takes_the_name_while_another_is_read_is_not_mixed_up_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, new = tmp_path / "a.json", tmp_path / "new.json"
    for file, words in ((path, "old"), (new, "a much longer text than before")):
        pages = [Page(n, 10, 10, "fake", blocks=(Block(1, Kind.PARAGRAPH, f"{words} {n}"),)) for n in (1, 2, 3)]
        file.write_text("".join(record_chunks(Header("a", "", 0, "application/pdf"), pages)))
    opened = Path.open

    def replaced(self: Path, *arguments: Any, **named: Any) -> Any:
        found = opened(self, *arguments, **named)
        if new.exists():
            new.rename(path)
        return found

    monkeypatch.setattr(Path, "open", replaced)
    page = RecordPages().page(path, 3)
    assert page is not None and page.text() == "old 3"
