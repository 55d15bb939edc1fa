"""The document screen in a real Chromium: corrected by keyboard alone, by forms alone; hostile text stays text."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Dialog, Page, Route, expect

from browser.accessible import lacks
from browser.test_web_page import CHROMIUM, memory, site
from inkstick.config import Settings
from inkstick.office import Office
from inkstick.reading.reader import Engines
from inkstick.web.office_port import DocumentInfo, OfficePort
from support import pair

SCREENSHOTS = os.environ.get("INKSTICK_SCREENSHOTS")
WRONG = (7, 16, 28)
PAYLOADS = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>",
    '=HYPERLINK("http://evil.example")',
    "[x](javascript:document.title='owned') ![y](http://evil.example/y.png)",
    "../../../etc/passwd\u202etxt.exe",
    "</textarea></pre><svg onload=\"document.title='owned'\">",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "javascript:document.title='owned'",
)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("document_screen"),
    pytest.mark.asyncio(loop_scope="module"),
]


async def picture(page: Page, name: str) -> None:
    """For people to look at, where INKSTICK_SCREENSHOTS says."""
    if SCREENSHOTS:
        await page.screenshot(path=Path(SCREENSHOTS) / f"document-{name}.png")


async def put(office: OfficePort, name: str, data: bytes, **wishes: object) -> DocumentInfo:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    info = await office.accept_upload(name, chunks(), wishes=wishes)
    async with asyncio.timeout(120):
        while (now := await office.document(info.id)).state not in ("done", "partial", "failed"):
            await office.wait_event(after=await office.last_event(), timeout=0.2)
    return now


async def at_page(page: Page, number: int) -> None:
    """The screen shows that page, and listens to keys."""
    await expect(page.locator(f'#document.scripted[data-page="{number}"]')).to_be_visible(timeout=60_000)


async def size(page: Page) -> tuple[float, float]:
    """Width and height of the picture as it is seen."""
    box = await page.locator("#scan").bounding_box()
    assert box is not None
    return box["width"], box["height"]


async def focused(page: Page) -> str:
    """What has the focus, in words: its name and text."""
    return str(await page.evaluate("(document.activeElement.id || '') + ' ' + document.activeElement.textContent"))


async def test_three_doubtful_digits_are_corrected_by_the_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    """Thirty pages, three of them with a digit that two readers read differently. From the list of documents to the
    results without a mouse, and without knowing on which pages to look."""
    first = pair.First({number: pair.misread(number) for number in WRONG})
    settings = Settings(data=tmp_path, port=0, parsers=1, reserve_bytes=0)
    office = Office(settings, engines=Engines(first, pair.Second()))
    async with site(browser, office) as found:
        info = await put(office, "ledger.pdf", pair.pdf(30), second_reader="on", formats=["md", "txt", "pdf", "alto"])
        page = await found.open()
        await page.locator(".doc .title").wait_for()
        await page.keyboard.press("j")
        await expect(page.locator(".doc .title")).to_be_focused()
        await page.keyboard.press("Enter")
        await at_page(page, 1)
        await page.keyboard.press("n")  # the first doubtful place, on whichever page it is
        await at_page(page, 7)
        await expect(page.locator(".card:focus-within .says")).to_contain_text(pair.misread(7))
        await expect(page.locator(".card:focus-within .says")).to_contain_text(pair.printed(7))
        await expect(page.locator("rect.doubt.on")).to_have_count(1)
        await expect(page.locator("mark.on")).to_have_text(pair.misread(7))
        await expect(page.locator(".snippet")).to_have_js_property("complete", True)
        await picture(page, "doubt")
        await page.keyboard.press("2")  # take what the second reader saw; that leads to the next doubtful place
        await expect(page.locator("#saved")).to_contain_text("Page 7 is settled.")
        await at_page(page, 16)
        await page.keyboard.press("Tab")  # the same by walking through the controls
        assert pair.printed(16) in await focused(page)
        await page.keyboard.press("Enter")
        await at_page(page, 28)
        await page.keyboard.press("3")  # write what is printed
        await page.keyboard.type(pair.printed(28))
        await page.keyboard.press("Enter")
        await expect(page.locator("#saved")).to_contain_text("No doubtful places are left")
        await expect(page.locator(".card")).to_have_count(0)
        for format in ("md", "json", "txt", "pdf", "alto"):
            (path,) = await office.result_files(info.id, format)
            text = await asyncio.to_thread(_text, path)
            for number in WRONG:
                assert pair.printed(number) in text, f"{format}, page {number}"
                assert pair.misread(number) not in text, f"{format}, page {number}"
        assert [hit.page for hit in await office.search(pair.printed(16))] == [16]
        assert (await office.document(info.id)).flags == ("edited",)


def _text(path: Path) -> str:
    if path.suffix != ".pdf":
        return path.read_text(encoding="utf-8").replace("\\", "")
    import pymupdf

    with pymupdf.open(path) as document:
        return "".join(page.get_text() for page in document)


async def test_a_block_is_changed_taken_back_and_read_once_more_without_javascript(
    browser: Browser, tmp_path: Path
) -> None:
    office = memory(tmp_path, 0)
    async with site(browser, office, script=False) as found:
        info = await put(office, "a.txt", b"alpha\n\nbeta\fgamma DOUBT")
        page = await found.open(f"/documents/{info.id}")
        await page.get_by_role("link", name="Change block 2").click()
        await expect(page.locator("textarea")).to_be_focused()
        await page.fill("textarea", "beta, corrected")
        stale = await found.open(f"/documents/{info.id}?page=1&edit=2")
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("#saved")).to_have_text("Saved.")
        await expect(page.locator("#b2 .t")).to_have_text("beta, corrected")
        await stale.fill("textarea", "what the other wrote")
        await stale.get_by_role("button", name="Save").click()
        await expect(stale.locator("#refused")).to_contain_text("Somebody else has changed this page")
        await expect(stale.locator("textarea")).to_have_value("what the other wrote")
        await expect(stale.locator("#b2")).to_contain_text("beta, corrected")
        found.complaints.clear()  # the browser itself notes the 409
        await page.locator(".history summary").click()
        await page.get_by_role("button", name="Go back to this").click()
        await expect(page.locator("#b2 .t")).to_have_text("beta")
        await page.locator(".again summary").click()
        await page.fill("input[name=prompt]", "by lines")
        await page.get_by_role("button", name="Read it", exact=True).click()
        await expect(page.locator(".diff ins")).to_contain_text("read once more, by lines")
        await page.get_by_role("button", name="Take the new reading").click()
        await expect(page.locator("#b1 .t")).to_contain_text("read once more, by lines")
        await page.get_by_role("link", name="Next doubtful page: 2").click()
        await page.get_by_role("button", name="I have compared the page").click()
        await expect(page.locator("#saved")).to_contain_text("No doubtful places are left")


async def test_picture_and_text_are_tied_and_the_picture_zooms_and_turns(browser: Browser, tmp_path: Path) -> None:
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        info = await put(office, "a.txt", b"alpha\n\nbeta\n\ngamma\f2\f3")
        page = await found.open(f"/documents/{info.id}")
        await at_page(page, 1)
        await page.locator("#b2").hover()
        await expect(page.locator('rect[data-order="2"]')).to_have_class("on")
        await page.locator('rect[data-order="3"]').hover()
        await expect(page.locator("#b3")).to_have_class("block kind-paragraph on")
        await at_page(page, 1)
        await page.locator("h1").click()
        width, _ = await size(page)
        await page.keyboard.press("+")
        await expect(page.locator("#zoom")).to_have_text("125 %")
        assert (await size(page))[0] == pytest.approx(1.25 * width, abs=2)
        await page.keyboard.press("r")
        turned = await size(page)
        assert turned[0] > turned[1]
        await page.keyboard.press("?")
        await expect(page.locator("#help")).to_be_visible()
        await page.keyboard.press("Escape")
        await page.keyboard.press("j")
        await page.keyboard.press("e")
        await expect(page.locator("textarea")).to_be_focused()
        await at_page(page, 1)
        await page.keyboard.type("ALPHA ")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("#b1 .t")).to_contain_text("ALPHA")
        await at_page(page, 1)
        await page.keyboard.press("ArrowRight")
        await at_page(page, 2)


async def _owned(page: Page) -> bool:
    return (
        await page.title() == "owned"
        or await page.locator(".text img, .text script, .text svg, .diff *:not(ins, del)").count() > 0
    )


async def test_hostile_text_never_acts_on_this_screen(browser: Browser, tmp_path: Path) -> None:
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        cells = "".join(f"<td>{payload}</td>" for payload in PAYLOADS)
        table = f"<table><tr>{cells}</tr></table>"
        text = "\n\n".join([*PAYLOADS, table])
        info = await put(office, f"{PAYLOADS[0]}.txt", text.encode())
        home = f"/documents/{info.id}?page=1"
        for view in ("", "&view=source", "&view=tables", "&view=fields", "&edit=1", f"&edit={len(PAYLOADS) + 1}"):
            page = await found.open(home + view)
            assert not await _owned(page), view
            await page.close()
        page = await found.open(home)
        for n, payload in enumerate(PAYLOADS, 1):
            await expect(page.locator(f"#b{n} .t")).to_have_text(payload, use_inner_text=False)
        for n, payload in enumerate(PAYLOADS, 1):  # and as a correction
            await page.goto(f"{found.address}{home}&edit={n}")
            await page.fill("textarea", payload + payload)
            await page.get_by_role("button", name="Save").click()
            await expect(page.locator(f"#b{n} .t")).to_have_text(payload + payload)
        await page.locator(".again summary").click()
        await page.fill("input[name=prompt]", PAYLOADS[0])
        await page.get_by_role("button", name="Read it", exact=True).click()
        await expect(page.locator(".diff ins").last).to_contain_text("onerror")
        assert not await _owned(page)


async def test_a_document_of_five_thousand_pages_shows_a_dozen_thumbnails(browser: Browser, tmp_path: Path) -> None:
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        info = await put(office, "long.txt", "\f".join(f"page {n}" for n in range(1, 5001)).encode())
        page = await found.open(f"/documents/{info.id}?page=2500")
        await expect(page.locator(".strip li")).to_have_count(12)
        await expect(page.locator(".strip a[aria-current]")).to_contain_text("2500")
        await at_page(page, 2500)
        for nowhere in ("", "0"):  # said at the field, not on a page of its own
            await page.locator("#goto").fill(nowhere)
            await page.keyboard.press("Enter")
            assert not await page.locator("#goto").evaluate("field => field.validity.valid")
            await at_page(page, 2500)
        await page.locator("h1").click()
        await page.keyboard.press("g")
        await page.keyboard.type("5000")
        await page.keyboard.press("Enter")
        await expect(page.locator("#b1 .t")).to_have_text("page 5000")
        assert len(await page.content()) < 40_000


async def test_the_screen_fits_a_phone(browser: Browser, tmp_path: Path) -> None:
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        info = await put(
            office, "a.txt", ("alpha DOUBT\n\n<table><tr><td>" + "x" * 200 + "</td></tr></table>").encode()
        )
        page = await found.open(f"/documents/{info.id}")
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
            for width in (1400, 390):
                await page.set_viewport_size({"width": width, "height": 900})
                assert await page.evaluate("document.documentElement.scrollWidth") <= width
                assert await lacks(page) == []
                await picture(page, f"{scheme}-{width}")


TABLE = "<table><tr><td>alpha</td><td>beta</td></tr><tr><td>gamma</td><td>delta</td></tr></table>"


async def test_two_who_correct_one_table_lose_nothing_of_either(browser: Browser, tmp_path: Path) -> None:
    """Who came second found the whole form as it had been, and none of the cells that were typed."""
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        info = await put(office, "a.txt", f"{TABLE}\n\nbelow".encode())
        first, second = [await found.open(f"/documents/{info.id}?page=1&edit=1") for _ in range(2)]
        await first.get_by_label("Row 1, cell 1").fill("ALPHA")
        await first.get_by_role("button", name="Save").click()
        await expect(first.locator("#saved")).to_be_visible()
        await second.get_by_label("Row 2, cell 2").fill("DELTA")
        await second.get_by_role("button", name="Save").click()
        await expect(second.locator("#refused")).to_contain_text("Somebody else has changed this page")
        await expect(second.get_by_label("Row 1, cell 1")).to_have_value("ALPHA")
        await expect(second.get_by_label("Row 2, cell 2")).to_have_value("DELTA")
        await second.get_by_role("button", name="Save").click()
        await expect(second.locator("#saved")).to_be_visible()
        assert await second.locator("#b1 td").all_inner_texts() == ["ALPHA", "beta", "gamma", "DELTA"]
        found.complaints.clear()  # the browser itself notes the 409


async def test_what_an_input_method_composes_is_its_own(browser: Browser, tmp_path: Path) -> None:
    """Escape puts the candidates of a Chinese input method away. It threw away all that was written, too."""
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        info = await put(office, "a.txt", b"alpha")
        page = await found.open(f"/documents/{info.id}?page=1&edit=1")
        await page.locator("textarea").fill("alpha, corrected")
        await page.locator("textarea").evaluate(
            "field => field.dispatchEvent(new KeyboardEvent('keydown',"
            " { key: 'Escape', isComposing: true, bubbles: true, cancelable: true }))"
        )
        await page.wait_for_timeout(300)
        await expect(page.locator("textarea")).to_have_value("alpha, corrected")


async def test_what_is_written_outlives_a_reading_a_reload_and_a_pairing_that_ended(
    browser: Browser, tmp_path: Path
) -> None:
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        info = await put(office, "a.txt", b"alpha\fFAIL")
        page = await found.open(f"/documents/{info.id}?page=1&edit=1")
        await at_page(page, 1)
        await page.locator("textarea").fill("alpha, corrected")
        await page.get_by_role("button", name="Larger").click()  # the focus is elsewhere now
        office._held[info.id].texts[1] = "mended"
        await office.retry(info.id)
        await expect(page.locator("#state")).to_have_text("done")
        await expect(page.get_by_text("More pages have been read.")).to_be_visible()
        await expect(page.locator("textarea")).to_have_value("alpha, corrected")
        asked: list[str] = []

        async def stay(dialog: Dialog) -> None:
            asked.append(dialog.type)
            await dialog.dismiss()

        page.on("dialog", stay)
        await page.get_by_role("link", name="Next page").click()
        await expect(page.locator("textarea")).to_have_value("alpha, corrected")
        assert asked == ["beforeunload"]

        async def refuse(route: Route) -> None:
            await route.fulfill(status=401, body="{}")

        await page.route("**/api/v1/status", refuse)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("This browser is not paired any more.")).to_be_visible()
        await expect(page.locator("textarea")).to_have_value("alpha, corrected")
        await page.unroute("**/api/v1/status")
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("#b1 .t")).to_have_text("alpha, corrected")
        assert asked == ["beforeunload"]
        found.complaints.clear()  # the browser itself notes the 401


async def test_a_document_deleted_under_an_open_page_is_told(browser: Browser, tmp_path: Path) -> None:
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        info = await put(office, "a.txt", b"alpha")
        page = await found.open(f"/documents/{info.id}")
        await at_page(page, 1)
        await office.remove(info.id)
        await expect(page.get_by_text("This document was deleted.")).to_be_visible()


async def test_on_paper_is_the_whole_text(browser: Browser, tmp_path: Path) -> None:
    """What the pane did not show was not printed, and nothing said so."""
    office = memory(tmp_path, 0)
    async with site(browser, office) as found:
        info = await put(office, "a.txt", "\n\n".join(f"line {n}" for n in range(200)).encode())
        page = await found.open(f"/documents/{info.id}")
        hidden = "document.getElementById('text').scrollHeight - document.getElementById('text').clientHeight"
        assert await page.evaluate(hidden) > 1000
        await page.emulate_media(media="print")
        assert await page.evaluate(hidden) <= 1
        await expect(page.get_by_role("button")).to_have_count(0)
