"""A power cut, replayed: what QEMU's blklogwrites recorded, up to a flush, and a random part of what came after it.

Whoever pulls the plug takes from a stick whatever it had not written yet, in any order: a flush is the only promise.
"""

from __future__ import annotations

import random
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

MAGIC = 0x6A736677736872
FLUSH, DISCARD = 1, 4
SECTOR = 512


@dataclass(frozen=True, slots=True)
class Write:
    """`sector` and `sectors` of the disk; `flags`: of the log's format; `at`: where its data lie in the log."""

    sector: int
    sectors: int
    flags: int
    at: int

    @property
    def flush(self) -> bool:
        return bool(self.flags & FLUSH)


def recorded(log: Path) -> list[Write]:
    """The log's entries, as far as its first sector counts them. Raises ValueError for something else."""
    with log.open("rb") as file:
        magic, version, count, size = struct.unpack("<QQQI", file.read(28))
        if (magic, version) != (MAGIC, 1):
            raise ValueError(f"{log} is no log of writes")
        at, found = size, []
        for _ in range(count):
            file.seek(at)
            sector, sectors, flags, _length = struct.unpack("<QQQQ", file.read(32))
            found.append(Write(sector, sectors, flags, at + size))
            at += size + (0 if flags & DISCARD else sectors * size)
    return found


def flushes(writes: list[Write]) -> list[int]:
    """Where the flushes are among the entries."""
    return [number for number, write in enumerate(writes) if write.flush]


def cut(base: Path, log: Path, out: Path, last: int, chance: random.Random, size: int) -> tuple[int, int]:
    """`out`: the disk `base`, grown to `size` bytes, with every write up to the flush at entry `last`, and of those
    until the second flush after it each with even odds. How many there were after it, and how many were kept."""
    writes = recorded(log)
    after = [number for number in flushes(writes) if number > last]
    end = after[1] if len(after) > 1 else len(writes)
    kept = [write for write in writes[last + 1 : end] if chance.random() < 0.5]
    shutil.copyfile(base, out)
    with out.open("r+b") as disk, log.open("rb") as data:
        disk.truncate(size)
        for write in (*writes[: last + 1], *kept):
            if write.sectors and not write.flags & DISCARD:
                data.seek(write.at)
                disk.seek(write.sector * SECTOR)
                disk.write(data.read(write.sectors * SECTOR))
    return end - last - 1, len(kept)
