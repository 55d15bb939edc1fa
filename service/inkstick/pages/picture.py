"""Images and multi-page images, by Pillow. Runs inside the sandbox.

Formats are allow-listed by the media type that the content was identified as; sizes are checked before any decoding.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
import warnings
from typing import Any

import numpy as np
import pi_heif
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from inkstick.errors import Damaged, Empty, TooLarge
from inkstick.pages.plan import MAX_SIDE, Plan, Rect, plan_pixels
from inkstick.pages.sheet import LOW_DPI, RGB
from inkstick.pages.view import Budget, TextLayer

FORMATS = {
    "image/tiff": "TIFF", "image/jpeg": "JPEG", "image/png": "PNG", "image/bmp": "BMP", "image/webp": "WEBP",
    "image/jp2": "JPEG2000", "image/heic": "HEIF",
}  # fmt: skip
MAX_BYTES = 1 << 30
"""Decoded size; half of what a parser process may use must be left for turning it into RGB."""
MAX_FRAMES = 100_000
WORKING_PIXELS = 120_000_000
"""Larger images are reduced while they are decoded, or right after."""
_BYTES_PER_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "LA": 4, "PA": 4}
_PAGE_INCHES = 50.0
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_FAULTS = (OSError, ValueError, SyntaxError, EOFError, struct.error, KeyError, TypeError, IndexError,
           OverflowError, ZeroDivisionError, AttributeError, RuntimeError, AssertionError)  # fmt: skip

Image.MAX_IMAGE_PIXELS = None  # checked here, after a JPEG was told to decode smaller
ImageFile.LOAD_TRUNCATED_IMAGES = False
pi_heif.register_heif_opener()


class PictureFile:
    """An open image file. Raises Damaged, Empty, TooLarge."""

    def __init__(self, fd: int, media_type: str) -> None:
        if os.fstat(fd).st_size == 0:
            raise Empty("The file is empty.")
        self.warnings: tuple[str, ...] = ()
        self.file = os.fdopen(os.dup(fd), "rb")
        self.media_type = media_type
        self.frames = self._frames()
        self.pages = len(self.frames)
        self.image: Any = self._open()
        if self.pages < 1:
            raise Empty()

    def _open(self) -> Any:
        self.file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return Image.open(self.file, formats=[FORMATS[self.media_type]])
        except (UnidentifiedImageError, *_FAULTS) as error:
            raise Damaged() from error

    def _frames(self) -> list[int]:
        """Which frames of the file are pages."""
        if self.media_type == "image/tiff":
            return tiff_pages(self.file)
        if self.media_type == "image/heic":
            return list(range(min(MAX_FRAMES, int(getattr(self._open(), "n_frames", 1)))))
        return [0]

    def sheet(self, number: int) -> PictureSheet:
        if not 1 <= number <= self.pages:
            raise Damaged("There is no such page.")
        frame = self.frames[number - 1]
        try:
            if frame < getattr(self.image, "tell", lambda: 0)() or self.media_type == "image/jpeg":
                self.image = self._open()  # a drafted or decoded image cannot be asked again for another size
            if frame:
                self.image.seek(frame)
            return PictureSheet(self.image)
        except MemoryError:
            raise
        except _FAULTS as error:
            raise Damaged() from error

    def close(self) -> None:
        self.file.close()


class PictureSheet:
    """One image, upright by its EXIF orientation. Its units are its pixels."""

    def __init__(self, image: Any) -> None:
        self.image = image
        self.stated = (int(image.width), int(image.height))
        self.density = _believable_dpi(image)
        if min(self.stated) < 1:
            raise Empty("The image has no area.")
        _check_size(image)
        self.rgb = _decode(image)
        self.height, self.width = (float(side) for side in self.rgb.shape[:2])
        shrunk = max(self.width, self.height) / max(self.stated)
        self.density = self.density * shrunk if self.density else None

    def plan(self, budget: Budget) -> Plan:
        return plan_pixels(int(self.width), int(self.height), budget, dpi=self.density)

    def render(self, scale: float, clip: Rect | None = None) -> RGB:
        box = clip or (0.0, 0.0, self.width, self.height)
        size = tuple(max(1, round((b - a) * scale)) for a, b in ((box[0], box[2]), (box[1], box[3])))
        x0, y0, x1, y1 = (int(v) for v in (box[0], box[1], math.ceil(box[2]), math.ceil(box[3])))
        part = self.rgb[y0:y1, x0:x1]
        if size == (part.shape[1], part.shape[0]):
            return np.ascontiguousarray(part)
        return _resize(np.ascontiguousarray(part), size[0], size[1])

    def torn(self) -> bool:
        return False  # it is not decoded at all then

    def unseen(self) -> bool:
        return False

    def dpi(self, scale: float) -> float | None:
        return self.density * scale if self.density else None

    def low_dpi(self) -> bool:
        if self.density:
            return self.density < LOW_DPI
        return max(self.stated) < 900

    def layer(self) -> TextLayer | None:
        return None

    def text_turn(self) -> int | None:
        return None


def _check_size(image: Any) -> None:
    """Before decoding. Raises TooLarge."""
    if image.format in ("JPEG", "MPO"):
        side = math.sqrt(WORKING_PIXELS / (image.width * image.height))
        if side < 1:
            image.draft("RGB", (round(image.width * side), round(image.height * side)))
    elif image.format == "JPEG2000" and image.width * image.height > WORKING_PIXELS // 4:
        image.reduce = min(5, math.ceil(math.log(image.width * image.height / (WORKING_PIXELS // 4), 4)))
        return _limit(image.width * image.height // 4**image.reduce * 16)
    return _limit(image.width * image.height * _BYTES_PER_PIXEL.get(image.mode, 4))


def _limit(size: int) -> None:
    if size > MAX_BYTES:
        raise TooLarge("The image has more pixels than this appliance decodes.")


def _decode(image: Any) -> RGB:
    """Decode to upright RGB on white. Raises Damaged, MemoryError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            return np.asarray(to_rgb(upright(_reduced(image))), np.uint8)
    except MemoryError:
        raise
    except _FAULTS as error:
        raise Damaged() from error


def _reduced(image: Any) -> Any:
    """A copy small enough to be turned into RGB; grey keeps the ink of 1-bit scans."""
    pixels = image.width * image.height
    if pixels <= WORKING_PIXELS:
        return image
    if image.mode in ("1", "P"):
        image = image.convert("L")
    return image.reduce(math.ceil(math.sqrt(pixels / WORKING_PIXELS)))


def upright(image: Any) -> Any:
    """As EXIF says that it stands. What else EXIF says may be nonsense: Pillow writes it anew and fails on that."""
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except _FAULTS:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        return image if turn is None else image.transpose(turn)


def to_rgb(image: Any) -> Any:
    """Any mode to RGB: 16-bit scaled to 8, transparency on white, CMYK and the others converted."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return deep(image).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "PA", "La", "RGBa", "RGBA"):
        image = image.convert("RGBA")
        paper = Image.new("RGB", image.size, (255, 255, 255))
        paper.paste(image, mask=image.getchannel("A"))
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def deep(image: Any) -> Any:
    """16 and 32 bits a channel as grey: by the range that the type has, or that the values use where the type says
    nothing."""
    values = np.asarray(image).astype(np.float32)
    values[~np.isfinite(values)] = 0
    used = max(1.0, float(values.max(initial=0)))
    top = full_scale(used) if image.mode.startswith("I;16") or (image.mode == "I" and 255 < used <= 65535) else used
    low = min(0.0, float(values.min(initial=0)))
    grey = ((values - low) * (255.0 / (top - low))).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey, "L")


def full_scale(used: float) -> float:
    """The value that means white: of 16 bits, or of 12 or 10 where no value needs more, as scanners and cameras pack
    them. Paper would be black otherwise."""
    return next(top for top in (1023.0, 4095.0, 65535.0) if used <= top)


def _resize(rgb: RGB, width: int, height: int) -> RGB:
    mode = Image.Resampling.BOX if width * 2 < rgb.shape[1] else Image.Resampling.BICUBIC
    smaller = width < rgb.shape[1]
    chosen = Image.Resampling.LANCZOS if smaller and mode is not Image.Resampling.BOX else mode
    size = (min(width, int(MAX_SIDE)), min(height, int(MAX_SIDE)))
    return np.asarray(Image.fromarray(rgb).resize(size, chosen, reducing_gap=2.0 if smaller else None), np.uint8)


def _believable_dpi(image: Any) -> float | None:
    """The stated resolution, unless it makes the sheet larger than any or is a camera's placeholder."""
    with contextlib.suppress(*_FAULTS):
        x, y = (float(v) for v in image.info.get("dpi", (0, 0)))
        dpi = math.sqrt(x * y) if x > 0 and y > 0 else 0.0
        if not math.isfinite(dpi) or not 50 <= dpi <= 2400:
            return None
        camera = dpi in (72.0, 96.0) and max(image.size) / dpi > 17
        return None if camera or max(image.size) / dpi > _PAGE_INCHES else dpi
    return None


# TIFF directories, counted without decoding ------------------------------------------------------------------------


def tiff_pages(file: io.BufferedReader) -> list[int]:
    """Indices of the frames that are pages: thumbnails are not, unless all are called so. Stops at a loop, or
    where the file is cut off (`inkstick.work.is_whole` tells of that).

    Raises Damaged when not even the first directory can be read, TooLarge beyond `MAX_FRAMES`.
    """
    size = file.seek(0, os.SEEK_END)
    head = _at(file, 0, 16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    if not order or len(head) < 8:
        raise Damaged()
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    offset = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8].ljust(4, b"\0"))[0]
    seen: set[int] = set()
    pages: list[int] = []
    while offset and offset not in seen and offset < size:
        if len(seen) >= MAX_FRAMES:
            raise TooLarge(f"It has more than {MAX_FRAMES} images.")
        found = _directory(file, offset, order, big)
        if found is None:
            break
        if not found[1]:
            pages.append(len(seen))
        seen.add(offset)
        offset = found[0]
    if not seen:
        raise Damaged()
    return pages or list(range(len(seen)))


def _directory(file: io.BufferedReader, offset: int, order: str, big: bool) -> tuple[int, bool] | None:
    """Where the next directory is, and whether this one is a thumbnail. None past the end of the file."""
    width, entry, link = (8, 20, 8) if big else (2, 12, 4)
    head = _at(file, offset, width)
    if len(head) < width:
        return None
    count = struct.unpack(order + ("Q" if big else "H"), head)[0]
    if count > 65_535:
        return None
    body = _at(file, offset + width, count * entry + link)
    if len(body) < count * entry:
        return None
    small = any(_is_thumbnail(body[i * entry : (i + 1) * entry], order, big) for i in range(count))
    tail = body[count * entry :]
    return (struct.unpack(order + ("Q" if big else "I"), tail)[0] if len(tail) == link else 0), small


def _is_thumbnail(entry: bytes, order: str, big: bool) -> bool:
    """Tag 254 (NewSubfileType) with bit 0, or tag 255 (SubfileType) 2: a reduced copy of another page."""
    tag = struct.unpack(order + "H", entry[:2])[0]
    if tag not in (254, 255):
        return False
    value = struct.unpack(order + "I", entry[12:16] if big else entry[8:12])[0]
    return bool(value & 1) if tag == 254 else value in (2, 2 << 16)


def _at(file: io.BufferedReader, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
