"""A page as a picture for people: small, encoded, turned as it was read. Runs inside the sandbox."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from inkstick.pages.sheet import RGB, Sheet, turned

MAX_SIDE = 4000
QUALITY = 85


def preview(sheet: Sheet, max_side: int, rotation: int) -> bytes:
    """JPEG, or PNG where the page has few colours and PNG is sharper and smaller. At most `max_side` pixels a side."""
    side = max(64, min(max_side, MAX_SIDE))
    scale = min(side / max(sheet.width, sheet.height), 300 / 72 if sheet.dpi(1.0) == 72 else 1.0)
    return encode(turned(sheet.render(scale), rotation))


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
