"""Corrections through the real office: saved, found by the search, in every result; restarts, twins, retries."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pymupdf
import pytest
import pytest_asyncio

from inkstick.config import Settings
from inkstick.correct.change import Settle, Text
from inkstick.correct.doubt import doubts
from inkstick.document import Block, Flag, Kind, Page, Task
from inkstick.errors import ArchiveUnsafe, UsageError
from inkstick.office import Office
from inkstick.profile import EngineChoice, Format
from inkstick.reading.reader import Engines
from inkstick.store.disk import Disk
from inkstick.store.edits import Edits, Version
from inkstick.web.app import create_app
from inkstick.web.corrections_port import Wish
from inkstick.web.office_port import DocumentInfo
from support import pair

ALL = ["md", "json", "txt", "pdf", "alto", "hocr", "csv", "docx"]
HOSTILE = (
    '=HYPERLINK("http://evil.example","x")',
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "../../etc/passwd",
    "@SUM(1+1)*cmd|' /C calc'!A0",
)


pytestmark = pytest.mark.asyncio(loop_scope="module")


def settings_in(folder: Path) -> Settings:
    return Settings(data=folder / "data", reserve_bytes=0, parsers=1, page_seconds=30)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    """One office for all tests but those that restart it. On page 1 of every document the readers differ."""
    async with office(settings_in(tmp_path_factory.mktemp("corrections")), 1) as found:
        yield found


@asynccontextmanager
async def office(settings: Settings, *wrong: int) -> AsyncIterator[Office]:
    first = pair.First({number: pair.misread(number) for number in wrong})
    found = Office(settings, engines=Engines(first, pair.Second()))
    await found.start()
    try:
        yield found
    finally:
        await found.close()


async def read(office: Office, pages: int, name: str = "ledger.pdf", **wishes: Any) -> DocumentInfo:
    async def chunks() -> AsyncIterator[bytes]:
        yield pair.pdf(pages)

    info = await office.accept_upload(name, chunks(), wishes={"second_reader": "on", "formats": ALL, **wishes})
    return await ended(office, info.id)


async def ended(office: Office, id: str) -> DocumentInfo:
    async with asyncio.timeout(90):
        while (info := await office.document(id)).state not in ("done", "partial", "failed"):
            await office.wait_event(after=await office.last_event(), timeout=0.2)
    return info


async def contents(office: Office, id: str) -> dict[str, str]:
    """The text of every result."""
    found = {}
    for format in Format:
        for path in await office.result_files(id, format.value):
            found[format.value] = _text(path)
    return found


def _text(path: Path) -> str:
    if path.suffix == ".pdf":
        with pymupdf.open(path) as document:
            return "\f".join(page.get_text() for page in document)
    if path.suffix == ".docx":
        with zipfile.ZipFile(path) as archive:
            return archive.read("word/document.xml").decode()
    return path.read_text(encoding="utf-8-sig")


async def test_a_doubted_digit_is_corrected_in_every_result_and_found(house: Office) -> None:
    info = await read(house, 3)
    assert info.flags == ("low_agreement",)
    now = await house.corrections.page(info.id, 1)
    assert now is not None
    (doubt,) = doubts(now.page)
    assert (doubt.kind, doubt.first, doubt.second) == ("digits", pair.misread(1), pair.printed(1))
    assert await house.corrections.doubtful(info.id, 0) == 1
    saved = await house.corrections.change(info.id, 1, 0, [Settle(doubt.key, doubt.second)], who="a clerk")
    assert (saved.version, saved.page.flags) == (1, (Flag.EDITED,))
    assert [hit.page for hit in await house.search(pair.printed(1)) if hit.document == info.id] == [1]
    assert not [hit for hit in await house.search(pair.misread(1)) if hit.document == info.id]
    results = await contents(house, info.id)
    for format in ("md", "json", "txt", "pdf", "docx"):
        assert pair.printed(1) in results[format].replace("\\", ""), format
    for format in ("alto", "hocr"):
        assert f'"{pair.printed(1)}"' in results[format] or f">{pair.printed(1)}<" in results[format], format
    assert not [format for format, text in results.items() if pair.misread(1) in text]
    assert (await house.corrections.page(info.id, 1)).exported  # type: ignore[union-attr]
    assert (await house.document(info.id)).flags == ("edited",)
    assert await house.corrections.doubtful(info.id, 0) is None
    versions = await house.corrections.versions(info.id, 1)
    assert [(one.number, one.who, one.what) for one in versions] == [(0, "", ""), (1, "a clerk", "text")]
    back = await house.corrections.restore(info.id, 1, 1, 0, who="another")
    assert (back.version, back.page) == (2, now.page)
    assert pair.misread(1) in (await contents(house, info.id))["txt"]


async def test_two_people_at_once_do_not_overwrite_each_other(house: Office) -> None:
    info = await read(house, 1)
    await house.corrections.change(info.id, 1, 0, [Text(2, "the first was here")], who="first")
    with pytest.raises(UsageError) as error:
        await house.corrections.change(info.id, 1, 0, [Text(2, "the second too")], who="second")
    assert error.value.code == "conflict"
    for change in (Text(99, "x"), Settle("digits:7")):
        with pytest.raises(UsageError):
            await house.corrections.change(info.id, 1, 1, [change], who="x")
    assert [one.number for one in await house.corrections.versions(info.id, 1)] == [0, 1]


async def test_corrections_outlive_a_lost_ledger_and_an_export_that_was_cut_off(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    async with office(settings) as house:
        info = await read(house, 2)
        await house.corrections.change(info.id, 1, 0, [Text(2, "corrected before")], who="x")
        await house.corrections.exported(info.id)
    edits = Edits(settings.folder, Disk())
    page = edits.newest(info.id, 1)
    assert page is not None
    cut_off = Page(1, 10, 10, "x", blocks=(Block(1, Kind.PARAGRAPH, "corrected at the last moment"),))
    edits.save(info.id, 1, page.page, Version(0, cut_off, "x", "", "text"))  # and then the power went
    for path in settings.folder.state.glob("ledger.*"):
        path.unlink()
    async with office(settings) as house:
        assert (await house.document(info.id)).state == "done"
        assert [hit.page for hit in await house.search("at the last moment")] == [1]
        assert await house.search("corrected before") == []
        assert "corrected at the last moment" in (await contents(house, info.id))["md"]
        assert not (settings.folder.edits / info.id / "staging").exists()
        await house.remove(info.id)
        assert not (settings.folder.edits / info.id).exists()


async def test_a_correction_that_the_disk_gives_back_damaged_hinders_no_start(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    async with office(settings) as first:
        info = await read(first, 1, formats=["json"])
        await first.corrections.change(info.id, 1, 0, [Text(1, "as it is printed")], who="a clerk")
        await first.corrections.exported(info.id)
    edits = settings.folder.edits / info.id
    (edits / "1" / "1.json").write_bytes(b"\0" * 100)
    (edits / "unpublished").touch()
    async with office(settings) as second:
        assert (await second.health()).live
        assert (await second.document(info.id)).state == "done"


async def test_a_page_is_read_once_more_and_the_reading_taken_or_not(house: Office) -> None:
    info = await read(house, 2)
    found = await house.corrections.reread(info.id, 1, Wish(EngineChoice.RAPIDOCR, Task.TEXT))
    assert pair.printed(1) in found.page.text()
    assert found.page.engine == "rapidocr"
    assert pair.misread(1) in (await house.page_text(info.id, 1) or "")
    for wish in (Wish(EngineChoice.TRANSFORMERS), Wish(task=Task.CHART)):
        with pytest.raises(Exception, match="here"):
            await house.corrections.reread(info.id, 1, wish)
    with pytest.raises(UsageError):
        await house.corrections.accept(info.id, 2, 0, found.key, who="x")
    taken = await house.corrections.accept(info.id, 1, 0, found.key, who="x")
    assert (taken.version, taken.page.engine, Flag.EDITED in taken.page.flags) == (1, "rapidocr", True)
    assert pair.printed(1) in (await contents(house, info.id))["txt"]


async def test_a_new_reading_keeps_what_people_corrected_and_a_twin_does_not_get_it(house: Office) -> None:
    info = await read(house, 2)
    await house.corrections.change(info.id, 1, 0, [Text(2, "corrected by hand")], who="x")
    await house.corrections.exported(info.id)
    twin = await read(house, 2, "copy.pdf")
    assert "corrected by hand" not in (await contents(house, twin.id))["txt"]
    assert twin.flags == ("low_agreement",)
    await house.retry(info.id)
    again = await ended(house, info.id)
    assert again.results != info.results
    assert "corrected by hand" in (await contents(house, info.id))["txt"]
    assert set(again.flags) == {"edited", "low_agreement"}


async def test_without_its_original_the_searchable_copy_still_follows(house: Office) -> None:
    info = await read(house, 2, originals="delete")
    now = await house.corrections.page(info.id, 1)
    assert now is not None
    await house.corrections.change(info.id, 1, 0, [Settle(doubts(now.page)[0].key, "7,777.50")], who="x")
    results = await contents(house, info.id)
    assert "7,777.50" in results["pdf"]
    assert pair.misread(1) not in results["pdf"]
    assert pair.printed(2) in results["pdf"]


async def test_another_file_in_the_place_of_the_original_is_not_taken_for_it(house: Office) -> None:
    info = await read(house, 2, "replaced.pdf")
    (await house.original_file(info.id)).write_bytes(pair.pdf(1))
    now = await house.corrections.page(info.id, 1)
    assert now is not None
    await house.corrections.change(info.id, 1, 0, [Settle(doubts(now.page)[0].key, "7,777.50")], who="x")
    results = await contents(house, info.id)
    assert "7,777.50" in results["pdf"]
    assert pair.printed(2) in results["pdf"], "the second page is there"
    with pytest.raises(UsageError, match="another file"):
        await house.corrections.reread(info.id, 1, Wish(EngineChoice.AUTO, Task.PARSE))


async def test_corrections_reach_the_results_of_an_archive_that_cannot_be_unpacked_any_more(
    house: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("a.pdf", pair.pdf(1))
            archive.writestr("b.pdf", pair.pdf(2))
        yield out.getvalue()

    async def no_room(*arguments: object, **options: object) -> None:
        raise ArchiveUnsafe("The archive unpacks to more than there is room for.")

    info = await house.accept_upload("two.zip", chunks(), wishes={"second_reader": "on", "formats": ["md", "pdf"]})
    info = await ended(house, info.id)
    monkeypatch.setattr(house._pool, "expand", no_room)
    now = await house.corrections.page(info.id, 1)
    assert now is not None
    await house.corrections.change(info.id, 1, 0, [Settle(doubts(now.page)[0].key, "7,777.50")], who="x")
    folder = await house.result_folder(info.id)
    assert "7,777.50" in (await contents(house, info.id))["md"]
    assert sorted(path.parent.name for path in folder.rglob("*.pdf")) == ["01 a", "02 b"]


async def test_hostile_corrections_act_in_no_result(house: Office) -> None:
    info = await read(house, 1)
    table = "<table>" + "".join(f"<tr><td>cell {n}</td></tr>" for n in range(len(HOSTILE))) + "</table>"
    page = (await house.corrections.page(info.id, 1)).page  # type: ignore[union-attr]
    with_table = Page(1, page.width, page.height, "x", blocks=(*page.blocks, Block(9, Kind.TABLE, table)))
    Edits(house.settings.folder, Disk()).save(info.id, 0, page, Version(0, with_table, "x", "", "text"))
    changes = [Text(9, text, n, 0) for n, text in enumerate(HOSTILE)]
    changes += [Text(order, text) for order, text in zip((2, 3, 4, 5), HOSTILE, strict=False)]
    await house.corrections.change(info.id, 1, 1, changes, who="x")
    results = await contents(house, info.id)
    cells = [row[0] for row in csv.reader(io.StringIO(results["csv"]))]
    assert [cell.lstrip("'") for cell in cells] == list(HOSTILE)
    assert not [cell for cell in cells if cell[0] in "=+-@"]
    for format in ("md", "hocr", "alto", "docx"):
        assert "<script>" not in results[format], format
        assert "<img" not in results[format], format
    outside = results["md"].partition("<table>")[0]  # within HTML, Markdown is not read
    assert "](" not in outside.replace("\\]", "")
    assert "fldSimple" not in results["docx"] and "instrText" not in results["docx"]
    assert {path.name for path in house.settings.folder.root.parent.iterdir()} == {"data"}
    (docx,) = await house.result_files(info.id, "docx")
    with zipfile.ZipFile(docx) as archive:
        assert not [name for name in archive.namelist() if "vba" in name.lower() or "macro" in name.lower()]


async def test_the_api_tells_doubts_saves_changes_and_refuses_stale_ones(house: Office) -> None:
    info = await read(house, 1)
    transport = httpx.ASGITransport(create_app(house), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        base = f"/api/v1/documents/{info.id}/pages/1"
        state = (await client.get(base)).json()
        assert (state["version"], state["editable"], state["doubts"][0]["second"]) == (0, True, pair.printed(1))
        doubt = state["doubts"][0]
        snippet = await client.get(f"{base}/image?max_side=400&box={','.join(map(str, doubt['box']))}")
        whole = await client.get(f"{base}/image?max_side=400")
        assert snippet.status_code == 200 and snippet.content != whole.content
        assert pymupdf.Pixmap(snippet.content).width > 4 * pymupdf.Pixmap(snippet.content).height
        for wrong in ("5,5,5,9", "1,2,3", "0,0,1001,5"):
            assert (await client.get(f"{base}/image?box={wrong}")).status_code == 422
        body = {"version": 0, "changes": [{"doubt": doubt["key"], "text": doubt["second"]}]}
        saved = await client.patch(base, json=body)
        assert (saved.status_code, saved.json()["version"]) == (200, 1)
        assert saved.json()["page"]["flags"] == ["edited"]
        stale = await client.patch(base, json=body)
        assert (stale.status_code, stale.json()["code"]) == (409, "conflict")
        for bad in ({"version": 1, "changes": []}, {"version": 1, "changes": [{"text": "x"}]},
                    {"version": 1, "changes": [{"block": 1, "row": 1, "text": "x"}]}, {"version": -1}):  # fmt: skip
            assert (await client.patch(base, json=bad)).status_code == 422
        once = (await client.post(f"{base}/reread", json={"engine": "rapidocr"})).json()
        assert {piece["kind"] for piece in once["difference"]} <= {"same", "gone", "new"}
        taken = await client.post(f"{base}/readings/{once['reading']}/accept", json={"version": 1})
        assert taken.json()["version"] == 2
        back = await client.post(f"{base}/restore", json={"version": 2, "to": 0})
        assert (back.json()["version"], back.json()["doubts"]) == (3, state["doubts"])
        listed = (await client.get(f"{base}/versions")).json()["versions"]
        assert [one["what"] for one in listed] == ["", "text", "reread", "restored"]
        assert (await client.get(f"{base}/versions/1")).json() == saved.json()["page"]
        assert (await client.get(f"{base}/versions/9")).status_code == 404
        assert (await client.get(f"/api/v1/documents/{info.id}/pages/2")).status_code == 404
        record = json.loads((await client.get(f"/api/v1/documents/{info.id}/results/json")).content)
        assert record["pages"][0]["blocks"] == back.json()["page"]["blocks"]
