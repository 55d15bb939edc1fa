"""The language of the pages: English sentences in the templates are the keys, a catalogue per language translates them.

A catalogue is a folder of TOML files, ``locale/<code>/<screen>.toml``, of lines ``"English sentence" = "translation"``.
What a catalogue lacks is shown in English. Placeholders: ``_("{n} pages", n=3)``. Code that has no language of its own
returns a `Said`, which the template translates: ``_(words.disk(stats)[1])``. What an error says is stored and sent in
English, with its values in it: it is recognised by the sentences of ``errors.toml``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from starlette.requests import Request

FOLDER = Path(__file__).parent / "locale"
COOKIE = "inkstick-language"
LANGUAGES: Mapping[str, str] = {"en": "English", "zh": "中文"}
TAGS: Mapping[str, str] = {"en": "en", "zh": "zh-Hans"}


class Said(str):
    """An English sentence with its values filled in, which remembers both, so that it can still be translated. Of the
    values only those that are `Said` themselves are sentences of ours; any other is a name, shown as it is."""

    __slots__ = ("sentence", "values")
    sentence: str
    values: Mapping[str, object]

    def __new__(cls, sentence: str, /, **values: object) -> Said:
        said = super().__new__(cls, sentence.format(**values) if values else sentence)
        said.sentence, said.values = sentence, values
        return said


class Translate(Protocol):
    """From an English sentence to the language of the page, with the placeholders filled in."""

    def __call__(self, sentence: str, /, **values: object) -> str: ...


@cache
def catalogue(code: str) -> Mapping[str, str]:
    """All sentences of a language. Two files that give the same sentence differently: the later name counts."""
    found: dict[str, str] = {}
    for path in sorted((FOLDER / code).glob("*.toml")):
        found |= tomllib.loads(path.read_text(encoding="utf-8"))
    return found


@cache
def errors(code: str) -> Mapping[str, str]:
    """The sentences of errors; values stand in them as ``{name}``."""
    path = FOLDER / code / "errors.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@cache
def _patterns(code: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """The sentences of errors that hold values, as they look with them; those that say most first."""
    parted = {sentence: re.sub(r"\{\w+\}", "", sentence) for sentence in errors(code) if "{" in sentence}
    most = sorted(parted, key=lambda sentence: -len(parted[sentence]))
    return tuple((_pattern(sentence), errors(code)[sentence]) for sentence in most)


def _pattern(sentence: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", re.escape(sentence)), re.DOTALL)


def _recognised(code: str, text: str) -> tuple[str, Mapping[str, str]] | None:
    """The translation, and its values, of an English text that came with its values filled in."""
    for pattern, translation in _patterns(code):
        if found := pattern.fullmatch(text):
            return translation, found.groupdict()
    return None


def translator(code: str) -> Translate:
    """Translates to the language `code`."""
    sentences = catalogue(code)

    def translate(sentence: str, /, **values: object) -> str:
        if isinstance(sentence, Said):
            inner = {
                key: translate(value) if isinstance(value, Said) else value for key, value in sentence.values.items()
            }
            return translate(sentence.sentence, **inner)
        if not values and sentence not in sentences and (found := _recognised(code, sentence)):
            text, given = found
            return text.format(**{key: sentences.get(value, value) for key, value in given.items()})
        text = sentences.get(sentence, sentence)
        return text.format(**values) if values else text

    return translate


def chosen(cookie: str | None, accepted: str) -> str:
    """The code of the page's language: what the person chose, else the first that the browser names and we have."""
    if cookie in LANGUAGES:
        return str(cookie)
    for wish in accepted.split(","):
        code = wish.split(";")[0].strip()[:2].lower()
        if code in LANGUAGES:
            return code
    return "en"


def of(request: Request) -> str:
    return chosen(request.cookies.get(COOKIE), request.headers.get("accept-language", ""))


def context(request: Request) -> dict[str, object]:
    """What every template gets: ``_`` translates, ``language`` is the code, ``tag`` the value of the lang attribute."""
    code = of(request)
    return {"_": translator(code), "language": code, "tag": TAGS[code], "languages": LANGUAGES}
