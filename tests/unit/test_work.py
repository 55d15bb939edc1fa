"""What the desk and the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest

from inkstick.document import Block, Header, Kind, Page, Part
from inkstick.errors import TooLarge, Unsupported
from inkstick.profile import Format
from inkstick.results.record import write
from inkstick.work import Pages, Summary, files_of, formats_in, identify_file, record_pages, record_parts

PAGES = [
    Page(1, 10, 10, "rapidocr", blocks=(Block(1, Kind.PARAGRAPH, 'a ]} of "number": {"number": 1'),)),
    Page(2, 10, 10, None, error={"code": "timeout", "message": "m", "hint": "h"}),
]


def test_a_published_record_gives_its_pages_and_parts_back(tmp_path: Path) -> None:
    parts = (Part("a.pdf", "application/pdf", 1, 2), Part("b.exe", "", error={"code": "x", "message": "", "hint": ""}))
    header = Header('say "pages": [', "0" * 64, 1, "application/zip", parts=parts)
    (path,) = write(header, PAGES, tmp_path / "box", notes=['a "note"'])
    assert list(record_pages(path)) == PAGES
    assert record_parts(path) == parts
    assert files_of(tmp_path, "box", Format.JSON) == [path]
    assert files_of(tmp_path, "box", Format.CSV) == []
    (tmp_path / "tables").mkdir()
    (tmp_path / "box.pdf").touch()
    (tmp_path / "other.md").touch()
    assert set(formats_in(tmp_path, "box")) == {Format.JSON, Format.PDF, Format.CSV}
    assert formats_in(tmp_path / "gone", "box") == ()


def test_a_summary_says_what_failed_and_why() -> None:
    summary = Summary.of(Pages(lambda: iter(PAGES)))
    assert (summary.read, summary.failed, summary.reason().code) == (1, (2,), "timeout")


def test_content_decides_the_type_and_the_hash_is_of_all_bytes(tmp_path: Path) -> None:
    path = tmp_path / "letter.jpg"
    path.write_bytes(b"%PDF-1.7\n" + b"x" * 300_000 + b"\n%%EOF\n")
    content = identify_file(path, 1 << 20)
    assert (content.type, content.size) == ("application/pdf", 300_016)
    with pytest.raises(TooLarge):
        identify_file(path, 1000)
    path.write_bytes(b"MZ" * 500)
    with pytest.raises(Unsupported):
        identify_file(path, 1 << 20)
