"""Ask and Folders in a real Chromium: their main use, by keyboard too, without JavaScript too, with hostile answers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from playwright.async_api import Browser, FilePayload, Route, expect

from browser.test_web_page import CHROMIUM, HOSTILE, SAMPLES, memory, site
from inkstick.config import Settings
from inkstick.document import Block, Kind, Line
from inkstick.office import Office
from support.office import png

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("ask_and_folders"),
    pytest.mark.asyncio(loop_scope="module"),
]
PICTURE: FilePayload = {"name": "rechnung 墨.png", "mimeType": "image/png", "buffer": png(70, 100)}
expect.set_options(timeout=60_000)
TABLE = "<table><tr><th>Item</th><th>Sum</th></tr><tr><td>墨 ink</td><td>=1+1</td></tr></table>"
SHOTS = Path(os.environ["INKSTICK_SCREENSHOTS"]) if "INKSTICK_SCREENSHOTS" in os.environ else None


async def test_a_question_is_asked_and_its_answer_copied_and_taken_away(browser: Browser, tmp_path: Path) -> None:
    office = memory(tmp_path)
    office.engine_tasks = ("parse", "text", "extract")
    async with site(browser, office) as found:
        await found.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = await found.open("/ask")
        await expect(page.get_by_label("Your question")).to_be_hidden()
        await page.get_by_label("Extract named values").check()
        await page.get_by_label("What to extract").fill("number, total")
        await page.set_input_files("#file", [PICTURE])
        await page.get_by_role("button", name="Ask").click()
        await expect(page.get_by_role("row", name="total 3")).to_be_visible()
        await expect(page.locator(".seen rect")).to_have_count(3)
        await page.get_by_role("button", name="Copy the text").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert "total\t3" in await page.evaluate("navigator.clipboard.readText()")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Tables (CSV)").click()
        assert '"total","3"' in Path(await (await download.value).path()).read_text()
        await page.get_by_text("3 places with text", exact=True).click()
        await page.locator(".places li").nth(2).focus()
        await expect(page.locator('.seen rect[data-n="3"]')).to_have_class("on")


async def test_what_the_engine_does_not_do_is_said_on_the_form(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path)) as found:
        page = await found.open("/ask")
        await page.set_input_files("#file", [PICTURE])
        await page.get_by_label("In words of your own").check()
        await page.get_by_label("Your question").fill("Who signed?")
        await page.get_by_role("button", name="Ask").click()
        await expect(page.locator("#problem")).to_contain_text("takes no prompt. Models that do: HunyuanOCR 1.5")
        await expect(page.get_by_label("Your question")).to_have_value("Who signed?")
        found.complaints.clear()  # the browser itself notes the 415


async def test_a_hostile_answer_is_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    office = memory(tmp_path)
    office.page_blocks = (
        Block(1, Kind.PARAGRAPH, HOSTILE, lines=(Line(HOSTILE, (10, 10, 900, 60)),)),
        Block(2, Kind.FIELD, f"{HOSTILE}: {HOSTILE}", (10, 100, 900, 160)),
        Block(3, Kind.TABLE, TABLE.replace("=1+1", "<script>document.title='owned'</script>=1+1")),
    )
    async with site(browser, office) as found:
        page = await found.open("/ask")
        await page.set_input_files("#file", [PICTURE])
        await page.get_by_role("button", name="Ask").click()
        await expect(page.locator("#text pre")).to_have_text(HOSTILE)
        assert await page.locator("#text script, #text img, #text b, .seen script, .places img").count() == 0
        assert "owned" not in await page.title()


async def test_ask_and_folders_work_without_javascript(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path), script=False) as found:
        page = await found.open("/ask")
        await page.set_input_files("#file", [PICTURE])
        await page.get_by_role("button", name="Ask").click()
        await expect(page.locator("#text pre")).to_have_text("Invoice 墨")
        await page.goto(f"{found.address}/folders")
        await page.get_by_label("New folder").fill("bills")
        await page.get_by_role("button", name="Make it").click()
        await page.get_by_label("What to do").select_option("text")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Saved.")).to_be_visible()
        assert (tmp_path / "inbox" / "bills" / ".inkstick.toml").read_text() == 'task = "text"\n'


async def test_form_and_text_follow_each_other_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path)) as found:
        page = await found.open("/folders/edit?at=")
        text = page.get_by_label("As a file")
        await page.get_by_label("What to do").focus()
        await page.keyboard.type("Extract")
        await expect(text).to_have_value('task = "extract"\n')
        await expect(page.locator("#problem")).to_contain_text("task extract needs keys")
        await page.get_by_label("What to extract").press_sequentially("total")
        await expect(text).to_have_value('task = "extract"\nkeys = ["total"]\n')
        await expect(page.locator("#problem")).to_be_hidden()
        await expect(page.locator("#warning")).to_contain_text("Models that do")
        await text.fill('# by hand\noriginals = "keep"\nformats = ["md", "docx"]')
        await expect(page.get_by_label("Originals that were read")).to_have_value("keep")
        await expect(page.get_by_role("checkbox", name="Word")).to_be_checked()
        await expect(page.get_by_label("What to do")).to_have_value("")
        await page.get_by_label("Turn").select_option("bulk")
        await page.get_by_role("button", name="Save").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Saved.")).to_be_visible()
        saved = (tmp_path / "inbox" / ".inkstick.toml").read_text()
        assert saved == '# by hand\noriginals = "keep"\nformats = ["md", "docx"]\npriority = "bulk"\n'


async def test_a_change_that_is_just_being_brought_to_the_other_side_is_saved_with_it(
    browser: Browser, tmp_path: Path
) -> None:
    """Whoever pressed Save within that moment was told to have changed both sides differently."""
    async with site(browser, memory(tmp_path)) as found:
        page = await found.open("/folders/edit?at=")
        await page.get_by_label("What to do").select_option("text")
        await expect(page.get_by_label("As a file")).to_have_value('task = "text"\n')
        asked, gone_on = asyncio.Event(), asyncio.Event()

        async def hold(route: Route) -> None:
            asked.set()
            await gone_on.wait()
            await route.continue_()

        await page.route("**/folders/check", hold)
        await page.get_by_label("Turn").select_option("bulk")
        async with asyncio.timeout(60):
            await asked.wait()
        await page.get_by_role("button", name="Save").click(no_wait_after=True)
        gone_on.set()
        await expect(page.get_by_text("Saved.")).to_be_visible()
        assert (tmp_path / "inbox" / ".inkstick.toml").read_text() == 'task = "text"\npriority = "bulk"\n'


async def test_an_answer_is_waited_for_through_a_break_of_the_connection(browser: Browser, tmp_path: Path) -> None:
    office = memory(tmp_path)
    office.gate = asyncio.Event()
    async with site(browser, office) as found:
        page = await found.open("/ask")
        await page.set_input_files("#file", [PICTURE])
        await page.get_by_role("button", name="Ask", exact=True).click()
        await expect(page.locator("#waits")).to_be_visible()
        cut = asyncio.Event()

        async def cuts(route: Route) -> None:
            cut.set()
            await route.abort()

        await page.route("**/ask/*/state", cuts)
        async with asyncio.timeout(60):
            await cut.wait()
        await page.unroute("**/ask/*/state")
        office.gate.set()
        await expect(page.locator("#text")).to_be_visible()
        found.complaints.clear()  # the browser itself notes the break


async def test_settings_are_tried_on_a_file_before_they_are_saved(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path)) as found:
        page = await found.open("/folders/edit?at=")
        await page.get_by_label("As a file").fill('formats = ["docx"]')
        await page.set_input_files("#file", [PICTURE])
        await page.get_by_role("button", name="Try").click()
        await expect(page.get_by_text("A document in this folder would get: docx, json.")).to_be_visible()
        await expect(page.locator("#text pre")).to_have_text("Invoice 墨")
        assert not (tmp_path / "inbox" / ".inkstick.toml").exists()


async def test_the_screens_fit_a_phone_in_both_languages(browser: Browser, tmp_path: Path) -> None:
    """Pictures go where INKSTICK_SCREENSHOTS says, for people to look at."""
    office = memory(tmp_path)
    office.engine_tasks = ("parse", "text", "extract")
    office.page_blocks = (
        Block(1, Kind.TITLE, "Rechnung 墨 2026-11", (80, 50, 600, 120)),
        Block(2, Kind.FIELD, "invoice number: 2026-1147", (80, 200, 500, 240)),
        Block(3, Kind.FIELD, "total: 1,204.50", (500, 700, 900, 740)),
        Block(4, Kind.TABLE, TABLE, (80, 300, 900, 600)),
    )
    (tmp_path / "inbox" / "审计" / "2026 bills").mkdir(parents=True)
    (tmp_path / "inbox" / "审计" / ".inkstick.toml").write_text('task = "extract"\nkeys = ["发票号码", "合计"]\n')
    (tmp_path / "inbox" / "broken").mkdir()
    (tmp_path / "inbox" / "broken" / ".inkstick.toml").write_text('task = "sing"\n')
    async with site(browser, office) as found:
        page = await found.open("/ask")
        await page.set_input_files("#file", [PICTURE])
        await page.get_by_role("button", name="Ask").click()
        await expect(page.locator("#text pre")).to_be_visible()
        paths = [
            "/ask",
            page.url.removeprefix(found.address),
            "/folders",
            "/folders/edit?at=审计",
            "/folders/edit?at=broken",
        ]
        for language in ("en", "zh"):
            await found.context.add_cookies([{"name": "inkstick-language", "value": language, "url": found.address}])
            for width in (1200, 390):
                await page.set_viewport_size({"width": width, "height": 900})
                for n, path in enumerate(paths):
                    await page.goto(found.address + path)
                    wide = await page.evaluate("document.documentElement.scrollWidth")
                    assert wide <= width, f"{path} is {wide} pixels wide on a screen of {width}"
                    if SHOTS is not None:
                        await page.screenshot(path=SHOTS / f"af{n}-{language}-{width}.png", full_page=True)


@pytest.mark.slow
async def test_a_real_page_is_asked_about_and_nothing_is_stored(browser: Browser, tmp_path: Path) -> None:
    office = Office(Settings(data=tmp_path, port=0, workers=1, parsers=1, reserve_bytes=1 << 20))
    async with site(browser, office) as found:
        page = await found.open("/ask")
        await page.get_by_label("Text with its place on the page").check()
        await page.set_input_files("#file", SAMPLES / "tide-table.jpg")
        await page.get_by_role("button", name="Ask").click()
        await expect(page.locator(".seen rect").first).to_be_visible(timeout=90_000)
        await expect(page.locator("#text")).not_to_be_empty()
    kept = {path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix in (".jpg", ".json", ".txt")}
    assert kept <= {"throughput.json"}, "numbers of pages, and nothing of the page"
