"""Is anything printed on the page? Decided from its pixels, before any model can invent text for it.

Three answers, because a wrong "blank" loses a page and a wrong "printed" only costs a reading: `blank` is said only
when nothing but paper, dust, scanner edges and punch holes is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inkstick.document import Box
from inkstick.pages.view import Ink

SIDE = 1000
"""Longest side of the copy that is looked at: a line of 6 point text on A4 is still 4 pixels high there."""
EDGE = 0.012
"""Marks this near to the border (share of the longest side) are the scanner's."""
MAX_MARKS = 20_001
DOZENS = 40
Grey = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Marks:
    """Connected marks on the page: `glyphs` could be letters, `specks` are smaller; `fraction` is the glyphs' area."""

    glyphs: int
    specks: int
    fraction: float


def ink(rgb: NDArray[np.uint8]) -> Ink:
    """The answer for an image of shape (height, width, 3). A long strip is looked at piece by piece."""
    found = {_ink_of(piece) for piece in _pieces(rgb)}
    return next((answer for answer in (Ink.PRINTED, Ink.UNSURE) if answer in found), Ink.BLANK)


def _pieces(rgb: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Overlapping pieces of about the shape of a sheet; the whole image if it has that shape."""
    height, width = rgb.shape[:2]
    ratio = max(height, width) / min(height, width)
    if ratio <= 2:
        return [rgb]
    if width > height:
        return [np.ascontiguousarray(piece.transpose(1, 0, 2)) for piece in _pieces(rgb.transpose(1, 0, 2))]
    length, count = round(1.5 * width), int(np.ceil(ratio / 1.3))
    starts = np.linspace(0, height - length, count).round().astype(int)
    return [np.ascontiguousarray(rgb[start : start + length]) for start in starts]


def _ink_of(rgb: NDArray[np.uint8]) -> Ink:
    grey = shrink(rgb)
    if _median(grey) < 100:  # white on black: look at the negative
        grey = 255 - grey
    if _obvious(grey):
        return Ink.PRINTED
    marks = find_marks(grey)
    if marks.glyphs >= 4 and marks.fraction > 0.0004:
        return Ink.PRINTED
    if marks.glyphs or marks.specks > 60 or faint(grey):
        return Ink.UNSURE
    return Ink.BLANK


def _obvious(grey: Grey) -> bool:
    """Dozens of dark marks of the size of letters: most pages are decided here, in a few milliseconds."""
    return len(_letters(grey)) >= DOZENS


def _letters(grey: Grey) -> NDArray[np.float64]:
    """The middles (x, y) of dark marks of the size of letters."""
    mask = _u8((grey < max(0, _median(grey) - 60)).astype(np.uint8))
    found: Any = cv2.connectedComponentsWithStats(mask, connectivity=8)
    stats, middles = np.asarray(found[2])[1:], np.asarray(found[3], np.float64)[1:]
    side = stats[:, 2:4].max(axis=1)
    chosen: NDArray[np.float64] = middles[(side >= 4) & (side <= 60) & (stats[:, 4] >= 6)]
    return chosen


def mostly_outside(rgb: NDArray[np.uint8], boxes: Iterable[Box]) -> bool:
    """Dozens of marks of the size of letters stand outside of `boxes` (thousandths), and fewer inside."""
    grey = shrink(rgb)
    if _median(grey) < 100:
        grey = 255 - grey
    letters = _letters(grey)
    height, width = grey.shape
    covered = np.zeros((height + 1, width + 1), bool)
    for x0, y0, x1, y1 in boxes:
        covered[y0 * height // 1000 : y1 * height // 1000 + 2, x0 * width // 1000 : x1 * width // 1000 + 2] = True
    inside = int(covered[letters[:, 1].astype(int), letters[:, 0].astype(int)].sum())
    return len(letters) - inside >= max(DOZENS, inside + 1)


def shrink(rgb: NDArray[np.uint8], side: int = SIDE) -> Grey:
    """A grey copy with its longest side at most `side`."""
    grey = _u8(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    height, width = grey.shape
    factor = side / max(height, width)
    if factor >= 1:
        return grey
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return _u8(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))


def _median(grey: Grey) -> int:
    """By counting, which is ten times faster than sorting."""
    counts = np.bincount(grey.ravel(), minlength=256).cumsum()
    return int(np.searchsorted(counts, counts[-1] / 2))


def find_marks(grey: Grey) -> Marks:
    """Marks darker than the paper around them."""
    lift = _lift(grey, 31)
    noise = _noise(lift)
    mask = _u8((lift > max(22.0, 6.0 * noise)).astype(np.uint8))
    glyphs, specks, area = 0, 0, 0
    for x, y, w, h, pixels in _components(mask):
        if _is_hole(x, y, w, h, grey.shape):
            continue
        if max(w, h) >= 4 and pixels >= 6:
            glyphs, area = glyphs + 1, area + pixels
        elif pixels >= 2:
            specks += 1
    return Marks(glyphs, specks, area / grey.size)


def faint(grey: Grey) -> bool:
    """A pale but large mark (a stamp, a pencil line): visible once the noise is averaged away."""
    small = _u8(cv2.resize(grey, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA))
    lift = _lift(small, 25)
    mask = _u8((lift > max(5.0, 6.0 * _noise(lift))).astype(np.uint8))
    marks = [box for box in _components(mask) if not _is_hole(*box[:4], small.shape)]
    return sum(box[4] for box in marks if max(box[2], box[3]) >= 4) >= 8


def _lift(grey: Grey, size: int) -> NDArray[np.float32]:
    """How much darker each pixel is than the paper around it; slow changes of the paper vanish."""
    kernel = np.ones((size, size), np.uint8)
    paper = cv2.morphologyEx(cv2.medianBlur(grey, 3), cv2.MORPH_CLOSE, kernel)
    paper = cv2.blur(paper, (size, size))
    lift: NDArray[np.float32] = paper.astype(np.float32) - grey.astype(np.float32)
    return lift - np.float32(np.median(lift))


def _noise(lift: NDArray[np.float32]) -> float:
    """Standard deviation of the paper, not of what is printed on it: from the median of the absolute lift."""
    return float(np.median(np.abs(lift))) * 1.4826


def _components(mask: Grey) -> list[tuple[int, int, int, int, int]]:
    """Boxes (x, y, width, height, pixels) of connected marks, without the shadows along the border of a scan."""
    found: Any = cv2.connectedComponentsWithStats(mask, connectivity=8)
    labels, stats = found[1], found[2][:MAX_MARKS]
    rim = max(1, round(max(mask.shape) * EDGE))
    inner = _inside(labels, rim, len(stats))
    deep = _inside(labels, 3 * rim, len(stats))
    return [
        (int(x), int(y), int(w), int(h), int(pixels))
        for number, (x, y, w, h, pixels) in enumerate(stats)
        if number and inner[number] and not (_touches(x, y, w, h, mask.shape) and deep[number] < 0.05 * pixels)
    ]


def _inside(labels: NDArray[np.int32], rim: int, count: int) -> NDArray[np.int64]:
    """Pixels of each mark that lie further than `rim` from the border."""
    return np.bincount(labels[rim:-rim, rim:-rim].ravel(), minlength=count)


def _touches(x: int, y: int, w: int, h: int, shape: tuple[int, ...]) -> bool:
    return bool(x <= 1 or y <= 1 or x + w >= shape[1] - 1 or y + h >= shape[0] - 1)


def _is_hole(x: int, y: int, w: int, h: int, shape: tuple[int, ...]) -> bool:
    """A punch hole: round, filled or a ring, 5 to 8 mm across, near a side of the sheet."""
    height, width = shape[:2]
    longest = max(height, width)
    if not (0.012 <= w / longest <= 0.035 and 0.75 <= w / h <= 1.33):
        return False
    near = 0.09 * longest
    return x < near or y < near or x + w > width - near or y + h > height - near


def _u8(array: Any) -> Grey:
    return np.asarray(array, dtype=np.uint8)
