"""Pages drawn for tests and samples: text on paper with a known truth, and what scanners and cameras do to them.

Without font files, PyMuPDF's own fonts are used, so that tests need no fonts installed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inkstick.pages.view import Pixels

DPI = 200
A4 = (1654, 2339)
"""Pixels of a portrait A4 page at 200 dpi."""
CLOSING = "，。、；：！？）》」』”’"


@lru_cache(maxsize=32)
def font(name: str, size: int, index: int = 0) -> ImageFont.FreeTypeFont:
    """A font file (path), or one of PyMuPDF's own (``tiro``, ``helv``, ``hebo``, ``cjk``), `size` in pixels."""
    if "/" in name:
        return ImageFont.truetype(name, size, index=index)
    import pymupdf  # here, so that inkstick is imported first: it turns ONNX Runtime's telemetry off

    return ImageFont.truetype(io.BytesIO(pymupdf.Font(name).buffer), size)


def wrapped(text: str, face: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines no wider than `width` pixels: broken at spaces, and between any two Chinese characters."""
    lines, line = [], ""
    for piece in _pieces(text):
        if line and face.getlength((line + piece).rstrip()) > width and piece not in CLOSING:
            lines.append(line.rstrip())
            line = piece.lstrip()
        else:
            line += piece
    return [*lines, line.rstrip()] if line.strip() else lines


def _pieces(text: str) -> list[str]:
    pieces = [""]
    for character in text:
        if character == " ":
            pieces[-1] += character
            pieces.append("")
        elif ord(character) > 0x2E7F:
            pieces += [character, ""]
        else:
            pieces[-1] += character
    return [piece for piece in pieces if piece]


@dataclass
class Sheet:
    """A page that is written from top to bottom. `size`, margins and font sizes are in pixels; ink is black.

    `truth` collects what was printed, a paragraph a line, in the order in which it was written.
    """

    size: tuple[int, int] = A4
    margin: int = 180
    face: str = "cjk"
    index: int = 0
    truth: list[str] = field(default_factory=list)
    y: int = 180
    left: int = 0
    right: int = 0

    def __post_init__(self) -> None:
        self.image = Image.new("L", self.size, 255)
        self.pen = ImageDraw.Draw(self.image)
        self.left, self.right = self.left or self.margin, self.right or self.size[0] - self.margin

    def column(self, left: int, right: int, y: int) -> None:
        """Go on writing between `left` and `right` from `y`."""
        self.left, self.right, self.y = left, right, y

    def write(
        self, text: str, size: int = 36, *, leading: float = 1.5, after: float = 0.6, centre: bool = False
    ) -> None:
        """A paragraph."""
        face = font(self.face, size, self.index)
        for line in wrapped(text, face, self.right - self.left):
            x = (self.left + self.right - face.getlength(line)) / 2 if centre else self.left
            self.pen.text((x, self.y), line, font=face, fill=0)
            self.y += round(size * leading)
        self.y += round(size * after)
        self.truth.append(text)

    def table(
        self,
        rows: Sequence[Sequence[str]],
        widths: Sequence[int],
        size: int = 32,
        *,
        ruled: bool = True,
        high: int = 70,
    ) -> None:
        """A table; an empty text is an empty cell. `widths` in pixels."""
        face = font(self.face, size, self.index)
        for row in rows:
            x = self.left
            for text, width in zip(row, widths, strict=True):
                if ruled:
                    self.pen.rectangle((x, self.y, x + width, self.y + high), outline=0, width=3)
                self.pen.text((x + 16, self.y + (high - size) / 2 - size * 0.1), text, font=face, fill=0)
                x += width
            self.y += high
            self.truth.append(" ".join(row))
        self.y += high // 2

    def text(self) -> str:
        return "\n".join(self.truth)

    def array(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.asarray(self.image, np.uint8)

    def pixels(self) -> Pixels:
        return pixels(self.array())


def pixels(gray: np.ndarray[Any, np.dtype[np.uint8]]) -> Pixels:
    """A gray or RGB array as the engines get it."""
    array = np.stack([gray] * 3, axis=2) if gray.ndim == 2 else gray
    height, width = array.shape[:2]
    return Pixels(width, height, np.ascontiguousarray(array, np.uint8).tobytes())


def scanned(gray: Any, seed: int, *, skew: float = 0.3, noise: float = 5.0, blur: float = 0.7) -> Any:
    """What a flatbed scanner makes of a sheet: turned by `skew` degrees, soft, on paper that is not quite white."""
    random = np.random.default_rng(seed)
    height, width = gray.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), skew, 1)
    image = cv2.warpAffine(gray, turn, (width, height), flags=cv2.INTER_CUBIC, borderValue=255)
    image = cv2.GaussianBlur(image, (0, 0), blur).astype(np.float32)
    paper = cv2.resize(random.normal(0, 4, (12, 9)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    image = 38 + image / 255 * (243 - 38) + paper + random.normal(0, noise, image.shape).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def photographed(gray: Any, seed: int) -> Any:
    """What a hand-held camera makes of it: seen from the side, on a dark table, lit from one corner. RGB."""
    random = np.random.default_rng(seed)
    height, width = gray.shape[:2]
    shift = min(width, height) * 0.06
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    seen = np.array(
        [[shift, shift * 0.8], [width - shift * 0.4, shift * 0.3], [width - shift * 1.1, height - shift * 0.5],
         [shift * 0.3, height - shift]], np.float32,
    )  # fmt: skip
    view = cv2.getPerspectiveTransform(corners, seen)
    page = cv2.warpPerspective(gray, view, (width, height), flags=cv2.INTER_CUBIC, borderValue=70)
    page = cv2.GaussianBlur(page, (0, 0), 0.9).astype(np.float32)
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    light = 0.98 - 0.40 * (across / width) * (down / height) - 0.12 * (down / height)
    tone = np.array([0.97, 0.95, 0.88], np.float32)
    image = (30 + page / 255 * 215)[..., None] * light[..., None] * tone + random.normal(0, 4, (height, width, 1))
    return np.clip(image, 0, 255).astype(np.uint8)
