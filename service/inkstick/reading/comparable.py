"""Text in the form in which two readings are compared: letters and digits alone, in one spelling each.

White space, punctuation and Markdown's marks say nothing about who read better, and full-width forms, capitals and
accents hardly more. What the second reader cannot read at all (formulas, raised figures, other scripts) becomes one
`HOLE`, which matches nothing and is not judged.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

HOLE = "\ue000"
BREAK = "\ue001"
"""Stands between two blocks of the first reading."""
TAKEN = "\ue002"
MARKS = frozenset((HOLE, BREAK, TAKEN))

_DROPPED = re.compile(
    r"</?(?:b|i|u|em|strong|br|p|span|div|font|center)\b[^>]{0,80}>|&[a-z]{2,8};|(?<=\])\([^)\s]*\)", re.I
)
_FORMULA = re.compile(
    r"\\\(.+?\\\)|<su[bp]>.*?</su[bp]>|\$\$.+?\$\$|\$(?=[^$\n]*[\\^_{])[^$\n]{1,200}\$|\$[A-Za-z]{1,3}\$", re.I | re.S
)
_READABLE = (
    (0x0000, 0x024F),
    (0x0370, 0x03FF),
    (0x1E00, 0x1FFF),
    (0x2E80, 0xA4CF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Latin, Greek, kana, Chinese: what PP-OCRv6 has characters for (facts of its dictionary, 18,708 entries)."""


@dataclass(frozen=True, slots=True)
class Comparable:
    """`keys[n]` came from ``text[at[n]]``."""

    text: str
    keys: str
    at: tuple[int, ...]

    @property
    def unreadable(self) -> bool:
        """More of it than not is in a script that the second reader does not know."""
        letters = [char for char in self.text if char.isalpha()]
        return bool(letters) and sum(not readable(char) for char in letters) > 0.3 * len(letters)


def comparable(text: str) -> Comparable:
    """`text`, which is plain (no table, no block formula), ready to be compared."""
    keys: list[str] = []
    at: list[int] = []
    for place, key in _keys(text):
        if key == HOLE and keys and keys[-1] == HOLE:
            continue
        keys.append(key)
        at.append(place)
    return Comparable(text, "".join(keys), tuple(at))


def weight(keys: str) -> int:
    """How much text that is: a Chinese character says about as much as two Latin letters."""
    return sum(0 if key in MARKS else 2 if ord(key) > 0x2E7F else 1 for key in keys)


def readable(char: str) -> bool:
    return any(low <= ord(char) <= high for low, high in _READABLE)


def _keys(text: str) -> Iterator[tuple[int, str]]:
    dropped = [found.span() for found in _DROPPED.finditer(text)]
    holes = [found.span() for found in _FORMULA.finditer(text)]
    place = 0
    while place < len(text):
        if end := _end(dropped, place):
            place = end
        elif end := _end(holes, place):
            yield place, HOLE
            place = end
        else:
            yield from ((place, key) for key in _folded(text[place]))
            place += 1


def _end(spans: list[tuple[int, int]], place: int) -> int | None:
    return next((end for start, end in spans if start == place), None)


@lru_cache(maxsize=8192)
def _folded(char: str) -> str:
    """The keys of one character: none, one, or several (ligatures)."""
    if unicodedata.decomposition(char).startswith(("<super>", "<sub>")):
        return HOLE
    out = ""
    for part in unicodedata.normalize("NFKC", char).casefold():
        if not part.isalnum():
            continue
        plain = unicodedata.normalize("NFKD", part)[0]
        part = plain if plain.isascii() else part
        out += part if readable(part) else HOLE
    return out
