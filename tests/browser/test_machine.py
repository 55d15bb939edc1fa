"""The machine around the service in a real Chromium: its first start answered, its sticks read."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from browser.accessible import lacks
from browser.test_web_page import CHROMIUM, site
from inkstick.config import Settings
from inkstick_provisioning import firststart
from inkstick_provisioning.requests import Asked
from inkstick_provisioning.status import Stick
from support.keeper import keeper
from support.office import MemoryOffice

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("machine"),
    pytest.mark.asyncio(loop_scope="module"),
]
expect.set_options(timeout=60_000)
PASSPHRASE = "vier 墨 plain words"
PICTURES = os.environ.get("INKSTICK_PICTURES")


def office(tmp_path: Path) -> MemoryOffice:
    data = tmp_path / "data"
    return MemoryOffice(data, settings=Settings(data=data, port=0, appliance=tmp_path / "run"))


async def picture(page: Page, name: str) -> None:
    if PICTURES:
        await page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


async def test_the_first_start_is_answered_in_the_browser(browser: Browser, tmp_path: Path) -> None:
    served = office(tmp_path)
    async with site(browser, served) as found, keeper(tmp_path / "run", served.settings.data) as machine:
        page = await found.open()
        await expect(page).to_have_url(f"{found.address}/start")
        await picture(page, "start-language")
        assert await lacks(page) == []
        await page.get_by_role("button", name="English").click()
        await page.get_by_role("button", name="A cable straight").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Where shall documents be kept?")
        await picture(page, "start-where")
        await page.get_by_role("button", name="On this stick").click()
        secret = page.get_by_label("Your answer")
        await expect(secret).to_have_attribute("type", "password")
        await secret.fill("short")
        await secret.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("A passphrase has at least 8 letters.")
        assert await secret.input_value() == "", "what was typed does not come back"
        await picture(page, "start-passphrase")
        assert await lacks(page) == []
        for _ in range(2):
            before = machine.number
            await secret.fill(PASSPHRASE)
            await secret.press("Enter")
            await expect(page.locator("#start")).to_have_attribute("data-number", str(before + 1))
        await page.get_by_role("button", name="Yes, do it").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Working")
        await expect(page.get_by_role("status")).to_contain_text("The page goes on by itself.")
        await picture(page, "start-working")
        assert PASSPHRASE not in await page.content()
        machine.work.set()
        await expect(page).to_have_url(f"{found.address}/")
        assert machine.secret == PASSPHRASE
        for path in served.settings.data.rglob("*"):
            assert not path.is_file() or PASSPHRASE.encode() not in path.read_bytes(), path


async def test_it_can_be_put_off_and_answered_at_the_console_meanwhile(browser: Browser, tmp_path: Path) -> None:
    served = office(tmp_path)
    async with site(browser, served) as found, keeper(tmp_path / "run", served.settings.data) as machine:
        page = await found.open()
        await page.get_by_role("button", name="Later").click()
        await expect(page.locator(".notice")).to_contain_text("in memory only")
        await page.goto(found.address)
        await expect(page.locator("#upload")).to_be_visible()
        await page.locator(".notice a").click()
        machine.dialogue = firststart.answer(machine.dialogue, "1")  # somebody at the console
        machine.number += 1
        await expect(page.get_by_role("heading", level=1)).to_have_text("How is this computer connected?")
        await page.get_by_role("button", name="Back").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Welcome to Inkstick")


async def test_the_first_start_goes_without_scripts(browser: Browser, tmp_path: Path) -> None:
    served = office(tmp_path)
    async with site(browser, served, script=False) as found, keeper(tmp_path / "run", served.settings.data):
        page = await found.open()
        await page.locator("#start").get_by_role("button", name="中文").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("这台电脑如何连接？")


async def test_a_stick_is_read_and_let_go(browser: Browser, tmp_path: Path) -> None:
    served = office(tmp_path)
    async with site(browser, served) as found, keeper(tmp_path / "run", served.settings.data) as machine:
        machine.dialogue = firststart.finished(machine.dialogue)
        machine.tick()
        page = await found.open()
        await expect(page.locator("#upload")).to_be_visible()
        hostile = Stick("sdb1", "<b onclick=alert(1)>KINGSTON</b> {name}", "offered", 214)
        machine.sticks = (hostile,)
        await expect(page.locator(".sticks p")).to_have_text(f"Read 214 documents from {hostile.name}?")
        await expect(page.locator("#stick-said")).to_have_text(f"Read 214 documents from {hostile.name}?")
        await picture(page, "stick-offered")
        assert await lacks(page) == []
        await page.get_by_role("button", name="Read them all").click()
        await expect(page.locator("#upload")).to_be_visible()
        machine.sticks = (replace(hostile, state="copying", done=20),)
        await expect(page.locator(".sticks progress")).to_have_js_property("value", 20)
        machine.sticks = (replace(hostile, state="copied", done=214),)
        await page.goto(f"{found.address}/system")
        await page.get_by_role("button", name="Run the self-test").click()
        await expect(page.locator("#test")).to_be_visible()  # an answer, whose address is none to go back to
        await page.get_by_role("button", name="Let go of the stick").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("System")
        while len(machine.taken) < 2:
            await page.wait_for_timeout(50)
        assert machine.taken == [Asked("stick", "sdb1"), Asked("eject", "sdb1")]
