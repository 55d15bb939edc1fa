"""What a parser process says, checked. Everything it sends may have been made up by a hostile document.

Types, ranges and lengths are verified before a value of ours is made of them; text loses its control characters.
Raises `WireError` on anything that the real worker never sends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from inkstick.document import Box, Flag
from inkstick.errors import DOCUMENT_CODES, DocumentError, Internal, by_code
from inkstick.pages.view import Ink, PageView, Pixels, Probe, TextLayer, Tile, Word
from inkstick.pages.wire import WireError

MAX_PAGES = 1_000_000
MAX_SIDE = 70_000
MAX_WORDS = 60_000
MAX_TEXT = 1_000
_WARNINGS = frozenset({"xfa", "page_count"})
_REASONS = frozenset(
    {"", "none", "short", "unmapped", "symbols", "punctuation", "mixed_scripts", "earlier_ocr", "partial"}
)
_PAGE_FLAGS = frozenset({Flag.BLANK, Flag.ROTATED, Flag.TILED, Flag.LOW_DPI, Flag.SUSPECT})
_IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def error(head: Mapping[str, Any]) -> DocumentError | None:
    """The error that the answer reports, if it reports one."""
    told = head.get("error")
    if told is None:
        return None
    if not isinstance(told, dict) or told.get("code") not in DOCUMENT_CODES:
        raise WireError("unknown error")
    hint = clean(told["hint"], 300) if "hint" in told else ""
    made = by_code(told["code"], clean(told.get("message"), 300) or None, hint or None)
    return made if isinstance(made, DocumentError) else Internal()


def probe(media_type: str, head: Mapping[str, Any]) -> Probe:
    pages = integer(head.get("pages"), 1, MAX_PAGES)
    warnings = head.get("warnings")
    if not isinstance(warnings, list):
        raise WireError("unknown warning")
    return Probe(media_type, pages, tuple(str(_member(warning, _WARNINGS)) for warning in warnings))


def page_view(number: int, head: Mapping[str, Any], blobs: Sequence[bytes], max_tiles: int) -> PageView:
    told = head.get("tiles")
    if not isinstance(told, list) or len(told) > max_tiles or len(blobs) != len(told) + 1:
        raise WireError("tiles and blobs do not match")
    return PageView(
        number=number,
        pixels=_pixels(head, blobs[0]),
        ink=Ink(_member(head.get("ink"), frozenset(Ink))),
        rotation=int(_member(head.get("rotation"), frozenset({0, 90, 180, 270}))),
        dpi=_dpi(head.get("dpi")),
        text_layer=_layer(head.get("layer")),
        tiles=tuple(
            Tile(_pixels(tile, blob), _box(tile.get("box"))) for tile, blob in zip(told, blobs[1:], strict=True)
        ),
        flags=_flags(head.get("flags")),
    )


def picture(blobs: Sequence[bytes]) -> bytes:
    """An encoded image for people: PNG or JPEG by its first bytes."""
    if len(blobs) != 1 or not blobs[0].startswith(_IMAGE_STARTS):
        raise WireError("not an image")
    return blobs[0]


def clean(value: object, length: int = MAX_TEXT) -> str:
    """Text without control characters and lone surrogates, cut to `length`."""
    if not isinstance(value, str):
        raise WireError("not text")
    text = value[:length]
    if text.isprintable():
        return text
    return "".join(c for c in text if c in "\t\n" or (c >= " " and c != "\x7f" and not "\ud800" <= c <= "\udfff"))


def integer(value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise WireError("number out of range")
    return value


def integers(value: object, most: int) -> list[int]:
    """A short list of natural numbers."""
    if not isinstance(value, list) or len(value) > most:
        raise WireError("list out of bounds")
    return [integer(n, 0, 1 << 62) for n in value]


def _pixels(head: object, blob: bytes) -> Pixels:
    if not isinstance(head, dict):
        raise WireError("not an object")
    width, height = integer(head.get("width"), 1, MAX_SIDE), integer(head.get("height"), 1, MAX_SIDE)
    if len(blob) != width * height * 3:
        raise WireError("pixels do not match their size")
    return Pixels(width, height, blob)


def _layer(value: object) -> TextLayer | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("words"), list) or len(value["words"]) > MAX_WORDS:
        raise WireError("text layer out of bounds")
    good, born_digital = value.get("good"), value.get("born_digital")
    if not isinstance(good, bool) or not isinstance(born_digital, bool):
        raise WireError("text layer without a verdict")
    words = tuple(_word(word) for word in value["words"])
    return TextLayer(words, good, born_digital, str(_member(value.get("reason"), _REASONS)))


def _word(value: object) -> Word:
    if not isinstance(value, list) or len(value) != 5:
        raise WireError("not a word")
    return Word(clean(value[0]), _box(value[1:]))


def _box(value: object) -> Box:
    if not isinstance(value, list) or len(value) != 4:
        raise WireError("not a box")
    x0, y0, x1, y1 = (integer(v, 0, 1000) for v in value)
    if x0 > x1 or y0 > y1:
        raise WireError("box inside out")
    return (x0, y0, x1, y1)


def _flags(value: object) -> tuple[Flag, ...]:
    if not isinstance(value, list) or len(value) > len(_PAGE_FLAGS):
        raise WireError("flags out of bounds")
    return tuple(Flag(_member(flag, _PAGE_FLAGS)) for flag in value)


def _dpi(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise WireError("not a resolution")
    return float(value)


def _member(value: object, allowed: frozenset[Any]) -> Any:
    if not isinstance(value, str | int) or value not in allowed:
        raise WireError("not one of the allowed values")
    return value
