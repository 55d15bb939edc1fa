"""Why there is a canary: a newer vLLM gives pages the text of other pages, with status 200.

vLLM 0.32.0 serves HunYuanVL through its Transformers backend, which splits the vision tower's output in the wrong
places as soon as several images are in one batch. Nothing in its answers says so. Run only on request (--newer).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import setup
from engine.environment import NEWEST, Missing, python_of
from engine.running import inkstick
from engine.test_real_transformers import TEXTS, pixels
from inkstick.document import Task
from inkstick.engines.openai import OpenAiEngine
from inkstick.engines.protocol import Request
from inkstick.supervise import statefile
from inkstick.supervise.statefile import EngineState, Stage

pytestmark = pytest.mark.timeout(3000)
START_SECONDS = 1800.0


@pytest.fixture(scope="module")
def newer(request: pytest.FixtureRequest) -> Path:
    """Its Python, installed now where it is not there."""
    if not request.config.getoption("--newer"):
        pytest.skip("the newer vLLM is run only on request: ./build.sh test --engine --newer (8 GB)")
    try:
        return python_of(NEWEST)
    except Missing as missing:
        pytest.skip(f"no newer vLLM here: {missing}")


@pytest.fixture
def supervised(newer: Path, engine: setup.Engine, tmp_path: Path) -> Iterator[Path]:
    """The data folder of `inkstick engine` with that vLLM, from its start on."""
    data, model = tmp_path / "data", str(setup.native(engine.python, newer))
    with inkstick("engine", "--data", str(data), "--model", model, python=newer, log=tmp_path / "engine.log"):
        yield data


def settled(data: Path) -> EngineState:
    """The state in which it stays: ready, or refused."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        state = statefile.read(data / "state/engine" / statefile.STATE)
        if state is not None and state.state in (Stage.READY, Stage.REFUSED):
            return state
        if state is not None and state.state is Stage.GIVEN_UP:
            break
        time.sleep(0.5)
    raise AssertionError((data / "state/engine" / statefile.LOG).read_text()[-4000:])


def test_the_canary_lets_no_page_get_anothers_text(engine: setup.Engine, supervised: Path) -> None:
    state = settled(supervised)
    print(f"{state.state}, {state.in_flight} in flight: {state.detail}")
    assert "mixed pages up" in state.detail or state.state is Stage.REFUSED
    if state.state is Stage.REFUSED:
        return
    assert state.in_flight < 4

    async def read() -> list[str | None]:
        client = OpenAiEngine(f"unix://{supervised / 'state/engine' / statefile.SOCKET}", in_flight=state.in_flight)
        await client.start()
        try:
            pages = [pixels(engine.pages / name) for name in TEXTS]
            return [(await client.read(page, Request(Task.TEXT))).raw for page in pages]
        finally:
            await client.close()

    assert asyncio.run(read()) == list(TEXTS.values())
