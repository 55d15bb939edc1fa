"""`inkstick ocr` without the command line: one file's trouble is its own."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from corpora import hostile
from inkstick import standalone
from inkstick.config import Settings
from inkstick.engines.registry import engines_for
from inkstick.errors import Encrypted, Incomplete, Unsupported
from inkstick.profile import Profile
from inkstick.reading.reader import Engines
from inkstick.standalone import read_files
from inkstick.work import Content, identify_file
from support import numbered
from support.fake_engine import FakeEngine, Timing


@pytest.fixture
async def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Settings]:
    """Of a machine whose one reader is a server; to start the CPU engine beside it would take most of the time."""

    def served(settings: Settings, *, beside: bool) -> Engines:
        return replace(engines_for(settings, beside=beside), fallback=None)

    monkeypatch.setattr(standalone, "engines_for", served)
    async with FakeEngine(speed=20, timing=Timing(tokens=20)) as fake:
        yield Settings(data=tmp_path / "data", parsers=1, engine_url=fake.url)


async def test_a_file_that_the_disk_does_not_give_stops_no_other(tmp_path: Path, settings: Settings) -> None:
    """It was there when the command line was checked."""
    (tmp_path / "good.png").write_bytes(numbered.png(7))
    files = [tmp_path / "gone.png", tmp_path / "good.png"]
    gone, good = await read_files(settings, Profile(), files, tmp_path / "out", lambda *_: None)
    assert (gone.state, gone.error and gone.error["code"]) == ("failed", "unavailable")
    assert good.state == "done"


async def test_half_a_file_is_read_but_never_called_whole(tmp_path: Path, settings: Settings) -> None:
    """A TIFF keeps each page behind the one before: what a broken copy lacks is not missed when it is opened."""
    (tmp_path / "half.tif").write_bytes(numbered.half([1, 2, 3, 4]))
    (half,) = await read_files(settings, Profile(), [tmp_path / "half.tif"], tmp_path / "out", lambda *_: None)
    assert (half.state, half.error and half.error["code"]) == ("partial", "incomplete")
    assert half.results is not None and (half.results / "half.md").is_file()


async def test_an_empty_file_is_incomplete_and_of_no_kind(tmp_path: Path) -> None:
    (tmp_path / "empty.pdf").touch()
    with pytest.raises(Incomplete):
        identify_file(tmp_path / "empty.pdf", 1000)


async def test_a_folder_that_another_run_took_meanwhile_costs_no_results(tmp_path: Path, settings: Settings) -> None:
    """As does a disk that does not tell Scan from scan."""
    (tmp_path / "scan.png").write_bytes(numbered.png(7))
    taken = tmp_path / "out" / "scan"

    def steps(path: Path, done: int, total: int | None) -> None:
        taken.mkdir(exist_ok=True)
        (taken / "scan.md").write_text("somebody else's")

    (scan,) = await read_files(settings, Profile(), [tmp_path / "scan.png"], tmp_path / "out", steps)
    assert (scan.state, scan.results) == ("done", tmp_path / "out" / "scan (2)")
    assert (taken / "scan.md").read_text() == "somebody else's"
    assert (tmp_path / "out" / "scan (2)" / "scan.md").is_file()


async def test_a_full_disk_is_called_so_and_nothing_is_said_to_go_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @asynccontextmanager
    async def nothing(settings: Settings) -> AsyncIterator[tuple[None, None]]:
        yield None, None

    monkeypatch.setattr(standalone, "reading", nothing)
    monkeypatch.setattr(tempfile, "mkdtemp", no_room)
    files = [tmp_path / "one.png"]
    (one,) = await read_files(Settings(data=tmp_path), Profile(), files, tmp_path / "out", lambda *_: None)
    assert one.error is not None and one.error["code"] == "disk_full"
    assert "by itself" not in one.error["hint"]


def test_ten_thousand_files_of_one_name_have_their_folders_at_once(tmp_path: Path) -> None:
    looked = 0

    class Counting(type(tmp_path)):  # type: ignore[misc]
        def exists(self) -> bool:
            nonlocal looked
            looked += 1
            return False

    names = standalone.folder_names(Counting(tmp_path), [Path(f"{n}/page.tif") for n in range(10_000)])
    assert len(set(names)) == 10_000
    assert looked == 10_000


async def test_a_document_with_more_pages_than_the_setting_allows_is_too_large(
    tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "long.tif").write_bytes(hostile.tiff(4, width=16, length=16))
    settings = replace(settings, max_pages=3)
    (long,) = await read_files(settings, Profile(), [tmp_path / "long.tif"], tmp_path / "out", lambda *_: None)
    assert (long.state, long.error and long.error["code"]) == ("failed", "too_large")


async def test_a_locked_document_is_opened_by_its_password(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "locked.pdf").write_bytes(hostile.encrypted())
    profile = Profile(passwords=("wrong", "secret"))
    (locked,) = await read_files(settings, profile, [tmp_path / "locked.pdf"], tmp_path / "out", lambda *_: None)
    assert locked.state == "done" and locked.results is not None
    assert b'"secret"' not in b"".join(path.read_bytes() for path in locked.results.iterdir())


async def test_a_fault_of_our_own_on_one_file_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbles(path: Path, most: int) -> Content:
        if path.name == "bad.png":
            raise KeyError("a bug")
        if path.name == "locked.png":
            raise Encrypted.despite(["wrong"])
        raise Unsupported

    @asynccontextmanager
    async def nothing(settings: Settings) -> AsyncIterator[tuple[None, None]]:
        yield None, None

    monkeypatch.setattr(standalone, "identify_file", stumbles)
    monkeypatch.setattr(standalone, "reading", nothing)
    files = [tmp_path / "bad.png", tmp_path / "other.png", tmp_path / "locked.png"]
    bad, other, locked = await read_files(Settings(data=tmp_path), Profile(), files, tmp_path / "out", lambda *_: None)
    assert (bad.error and bad.error["code"], other.error and other.error["code"]) == ("internal", "unsupported")
    assert locked.error and "--passwords" in locked.error["hint"], "no folder has settings here"
    assert "none of those that were tried" in locked.error["message"]
