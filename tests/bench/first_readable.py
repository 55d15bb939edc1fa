"""From the drop of a 100-page scan on the page to its first readable page on the screen, without a reload.

The real service with the CPU engine, and Debian's Chromium. The scan is chosen in the browser; the clock runs from the
press on the button, over the row in the list and the click on it, to the moment at which a block of a page can be read.

    python -m bench.first_readable [--pages 100]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

from playwright.async_api import async_playwright, expect

from bench.efficiency import machine
from browser.test_web_page import ARGUMENTS, CHROMIUM
from inkstick.config import Settings
from inkstick.office import Office
from support import numbered
from support.served import at_port

PATIENCE = 600_000


async def watch(address: str, scan: Path) -> tuple[float, float]:
    """Seconds to the document's row, and to the first readable page."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await browser.new_page()
        expect.set_options(timeout=PATIENCE)
        await page.goto(address)
        await page.set_input_files("#file", scan)
        started = time.monotonic()
        await page.get_by_role("button", name="Read them").click()
        link = page.get_by_role("link", name=scan.name).first
        await expect(link).to_be_visible()
        listed = time.monotonic() - started
        await link.click()
        await page.evaluate("window.same = true")
        await expect(page.locator(".block").first).to_be_visible()
        readable = time.monotonic() - started
        assert await page.evaluate("window.same"), "the page was reloaded"
        await browser.close()
    return listed, readable


async def measure(pages: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.pdf"
        scan.write_bytes(numbered.pdf(range(pages)))
        office = Office(Settings(data=Path(folder) / "data", port=0, reserve_bytes=0))
        async with at_port(office) as address:
            listed, readable = await watch(address, scan)
    print(machine())
    print(f"{pages} pages: in the list after {listed:.1f} s, first readable page after {readable:.1f} s; "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=100)
    asyncio.run(measure(parser.parse_args().pages))
