"""A font without ink: every character of Unicode has a width and a meaning, none has a shape.

Invisible text needs no glyphs, only positions and the way back to Unicode. So each document carries one font of about
a kilobyte in place of a subset of a 5 MB CJK font, and every script can be searched, not only those that a font covers.
Characters get the codes 1, 2, 3… as they come (`Encoder`), so one beyond the BMP is no special case. Widths are near
those of ordinary type, in steps of 50, so that a word within a line is found where it is printed; the embedded
TrueType file has one empty glyph for each width, which keeps the widths in it and in the PDF the same.
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby

ASCENT, DESCENT = 800, -200
STEP = 50
_STEPS = 21  # 0, 50, … 1000
# Widths of Helvetica for the characters 32 to 126, in hundredths of the size, from Adobe's font metrics
_LATIN = (
    28, 28, 36, 56, 56, 89, 67, 19, 33, 33, 39, 58, 28, 33, 28, 28, 56, 56, 56, 56, 56, 56, 56, 56, 56, 56, 28, 28, 58,
    58, 58, 56, 102, 67, 67, 72, 72, 67, 61, 78, 72, 28, 50, 67, 56, 83, 72, 78, 67, 78, 72, 67, 61, 72, 67, 94, 67, 67,
    61, 28, 28, 28, 47, 56, 33, 56, 56, 50, 56, 56, 28, 56, 56, 22, 22, 50, 22, 83, 56, 56, 56, 56, 33, 50, 28, 56, 50,
    72, 50, 50, 50, 33, 26, 33, 58,
)  # fmt: skip


def is_control(char: str) -> bool:
    """Not text: control characters and halves of surrogate pairs."""
    return unicodedata.category(char) in ("Cc", "Cs")


@lru_cache(maxsize=1 << 16)
def char_width(char: str) -> int:
    """The width of a character in thousandths of the font size, a multiple of `STEP`."""
    code = ord(char)
    if 32 <= code < 127:
        hundredths = _LATIN[code - 32]
    elif unicodedata.category(char) in ("Mn", "Me", "Cf"):
        hundredths = 0
    elif unicodedata.east_asian_width(char) in "WF":
        hundredths = 100
    else:
        base = ord(unicodedata.normalize("NFD", char)[0])
        hundredths = _LATIN[base - 32] if 32 <= base < 127 else (68 if char.isupper() else 55)
    return min(STEP * round(hundredths * 10 / STEP), 1000)


def natural_width(text: str) -> float:
    """The width of a line at font size 1."""
    return sum(map(char_width, text)) / 1000


class Encoder:
    """Gives each character its code, in order of first use. One per document."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}

    def encode(self, text: str) -> str:
        """The hexadecimal digits of a PDF string. Beyond 65,534 different characters, further ones become U+FFFD."""
        return "".join([self._codes.get(char) or self._new_code(char) for char in text])

    def _new_code(self, char: str) -> str:
        if len(self._codes) >= 0xFFFE:
            char = "\ufffd"
        return self._codes.setdefault(char, f"{len(self._codes) + 1:04X}")

    def characters(self) -> list[str]:
        """All characters that have a code: the first has code 1."""
        return list(self._codes)


def font_objects(encoder: Encoder, first: int) -> Iterator[tuple[int, str, bytes | None]]:
    """The PDF objects of the font as (number, dictionary, stream or None), numbered from `first`, which is the font.

    Six objects: Type 0 font, CID font, descriptor, font file, map to glyphs, map to Unicode."""
    chars = encoder.characters()
    widths = [char_width(char) for char in chars]
    yield (
        first,
        f"<</Type/Font/Subtype/Type0/BaseFont/InkstickGlyphless/Encoding/Identity-H"
        f"/DescendantFonts[{first + 1} 0 R]/ToUnicode {first + 5} 0 R>>",
        None,
    )
    yield (
        first + 1,
        f"<</Type/Font/Subtype/CIDFontType2/BaseFont/InkstickGlyphless"
        f"/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>"
        f"/FontDescriptor {first + 2} 0 R/CIDToGIDMap {first + 4} 0 R/DW 500/W[{_width_array(widths)}]>>",
        None,
    )
    yield (
        first + 2,
        f"<</Type/FontDescriptor/FontName/InkstickGlyphless/Flags 4/FontBBox[0 {DESCENT} 1000 {ASCENT}]/ItalicAngle 0"
        f"/Ascent {ASCENT}/Descent {DESCENT}/CapHeight {ASCENT}/StemV 80/FontFile2 {first + 3} 0 R>>",
        None,
    )
    font = font_file()
    yield (first + 3, f"<</Length1 {len(font)}>>", font)
    glyphs = b"\0\0" + b"".join(struct.pack(">H", width // STEP + 1) for width in widths)
    yield (first + 4, "<<>>", glyphs)
    yield (first + 5, "<<>>", _to_unicode(chars))


FONT_OBJECTS = 6


def _width_array(widths: list[int]) -> str:
    """``first last width`` for each run of codes of one width."""
    parts: list[str] = []
    for width, run in groupby(enumerate(widths, 1), key=lambda item: item[1]):
        codes = [code for code, _ in run]
        parts.append(f"{codes[0]} {codes[-1]} {width}")
    return " ".join(parts)


def _to_unicode(chars: list[str]) -> bytes:
    lines = [
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
        "/CIDSystemInfo <</Registry (Adobe) /Ordering (UCS) /Supplement 0>> def",
        "/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
        "1 begincodespacerange <0000> <FFFF> endcodespacerange",
    ]
    for start in range(0, len(chars), 100):  # at most 100 entries a section, says the CMap specification
        section = chars[start : start + 100]
        lines.append(f"{len(section)} beginbfchar")
        for code, char in enumerate(section, start + 1):
            lines.append(f"<{code:04X}> <{char.encode('utf-16-be').hex().upper()}>")
        lines.append("endbfchar")
    lines.append("endcmap CMapName currentdict /CMap defineresource pop end end\n")
    return "\n".join(lines).encode("ascii")


def font_file() -> bytes:
    """A TrueType file: glyph 0, then an empty glyph for each width 0, 50, … 1000."""
    glyphs = _STEPS + 1
    advances = [500, *(STEP * n for n in range(_STEPS))]
    head = struct.pack(
        ">IIIIHHQQhhhhHHhhh",
        0x00010000, 0x00010000, 0, 0x5F0F3CF5, 0, 1000, 0, 0, 0, DESCENT, 1000, ASCENT, 0, 8, 2, 0, 0,
    )  # fmt: skip
    hhea = struct.pack(">IhhhHhhhhhhhhhhhH", 0x00010000, ASCENT, DESCENT, 0, 1000, *[0] * 11, glyphs)
    maxp = struct.pack(">IHHHHHHHHHHHHHH", 0x00010000, glyphs, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0)
    hmtx = b"".join(struct.pack(">Hh", advance, 0) for advance in advances)
    loca = b"\0\0" * (glyphs + 1)
    tables = {b"glyf": b"\0" * 4, b"head": head, b"hhea": hhea, b"hmtx": hmtx, b"loca": loca, b"maxp": maxp}
    return _sfnt(tables)


def _sfnt(tables: dict[bytes, bytes]) -> bytes:
    power = len(tables).bit_length() - 1
    out = struct.pack(">IHHHH", 0x00010000, len(tables), 16 << power, power, 16 * len(tables) - (16 << power))
    offset = len(out) + 16 * len(tables)
    body = b""
    for tag, data in sorted(tables.items()):
        padded = data + b"\0" * (-len(data) % 4)
        checksum = sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF
        out += tag + struct.pack(">III", checksum, offset + len(body), len(data))
        body += padded
    whole = out + body
    adjust = (0xB1B0AFBA - sum(struct.unpack(f">{len(whole) // 4}I", whole))) & 0xFFFFFFFF
    at = whole.index(struct.pack(">I", 0x5F0F3CF5)) - 4
    return whole[:at] + struct.pack(">I", adjust) + whole[at + 4 :]
