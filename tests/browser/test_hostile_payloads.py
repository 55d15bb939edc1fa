"""Five hundred payloads as recognised text, names and folders, on every page of the real service: none acts."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Dialog, FilePayload, Page, Request, expect

from browser.test_web_page import CHROMIUM, Site, site
from inkstick.config import Settings
from inkstick.office import Office
from inkstick.reading.reader import Engines
from inkstick.web.screens import NAVIGATION
from support import hostile_reader, numbered, payloads

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("hostile_payloads"),
    pytest.mark.asyncio(loop_scope="module"),
]
OURS = (
    "/static/",
    "/api/v1/",
    "/documents",
    "/failures",
    "/system",
    "/ask",
    "/folders",
    "/docs",
    "/language",
    "/favicon.ico",
)
"""Addresses that our pages may ask for; a payload asks for others (``/x``, ``/pwned``)."""
expect.set_options(timeout=60_000)


class Witness:
    """A page, and everything on it that a payload would have had to do."""

    def __init__(self, found: Site, page: Page) -> None:
        self.found, self.page, self.acts = found, page, list[str]()
        page.on("dialog", self._dialog)
        page.on("request", self._request)
        page.on("popup", lambda popup: self.acts.append(f"popup {popup.url}"))

    async def _dialog(self, dialog: Dialog) -> None:
        self.acts.append(f"dialog {dialog.message}")
        await dialog.dismiss()

    def _request(self, request: Request) -> None:
        path = request.url.removeprefix(self.found.address)
        if path not in ("", "/") and not path.startswith(("/?", *OURS)):
            self.acts.append(f"request {request.url}")

    async def look(self, path: str) -> None:
        """Open a page of ours; nothing on it may act, also when everything is touched."""
        await self.page.goto(self.found.address + path)
        await self.page.mouse.move(300, 300)
        await self.page.keyboard.press("Tab")
        await self.innocent(path)

    async def innocent(self, path: str) -> None:
        assert self.acts == [], f"{path}: {self.acts}"
        assert await self.page.title() != "owned", path
        assert self.page.url.startswith(self.found.address), path
        odd = ["[onerror]", "[onload]", "[onclick]", "iframe", "object", "embed", "script:not([type])"]
        assert await self.page.locator(", ".join(f"main {one}" for one in odd)).count() == 0, path


async def upload(found: Site, name: str, data: bytes) -> str:
    """The document's id, once it was read."""
    answer = await found.context.request.post(
        f"{found.address}/api/v1/documents", multipart={"file": {"name": name, "mimeType": "x/y", "buffer": data}}
    )
    assert answer.status == 201, await answer.text()
    return str((await answer.json())["id"])


async def test_no_payload_acts_on_any_page(browser: Browser, tmp_path: Path) -> None:
    office = Office(
        Settings(data=tmp_path, port=0, parsers=2, reserve_bytes=0), engines=Engines(hostile_reader.HostileReader())
    )
    for n, name in enumerate(payloads.NAMES):
        plain = name.replace("/", "").replace("\0", "")[:80]
        (tmp_path / "inbox" / f"{n} {plain}").mkdir(parents=True)
    async with site(browser, office) as found:
        id = await upload(found, payloads.NAMES[10], numbered.pdf(range(hostile_reader.PAGES)))
        for name in payloads.NAMES[11:15]:
            await upload(found, name, numbered.png(1))
        while (await office.document(id)).state not in ("done", "partial", "failed"):
            await office.wait_event(after=await office.last_event(), timeout=0.2)
        witness = Witness(found, await found.open())
        for entry in NAVIGATION:
            await witness.look(entry.address)
        for query in ("script", "onerror", "javascript", "HYPERLINK", "<script>document.title='owned'</script>"):
            await witness.look(f"/documents?q={query}")
            await expect(witness.page.locator(".hits li, #empty:not([hidden])").first).to_be_visible()
        seen = ""
        for number in range(1, hostile_reader.PAGES + 1):
            await witness.look(f"/documents/{id}?page={number}")
            seen += await witness.page.locator("main").inner_text()
        missing = [n for n in range(payloads.COUNT) if f"P{n:04d}" not in seen]
        assert missing == [], "payloads that were never shown prove nothing"
        await witness.look("/folders")
        links = witness.page.locator(".folders a")
        for address in await links.evaluate_all("links => links.map(a => a.getAttribute('href'))"):
            await witness.look(address)
        for number in range(0, hostile_reader.PAGES, 4):
            await _asked(witness, number)


async def _asked(witness: Witness, number: int) -> None:
    """The same payloads as an answer on the Ask screen."""
    page = witness.page
    await witness.look("/ask")
    picture: FilePayload = {"name": payloads.NAMES[11], "mimeType": "image/png", "buffer": numbered.png(number)}
    await page.set_input_files("#file", [picture])
    await page.get_by_role("button", name="Ask").click()
    await expect(page.locator("#text")).to_contain_text(f"P{number * hostile_reader.PER_PAGE:04d}")
    await witness.innocent(page.url)
    assert await page.locator("#text script, #text img, #text a, .seen script, .places img, .places a").count() == 0
