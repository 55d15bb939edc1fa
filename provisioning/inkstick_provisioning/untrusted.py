"""Files that may be something else: some lie in folders of a process that reads hostile documents."""

from __future__ import annotations

import os
import stat
from pathlib import Path

LARGEST = 1 << 20
"""Bytes of a file that is read whole."""


def content(file: str | Path, most: int, folder: int | None = None) -> bytes:
    """At most `most` bytes of a regular file, by its path or by its name in an open `folder`. A link there is not
    followed, and a pipe holds nobody up. Raises OSError, and ValueError for what is no file."""
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(handle, "rb") as opened:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("not a file")
        return opened.read(most)


def text(path: Path) -> str:
    """That of a small file, "" where there is none."""
    try:
        return content(path, LARGEST).decode("utf-8")
    except (OSError, ValueError):
        return ""
