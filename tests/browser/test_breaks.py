"""Open pages when something breaks under them: the connection, the pairing, the service; and when there are many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, expect

from browser.test_document_screen import put
from browser.test_web_page import CHROMIUM, file, memory, site, upload
from inkstick.access.roles import Role
from support.lan import Lan, lan

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("breaks"),
    pytest.mark.asyncio(loop_scope="module"),
]
BEHIND = """
const state = { value: "visible" };
Object.defineProperty(document, "visibilityState", { get: () => state.value });
window.behind = (is) => {
  state.value = is ? "hidden" : "visible";
  document.dispatchEvent(new Event("visibilitychange"));
};
"""
"""A browser without windows shows all its pages at once: this lets one be behind another."""


async def test_ten_open_pages_leave_room_for_the_next(browser: Browser, tmp_path: Path) -> None:
    """A browser holds six connections to a machine; each page that follows the events held one, seen or not."""
    async with site(browser, memory(tmp_path, 0)) as found:
        await found.context.add_init_script(BEHIND)
        first = page = await found.open()
        for _ in range(9):
            await page.evaluate("behind(true)")
            page = await found.open()
        await upload(page, file("a.txt", "alpha"))
        await expect(page.locator("tr.doc .pill")).to_have_text("done")
        await expect(first.locator("tr.doc")).to_have_count(0)
        await first.evaluate("behind(false)")
        await expect(first.locator("tr.doc .pill")).to_have_text("done")  # it caught up


async def paired(page: Page, served: Lan, path: str) -> None:
    await page.goto(f"{served.address}/pair?back={path}")
    await page.fill("#pin", served.pin(Role.OPERATOR))
    await page.get_by_role("button", name="Pair", exact=True).click()


async def test_a_page_whose_pairing_ended_says_so_and_goes_on_once_paired_again(
    browser: Browser, tmp_path: Path
) -> None:
    async with lan(tmp_path) as served:
        context = await browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(60_000)
        page = await context.new_page()
        await paired(page, served, "/")
        await expect(page.locator("#live")).to_be_visible()
        await context.clear_cookies()
        await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
        await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        await expect(page.get_by_text("This browser is not paired any more.")).to_be_visible()
        async with context.expect_page() as opened:
            await page.get_by_role("link", name="Pair it again").click()
        await paired(await opened.value, served, "/docs")
        await page.evaluate("dispatchEvent(new Event('focus'))")
        await expect(page.get_by_text("This browser is not paired any more.")).to_be_hidden()
        await put(served.office, "a.txt", b"alpha")
        await expect(page.locator("tr.doc .pill")).to_have_text("done")
        await context.close()


async def test_a_page_that_was_refused_the_events_asks_again(browser: Browser, tmp_path: Path) -> None:
    """An event source gives up for good when it is answered by an error: 503 while the service starts, say."""
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        refusing = asyncio.Event()

        async def refuse(route: Route) -> None:
            if refusing.is_set():
                await route.continue_()
            else:
                await route.fulfill(status=503, body="{}")

        await found.context.route("**/api/v1/events*", refuse)
        await found.context.route("**/api/v1/status", refuse)
        page = await found.open()
        await expect(page.get_by_text("The machine does not answer.")).to_be_visible()
        refusing.set()
        await expect(page.get_by_text("The machine does not answer.")).to_be_hidden()
        await put(office, "a.txt", b"alpha")
        await expect(page.locator("tr.doc .pill")).to_have_text("done")
        found.complaints.clear()  # the browser itself notes each 503


async def test_a_row_stays_while_there_is_no_answer_and_is_right_when_there_is(
    browser: Browser, tmp_path: Path
) -> None:
    """Any trouble was taken for a deletion: the document vanished from the list."""
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        info = await put(office, "a.txt", b"alpha\fFAIL")
        page = await found.open()
        refused = asyncio.Event()

        async def refuse(route: Route) -> None:
            refused.set()
            await route.fulfill(status=503, body="{}")

        await page.route(f"**/api/v1/documents/{info.id}", refuse)
        office.page_seconds = 0.05
        await office.retry(info.id)
        async with asyncio.timeout(60):
            await refused.wait()
        await expect(page.locator("tr.doc .pill")).to_have_text("done in part")
        await office.remove((await put(office, "b.txt", b"x")).id)
        await expect(page.locator("tr.doc")).to_have_count(1)
        held = office._held[info.id]
        held.texts[1] = "mended"
        await page.unroute(f"**/api/v1/documents/{info.id}")
        await office.retry(info.id)
        await expect(page.locator("tr.doc .pill")).to_have_text("done")
        found.complaints.clear()  # the browser itself notes each 503


async def test_an_old_document_that_is_read_does_not_push_its_way_among_the_newest(
    browser: Browser, tmp_path: Path
) -> None:
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        old = await put(office, "old.txt", b"alpha\fFAIL")
        for n in range(20):
            await put(office, f"{n}.txt", b"x")
        page = await found.open()
        await expect(page.locator("tr.doc")).to_have_count(20)
        await office.retry(old.id)
        await put(office, "new.txt", b"x")
        await expect(page.locator("tr.doc").first).to_contain_text("new.txt")
        await expect(page.locator("#documents")).not_to_contain_text("old.txt")
        await expect(page.locator("tr.doc").nth(1)).to_contain_text("19.txt")


async def test_what_goes_wrong_is_told_in_chinese_while_it_happens_too(browser: Browser, tmp_path: Path) -> None:
    """A row that was brought up to date, a refused upload and a refused question turned English."""
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        await found.context.set_extra_http_headers({"Accept-Language": "zh-CN"})
        await put(office, "a.txt", b"FAIL")
        page = await found.open()
        held = next(iter(office._held.values()))
        told = "The document has 30000 pages; this appliance reads 20000."
        held.info = replace(held.info, message=told, hint="Split it into smaller files and drop those.")
        office._tell(held.info.id)
        said = "文档有 30000 页；本机最多读取 20000 页。 请拆成较小的文件后放入。"
        await expect(page.locator("tr.doc .problem")).to_have_text(said)

        async def refuse(route: Route) -> None:
            told = {"code": "too_many", "message": "3 of your uploads are under way already."}
            await route.fulfill(status=429, json=told | {"hint": "Choose one file."})

        await page.route("**/api/v1/uploads", refuse)
        await upload_by(page, "b.txt")
        await expect(page.locator("#uploads .note")).to_have_text("您已有 3 个上传正在进行。 请选择一个文件。")
        await page.goto(f"{found.address}/ask")
        office.full = True
        await page.set_input_files("#file", [file("c.txt", "x")])  # type: ignore[arg-type]
        await page.locator("#ask button").click()
        await expect(page.locator("#problem")).to_contain_text("磁盘快满了。")
        found.complaints.clear()  # the browser itself notes the refusals


async def upload_by(page: Page, name: str) -> None:
    await page.set_input_files("#file", [file(name, "x")])  # type: ignore[arg-type]
    await page.locator("#upload button").click()


async def test_a_link_to_what_is_being_read_is_there_when_it_is_pressed(browser: Browser, tmp_path: Path) -> None:
    """It was made anew each second: pressed before and let go after that, it did nothing."""
    office = memory(tmp_path, 0.3)
    async with site(browser, office) as found:
        page = await found.open()
        await upload(page, file("long.txt", "page\f" * 20))
        link = page.locator("#at-work a")
        await link.hover()
        await page.mouse.down()
        before = await page.locator("#at-work span").inner_text()
        await expect(page.locator("#at-work span")).not_to_have_text(before)
        await page.mouse.up()
        await expect(page.locator("h1")).to_have_text("long.txt")


async def test_a_pulled_cable_is_noticed_though_no_connection_ends(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path, 0)) as found:
        page = await found.context.new_page()
        await page.clock.install()
        await page.goto(found.address)
        await expect(page.locator("#live")).to_be_visible()
        for address in ("**/api/v1/status", "**/api/v1/events*"):
            await page.route(address, lambda route: route.abort())
        await page.clock.fast_forward(31_000)
        await expect(page.get_by_text("The machine does not answer.")).to_be_visible()
        await expect(page.locator("#live")).to_be_hidden()
        await page.unroute_all()
        await expect(page.get_by_text("The machine does not answer.")).to_be_hidden(timeout=30_000)


async def test_a_flood_of_documents_is_not_asked_for_one_by_one(browser: Browser, tmp_path: Path) -> None:
    """Ten thousand files dropped at once were ten thousand questions of every open page, for minutes."""
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        await found.context.add_init_script(BEHIND)
        page = await found.open()
        await page.evaluate("behind(true)")
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url))

        async def chunks() -> AsyncIterator[bytes]:
            yield b"x"

        for n in range(400):
            await office.accept_upload(f"{n}.txt", chunks())
        await page.evaluate("behind(false)")
        await expect(page.locator("tr.doc").first).to_contain_text("399.txt", timeout=60_000)
        await expect(page.locator("tr.doc .pill[data-state=done]")).to_have_count(200, timeout=60_000)
        assert sum("/api/v1/documents/" in address for address in asked) < 350
