"""Results of many documents as one ZIP archive, made while it is sent: no copy on the disk, one block in memory."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from inkstick.intake.names import display

BLOCK = 256 << 10
_PACKED = {".pdf", ".docx", ".png", ".jpg", ".zip"}
_NEEDS_64 = 1 << 31


class _Sink(io.RawIOBase):
    """What the archive writes, until it is taken away to be sent."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        block = bytes(data)
        self._blocks.append(block)
        return len(block)

    def take(self) -> bytes:
        blocks, self._blocks = self._blocks, []
        return b"".join(blocks)


def stream(folders: Iterable[tuple[str, Path]]) -> Iterator[bytes]:
    """The archive in blocks: each folder's regular files under its name. A file that is gone meanwhile is left out."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", strict_timestamps=False) as archive:
        for name, path in files(folders):
            try:
                yield from _put(archive, sink, name, path)
            except FileNotFoundError:
                continue
    yield sink.take()


def files(folders: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, Path]]:
    """(name in the archive, file), links and devices left out."""
    for name, folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield f"{name}/{display(os.fsencode(path.relative_to(folder)))}", path


def _put(archive: zipfile.ZipFile, sink: _Sink, name: str, path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
        entry.compress_type = zipfile.ZIP_STORED if path.suffix.lower() in _PACKED else zipfile.ZIP_DEFLATED
        with archive.open(entry, "w", force_zip64=entry.file_size >= _NEEDS_64) as target:
            while block := source.read(BLOCK):
                target.write(block)
                yield sink.take()
