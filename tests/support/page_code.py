"""Pages that carry their own number as a visible strip, so that a reader of pixels can tell which page it was given.

A strip is a row of black and white cells: two guard cells, 24 bits of the number, 8 bits of checksum, two guard
cells. It survives rendering, scaling and JPEG. Each page has one near its top and one below its middle, so that
each half has one.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from inkstick.pages.view import Pixels

Grey = npt.NDArray[np.uint8]
LEFT, RIGHT = 0.1, 0.9
HEIGHT = 0.012
TOPS = (0.012, 0.52)
GUARD_HEAD, GUARD_TAIL = (1, 0), (0, 1)
CELLS = len(GUARD_HEAD) + 24 + 8 + len(GUARD_TAIL)


def _bits(code: int) -> list[int]:
    check = (code * 181 + 90) % 251
    word = (code << 8) | check
    return [*GUARD_HEAD, *((word >> shift) & 1 for shift in range(31, -1, -1)), *GUARD_TAIL]


def stamp(page: npt.NDArray[np.uint8], code: int) -> None:
    """Draw the strips of `code` (0 to 2**24 - 1) onto `page` (height, width[, channels])."""
    height, width = page.shape[:2]
    edges = [round(width * (LEFT + (RIGHT - LEFT) * i / CELLS)) for i in range(CELLS + 1)]
    for top in TOPS:
        y0, y1 = round(height * (top - 0.004)), round(height * (top + HEIGHT + 0.004))
        page[y0:y1] = 255
        y0, y1 = round(height * top), round(height * (top + HEIGHT))
        for bit, x0, x1 in zip(_bits(code), edges, edges[1:], strict=False):
            page[y0:y1, x0:x1] = 0 if bit else 255


def look(page: Grey) -> int | None:
    """The number on a grey page or tile of full width; None if there is no whole strip."""
    height, width = page.shape[:2]
    centres = [round(width * (LEFT + (RIGHT - LEFT) * (i + 0.5) / CELLS)) for i in range(CELLS)]
    rows = page[:, centres] < 128
    for row in rows[:: max(1, height // 400)]:
        code = _decode(row)
        if code is not None:
            return code
    return None


def _decode(row: npt.NDArray[np.bool_]) -> int | None:
    if not (row[0] and not row[1] and not row[-2] and row[-1]):
        return None
    word = 0
    for bit in row[2:-2]:
        word = word << 1 | int(bit)
    code = word >> 8
    return code if (code * 181 + 90) % 251 == word & 255 else None


def look_encoded(data: bytes) -> int | None:
    """The number on a PNG or JPEG page."""
    page = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return None if page is None else look(np.asarray(page, np.uint8))


def draw(
    code: int, *, width: int = 600, height: int = 848, lines: int = 24, photo: bool = False
) -> npt.NDArray[np.uint8]:
    """An RGB page with `lines` lines of print and the strips of `code`; `photo` adds half-tones."""
    page = np.full((height, width, 3), 255, np.uint8)
    if photo:
        noise = np.random.default_rng(code).normal(128, 40, (height // 2, width, 3))
        page[height // 2 :] = np.clip(noise, 0, 255).astype(np.uint8)
    step = max(12, (height * 9 // 10) // max(1, lines))
    for n in range(lines):
        place = (width // 12, height // 12 + n * step)
        cv2.putText(page, f"line {n} of page {code}", place, cv2.FONT_HERSHEY_SIMPLEX, step / 40, (0, 0, 0), 1)
    stamp(page, code)
    return page


def pixels(page: npt.NDArray[np.uint8]) -> Pixels:
    height, width = page.shape[:2]
    return Pixels(width, height, page.tobytes())
