"""The console's lines as a picture, for the framebuffer: the kernel's own text console has no Chinese letters.

Every letter sits in its cell, as on a text console; the half blocks of the QR code are drawn as rectangles, so that a
phone reads them. The font is the one that MuPDF carries for Chinese, taken from its library itself: PyMuPDF's import
would load networks that nobody needs here.
"""

from __future__ import annotations

import ctypes
import io
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from inkstick_provisioning.framebuffer import Frame
from inkstick_provisioning.language import width

DARK, LIGHT = (0, 0, 0), (230, 230, 230)
_CHINESE = 1
"""MuPDF's FZ_ADOBE_GB."""
_HALVES = {"█": (0.0, 1.0), "▀": (0.0, 0.5), "▄": (0.5, 1.0)}


def cells(frame: Frame, columns: int, rows: int) -> tuple[int, int]:
    """Pixels of one letter's cell, so that all columns and rows fit; twice as high as wide."""
    wide = max(4, min(frame.width // columns, frame.height // rows // 2))
    return wide, 2 * wide


def draw(lines: Sequence[str], frame: Frame, columns: int, rows: int) -> Image.Image:
    """The picture, as large as the frame."""
    wide, high = cells(frame, columns, rows)
    picture = Image.new("RGB", (frame.width, frame.height), DARK)
    pen = ImageDraw.Draw(picture)
    for row, line in enumerate(lines):
        column = 0
        for letter in line:
            place = (column * wide, row * high)
            if letter in _HALVES:
                top, bottom = _HALVES[letter]
                box = (place[0], place[1] + int(top * high), place[0] + wide - 1, place[1] + int(bottom * high) - 1)
                pen.rectangle(box, fill=LIGHT)
            elif letter != " ":
                middle = (place[0] + width(letter) * wide / 2, place[1] + 0.78 * high)
                font = _font(int(high * (0.86 if width(letter) == 2 else 0.74)))
                pen.text(middle, letter, font=font, fill=LIGHT, anchor="ms")
            column += width(letter)
    return picture


def encode(picture: Image.Image, frame: Frame) -> bytes:
    """The framebuffer's bytes: BGRX with 32 bits, RGB565 with 16. Raises ValueError for other depths."""
    if frame.bits == 32:
        rows, line = picture.tobytes("raw", "BGRX"), 4 * frame.width
    elif frame.bits == 16:
        rows, line = _rgb565(picture), 2 * frame.width
    else:
        raise ValueError(f"a framebuffer with {frame.bits} bits is not known")
    pad = b"\0" * (frame.stride - line)
    if not pad:
        return rows
    return b"".join(rows[at : at + line] + pad for at in range(0, len(rows), line))


def _rgb565(picture: Image.Image) -> bytes:
    import numpy as np  # old screens only

    red, green, blue = (np.asarray(band, np.uint16) for band in picture.split())
    return (red >> 3 << 11 | green >> 2 << 5 | blue >> 3).astype("<u2").tobytes()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(io.BytesIO(_font_file()), size)


@cache
def _font_file() -> bytes:
    """fz_lookup_cjk_font(context, ordering, &size, &subfont): a table in the library; it needs no context."""
    package = find_spec("pymupdf")
    if package is None or package.origin is None:
        raise FileNotFoundError("PyMuPDF, whose library holds the font, is not installed")
    library = ctypes.CDLL(str(next(Path(package.origin).parent.glob("libmupdf.so*"))))
    library.fz_lookup_cjk_font.restype = ctypes.c_void_p
    length, subfont = ctypes.c_int(), ctypes.c_int()
    place = library.fz_lookup_cjk_font(None, _CHINESE, ctypes.byref(length), ctypes.byref(subfont))
    return ctypes.string_at(place, length.value)
