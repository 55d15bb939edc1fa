"""The transformers engine with the tiny checkpoint: the real process in the engine's own environment."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image

from engine import pages, setup
from inkstick.config import Settings
from inkstick.document import Task
from inkstick.engines import registry
from inkstick.engines.protocol import Engine, Request
from inkstick.pages.view import Pixels
from inkstick.profile import EngineChoice

pytestmark = pytest.mark.timeout(1500)
TEXTS = {sample.name: sample.text for sample in pages.SAMPLES}


@asynccontextmanager
async def reading(engine: setup.Engine, data: Path) -> AsyncIterator[Engine]:
    settings = Settings(
        data=data, engine=EngineChoice.TRANSFORMERS, model=str(engine.model), engine_python=engine.python,
        engine_seconds=600.0,
    )  # fmt: skip
    primary = registry.engines_for(settings).primary
    assert primary is not None
    await primary.start()
    try:
        yield primary
    finally:
        await primary.close()


def pixels(path: Path) -> Pixels:
    with Image.open(path) as page:
        return Pixels(page.width, page.height, page.convert("RGB").tobytes())


async def test_every_page_is_read_one_after_the_other_and_all_at_once(
    engine: setup.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    async with reading(engine, tmp_path) as primary:
        assert (primary.name, primary.model) == ("transformers", engine.model.name)
        for task in (Task.TEXT, Task.PARSE):
            asked = [primary.read(pixels(engine.pages / name), Request(task)) for name in TEXTS]
            answers = await asyncio.gather(*asked)
            assert {name: answer.raw for name, answer in zip(TEXTS, answers, strict=True)} == TEXTS


def test_the_command_line_reads_with_it_and_leaves_nothing_behind(engine: setup.Engine, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "inkstick.cli", "ocr", "--engine", "transformers", "--model", str(engine.model)]
    files = [str(engine.pages / name) for name in ("invoice.png", "passport.png")]
    environment = {**os.environ, "INKSTICK_ENGINE_PYTHON": str(engine.python), "OMP_NUM_THREADS": "1"}
    environment["HOME"] = str(tmp_path / "home")
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "out"), *files], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for stem in ("invoice", "passport"):
        (page,) = json.loads((tmp_path / "out" / stem / f"{stem}.json").read_text(encoding="utf-8"))["pages"]
        assert page["engine"] == "transformers"
        assert (tmp_path / "out" / stem / f"{stem}.txt").read_text(encoding="utf-8").strip() == TEXTS[f"{stem}.png"]
    commands = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if os.access(p, os.R_OK)]
    assert not [c for c in commands if b"transformers_worker.py" in c and str(engine.model).encode() in c]
