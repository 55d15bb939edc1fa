"""Each screen's main use in a real Chromium: folders, many at once, failures, the system; for eyes, keys, readers."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from browser.accessible import COLOURS, focus_lost, lacks, violations
from browser.test_web_page import CHROMIUM, Site, file, memory, site, upload
from inkstick.web.screens import NAVIGATION

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("screens"),
    pytest.mark.asyncio(loop_scope="module"),
]


async def filled(found: Site, *texts: str) -> Page:
    """A page with one ended document per text, ``0.txt`` the first."""
    page = await found.open()
    await upload(page, *(file(f"{n}.txt", text) for n, text in enumerate(texts)))
    await expect(page.locator("tr.doc .pill:not([data-state=queued], [data-state=reading])")).to_have_count(len(texts))
    return page


async def test_a_whole_folder_goes_up_with_its_folders(browser: Browser, tmp_path: Path) -> None:
    trip = tmp_path / "trip"
    for name in ("day 1/a.txt", "day 1/b.txt", "c.txt"):
        (trip / name).parent.mkdir(parents=True, exist_ok=True)
        (trip / name).write_text(name)
    async with site(browser, memory(tmp_path / "data")) as found:
        page = await found.open()
        await page.set_input_files("#folder", trip)
        await page.get_by_role("button", name="Read them").click()
        await expect(page.locator("tr.doc .pill", has_text="done")).to_have_count(3)
        assert set(await page.locator("tr.doc .path").all_inner_texts()) == {
            "trip/day 1/a.txt",
            "trip/day 1/b.txt",
            "trip/c.txt",
        }
        await expect(page.locator("#sent")).to_have_text("3 of 3 files sent")
        await expect(page.locator("#uploads li")).to_have_count(0)
        await page.goto(f"{found.address}/documents?folder=trip/day+1")
        await expect(page.locator("tr.doc")).to_have_count(2)


async def test_files_are_dropped_on_the_box(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path)) as found:
        page = await found.open()
        transfer = await page.evaluate_handle(
            "() => { const t = new DataTransfer(); t.items.add(new File(['x'], 'a.txt')); return t; }"
        )
        await page.dispatch_event("#upload", "drop", {"dataTransfer": transfer})
        await expect(page.locator("tr.doc .pill", has_text="done")).to_have_count(1)


async def test_the_inbox_tells_what_is_being_read(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path, 0.5)) as found:
        page = await found.open()
        await upload(page, file("long.txt", "page\f" * 9))
        await expect(page.locator("#at-work a")).to_have_text("long.txt")
        await expect(page.locator("#working")).to_be_visible()
        await expect(page.locator("tr.doc .strip rect.is-read")).to_be_visible()
        await expect(page.locator("tr.doc .pill", has_text="done")).to_be_visible()
        await expect(page.locator("#working")).to_be_hidden()
        await expect(page.locator("#left span")).to_have_text("nothing waits")


async def test_many_are_chosen_taken_away_read_again_and_deleted(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path)) as found:
        page = await filled(found, "alpha", "beta DOUBT", "FAIL")
        await page.goto(f"{found.address}/documents")
        delete = page.get_by_role("button", name="Delete…")
        await expect(delete).to_be_disabled()
        await page.get_by_label("All on this page").check()
        await expect(page.locator("#chosen")).to_have_text("3 chosen")
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Take results away (ZIP)").click()
        with zipfile.ZipFile(await (await download.value).path()) as archive:
            assert len({name.split("/")[0] for name in archive.namelist()}) == 2
        await page.get_by_label("All on this page").uncheck()
        await page.get_by_label("Choose 2.txt").check()
        await page.get_by_role("button", name="Read again").click()
        await expect(page.locator("tr.doc", has_text="2.txt").locator(".pill")).to_have_text("failed")
        await page.get_by_label("Choose 0.txt").check()
        await page.get_by_label("Choose 2.txt").check()
        await delete.click()
        await expect(page.locator("h1")).to_have_text("Delete these 2 documents for good?")
        await page.get_by_role("button", name="Yes, delete").click()
        await expect(page.locator("tr.doc .title")).to_have_text("1.txt")


async def test_a_deletion_elsewhere_is_seen_at_once(browser: Browser, tmp_path: Path) -> None:
    office = memory(tmp_path)
    async with site(browser, office) as found:
        page = await filled(found, "alpha", "beta")
        await office.remove((await office.documents())[-1].id)
        await expect(page.locator("tr.doc")).to_have_count(1)
        # Its row may just have been asked for once more, after its end: the browser itself notes the 404.
        found.complaints[:] = [complaint for complaint in found.complaints if "404" not in complaint]


async def test_failures_are_explained_and_a_password_helps(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path, 0)) as found:
        page = await filled(found, "LOCKED", "FAIL", "fine")
        await page.get_by_role("link", name="Failures").click()
        await expect(page.locator(".group")).to_have_count(2)
        locked = page.locator(".group", has_text="protected by a password")
        async with page.expect_download() as download:
            await locked.get_by_role("link", name="Original").click()
        assert Path(await (await download.value).path()).read_text() == "LOCKED"
        await locked.get_by_label("Password of 0.txt").fill("sesame")
        await locked.get_by_role("button", name="Try again 0.txt").click()
        await expect(page.locator("h1")).to_have_text("Failures")
        await page.goto(f"{found.address}/documents?q=open")
        await expect(page.locator("tr.doc .pill")).to_have_text("done")


async def test_many_are_handled_without_javascript_too(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path, 0), script=False) as found:
        page = await found.open()
        await upload(page, file("a.txt", "alpha"), file("b.txt", "beta"))
        await page.goto(f"{found.address}/documents")
        await page.get_by_label("Choose a.txt").check()
        await page.get_by_role("button", name="Delete…").click()
        await page.get_by_role("button", name="Yes, delete").click()
        await expect(page.locator("tr.doc .title")).to_have_text("b.txt")


async def test_the_self_test_and_the_diagnostics_are_a_press_away(browser: Browser, tmp_path: Path) -> None:
    async with site(browser, memory(tmp_path)) as found:
        page = await found.open("/system")
        await page.get_by_role("button", name="Run the self-test").click()
        await expect(page.locator("#test")).to_contain_text("Passed")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Export the diagnostics").click()
        with zipfile.ZipFile(await (await download.value).path()) as archive:
            assert "inkstick-diagnostics/about.json" in archive.namelist()


async def test_what_lacks_something_is_found(browser: Browser) -> None:
    page = await browser.new_page()
    await page.set_content("<title>x</title><main><img src='data:,'><p style='color: #bbb'>faint</p></main>")
    found = " ".join(await violations(page))
    assert all(rule in found for rule in ("image-alt", "color-contrast", "html-has-lang"))
    assert "color-contrast" in " ".join(await violations(page, COLOURS))
    await page.close()


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_the_screens_lack_nothing_for_eyes_keys_and_readers(
    browser: Browser, tmp_path: Path, language: str
) -> None:
    office = memory(tmp_path, 0)
    office.offered = ("lock", "power-off")
    async with site(browser, office) as found:
        page = await filled(found, "alpha", "DOUBT\fx", "FAIL", "LOCKED", "FAIL\fx")
        await found.context.set_extra_http_headers({"Accept-Language": language})
        others = (
            "/documents?q=alpha&since=2020-01-01",
            f"/documents/{(await office.documents(q='DOUBT'))[0].id}",
            "/access",
        )
        for address in [*(entry.address for entry in NAVIGATION), *others]:
            for scheme in ("light", "dark") if language == "en" else ("light",):  # a colour speaks no language
                await page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
                await page.goto(found.address + address)
                assert await page.locator("html").get_attribute("lang") == {"en": "en", "zh": "zh-Hans"}[language]
                await page.evaluate("document.querySelectorAll('main details').forEach((d) => { d.open = true; })")
                assert await lacks(page, COLOURS if scheme == "dark" else None) == [], f"{address}, {scheme}"
            await page.set_viewport_size({"width": 390, "height": 800})
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390, address
            await page.set_viewport_size({"width": 1200, "height": 800})
            if language == "en":
                stops, unseen = await focus_lost(page)
                assert stops > 5
                assert unseen == [], address
