"""Where a PDF's own words are said to stand, against where MuPDF draws them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pymupdf
import pytest

from inkstick.pages.pdf import PdfFile


@pytest.mark.parametrize("unit", [1, 2])
@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_word_is_where_its_ink_is_on_turned_cropped_and_scaled_pages(
    tmp_path: Path, turn: int, crop: bool, unit: int
) -> None:
    document = pymupdf.open()
    page = document.new_page(width=600, height=800)
    page.insert_text((300, 200), "HELLO", fontsize=40)
    if crop:
        page.set_cropbox(pymupdf.Rect(50, 100, 550, 700))
    page.set_rotation(turn)
    document.xref_set_key(page.xref, "UserUnit", str(unit))
    (tmp_path / "a.pdf").write_bytes(document.tobytes())
    fd = os.open(tmp_path / "a.pdf", os.O_RDONLY)
    try:
        sheet = PdfFile(fd).sheet(1)
        rgb, layer = sheet.render(0.5), sheet.layer()
    finally:
        os.close(fd)
    assert layer is not None
    (word,) = layer.words
    rows, columns = np.where(rgb[:, :, 0] < 128)
    height, width = rgb.shape[:2]
    ink = (columns.min() / width, rows.min() / height, columns.max() / width, rows.max() / height)
    assert word.text == "HELLO"
    assert all(abs(a - 1000 * b) < 30 for a, b in zip(word.box, ink, strict=True))
