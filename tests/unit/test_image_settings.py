"""Hardware facts → settings of the service, for machines that people have."""

from __future__ import annotations

from pathlib import Path

import pytest

from inkstick.config import load
from inkstick_provisioning.settings import GIB, MIB, Chosen, Facts, choose, memory_of, on_tmpfs


@pytest.mark.parametrize(
    ("memory", "cores", "data", "in_memory", "workers", "parsers"),
    [
        (2 * GIB, 2, 1 * GIB, True, 1, 1),  # an old netbook, documents in RAM
        (4 * GIB, 2, 2 * GIB, True, 1, 1),
        (4 * GIB, 4, 60 * GIB, False, 3, 2),  # the same memory, documents on the stick
        (8 * GIB, 8, 4 * GIB, True, 3, 2),
        (16 * GIB, 8, 8 * GIB, True, 7, 3),
        (32 * GIB, 16, 16 * GIB, True, 15, 4),
        (64 * GIB, 24, 900 * GIB, False, 24, 4),
        (512 * MIB, 1, 256 * MIB, True, 1, 1),  # too small, and still an answer
    ],
)
def test_workers_follow_cores_and_the_memory_that_documents_leave(
    memory: int, cores: int, data: int, in_memory: bool, workers: int, parsers: int
) -> None:
    chosen = choose(Facts(memory, cores, data, in_memory))
    assert (chosen.workers, chosen.parsers) == (workers, parsers)


@pytest.mark.parametrize("data", [64 * MIB, 1 * GIB, 100 * GIB])
def test_the_reserve_never_takes_the_whole_data_folder(data: int) -> None:
    chosen = choose(Facts(8 * GIB, 4, data, False))
    assert 0 < chosen.reserve_bytes <= data // 2
    assert 64 * MIB <= chosen.image_bytes <= 512 * MIB


def test_the_service_understands_what_is_written() -> None:
    chosen = Chosen(workers=3, parsers=2, image_bytes=100 * MIB, reserve_bytes=50 * MIB)
    settings = load({}, dict(line.split("=") for line in chosen.environment().splitlines()))
    assert (settings.workers, settings.parsers) == (3, 2)
    assert (settings.image_bytes, settings.reserve_bytes) == (100 * MIB, 50 * MIB)


def test_memory_and_mounts_are_read_as_the_kernel_writes_them() -> None:
    assert memory_of("MemTotal:        8049416 kB\nMemFree:          123 kB\n") == 8049416 * 1024
    with pytest.raises(ValueError):
        memory_of("MemFree: 1 kB\n")
    mounts = "tmpfs /run tmpfs rw 0 0\ntmpfs /var/lib/inkstick tmpfs rw 0 0\n/dev/sda3 /data ext4 rw 0 0\n"
    assert on_tmpfs(Path("/var/lib/inkstick"), mounts)
    assert not on_tmpfs(Path("/data"), mounts)
    opened = mounts + "/dev/mapper/inkstick-data /var/lib/inkstick ext4 rw 0 0\n"
    assert not on_tmpfs(Path("/var/lib/inkstick"), opened), "the data volume lies over the memory"
