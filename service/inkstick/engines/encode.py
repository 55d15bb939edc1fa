"""Pixels into the bytes that an engine is sent: PNG where the page is print on plain paper, JPEG where it is a photo.

Encoding dominates the cost of feeding an engine, so it runs in threads (OpenCV lets go of the interpreter lock).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inkstick.errors import Internal
from inkstick.pages.view import Pixels

Array = npt.NDArray[np.uint8]

JPEG_QUALITY = 92
PHOTO_SHARE = 0.06
"""Above this share of mid-tones a page is taken as photographic. Anti-aliased print has 1 to 4 per cent."""
SMALLEST_SIDE = 32
"""The vision encoder needs at least one patch: a shorter side is scaled up to this."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """`url`: a base64 data URL, ASCII bytes. `ink`: share of dark pixels, 0 to 1. Sizes are those of the pixels."""

    url: bytes
    width: int
    height: int
    ink: float

    @property
    def size(self) -> int:
        return len(self.url)


def as_array(pixels: Pixels) -> Array:
    """(height, width, 3), RGB, without a copy. Raises Internal if the sizes do not fit."""
    if len(pixels.data) != pixels.width * pixels.height * 3 or not pixels.data:
        raise Internal(f"{len(pixels.data)} bytes are no {pixels.width}x{pixels.height} RGB image")
    return np.frombuffer(pixels.data, np.uint8).reshape(pixels.height, pixels.width, 3)


def encode(pixels: Pixels, *, scale: float = 1.0, double_below: int = 0) -> Encoded:
    """A data URL of the page, `scale` (at most 1) times as large, and twice that where both sides of the page are
    shorter than `double_below`. Costs 10 to 60 ms of one core a page."""
    small = max(pixels.width, pixels.height) < double_below
    image = _resized(as_array(pixels), scale * 2 if small else scale)
    sample = np.ascontiguousarray(image[::4, ::4])
    grey = cv2.cvtColor(sample, cv2.COLOR_RGB2GRAY)
    ink = float(np.count_nonzero(grey < 128)) / grey.size
    if _photographic(sample, grey):
        data, kind = _jpeg(image), b"jpeg"
    else:
        data, kind = _png(image, colour=_coloured(sample)), b"png"
    return Encoded(b"data:image/" + kind + b";base64," + base64.b64encode(data), pixels.width, pixels.height, ink)


def _resized(image: Array, scale: float) -> Array:
    height, width = image.shape[:2]
    factor = max(scale, SMALLEST_SIDE / min(height, width)) if min(height, width) * scale < SMALLEST_SIDE else scale
    if abs(factor - 1.0) < 1e-6:
        return image
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LANCZOS4
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _photographic(sample: Array, grey: npt.NDArray[np.uint8]) -> bool:
    middle = np.count_nonzero((grey > 48) & (grey < 208))
    paper = np.bincount(grey.ravel(), minlength=256).max()
    return bool(middle / grey.size > PHOTO_SHARE or paper / grey.size < 0.35)


def _coloured(sample: Array) -> bool:
    low, high = sample.min(axis=2), sample.max(axis=2)
    return bool((high - low).max() > 24)


def _jpeg(image: Array) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return _checked(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options))


def _png(image: Array, *, colour: bool) -> bytes:
    plane = cv2.cvtColor(image, cv2.COLOR_RGB2BGR if colour else cv2.COLOR_RGB2GRAY)
    return _checked(cv2.imencode(".png", plane, [cv2.IMWRITE_PNG_COMPRESSION, 1]))


def _checked(result: tuple[bool, npt.NDArray[np.uint8]]) -> bytes:
    done, data = result
    if not done:
        raise Internal("the page image could not be encoded")
    return data.tobytes()
