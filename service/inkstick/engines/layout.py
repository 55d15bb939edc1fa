"""What each part of a page is: PyMuPDF's layout model, given a scanned image and the lines read on it.

The model wants a PDF page. One is made in memory: the image, shrunk, with the lines as invisible text over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort

from inkstick.engines.ocr_lines import Image, TextLine, session_options

PAGE_SIDE = 842.0
"""Points on the longer side of the page that the model sees: A4, which it was trained on."""


@dataclass(frozen=True, slots=True)
class Region:
    """One part of the page.

    `kind` is the model's word: text title picture table list-item page-header page-footer section-header footnote
    caption formula. `box` in pixels. `lines`: which lines lie in it. `rows`, `columns`: for a table, where its inner
    borders run, in pixels of the page.
    """

    kind: str
    box: tuple[float, float, float, float]
    lines: tuple[int, ...] = ()
    rows: tuple[float, ...] = ()
    columns: tuple[float, ...] = ()


class LayoutModel:
    """PyMuPDF's layout model, loaded. One page at a time."""

    def __init__(self, threads: int = 1) -> None:
        self._pymupdf = _load_pymupdf(threads)
        self._font = self._pymupdf.Font("cjk")

    def regions(self, image: Image, lines: Sequence[TextLine]) -> list[Region]:
        """The parts of an image, ``(height, width, 3)`` BGR, in no particular order. A line lies in at most one."""
        height, width = image.shape[:2]
        scale = PAGE_SIDE / max(height, width)
        document, page = self._page(image, lines, scale)
        try:
            page.get_layout(return_raw=True, do_sort=False)
            groups: list[dict[str, Any]] = page.layout_information or []
        finally:
            document.close()
        owners = _owners(lines, groups, scale)
        return [_region(group, owners.get(index, ()), scale) for index, group in enumerate(groups)]

    def _page(self, image: Image, lines: Sequence[TextLine], scale: float) -> tuple[Any, Any]:
        mupdf = self._pymupdf
        height, width = image.shape[:2]
        document = mupdf.open()
        page = document.new_page(width=max(1.0, width * scale), height=max(1.0, height * scale))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        page.insert_image(page.rect, pixmap=mupdf.Pixmap(mupdf.csRGB, size[0], size[1], small.tobytes(), False))
        for line in lines:
            self._write(page, line, scale)
        return document, page

    def _write(self, page: Any, line: TextLine, scale: float) -> None:
        """The line's text, invisible, as wide and as high as it is printed."""
        x0, y0, x1, y1 = (value * scale for value in line.box)
        size = max(1.0, (y1 - y0) * 0.8)
        text = line.text.strip()
        wide = self._font.text_length(text, size)
        if not text or wide <= 0 or x1 - x0 < 1:
            return
        writer = self._pymupdf.TextWriter(page.rect)
        writer.append((x0, y1 - size * 0.2), text, font=self._font, fontsize=size)
        stretch = self._pymupdf.Matrix((x1 - x0) / wide, 1)
        writer.write_text(page, render_mode=3, morph=(self._pymupdf.Point(x0, y1), stretch))


def _load_pymupdf(threads: int) -> Any:
    """PyMuPDF loads its networks when it is imported, each with a thread per core. Here they get `threads`."""
    original = ort.SessionOptions
    options = session_options(threads)
    ort.SessionOptions = lambda: options
    try:
        import pymupdf
    finally:
        ort.SessionOptions = original
    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    return pymupdf


def _owners(lines: Sequence[TextLine], groups: Sequence[dict[str, Any]], scale: float) -> dict[int, tuple[int, ...]]:
    """Which group each line belongs to: the one whose pieces of text cover most of it."""
    owned: dict[int, list[int]] = {}
    pieces = [
        (group, np.asarray(found["bboxes"], np.float64).reshape(-1, 4) / scale) for group, found in enumerate(groups)
    ]
    for index, line in enumerate(lines):
        cover = [(_covered(line.box, boxes), group) for group, boxes in pieces]
        best, group = max(cover, default=(0.0, -1))
        if best > 0:
            owned.setdefault(group, []).append(index)
    return {group: tuple(found) for group, found in owned.items()}


def _covered(box: tuple[float, float, float, float], boxes: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Area of `box` under `boxes`, in square pixels."""
    if len(boxes) == 0:
        return 0.0
    wide = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    high = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    return float((np.clip(wide, 0, None) * np.clip(high, 0, None)).sum())


def _region(group: dict[str, Any], lines: tuple[int, ...], scale: float) -> Region:
    x0, y0, x1, y1 = (float(value) / scale for value in group["group_bbox"][:4])
    grid = group.get("table_grid")
    rows = tuple(y0 + float(y) / scale for y in grid.h_lines) if grid else ()
    columns = tuple(x0 + float(x) / scale for x in grid.v_lines) if grid else ()
    return Region(str(group["class_name"]), (x0, y0, x1, y1), lines, rows, columns)
