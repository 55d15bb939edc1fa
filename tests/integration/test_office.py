"""The whole service behind its page: real spool, ledger, parsers, reader and formats; the fake engine reads."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pymupdf
import pytest

from inkstick import desk
from inkstick.config import Settings
from inkstick.document import Task
from inkstick.engines.info import EngineInfo, engine_info
from inkstick.engines.openai import OpenAiEngine
from inkstick.engines.protocol import Request
from inkstick.errors import DiskFull, TooLarge, Unavailable, UsageError
from inkstick.office import Office
from inkstick.pages import pool
from inkstick.pages.process import Process
from inkstick.reading.reader import Engines
from inkstick.recent import Recent
from inkstick.store.claim import Outcome
from inkstick.store.disk import Disk
from inkstick.store.ledger import Ledger, Row
from inkstick.supervise.process import descendants
from inkstick.web.app import create_app
from inkstick.web.office_port import DocumentInfo
from inkstick.work import Content, identify_file
from support import numbered
from support.fake_engine import FakeEngine, Rule, text_for

ENDED = ("done", "partial", "failed")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", reserve_bytes=0, parsers=1, page_seconds=30)


@pytest.fixture
async def fake() -> AsyncIterator[FakeEngine]:
    async with FakeEngine(speed=20) as engine:
        yield engine


@asynccontextmanager
async def open_office(settings: Settings, fake: FakeEngine, disk: Disk | None = None) -> AsyncIterator[Office]:
    engine = OpenAiEngine(fake.url, in_flight=8)
    office = Office(settings, engines=Engines(engine), disk=disk)
    await office.start()
    try:
        yield office
    finally:
        await office.close()


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 50_000):
        yield data[start : start + 50_000]


async def upload(office: Office, name: str, data: bytes, **wishes: Any) -> DocumentInfo:
    return await office.accept_upload(name, chunks(data), wishes=wishes)


async def until(office: Office, id: str, good: Callable[[DocumentInfo], bool], seconds: float = 60) -> DocumentInfo:
    async with asyncio.timeout(seconds):
        while not good(info := await office.document(id)):
            await office.wait_event(after=await office.last_event(), timeout=0.2)
    return info


async def ended(office: Office, info: DocumentInfo) -> DocumentInfo:
    return await until(office, info.id, lambda now: now.state in ENDED)


def record(settings: Settings, info: DocumentInfo) -> Mapping[str, Any]:
    assert info.results is not None
    (path,) = (settings.folder.results / info.results).glob("*.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def page_numbers(settings: Settings, info: DocumentInfo) -> list[str]:
    """What the fake engine read on each page: the number in its heading."""
    return [page["blocks"][0]["text"] for page in record(settings, info)["pages"]]


async def test_an_uploaded_document_ends_with_all_formats_and_its_original_unchanged(
    settings: Settings, fake: FakeEngine
) -> None:
    data = numbered.pdf([1, 2, 3])
    async with open_office(settings, fake) as office:
        accepted = await upload(office, "report.pdf", data)
        assert accepted.state in ("queued", "reading")
        info = await ended(office, accepted)
        told = await office.events(after=0)
        checkpoints = settings.folder.state / "pages"
        async with asyncio.timeout(60):  # they are for the way only, and go after the end was told
            while list(checkpoints.glob("*/*")):
                await office.wait_event(after=await office.last_event(), timeout=0.1)
    assert (info.state, info.pages, info.pages_done, info.type) == ("done", 3, 3, "application/pdf")
    assert {event.kind for event in told} == {"document"}, "as docs/api.md says, and the office in memory does"
    assert {tuple(event.data) for event in told} == {("state", "pages", "pages_done", "code")}
    assert [event.data["state"] for event in told][:: len(told) - 1] == ["queued", "done"]
    assert page_numbers(settings, info) == ["Page 1", "Page 2", "Page 3"]
    folder = settings.folder.results / "report"
    assert {"report.md", "report.json", "report.txt", "report.pdf", "report.alto.xml"} <= {
        path.name for path in folder.iterdir()
    }
    assert (settings.folder.done / "report.pdf").read_bytes() == data
    with pymupdf.open(folder / "report.pdf") as pdf:
        assert "Paragraph 2 of page 3" in pdf[2].get_text()


async def test_each_step_of_a_document_is_told_as_the_manual_says(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        info = await upload(office, "book.pdf", numbered.pdf([1, 2]))
        await until(office, info.id, lambda now: now.state == "done")
        told = [event for event in await office.events(after=0) if event.document == info.id]
    assert {event.kind for event in told} == {"document"}
    assert all(set(event.data) == {"state", "pages", "pages_done", "code"} for event in told)
    assert [told[0].data["state"], told[-1].data["state"]] == ["queued", "done"]


async def test_the_same_bytes_twice_are_two_results_and_one_computation(settings: Settings, fake: FakeEngine) -> None:
    data = numbered.tiff([4, 5])
    async with open_office(settings, fake) as office:
        both = [await upload(office, name, data) for name in ("one.tif", "two.tif")]
        first, second = [await ended(office, info) for info in both]
        assert Counter(fake.seen.pages) == Counter([4, 5])
        third = await ended(office, await upload(office, "three.tif", data))
        assert Counter(fake.seen.pages) == Counter([4, 5]), "a finished document's pages are taken over"
        found = await office.search("Paragraph 1 of page 5")
    assert [info.state for info in (first, second, third)] == ["done"] * 3
    for info in (first, second, third):
        assert page_numbers(settings, info) == ["Page 4", "Page 5"]
    assert {hit.document for hit in found} == {first.id, second.id, third.id}


async def test_the_same_bytes_are_read_anew_where_somebody_has_changed_the_first_record(
    settings: Settings, fake: FakeEngine
) -> None:
    data = numbered.tiff([4, 5])
    async with open_office(settings, fake) as office:
        await ended(office, await upload(office, "one.tif", data))
        path = settings.folder.results / "one" / "one.json"
        whole = path.read_text(encoding="utf-8")
        lines = whole.splitlines(keepends=True)
        for name, changed in (
            ("saved again by an editor.tif", json.dumps(json.loads(whole), indent=2)),
            ("cut short.tif", "".join(lines[:-1])),
            ("torn.tif", whole[: len(whole) // 2]),
        ):
            path.write_text(changed, encoding="utf-8")
            info = await ended(office, await upload(office, name, data))
            assert (info.state, info.code) == ("done", None)
            assert page_numbers(settings, info) == ["Page 4", "Page 5"]
            await office.remove(info.id)


async def test_the_same_name_twice_never_overwrites(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        infos = [await ended(office, await upload(office, "scan.png", numbered.png(code))) for code in (6, 7)]
    assert [info.results for info in infos] == ["scan", "scan (2)"]
    assert [page_numbers(settings, info) for info in infos] == [["Page 6"], ["Page 7"]]
    assert (settings.folder.done / "scan (2).png").read_bytes() == numbered.png(7)


async def test_an_archive_is_one_document_with_a_folder_for_each_member(settings: Settings, fake: FakeEngine) -> None:
    data = numbered.zipped({"a/letter.pdf": numbered.pdf([8, 9]), "b.png": numbered.png(10), "notes.exe": b"MZ" * 999})
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, "box.zip", data))
        image, media_type = await office.page_image(info.id, 3, max_side=300)
    assert (info.state, info.pages, info.code) == ("partial", 3, "unsupported")
    assert page_numbers(settings, info) == ["Page 8", "Page 9", "Page 10"]
    parts = record(settings, info)["document"]["parts"]
    assert [(part["name"], part["first"], part["last"]) for part in parts[:2]] == [
        ("a/letter.pdf", 1, 2),
        ("b.png", 3, 3),
    ]
    assert parts[2]["error"]["code"] == "unsupported"
    assert len(list((settings.folder.results / "box").glob("*/*.pdf"))) == 2
    assert (settings.folder.done / "box.zip").read_bytes() == data
    assert media_type.startswith("image/")
    assert len(image) > 100


async def test_a_file_of_no_type_that_is_read_has_no_picture(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, "notes.xyz", b"\0\1\2" * 100))
        assert (info.state, info.code) == ("failed", "unsupported")
        with pytest.raises(UsageError) as told:
            await office.page_image(info.id, 1, max_side=300)
    assert told.value.code == "not_found"


async def test_a_page_that_a_document_does_not_have_is_not_found_and_its_file_not_damaged(
    settings: Settings, fake: FakeEngine
) -> None:
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, "one.png", numbered.png(7)))
        with pytest.raises(UsageError) as told:
            await office.page_image(info.id, 2, max_side=300)
    assert told.value.code == "not_found"


async def test_a_mail_is_read_with_its_attachments(settings: Settings, fake: FakeEngine) -> None:
    body = "The papers for the reading room are attached.\nThey were scanned on Monday.\n" * 3
    data = numbered.mail(body, {"scan.tif": numbered.tiff([11])})
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, "message.eml", data))
    text = (settings.folder.results / "message" / "message.txt").read_text(encoding="utf-8")
    assert info.state == "done"
    assert "papers for the reading room" in text
    assert "Paragraph 1 of page 11" in text
    assert fake.seen.pages == [11], "the mail's own text needs no engine"


async def test_a_document_at_fault_goes_to_failed_with_its_code(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, "broken.pdf", b"%PDF-1.7\n" + bytes(2000) + b"\n%%EOF\n"))
    assert (info.state, info.results) == ("failed", None)
    assert info.code in ("damaged", "empty")
    explained = json.loads((settings.folder.failed / "broken.pdf.error.json").read_text())
    assert explained["code"] == info.code
    assert explained["message"] and explained["hint"]
    assert (settings.folder.failed / "broken.pdf").stat().st_size > 2000


async def test_a_page_that_cannot_be_read_makes_the_document_partial_and_a_retry_mends_it(
    settings: Settings, fake: FakeEngine
) -> None:
    fake.rules = [Rule("garbage", at="before", pages=(13,))]
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, "three.tif", numbered.tiff([12, 13, 14])))
        pages = await office.pages(info.id)
        fake.rules = []
        retried = await ended(office, await office.retry(info.id))
    assert info.state == "partial"
    assert [page.state for page in pages] == ["read", "failed", "read"]
    assert retried.state == "done"
    assert page_numbers(settings, retried) == ["Page 12", "Page 13", "Page 14"]
    assert len(list(settings.folder.done.iterdir())) == 1


async def test_a_retry_of_half_a_file_reads_what_there_is_and_does_not_call_it_all(
    settings: Settings, fake: FakeEngine
) -> None:
    """Called done, its original would be deleted where the folder says so."""
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, "half.tif", numbered.half([1, 2, 3, 4])))
        retried = await ended(office, await office.retry(info.id))
    assert (info.state, info.code) == ("failed", "incomplete")
    assert (retried.state, retried.code) == ("partial", "incomplete")
    assert page_numbers(settings, retried) == ["Page 1", "Page 2"]
    assert (settings.folder.done / "half.tif").read_bytes() == numbered.half([1, 2, 3, 4])


async def test_half_a_file_in_an_archive_is_told_and_the_archive_is_not_called_all(
    settings: Settings, fake: FakeEngine
) -> None:
    data = numbered.zipped({"half.tif": numbered.half([1, 2, 3, 4]), "whole.png": numbered.png(5)})
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, "both.zip", data))
    assert (info.state, info.code) == ("partial", "incomplete")
    assert page_numbers(settings, info) == ["Page 1", "Page 2", "Page 5"]
    parts = record(settings, info)["document"]["parts"]
    assert [(part["name"], part.get("error", {}).get("code")) for part in parts] == [
        ("half.tif", "incomplete"),
        ("whole.png", None),
    ]
    text = (settings.folder.results / "both" / "both.md").read_text()
    assert "half.tif could not be read to its end" in text


async def test_a_retry_reads_the_pages_anew_when_none_could_be_read(settings: Settings, fake: FakeEngine) -> None:
    fake.rules = [Rule("garbage", at="before", pages=(13,))]
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, "one.png", numbered.png(13)))
        fake.rules = []
        retried = await ended(office, await office.retry(info.id))
    assert (info.state, info.code) == ("failed", "page_failed")
    assert retried.state == "done"
    assert page_numbers(settings, retried) == ["Page 13"]


async def test_a_retry_asked_for_the_moment_the_end_is_told_is_not_forgotten(
    settings: Settings, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    concluded = Ledger.concluded

    def slowly(ledger: Ledger, id: str, outcome: Outcome) -> None:
        concluded(ledger, id, outcome)
        time.sleep(0.5)  # the end is known, the desk has not put the document away yet

    monkeypatch.setattr(Ledger, "concluded", slowly)
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, "one.png", numbered.png(15)))
        retried = await ended(office, await office.retry(info.id))
    assert (info.state, retried.state, retried.attempts) == ("done", "done", info.attempts + 1)
    assert fake.seen.pages.count(15) == 2


async def test_the_desk_stops_even_when_it_is_woken_at_that_moment(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        task = next(task for task in office._tasks if task.get_name() == "desk")
        await asyncio.sleep(0.2)  # it waits now
        office._desk.wake()
        task.cancel()
        async with asyncio.timeout(60):
            await asyncio.gather(task, return_exceptions=True)


async def test_a_restart_goes_on_at_the_page_where_it_stopped(settings: Settings, fake: FakeEngine) -> None:
    data = numbered.tiff(range(20, 32))
    fake.rules = [Rule("hang", after=6)]
    async with open_office(settings, fake) as office:
        info = await upload(office, "long.tif", data)
        await until(office, info.id, lambda now: now.pages_done >= 6)
    before = (settings.folder.state / "pages").glob("*/*.json")
    assert len(list(before)) == 6
    fake.rules, read = [], len(fake.seen.pages)
    async with open_office(settings, fake) as office:
        info = await ended(office, await office.document(info.id))
    assert info.state == "done"
    assert page_numbers(settings, info) == [f"Page {code}" for code in range(20, 32)]
    assert len(fake.seen.pages) - read == 6, "what was read is not read again"


async def test_a_page_that_the_disk_gives_back_damaged_is_read_again_and_not_left_out(
    settings: Settings, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "BLOCKED_SECONDS", 0.2)
    fake.rules = [Rule("hang", after=4)]
    async with open_office(settings, fake) as office:
        info = await upload(office, "long.tif", numbered.tiff(range(20, 26)))
        await until(office, info.id, lambda now: now.pages_done >= 4)
    fake.rules = []
    next((settings.folder.state / "pages").glob("*/*.json")).write_bytes(b"\0" * 100)
    async with open_office(settings, fake) as office:
        info = await ended(office, await office.document(info.id))
    assert info.state == "done"
    assert page_numbers(settings, info) == [f"Page {code}" for code in range(20, 26)]


async def test_of_two_who_retry_a_document_at_once_one_does(settings: Settings, fake: FakeEngine) -> None:
    class Slow(Disk):
        def step(self, at: str) -> bool:
            if at == "reopen.intent":
                time.sleep(0.3)
            return super().step(at)

    async with open_office(settings, fake, Slow()) as office:
        bad = await ended(office, await upload(office, "bad.pdf", b"%PDF-1.4\n%%EOF\n"))
        answers = await asyncio.gather(office.retry(bad.id), office.retry(bad.id), return_exceptions=True)
        refused = [answer.code for answer in answers if isinstance(answer, UsageError)]
        bad = await ended(office, bad)
    assert refused == ["not_ready"]
    assert bad.attempts == 2


async def test_a_result_that_is_not_there_says_why(settings: Settings, fake: FakeEngine) -> None:
    """Nobody is to wait for what never comes."""

    async def why(id: str, format: str) -> tuple[int, str]:
        answer = await client.get(f"/api/v1/documents/{id}/results/{format}")
        return answer.status_code, answer.json()["message"]

    async with open_office(settings, fake) as office:
        transport = httpx.ASGITransport(create_app(office))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            good = await ended(office, await upload(office, "good.png", numbered.png(1), formats=["md"]))
            bad = await ended(office, await upload(office, "bad.pdf", b"%PDF-1.4\n%%EOF\n"))
            assert await why(good.id, "pdf") == (404, "The document was not written as pdf.")
            assert await why(good.id, "csv") == (404, "The document has no table.")
            assert await why(bad.id, "md") == (404, "The document could not be read: it has no results.")
            assert good.results is not None
            (settings.folder.results / good.results).rename(settings.data / "carried away")
            assert await why(good.id, "md") == (404, "The results are not in their place any more.")
            await fake._deafen()
            waits = await upload(office, "waits.png", numbered.png(2))
            assert await why(waits.id, "md") == (409, "The document has no results yet.")


async def test_a_start_removes_what_a_page_that_was_read_at_once_left_behind(
    settings: Settings, fake: FakeEngine
) -> None:
    """Nothing of it is to stay on the disk, also where the power fails while it is read."""
    left = settings.folder.state / "read-ab12cd34"
    (left / "parts").mkdir(parents=True)
    (left / "image").write_bytes(numbered.png(7))
    async with open_office(settings, fake):
        assert not left.exists()


async def test_a_disk_that_failed_to_save_accepts_nothing_and_says_so(settings: Settings, fake: FakeEngine) -> None:
    disk = Disk()
    async with open_office(settings, fake, disk) as office:
        assert (await office.health()).ready
        disk.suspect = "accept.sync_folder: Input/output error"
        with pytest.raises(Unavailable, match="failed to save"):
            await upload(office, "a.png", numbered.png(1))
        # (what was found out a moment ago is too old)
        office._probed = Recent(lambda: asyncio.to_thread(office._can_accept), time.monotonic)
        health = await office.health()
    assert (health.live, health.ready) == (True, False)
    assert "failed to save" in health.checks["storage"]


async def test_a_document_that_waits_for_room_is_hashed_once(
    settings: Settings, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "BLOCKED_SECONDS", 0.1)
    hashed, tries = list[Path](), list[str]()

    def counted(path: Path, most: int) -> Content:
        hashed.append(path)
        return identify_file(path, most)

    class Full(Disk):
        def step(self, at: str) -> bool:
            if at == "stage.make" and len(tries) < 4:
                tries.append(at)
                raise DiskFull
            return super().step(at)

    monkeypatch.setattr(desk, "identify_file", counted)
    async with open_office(settings, fake, Full()) as office:
        info = await ended(office, await upload(office, "a.png", numbered.png(1)))
        assert (info.state, len(tries), len(hashed)) == ("done", 4, 1)
        again = await ended(office, await office.retry(info.id))
        assert (again.state, len(hashed)) == ("done", 2)
        assert office._desk._contents == {}


async def test_a_document_that_waits_goes_on_though_the_ledger_could_not_be_asked_for_a_while(
    settings: Settings, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "BLOCKED_SECONDS", 0.2)
    trouble = ["disk"]

    class Full(Disk):
        def step(self, at: str) -> bool:
            if at == "stage.make" and trouble:
                raise DiskFull
            return super().step(at)

    class Shaky(Ledger):
        def get(self, identifier: str) -> Row | None:
            if "ledger" in trouble:
                raise Unavailable("The ledger cannot be read.")
            return super().get(identifier)

    monkeypatch.setattr("inkstick.office.Ledger", Shaky)
    async with open_office(settings, fake, Full()) as office:
        info = await upload(office, "a.png", numbered.png(1))
        await until(office, info.id, lambda now: now.state == "blocked")
        trouble.append("ledger")
        await asyncio.sleep(0.6)
        trouble.clear()
        info = await ended(office, info)
    assert info.state == "done"


async def test_a_lost_ledger_is_made_again_from_the_folders(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        ok = await ended(office, await upload(office, "ok.png", numbered.png(40)))
        bad = await ended(office, await upload(office, "bad.pdf", b"%PDF-1.4\n%%EOF\n"))
    for path in settings.folder.state.glob("ledger.sqlite*"):
        path.unlink()
    async with open_office(settings, fake) as office:
        assert await office.document(ok.id) == replace(ok, seq=(await office.document(ok.id)).seq)
        assert (await office.document(bad.id)).code == bad.code
        assert [hit.document for hit in await office.search("Paragraph 1 of page 40")] == [ok.id]


async def test_documents_wait_while_no_engine_is_there_and_are_read_when_it_is_back(
    settings: Settings, fake: FakeEngine
) -> None:
    await fake._deafen()
    async with open_office(settings, fake) as office:
        info = await upload(office, "patient.png", numbered.png(50))
        waiting = await until(office, info.id, lambda now: now.state == "blocked")
        blocked = (await office.stats()).blocked
        await fake._listen()
        info = await ended(office, info)
    assert waiting.code == "engine_down"
    assert blocked is not None and blocked[0] == "engine_down"
    assert info.state == "done"
    assert not list(settings.folder.failed.iterdir())


async def test_an_engine_is_told_to_be_ready_once_pages_are_let_in(fake: FakeEngine) -> None:
    engine = OpenAiEngine(fake.url)
    await engine.start()
    told = [await engine_info(engine, "primary", admits=admits) for admits in (False, True)]
    await engine.close()
    assert [(info.ready, info.state) for info in told] == [(False, "opening"), (True, "ready")]


async def test_what_does_not_fit_is_refused_before_its_body(settings: Settings, fake: FakeEngine) -> None:
    tight = replace(settings, reserve_bytes=1 << 60, max_bytes=1000)
    async with open_office(tight, fake) as office:
        with pytest.raises(TooLarge):
            await office.admit(2000)
        with pytest.raises(DiskFull):
            await office.admit(10)
        assert not (await office.health()).ready
        assert list(settings.folder.spool.iterdir()) == []


class FullDisk(Disk):
    """Full for every step whose name begins with `at`, until somebody makes room."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at, self.full, self.refused = at, True, 0

    def step(self, at: str) -> bool:
        if self.full and at.startswith(self.at):
            self.refused += 1
            raise DiskFull
        return super().step(at)


@pytest.mark.parametrize("at", ["checkpoint", "stage", "conclude.intent", "conclude.publish", "conclude.put_away"])
async def test_a_full_disk_holds_a_document_up_and_costs_it_nothing(
    settings: Settings, fake: FakeEngine, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "BLOCKED_SECONDS", 0.2)
    disk = FullDisk(at)
    async with open_office(settings, fake, disk) as office:
        info = await upload(office, "two.tif", numbered.tiff([80, 81]))
        waiting = await until(office, info.id, lambda now: now.state == "blocked")
        disk.full = False
        info = await ended(office, info)
    assert disk.refused > 0
    assert waiting.code == "disk_full"
    assert info.state == "done"
    assert page_numbers(settings, info) == ["Page 80", "Page 81"]
    assert [path.name for path in settings.folder.results.iterdir()] == ["two"]


@pytest.mark.parametrize("at", ["conclude.publish", "conclude.put_away", "conclude.results_parent"])
async def test_an_end_for_which_a_start_finds_no_room_waits_and_the_service_starts(
    settings: Settings, fake: FakeEngine, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "BLOCKED_SECONDS", 0.2)
    disk = FullDisk(at)
    async with open_office(settings, fake, disk) as office:
        other = await upload(office, "other.txt", b"not a document")
        info = await upload(office, "sub/two.tif", numbered.tiff([82, 83]))
        await until(office, info.id, lambda now: now.state == "blocked")
    async with open_office(settings, fake, disk) as office:
        waiting = await until(office, info.id, lambda now: now.state == "blocked")
        disk.full = False
        info = await ended(office, info)
        assert (await ended(office, other)).state == "failed"
    assert waiting.code == "disk_full"
    assert info.state == "done"
    assert page_numbers(settings, info) == ["Page 82", "Page 83"]


async def test_a_document_whose_folder_in_the_spool_is_gone_ends_and_can_be_deleted(
    settings: Settings, fake: FakeEngine
) -> None:
    fake.rules = [Rule("hang")]
    async with open_office(settings, fake) as office:
        gone, torn = [await upload(office, name, numbered.png(92)) for name in ("gone.png", "torn.png")]
        failed = await ended(office, await upload(office, "words.txt", b"no document"))
    shutil.rmtree(settings.folder.spool / gone.id)
    shutil.rmtree(settings.folder.spool / failed.id)
    (settings.folder.spool / torn.id / "claim.json").write_bytes(b"\0" * 50)
    async with open_office(settings, fake) as office:
        for info in (gone, torn):
            assert (await ended(office, info)).code == "internal"
        for info in (gone, torn, failed):
            with pytest.raises(UsageError):
                await office.retry(info.id)
        with pytest.raises(UsageError):
            await office.remove(torn.id)
        with pytest.raises(UsageError):
            await office.remove(failed.id)
        (settings.folder.failed / "words.txt").unlink()
        for info in (gone, failed):
            await office.remove(info.id)
        assert [info.id for info in await office.documents()] == [torn.id]
    assert (settings.folder.spool / torn.id / "original").exists()


async def test_an_upload_given_up_while_it_is_being_accepted_is_accepted(settings: Settings, fake: FakeEngine) -> None:
    class Slow(Disk):
        reached, go_on = threading.Event(), threading.Event()

        def step(self, at: str) -> bool:
            if at == "accept.sync_folder":
                self.reached.set()
                self.go_on.wait(60)
            return super().step(at)

    disk = Slow()
    async with open_office(settings, fake, disk) as office:
        sending = asyncio.create_task(upload(office, "slow.png", numbered.png(93)))
        await asyncio.to_thread(disk.reached.wait, 60)
        async with asyncio.timeout(60):
            while not (listed := await office.documents()):  # the desk has found it by itself
                await office.wait_event(after=await office.last_event(), timeout=0.1)
        sending.cancel()
        await asyncio.sleep(0.2)
        disk.go_on.set()
        await asyncio.gather(sending, return_exceptions=True)
        assert (await ended(office, listed[0])).state == "done"


async def test_a_profile_that_this_version_does_not_know_keeps_no_service_from_starting(
    settings: Settings, fake: FakeEngine
) -> None:
    fake.rules = [Rule("hang")]
    async with open_office(settings, fake) as office:
        info = await upload(office, "newer.png", numbered.png(94))
        await until(office, info.id, lambda now: now.sha256 is not None)
    path = settings.folder.spool / info.id / "claim.json"
    claim = json.loads(path.read_text())
    path.write_text(json.dumps({**claim, "profile": {**claim["profile"], "dialect": "of a newer version"}}))
    settings.folder.ledger.unlink()
    fake.rules = []
    async with open_office(settings, fake) as office:
        good = await ended(office, await upload(office, "good.png", numbered.png(95)))
        assert (await ended(office, info)).state == "failed"
        await office.remove(info.id)
    assert good.state == "done"


async def test_a_deletion_that_the_disk_cuts_off_is_gone_on_with(settings: Settings, fake: FakeEngine) -> None:
    disk = FullDisk("remove.original")
    async with open_office(settings, fake, disk) as office:
        info = await ended(office, await upload(office, "secret.png", numbered.png(96)))
        with pytest.raises(DiskFull):
            await office.remove(info.id)
        disk.full = False
        async with asyncio.timeout(60):
            while (settings.folder.spool / info.id).exists():
                await office.wait_event(after=await office.last_event(), timeout=0.1)
    assert not list(settings.folder.done.iterdir())
    assert not list(settings.folder.results.iterdir())


async def test_documents_that_are_held_up_leave_the_others_their_turn(
    settings: Settings, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "BLOCKED_SECONDS", 0.1)
    async with open_office(settings, fake) as office:
        places = max(8, 2 * office._reader.limit)
        for code in range(2 * places):  # of a folder that asks for an engine that this machine does not have
            held = await upload(office, f"{code}.png", numbered.png(code), engine="rapidocr", priority="watched")
        await until(office, held.id, lambda now: now.state == "blocked")
        info = await ended(office, await upload(office, "good.png", numbered.png(90), priority="watched"))
        held = await until(office, held.id, lambda now: now.state == "blocked")  # between two tries it is "reading"
        assert held.code == "engine_down"
    assert info.state == "done"


async def test_a_disk_that_is_full_for_a_writer_of_results_is_told_as_that_and_without_names(
    settings: Settings, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = {errno.ENOSPC: "disk_full", errno.EACCES: "unavailable"}
    for code, told in codes.items():

        async def refused(folder: Path, *_: object, number: int = code, **__: object) -> None:
            raise OSError(number, os.strerror(number), str(folder / "secret name"))

        monkeypatch.setattr(desk, "build", refused)
        async with open_office(settings, fake) as office:
            info = await upload(office, "secret name.png", numbered.png(91))
            waiting = await until(office, info.id, lambda now: now.state == "blocked")
        assert waiting.code == told
        assert "secret" not in (waiting.message or "")


async def test_bytes_that_are_not_those_announced_are_not_accepted(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        with pytest.raises(UsageError) as caught:
            await office.accept_upload("a.png", chunks(numbered.png(60)), sha256="0" * 64)
        assert caught.value.code == "checksum"
        assert await office.documents() == []
    assert list(settings.folder.spool.iterdir()) == []


async def test_one_image_is_read_at_once_and_leaves_nothing(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        page = await office.read_image(numbered.png(70), Request(task=Task.PARSE))
        assert await office.documents() == []
    assert page.text().startswith("Page 70")
    assert page.text().split("\n\n")[1] == text_for(70).split("\n\n")[1]
    assert not list(settings.folder.state.glob("read-*"))


class Waited(OpenAiEngine):
    """An engine that is not ready before somebody gives it up."""

    def __init__(self, fake: FakeEngine) -> None:
        super().__init__(fake.url)
        self.starts, self.closed = asyncio.Event(), False

    async def start(self) -> None:
        self.starts.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True
        await super().close()


async def test_a_start_that_is_given_up_leaves_the_folder_free_and_nothing_running(
    settings: Settings, fake: FakeEngine
) -> None:
    engine, before = Waited(fake), set(descendants(os.getpid()))
    starting = asyncio.create_task(Office(settings, engines=Engines(engine)).start())
    await asyncio.wait_for(engine.starts.wait(), 60)
    assert set(descendants(os.getpid())) > before  # the parsers
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert engine.closed
    assert set(descendants(os.getpid())) <= before
    async with open_office(settings, fake) as office:
        assert (await ended(office, await upload(office, "one.pdf", numbered.pdf([1])))).state == "done"


async def test_parsers_that_are_still_coming_when_a_start_is_given_up_are_ended(
    settings: Settings, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, coming, go_on = set(descendants(os.getpid())), threading.Event(), threading.Event()

    class Coming(Process):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            coming.set()
            go_on.wait(60)

    monkeypatch.setattr(pool, "Process", Coming)
    starting = asyncio.create_task(Office(settings, engines=Engines(OpenAiEngine(fake.url))).start())
    assert await asyncio.to_thread(coming.wait, 60)
    starting.cancel()
    asyncio.get_running_loop().call_later(0.2, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert set(descendants(os.getpid())) <= before


async def test_pages_that_are_opened_together_ask_a_hanging_engine_once(
    settings: Settings, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inkstick.office.ENGINES_SECONDS", 0.0)
    async with open_office(settings, fake) as office, asyncio.timeout(60):
        asked, answered = asyncio.Queue[None](), asyncio.Event()
        infos = (await engine_info(OpenAiEngine(fake.url), "primary"),)

        async def hangs() -> tuple[EngineInfo, ...]:
            asked.put_nowait(None)
            await answered.wait()
            return infos

        monkeypatch.setattr(office, "_engines_now", hangs)
        opened = [asyncio.create_task(office.stats()) for _ in range(20)]
        await asked.get()
        opened.pop().cancel()  # whoever goes away takes nobody's answer along
        await asyncio.sleep(0.2)
        answered.set()
        assert {(await each).engines for each in opened} == {infos}
        assert asked.empty()
        await asyncio.sleep(0.01)
        await office.stats()
        assert not asked.empty(), "it is asked again later"


async def test_a_crowd_that_asks_how_the_service_is_makes_one_probe_of_the_disk(
    settings: Settings, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody on the network may ask, and the watchdog's own question waits behind them."""
    async with open_office(settings, fake) as office, asyncio.timeout(60):
        probes, slow = list[int](), threading.Event()

        def probe() -> str:
            probes.append(1)
            slow.wait(60)
            return "ok"

        monkeypatch.setattr("inkstick.office.PROBE_SECONDS", -1.0)
        monkeypatch.setattr(office, "_can_accept", probe)
        crowd = [asyncio.create_task(office.health()) for _ in range(200)]
        await asyncio.sleep(0.2)
        slow.set()
        assert all([(await each).ready for each in crowd])
        assert len(probes) == 1
