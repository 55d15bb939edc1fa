"""A page as a picture for people: small, encoded, turned as it was read. Runs inside the sandbox."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from inkstick.pages.sheet import RGB, Sheet, turned

MAX_SIDE = 4000
MAX_WHOLE = 2000
"""Pixels of the longer side that a whole page is drawn to for a part of it: enough to read print by."""
QUALITY = 85


def preview(sheet: Sheet, max_side: int, rotation: int, box: Sequence[int] | None = None) -> bytes:
    """JPEG, or PNG where the page has few colours and PNG is sharper and smaller. At most `max_side` pixels a side.
    `box`: only that part of the turned page, in thousandths."""
    side = max(64, min(max_side, MAX_SIDE))
    part = 1.0 if box is None else max(1, box[2] - box[0], box[3] - box[1]) / 1000
    whole = min(side / part, side if box is None else MAX_WHOLE)
    scale = min(whole / max(sheet.width, sheet.height), 300 / 72 if sheet.dpi(1.0) == 72 else 1.0)
    rgb = turned(sheet.render(scale), rotation)
    return encode(rgb if box is None else cut(rgb, box)[: side + 1, : side + 1])


def cut(rgb: RGB, box: Sequence[int]) -> RGB:
    """The part of a picture (height, width, 3) that `box` covers, in thousandths; at least one pixel."""
    height, width = rgb.shape[:2]
    x0, x1 = (min(max(v, 0), 1000) * width // 1000 for v in (box[0], box[2]))
    y0, y1 = (min(max(v, 0), 1000) * height // 1000 for v in (box[1], box[3]))
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    return np.ascontiguousarray(rgb[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)])


def encode(rgb: RGB) -> bytes:
    sample = rgb[::4, ::4].reshape(-1, 3)
    few = len(np.unique(sample // 16, axis=0)) <= 24
    out = io.BytesIO()
    image = Image.fromarray(rgb)
    if few:
        image.save(out, "PNG", compress_level=4)
    else:
        image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
