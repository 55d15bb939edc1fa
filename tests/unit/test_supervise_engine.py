"""The engine's supervisor with a stand-in for vLLM as its real child: the ways to fail, and the way back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from inkstick.config import DataFolder
from inkstick.engines.protocol import Request
from inkstick.engines.spec import default_spec
from inkstick.engines.supervised import SupervisedEngine
from inkstick.errors import EngineDown
from inkstick.plain import NO_TLS
from inkstick.supervise import statefile
from inkstick.supervise.engine import Launch, Patience, Supervisor
from inkstick.supervise.ladder import Rung
from inkstick.supervise.process import EngineProcess, Log
from inkstick.supervise.statefile import EngineState, Stage
from support import page_code

QUICK = Patience(start=15, quiet=15, prove=15, idle=0.4, canary=1.0, busy=1.0, poll=0.1, good=600, rest=0.5, pause=0.1)
TESTS = Path(__file__).parent.parent


class Watched:
    """A supervisor at work in a data folder, and what it was asked to start."""

    def __init__(self, data: Path, options: Sequence[str], patience: Patience, command: Sequence[str] | None) -> None:
        self.folder = DataFolder(data)
        self.folder.create()
        self.launched: list[tuple[str, int]] = []
        self._options, self._command = options, command
        self.supervisor = Supervisor(self.folder, default_spec(), self._launch, patience=patience)

    def _launch(self, rung: Rung, cap: int | None) -> Launch:
        in_flight = min(8 // rung.divide, cap or 8)
        self.launched.append((rung.name, in_flight))
        fake = [sys.executable, "-m", "support.fake_engine", "--uds", str(self.supervisor.socket)]
        fast = ["--tokens", "12", "--speed", "20", "--slots", str(in_flight)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
        return Launch(self._command or [*fake, *fast, *self._options], environment, in_flight)

    def state(self) -> EngineState:
        return statefile.read(self.folder.engine / statefile.STATE) or EngineState(Stage.STOPPED)

    async def until(self, good: Callable[[EngineState], bool], seconds: float = 60) -> EngineState:
        end = time.monotonic() + seconds
        while not good(self.state()):
            assert time.monotonic() < end, self.state()
            await asyncio.sleep(0.02)
        return self.state()

    async def control(self, **wishes: Any) -> None:
        transport = httpx.AsyncHTTPTransport(uds=str(self.supervisor.socket), verify=NO_TLS)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            (await client.post("/control", json=wishes)).raise_for_status()


@contextlib.asynccontextmanager
async def watched(
    data: Path, *options: str, patience: Patience = QUICK, command: Sequence[str] | None = None
) -> AsyncIterator[Watched]:
    engine = Watched(data, options, patience, command)
    task = asyncio.create_task(engine.supervisor.run())
    try:
        yield engine
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ready(state: EngineState) -> bool:
    return state.ready


async def test_an_engine_that_answers_alike_alone_and_in_company_is_ready(tmp_path: Path) -> None:
    async with watched(tmp_path) as engine:
        state = await engine.until(ready)
        assert state.in_flight == 8
        assert state.pid and statefile.started_at(state.pid) == state.started
        assert "equal the serial ones" in state.detail
        client = SupervisedEngine(engine.folder, default_spec())
        await client.start()
        reading = await client.read(page_code.pixels(page_code.draw(7)), Request())
        assert "page 7" in (reading.raw or "").lower()
        assert client.limit == 8
        await client.close()
    assert statefile.read(engine.folder.engine / statefile.STATE).state is Stage.STOPPED  # type: ignore[union-attr]
    assert statefile.started_at(state.pid) is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_crash_is_seen_within_two_seconds_and_mended(tmp_path: Path, number: signal.Signals) -> None:
    async with watched(tmp_path) as engine:
        before = await engine.until(ready)
        assert before.pid
        os.kill(before.pid, number)
        await engine.until(lambda state: not state.ready, 2.0)
        after = await engine.until(ready)
        assert after.pid != before.pid
        assert after.restarts == 1
        assert engine.launched == [("normal", 8), ("again", 8)]


async def test_a_hang_behind_a_healthy_health_is_found_while_idle(tmp_path: Path) -> None:
    async with watched(tmp_path) as engine:
        await engine.until(ready)
        await engine.control(rules=[{"kind": "hang"}])
        state = await engine.until(lambda state: not state.ready, 5)
        assert "test page" in state.detail
        await engine.until(ready)


async def test_a_hang_behind_a_healthy_health_is_found_while_busy(tmp_path: Path) -> None:
    async with watched(tmp_path) as engine:
        before = await engine.until(ready)
        await engine.control(rules=[{"kind": "slow_first", "seconds": 60}], slots=8)
        client = SupervisedEngine(engine.folder, default_spec())
        await client.start()
        reading = asyncio.create_task(client.read(page_code.pixels(page_code.draw(3)), Request()))
        await engine.until(lambda state: not state.ready, 5)
        with pytest.raises(EngineDown):
            await reading
        with pytest.raises(EngineDown):
            await client.read(page_code.pixels(page_code.draw(3)), Request())
        await client.close()
        assert (await engine.until(ready)).pid != before.pid


async def test_a_frozen_engine_is_found(tmp_path: Path) -> None:
    async with watched(tmp_path) as engine:
        before = await engine.until(ready)
        assert before.pid
        os.kill(before.pid, signal.SIGSTOP)
        await engine.until(lambda state: not state.ready, 10)
        assert (await engine.until(ready)).pid != before.pid


async def test_an_engine_that_mixes_pages_up_gets_fewer_at_once(tmp_path: Path) -> None:
    rules = json.dumps([{"kind": "mixed", "crowd": 4}])
    slow = ("--speed", "1", "--tokens", "40")  # so that all places are really taken at once
    async with watched(tmp_path, "--rules", rules, *slow) as engine:
        state = await engine.until(ready)
        assert state.in_flight == 2
        assert "mixed pages up" in state.detail
        assert engine.launched == [("normal", 8), ("normal", 2)]
        client = SupervisedEngine(engine.folder, default_spec())
        await client.start()
        assert client.limit == 2
        await client.close()


async def test_an_engine_that_answers_all_pages_alike_is_refused(tmp_path: Path) -> None:
    async with watched(tmp_path, "--rules", json.dumps([{"kind": "coordinates"}])) as engine:
        state = await engine.until(lambda state: state.state is Stage.REFUSED)
        assert "same answer" in state.detail
        assert state.in_flight == 0
        await asyncio.sleep(0.3)
        assert len(engine.launched) == 1
        health = await SupervisedEngine(engine.folder, default_spec()).health()
        assert not health.ready
        assert health.state == "refused"


async def test_an_engine_that_answers_a_page_otherwise_later_is_started_again(tmp_path: Path) -> None:
    async with watched(tmp_path) as engine:
        await engine.until(ready)
        await engine.control(rules=[{"kind": "noise"}])
        state = await engine.until(lambda state: not state.ready, 5)
        assert "otherwise" in state.detail


async def test_a_crash_loop_ends_with_the_cpu_and_is_tried_again_later(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('RuntimeError: CUDA is on fire'); sys.exit(1)"]
    async with watched(tmp_path, command=command) as engine:
        state = await engine.until(lambda state: state.state is Stage.GIVEN_UP)
        assert "CUDA is on fire" in state.detail
        assert engine.launched[:4] == [("normal", 8), ("again", 8), ("reduced", 4), ("minimal", 2)]
        await engine.until(lambda _: len(engine.launched) == 5, 15)
    again = Watched(tmp_path, (), QUICK, command)
    task = asyncio.create_task(again.supervisor.run())
    await again.until(lambda _: bool(again.launched))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert again.launched[0][0] == "minimal"


async def test_a_start_that_hangs_is_ended(tmp_path: Path) -> None:
    patience = Patience(start=1.5, quiet=15, poll=0.1, pause=0.1)
    async with watched(tmp_path, "--start-seconds", "1000", patience=patience) as engine:
        state = await engine.until(lambda state: state.restarts == 1)
        assert "not ready after" in state.detail


async def test_good_minutes_climb_back(tmp_path: Path) -> None:
    (tmp_path / "state/engine").mkdir(parents=True)
    (tmp_path / "state/engine" / statefile.LADDER).write_text('{"step": 3, "failures": 3}')
    patience = Patience(idle=0.4, canary=1.0, busy=1.0, poll=0.1, good=0.4, pause=0.1)
    async with watched(tmp_path, patience=patience) as engine:
        state = await engine.until(lambda state: state.ready and state.rung == "normal")
        assert [name for name, _ in engine.launched] == ["minimal", "reduced", "normal"]
        assert state.in_flight == 8


async def test_an_engine_left_behind_is_ended_by_the_next_supervisor(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.create()
    left = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    started = statefile.started_at(left.pid)
    state = EngineState(Stage.READY, now=statefile.uptime(), pid=left.pid, started=started)
    statefile.write(folder.engine / statefile.STATE, state)
    async with watched(tmp_path) as engine:
        assert await asyncio.wait_for(left.wait(), 60) == -signal.SIGKILL
        await engine.until(ready)


async def test_a_full_disk_keeps_no_engine_from_being_started_again(tmp_path: Path) -> None:
    async with watched(tmp_path) as engine:
        state = await engine.until(ready)
        (engine.folder.engine / f"{statefile.LADDER}.new").mkdir()  # as good as full: it cannot be written
        assert state.pid is not None
        os.kill(state.pid, signal.SIGKILL)
        again = await engine.until(lambda state: state.ready and state.restarts == 1)
        assert again.pid != state.pid


async def test_a_log_that_cannot_be_written_is_heard_all_the_same(tmp_path: Path) -> None:
    lines = asyncio.Queue[str]()
    (tmp_path / "log").mkdir()
    said = [sys.executable, "-c", "print('Loading weights')"]
    process = EngineProcess(said, dict(os.environ), Log(tmp_path / "log"), lines.put_nowait)
    try:
        async with asyncio.timeout(60):
            assert await lines.get() == "Loading weights\n"
    finally:
        await process.end()


async def test_a_line_without_end_is_taken_in_pieces(tmp_path: Path) -> None:
    lines = asyncio.Queue[str]()
    said = [sys.executable, "-c", "import time; print('x' * 1_000_000, end='', flush=True); time.sleep(600)"]
    process = EngineProcess(said, dict(os.environ), Log(tmp_path / "log"), lines.put_nowait)
    try:
        async with asyncio.timeout(60):
            assert 0 < len(await lines.get()) < 100_000
    finally:
        await process.end()


def test_a_supervisor_that_is_no_more_counts_as_stopped(tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    assert statefile.read(path) is None
    statefile.write(path, EngineState(Stage.READY, now=100.0, model="m", in_flight=4))
    assert statefile.read(path, 105.0).ready  # type: ignore[union-attr]
    for now in (100.0 + statefile.STALE_SECONDS + 1, 50.0):  # silent for too long; the machine was started anew
        assert statefile.read(path, now).state is Stage.STOPPED  # type: ignore[union-attr]
    path.write_text("{")
    assert statefile.read(path) is None
