"""The page in a real Chromium, served for real: uploads, live progress, hostile text, no request to anywhere else."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect

from inkstick.config import Settings
from inkstick.office import Office
from inkstick.web.office_port import OfficePort
from support.office import MemoryOffice
from support.served import at_port

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome", "chromium-browser")
CHROMIUM = os.environ.get("INKSTICK_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
"""The headless shell is Chromium without windows: a third of the processor time. INKSTICK_BROWSER names another."""
SAMPLES = Path(__file__).parents[1] / "samples"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
TABLE = (
    "<table><tr><th>Item</th><th>Sum</th></tr>"
    "<tr><td>墨 ink</td><td><script>document.title='owned'</script>1,204.50</td></tr></table>"
)
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script> 墨 & <b>bold</b>"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("web_page"),
    pytest.mark.asyncio(loop_scope="module"),
]


@dataclass
class Site:
    """A served office, a browser on it, and what the browser did that it should not."""

    address: str
    context: BrowserContext
    elsewhere: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def open(self, path: str = "") -> Page:
        page = await self.context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        await page.goto(self.address + path)
        return page

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@contextlib.asynccontextmanager
async def site(browser: Browser, office: OfficePort, *, script: bool = True) -> AsyncIterator[Site]:
    """Serve and browse; at the end, nothing may have left the machine or been complained about."""
    async with at_port(office) as address:
        context = await browser.new_context(java_script_enabled=script, viewport={"width": 1200, "height": 800})
        context.set_default_timeout(60_000)
        found = Site(address.rstrip("/"), context)

        def look(request: Request) -> None:  # only looked at: a request that is held up is not cached any more
            if not request.url.startswith((found.address, "data:", "blob:")):
                found.elsewhere.append(request.url)

        try:
            context.on("request", look)
            yield found
        finally:
            await context.close()
    assert found.elsewhere == []
    assert found.complaints == []


def memory(data: Path, page_seconds: float = 0.05) -> MemoryOffice:
    return MemoryOffice(data, page_seconds=page_seconds, settings=Settings(data=data, port=0))


def file(name: str, text: str) -> dict[str, object]:
    return {"name": name, "mimeType": "text/plain", "buffer": text.encode()}


async def upload(page: Page, *files: dict[str, object]) -> None:
    await page.set_input_files("#file", files)  # type: ignore[arg-type]
    await page.get_by_role("button", name="Read them").click()


async def shown(picture: Locator) -> None:
    """Loaded, decoded, and not empty. (To wait for an expression of our own would need eval: the page forbids it.)"""
    await picture.scroll_into_view_if_needed()
    await expect(picture).to_have_js_property("complete", True)
    assert await picture.evaluate("image => image.naturalWidth") > 0


async def test_an_upload_is_followed_to_its_end_without_reloading(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path, 0.3)) as found:
        page = await found.open()
        await page.evaluate("window.same = true")
        await upload(page, file("报告 report.txt", "one\fDOUBT\fthree"))
        row = page.locator("tr.doc", has_text="报告 report.txt")
        await expect(row.locator(".pill")).to_have_text("reading")
        await expect(row.locator("progress")).to_be_visible()
        await expect(row.locator(".pill")).to_have_text("done")
        await expect(row.locator(".count")).to_have_text("3 of 3")
        await expect(row.locator(".flag")).to_have_text("in doubt")
        assert await row.locator(".formats a").all_inner_texts() == ["md", "json", "txt"]
        await expect(page.locator('#counts a[data-state="done"] b')).to_have_text("1")
        assert await page.evaluate("window.same"), "the page was reloaded"
        async with page.expect_download() as download:
            await row.get_by_role("link", name="txt", exact=True).click()
        assert "DOUBT" in Path(await (await download.value).path()).read_text()


async def test_several_files_go_up_and_a_failed_one_says_what_to_do(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path)) as found:
        page = await found.open()
        await upload(page, *(file(f"{n}.txt", "FAIL" if n == 1 else "fine") for n in range(3)))
        failed = page.locator("tr.doc", has_text="1.txt")
        await expect(failed.locator(".pill")).to_have_text("failed")
        await expect(failed.locator(".problem")).to_contain_text("Scan or export it again")
        await expect(page.locator("tr.doc")).to_have_count(3)


async def test_a_refused_upload_is_explained(browser: Browser, tmp_path: Path) -> None:
    office = memory(tmp_path)
    async with site(browser, office) as found:
        page = await found.open()
        office.full = True
        await upload(page, file("a.txt", "x"))
        await expect(page.locator("#uploads .problem")).to_contain_text("The disk is nearly full.")
        found.complaints.clear()  # the browser itself notes the 507


async def test_everything_works_without_javascript(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path, 0), script=False) as found:
        page = await found.open()
        await upload(page, file("a.txt", "alpha"), file("b.txt", "beta\fFAIL"))
        await expect(page.locator("tr.doc")).to_have_count(2)
        await page.fill("#q", "alpha")
        await page.get_by_role("button", name="Search").click()
        await expect(page.locator(".hits")).to_contain_text("a.txt, page 1")
        await page.goto(f"{found.address}/?state=partial")
        await page.get_by_role("link", name="b.txt").click()
        await expect(page.locator(".text .t")).to_have_text("beta")
        await page.get_by_role("button", name="Read it again").click()
        await expect(page.locator("h1")).to_have_text("b.txt")


async def test_hostile_text_is_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path)) as found:
        page = await found.open()
        name = "<img src=x onerror=alert(1)>.txt"
        await upload(page, file(name, HOSTILE))
        row = page.locator("tr.doc")
        await expect(row.locator(".pill")).to_have_text("done")
        await expect(row.locator(".title")).to_have_text(name)
        await page.fill("#q", "onerror")
        await page.press("#q", "Enter")
        await expect(page.locator(".hits p")).to_have_text(HOSTILE)
        await page.locator("tr.doc .title").click()
        await expect(page.locator(".text .t")).to_have_text(HOSTILE)
        assert await page.locator(".text .t *, h1 *, .hits p *").count() == 0
        assert "owned" not in await page.title()


async def test_a_table_is_shown_as_a_table_of_plain_cells(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path)) as found:
        page = await found.open()
        await upload(page, file("a.txt", f"Before\n\n{TABLE}\n\nAfter"))
        await expect(page.locator("tr.doc .pill")).to_have_text("done")
        await page.locator("tr.doc .title").click()
        assert await page.locator(".text td").all_inner_texts() == ["墨 ink", "1,204.50"]
        assert await page.locator(".text pre").all_inner_texts() == ["Before", "After"]
        assert await page.locator(".text script").count() == 0


async def test_a_document_page_follows_its_document_without_reloading(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path, 2.0)) as found:
        page = await found.open()
        await upload(page, file("a.txt", "one\ftwo"))
        await page.locator("tr.doc .title").click()
        await page.evaluate("window.same = true")
        await expect(page.locator(".text .t")).to_have_text("one")
        await expect(page.locator("#state")).to_have_text("done")
        await expect(page.locator(".formats.big a")).to_have_count(3)
        assert await page.evaluate("window.same"), "the page was reloaded"
        await page.locator(".block").hover()
        await expect(page.locator("rect.on")).to_have_count(1)  # what came later is tied to the picture, too
        await expect(page.locator(".strip li")).to_have_count(2)
        picture = page.locator("#scan")
        await shown(picture)
        assert await picture.get_attribute("alt") == "Picture of page 1"


async def test_nothing_is_renewed_under_somebody_who_writes(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path, 1.0)) as found:
        page = await found.open()
        await upload(page, file("a.txt", "one\ftwo"))
        await page.locator("tr.doc .title").click()
        await page.locator("#goto").fill("77")
        await expect(page.locator("#state")).to_have_text("done")
        await expect(page.get_by_text("More pages have been read.")).to_be_visible()
        await expect(page.locator("#goto")).to_have_value("77")
        await page.get_by_text("More pages have been read.").click()
        await expect(page.locator(".text .t")).to_have_text("one")


async def test_the_keyboard_is_enough(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path)) as found:
        page = await found.open()
        await upload(page, file("a.txt", "one"), file("b.txt", "two"))
        await expect(page.locator("tr.doc .pill", has_text="done")).to_have_count(2)
        await page.locator("h1").click(force=True)
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await expect(page.locator("tr.doc .title").nth(1)).to_be_focused()
        await page.keyboard.press("k")
        first = await page.locator("tr.doc .title").first.inner_text()  # they went up side by side
        await expect(page.locator("tr.doc .title").first).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("article h1")).to_have_text(first)
        await page.goto(found.address)
        await page.keyboard.press("/")
        await expect(page.locator("#q")).to_be_focused()


async def test_the_pages_fit_a_phone_in_light_and_dark(browser: Browser, tmp_path: Path) -> None:
    """Pictures go where INKSTICK_SCREENSHOTS says, for people to look at."""
    into = Path(os.environ["INKSTICK_SCREENSHOTS"]) if "INKSTICK_SCREENSHOTS" in os.environ else None
    office = memory(tmp_path / "data", 0.02)
    async with site(browser, office) as found:
        page = await found.open()
        await upload(
            page,
            file("审计报告 2026.txt", "Invoice 墨 2026-11\n\n" + TABLE + "\fDOUBT total 1,204.50"),
            file("broken.txt", "FAIL"),
        )
        await upload(page, file("minutes of the board, long name " + "x" * 60 + ".txt", "alpha\f" * 30))
        await expect(page.locator("tr.doc .pill", has_text="done")).to_have_count(2)
        paths = ["/", f"/documents/{(await office.documents(q='审计'))[0].id}", "/docs", "/documents/none"]
        for scheme in ("light", "dark") if into else ("light",):
            await page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
            for width in (1200, 390):
                await page.set_viewport_size({"width": width, "height": 800})
                for n, path in enumerate(paths):
                    await page.goto(found.address + path)
                    wide = await page.evaluate("document.documentElement.scrollWidth")
                    assert wide <= width, f"{path} is {wide} pixels wide on a screen of {width}"
                    if into is not None:
                        await page.screenshot(path=into / f"{n}-{scheme}-{width}.png", full_page=n < 2)
        found.complaints.clear()  # the browser itself notes the 404


@pytest.mark.slow
async def test_a_real_scan_is_read_while_one_watches(browser: Browser, tmp_path: Path) -> None:
    """The real office with the embedded engine, from the upload on the page to the text on the page."""
    office = Office(Settings(data=tmp_path, port=0, workers=1, parsers=1, reserve_bytes=1 << 20))
    async with site(browser, office) as found:
        page = await found.open()
        await page.set_input_files("#file", SAMPLES / "tide-table.jpg")
        await page.get_by_role("button", name="Read them").click()
        row = page.locator("tr.doc", has_text="tide-table.jpg")
        await expect(row.locator(".pill")).to_have_text("done", timeout=90_000)
        await row.locator(".title").click()
        await expect(page.locator(".text table")).to_be_visible()
        await shown(page.locator("#scan"))
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Searchable PDF").click()
        assert Path(await (await download.value).path()).read_bytes().startswith(b"%PDF")
