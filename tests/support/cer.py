"""Character error rate, as everywhere in this project: edits between the two texts, without white space, by the true
text's length, both in Unicode's NFKC form."""

from __future__ import annotations

import unicodedata

from rapidfuzz.distance import Levenshtein


def plain(text: str) -> str:
    """NFKC, without any white space."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def error_rate(read: str, truth: str) -> float:
    """0.0 is perfect. Raises ZeroDivisionError for an empty truth: nothing can be measured against it."""
    wanted = plain(truth)
    return float(Levenshtein.distance(plain(read), wanted)) / len(wanted)
