"""Pictures of every screen, for people to look at and for the README.

    cd tests && python -m browser.screenshots OUTDIR

A real office with the embedded engine reads the sample documents (and files that cannot be read); then each screen of
the navigation and the page of one document is taken in both languages, light, dark, and as wide as a phone. A Chinese
font must be there (Debian: fonts-wqy-microhei), else Chinese is shown as empty boxes.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pymupdf
from playwright.async_api import Browser, async_playwright

from browser.test_web_page import ARGUMENTS, CHROMIUM, SAMPLES
from inkstick.config import Settings
from inkstick.office import Office
from inkstick.web.screens import NAVIGATION
from support.served import at_port

KINDS = {"light": (1200, 800), "dark": (1200, 800), "phone": (390, 844)}
LANGUAGES = {"en": "en", "zh": "zh-CN"}
DOCUMENT = "stock-list.pdf"


async def main(into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        office = Office(Settings(data=Path(data), port=0, reserve_bytes=1 << 20))
        async with at_port(office) as address, async_playwright() as playwright:
            chosen = await fill(office)
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            await pictures(browser, address.rstrip("/"), screens(chosen), into)
            await browser.close()


def screens(document: str) -> dict[str, str]:
    """Address by name."""
    return {entry.name: entry.address for entry in NAVIGATION} | {"document": f"/documents/{document}"}


async def fill(office: Office) -> str:
    """Read the samples and what cannot be read; the id of the document to show."""
    chosen = ""
    for path in sorted(path for path in SAMPLES.iterdir() if path.suffix in (".pdf", ".jpg", ".png", ".tif")):
        info = await office.accept_upload(path.name, blocks(path.read_bytes()), relpath=f"archive/2026/{path.name}")
        chosen = info.id if path.name == DOCUMENT else chosen
    for name, data in broken().items():
        await office.accept_upload(name, blocks(data))
    async with asyncio.timeout(600):
        counts = (await office.stats()).documents
        while counts.get("queued") or counts.get("reading") or counts.get("blocked"):
            await asyncio.sleep(0.5)
            counts = (await office.stats()).documents
    return chosen


def broken() -> dict[str, bytes]:
    """An encrypted and a damaged PDF, and a file of no type that is read."""
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), "Payroll")
        locked = document.tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="sesame", owner_pw="owner")
    whole = (SAMPLES / "english-letter.pdf").read_bytes()
    return {"payroll 2025.pdf": locked, "torn letter.pdf": whole[: len(whole) // 3], "notes.xyz": b"\0\1\2" * 100}


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def pictures(browser: Browser, address: str, addresses: dict[str, str], into: Path) -> None:
    for language, locale in LANGUAGES.items():
        for kind, (width, height) in KINDS.items():
            context = await browser.new_context(
                locale=locale,
                viewport={"width": width, "height": height},
                color_scheme="dark" if kind == "dark" else "light",
            )
            page = await context.new_page()
            for name, path in addresses.items():
                await page.goto(address + path)
                await page.wait_for_timeout(700)  # pictures and the first live figures
                await page.screenshot(path=into / f"{name}-{language}-{kind}.png", full_page=name != "docs")
            await context.close()


if __name__ == "__main__":
    if len(sys.argv) != 2 or (shutil.which("chromium") is None and CHROMIUM is None):
        sys.exit(__doc__)
    asyncio.run(main(Path(sys.argv[1])))
