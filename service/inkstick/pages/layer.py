"""Is a page's own text worth trusting? Pure tests on characters; the words come from the parser.

A text layer can be missing, be an earlier OCR run, or be garbage of a font without a character map. The thresholds are
MinerU's, as worked out in its sources (50 characters, 4 % unmapped, 80 % covered by an image), with checks for runs of
punctuation and for words of mixed script.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from inkstick.pages.view import TextLayer, Word

MIN_CHARACTERS = 50
MAX_BROKEN = 0.04
MAX_COVER = 0.8
MIN_READABLE = 0.55
_CID = re.compile(r"\(cid:\d+\)")
_LEADER = re.compile(r"[.·…_\-–—=*]{3,}")
_RUN = re.compile(r"([^\w\s.·…_\-–—=*])\1{5,}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the parser saw beside the words: characters drawn visibly and invisibly, share of the page under images."""

    visible: int
    invisible: int
    cover: float


def judge(words: Sequence[Word], facts: Facts) -> TextLayer:
    """The text layer with its verdict."""
    reason = _fault("".join(word.text for word in words)) or _fault_of_words(words)
    drawn = facts.visible + facts.invisible
    if not reason and drawn and facts.invisible > 0.5 * drawn:
        reason = "earlier_ocr"
    born_digital = facts.visible > 0.5 * drawn and facts.cover < MAX_COVER if drawn else False
    return TextLayer(tuple(words), not reason, born_digital, reason)


def _fault(text: str) -> str:
    if len(text) < MIN_CHARACTERS:
        return "short" if text else "none"
    broken = sum(map(_is_broken, text)) + 4 * len(_CID.findall(text))
    if broken > MAX_BROKEN * len(text):
        return "unmapped"
    if len(_RUN.findall(text)) > 3:
        return "punctuation"
    text = _LEADER.sub("", text)
    readable = sum(1 for c in text if unicodedata.category(c)[0] in "LMN")
    return "symbols" if readable < MIN_READABLE * len(text) else ""


def _fault_of_words(words: Sequence[Word]) -> str:
    """Words of more than one alphabet are the mark of a wrong character map (or of a trick)."""
    long = [word.text for word in words if len(word.text) > 3]
    mixed = sum(1 for text in long if len(_alphabets(text)) > 1)
    return "mixed_scripts" if long and mixed > 0.2 * len(long) else ""


def _is_broken(c: str) -> bool:
    category = unicodedata.category(c)
    return c == "\ufffd" or category in ("Co", "Cn", "Cs") or (category == "Cc" and c not in "\t\n\r")


def _alphabets(text: str) -> set[str]:
    names = (unicodedata.name(c, "").split(" ", 1)[0] for c in text if c.isalpha())
    return {name for name in names if name in ("LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "THAI")}
