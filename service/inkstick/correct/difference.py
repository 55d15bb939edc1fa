"""Two texts side by side, word by word (Chinese, Japanese: character by character). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

MOST = 6_000
"""Words of both together beyond which the texts are shown whole, one as gone, one as new."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W]+|\s+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Piece:
    """`kind`: same, gone (only in the old text) or new."""

    kind: str
    text: str


def difference(old: str, new: str) -> list[Piece]:
    """The pieces of both texts in order. The `same` and `gone` ones are the old text, `same` and `new` the new."""
    a, b = _WORD.findall(old), _WORD.findall(new)
    if len(a) + len(b) > MOST:
        return [Piece("same", old)] if old == new else [Piece("gone", old), Piece("new", new)]
    found: list[Piece] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            found.append(Piece("same", "".join(a[i1:i2])))
            continue
        found += [Piece(kind, text) for kind, text in (("gone", "".join(a[i1:i2])), ("new", "".join(b[j1:j2]))) if text]
    return found
