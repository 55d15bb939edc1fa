"""A browser on another computer is paired over TLS, in English and in Chinese, and works; also from its own network."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from browser.accessible import lacks
from browser.test_web_page import CHROMIUM
from inkstick.access.roles import Role
from support.lan import lan

PICTURES = os.environ.get("INKSTICK_PICTURES")
"""A folder for pictures of what was seen, for people to look at."""


@pytest.mark.parametrize(("language", "pair"), [("en", "Pair"), ("zh-CN", "配对")])
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.xdist_group("pairing")
@pytest.mark.asyncio(loop_scope="module")
async def test_a_browser_is_paired_by_its_person(browser: Browser, tmp_path: Path, language: str, pair: str) -> None:
    async with lan(tmp_path) as served:
        context = await browser.new_context(ignore_https_errors=True, locale=language)
        context.set_default_timeout(60_000)
        page = await context.new_page()
        await page.goto(served.address + "/docs")
        await expect(page).to_have_url(served.address + "/pair?back=/docs")
        for scheme in ("dark", "light"):
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            assert await lacks(page) == [], scheme
        await picture(page, f"pair-{language}")
        await page.fill("#pin", "00000000")
        await page.get_by_role("button", name=pair, exact=True).click()
        await expect(page.get_by_role("alert")).to_be_visible()
        await page.fill("#pin", served.pin(Role.ADMIN))
        await page.get_by_role("button", name=pair, exact=True).click()
        await expect(page).to_have_url(served.address + "/docs")
        await page.goto(served.address + "/access")
        await page.fill("#token-name", "nightly import")
        await page.locator("#tokens .row button").click()
        await expect(page.locator(".token code").first).to_contain_text("inkstick_")
        await page.locator("#pin .row button").click()
        await expect(page.locator(".pin output")).to_be_visible()
        await page.wait_for_load_state("load")  # the style sheets, too: without them the page is as wide as it likes
        await picture(page, f"access-{language}")
        await page.set_viewport_size({"width": 390, "height": 844})
        await picture(page, f"access-phone-{language}")
        # Tokens and names of sessions are random: by chance they hold a hyphen, at which a line may break.
        await page.evaluate("for (const code of document.querySelectorAll('code')) code.textContent = 'M'.repeat(60)")
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, "the page is wider than a phone"
        await page.locator("#browsers .quiet").click()  # revokes itself
        await expect(page).to_have_url(re.compile(r"/pair\?back=/access(#browsers)?$"))
        await context.close()


async def picture(page: Page, name: str) -> None:
    if PICTURES:
        await page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


# ---- from another network


@pytest.fixture
def network() -> Iterator[tuple[str, str]]:
    """A network namespace joined to this one by a cable: its name, and this end's address."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and the ip command")
    name, here, there = f"ink{os.getpid()}", f"inkh{os.getpid()}"[:15], f"inkt{os.getpid()}"[:15]
    steps = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", here, "type", "veth", "peer", "name", there],
        ["ip", "link", "set", there, "netns", name],
        ["ip", "addr", "add", "198.51.100.1/30", "dev", here],
        ["ip", "link", "set", here, "up"],
        ["ip", "netns", "exec", name, "ip", "addr", "add", "198.51.100.2/30", "dev", there],
        ["ip", "netns", "exec", name, "ip", "link", "set", there, "up"],
    ]
    try:
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, timeout=60, check=False)
            if done.returncode:
                pytest.skip(f"no network namespace here: {' '.join(step)}: {done.stderr.strip()}")
        yield name, "198.51.100.1"
    finally:
        subprocess.run(["ip", "link", "del", here], capture_output=True, timeout=60, check=False)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=60, check=False)


VISITOR = """
import sys, httpx
address, pin = sys.argv[1:]
with httpx.Client(base_url=address, verify=False, timeout=60) as client:
    print(client.get("/api/v1/documents").status_code)
    print(client.post("/pair", data={"pin": pin}).status_code)
    print(client.put("/api/v1/documents/a.txt", content=b"x").status_code)
    print(client.get("/", headers={"Host": "rebound.example"}).status_code)
"""


async def test_a_computer_on_another_network_pairs_and_uploads(network: tuple[str, str], tmp_path: Path) -> None:
    name, here = network
    async with lan(tmp_path, host=here) as served:
        command = [
            "ip",
            "netns",
            "exec",
            name,
            sys.executable,
            "-c",
            VISITOR,
            served.address,
            served.pin(Role.OPERATOR),
        ]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.stdout.split() == ["401", "303", "201", "421"], done.stderr
