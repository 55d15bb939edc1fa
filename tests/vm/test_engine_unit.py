"""The gpu edition's engine unit with a real vLLM in it: it reads behind the unit's walls, and sees nothing beyond them.

The image's own systemd starts the unit, natively (`container`); vLLM is the one for the processor that tests/engine
uses, with the tiny checkpoint. What only a card can show (the driver's files under the same walls) is not shown here.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import pages, setup
from engine.environment import Missing
from engine.test_real_transformers import pixels
from inkstick.document import Task
from inkstick.engines.openai import OpenAiEngine
from inkstick.engines.protocol import Request
from inkstick.supervise import statefile
from inkstick.supervise.process import CORE, descendants
from inkstick.supervise.python import CHECKOUT
from inkstick.supervise.statefile import EngineState, Stage
from vm import container
from vm.appliance import exposure
from vm.container import UNITS, WITHOUT_A_MACHINE, Container
from vm.laptop import until

START_SECONDS = 1500.0
pytestmark = pytest.mark.timeout(2 * START_SECONDS + 300)
GPU = Path(__file__).resolve().parents[2] / "image/overlay/gpu"
OURS = ("serve", "settings", "watch")
DATA, ENGINE = "/var/lib/inkstick", "/var/lib/inkstick/state/engine"
# As the driver's unit says it where a card answers; here the processor does.
CARD = f"""[Unit]
Requires=var-lib-inkstick.mount
After=var-lib-inkstick.mount
Before=inkstick-engine.service inkstick-engine-folder.service
Wants=inkstick-engine.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=sh -c "mkdir -p /run/inkstick; printf '%%s\\n' INKSTICK_ENGINE_PYTHON=/opt/venv/bin/python \
INKSTICK_MODEL=/opt/tiny >/run/inkstick/gpu.env"
ExecStart=sh -c "touch {DATA}/secret; mkdir -p {DATA}/inbox"
"""
HOME = "home = /mnt/python/bin\ninclude-system-site-packages = false\nversion = {version}\n"
WITH = "[Service]\nEnvironment=LD_LIBRARY_PATH=/mnt/python/lib:/opt/libraries OMP_NUM_THREADS=1\n"


def overlay(version: str) -> dict[str, str | None]:
    """What is laid over the cpu edition: the gpu edition's units, and nothing that needs a kernel of its own."""
    units = {f"{UNITS}/{path.name}": path.read_text() for path in (GPU / UNITS[1:]).glob("inkstick-engine*.service")}
    return {
        **WITHOUT_A_MACHINE,
        **{f"{UNITS}/inkstick-{name}.service": None for name in OURS},
        **units,
        "/usr/lib/inkstick/gpu.py": (GPU / "usr/lib/inkstick/gpu.py").read_text(),
        f"{UNITS}/inkstick-gpu.service": CARD,
        f"{UNITS}/multi-user.target.d/test.conf": "[Unit]\nWants=inkstick-gpu.service\n",
        f"{UNITS}/inkstick-engine.service.d/test.conf": WITH,
        "/opt/venv/pyvenv.cfg": HOME.format(version=version),
    }


def told(pid: int, name: str) -> str:
    """A file of a process's; nothing where it has gone meanwhile."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


class Unit:
    """`inkstick-engine.service` in a container."""

    def __init__(self, inside: Container, engine: setup.Engine) -> None:
        self.inside, self.engine = inside, engine

    @property
    def folder(self) -> Path:
        """Its folder, as seen from here."""
        return Path(f"/proc/{self.inside.first}/root{ENGINE}")

    @property
    def supervisor(self) -> int:
        """As seen from here."""
        said = self.inside.text("systemctl", "show", "--value", "--property=MainPID", "inkstick-engine")
        for pid in descendants(self.inside.first):
            numbers = re.search(r"^NSpid:\s+(.*)$", told(pid, "status"), re.M)
            if numbers and numbers[1].split()[-2:] == [said.strip(), "1"]:
                return pid
        raise AssertionError(self.journal())

    @property
    def core(self) -> int:
        """vLLM's computing process, as seen from here."""
        return next(pid for pid in descendants(self.supervisor) if CORE in told(pid, "cmdline"))

    def journal(self) -> str:
        log = self.inside.text("tail", "-n", "40", f"{ENGINE}/{statefile.LOG}")
        return log + self.inside.text("journalctl", "-b", "--no-pager", "-o", "cat", "-n", "60")

    def ready(self, after: float = 0.0) -> EngineState:
        """Once it is, and has been since a moment later than `after`."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            state = statefile.read(self.folder / statefile.STATE)
            if state is not None and state.ready and state.since > after:
                return state
            assert state is None or state.state is not Stage.REFUSED, state
            time.sleep(0.5)
        raise AssertionError(self.journal())

    def gone(self, pids: list[int]) -> None:
        """Waits until the kernel has done away with them."""
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), seconds=60)

    def look(self, *command: str) -> str:
        """What a command prints behind the unit's walls, with the rights of the service's user."""
        enter = ["nsenter", "--target", str(self.core), "--all", "--wd=/", "--setuid", "800", "--setgid", "800"]
        done = subprocess.run([*enter, *command], capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr

    def texts(self) -> dict[str, str | None]:
        """What it answers for each page of the tiny checkpoint's."""

        async def ask() -> dict[str, str | None]:
            client = OpenAiEngine(f"unix://{self.folder / statefile.SOCKET}", in_flight=4)
            await client.start()
            try:
                shots = {sample.name: pixels(self.engine.pages / sample.name) for sample in pages.SAMPLES}
                asked = [client.read(shot, Request(Task.TEXT)) for shot in shots.values()]
                return {name: found.raw for name, found in zip(shots, await asyncio.gather(*asked), strict=True)}
            finally:
                await client.close()

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def unit(iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unit]:
    if not CHECKOUT.exists():
        pytest.skip("no vLLM for the processor here yet: ./build.sh test --engine makes it")
    try:
        engine = setup.ready()
    except Missing as missing:
        pytest.skip(f"no real vLLM here: {missing}")
    asked = "import sys; print(sys.base_prefix, '.'.join(map(str, sys.version_info[:3])), sys.version_info[1])"
    base, version, minor = subprocess.check_output([engine.python, "-c", asked], text=True).split()
    folder = tmp_path_factory.mktemp("inside")
    (folder / "libraries").mkdir()
    for library in Path("/usr/lib").glob("*-linux-gnu/libnuma.so.1"):  # of vLLM's, where there is no card
        shutil.copy(library, folder / "libraries")
    shutil.copytree(engine.model, folder / "tiny")
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to(f"/mnt/python/bin/python3.{minor}")
    mounts = {
        "/mnt/python": Path(base),
        "/opt/venv/lib": engine.python.parent.parent / "lib",
        "/opt/venv/bin": folder / "bin",
        "/opt/tiny": folder / "tiny",
        "/opt/libraries": folder / "libraries",
    }
    with container.started(iso, overlay(version), mounts) as inside:
        yield Unit(inside, engine)


def test_vllm_reads_behind_the_unit_s_walls(unit: Unit) -> None:
    state = unit.ready()
    assert state.isolated and "equal the serial ones" in state.detail
    assert unit.texts() == {sample.name: sample.text for sample in pages.SAMPLES}


def test_it_sees_of_data_and_system_only_what_it_needs(unit: Unit) -> None:
    unit.ready()
    seen = unit.look("find", DATA, "-maxdepth", "2").split()
    assert sorted(seen) == [DATA, f"{DATA}/state", ENGINE, f"{DATA}/state/licences"], seen
    assert set(unit.look("ls", "/run", "/run/systemd").split()) <= {"/run:", "/run/systemd:", "systemd", "incoming"}
    seen = [line.split(":")[0].strip() for line in Path(f"/proc/{unit.core}/net/dev").read_text().splitlines()[2:]]
    assert seen == ["lo"]
    processes = [path for path in Path(f"/proc/{unit.core}/root/proc").iterdir() if path.name.isdecimal()]
    assert len(processes) == 1 + len(descendants(unit.supervisor)), processes


def test_it_can_neither_write_elsewhere_nor_gain_rights_nor_read_the_kernel_s_log(unit: Unit) -> None:
    unit.ready()
    for place in ("/opt/inkstick/x", f"{DATA}/x", f"{DATA}/state/x", "/var/x", "/run/x", "/usr/x"):
        assert re.search("Read-only|Permission", unit.look("touch", place)), place
    status = Path(f"/proc/{unit.core}/status").read_text()
    assert re.search(r"CapEff:\s+0+$", status, re.M) and re.search(r"NoNewPrivs:\s+1", status)
    assert re.search(r"Seccomp:\s+2", status)
    assert "dmesg" in unit.look("dmesg") and "ermi" in unit.look("cat", "/dev/kmsg")
    assert os.readlink(f"/proc/{unit.supervisor}/fd/0") == "/dev/kmsg", "the supervisor was given it"
    assert os.readlink(f"/proc/{unit.core}/fd/0") == "/dev/null"


def test_a_killed_engine_leaves_nothing_and_reads_again(unit: Unit) -> None:
    before = unit.ready()
    shared = Path(f"/proc/{unit.supervisor}/root/dev/shm")
    (shared / "psm_left").touch()
    os.chown(shared / "psm_left", 800, 800)
    old = descendants(unit.supervisor)
    os.kill(unit.core, signal.SIGKILL)
    after = unit.ready(after=before.since)
    assert after.restarts > before.restarts
    assert not (shared / "psm_left").exists()
    assert not set(old) & set(descendants(unit.supervisor)), "dead, but never collected"
    assert unit.texts() == {sample.name: sample.text for sample in pages.SAMPLES}


def test_its_exposure_is_what_was_promised(unit: Unit) -> None:
    assert exposure(unit.inside, "inkstick-engine") <= 0.8


def test_a_supervisor_that_dies_is_started_again_and_takes_the_engine_with_it(unit: Unit) -> None:
    unit.ready()
    family = [unit.supervisor, *descendants(unit.supervisor)]
    os.kill(family[0], signal.SIGKILL)
    asked = ("systemctl", "show", "--value", "--property=NRestarts", "inkstick-engine")
    until(lambda: unit.inside.text(*asked).strip() != "0", unit.journal, seconds=120)
    unit.gone(family)


def test_it_ends_when_it_is_told_to_and_nothing_of_it_is_left(unit: Unit) -> None:
    until(lambda: unit.inside.run("systemctl", "is-active", "inkstick-engine")[0] == 0, unit.journal, seconds=120)
    family = [unit.supervisor, *descendants(unit.supervisor)]
    assert unit.inside.run("systemctl", "stop", "inkstick-engine")[0] == 0
    unit.gone(family)
    assert failed(unit) == ""
    for wait in ("0", "0.2", "0.5"):  # while it starts, too
        done = unit.inside.run(
            "sh", "-c", f"systemctl start inkstick-engine; sleep {wait}; systemctl stop inkstick-engine"
        )
        assert (done[0], failed(unit)) == (0, "")


def failed(unit: Unit) -> str:
    """The units that have failed; one that is started again counts no more."""
    return unit.inside.text("systemctl", "--failed", "--no-legend", "--plain")
