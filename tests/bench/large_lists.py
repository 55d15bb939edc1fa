"""Every screen with 100,000 documents, and a document of 5,000 pages: milliseconds and kilobytes of each answer.

The real office on a real ledger, which is filled directly (a tenth of the documents failed, a tenth flagged, in 40
folders); then a PDF with so many pages is read whole by an instant engine. Each address is asked three times, the
median counts.

    python -m bench.large_lists [--documents 100000] [--pages 5000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import httpx

from bench.efficiency import machine
from bench.interface import InstantReader
from bench.long_pdf import make
from inkstick.config import Settings
from inkstick.document import Block, Flag, Kind, Page
from inkstick.office import Office
from inkstick.profile import Profile
from inkstick.reading.reader import Engines
from inkstick.store import ledger
from inkstick.store.claim import Claim, Outcome
from inkstick.store.ledger import Ledger
from inkstick.web.app import create_app

LISTS = (
    "/", "/documents", "/documents?after=50000", "/documents?state=failed", "/documents?flag=suspect",
    "/documents?folder=box+7", "/documents?q=ledger", "/documents?q=77777", "/documents?since=2026-01-01&code=damaged",
    "/failures", "/folders", "/system", "/api/v1/status", "/api/v1/documents?limit=500", "/api/v1/search?q=ledger",
)  # fmt: skip
DAMAGED = {"code": "damaged", "message": "The file is damaged.", "hint": "Scan it again."}
BATCH = 5000


def claim(n: int) -> Claim:
    profile = Profile().as_json()
    place = f"box {n % 40}/scan {n}.pdf"
    return Claim(f"{n:026d}", f"scan {n}.pdf", place, "", "upload", "upload", profile, "2026-11-20T10:00:00+00:00")


def page(n: int) -> Page:
    flags = (Flag.SUSPECT,) if n % 10 == 1 else ()
    blocks = (Block(1, Kind.PARAGRAPH, f"Entry {n} of the ledger, folio {n // 7}."),)
    return Page(1, 1000, 1400, "rapidocr", "model", score=0.9, flags=flags, blocks=blocks)


def fill(path: Path, documents: int) -> None:
    found = Ledger(path)
    for first in range(1, documents + 1, BATCH):
        numbers = range(first, min(first + BATCH, documents + 1))
        found.accept([claim(n) for n in numbers])
        with found._commit() as db:  # one commit for many: by its own methods it would take an hour
            for n in numbers:
                failed = n % 10 == 0
                if not failed:
                    ledger._put_page(db, n, page(n))
                    ledger._sum_pages(db, n)
                ended = Outcome("failed", error=DAMAGED, pages=1) if failed else Outcome("done", pages=1)
                ledger._conclude(db, f"{n:026d}", ended)
    found.close()


async def ask(client: httpx.AsyncClient, addresses: Iterable[str]) -> None:
    for address in addresses:
        taken, size = [], 0
        for _ in range(3):
            started = time.monotonic()
            answer = await client.get(address)
            answer.raise_for_status()
            taken.append(time.monotonic() - started)
            size = len(answer.content)
        print(f"{statistics.median(taken) * 1000:7.0f} ms {size / 1000:7.0f} kB  {address}", flush=True)


async def read_whole(client: httpx.AsyncClient, office: Office, pages: int) -> str:
    path = office.settings.data / "long.pdf"
    make(path, pages)
    sent = await client.put("/api/v1/documents/long.pdf?formats=md", content=path.read_bytes())
    id = str(sent.raise_for_status().json()["id"])
    while (await office.document(id)).state not in ("done", "partial", "failed"):
        await office.wait_event(after=await office.last_event(), timeout=1.0)
    return id


async def measure(documents: int, pages: int) -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder), reserve_bytes=0)
        settings.folder.create()
        fill(settings.folder.ledger, documents)
        office = Office(settings, engines=Engines(InstantReader()))
        await office.start()
        transport = httpx.ASGITransport(create_app(office))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=600) as client:
            print(f"{documents} documents; load {os.getloadavg()[0]:.1f}")
            await ask(client, LISTS)
            if pages:
                id = await read_whole(client, office, pages)
                print(f"a document of {pages} pages; load {os.getloadavg()[0]:.1f}")
                seen = (1, pages // 2, pages)
                await ask(client, [f"/documents/{id}?page={n}" for n in seen])
                await ask(client, [f"/api/v1/documents/{id}/pages/{pages}", f"/api/v1/documents/{id}/pages?limit=100"])
                await ask(
                    client, [f"/api/v1/strips?id={id}", f"/api/v1/documents/{id}/pages/{pages}/image?max_side=150"]
                )
        await office.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--pages", type=int, default=5000)
    chosen = parser.parse_args()
    asyncio.run(measure(chosen.documents, chosen.pages))
