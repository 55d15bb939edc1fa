"""Memory, cores and the size of the data folder → the service's settings, as an environment file for its units."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
WORKER_BYTES = 1 * GIB  # what one OCR process is allowed for
SYSTEM_BYTES = 512 * MIB  # kernel, systemd, the service itself


@dataclass(frozen=True, slots=True)
class Facts:
    """`memory`: bytes of RAM. `data`: bytes that the data folder holds. `in_memory`: the data folder takes from RAM."""

    memory: int
    cores: int
    data: int
    in_memory: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """The service's settings of the same names (docs/settings.md)."""

    workers: int
    parsers: int
    image_bytes: int
    reserve_bytes: int

    def environment(self) -> str:
        return "".join(f"INKSTICK_{name.upper()}={getattr(self, name)}\n" for name in self.__slots__)


def choose(facts: Facts) -> Chosen:
    """As many OCR processes as cores, fewer where memory is short; never none. Documents in RAM leave less for them."""
    left = facts.memory - SYSTEM_BYTES - (facts.data if facts.in_memory else 0)
    workers = max(1, min(facts.cores, left // WORKER_BYTES))
    return Chosen(
        workers=workers,
        parsers=1 if left < 2 * GIB else min(4, max(2, workers // 2)),
        image_bytes=min(512 * MIB, max(64 * MIB, left // 8)),
        reserve_bytes=reserve(facts.data),
    )


def reserve(data: int) -> int:
    """Of so many bytes of a data folder, those that are kept free: below them nothing is accepted."""
    return min(2 * GIB, max(32 * MIB, data // 8))


def memory_of(meminfo: str) -> int:
    """Bytes of MemTotal in the text of /proc/meminfo. Raises ValueError without one."""
    match = re.search(r"^MemTotal:\s+(\d+) kB$", meminfo, re.MULTILINE)
    if match is None:
        raise ValueError("no MemTotal")
    return int(match[1]) * 1024


def on_tmpfs(folder: Path, mounts: str) -> bool:
    """Whether `folder` itself is a tmpfs in the text of /proc/mounts; of several mounts on it, the last is on top."""
    kinds = [line.split()[2] for line in mounts.splitlines() if line.split()[1] == str(folder)]
    return kinds[-1:] == ["tmpfs"]


def look(data: Path) -> Facts:
    size = os.statvfs(data)
    return Facts(
        memory_of(Path("/proc/meminfo").read_text(encoding="ascii")),
        len(os.sched_getaffinity(0)),
        size.f_blocks * size.f_frsize,
        on_tmpfs(data, Path("/proc/mounts").read_text(encoding="utf-8")),
    )


def main(arguments: list[str]) -> int:
    data, out = map(Path, arguments)
    out.write_text(choose(look(data)).environment(), encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
