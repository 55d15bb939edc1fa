"""Names of result folders: any name that a document may carry becomes one that every file system and share accepts.

Pure functions. A safe name is NFC, at most `LIMIT` bytes with the longest suffix that results get, never empty, never
hidden, and free of what Windows and SMB forbid: ``< > : " / \\ | ? *``, control characters, device names such as
``CON``, a dot or blank at the end. Invisible direction marks go too: they let a name pretend to be another.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

LIMIT = 200
_SUFFIX = 16  # room for ".hocr.html", ".alto.xml" and whatever a later format needs
STEM_LIMIT = LIMIT - _SUFFIX

_EXTENSION = re.compile(r"\.(?=[0-9]?[A-Za-z])[A-Za-z0-9]{1,5}$")
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
_JOINERS = "\u200c\u200d"  # they change how Persian and Indic words read: not decoration


def result_name(original: str) -> str:
    """The folder and file stem for the results of a document called `original`, for example ``report`` of
    ``scans/report.pdf``. Any string is allowed, surrogates included; the answer is always a safe name."""
    last = re.split(r"[/\\]", original.rstrip("/\\"))[-1]
    stem = _EXTENSION.sub("", last)
    return safe_name(stem if stem.strip(". ") else last)


def safe_name(name: str) -> str:
    """`name` with everything replaced that some file system or share forbids. Idempotent."""
    name = unicodedata.normalize("NFC", name)
    name = _FORBIDDEN.sub("_", "".join(_printable(char) for char in name))
    name = unicodedata.normalize("NFC", name)
    name = _cut(re.sub(r"\s+", " ", name).strip(" .\u200c\u200d"), STEM_LIMIT)
    if not name:
        return "document"
    return _cut(f"_{name}", STEM_LIMIT) if _DEVICE.match(name) else name


def numbered(name: str, n: int) -> str:
    """``name (2)`` for the second holder of a name; `name` itself for n = 1. Within `STEM_LIMIT` bytes too."""
    if n <= 1:
        return name
    tail = f" ({n})"
    return _cut(name, STEM_LIMIT - len(tail)) + tail


def part_names(names: Sequence[str]) -> tuple[str, ...]:
    """A folder name for each member of an archive or mail: ``01 letter``, in the members' order, each one different."""
    digits = max(2, len(str(len(names))))
    return tuple(_cut(f"{n:0{digits}d} {result_name(name)}", STEM_LIMIT) for n, name in enumerate(names, 1))


def _printable(char: str) -> str:
    category = unicodedata.category(char)
    if category in ("Cc", "Cs", "Zl", "Zp"):
        return " " if char in "\t\n\r\u2028\u2029" else "_"
    return "" if category == "Cf" and char not in _JOINERS else char


def _cut(name: str, size: int) -> str:
    """The longest prefix of `name` within `size` bytes of UTF-8 that does not end in a dot, blank or joiner."""
    cut = name.encode("utf-8")[:size].decode("utf-8", "ignore") if len(name.encode("utf-8")) > size else name
    return cut.rstrip(" .\u200c\u200d")
