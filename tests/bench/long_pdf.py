"""A 20,000-page PDF through the whole service: seconds to the first page, and the memory of every process.

Real `inkstick serve` (spool, ledger, sandboxed parsers, reader), the fake engine in a process of its own with short
answers, so that the pages do not wait for it. `--stop-after` ends the measurement after so many pages were read.

    python -m bench.long_pdf [--pages 20000] [--stop-after 2000]     goals: first page <= 10 s, service <= 600 MB
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from bench.efficiency import machine

SERVED = "tencent/HunyuanOCR"


def make(path: Path, pages: int) -> None:
    """Written by hand, because a library takes minutes for so many: 9 lines of text on each A6 page."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    for number in range(1, pages + 1):
        lines = [f"Register, folio {number}", *(f"entry {n} of folio {number}: {number * 7919 + n}" for n in range(8))]
        text = " T* ".join(f"({line}) Tj" for line in lines)
        content = f"BT /F 12 Tf 24 TL 30 360 Td {text} ET".encode()
        objects.append(b"<</Length %d>>stream\n%b\nendstream" % (len(content), content))
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 298 420]/Resources<</Font<</F 3 0 R>>>>/Contents %d 0 R>>"
            % len(objects)
        )
    kids = b" ".join(b"%d 0 R" % number for number in range(5, len(objects) + 1, 2))
    objects[1] = b"<</Type/Pages/Count %d/Kids[%b]>>" % (pages, kids)
    out, offsets = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n%btrailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (
        size, table, size, len(out),
    )  # fmt: skip
    path.write_bytes(out)


def resident(pid: int) -> dict[str, int]:
    """MiB resident of the process and its descendants, by what they are."""
    found: dict[str, int] = {}
    for entry in [pid, *descendants(pid)]:
        try:
            status = Path(f"/proc/{entry}/status").read_text()
            command = Path(f"/proc/{entry}/cmdline").read_text()
        except OSError:
            continue
        rss = next((int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmRSS")), 0)
        kind = next((word for word in ("pages.worker", "ocr_worker", "bwrap") if word in command), "service")
        found[kind] = max(found.get(kind, 0), rss)
    return found


def descendants(pid: int) -> list[int]:
    out: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            out += [int(child), *descendants(int(child))]
    return out


class Watch(threading.Thread):
    """Keeps the peaks of `resident`."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.stopped = pid, dict[str, int](), threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.5):
            for kind, rss in resident(self.pid).items():
                self.peak[kind] = max(self.peak.get(kind, 0), rss)


def measure(pages: int, stop_after: int, folder: Path) -> None:
    source = folder / "register.pdf"
    make(source, pages)
    fake = subprocess.Popen(
        [sys.executable, "-m", "support.fake_engine", "--port", "0", "--speed", "50"], stdout=subprocess.PIPE, text=True
    )
    assert fake.stdout is not None
    url = fake.stdout.readline().split()[-1]
    environment = {**os.environ, "INKSTICK_RESERVE_BYTES": "0"}
    command = [sys.executable, "-m", "inkstick.cli", "serve", "--data", str(folder / "data"), "--port", "0"]
    serve = subprocess.Popen([*command, "--engine-url", url, "--quiet"], env=environment)
    try:
        report(serve.pid, folder / "data", source, pages, stop_after)
    finally:
        serve.terminate()
        serve.wait(20)
        fake.kill()


def report(pid: int, data: Path, source: Path, pages: int, stop_after: int) -> None:
    address = data / "state" / "address"
    while not address.exists() or not address.read_text().strip():
        time.sleep(0.1)
    watch = Watch(pid)
    watch.start()
    with httpx.Client(base_url=address.read_text().strip(), timeout=60) as client:
        started = time.monotonic()
        with source.open("rb") as file:
            document = client.post("/api/v1/documents", files={"file": file}).raise_for_status().json()
        accepted = time.monotonic() - started
        first = progress(client, document["id"], 1) - started
        read = progress(client, document["id"], min(stop_after, pages)) - started
        whole = ended(client, document["id"]) - started if stop_after >= pages else None
    watch.stopped.set()
    print(f"machine: {machine()}")
    print(f"{pages} pages, {source.stat().st_size >> 20} MiB: accepted after {accepted:.1f} s")
    print(f"first page after {first:.1f} s   (goal <= 10)")
    print(f"{min(stop_after, pages)} pages after {read:.0f} s")
    if whole is not None:
        print(f"published after {whole:.0f} s")
    print("peak resident MiB: " + ", ".join(f"{kind} {rss}" for kind, rss in watch.peak.items()) + "   (goal <= 600)")


def progress(client: httpx.Client, document: str, pages: int) -> float:
    return until(client, document, lambda row: row["pages_done"] >= pages)


def ended(client: httpx.Client, document: str) -> float:
    return until(client, document, lambda row: row["state"] in ("done", "partial", "failed"))


def until(client: httpx.Client, document: str, good: Any) -> float:
    while not good(client.get(f"/api/v1/documents/{document}").json()):
        time.sleep(0.1)
    return time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=20_000)
    parser.add_argument("--stop-after", type=int, default=2_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(chosen.pages, chosen.stop_after, Path(folder))


if __name__ == "__main__":
    main()
