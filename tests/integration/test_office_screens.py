"""What the screens ask of the real office: deletion, passwords, self-test, diagnostics; the fake engine reads."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pymupdf
import pytest

from inkstick.config import Settings
from inkstick.errors import UsageError
from inkstick.store.listing import Filter
from integration.test_office import ended, open_office, upload
from support import numbered
from support.fake_engine import FakeEngine

SECRET = "Zanzibar"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", reserve_bytes=0, parsers=1, page_seconds=30)


@pytest.fixture
async def fake() -> AsyncIterator[FakeEngine]:
    async with FakeEngine(speed=20) as engine:
        yield engine


def locked_pdf(password: str) -> bytes:
    with pymupdf.open(stream=numbered.pdf([7])) as document:
        return bytes(document.tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw=password, owner_pw="owner"))


def traces(data: Path, *words: str) -> list[str]:
    """Files below the data folder (the ledger's log aside) whose name or bytes hold one of the words."""
    return [
        str(path.relative_to(data))
        for path in data.rglob("*")
        if path.is_file() and any(word in path.name or word.encode() in path.read_bytes() for word in words)
    ]


async def test_a_deleted_document_leaves_no_file_no_row_and_no_text(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        goes = await ended(office, await upload(office, f"{SECRET}.pdf", numbered.pdf([1, 2])))
        stays = await ended(office, await upload(office, "stays.pdf", numbered.pdf([3])))
        results = settings.folder.results / str(goes.results)
        assert results.is_dir()
        before = await office.last_event()
        await office.remove(goes.id)
        assert [row.id for row in await office.listed(Filter())] == [stays.id]
        assert await office.search(SECRET) == []
        assert [(event.document, event.data["state"]) for event in await office.events(after=before)] == [
            (goes.id, "removed")
        ]
        assert not results.exists()
        assert list(settings.folder.spool.iterdir()) == [settings.folder.spool / stays.id]
        assert [path.name for path in settings.folder.done.rglob("*.pdf")] == ["stays.pdf"]
        with pytest.raises(UsageError, match="no such document"):
            await office.remove(goes.id)
    async with open_office(settings, fake) as office:  # and it does not come back
        assert [row.id for row in await office.listed(Filter())] == [stays.id]


async def test_a_document_at_work_is_not_deleted(settings: Settings, fake: FakeEngine) -> None:
    fake.speed = 0.05
    async with open_office(settings, fake) as office:
        info = await upload(office, "a.pdf", numbered.pdf([1]))
        with pytest.raises(UsageError) as refusal:
            await office.remove(info.id)
        assert refusal.value.code == "not_ready"


async def test_a_locked_document_is_read_with_the_password_of_a_retry(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, "locked.pdf", locked_pdf("sesame")))
        assert (info.state, info.code) == ("failed", "encrypted")
        assert await office.failures() == {"encrypted": 1}
        assert (await office.original_file(info.id)).read_bytes() == locked_pdf_of(settings, "locked.pdf")
        await office.retry(info.id, password="wrong")
        assert (await ended(office, await office.document(info.id))).code == "encrypted"
        await office.retry(info.id, password="sesame")
        assert (await ended(office, await office.document(info.id))).state == "done"
        assert await office.failures() == {}
        assert traces(settings.folder.results, "sesame") == []


def locked_pdf_of(settings: Settings, name: str) -> bytes:
    return (settings.folder.failed / name).read_bytes()


async def test_a_folder_of_an_upload_is_kept_below_results_and_done(settings: Settings, fake: FakeEngine) -> None:
    async def bytes_of() -> AsyncIterator[bytes]:
        yield numbered.pdf([1])

    async with open_office(settings, fake) as office:
        info = await office.accept_upload("a.pdf", bytes_of(), relpath="letters/2026/a.pdf")
        info = await ended(office, info)
        assert (info.relpath, info.results) == ("letters/2026/a.pdf", "letters/2026/a")
        assert (settings.folder.done / "letters/2026/a.pdf").is_file()
        assert await office.folders() == ["letters/2026"]
        assert (await office.strips([info.id]))[info.id].pages == 1
        assert (await office.remaining()).pages == 0


async def test_the_diagnostics_hold_no_name_and_no_text_of_a_document(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        info = await ended(office, await upload(office, f"{SECRET}.pdf", numbered.pdf([1, 2])))
        text = await office.page_text(info.id, 1)
        assert text
        logging.getLogger("inkstick.desk").warning("new documents wait: %s", f"/data/{SECRET}.pdf")
        archive = zipfile.ZipFile(io.BytesIO(await office.diagnostics()))
        everything = "\n".join(archive.read(name).decode() for name in archive.namelist())
        assert info.id in everything
        assert "new documents wait: …" in everything
        for word in (SECRET, text.strip().splitlines()[0], str(settings.data)):
            assert word not in everything


async def test_the_self_test_fails_on_an_engine_that_reads_wrong(settings: Settings, fake: FakeEngine) -> None:
    async with open_office(settings, fake) as office:
        test = await office.self_test()
        assert not test.good, "the fake engine does not look at the picture"
        assert len(test.tried) == 3
        series = (await office.system()).series
        assert sum(series.pages) == 3
        assert await office.listed(Filter()) == [], "nothing is stored"
