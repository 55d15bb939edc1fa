"""An engine given by --engine-url: pages only after several at once got the same answers as one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from inkstick.config import load
from inkstick.doctor import Finding, Level, examine
from inkstick.engines.protocol import Health
from inkstick.engines.proved import ProvedEngine
from inkstick.engines.rapidocr import RapidOcrEngine
from inkstick.engines.registry import engines_for
from inkstick.engines.supervised import SupervisedEngine
from inkstick.errors import EngineDown, UsageError
from inkstick.supervise import statefile
from inkstick.supervise.statefile import EngineState, Stage
from support.fake_engine import FakeEngine, Rule, Timing

FAST = Timing(tokens=12)


async def until(engine: ProvedEngine, good: Callable[[Health], bool]) -> Health:
    end = time.monotonic() + 60
    while not good(health := await engine.health()):
        assert time.monotonic() < end, health
        await asyncio.sleep(0.05)
    return health


async def test_it_is_ready_when_the_answers_agree() -> None:
    async with FakeEngine(speed=20, timing=FAST) as fake:
        engine = ProvedEngine(fake.url, in_flight=8)
        with pytest.raises(EngineDown, match="being tested"):
            await engine.start()
        health = await until(engine, lambda health: health.ready)
        assert "equal the serial ones" in health.detail
        assert engine.limit == 8
        asked = fake.seen.requests
        assert (await engine.health()).ready
        assert fake.seen.requests == asked  # proved once, not at every look
        await fake.restart(0.2)
        await until(engine, lambda health: health.ready)
        await engine.close()


async def test_one_that_mixes_pages_up_gets_fewer_at_once() -> None:
    slow = Timing(tokens=40)  # so that all places are really taken at once
    async with FakeEngine(speed=4, timing=slow, rules=[Rule("mixed", crowd=3)]) as fake:
        engine = ProvedEngine(fake.url, in_flight=8)
        health = await until(engine, lambda health: health.ready)
        assert engine.limit == 2
        assert "no more than 2" in health.detail
        await engine.close()


async def test_one_that_cannot_be_told_apart_is_refused_for_good() -> None:
    async with FakeEngine(speed=20, timing=FAST, rules=[Rule("coordinates")]) as fake:
        engine = ProvedEngine(fake.url, in_flight=8)
        health = await until(engine, lambda health: health.state == "refused")
        assert "same answer" in health.detail
        asked = fake.seen.requests
        await asyncio.sleep(0.2)
        assert (await engine.health()).state == "refused"
        assert fake.seen.requests == asked
        await engine.close()


def test_the_registry_gives_a_proved_engine_for_an_address(tmp_path: Path) -> None:
    engines = engines_for(load({"data": tmp_path, "engine_url": "http://127.0.0.1:9", "model": "paddleocr-vl-1.6"}, {}))
    assert isinstance(engines.primary, ProvedEngine)
    assert engines.primary.spec.id == "paddleocr-vl-1.6"
    assert engines.fallback is not None


def test_reading_files_takes_vllm_only_where_it_runs(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages" / "vllm"
    packages.mkdir(parents=True)
    (packages / "__init__.py").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text('{"model_type": "hunyuan_vl"}')
    given = {"data": tmp_path / "data", "model": str(tmp_path / "tiny"), "engine_python": tmp_path / "bin" / "python"}
    auto, vllm = load(given, {}), load({**given, "engine": "vllm"}, {})
    auto.folder.create()
    assert isinstance(engines_for(auto).primary, SupervisedEngine)
    assert isinstance(engines_for(auto, beside=False).primary, RapidOcrEngine)
    with pytest.raises(UsageError, match="does not run"):
        engines_for(vllm, beside=False)
    state = EngineState(Stage.READY, now=statefile.uptime(), in_flight=4)
    statefile.write(auto.folder.engine / statefile.STATE, state)
    for settings in (auto, vllm):
        engines = engines_for(settings, beside=False)
        assert isinstance(engines.primary, SupervisedEngine)
        assert isinstance(engines.fallback, RapidOcrEngine)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("nope", "There is no model 'nope'"),
        ("hunyuanocr-1.0", "Fetch it: inkstick models fetch hunyuanocr-1.0"),
        ("/nowhere/weights", "config.json"),
        ("pp-ocrv6-small", None),
        (None, None),
    ],
)
def test_a_model_that_was_named_and_does_not_read_is_not_left_out_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str | None, says: str | None
) -> None:
    """A refusal says "Use a model that does: --model hunyuanocr-1.0"; who did so was told the same once more."""
    settings = load({"data": tmp_path / "data", "model": model, "engine_python": tmp_path / "none"}, {})
    settings.folder.create()
    assert isinstance(engines_for(settings, beside=False).primary, RapidOcrEngine)
    told = next(finding for finding in examine(settings) if finding.name == "engine")
    if says is None:
        assert (caplog.text, told.level) == ("", Level.OK)
    else:
        assert says in caplog.text and says in f"{told.text} {told.hint}"
        assert told.level is Level.WARN


def test_the_doctor_tells_how_the_engine_is(tmp_path: Path) -> None:
    missing = load({"data": tmp_path / "data", "engine": "vllm", "engine_python": tmp_path / "none"}, {})
    missing.folder.create()

    def engine() -> Finding:
        return next(finding for finding in examine(missing) if finding.name == "engine")

    assert engine().level is Level.BAD
    (tmp_path / "lib" / "python3.11" / "site-packages" / "vllm").mkdir(parents=True)
    (tmp_path / "lib" / "python3.11" / "site-packages" / "vllm" / "__init__.py").touch()
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "python").touch()
    (tmp_path / "config.json").write_text('{"model_type": "hunyuan_vl"}')
    missing = replace(missing, engine_python=tmp_path / "none" / "python", model=str(tmp_path))
    assert "does not run now" in engine().text
    path = missing.folder.engine / statefile.STATE
    statefile.write(path, EngineState(Stage.RESTARTING, "It hung.", now=statefile.uptime()))
    assert (engine().level, engine().text) == (Level.WARN, "Engine restarting: It hung.")
    statefile.write(path, EngineState(Stage.READY, "All is well.", now=statefile.uptime()))
    assert engine().level is Level.OK
