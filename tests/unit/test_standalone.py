"""`inkstick ocr` without the command line: one file's trouble is its own."""

from __future__ import annotations

from pathlib import Path

from inkstick.config import Settings
from inkstick.profile import Profile
from inkstick.standalone import read_files
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
