"""A model's answer to "give me these fields" into exactly those fields. Pure.

The page is untrusted and so is the answer: only the keys that were asked for are taken, in the order in which they were
asked, and one without a value is kept, empty, so that it is seen to be missing. What is nearly JSON is repaired: a
fence, single quotes, an object cut off at its end, a list of pairs. What holds none of the keys is refused.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from inkstick.document import Block, Kind

_FENCE = re.compile(r"```[^\n]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_DECODER = json.JSONDecoder()
_SEPARATOR = re.compile(r"[\s,]*")
_COLON = re.compile(r"\s*:\s*")
MOST = 1 << 20


@dataclass(frozen=True, slots=True)
class Extraction:
    """`values`: (key, value) for each key asked for, "" where there is none. `missing`: those keys."""

    values: tuple[tuple[str, str], ...]

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(key for key, value in self.values if not value)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """A field a key, ``key: value``; ``key:`` for a missing one."""
        return tuple(
            Block(n, Kind.FIELD, f"{key}: {value}".rstrip()) for n, (key, value) in enumerate(self.values, start=1)
        )


def extracted(answer: str, keys: Sequence[str]) -> Extraction | None:
    """The values of `keys` in `answer`; None if it is refused. One key alone may be answered without JSON."""
    found = dict(reversed(list(_pairs(answer[:MOST].strip()))))  # of doubled keys the first counts
    values = tuple((key, _value(found, key)) for key in keys)
    if any(value for _, value in values):
        return Extraction(values)
    plain = answer.strip()
    if len(keys) == 1 and plain and not found and plain[0] not in "{[`<":
        return Extraction(((keys[0], plain),))
    return Extraction(values) if found and all(_plainly(key) in map(_plainly, found) for key in keys) else None


def _value(found: dict[str, Any], key: str) -> str:
    """Under this very name, else under one that differs in case, blanks and punctuation only."""
    if key not in found:
        key = next((other for other in found if _plainly(other) == _plainly(key)), key)
    value = found.get(key)
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plainly(key: str) -> str:
    return re.sub(r"[\W_]+", "", key).casefold()


def _pairs(answer: str) -> Iterator[tuple[str, Any]]:
    fence = _FENCE.search(answer)
    body = fence.group(1) if fence else answer
    value = _loaded(body)
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict) and {"key", "value"} <= each.keys() and isinstance(each["key"], str):
            yield each["key"], each["value"]
        elif isinstance(each, dict):
            yield from ((str(key), item) for key, item in each.items())
    if value is None:
        yield from _cut(body)


def _loaded(body: str) -> Any:
    """JSON, or Python's own way of writing it; None for neither."""
    try:
        return json.loads(body, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(body) if len(body) < 65_536 else None
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _cut(body: str) -> Iterator[tuple[str, Any]]:
    """The whole pairs at the beginning of an object that breaks off."""
    place = body.find("{") + 1
    while place:
        try:
            key, place = _DECODER.raw_decode(body, _after(_SEPARATOR, body, place))
            value, place = _DECODER.raw_decode(body, _after(_COLON, body, place))
        except (ValueError, RecursionError):
            return
        if isinstance(key, str):
            yield key, value


def _after(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place
