"""The card, a machine that slept, age and memory: what the supervisor makes of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inkstick.engines.spec import default_spec
from inkstick.supervise.engine import Supervisor
from inkstick.supervise.guard import Guard, Limits, asleep, reload_driver, resident
from inkstick.supervise.statefile import EngineState, Stage
from inkstick.supervise.xid import MEANINGS, KernelLog, Meaning, parse, worst
from unit.test_supervise_engine import QUICK, Watched, ready

ACTION = "GPU recovery action changed from"
LOST = "3,812,99123456,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1234, name=python3, GPU has fallen off the bus."


@pytest.mark.parametrize(
    ("record", "number", "meaning"),
    [
        (LOST, 79, Meaning.GONE),
        ("NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.", 79, Meaning.GONE),
        (
            "NVRM: GPU at PCI:0000:01:00: GPU-5d3b\nNVRM: GPU 0000:01:00.0: GPU has fallen off the bus.",
            None,
            Meaning.GONE,
        ),
        ("NVRM: A GPU crash dump has been created. GPU 0000:01:00.0: GPU is lost.", None, Meaning.GONE),
        ("6,1,2,-;NVRM: Xid (PCI:0000:01:00): 31, pid=77, Ch 00000008, intr 00000000. MMU Fault", 31, Meaning.RESTART),
        ("NVRM: Xid (PCI:0000:01:00): 119, pid=8, Timeout after 6s of waiting for RPC response", 119, Meaning.RESET),
        ("NVRM: Xid (PCI:0000:01:00): 43, pid=9, Ch 00000010", 43, Meaning.IGNORE),
        ("NVRM: Xid (PCI:0000:01:00): 999, something new", 999, Meaning.IGNORE),
        ("NVRM: Xid (0000:01:00): 48, pid=1, DBE", 48, Meaning.RESET),
        (f"NVRM: Xid (PCI:0000:01:00): 154, {ACTION} 0x0 (None) to 0x1 (GPU Reset Required)", 154, Meaning.RESET),
        (f"NVRM: Xid (PCI:0000:01:00): 154, {ACTION} 0x1 (GPU Reset Required) to 0x0 (None)", 154, Meaning.IGNORE),
    ],
)
def test_lines_of_the_kernel_about_the_card(record: str, number: int | None, meaning: Meaning) -> None:
    found = parse(record)
    assert found is not None
    assert (found.number, found.meaning) == (number, meaning)
    assert found.sentence.endswith(".")


def test_other_lines_say_nothing_and_the_gravest_counts() -> None:
    for line in (
        "",
        "usb 1-1: new device",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module",
        "6,1,2,-;Xid: 79",
        "\0\xff",
    ):
        assert parse(line) is None
    lines = [f"NVRM: Xid (PCI:0000:01:00): {number}, x" for number in (43, 31, 79, 13)]
    found = worst(lines)
    assert found is not None
    assert found.number == 79
    assert worst(["nothing"]) is None
    assert all(detail and not detail.endswith(".") for _, detail in MEANINGS.values())


def test_the_kernel_log_gives_what_is_new_and_nothing_where_it_may_not_be_read(tmp_path: Path) -> None:
    pipe = tmp_path / "kmsg"
    os.mkfifo(pipe)
    log = KernelLog(pipe)
    with pipe.open("w") as writer:
        assert log.new() == []
        writer.write(LOST + "\n")
        writer.flush()
        assert log.new() == [LOST]
        assert log.new() == []
    log.close()
    missing = KernelLog(tmp_path / "none")
    assert not missing.readable
    assert missing.new() == []


GIVEN = """
import sys
from pathlib import Path
from inkstick.supervise.xid import kernel_log
print(kernel_log(Path(sys.argv[1])).readable)
"""


def test_the_kernel_log_that_a_process_was_given_needs_no_name(tmp_path: Path) -> None:
    """As in the engine's unit (`StandardInput=file:/dev/kmsg`), which may not open it."""
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY)
    except OSError:
        pytest.skip("the kernel's log may not be read here")
    command = [sys.executable, "-c", GIVEN, str(tmp_path / "none")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = [
        subprocess.run(command, env=environment, stdin=given, capture_output=True, text=True, timeout=60).stdout.strip()
        for given in (log, subprocess.DEVNULL)
    ]
    os.close(log)
    assert said == ["True", "False"]


def test_a_machine_that_slept_is_noticed_once() -> None:
    slept = [100.0]
    guard = Guard(kernel=KernelLog(Path("/nonexistent")), slept=lambda: slept[0])
    assert guard.trouble() is None
    slept[0] += 1.0
    assert guard.trouble() is None
    slept[0] += 3600.0
    trouble = guard.trouble()
    assert trouble is not None
    assert "slept for 3600 s" in trouble.detail
    assert trouble.reload
    assert guard.trouble() is None
    assert asleep() >= -1.0


def test_an_engine_is_renewed_after_hours_pages_and_growth() -> None:
    held = [1000]
    guard = Guard(Limits(2.0, 100, 0.5), KernelLog(Path("/nonexistent")), held=lambda _: held[0], memory=4000)
    guard.begin(1, 50.0)
    assert guard.renewal(50.0 + 7000, 99) is None
    assert "2 hours" in (guard.renewal(50.0 + 7201, 0) or "")
    assert "100 pages" in (guard.renewal(60.0, 100) or "")
    held[0] = 3001
    assert "memory" in (guard.renewal(60.0, 0) or "")
    never = Guard(Limits(0, 0, 0), KernelLog(Path("/nonexistent")), held=lambda _: held[0], memory=4000)
    held[0] = 0
    never.begin(1, 0.0)
    held[0] = 10**9
    assert never.renewal(10.0**9, 10**9) is None


def test_memory_is_that_of_the_process_and_all_below_it() -> None:
    inner = "x = b'1' * 64_000_000; print(1, flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
        assert resident(child.pid) > 64_000_000
        child.communicate(b"\n")
    assert resident(child.pid) == 0


def test_the_driver_s_helper_says_how_it_went(tmp_path: Path) -> None:
    assert reload_driver(("true",)) == "The driver was loaded anew."
    assert "status 1" in reload_driver(("false",))
    assert "could not" in reload_driver((str(tmp_path / "none"),))


def test_a_helper_that_hangs_in_the_driver_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There SIGKILL ends nothing: here, because nobody sends it."""
    monkeypatch.setattr("inkstick.supervise.guard.REPAIR_SECONDS", 0.2)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda _: None)
    os.mkfifo(tmp_path / "end")
    assert "gave no answer" in reload_driver(("cat", str(tmp_path / "end")))
    (tmp_path / "end").write_text("")  # only now it ends


async def test_an_engine_that_the_driver_holds_is_not_waited_for_and_gets_no_second_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after Xid 79: its processes hang in the kernel, where SIGKILL does not end them. Here nobody sends it."""
    engine = Guarded(tmp_path)
    monkeypatch.setattr("inkstick.supervise.process.KILL_SECONDS", 0.2)
    monkeypatch.setattr("inkstick.supervise.process.TERMINATE_SECONDS", 0.1)
    async with watched(engine):
        before = await engine.until(ready)
        assert before.pid is not None
        with monkeypatch.context() as held, engine.kernel.open("w") as kernel:
            held.setattr("inkstick.supervise.process._signal", lambda *_: None)
            held.setattr(os, "killpg", lambda *_: None)
            kernel.write(FAULT)
            kernel.flush()
            state = await engine.until(lambda state: state.state is Stage.GIVEN_UP)
        assert "the graphics card's driver holds it" in state.detail
        assert "(Xid 31)" in state.detail
        await asyncio.sleep(3 * QUICK.rest)
        assert len(engine.launched) == 1
        os.kill(before.pid, signal.SIGKILL)  # the driver lets go of it
        await engine.until(ready)
        assert [name for name, _ in engine.launched] == ["normal", "minimal"]


class Guarded(Watched):
    """A supervised stand-in for vLLM with a kernel log, a sleep and a helper of its own."""

    def __init__(self, data: Path, limits: Limits | None = None, reload: tuple[str, ...] = ()) -> None:
        super().__init__(data, (), QUICK, None)
        self.slept = 0.0
        self.kernel = data / "kmsg"
        os.mkfifo(self.kernel)
        guard = Guard(limits, KernelLog(self.kernel), slept=lambda: self.slept)
        self.supervisor = Supervisor(
            self.folder, default_spec(), self._launch, patience=QUICK, guard=guard, reload=reload
        )


@contextlib.asynccontextmanager
async def watched(engine: Guarded) -> AsyncIterator[None]:
    task = asyncio.create_task(engine.supervisor.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_card_that_falls_off_the_bus_is_given_up_and_tried_again_later(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    engine = Guarded(tmp_path, reload=("touch", str(ran)))
    async with watched(engine):
        await engine.until(ready)
        with engine.kernel.open("w") as kernel:
            kernel.write(LOST + "\n")
            kernel.flush()
            state = await engine.until(lambda state: state.state is Stage.GIVEN_UP)
            assert "fallen off the bus (Xid 79)" in state.detail
            assert "Switch this machine off and on again" in state.detail
            assert "loaded anew" in state.detail
            assert ran.exists()
            assert (await engine.until(ready)).rung == "minimal"


FAULT = "NVRM: Xid (PCI:0000:01:00): 31, pid=7, MMU Fault\n"


async def test_an_error_in_a_computation_starts_the_engine_again_as_it_was(tmp_path: Path) -> None:
    engine = Guarded(tmp_path, reload=("touch", str(tmp_path / "ran")))
    async with watched(engine):
        before = await engine.until(ready)
        with engine.kernel.open("w") as kernel:
            kernel.write(FAULT)
            kernel.flush()
            after = await engine.until(lambda state: state.ready and state.pid != before.pid)
    assert (after.rung, after.in_flight) == ("again", 8)
    assert not (tmp_path / "ran").exists()


async def test_errors_in_computations_that_come_again_and_again_end_with_the_cpu(tmp_path: Path) -> None:
    """Each start of the engine makes one, or each page: it is not started again for ever as it was."""
    engine = Guarded(tmp_path)
    async with watched(engine):
        with engine.kernel.open("w") as kernel:
            for count in range(4):
                await engine.until(lambda state, count=count: state.ready and state.restarts == count)  # type: ignore[misc]
                kernel.write(FAULT)
                kernel.flush()
            state = await engine.until(lambda state: state.state is Stage.GIVEN_UP)
    assert "(Xid 31)" in state.detail
    assert [name for name, _ in engine.launched] == ["normal", "again", "reduced", "minimal"]


async def test_a_suspend_starts_the_engine_anew(tmp_path: Path) -> None:
    engine = Guarded(tmp_path)
    async with watched(engine):
        before = await engine.until(ready)
        engine.slept += 600.0
        seen = await engine.until(lambda state: not state.ready)
        assert "slept for 600 s" in seen.detail or seen.state is not Stage.RESTARTING
        assert (await engine.until(ready)).pid != before.pid


async def test_an_engine_that_has_read_enough_is_renewed_while_idle(tmp_path: Path) -> None:
    engine = Guarded(tmp_path, Limits(pages=1))  # the canary's own pages are enough
    said: list[str] = []
    engine.supervisor._say = said.append
    async with watched(engine):
        before = await engine.until(ready)

        def renewed(state: EngineState) -> bool:
            return state.pid != before.pid

        await engine.until(renewed)
    assert any("started anew while there is nothing to read" in line for line in said)
    assert engine.launched[:2] == [("normal", 8), ("normal", 8)]
