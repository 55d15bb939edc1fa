"""A folder's settings as a text and as a form: one changes with the other, and comments stay.

Pure. The text is TOML without tables, so it falls into statements: the fewest lines that TOML accepts together. A
changed choice replaces its own statement and touches no other; a new one is added at the end.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

Values = Mapping[str, Any]
"""A form's choices by key: a text, a list of texts, or None for what the folder above asks for."""

CHOICES = ("task", "to", "engine", "originals", "text_layer", "second_reader", "priority", "prompt")
LISTS = ("keys", "formats", "passwords")


def values(text: str) -> dict[str, Any]:
    """What the text says, for the form: every key, None where it says nothing. Raises TOMLDecodeError."""
    own = tomllib.loads(text)
    return {key: own.get(key) for key in (*CHOICES, *LISTS)}


def changed(text: str, wanted: Values) -> str:
    """The text with the choices that differ from its own replaced, added or (None) taken out. Raises TOMLDecodeError
    for a text that is no TOML: it must be corrected first."""
    own = values(text)
    wanted = {key: value for key, value in wanted.items() if not same(value, own.get(key))}
    out, told = [], set[str]()
    for keys, lines in statements(text):
        key = next((key for key in keys if key in wanted), None)
        if key is None:
            out.append(lines)
        elif wanted[key] is not None:
            out.append(line(key, wanted[key]))
        told |= keys
    out += [line(key, value) for key, value in wanted.items() if key not in told and value is not None]
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in out)


def same(one: Any, other: Any) -> bool:
    """Whether two values ask for the same: blanks around texts and the order of formats do not count, for a form keeps
    neither."""
    return bool(_plain(one) == _plain(other))


def alike(one: Values, other: Values) -> bool:
    """Whether two forms ask for the same."""
    return all(same(one.get(key), other.get(key)) for key in (*CHOICES, *LISTS))


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return sorted(str(item).strip() for item in value) or None
    return value.strip() if isinstance(value, str) else value


def line(key: str, value: Any) -> str:
    """``key = value`` in TOML."""
    if isinstance(value, list | tuple):
        return f"{key} = [{', '.join(_quoted(str(item)) for item in value)}]\n"
    return f"{key} = {_quoted(str(value))}\n"


def statements(text: str) -> Iterator[tuple[set[str], str]]:
    """The text in pieces that join to it again, each with the keys that it sets (none for comments)."""
    piece = ""
    for one in text.splitlines(keepends=True):
        piece += one
        try:
            keys = set(tomllib.loads(piece))
        except tomllib.TOMLDecodeError:
            continue  # a list or a text over several lines: go on to its end
        yield keys, piece
        piece = ""
    if piece:
        yield set(), piece


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
