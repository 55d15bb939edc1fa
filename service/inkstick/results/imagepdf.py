"""A PDF made of images, written straight to a file: one page is held at a time, whatever the number of pages.

An image is kept as it was where a PDF can hold it: JPEG and JPEG 2000 bytes go in unchanged; 1-bit, grey, palette and
colour images are packed without loss at their own depth. Only photographs of other lossy kinds (HEIC, WebP) and images
that a PDF viewer would show differently (CMYK JPEG, mirrored) are encoded again, as JPEG.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from inkstick.errors import Damaged, TooLarge
from inkstick.results.glyphless import FONT_OBJECTS, Encoder, font_objects
from inkstick.results.placement import Affine, page_affine

DEFAULT_DPI = 200.0
_QUALITY = 90
_TURNS = {1: 0, 3: 180, 6: 90, 8: 270}  # EXIF orientation to PDF /Rotate; the mirrored ones are not there
_SIDEWAYS = (5, 6, 7, 8)
MAX_BYTES = 1 << 30  # decoded, as in pages.picture
_MAX_POINTS = 14_400.0  # the largest page that PDF viewers must accept


@dataclass(frozen=True, slots=True)
class Picture:
    """One page's image, ready to be a PDF image object. `turn` is the page's /Rotate."""

    width: int
    height: int
    dictionary: str
    data: bytes
    dpi: tuple[float, float]
    turn: int = 0

    def points(self) -> tuple[float, float]:
        """Width and height of the page, unturned, in points."""
        width, height = self.width * 72 / self.dpi[0], self.height * 72 / self.dpi[1]
        shrink = min(1.0, _MAX_POINTS / max(width, height))
        return (max(width * shrink, 1.0), max(height * shrink, 1.0))

    def affine(self, rotation: int) -> Affine:
        """From fractions of the page as read, turned `rotation` degrees after EXIF, to points of the PDF page."""
        width, height = self.points()
        return page_affine(rotation + self.turn, (0, height), (width, height), (0, 0))


class ImagePdf:
    """Writes a PDF object by object. Use: `page` for each page, then `finish`."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._offsets: dict[int, int] = {}
        self._pages: list[int] = []
        self._at = 0
        self._next = 3 + FONT_OBJECTS  # 1 catalog, 2 page tree, then the font
        self.encoder = Encoder()
        self._write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")

    def page(self, picture: Picture, text: bytes) -> None:
        """Add a page: the image, and `text`, content operators for the invisible layer."""
        width, height = picture.points()
        image, content, page = (self._next, self._next + 1, self._next + 2)
        self._next += 3
        self._object(image, picture.dictionary, picture.data)
        drawing = b"q %.3f 0 0 %.3f 0 0 cm /Im Do Q\n" % (width, height)
        self._stream(content, text + drawing)
        turn = f"/Rotate {picture.turn}" if picture.turn else ""
        self._object(
            page,
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width:.3f} {height:.3f}]{turn}/Contents {content} 0 R"
            f"/Resources<</XObject<</Im {image} 0 R>>/Font<</InkstickText 3 0 R>>>>>>",
        )
        self._pages.append(page)

    def finish(self) -> None:
        """Write the font, the page tree and the cross-reference table."""
        for number, dictionary, data in font_objects(self.encoder, 3):
            if data is None:
                self._object(number, dictionary)
            else:
                self._stream(number, data, dictionary)
        kids = " ".join(f"{number} 0 R" for number in self._pages)
        self._object(2, f"<</Type/Pages/Count {len(self._pages)}/Kids[{kids}]>>")
        self._object(1, "<</Type/Catalog/Pages 2 0 R>>")
        start = self._at
        self._write(b"xref\n0 %d\n0000000000 65535 f \n" % self._next)
        for number in range(1, self._next):
            self._write(b"%010d 00000 n \n" % self._offsets[number])
        self._write(b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (self._next, start))

    def _stream(self, number: int, data: bytes, dictionary: str = "<<>>") -> None:
        self._object(number, dictionary[:-2] + "/Filter/FlateDecode>>", zlib.compress(data, 6))

    def _object(self, number: int, dictionary: str, data: bytes | None = None) -> None:
        self._offsets[number] = self._at
        if data is None:
            self._write(f"{number} 0 obj\n{dictionary}\nendobj\n".encode("latin-1"))
            return
        head = f"{number} 0 obj\n{dictionary[:-2]}/Length {len(data)}>>\nstream\n"
        self._write(head.encode("latin-1"))
        self._write(data)
        self._write(b"\nendstream\nendobj\n")

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._at += len(data)


def pictures(path: Path, media_type: str) -> Iterator[Picture]:
    """Each page (frame) of an image file, one at a time: the frames that are pages for the reader too, so that a
    thumbnail inside a TIFF does not shift the text. Raises Damaged for what cannot be decoded, TooLarge."""
    from PIL import Image

    from inkstick.pages.picture import FORMATS  # also lifts Pillow's own limit on pixels; ours are below

    try:
        with path.open("rb") as file, Image.open(file, formats=[FORMATS[media_type]]) as image:
            for index in _frames(path, image, media_type):
                if index:
                    image.seek(index)
                yield _picture(image, file, media_type)
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, Image.DecompressionBombError) as error:
        raise Damaged(f"the image cannot be decoded: {error}") from error


def _frames(path: Path, image: Any, media_type: str) -> Sequence[int]:
    from inkstick.pages.picture import tiff_pages

    if media_type == "image/tiff":
        with path.open("rb") as file:
            return tiff_pages(file)
    return range(getattr(image, "n_frames", 1)) if media_type == "image/heic" else [0]


def _picture(image: Any, file: BinaryIO, media_type: str) -> Picture:
    dpi = _dpi(image)
    orientation = image.getexif().get(0x0112, 1)
    turn = _TURNS.get(orientation)
    if turn is not None and media_type == "image/jpeg" and image.mode in ("L", "RGB"):
        return _as_is(image, _bytes(file), "DCTDecode", dpi, turn)
    if media_type == "image/jp2" and image.mode in ("L", "RGB"):
        return _as_is(image, _bytes(file), "JPXDecode", dpi, turn or 0)
    lossy = media_type in ("image/jpeg", "image/jp2", "image/webp", "image/heic")
    lossy = lossy or image.info.get("compression") == "jpeg"
    if image.width * image.height * (1 if image.mode in ("1", "L", "P") else 4) > MAX_BYTES:
        raise TooLarge("The image has more pixels than this appliance decodes.")
    upright = _upright(image)
    if orientation in _SIDEWAYS:
        dpi = dpi[1], dpi[0]
    return _jpeg(upright, dpi) if lossy and upright.mode in ("L", "RGB") else _lossless(upright, dpi)


def _bytes(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _as_is(image: Any, data: bytes, name: str, dpi: tuple[float, float], turn: int) -> Picture:
    colour = "/DeviceGray" if image.mode == "L" else "/DeviceRGB"
    return _make(image, f"/ColorSpace{colour}/BitsPerComponent 8/Filter/{name}", data, dpi, turn)


def _make(image: Any, entries: str, data: bytes, dpi: tuple[float, float], turn: int = 0) -> Picture:
    width, height = image.size
    head = f"<</Type/XObject/Subtype/Image/Width {width}/Height {height}"
    return Picture(width, height, f"{head}{entries}>>", data, dpi, turn)


def _jpeg(image: Any, dpi: tuple[float, float]) -> Picture:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY)
    return _as_is(image, out.getvalue(), "DCTDecode", dpi, 0)


def _lossless(image: Any, dpi: tuple[float, float]) -> Picture:
    """Packed as PNG packs: its row filters and zlib are what PDF calls Predictor 15 and FlateDecode."""
    out = io.BytesIO()
    image.save(out, "PNG", optimize=False)
    png = out.getvalue()
    bits, colour = png[24], png[25]
    palette, data = b"", []
    for tag, body in _chunks(png):
        if tag == b"PLTE":
            palette = body
        elif tag == b"IDAT":
            data.append(body)
    space = {0: "/DeviceGray", 2: "/DeviceRGB"}.get(colour)
    space = space or f"[/Indexed/DeviceRGB {len(palette) // 3 - 1} <{palette.hex()}>]"
    parms = f"<</Predictor 15/Colors {3 if colour == 2 else 1}/BitsPerComponent {bits}/Columns {image.size[0]}>>"
    entries = f"/ColorSpace{space}/BitsPerComponent {bits}/Filter/FlateDecode/DecodeParms{parms}"
    return _make(image, entries, b"".join(data), dpi)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += size + 12


def _upright(image: Any) -> Any:
    """The frame as pixels that a PDF can hold: mode 1, L, P or RGB, EXIF applied, transparency on white."""
    from PIL import Image

    from inkstick.pages.picture import deep, upright

    frame = upright(image)
    if frame.mode.startswith("I") or frame.mode == "F":
        return deep(frame)
    if "A" in frame.getbands() or "transparency" in frame.info:
        frame = frame.convert("RGBA")
        white = Image.new("RGBA", frame.size, "white")
        return Image.alpha_composite(white, frame).convert("RGB")
    if frame.mode in ("1", "L", "P", "RGB"):
        return frame.copy()
    return frame.convert("RGB")


def _dpi(image: Any) -> tuple[float, float]:
    """What the file states, if a scanner could mean it; otherwise 200."""
    value = image.info.get("dpi")
    try:
        x, y = float(value[0]), float(value[1])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return (DEFAULT_DPI, DEFAULT_DPI)
    # 72 and 96 are what cameras and screens write when nothing is known: believed for a sheet of a usual size only
    inches = max(image.width / x, image.height / y) if x > 0 and y > 0 else math.inf
    placeholder = x in (72.0, 96.0) and inches > 17
    believable = 50 <= x <= 2400 and 50 <= y <= 2400 and inches <= 50 and not placeholder
    return (x, y) if believable else (DEFAULT_DPI, DEFAULT_DPI)
