"""The transformers engine, against a stand-in process that speaks like the real one (tests/engine has that)."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inkstick.config import Settings
from inkstick.document import Flag, Task
from inkstick.engines.protocol import Request
from inkstick.engines.regions import RegionEngine
from inkstick.engines.registry import engines_for
from inkstick.engines.spec import default_spec
from inkstick.engines.transformers import WORKER, Start, TransformersEngine
from inkstick.errors import EngineDown, PageFailed, Timeout, UsageError
from inkstick.pages.view import Pixels
from inkstick.profile import EngineChoice
from inkstick.supervise.python import NEWER, require_transformers

STAND_IN = r"""
import json, os, sys
say = lambda **message: print(json.dumps(message), flush=True)
say(ready={"device": "cpu"})
loop = None
for line in sys.stdin:
    asked = json.loads(line)
    if "cancel" in asked:
        if loop == asked["cancel"]:
            say(id=loop, text="ha" * 400, finish="cancelled", tokens=800)
        continue
    number, size = asked["id"], asked["width"] * asked["height"] * 3
    first = os.pread(int(sys.argv[1]), size, 0)[0]
    if first == 1:
        say(id=number, error="ValueError: no")
    elif first == 2:
        os._exit(9)
    elif first == 6:
        told = ["7", {"piece": 5}, {"text": None, "finish": "stop"}][asked["width"] - 1]
        say(id=number, **told) if isinstance(told, dict) else print(told, flush=True)
    elif first == 3:
        say(id=number, piece="slow")
    elif first == 4:
        loop = number
        say(id=number, piece="ha" * 400)
    else:
        text = f"{asked['prompt'][:2]} {first} {asked['sampling']['max_tokens']}"
        say(id=number - 1, text="another page's", finish="stop", tokens=1)
        say(id=number, piece=text[:3])
        say(id=number, text=text, finish="length" if first == 5 else "stop", tokens=3)
"""


def page(first: int) -> Pixels:
    return Pixels(2, 1, bytes([first, 0, 0, 0, 0, 0]))


@asynccontextmanager
async def engine(folder: Path, *, deadline_seconds: float = 60.0) -> AsyncIterator[TransformersEngine]:
    script = folder / "stand_in.py"
    script.write_text(STAND_IN)
    start = Start(lambda pixels: [sys.executable, str(script), str(pixels)], dict(os.environ))
    made = TransformersEngine(start, default_spec(), deadline_seconds=deadline_seconds)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def test_a_page_is_read_and_the_late_words_of_another_are_dropped(tmp_path: Path) -> None:
    async with engine(tmp_path) as made:
        reading = await made.read(page(7), Request(Task.TEXT))
        prompt = default_spec().prompts[Task.TEXT]
        assert reading.raw == f"{prompt[:2]} 7 {default_spec().sampling.max_tokens}"
        assert (reading.prompt, reading.model, reading.flags) == (prompt, "hunyuanocr-1.5", frozenset())
        assert (await made.health()).ready


async def test_an_answer_that_was_cut_off_is_flagged(tmp_path: Path) -> None:
    async with engine(tmp_path) as made:
        assert (await made.read(page(5), Request(Task.TEXT))).flags == {Flag.TRUNCATED}


async def test_a_loop_is_stopped_and_cut(tmp_path: Path) -> None:
    async with engine(tmp_path) as made:
        reading = await made.read(page(4), Request(Task.TEXT))
        assert reading.flags == {Flag.REPETITION}
        assert reading.raw == "ha"
        assert (await made.read(page(7), Request(Task.TEXT))).flags == frozenset()


async def test_a_fault_in_reading_is_the_pages_own(tmp_path: Path) -> None:
    async with engine(tmp_path) as made:
        with pytest.raises(PageFailed, match="ValueError: no"):
            await made.read(page(1), Request(Task.TEXT))
        assert (await made.health()).ready


@pytest.mark.parametrize("width", [1, 2, 3])
async def test_a_process_that_does_not_speak_its_language_is_replaced(width: int, tmp_path: Path) -> None:
    async with engine(tmp_path) as made:
        with pytest.raises(EngineDown):
            await made.read(Pixels(width, 1, bytes([6]) * width * 3), Request(Task.TEXT))
        assert not (await made.health()).ready
        assert "7" in str((await made.read(page(7), Request(Task.TEXT))).raw)


async def test_a_process_that_begins_in_another_language_does_not_start(tmp_path: Path) -> None:
    for said in ("7", "{}", '{"ready": 5}'):
        start = Start(lambda _, said=said: [sys.executable, "-c", f"print({said!r}, flush=True)"], dict(os.environ))  # type: ignore[misc]
        made = TransformersEngine(start, default_spec())
        with pytest.raises(EngineDown):
            await made.start()
        await made.close()


async def test_a_process_that_dies_is_nobodys_attempt_and_is_started_again(tmp_path: Path) -> None:
    async with engine(tmp_path) as made:
        with pytest.raises(EngineDown):
            await made.read(page(2), Request(Task.TEXT))
        assert not (await made.health()).ready
        assert "7" in str((await made.read(page(7), Request(Task.TEXT))).raw)


async def test_silence_past_the_deadline_costs_the_process(tmp_path: Path) -> None:
    async with engine(tmp_path, deadline_seconds=0.5) as made:
        with pytest.raises(Timeout):
            await made.read(page(3), Request(Task.TEXT))
        assert not (await made.health()).ready


async def test_a_cancelled_page_leaves_the_weights_loaded(tmp_path: Path) -> None:
    async with engine(tmp_path) as made:
        pid = made._worker._process.pid if made._worker._process else None
        task = asyncio.create_task(made.read(page(3), Request(Task.TEXT)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "7" in str((await made.read(page(7), Request(Task.TEXT))).raw)
        assert made._worker._process is not None
        assert made._worker._process.pid == pid


async def test_an_engine_that_does_not_start_says_so(tmp_path: Path) -> None:
    start = Start(lambda pixels: [sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ))
    made = TransformersEngine(start, default_spec())
    with pytest.raises(EngineDown, match="status 3"):
        await made.start()
    await made.close()


def settings(folder: Path, family: str, *, installed: bool) -> Settings:
    """With a checkpoint folder of a family, and perhaps an engine's environment."""
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps({"model_type": family}))
    python = folder / "engine" / "bin" / "python"
    if installed:
        python.parent.mkdir(parents=True)
        python.touch()
        (folder / "engine" / NEWER / "transformers").mkdir(parents=True)
        (folder / "engine" / NEWER / "transformers" / "__init__.py").touch()
    return Settings(
        data=folder / "data",
        engine=EngineChoice.TRANSFORMERS,
        model=str(folder / "model"),
        engine_python=python,
    )


def test_it_is_refused_where_it_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not installed here") as refused:
        engines_for(settings(tmp_path, "hunyuan_vl", installed=False))
    assert str(tmp_path) in refused.value.message


@pytest.mark.parametrize(
    ("own", "beside", "found"),
    [
        ("hunyuan_v1_dense", True, True),  # vLLM 0.19.1's own is too old
        ("hunyuan_v1_dense", False, None),
        ("hunyuan_vl", False, False),  # vLLM 0.27.1's own
        ("hunyuan_vl", True, True),
    ],
)
def test_a_transformers_that_knows_the_model_is_found_in_the_environment_or_beside_it(
    tmp_path: Path, own: str, beside: bool, found: bool | None
) -> None:
    """`found`: whether that beside it is taken; None: refused."""
    wanted = settings(tmp_path, "hunyuan_vl", installed=True)
    environment = tmp_path / "engine"
    if not beside:
        shutil.rmtree(environment / NEWER)
    models = environment / "lib/python3.13/site-packages/transformers/models"
    (models / own).mkdir(parents=True)
    (models / own / "__init__.py").touch()
    if found is None:
        with pytest.raises(UsageError, match="not installed here"):
            require_transformers(wanted)
        return
    python, newer = require_transformers(wanted)
    assert python == environment / "bin/python"
    assert newer == (environment / NEWER if found else None)


def test_the_cpu_engine_carries_on_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    engines = engines_for(settings(tmp_path, "hunyuan_vl", installed=True))
    assert engines.primary is not None
    assert engines.fallback is not None
    assert (engines.primary.name, engines.primary.limit, engines.fallback.name) == ("transformers", 1, "rapidocr")


@pytest.mark.parametrize("cut", [True, False])
def test_a_model_of_regions_gets_its_layout_stage_where_the_layout_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cut: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    chosen = settings(tmp_path, "paddleocr_vl", installed=True)
    if cut:
        (tmp_path / "model" / "layout").mkdir()
        (tmp_path / "model" / "layout" / "inference.onnx").touch()
    assert isinstance(engines_for(chosen).primary, RegionEngine) is cut


# -- the process itself, with stand-ins for the libraries of the engine's own environment


class Chosen:
    """Of transformers: takes what it is asked for, and remembers with which configuration the weights were loaded."""

    def __init__(self) -> None:
        self.configured: object = None

    def from_pretrained(self, folder: Path, *, config: object = None, **_: object) -> Any:
        self.configured = config
        return folder if config is None else self

    def to(self, _: str) -> Chosen:
        return self

    def eval(self) -> Chosen:
        return self


@pytest.mark.parametrize("newer", [True, False])
def test_the_configuration_for_transformers_5_is_taken_where_the_model_brings_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newer: bool
) -> None:
    """HunyuanOCR 1.5 brings two: the manifest stores Tencent's corrected one in a folder beside the one for vLLM."""
    (tmp_path / "config.json").write_text('{"model_type": "another", "max_position_embeddings": 8}')
    if newer:
        (tmp_path / "transformers").mkdir()
        native = '{"model_type": "another", "text_config": {"max_position_embeddings": 64}}'
        (tmp_path / "transformers/config.json").write_text(native)
    chosen = Chosen()
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False), float32="float32", bfloat16="bfloat16")
    names = ("AutoConfig", "AutoImageProcessor", "AutoModelForImageTextToText", "AutoProcessor", "AutoTokenizer")
    library = SimpleNamespace(StoppingCriteria=object, **dict.fromkeys(names, chosen))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "transformers", library)
    spec = importlib.util.spec_from_file_location("worker_of_its_own", WORKER)
    assert spec and spec.loader
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    model = worker.Model(tmp_path)
    assert chosen.configured == (tmp_path / "transformers" if newer else tmp_path)
    assert model.most_tokens == (32 if newer else 4)
