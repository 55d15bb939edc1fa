"""The screens and their API, over real ASGI, with an office in memory: what is listed, done to many, told."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from inkstick.config import Settings
from inkstick.document import Task
from inkstick.errors import UsageError
from inkstick.store.strips import Strip
from inkstick.web import language, phrases, shelves, words
from inkstick.web.app import create_app
from inkstick.web.office_port import DocumentInfo, Stats
from inkstick.web.screens import documents as documents_screen
from inkstick.web.screens import system as system_screen
from inkstick.web.screens_port import Remaining
from support.office import MemoryOffice
from unit.test_web_app import problem, settled, upload

TEMPLATES = Path(language.__file__).parent / "templates"
OURS = ("base", "index", "documents", "list", "row", "strip", "delete", "refused", "failures", "system", "problem")


async def several(client: httpx.AsyncClient) -> dict[str, str]:
    """Ids by name: one read well, one in doubt in a folder, one failed, one that needs a password."""
    texts = {"a.txt": "alpha", "b.txt": "beta\fDOUBT", "c.txt": "FAIL", "d.txt": "LOCKED"}
    ids = {}
    for name, text in texts.items():
        where = "?folder=letters/2026" if name == "b.txt" else ""
        ids[name] = (await upload(client, text, f"{name}{where}"))["id"]
    return ids


async def names(client: httpx.AsyncClient, query: str) -> list[str]:
    rows = (await client.get(f"/api/v1/documents?{query}")).json()["documents"]
    return [row["name"] for row in rows]


# Lists and folders


async def test_a_list_is_narrowed_by_flag_folder_day_and_error(client: httpx.AsyncClient) -> None:
    await several(client)
    assert await names(client, "flag=suspect") == ["b.txt"]
    assert await names(client, "folder=letters") == ["b.txt"]
    assert await names(client, "folder=letter") == []
    assert await names(client, "code=damaged") == ["c.txt"]
    assert await names(client, "since=2099-01-01") == []
    assert len(await names(client, "until=2099-01-01")) == 4
    problem(await client.get("/api/v1/documents?flag=ugly"), 422, "usage")
    problem(await client.get("/api/v1/documents?since=soon"), 422, "usage")
    page = (await client.get("/documents?flag=suspect")).text
    assert "b.txt" in page
    assert "a.txt" not in page
    assert 'value="letters/2026"' in page, "folders to choose from"


async def test_a_folder_is_kept_below_the_inbox_and_leads_nowhere_else(client: httpx.AsyncClient) -> None:
    document = await upload(client, "x", "a.txt?folder=/letters//2026/")
    assert document["path"] == "letters/2026/a.txt"
    for bad in ("../up", "a/../b", "a\\b", "/".join("abcdefghij" * 4)):
        answer = await client.put("/api/v1/documents/a.txt", params={"folder": bad}, content=b"x")
        assert "folder" in problem(answer, 422, "usage")["message"]


async def test_the_form_keeps_the_folders_that_a_browser_names(client: httpx.AsyncClient) -> None:
    files = [("file", ("trip/day 1/a.txt", b"a")), ("file", ("b.txt", b"b"))]
    assert (await client.post("/upload", files=files)).status_code == 303
    rows = (await client.get("/api/v1/documents")).json()["documents"]
    assert {row["path"] for row in rows} == {"trip/day 1/a.txt", "b.txt"}


async def test_the_old_address_of_the_list_leads_to_it(client: httpx.AsyncClient) -> None:
    answer = await client.get("/?q=alpha&state=done")
    assert (answer.status_code, answer.headers["location"]) == (303, "/documents?q=alpha&state=done")


async def test_strips_show_every_page_and_say_it_in_words(client: httpx.AsyncClient) -> None:
    ids = await several(client)
    strips = (await client.get(f"/api/v1/strips?id={ids['b.txt']}&id={ids['c.txt']}&id=nobody")).json()["strips"]
    assert strips[ids["b.txt"]]["runs"] == [
        {"level": "read", "start": 0, "length": 1},
        {"level": "warn", "start": 1, "length": 1},
    ]
    assert strips[ids["c.txt"]]["counts"] == {"failed": 1, "waiting": 0}
    assert len(strips) == 2
    assert 'aria-label="2 read, 1 to look at, 0 failed, 0 waiting"' in (await client.get("/documents")).text


# Many at once


async def test_results_of_many_come_as_one_archive_with_a_folder_each(client: httpx.AsyncClient) -> None:
    ids = await several(client)
    answer = await client.get("/api/v1/archive", params={"id": list(ids.values())})
    assert answer.headers["content-disposition"].startswith("attachment")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        found = {name.split("/")[0] for name in archive.namelist()}
        assert archive.read(f"{ids['a.txt']}/{ids['a.txt']}.txt") == b"alpha"
    assert found == {ids["a.txt"], ids["b.txt"]}
    problem(await client.get("/api/v1/archive", params={"id": ids["c.txt"]}), 409, "not_ready")
    form = await client.post("/documents/bulk", data={"action": "archive", "id": [ids["a.txt"], ids["b.txt"]]})
    assert form.content[:2] == b"PK"


async def test_results_of_all_that_match_come_as_one_archive(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With thousands of documents nobody ticks boxes, fifty at a time."""
    ids = {name: (await upload(client, f"page {name}", name))["id"] for name in (f"{n}.txt" for n in range(5))}
    monkeypatch.setattr(shelves, "MOST", 2)  # they are asked for in parts
    monkeypatch.setattr(documents_screen, "ROWS", 3)
    for query, names in (("", ids.values()), ("?q=3.txt", [ids["3.txt"]])):
        with zipfile.ZipFile(io.BytesIO((await client.get(f"/api/v1/archive{query}")).content)) as archive:
            assert {name.split("/")[0] for name in archive.namelist()} == set(names)
    shown = (await client.get("/documents?q=page")).text
    assert 'href="/api/v1/archive?q=page"' in shown and "Results of all that match (ZIP)" in shown
    assert "Results of all" not in (await client.get("/documents?q=3.txt")).text, "its box is enough"
    problem(await client.get("/api/v1/archive?q=nothing+like+it"), 409, "not_ready")
    monkeypatch.setattr(shelves, "AT_ONCE", 4)
    problem(await client.get("/api/v1/archive"), 422, "usage")


async def test_many_are_retried_and_what_is_refused_hinders_no_other(client: httpx.AsyncClient) -> None:
    ids = await several(client)
    asked = {"action": "retry", "ids": [ids["c.txt"], ids["a.txt"], "nobody", ids["d.txt"]]}
    answer = (await client.post("/api/v1/bulk", json=asked)).json()
    assert answer["done"] == [ids["c.txt"], ids["d.txt"]]
    assert {item["id"]: item["error"]["code"] for item in answer["refused"]} == {
        ids["a.txt"]: "not_ready",
        "nobody": "not_found",
    }
    assert (await settled(client, ids["c.txt"]))["attempts"] == 2
    problem(await client.post("/api/v1/bulk", json={"action": "burn", "ids": ["x"]}), 422, "usage")


async def test_a_deletion_that_the_disk_refuses_hinders_no_other(
    client: httpx.AsyncClient, office: MemoryOffice
) -> None:
    ids, remove = await several(client), office.remove

    async def refusing(id: str) -> None:
        if id == ids["a.txt"]:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), "/data/results/a")
        await remove(id)

    office.remove = refusing  # type: ignore[method-assign]
    asked = {"action": "delete", "ids": [ids["a.txt"], ids["b.txt"]]}
    answer = (await client.post("/api/v1/bulk", json=asked)).json()
    assert answer["done"] == [ids["b.txt"]]
    assert [(item["id"], item["error"]["code"]) for item in answer["refused"]] == [(ids["a.txt"], "unavailable")]


async def test_a_deletion_asks_first_and_then_takes_everything(client: httpx.AsyncClient, tmp_path: Path) -> None:
    ids = await several(client)
    chosen = {"id": [ids["a.txt"], ids["c.txt"]], "back": "/documents?state=done"}
    question = await client.post("/documents/bulk", data={**chosen, "action": "delete"})
    assert "Delete these 2 documents for good?" in question.text
    assert len(await names(client, "")) == 4, "asking deletes nothing"
    answer = await client.post("/documents/delete", data=chosen)
    assert (answer.status_code, answer.headers["location"]) == (303, "/documents?state=done")
    assert await names(client, "") == ["d.txt", "b.txt"]
    assert not (tmp_path / "results" / ids["a.txt"]).exists()
    assert not (tmp_path / "done" / ids["c.txt"]).exists()
    problem(await client.delete(f"/api/v1/documents/{ids['a.txt']}"), 404, "not_found")
    assert (await client.delete(f"/api/v1/documents/{ids['b.txt']}")).status_code == 204


async def test_nobody_is_sent_elsewhere_after_a_deletion(client: httpx.AsyncClient) -> None:
    ids = await several(client)
    for back in ("https://elsewhere.example/", "//elsewhere.example", "/documents/../..", "/documents\\x"):
        answer = await client.post("/documents/delete", data={"id": ids["a.txt"], "back": back})
        problem(answer, 422, "usage")


# Failures


async def test_failures_are_grouped_by_reason_and_say_what_to_do(client: httpx.AsyncClient) -> None:
    ids = await several(client)
    reasons = (await client.get("/api/v1/failures")).json()["reasons"]
    assert {item["code"]: item["documents"] for item in reasons} == {"damaged": 1, "encrypted": 1}
    assert all(item["message"] and item["hint"] for item in reasons)
    page = (await client.get("/failures")).text
    assert 'name="password"' in page.split(ids["d.txt"])[-1]
    assert "Scan or export it again" in page
    original = await client.get(f"/api/v1/documents/{ids['c.txt']}/original")
    assert (original.content, original.headers["content-type"]) == (b"FAIL", "application/octet-stream")
    assert original.headers["content-disposition"].startswith("attachment")


async def test_a_password_opens_what_was_locked(client: httpx.AsyncClient, office: MemoryOffice) -> None:
    ids = await several(client)
    answer = await client.post("/failures/retry", data={"id": ids["d.txt"], "password": "sesame"})
    assert (answer.status_code, office.passwords) == (303, ["sesame"])
    assert (await settled(client, ids["d.txt"]))["state"] == "done"
    assert "sesame" not in (await client.get(f"/api/v1/documents/{ids['d.txt']}")).text


async def test_all_of_a_reason_are_tried_again(client: httpx.AsyncClient) -> None:
    ids = await several(client)
    assert (await client.post("/failures/retry", data={"code": "damaged"})).status_code == 303
    assert (await settled(client, ids["c.txt"]))["attempts"] == 2
    problem(await client.post("/failures/retry", data={}), 422, "usage")


# System


async def test_the_system_tells_what_it_is_made_of_and_how_it_does(client: httpx.AsyncClient) -> None:
    await several(client)
    system = (await client.get("/api/v1/system")).json()
    packages = {item["name"]: item for item in system["packages"]}
    assert packages["fastapi"]["version"]
    assert re.fullmatch("[0-9a-f]{64}", packages["fastapi"]["sha256"])
    assert {"pp-ocrv6-small", "hunyuanocr-1.5"} <= {item["name"] for item in system["models"]}
    assert (sum(system["pages"]), len(system["pages"])) == (5, 96)
    page = (await client.get("/system")).text
    assert '<rect class="bar" x="95.1" y="0.0"' in page
    assert "Switch off" not in page


async def test_the_self_test_says_pass_or_fail(client: httpx.AsyncClient, office: MemoryOffice) -> None:
    assert "Passed" in (await client.post("/system/self-test")).text
    office.engine_ready = False
    assert "Failed." in (await client.post("/system/self-test")).text
    assert (await client.post("/api/v1/system/self-test")).json()["good"] is False


async def test_the_machine_is_locked_only_where_it_offers_that(client: httpx.AsyncClient, office: MemoryOffice) -> None:
    problem(await client.post("/api/v1/system/lock"), 404, "not_found")
    office.offered = ("lock",)
    page = (await client.get("/system")).text
    assert "Yes, lock now" in page
    assert "Yes, switch off now" not in page
    assert (await client.post("/system/machine", data={"action": "lock"})).status_code == 303
    assert "The data is being locked." in (await client.get("/system")).text
    assert office.ordered == ["lock"]


@pytest.mark.parametrize(
    ("offered", "said"),
    [(("lock", "power-off"), "Nothing is lost."), (("power-off",), "in memory only: all of them are lost")],
)
async def test_what_a_power_off_costs_is_said_before_it(
    client: httpx.AsyncClient, office: MemoryOffice, offered: tuple[str, ...], said: str
) -> None:
    """What cannot be locked is in memory, and goes with the power: the page promised that nothing is lost."""
    office.offered = offered
    page = (await client.get("/system")).text
    assert said in page and page.count("lost") == 1


async def test_the_folders_on_the_network_are_told_on_the_system_page(tmp_path: Path) -> None:
    data, told = tmp_path / "data", tmp_path / "run"
    told.mkdir()
    office = MemoryOffice(data, settings=Settings(data=data, appliance=told))
    transport = httpx.ASGITransport(create_app(office))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        status = {"addresses": ["https://10.77.0.1/"], "share": "aj0y-r86r-7eja-c7bc"}
        (told / "status.json").write_text(json.dumps(status))
        page = (await client.get("/system")).text
        assert r"\\10.77.0.1\inbox" in page and r"\\10.77.0.1\results" in page and "aj0y-r86r-7eja-c7bc" in page
        assert "aj0y" not in (await client.get("/")).text + (await client.get("/api/v1/system")).text
        (told / "status.json").write_text(json.dumps({**status, "share": ""}))
        assert "Network folders" not in (await client.get("/system")).text


def test_the_chart_knows_what_it_does_not_know() -> None:
    from inkstick.throughput import Throughput

    counted = Throughput(started=0.0)
    counted.note(30.0, 6)
    counted.note(3600.0 + 60, 10)
    series = counted.series(3600.0 + 120)
    assert (series.pages[-5:], series.known) == ((6, 0, 0, 0, 4), 63)
    assert system_screen.bars(series) == [(91, 0.0, 100.0), (95, 33.3, 66.7)]
    assert system_screen.hours(series) == [(0, 4), (1, 6)]
    assert counted.series(3600.0 * 26).most == 0, "older than a day"


# Words


@pytest.mark.parametrize(
    ("remaining", "rate", "says"),
    [
        (Remaining(), 1.0, "nothing waits"),
        (Remaining(pages=30), 1.0, "less than a minute"),
        (Remaining(pages=60, unopened=10, mean_pages=6.0), 0.5, "about 4 minutes"),
        (Remaining(pages=9000), 1.0, "about 2.5 hours"),
        (Remaining(pages=5, unopened=3), 1.0, "5 pages of opened documents, 3 documents not opened yet"),
        (Remaining(pages=5), 0.0, "5 pages of opened documents, 0 documents not opened yet"),
    ],
)
def test_the_time_left_is_told_only_where_it_is_known(remaining: Remaining, rate: float, says: str) -> None:
    assert words.left(remaining, Stats(pages_per_second=rate)) == says


def test_the_machine_s_screen_is_told_what_is_read_and_how_fast_in_its_language() -> None:
    stats = Stats(documents={"reading": 3, "done": 86, "failed": 0}, pages_per_second=1.2)
    told = words.summary(stats, language.translator("en"))
    assert told.startswith("3 reading, 86 done; 1.2 pages a second; No engine is ready")
    assert words.summary(Stats(), language.translator("en")).startswith("no documents yet; No engine")
    assert words.summary(stats, language.translator("zh")).startswith("3 读取中, 86 完成; 每秒 1.2 页; 没有引擎就绪")


async def test_the_status_speaks_the_language_of_who_asks(client: httpx.AsyncClient) -> None:
    said = (await client.get("/api/v1/status", headers={"Accept-Language": "zh-CN"})).json()["says"]
    assert said["left"]["text"] == "没有等待的文档"
    assert said["engine"]["text"].startswith("rapidocr 已就绪")
    assert (await client.get("/api/v1/status")).json()["says"]["left"]["text"] == "nothing waits"


def test_every_sentence_of_the_screens_is_translated_with_the_same_placeholders() -> None:
    catalogue = language.catalogue("zh")
    wanted = {text for pair in phrases.REASONS.values() for text in pair} | set(phrases.SCRIPT.values())
    wanted |= {text for pair in words.FLAGS.values() for text in pair} | {*words.STATES.values(), *words.TASKS.values()}
    for name in OURS:
        text = (TEMPLATES / f"{name}.html").read_text(encoding="utf-8")
        wanted |= set(re.findall(r'_\("((?:[^"\\]|\\.)*)"', text))
    assert sorted(wanted - set(catalogue)) == []
    for english, chinese in catalogue.items():
        assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese)), english


def test_no_template_of_the_screens_holds_words_outside_of_the_catalogue() -> None:
    for name in OURS:
        text = (TEMPLATES / f"{name}.html").read_text(encoding="utf-8")
        bare = re.sub(r"{[{%#].*?[}%#]}|<[^>]*>", " ", text, flags=re.DOTALL)
        found = set(re.findall(r"[A-Za-z]{3,}", bare))
        assert found <= {"Inkstick", "PDF", "TIFF", "JPEG", "PNG", "BMP", "WebP", "HEIC", "ZIP", "SHA", "nbsp"}, name


# What happens while a page is made


@pytest.mark.parametrize("path", ["/", "/documents", "/documents/{id}"])
async def test_what_happens_while_a_page_is_made_is_told_again(
    client: httpx.AsyncClient, office: MemoryOffice, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A document that ends between the look at its row and the answer would be shown as it was, for ever."""
    id = (await upload(client, "alpha", "a.txt"))["id"]
    before, looked = await office.last_event(), office.strips

    async def busy(ids: Sequence[str]) -> Mapping[str, Strip]:
        await upload(client, "beta", "b.txt")
        return await looked(ids)

    async def engines() -> Sequence[tuple[str, Sequence[Task]]]:
        await upload(client, "beta", "b.txt")
        return []

    monkeypatch.setattr(office, "strips", busy)
    monkeypatch.setattr(office.corrections, "engines", engines)
    page = (await client.get(path.format(id=id))).text
    assert f'data-last-event="{before}"' in page
    assert await office.last_event() > before


# A document's page


async def test_the_first_row_of_a_large_table_is_row_one(client: httpx.AsyncClient) -> None:
    table = f"<table>{'<tr><td>x</td><td>y</td></tr>' * 400}</table>"
    id = (await upload(client, table, "a.txt"))["id"]
    address = f"/documents/{id}"
    assert (
        'name="row" inputmode="numeric" pattern="0*[1-9][0-9]{0,6}" size="5" value="1"'
        in (await client.get(address)).text
    )
    page = (await client.get(f"{address}?edit=1&row=1")).text
    assert ('name="cell-0-0"' in page, 'name="cell-1-0"' in page) == (True, False)
    saved = {"block": "1", "version": "0", "row": "1", "cell-0-0": "new", "cell-0-1": "y"}
    assert (await client.post(f"{address}/pages/1/text", data=saved)).status_code == 303
    stale = await client.post(f"{address}/pages/1/restore", data={"version": "0", "to": "0"})
    assert stale.status_code == 409
    assert 'id="refused"' in stale.text, "on the page, not a page of its own"
    page = (await client.post(f"{address}/pages/1/text", data=saved | {"cell-0-1": "z"})).text
    assert 'value="z"' in page, "what was typed is still there"
    assert 'name="cell-1-0"' not in page


# What cannot be done with all


async def test_what_cannot_be_done_with_some_is_told_by_their_names(
    client: httpx.AsyncClient, office: MemoryOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await several(client)
    page = (await client.post("/documents/bulk", data={"action": "retry", "id": [ids["a.txt"], ids["b.txt"]]})).text
    assert "letters/2026/b.txt" in page
    assert f">{ids['b.txt']}<" not in page

    async def gone(id: str, *, password: str | None = None) -> DocumentInfo:
        raise UsageError("The original is gone.", hint="Drop it again.")

    monkeypatch.setattr(office, "retry", gone)
    page = (await client.post("/failures/retry", data={"code": "damaged"})).text
    assert "The original is gone." in page, "pressed, and nothing happened, without a word"
    assert "c.txt" in page
    assert 'href="/failures">Back' in page


async def test_one_that_was_deleted_meanwhile_keeps_the_others_from_nothing(
    client: httpx.AsyncClient, office: MemoryOffice
) -> None:
    ids = await several(client)
    await office.remove(ids["a.txt"])
    both = {"action": "delete", "id": [ids["a.txt"], ids["c.txt"]]}
    page = (await client.post("/documents/bulk", data=both)).text
    assert "Delete this document for good?" in page
    assert "c.txt" in page
    gone = await client.post("/documents/bulk", data=both | {"id": ids["a.txt"]}, follow_redirects=False)
    assert (gone.status_code, gone.headers["location"]) == (303, "/documents")


async def test_times_say_whose_they_are(client: httpx.AsyncClient) -> None:
    """The machine has no time zone: what it shows is UTC, hours off from the clock on the wall."""
    row = await upload(client, "alpha", "a.txt")
    shown = f"{row['received'][:16].replace('T', ' ')} UTC"
    for path in ("/", "/documents"):
        assert shown in (await client.get(path)).text
