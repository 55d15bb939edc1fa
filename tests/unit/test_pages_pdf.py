"""PDF pages in the parser itself: what of a page is its text, and what is not to be taken for blank paper."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from PIL import Image

from corpora import hostile
from inkstick.document import Block, Flag, Kind, Line, Page, page_json
from inkstick.errors import Damaged, Unsupported
from inkstick.pages.pdf import PdfFile
from inkstick.pages.sheet import RawView, view
from inkstick.pages.view import Budget, Ink, TextLayerMode
from inkstick.results.pdf import add_text_layer

LINES = [
    "The committee met on Tuesday to consider the report of the auditors.",
    "It was agreed that the accounts for the year were complete and correct.",
    "Members thanked the treasurer for her patience with the missing receipts.",
] * 8
CAPTION = "Exhibit 12: letter of the treasurer to the committee, received on 3 May 2024, page 1 of 1"


def written(lines: list[str]) -> pymupdf.Document:
    document = pymupdf.open()
    page = document.new_page()
    for n, line in enumerate(lines):
        page.insert_text((72, 60 + 24 * n), line, fontsize=12)
    return document


def picture_of(document: pymupdf.Document) -> bytes:
    return bytes(document[0].get_pixmap(dpi=150).tobytes("png"))


def photo() -> bytes:
    random = np.random.default_rng(1)
    coarse = Image.fromarray(random.integers(0, 255, (60, 60, 3), np.uint8)).resize(
        (600, 600), Image.Resampling.BICUBIC
    )
    grainy = np.clip(np.asarray(coarse) + random.normal(0, 12, (600, 600, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(grainy).save(out, "PNG")
    return out.getvalue()


@contextmanager
def opened(path: Path, data: bytes) -> Iterator[PdfFile]:
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    document = PdfFile(fd)
    try:
        yield document
    finally:
        document.close()
        os.close(fd)


def seen(path: Path, data: bytes, number: int = 1) -> RawView:
    with opened(path, data) as document:
        return view(document.sheet(number), Budget(), TextLayerMode.AUTO, False, lambda rgb: 0)


def test_a_caption_over_a_scanned_letter_is_not_the_pages_text(tmp_path: Path) -> None:
    document = written([CAPTION])
    document[0].insert_image((60, 80, 535, 800), stream=picture_of(written(LINES)))
    layer = seen(tmp_path / "a.pdf", document.tobytes()).layer
    assert layer is not None
    assert (layer.good, layer.born_digital, layer.reason) == (False, False, "partial")


@pytest.mark.parametrize("turn", (0, 90))
def test_a_raised_figure_is_not_read_into_the_number_beside_it(tmp_path: Path, turn: int) -> None:
    document = written(LINES[:3])
    page, at = document[0], 200.0
    for n, (base, figure, size, lift) in enumerate(
        (
            ("1,250", "2", 6, 4),
            ("10", "-3", 7, 4),
            ("12", "99", 12, 2),
            ("CO", "2", 7, -2),
            ("10", "6", 10, 3),
            ("1,250", "3", 6, 0),
        )
    ):
        page.insert_text((at, 150 + 20 * n), base, fontsize=12)
        after = at + pymupdf.get_text_length(base, fontsize=12)
        page.insert_text((after, 150 + 20 * n - lift), figure, fontsize=size)
    page.insert_text((at, 300 - 4), "1", fontsize=6)
    page.insert_text((at + pymupdf.get_text_length("1", fontsize=6), 300), "2024", fontsize=12)
    page.set_rotation(turn)
    layer = seen(tmp_path / "a.pdf", document.tobytes()).layer
    assert layer is not None
    words = [word.text for word in layer.words][-7:]
    assert words == ["1,250²", "10⁻³", "1299", "CO2", "10⁶", "1,2503", "¹2024"]


def test_the_text_has_letters_where_shapes_of_letters_are_printed(tmp_path: Path) -> None:
    document = written(LINES[:3])
    document[0].insert_htmlbox((72, 300, 500, 400), "the o\ufb03cial \ufb01nancial \ufefb \ufead 5 \u00bd \u2460")
    layer = seen(tmp_path / "a.pdf", document.tobytes()).layer
    assert layer is not None
    words = [word.text for word in layer.words if word.box[1] > 300]
    assert words == ["the", "official", "financial", "\u0644\u0627", "\u0631", "5", "½", "①"]


def test_print_that_is_doubled_to_look_bold_stands_once(tmp_path: Path) -> None:
    document = written(LINES[:3])
    for shift in (0, 0.3, 0.6):
        document[0].insert_text((72 + shift, 300), "Total 1,234.56", fontsize=12)
    document[0].insert_text((72, 316), "Total 1,234.56 1,234.56", fontsize=12)
    layer = seen(tmp_path / "a.pdf", document.tobytes()).layer
    assert layer is not None
    words = [word.text for word in layer.words if word.box[1] > 300]
    assert words == ["Total", "1,234.56", "Total", "1,234.56", "1,234.56"]


@pytest.mark.parametrize("with_photo", [False, True])
def test_a_written_page_is_its_text_also_with_a_photograph_on_it(tmp_path: Path, with_photo: bool) -> None:
    document = written(LINES)
    if with_photo:
        document[0].insert_image((60, 430, 535, 820), stream=photo())
    layer = seen(tmp_path / "a.pdf", document.tobytes()).layer
    assert layer is not None
    assert (layer.good, layer.born_digital) == (True, True)


def spoilt(document: pymupdf.Document, begin: float, filler: bytes = b"\0") -> bytes:
    """The document with its longest stream made nothing of from `begin` (its share) on."""
    data = bytes(document.tobytes(deflate=True))
    longest = max(re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", data, re.S), key=lambda found: len(found[1]))
    start, end = longest.span(1)
    start += int((end - start) * begin)
    return data[:start] + filler * (end - start) + data[end:]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_scan_whose_data_is_damaged_is_not_called_blank_paper(tmp_path: Path, kind: str) -> None:
    scan = io.BytesIO()
    Image.open(io.BytesIO(picture_of(written(LINES)))).save(scan, kind)
    document = pymupdf.open()
    document.new_page().insert_image(document[0].rect, stream=scan.getvalue())
    with pytest.raises(Damaged):
        seen(tmp_path / "a.pdf", spoilt(document, 0))
    page = seen(tmp_path / "b.pdf", spoilt(document, 0.5))
    assert page.ink is Ink.PRINTED
    assert Flag.SUSPECT in page.flags
    assert Flag.SUSPECT not in seen(tmp_path / "c.pdf", document.tobytes()).flags


def test_a_page_that_the_file_does_not_have_is_not_called_blank_paper(tmp_path: Path) -> None:
    document = written(LINES)
    document.new_page()
    data = bytes(document.tobytes())
    assert seen(tmp_path / "a.pdf", data, 2).ink is Ink.BLANK
    lost = re.sub(
        rb"(?<=\n)%d 0 obj\n.*?endobj" % document[1].xref, lambda found: b" " * len(found[0]), data, flags=re.S
    )
    with pytest.raises(Damaged):
        seen(tmp_path / "b.pdf", lost, 2)


def tree(kids: bytes, count: int) -> bytes:
    """One page, and a page tree with these `kids`."""
    return hostile.pdf({
        1: b"<</Type /Catalog /Pages 2 0 R>>",
        2: b"<</Type /Pages /Kids [%s] /Count %d>>" % (kids, count),
        3: b"<</Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources <</Font <</F 5 0 R>>>>>>",
        4: hostile.HELLO,
        5: b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
    })  # fmt: skip


@pytest.mark.parametrize(
    ("kids", "count", "bad"),
    [
        (b"3 0 R 9 0 R 3 0 R", 3, [2]),  # not in the file
        (b"3 0 R null 3 0 R", 3, [2]),
        (b"3 0 R 5 0 R 3 0 R", 3, [2]),  # a font
        (b"3 0 R 3 0 R", 3, [3]),  # more are stated than there are
        (b"3 0 R 3 0 R 9 0 R", 3, [3]),
    ],
)
def test_a_page_that_is_stated_and_not_there_costs_no_other_and_is_told(
    tmp_path: Path, kids: bytes, count: int, bad: list[int]
) -> None:
    with opened(tmp_path / "a.pdf", tree(kids, count)) as document:
        assert document.pages == count
        for number in range(1, count + 1):
            wrong = pytest.raises(Damaged) if number in bad else nullcontext()
            with wrong:
                page = view(document.sheet(number), Budget(), TextLayerMode.AUTO, False, lambda rgb: 0)
                assert page.ink is not Ink.BLANK


@pytest.mark.parametrize("nested", (False, True))
def test_pages_that_are_there_and_not_counted_are_read_and_copied(tmp_path: Path, nested: bool) -> None:
    path, lines = tmp_path / "a.pdf", tmp_path / "a.jsonl"
    data = tree(b"3 0 R 3 0 R 3 0 R", 1)
    if nested:
        data = tree(b"3 0 R <</Type /Pages /Parent 2 0 R /Kids [3 0 R 3 0 R] /Count 1>>", 2)
    with opened(path, data) as document:
        assert (document.pages, document.warnings) == (3, ())
        assert view(document.sheet(3), Budget(), TextLayerMode.AUTO, False, lambda rgb: 0).ink is not Ink.BLANK
    lines.write_text("")
    add_text_layer(path, "application/pdf", lines, tmp_path / "b.pdf")
    assert [page.get_text() for page in pymupdf.open(tmp_path / "b.pdf")] == [pymupdf.open(path)[0].get_text()] * 3


@pytest.mark.parametrize(
    ("files", "portfolio", "told"),
    [
        (["letter.pdf", "figures.XLSX"], True, 2),
        (["Exhibit A.PDF", "factur-x.xml"], False, 1),
        (["factur-x.xml"], False, 0),
        ([], True, 0),
    ],
)
def test_documents_inside_a_pdf_are_not_passed_over_in_silence(
    tmp_path: Path, files: list[str], portfolio: bool, told: int
) -> None:
    document, path, lines = written(LINES), tmp_path / "a.pdf", tmp_path / "a.jsonl"
    for name in files:
        document.embfile_add(name, written([CAPTION]).tobytes(), filename=name)
    if portfolio:
        document.xref_set_key(document.pdf_catalog(), "Collection", "<</Type /Collection>>")
    lines.write_text("")
    with opened(path, document.tobytes()) as pdf:
        assert pdf.pages == 1 + (told > 0)
        assert view(pdf.sheet(1), Budget(), TextLayerMode.AUTO, False, lambda rgb: 0).ink is Ink.PRINTED
        if told:
            with pytest.raises(Unsupported, match=f"were not read: {told}") as error:
                pdf.sheet(2)
            assert "Save them" in error.value.hint
    add_text_layer(path, "application/pdf", lines, tmp_path / "b.pdf")
    assert pymupdf.open(tmp_path / "b.pdf").page_count == 1


def test_a_page_tree_that_bites_its_tail_is_counted_once(tmp_path: Path) -> None:
    with opened(tmp_path / "a.pdf", tree(b"3 0 R 2 0 R 3 0 R", 1)) as document:
        assert 1 <= document.pages <= 3


@pytest.mark.parametrize(
    "says", [b"Please wait...", b"Bitte warten. Wenn diese Meldung nicht ersetzt wird, fehlt etwas."]
)
def test_a_form_that_only_another_program_shows_is_known_in_any_language(tmp_path: Path, says: bytes) -> None:
    stub = hostile.xfa_stub().replace(b"/AcroForm", b"/NeedsRendering true /AcroForm")
    stub = stub.replace(b"Please wait... your viewer cannot show this", says)
    with opened(tmp_path / "a.pdf", stub) as document:
        assert document.warnings == ("xfa",)


def test_a_scan_of_a_form_is_read_though_the_form_is_still_named_in_it(tmp_path: Path) -> None:
    scan = hostile.xfa_stub().replace(b"Please wait... your viewer cannot show this", b"")
    with opened(tmp_path / "a.pdf", scan) as document:
        assert document.warnings == ()


def test_a_crop_beside_the_paper_hides_nothing(tmp_path: Path) -> None:
    source, out, jsonl = (tmp_path / name for name in ("a.pdf", "out.pdf", "pages.jsonl"))
    lost = tree(b"3 0 R", 1).replace(b"/MediaBox", b"/CropBox [2000 2000 2500 2500] /MediaBox")
    assert seen(source, lost).ink is not Ink.BLANK
    line = Line("Ordinary words", (100, 100, 500, 120))
    page = Page(1, 1000, 1414, "vllm", blocks=(Block(1, Kind.PARAGRAPH, line.text, line.box, lines=(line,)),))
    jsonl.write_text(json.dumps(page_json(page)) + "\n")
    add_text_layer(source, "application/pdf", jsonl, out)
    with pymupdf.open(out) as copy:
        (found,) = copy[0].search_for(line.text)
        assert found.x0 == pytest.approx(59.5, abs=2)
        assert "ordinary world" in copy[0].get_text()
