"""`inkstick ocr` without the command line: one file's trouble is its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from corpora import hostile
from inkstick import standalone
from inkstick.config import Settings
from inkstick.errors import Unsupported
from inkstick.profile import Profile
from inkstick.standalone import read_files
from inkstick.work import Content
from support import numbered
from support.fake_engine import FakeEngine


async def test_a_file_that_the_disk_does_not_give_stops_no_other(tmp_path: Path) -> None:
    """It was there when the command line was checked."""
    (tmp_path / "good.png").write_bytes(numbered.png(7))
    async with FakeEngine(speed=20) as fake:
        settings = Settings(data=tmp_path / "data", parsers=1, engine_url=fake.url)
        files = [tmp_path / "gone.png", tmp_path / "good.png"]
        gone, good = await read_files(settings, Profile(), files, tmp_path / "out", lambda *_: None)
    assert (gone.state, gone.error and gone.error["code"]) == ("failed", "unavailable")
    assert good.state == "done"


async def test_a_document_with_more_pages_than_the_setting_allows_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "long.tif").write_bytes(hostile.tiff(4, width=16, length=16))
    async with FakeEngine(speed=20) as fake:
        settings = Settings(data=tmp_path / "data", parsers=1, engine_url=fake.url, max_pages=3)
        (long,) = await read_files(settings, Profile(), [tmp_path / "long.tif"], tmp_path / "out", lambda *_: None)
    assert (long.state, long.error and long.error["code"]) == ("failed", "too_large")


async def test_a_fault_of_our_own_on_one_file_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbles(path: Path, most: int) -> Content:
        if path.name == "bad.png":
            raise KeyError("a bug")
        raise Unsupported

    @asynccontextmanager
    async def nothing(settings: Settings) -> AsyncIterator[tuple[None, None]]:
        yield None, None

    monkeypatch.setattr(standalone, "identify_file", stumbles)
    monkeypatch.setattr(standalone, "reading", nothing)
    files = [tmp_path / "bad.png", tmp_path / "other.png"]
    bad, other = await read_files(Settings(data=tmp_path), Profile(), files, tmp_path / "out", lambda *_: None)
    assert (bad.error and bad.error["code"], other.error and other.error["code"]) == ("internal", "unsupported")
