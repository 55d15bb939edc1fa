"""10,000 files dropped at once into the inbox: seconds until each is accepted, and how many are lost.

    python tests/bench/drop10k.py [--files N] [--folder DIR]

The files are small valid PNGs, each with bytes of its own, in ten folders that are moved into the inbox by one rename.
The watcher runs as in the service, with its default settle and scan times. A file counts as accepted when it is
claimed, synced and in the ledger. In the end every original is compared with what was dropped, through a new view of
the spool.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import platform
import resource
import struct
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

from inkstick.clock import SystemClock
from inkstick.config import DataFolder, Settings
from inkstick.intake.daemon import keep_watching
from inkstick.intake.watcher import Watcher
from inkstick.store.claim import Claim
from inkstick.store.disk import Disk
from inkstick.store.ledger import Ledger
from inkstick.store.spool import Spool


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to work (default: the temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        print_machine(Path(name))
        asyncio.run(measure(Path(name), options.files))


async def measure(root: Path, files: int) -> None:
    folder = DataFolder(root / "data")
    folder.create()
    dropped = prepare(root / "heap", files)
    settings = Settings(data=folder.root, reserve_bytes=0)
    spool = Spool(folder, Disk(), SystemClock())
    accepted: list[str] = []
    ledger = Ledger(folder.ledger)

    def take(claims: list[Claim]) -> None:
        ledger.accept(claims)
        accepted.extend(claim.id for claim in claims)

    watcher = Watcher(folder, spool, SystemClock(), settings, on_claims=take)
    stop = asyncio.Event()
    loop = asyncio.create_task(keep_watching(watcher, stop))
    await asyncio.sleep(2)
    start = time.monotonic()
    (root / "heap").rename(folder.inbox / "heap")
    while len(accepted) < files and time.monotonic() - start < 600:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    seconds = time.monotonic() - start
    stop.set()
    await loop
    print(f"in the ledger: {ledger.counts()}")
    ledger.close()
    report(seconds, accepted, dropped, Spool(folder, Disk(), SystemClock()))


def report(seconds: float, accepted: list[str], dropped: Counter[str], spool: Spool) -> None:
    kept = Counter(hashlib.sha256(spool.original(claim.id).read_bytes()).hexdigest() for claim in spool.claims())
    total = sum(dropped.values())
    print(f"accepted {len(accepted)} of {total} in {seconds:.1f} s ({len(accepted) / seconds:.0f} files/s)")
    print(f"lost {sum((dropped - kept).values())}, doubled or changed {sum((kept - dropped).values())}")
    print(f"peak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


def prepare(heap: Path, files: int) -> Counter[str]:
    """Make the files, in ten folders; their hashes. Synced, so that the measurement does not pay for making them."""
    hashes: Counter[str] = Counter()
    for number in range(files):
        path = heap / f"folder {number % 10}" / f"scan {number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = png(number)
        path.write_bytes(content)
        hashes[hashlib.sha256(content).hexdigest()] += 1
    os.sync()
    return hashes


def png(number: int) -> bytes:
    """A 16 x 16 grey picture whose first pixels spell its number."""
    rows = number.to_bytes(16, "big") + bytes(240)
    data = zlib.compress(b"".join(b"\0" + rows[at : at + 16] for at in range(0, 256, 16)))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def print_machine(folder: Path) -> None:
    processor = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in processor if line.startswith("model name")), "?")
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    kind = max((m for m in mounts if str(folder).startswith(m[1])), key=lambda m: len(m[1]))[2]
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}, {kind}")


if __name__ == "__main__":
    main()
