from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from inkstick.document import Block, Header, Kind, Page, Part
from inkstick.errors import DiskFull, InkstickError, TooComplex
from inkstick.profile import Format
from inkstick.results import publish
from inkstick.results.publish import JsonlPages, build

TABLE = "<table><tr><td>1</td></tr></table>"
HEADER = Header("report.pdf", "ab" * 32, 5, "application/pdf")


def page(n: int, part: str | None = None) -> Page:
    blocks = (Block(1, Kind.PARAGRAPH, f"text of page {n}"), Block(2, Kind.TABLE, TABLE))
    return Page(n, 100, 100, "rapidocr", blocks=blocks, part=part)


class CopyMaker:
    """A real maker of a file in the place of the sandbox: the original's bytes, then the pages'."""

    def __init__(self, error: InkstickError | None = None) -> None:
        self.error = error
        self.seen: list[tuple[str, list[int]]] = []

    async def searchable_pdf(
        self, path: Path, media_type: str, pages_jsonl: Path, out: Path, *, passwords: Sequence[str] = ()
    ) -> None:
        out.write_bytes(path.read_bytes())
        self.seen.append((media_type, [page.number for page in JsonlPages(pages_jsonl)]))
        if self.error:
            raise self.error


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    (tmp_path / "original").write_bytes(b"%PDF")
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


async def test_a_document_gets_every_format_and_nothing_else(staging: Path) -> None:
    maker = CopyMaker()
    original = staging.parent / "original"
    notes = await build(staging, "report", HEADER, [page(1), page(2)], list(Format), original=original, pool=maker)
    assert notes == []
    assert files(staging) == [
        "report.alto.xml", "report.docx", "report.hocr.html", "report.json", "report.md", "report.pdf", "report.txt",
        "tables/page-001-table-01.csv", "tables/page-002-table-01.csv",
    ]  # fmt: skip
    assert maker.seen == [("application/pdf", [1, 2])]


async def test_only_the_wished_formats_are_written_and_always_the_record(staging: Path) -> None:
    await build(staging, "report", HEADER, [page(1)], [Format.TXT], original=None, pool=None)
    assert files(staging) == ["report.json", "report.txt"]


async def test_a_format_that_fails_does_not_cost_the_others(staging: Path) -> None:
    original = staging.parent / "original"
    maker = CopyMaker(TooComplex("a form in a form"))
    notes = await build(staging, "report", HEADER, [page(1)], [Format.PDF, Format.MD], original=original, pool=maker)
    assert notes == ["pdf was not written: a form in a form (too_complex)"]
    assert files(staging) == ["report.json", "report.md"]
    assert json.loads((staging / "report.json").read_text())["document"]["notes"] == notes


@pytest.mark.parametrize("error", [DiskFull(), OSError(28, "No space left on device")])
async def test_a_full_disk_is_nobodys_fault_and_stops_everything(staging: Path, error: Exception) -> None:
    maker = CopyMaker(error)  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        await build(staging, "r", HEADER, [page(1)], [Format.PDF], original=staging.parent / "original", pool=maker)


async def test_the_disk_is_asked_before_the_document_is_blamed(staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "_SPARE", 1 << 60)
    maker = CopyMaker(TooComplex("what a full disk looks like from the sandbox"))
    with pytest.raises(DiskFull):
        await build(staging, "r", HEADER, [page(1)], [Format.PDF], original=staging.parent / "original", pool=maker)


async def test_an_archive_has_a_folder_for_each_part_with_its_own_page_numbers(staging: Path) -> None:
    parts = (
        Part("letters/a.pdf", "application/pdf", 1, 2),
        Part("broken.pdf", "application/pdf", error={"code": "damaged", "message": "Broken.", "hint": ""}),
        Part("b.jpg", "image/jpeg", 3, 3),
        Part("body.txt", "text/plain", 4, 4),
    )
    header = Header("box.zip", "00" * 32, 9, "application/zip", parts=parts)
    names = {1: "letters/a.pdf", 2: "letters/a.pdf", 3: "b.jpg", 4: "body.txt"}
    pages = [page(n, names[n]) for n in (1, 2, 3, 4)]
    maker = CopyMaker()
    await build(
        staging, "box", header, pages, [Format.TXT, Format.PDF, Format.CSV],
        original=staging.parent / "original", pool=maker, part_original=lambda part: staging.parent / "original",
    )  # fmt: skip
    assert [name for name in files(staging) if "tables" not in name] == [
        "01 a/a.json", "01 a/a.pdf", "01 a/a.txt", "03 b/b.json", "03 b/b.pdf", "03 b/b.txt",
        "04 body/body.json", "04 body/body.txt", "box.json", "box.txt",
    ]  # fmt: skip
    assert maker.seen == [("application/pdf", [1, 2]), ("image/jpeg", [1])]
    own = json.loads((staging / "03 b/b.json").read_text())
    assert own["document"]["name"] == "b.jpg" and [p["number"] for p in own["pages"]] == [1]
    assert own["document"]["size"] == 4 and len(own["document"]["sha256"]) == 64
    assert (staging / "01 a/a.txt").read_text().count("\f") == 1
    assert "04 body" in files(staging)[-1] or (staging / "04 body/tables/page-001-table-01.csv").exists()
    assert len(json.loads((staging / "box.json").read_text())["pages"]) == 4


async def test_a_mail_with_a_single_document_is_like_that_document(staging: Path) -> None:
    header = replace(HEADER, name="m.eml", type="message/rfc822", parts=(Part("scan.pdf", "application/pdf", 1, 1),))
    maker = CopyMaker()
    original = staging.parent / "original"
    await build(
        staging, "m", header, [page(1, "scan.pdf")], [Format.PDF], original=None, pool=maker,
        part_original=lambda part: original,
    )  # fmt: skip
    assert files(staging) == ["m.json", "m.pdf"]
    assert maker.seen == [("application/pdf", [1])]


class Crowd:
    """Pages that can only be read to the end if the event loop turns meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __iter__(self) -> Iterator[Page]:
        for number in range(1, 4):
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(10)
            yield page(number)


async def test_the_event_loop_stays_free_while_files_are_written(staging: Path) -> None:
    formats = [Format.MD, Format.ALTO, Format.TXT, Format.DOCX]
    notes = await build(staging, "report", HEADER, Crowd(asyncio.get_running_loop()), formats, original=None, pool=None)
    assert notes == []
    assert (staging / "report.json").exists()


def test_the_service_does_not_load_the_pdf_library_by_writing_results() -> None:
    import subprocess
    import sys

    code = "import inkstick.results.publish, sys; sys.exit(any(m in sys.modules for m in ('pymupdf', 'docx', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
