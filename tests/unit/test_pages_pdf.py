"""PDF pages in the parser itself: what of a page is its text, and what is not to be taken for blank paper."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from PIL import Image

from inkstick.pages.pdf import PdfFile
from inkstick.pages.sheet import RawView, view
from inkstick.pages.view import Budget, TextLayerMode

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


@pytest.mark.parametrize("with_photo", [False, True])
def test_a_written_page_is_its_text_also_with_a_photograph_on_it(tmp_path: Path, with_photo: bool) -> None:
    document = written(LINES)
    if with_photo:
        document[0].insert_image((60, 430, 535, 820), stream=photo())
    layer = seen(tmp_path / "a.pdf", document.tobytes()).layer
    assert layer is not None
    assert (layer.good, layer.born_digital) == (True, True)
