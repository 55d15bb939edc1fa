"""Uploads from the page when something goes wrong on the way: the service restarted, the disk full, second thoughts."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, Dialog, Page, Route, expect

from browser.test_web_page import CHROMIUM
from inkstick.config import Settings
from support.office import MemoryOffice
from support.served import at_port

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("uploads"),
    pytest.mark.asyncio(loop_scope="module"),
]
expect.set_options(timeout=60_000)
BIG = b"".join(hashlib.sha256(str(n).encode()).hexdigest().encode() for n in range(280_000))
"""18 MB, three pieces."""


@dataclass
class Machine:
    """A service that can be ended and started again on the same data and at the same port."""

    data: Path
    port: int = 0
    offices: list[MemoryOffice] = field(default_factory=list)
    _serving: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, *, full: bool = False) -> None:
        office = MemoryOffice(self.data, settings=Settings(data=self.data, port=self.port))
        office.full = full
        self.offices.append(office)
        address = await self._serving.enter_async_context(at_port(office))
        self.port = int(address.rstrip("/").rpartition(":")[2])

    async def end(self) -> None:
        await self._serving.aclose()


@contextlib.asynccontextmanager
async def machine(browser: Browser, data: Path, *, full: bool = False) -> AsyncIterator[tuple[Machine, Page]]:
    served = Machine(data)
    await served.start(full=full)
    page = await browser.new_page()
    page.set_default_timeout(60_000)
    try:
        await page.goto(served.address)
        yield served, page
    finally:
        await page.close()
        await served.end()


async def choose(page: Page, folder: Path, name: str, data: bytes) -> None:
    path = folder / name  # by its path: a large file's bytes need not go through the browser's driver
    path.write_bytes(data)
    await page.set_input_files("#file", path)
    await page.get_by_role("button", name="Read them").click()


async def test_an_upload_goes_on_where_it_was_when_the_service_is_back(browser: Browser, tmp_path: Path) -> None:
    async with machine(browser, tmp_path / "data") as (served, page):
        offsets: list[str] = []
        cut = asyncio.Event()

        def look(method: str, headers: dict[str, str]) -> None:
            if method == "PATCH":
                offsets.append(headers["upload-offset"])
                if headers["upload-offset"] != "0":
                    cut.set()

        page.on("request", lambda request: look(request.method, request.headers))
        await choose(page, tmp_path, "big 墨.txt", BIG)
        async with asyncio.timeout(60):
            await cut.wait()
        await served.end()  # in the middle: at least one piece is here, and at least one is not
        await expect(page.locator("#uploads .note")).to_have_text("The connection broke off. It goes on by itself.")
        before = len(offsets)
        await served.start()
        await expect(page.locator("#uploads li")).to_have_count(0)
        (row,) = await served.offices[-1].documents() or await served.offices[0].documents()
        assert (row.name, row.sha256) == ("big 墨.txt", hashlib.sha256(BIG).hexdigest())
        assert len(await served.offices[0].documents()) + len(await served.offices[-1].documents()) == 1
        assert "0" not in offsets[before:], "it began anew"


async def test_a_full_disk_is_told_before_a_byte_is_sent(browser: Browser, tmp_path: Path) -> None:
    async with machine(browser, tmp_path / "data", full=True) as (_, page):
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        await choose(page, tmp_path, "a.txt", b"x")
        await expect(page.locator("#uploads .problem")).to_contain_text("The disk is nearly full.")
        assert "PATCH" not in sent
        assert sent.count("POST") == 1, "a full disk is not asked again and again"


@pytest.mark.parametrize("moment", ["at its beginning", "while a piece is on its way"])
async def test_an_upload_that_is_stopped_leaves_nothing(browser: Browser, tmp_path: Path, moment: str) -> None:
    async with machine(browser, tmp_path / "data") as (served, page):
        sending = asyncio.Event()

        async def hold(route: Route) -> None:
            if route.request.method == "DELETE":  # the piece itself never arrives
                await route.continue_()
            else:
                sending.set()

        await page.route("**/api/v1/uploads/*", hold)
        await choose(page, tmp_path, "a.txt", b"abc")
        if moment != "at its beginning":
            async with asyncio.timeout(60):
                await sending.wait()
        async with page.expect_response(lambda answer: answer.request.method == "DELETE") as dropped:
            await page.get_by_role("button", name="Stop the upload of a.txt").click()
        assert (await dropped.value).status == 204
        await expect(page.locator("#uploads li")).to_have_count(0)
        assert list(served.offices[0].settings.folder.spool.iterdir()) == []
        assert await served.offices[0].documents() == []


async def test_an_empty_file_is_sent_like_any_other(browser: Browser, tmp_path: Path) -> None:
    async with machine(browser, tmp_path / "data") as (served, page):
        await choose(page, tmp_path, "empty.pdf", b"")
        await expect(page.locator("#uploads li")).to_have_count(0)
        (row,) = await served.offices[0].documents()
        assert (row.name, row.size) == ("empty.pdf", 0)


DROP = """
const file = (name, size) => ({ isFile: true, name, file: (good) => good(new File(["x".repeat(size)], name)) });
const locked = { isFile: true, name: "locked.pdf", file: (good, bad) => bad(new DOMException("", "NotReadableError")) };
const folder = (name, parts, bad) => ({ isFile: false, name, createReader: () => ({
  readEntries: (good, no) => (bad ? no(new DOMException("", "NotReadableError")) : good(parts.splice(0))),
}) });
const entries = [folder("case", [locked, file("in.txt", 3)]), folder("shut", [], true), file("out.txt", 3)];
const event = new Event("drop", { bubbles: true, cancelable: true });
Object.defineProperty(event, "dataTransfer", {
  value: { types: ["Files"], items: entries.map((entry) => ({ webkitGetAsEntry: () => entry })), files: [] },
});
document.getElementById(target).dispatchEvent(event);
"""


async def test_what_cannot_be_read_of_a_dropped_folder_is_told_and_all_else_is_sent(
    browser: Browser, tmp_path: Path
) -> None:
    async with machine(browser, tmp_path / "data") as (served, page):
        await page.evaluate(f"target => {{ {DROP} }}", "upload")
        await expect(page.locator("#uploads .problem")).to_have_count(2)
        await expect(page.locator("#uploads li")).to_have_count(2)  # those that were sent are gone
        rows = await served.offices[0].documents()
        assert {row.relpath for row in rows} == {"case/in.txt", "out.txt"}
        told = await page.locator("#uploads li").all_inner_texts()
        assert sorted(text.split("\n")[0] for text in told) == ["case/locked.pdf", "shut"], told


async def test_what_is_dropped_beside_the_box_is_sent_too(browser: Browser, tmp_path: Path) -> None:
    """The browser would open it, in the place of the page and of all that was on its way."""
    async with machine(browser, tmp_path / "data") as (served, page):
        await page.evaluate(f"target => {{ {DROP} }}", "find")
        await expect(page.locator("tr.doc")).to_have_count(2)
        assert {row.relpath for row in await served.offices[0].documents()} == {"case/in.txt", "out.txt"}


async def test_only_what_arrived_is_counted_and_nobody_leaves_in_the_middle_unasked(
    browser: Browser, tmp_path: Path
) -> None:
    async with machine(browser, tmp_path / "data") as (_, page):
        held, asked = asyncio.Event(), asyncio.Event()

        async def hold(route: Route) -> None:
            if route.request.method == "POST" and "c3RvcHBlZC50eHQ" in route.request.headers["upload-metadata"]:
                await route.fulfill(status=422, json={"code": "usage", "message": "Not this one.", "hint": "No."})
                return
            await held.wait()
            await route.continue_()

        async def stay(dialog: Dialog) -> None:
            assert dialog.type == "beforeunload"
            asked.set()
            await dialog.dismiss()

        await page.route("**/api/v1/uploads**", hold)
        page.on("dialog", stay)
        names = ("a.txt", "stopped.txt")
        for name in names:
            (tmp_path / name).write_text(name)
        await page.set_input_files("#file", [tmp_path / name for name in names])
        await page.get_by_role("button", name="Read them").click()
        await expect(page.locator("#uploads .problem")).to_have_text("Not this one. No.")
        await page.get_by_role("link", name="Documents", exact=True).click(no_wait_after=True)
        async with asyncio.timeout(60):
            await asked.wait()
        held.set()
        await expect(page.locator("tr.doc")).to_have_count(1)
        await expect(page.locator("#sent")).to_have_text("1 of 2 files sent")
        await page.get_by_role("link", name="Documents", exact=True).click()
        await expect(page).to_have_url(f"{page.url.rstrip('/').removesuffix('/documents')}/documents")


async def test_uploads_wait_while_the_browser_is_not_paired(browser: Browser, tmp_path: Path) -> None:
    """Each of the files that were left was refused for good, one after another."""
    async with machine(browser, tmp_path / "data") as (served, page):

        async def refuse(route: Route) -> None:
            told = "This browser or program is not paired with this machine."
            await route.fulfill(status=401, json={"code": "not_paired", "message": told, "hint": "Pair it."})

        await page.route("**/api/v1/uploads**", refuse)
        await choose(page, tmp_path, "a.txt", b"abc")
        await expect(page.locator("#uploads .note")).to_contain_text("not paired with this machine")
        await page.unroute("**/api/v1/uploads**")
        await expect(page.locator("#uploads li")).to_have_count(0)
        assert [row.name for row in await served.offices[0].documents()] == ["a.txt"]
