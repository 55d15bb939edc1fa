"""What console and page ask the keeper for: small JSON files in a folder, taken in order of their names, each once.

The console's folder may ask for everything. The page's (`state/requests/`, written by the service) only for what a
paired person may do from another computer: answers of the first start, sticks, a new PIN, locking, switching off. Never
for a wipe, nor for the network's mode or the share: whoever took over the service must not open it wider.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from inkstick_provisioning import untrusted

LARGEST = 8192
EVERYTHING = frozenset(
    {"answer", "network", "pin", "eject", "lock", "power", "wipe", "card", "share", "stick", "decline", "export"}
)
PAGE = frozenset({"answer", "pin", "eject", "lock", "power", "stick", "decline", "export"})


@dataclass(frozen=True, slots=True)
class Asked:
    """`value`: a stick's id, or the line of an answer (perhaps a passphrase: repr leaves it out). `number`: of the
    question that is answered."""

    what: str
    value: str = field(default="", repr=False)
    number: int = -1


def take(folder: Path, allowed: frozenset[str]) -> list[Asked]:
    """All that lie there now, removed; what cannot be understood, or is not allowed, is removed and forgotten. Nothing
    where the folder cannot be read: its disk may be gone. Links are not followed anywhere on the way: the page's folder
    belongs to a process that reads hostile files."""
    try:
        handle = _open_folder(folder)
    except OSError:
        return []
    try:
        names = sorted(name for name in os.listdir(handle) if name.endswith(".json") and not name.startswith("."))  # noqa: PTH208
        asked = [_one(handle, name) for name in names[:100]]
    except OSError:
        return []
    finally:
        os.close(handle)
    return [one for one in asked if one is not None and one.what in allowed]


def _open_folder(folder: Path) -> int:
    handle = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    for part in folder.parts[1:]:
        try:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
        finally:
            os.close(handle)
        handle = inner
    return handle


def _one(folder: int, name: str) -> Asked | None:
    try:
        value = json.loads(_content(folder, name))
        asked = Asked(str(value["what"]), str(value.get("value", "")), int(value.get("number", -1)))
        asked.value.encode()  # JSON can say half a letter, which no passphrase has: ValueError
        return asked
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)


def _content(folder: int, name: str) -> bytes:
    data = untrusted.content(name, LARGEST + 1, folder)
    if len(data) > LARGEST:
        raise ValueError("too large")
    return data
