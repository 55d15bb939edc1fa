"""What a request asks for beside its bytes, as keys of a profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inkstick.errors import UsageError
from inkstick.profile import Priority, Profile, merge

LISTS = ("formats", "keys")
NAMES = ("task", "formats", "engine", "keys", "to", "priority", "text_layer", "second_reader")


def gather(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Wishes from query parameters or form fields: lists by comma or by repetition, empty ones left out.

    Raises `UsageError` for an unknown name, a name said twice, or a value that the profile does not take."""
    wishes: dict[str, Any] = {}
    for name, value in pairs:
        if name not in NAMES:
            raise UsageError(f"request: unknown option {name!r}", hint=f"Known options: {', '.join(NAMES)}.")
        words = [word.strip() for word in value.split(",") if word.strip()]
        if not words:
            continue
        if name in LISTS:
            wishes[name] = [*wishes.get(name, []), *words]
        elif name in wishes:
            raise UsageError(f"request: {name} is given twice", hint="Give it once.")
        else:
            wishes[name] = value.strip()
    check(wishes)
    return wishes


def check(wishes: Mapping[str, Any]) -> None:
    """Raises `UsageError` if the wishes are not a profile."""
    merge(Profile(priority=Priority.PERSON), wishes, where="request")
