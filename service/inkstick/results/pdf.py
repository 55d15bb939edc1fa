"""The searchable PDF: the original page as it looks, and its text, invisible, where it is printed.

Runs inside the sandboxed worker, on ``/proc/self/fd/N`` paths. The original is never changed; a signature on it does
not hold for the copy. Pages whose own text was taken (`text_layer`) get none added. On a page that was read again, an
older invisible layer is taken out first, and lines that the page already prints as text are left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from inkstick.document import Flag, Page, page_from_json
from inkstick.errors import Damaged, DiskFull, Empty, Encrypted, no_room
from inkstick.results.glyphless import DESCENT, FONT_OBJECTS, Encoder, font_objects, natural_width
from inkstick.results.imagepdf import ImagePdf, pictures
from inkstick.results.placement import Affine, Placed, page_affine, place
from inkstick.results.scrub import scrub

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before pymupdf is imported: see facts in docs/security.md

FONT_NAME = "InkstickText"


def add_text_layer(
    source_path: str | os.PathLike[str],
    media_type: str,
    pages_jsonl_path: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    passwords: Sequence[str] = (),
) -> None:
    """Write a searchable copy of the document at `source_path` to `out_path`.

    `pages_jsonl_path` has one `page_json` a line, numbered from 1 within this file, ascending; pages without a record
    stay as they are. Bytes depend on the input alone. Raises Encrypted, Damaged, Empty, TooLarge
    or DiskFull."""
    records = _records(Path(pages_jsonl_path))
    try:
        with Path(out_path).open("wb") as out:
            if media_type == "application/pdf":
                _pdf(Path(source_path), records, out, passwords)
            else:
                _images(Path(source_path), media_type, records, out)
    except OSError as error:
        if no_room(error):
            raise DiskFull from error
        raise


def text_operators(page: Page, affine: Affine, encoder: Encoder) -> bytes:
    """Content stream operators for the page's text, in reading order; empty where there is none."""
    return _operators(place(page), affine, encoder)


def _operators(lines: Sequence[Placed], affine: Affine, encoder: Encoder) -> bytes:
    shown = [_show(line, affine, encoder) for line in lines]
    shown = [item for item in shown if item]
    if not shown:
        return b""
    return "\n".join(["q BT 3 Tr", *shown, "ET Q\n"]).encode("ascii")


def _show(line: Placed, affine: Affine, encoder: Encoder) -> str:
    """One line, its font size from the height of its box, stretched to the box's width."""
    u0, v0, u1, v1 = (value / 1000 for value in line.box)
    rise = -DESCENT / 1000
    if line.down:  # the baseline runs down the page, and up on the letter is to the right
        start = affine(u0 + rise * (u1 - u0), v0)
        along = _minus(affine(u0, v1), affine(u0, v0))
        up = _minus(affine(u1, v0), affine(u0, v0))
    else:
        start = affine(u0, v1 - rise * (v1 - v0))
        along = _minus(affine(u1, v0), affine(u0, v0))
        up = _minus(affine(u0, v0), affine(u0, v1))
    length, size = _norm(along), _norm(up)
    width = natural_width(line.text) * size
    if not (length > 0 and size > 0 and width > 0):
        return ""
    direction = (along[0] / length, along[1] / length, up[0] / size, up[1] / size)
    matrix = " ".join(_number(value) for value in (*direction, *start))
    text = line.text + (" " if line.glued else "")
    stretch = _number(100 * length / width)
    return f"/{FONT_NAME} {_number(size)} Tf {stretch} Tz {matrix} Tm <{encoder.encode(text)}> Tj"


def _minus(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return (a[0] - b[0], a[1] - b[1])


def _norm(vector: tuple[float, float]) -> float:
    return float((vector[0] ** 2 + vector[1] ** 2) ** 0.5)


def _number(value: float) -> str:
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


class _Records:
    """The page records in step with the pages, one held at a time."""

    def __init__(self, pages: Iterator[Page]) -> None:
        self._pages = pages
        self._held: Page | None = next(pages, None)

    def of(self, number: int) -> Page | None:
        while self._held is not None and self._held.number < number:
            self._held = next(self._pages, None)
        return self._held if self._held is not None and self._held.number == number else None


def _records(path: Path) -> _Records:
    def read() -> Iterator[Page]:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    yield page_from_json(json.loads(line))

    return _Records(read())


def _needs_text(page: Page | None) -> bool:
    own = page is None or page.engine == "textlayer" or Flag.TEXT_LAYER in page.flags
    return not own and page is not None and bool(page.blocks)


def _images(source: Path, media_type: str, records: _Records, out: BinaryIO) -> None:
    writer = ImagePdf(out)
    number = 0
    for number, picture in enumerate(pictures(source, media_type), 1):
        page = records.of(number)
        text = b""
        if page is not None and page.blocks:
            text = text_operators(page, picture.affine(page.rotation), writer.encoder)
        writer.page(picture, text)
    if not number:
        raise Empty
    writer.finish()


def _pdf(source: Path, records: _Records, out: BinaryIO, passwords: Sequence[str]) -> None:
    import pymupdf

    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    with _open(pymupdf, source, passwords) as document:
        sink = _Sink(out)
        try:
            _write_layer(pymupdf, document, records, sink)
        except (RuntimeError, ValueError, pymupdf.mupdf.FzErrorBase) as error:
            if sink.error is not None:
                raise sink.error from error
            raise Damaged(f"the PDF cannot be copied: {error}") from error


def _write_layer(pymupdf: Any, document: Any, records: _Records, sink: _Sink) -> None:
    scrub(document)
    layer = _Layer(pymupdf, document)
    for index in range(document.page_count):
        page = records.of(index + 1)
        if page is not None and _needs_text(page):
            layer.add(index, page)
    layer.finish()
    document.save(sink, garbage=1, deflate=False, encryption=pymupdf.PDF_ENCRYPT_NONE, no_new_id=True)


class _Sink:
    """An open file without its name: PyMuPDF would remove the file of that name first and make it anew.

    `error` is why writing failed: on its way through MuPDF an exception loses its type."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.truncate = file.seek, file.tell, file.truncate
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise


def _open(pymupdf: Any, source: Path, passwords: Sequence[str]) -> Any:
    from inkstick.pages.pdf import count_all  # late, as all that loads PyMuPDF

    try:
        document = pymupdf.open(str(source), filetype="pdf")
    except (pymupdf.FileDataError, RuntimeError, ValueError) as error:
        raise Damaged(f"the PDF cannot be opened: {error}") from error
    if document.needs_pass and not any(document.authenticate(password) for password in passwords):
        document.close()
        raise Encrypted.despite(passwords)
    count_all(document)
    if document.page_count == 0:
        document.close()
        raise Empty
    return document


class _Layer:
    """Adds invisible text to the pages of an open PDF; the font is shared by all of them."""

    def __init__(self, pymupdf: Any, document: Any) -> None:
        from inkstick.pages.pdf import in_its_paper, to_display  # late, as all that loads PyMuPDF

        self._mu = pymupdf
        self._to_display, self._in_its_paper = to_display, in_its_paper
        self._document = document
        self._encoder = Encoder()
        self._font: int | None = None
        self._done: set[int] = set()

    def add(self, index: int, record: Page) -> None:
        """Add the record's text to a page. One page object that stands in several places gets it once."""
        page = self._in_its_paper(self._document[index])
        if page.xref in self._done:
            return
        self._done.add(page.xref)
        printed = self._printed(page)
        lines = [line for line in place(record) if not self._is_printed(line, printed, page, record.rotation)]
        operators = _operators(lines, self._affine(page, record.rotation), self._encoder)
        if not operators:
            return
        stream = self._document.get_new_xref()
        self._document.update_object(stream, "<<>>")
        self._document.update_stream(stream, operators, compress=True)
        # First, because the page's own operators may leave any graphics state behind them. Not by xref_set_key: it
        # makes MuPDF count all pages anew
        mupdf, pdf = self._mu.mupdf, self._mu._as_pdf_document(self._document)
        contents = mupdf.pdf_new_array(pdf, 2)
        for xref in (stream, *page.get_contents()):
            mupdf.pdf_array_push(contents, mupdf.pdf_new_indirect(pdf, xref, 0))
        mupdf.pdf_dict_put(self._mu._as_pdf_page(page).obj(), self._mu.PDF_NAME("Contents"), contents)
        self._add_font(page)

    def finish(self) -> None:
        """Write the font, now that every character is known."""
        if self._font is None:
            return
        for number, dictionary, data in font_objects(self._encoder, self._font):
            self._document.update_object(number, dictionary)
            if data is not None:
                self._document.update_stream(number, data, compress=True)

    def _add_font(self, page: Any) -> None:
        mupdf = self._mu.mupdf
        if self._font is None:
            numbers = [self._document.get_new_xref() for _ in range(FONT_OBJECTS)]
            assert numbers == list(range(numbers[0], numbers[0] + FONT_OBJECTS))
            for number in numbers:
                self._document.update_object(number, "<<>>")
            self._font = numbers[0]
        pdf = self._mu._as_pdf_document(self._document)
        node = self._mu._as_pdf_page(page).obj()
        resources = mupdf.pdf_dict_get_inheritable(node, self._mu.PDF_NAME("Resources"))
        if not mupdf.pdf_is_dict(resources):
            resources = mupdf.pdf_dict_put_dict(node, self._mu.PDF_NAME("Resources"), 1)
        fonts = mupdf.pdf_dict_get(resources, self._mu.PDF_NAME("Font"))
        if not mupdf.pdf_is_dict(fonts):
            fonts = mupdf.pdf_dict_put_dict(resources, self._mu.PDF_NAME("Font"), 1)
        mupdf.pdf_dict_puts(fonts, FONT_NAME, mupdf.pdf_new_indirect(pdf, self._font, 0))

    def _affine(self, page: Any, rotation: int) -> Affine:
        """By way of MuPDF's own page matrix, so that CropBox, /Rotate and UserUnit are what they were when the page
        was rendered."""
        box, matrix = self._mu.mupdf.FzRect(), self._mu.mupdf.FzMatrix()
        self._mu.mupdf.pdf_page_transform(self._mu._as_pdf_page(page), box, matrix)
        inverse = ~self._mu.Matrix(matrix)
        area = page.rect
        corner, right, bottom = (self._mu.Point(p) * inverse for p in (area.tl, area.tr, area.bl))
        return page_affine(rotation, tuple(corner), tuple(right), tuple(bottom))

    def _printed(self, page: Any) -> list[tuple[Any, str]]:
        """The words that the page already has as text, after any invisible ones are gone."""
        if not page.get_fonts():
            return []
        if any(span["type"] == 3 for span in page.get_texttrace()):
            self._drop_invisible(page)
        return [(self._mu.Rect(word[:4]) * self._to_display(page), word[4]) for word in page.get_text("words")]

    def _drop_invisible(self, page: Any) -> None:
        mu = self._mu
        if page.first_link or any(True for _ in page.annots(types=[mu.PDF_ANNOT_REDACT])):
            return  # applying a redaction takes the links below it, or obeys marks that are not ours
        page.add_redact_annot(page.rect * ~self._to_display(page), fill=False, cross_out=False)
        page.apply_redactions(
            images=mu.PDF_REDACT_IMAGE_NONE,
            graphics=mu.PDF_REDACT_LINE_ART_NONE,
            text=mu.PDF_REDACT_TEXT_REMOVE_INVISIBLE,
        )

    def _is_printed(self, line: Placed, printed: list[tuple[Any, str]], page: Any, rotation: int) -> bool:
        if not printed:
            return False
        area = page.rect
        to_page = page_affine(rotation, tuple(area.tl), tuple(area.tr), tuple(area.bl))
        u0, v0, u1, v1 = (value / 1000 for value in line.box)
        box = self._mu.Rect(to_page(u0, v0), to_page(u0, v0)) | self._mu.Point(to_page(u1, v1))
        there = "".join(text for rect, text in printed if _middle(rect) in box)
        return _letters(line.text) in _letters(there) if _letters(line.text) else False


def _middle(rect: Any) -> Any:
    return (rect.tl + rect.br) * 0.5


def _letters(text: str) -> str:
    return "".join(char.casefold() for char in text if char.isalnum())
