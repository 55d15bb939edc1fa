"""File names: bytes on disk, words for people, and the order in which people expect them."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Final

_DIGITS: Final = re.compile(r"(\d+)")

NaturalKey = tuple[tuple[int, int, str], ...]


def display(raw: bytes) -> str:
    """A path's bytes as text for people: UTF-8 in NFC, with U+FFFD for each byte that is not UTF-8."""
    return unicodedata.normalize("NFC", raw.decode("utf-8", "replace"))


def escaped(raw: bytes) -> str:
    """A path's bytes as the string that the file functions take and give back unchanged."""
    return os.fsdecode(raw)


def natural_key(raw: bytes) -> tuple[NaturalKey, bytes]:
    """Sorts page2 before page10, a folder's files together, and never two different names as equal.

    Numbers beyond 18 digits sort by their first 18 and then by the bytes: int() of a long name would be slow.
    """
    parts = _DIGITS.split(display(raw).casefold())
    key = tuple((1, int(p[:18]), "") if p[:1].isdecimal() else (0, 0, p) for p in parts)
    return key, raw


def parent(raw: bytes) -> bytes:
    """The folder part of a relative path; b"" for the top."""
    return raw.rpartition(b"/")[0]


def chain(folder: bytes) -> list[bytes]:
    """The folder and those above it, from the top (b"") down."""
    parts = folder.split(b"/") if folder else []
    return [b"/".join(parts[:depth]) for depth in range(len(parts) + 1)]
