"""A piece of the disk that is kept, to be given up when there is nothing left.

Documents wait where the disk is below its reserve, but others write there too (the share, a file manager): down to the
last byte. Then neither a start nor a deletion could write what it must write first, and nobody could make room.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

log = logging.getLogger(__name__)

BYTES = 32 << 20
"""Room for the ledger's changes, and for the endings that a full disk cut off."""


class Ballast:
    """The file `path`, or none. `reserve`: free bytes that a disk must have besides for it to be made again; a disk
    without a reserve has no ballast either."""

    def __init__(self, path: Path, reserve: int, size: int = BYTES) -> None:
        self._path, self._reserve = path, reserve
        self._size = min(size, reserve)

    def keep(self) -> None:
        """Make it, if it is missing and the disk has room enough. Never an error: without it, all is as before."""
        with contextlib.suppress(OSError):
            if not self._size or self._path.exists() or self._free() < self._reserve + self._size:
                return
            part = self._path.with_name(f".{self._path.name}.part")
            try:
                with part.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, self._size)
                part.rename(self._path)
            finally:
                part.unlink(missing_ok=True)

    def spend(self) -> None:
        """Give it up, if there is hardly anything left. Call it before something that must be written."""
        with contextlib.suppress(OSError):
            if self._free() < self._size and self._path.exists():
                self._path.unlink()
                log.warning("the disk is full to the last: a reserve of %d MB was given up", self._size >> 20)

    def _free(self) -> int:
        return shutil.disk_usage(self._path.parent).free
