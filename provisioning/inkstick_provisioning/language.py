"""The language of the console: English sentences are the keys, `locale/<code>.toml` translates them."""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "locale"
LANGUAGES: Mapping[str, str] = {"en": "English", "zh": "中文"}


@cache
def catalogue(code: str) -> Mapping[str, str]:
    path = FOLDER / f"{code}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def say(code: str, sentence: str, /, **values: object) -> str:
    """The sentence in a language, its placeholders filled in; in English where the catalogue lacks it."""
    text = catalogue(code).get(sentence, sentence)
    return text.format(**{name: clean(str(value)) for name, value in values.items()}) if values else text


def clean(text: str, limit: int = 200) -> str:
    """Text from outside, made fit for a terminal: no control, format or private characters, one line, cut short."""
    kept = (" " if unicodedata.category(c) in ("Zl", "Zp", "Zs") or c in "\t\n\r" else c for c in text[: 4 * limit])
    line = "".join(c for c in kept if unicodedata.category(c)[0] != "C")
    return " ".join(line.split())[:limit]


def width(text: str) -> int:
    """Columns on a terminal: East Asian wide letters take two."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, columns: int) -> str:
    """At most so many columns, with an ellipsis where something was left out."""
    if width(text) <= columns:
        return text
    out = ""
    for letter in text:
        if width(out + letter) > columns - 1:
            break
        out += letter
    return f"{out}…"


def wrap(text: str, columns: int) -> list[str]:
    """Lines of at most so many columns (2 or more), broken at spaces, and between wide letters."""
    lines, rest = [], text.strip()
    while width(rest) > columns:
        fits = 1
        while width(rest[: fits + 1]) <= columns:
            fits += 1
        at = next((index for index in range(fits, 0, -1) if _breaks(rest, index)), fits)
        lines.append(rest[:at].rstrip())
        rest = rest[at:].lstrip()
    return [*lines, rest]


def _breaks(text: str, at: int) -> bool:
    """Whether a line may end before the letter `at`; never before a closing mark, nor after an opening one."""
    before, after = text[at - 1], text[at]
    wide = 2 in (width(before), width(after))
    return " " in (before, after) or (wide and after not in "，。：；、！？）·" and before != "（")
