"""Hostile files, made by the tests themselves: none is larger than a few hundred kilobytes.

`CASES` maps a file name to its maker and to the outcomes that are right for it: ``ok``, or error codes of opening it or
of its first page. Sources of the ideas: the bomb and regression files of the public PDF and image corpora.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pymupdf
from PIL import Image, ImageDraw


@dataclass(frozen=True)
class Case:
    """How the file is made, what type it is, and how it may end."""

    make: Callable[[], bytes]
    type: str
    ends: frozenset[str]


def pdf(objects: Mapping[int, bytes], root: int = 1) -> bytes:
    """A PDF of these objects with a correct cross-reference table."""
    out, offsets = bytearray(b"%PDF-1.7\n"), {}
    for number, body in objects.items():
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start, size = len(out), max(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for number in range(1, size):
        out += b"%010d 00000 n \n" % offsets.get(number, 0)
    return bytes(out + b"trailer\n<</Size %d /Root %d 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, root, start))


def stream(data: bytes, extra: bytes = b"") -> bytes:
    return b"<<%s /Length %d>>\nstream\n%s\nendstream" % (extra, len(data), data)


def flate(data: bytes, extra: bytes = b"") -> bytes:
    return stream(zlib.compress(data, 9), b"/Filter /FlateDecode " + extra)


def one_page(
    content: bytes, *, page: bytes = b"/MediaBox [0 0 595 842]", more: Mapping[int, bytes] | None = None
) -> bytes:
    """A PDF of one page; object 4 is its content, 5 the font, and `more` starts at 6."""
    objects = {
        1: b"<</Type /Catalog /Pages 2 0 R>>",
        2: b"<</Type /Pages /Kids [3 0 R] /Count 1>>",
        3: b"<</Type /Page /Parent 2 0 R %s /Contents 4 0 R /Resources <</Font <</F 5 0 R>> /XObject <</X 6 0 R>>>>>>"
        % page,
        4: content,
        5: b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
    }
    return pdf({**objects, **(more or {})})


HELLO = stream(b"BT /F 24 Tf 72 700 Td (Hello, ordinary world) Tj ET")


def form_bomb(levels: int = 26) -> bytes:
    """Every form draws the next one twice: 2^levels drawings."""
    more = {
        6 + i: stream(
            b"/X Do /X Do" if i < levels - 1 else b"0 0 9 9 re f",
            b"/Type /XObject /Subtype /Form /BBox [0 0 595 842] /Resources <</XObject <</X %d 0 R>>>>" % (7 + i),
        )
        for i in range(levels)
    }
    return one_page(stream(b"/X Do"), more=more)


def content_bomb() -> bytes:
    """Four million strokes, well packed."""
    return one_page(flate(b"0 0 m 595 842 l S 595 0 m 0 842 l S\n" * 2_000_000))


def image_bomb() -> bytes:
    """An image of 30,000 by 30,000 pixels, packed twice."""
    raw = zlib.compress(zlib.compress(bytes(30_000 * 3_750), 1), 9)
    image = stream(
        raw,
        b"/Type /XObject /Subtype /Image /Width 30000 /Height 30000 /ColorSpace /DeviceGray /BitsPerComponent 1"
        b" /Filter [/FlateDecode /FlateDecode]",
    )
    return one_page(stream(b"595 0 0 842 0 0 cm /X Do"), more={6: image})


def counted(count: int) -> bytes:
    """One page, and a page tree that claims `count`."""
    return pdf({
        1: b"<</Type /Catalog /Pages 2 0 R>>",
        2: b"<</Type /Pages /Kids [3 0 R] /Count %d>>" % count,
        3: b"<</Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources <</Font <</F 5 0 R>>>>>>",
        4: HELLO,
        5: b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
    })  # fmt: skip


def deep_nest() -> bytes:
    return one_page(stream(b"q " * 200_000 + b"[" * 200_000))


def deep_arrays() -> bytes:
    return pdf({1: b"<</Type /Catalog /Pages 2 0 R /X " + b"[" * 100_000 + b"]" * 100_000 + b">>",
                2: b"<</Type /Pages /Kids [] /Count 0>>"})  # fmt: skip


def cyclic_tree() -> bytes:
    return pdf({1: b"<</Type /Catalog /Pages 2 0 R>>", 2: b"<</Type /Pages /Kids [2 0 R 2 0 R] /Count 2>>"})


def cyclic_outline() -> bytes:
    return pdf({
        1: b"<</Type /Catalog /Pages 2 0 R /Outlines 6 0 R>>",
        2: b"<</Type /Pages /Kids [3 0 R] /Count 1>>",
        3: b"<</Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources <</Font <</F 5 0 R>>>>>>",
        4: HELLO,
        5: b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
        6: b"<</First 7 0 R /Last 7 0 R /Count 1>>",
        7: b"<</Title (a) /Parent 6 0 R /Next 7 0 R /First 6 0 R /Last 6 0 R>>",
    })  # fmt: skip


def encrypted() -> bytes:
    document = pymupdf.open()
    document.new_page()
    return bytes(document.tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="secret", owner_pw="owner"))


def xfa_stub() -> bytes:
    return pdf({
        1: b"<</Type /Catalog /Pages 2 0 R /AcroForm <</XFA [(template) 6 0 R] /Fields []>>>>",
        2: b"<</Type /Pages /Kids [3 0 R] /Count 1>>",
        3: b"<</Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources <</Font <</F 5 0 R>>>>>>",
        4: stream(b"BT /F 14 Tf 72 700 Td (Please wait... your viewer cannot show this) Tj ET"),
        5: b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
        6: stream(b"<template/>"),
    })  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(side: int = 60_000) -> bytes:
    """A 1-bit PNG that claims side x side pixels, with a tenth of them: its header alone must be enough."""
    packer = zlib.compressobj(1)
    row = b"\0" + b"\xff" * (side // 8)
    rows = [packer.compress(row * 100) for _ in range(side // 1000)] + [packer.flush()]
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"".join(rows)) + chunk(b"IEND", b"")


def picture(mode: str = "RGB", size: tuple[int, int] = (800, 600), kind: str = "PNG") -> bytes:
    """An ordinary picture with a line of text."""
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).text((40, 40), "An ordinary picture of some text", fill=0, font_size=36)
    out = io.BytesIO()
    image.convert(mode).save(out, kind)
    return out.getvalue()


def png_deep() -> bytes:
    out = io.BytesIO()
    Image.new("I;16", (600, 400), 40_000).save(out, "PNG")
    return out.getvalue()


def tiff(pages: int, *, loop: bool = False, width: int = 16, length: int = 2) -> bytes:
    """A TIFF of `pages` tiny 1-bit images; `loop` links the last directory to the first."""
    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    for page in range(pages):
        at, last = len(out), page == pages - 1
        entries = [
            (256, 4, width), (257, 4, length), (258, 3, 1), (259, 3, 1), (262, 3, 0),
            (273, 4, at + 2 + 8 * 12 + 4), (278, 4, length), (279, 4, 4),
        ]  # fmt: skip
        link = (8 if loop else 0) if last else at + 2 + 8 * 12 + 4 + 4
        out += struct.pack("<H", len(entries))
        out += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
        out += struct.pack("<I", link) + b"\xf0\x0f\xf0\x0f"
    return bytes(out)


def zipped(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def _ends(*names: str) -> frozenset[str]:
    return frozenset(names)


PDF, PNG, TIFF, JPEG, JP2 = "application/pdf", "image/png", "image/tiff", "image/jpeg", "image/jp2"
HUGE = b"/MediaBox [0 0 14400000 14400000]"
CASES: dict[str, Case] = {
    "form_bomb.pdf": Case(form_bomb, PDF, _ends("timeout", "ok")),
    "content_bomb.pdf": Case(content_bomb, PDF, _ends("timeout", "ok")),
    "image_bomb.pdf": Case(image_bomb, PDF, _ends("ok", "timeout", "too_complex")),
    "billion_pages.pdf": Case(lambda: counted(1_000_000_000), PDF, _ends("damaged", "ok")),
    "lying_count.pdf": Case(lambda: counted(50), PDF, _ends("damaged", "ok")),
    "negative_count.pdf": Case(lambda: counted(-7), PDF, _ends("damaged", "empty", "ok")),
    "huge_media_box.pdf": Case(lambda: one_page(HELLO, page=HUGE), PDF, _ends("too_large")),
    "user_unit.pdf": Case(
        lambda: one_page(HELLO, page=b"/MediaBox [0 0 595 842] /UserUnit 75000"), PDF, _ends("too_large")
    ),
    "zero_box.pdf": Case(lambda: one_page(HELLO, page=b"/MediaBox [0 0 0 0]"), PDF, _ends("ok", "empty")),
    "thin_box.pdf": Case(lambda: one_page(HELLO, page=b"/MediaBox [0 0 1 842]"), PDF, _ends("empty")),
    "infinite_box.pdf": Case(
        lambda: one_page(HELLO, page=b"/MediaBox [0 0 1e39 -1e39]"), PDF, _ends("ok", "empty", "too_large")
    ),
    "deep_nest.pdf": Case(deep_nest, PDF, _ends("ok", "damaged", "too_complex")),
    "deep_arrays.pdf": Case(deep_arrays, PDF, _ends("empty", "damaged")),
    "cyclic_tree.pdf": Case(cyclic_tree, PDF, _ends("empty", "damaged")),
    "cyclic_outline.pdf": Case(cyclic_outline, PDF, _ends("ok")),
    "truncated.pdf": Case(lambda: one_page(HELLO)[:300], PDF, _ends("ok", "damaged", "empty")),
    "junk.pdf": Case(lambda: b"%PDF-1.7\n" + bytes(range(256)) * 64, PDF, _ends("damaged", "empty")),
    "empty.pdf": Case(lambda: b"", PDF, _ends("empty")),
    "encrypted.pdf": Case(encrypted, PDF, _ends("encrypted")),
    "zero_pages.pdf": Case(
        lambda: pdf({1: b"<</Type /Catalog /Pages 2 0 R>>", 2: b"<</Type /Pages /Kids [] /Count 0>>"}),
        PDF,
        _ends("empty", "damaged"),
    ),
    "xfa_stub.pdf": Case(xfa_stub, PDF, _ends("ok")),
    "bomb.png": Case(png_bomb, PNG, _ends("too_large")),
    "palette.png": Case(lambda: picture("P"), PNG, _ends("ok")),
    "bit.png": Case(lambda: picture("1"), PNG, _ends("ok")),
    "deep.png": Case(png_deep, PNG, _ends("ok")),
    "grey_alpha.png": Case(lambda: picture("LA"), PNG, _ends("ok")),
    "cut.png": Case(lambda: picture()[:200], PNG, _ends("damaged")),
    "lying.png": Case(lambda: picture().replace(struct.pack(">II", 800, 600), struct.pack(">II", 800, 99_999_999)), PNG,
                      _ends("damaged", "too_large")),
    "thin.png": Case(lambda: picture(size=(4, 900)), PNG, _ends("empty")),
    "long.png": Case(lambda: picture("1", size=(300, 20_000)), PNG, _ends("ok")),
    "cmyk.jpg": Case(lambda: picture("CMYK", kind="JPEG"), JPEG, _ends("ok")),
    "cut.jpg": Case(lambda: picture(kind="JPEG")[:4000], JPEG, _ends("damaged")),
    "lying.jpg": Case(lambda: picture(kind="JPEG").replace(struct.pack(">HH", 600, 800), b"\xff\xff\xff\xff"), JPEG,
                      _ends("damaged", "too_large", "too_complex")),
    "cut.jp2": Case(lambda: picture(kind="JPEG2000")[:1500], JP2, _ends("damaged")),
    "frames.tif": Case(lambda: tiff(10_000, length=16), TIFF, _ends("ok", "damaged")),
    "loop.tif": Case(lambda: tiff(3, loop=True, length=16), TIFF, _ends("ok", "damaged")),
    "lying.tif": Case(lambda: tiff(1, width=2_000_000_000, length=2_000_000_000), TIFF, _ends("too_large", "damaged")),
    "cut.tif": Case(lambda: picture(kind="TIFF")[:3000], TIFF, _ends("damaged")),
    "junk.heic": Case(lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\xff" * 500, "image/heic", _ends("damaged")),
    "junk.webp": Case(lambda: b"RIFF\xff\xff\xff\x7fWEBPVP8 " + b"\xff" * 500, "image/webp", _ends("damaged")),
}  # fmt: skip
