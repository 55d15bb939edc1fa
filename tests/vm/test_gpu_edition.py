"""The gpu edition under Secure Boot: its modules' signature counts where the key is enrolled and only there, and a
computer without a card is told so.

INKSTICK_GPU_ISO names the ISO (building one takes long, and 30 GB of disk); its key is read from the medium. No GPU is
needed: the kernel looks at the signature before the module looks for a card.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm import machine as vm
from vm.appliance import (
    READ_SECONDS,
    STATUS,
    UNATTENDED,
    drop,
    exposure,
    journal,
    parser_units,
    read,
    scanned,
    status,
    wait_for_services,
)
from vm.machine import Machine

ISO = os.environ.get("INKSTICK_GPU_ISO", "")
BOOT_SECONDS = 2400
READY_SECONDS = 3600  # at a load of 7 the services were up 2,000 s after the agent
# Of a unit that on a laptop is done in a second.
SLOW = "[Service]\nTimeoutStartSec=1800\nEnvironment=INKSTICK_GPU_SECONDS=900\n"
PATIENCE = {"systemd.unit-dropin.inkstick-gpu.service~test": SLOW}
ENGINE_EXPOSED = 0.8
STATE = "/var/lib/inkstick/state"
CARD = "/run/inkstick/gpu.env"  # written where a card answers
PROGRAM = "/usr/local/lib/instead.py"
DROP_IN = "/run/systemd/system/inkstick-engine.service.d"
# In place of the engine, in its unit: what Triton does, a library compiled and loaded; what it sees of the data, of the
# processes and of the network; and the kernel's log, which is its input.
INSTEAD = """
import ctypes, json, os, pathlib, socket, subprocess
state = pathlib.Path("/var/lib/inkstick/state")
folder = state / "engine/cache"
(folder / "answer.c").write_text("int answer(void) { return 42; }")
subprocess.run(["gcc", "-shared", "-fPIC", "-o", "answer.so", "answer.c"], cwd=folder, check=True)
seen = {
    "answer": ctypes.CDLL(folder / "answer.so").answer(),
    "data": sorted(path.name for path in state.parent.iterdir()),
    "state": sorted(path.name for path in state.iterdir()),
    "run": sorted(path.name for path in pathlib.Path("/run").iterdir()),
    "process": os.getpid(),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "kernel": os.read(0, 8192).decode(errors="replace").partition(";")[2],
}
(folder / "said.json").write_text(json.dumps(seen))
"""
UNIT = f"""[Service]
Type=oneshot
Restart=no
ExecStart=
ExecStart=/opt/inkstick/engine/bin/python -I {PROGRAM}
"""
# What the screen would say of a card that this machine has not: an RTX 3060, with this firmware's own keys.
JUDGE = """
from dataclasses import replace
from inkstick_provisioning import hardware, machine
facts = machine.look()
found = hardware.judge(replace(facts, displays=(hardware.Pci(hardware.NVIDIA, 0x2520),)))
print(facts.secure_boot, facts.enrolled, found.finding.value, found.advice.action)
"""
OWNER = "3f6b7d7a-4b0a-4a57-9b54-3d9a6a2d1c11"  # of the signature list: any number will do

pytestmark = [
    pytest.mark.vm_full,
    pytest.mark.timeout(2 * BOOT_SECONDS + READY_SECONDS + READ_SECONDS),
    pytest.mark.skipif(not ISO, reason="INKSTICK_GPU_ISO names no ISO of the gpu edition"),
    pytest.mark.skipif(not Path(vm.OVMF_CODE).exists(), reason="no UEFI firmware for QEMU here: install ovmf"),
]


def tool() -> str:
    """virt-fw-vars, which writes a firmware's variables."""
    found = shutil.which("virt-fw-vars", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("virt-fw-vars is not installed: pip install -r locks/vm.txt")
    return found


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Firmware variables of a computer on which somebody enrolled this stick's key."""
    folder = tmp_path_factory.mktemp("keys")
    der, pem, out = folder / "key.cer", folder / "key.pem", folder / "variables"
    xorriso: list[str | Path] = ["xorriso", "-osirrox", "on", "-indev", ISO, "-extract", "/INKSTICK.CER", der]
    subprocess.run(xorriso, check=True, capture_output=True)
    subprocess.run(["openssl", "x509", "-inform", "DER", "-in", der, "-out", pem], check=True)
    command: list[str | Path] = [tool(), "--input", vm.OVMF_VARS, "--output", out, "--add-mok", OWNER, pem]
    subprocess.run(command, check=True, capture_output=True)
    return out


def started(machine: Machine) -> None:
    """Until the unit that loads the driver has ended. Fails with the journal."""
    print(f"agent after {machine.wait(BOOT_SECONDS):.0f} s")
    end = time.monotonic() + BOOT_SECONDS
    while machine.run("test", "-e", "/run/inkstick/gpu.json")[0]:
        assert time.monotonic() < end, journal(machine)
        time.sleep(3)
    print(f"driver tried after {machine.seconds:.0f} s")


def judged(machine: Machine) -> str:
    """Secure Boot, key, verdict, and what to do about it, for a card put in."""
    status, said, words = machine.run("/opt/inkstick/.venv/bin/python", "-c", JUDGE, seconds=900)
    assert status == 0, words
    print(said.decode())
    return said.decode()


@pytest.fixture(scope="module")
def with_key(enrolled: Path) -> Iterator[Machine]:
    with pytest.MonkeyPatch.context() as patch:  # only while it is switched on: it has a copy of its own
        patch.setattr(vm, "OVMF_VARS", str(enrolled))
        switched_on = Machine(Path(ISO), "uefi", credentials=PATIENCE | UNATTENDED)
    with switched_on as machine:
        started(machine)
        yield machine


def test_without_the_key_the_driver_is_locked_and_the_screen_says_what_to_do() -> None:
    with Machine(Path(ISO), "uefi", credentials=PATIENCE) as machine:
        started(machine)
        failed, _, said = machine.run("modprobe", "nvidia-current", seconds=600)
        print(said)
        assert failed and "Key was rejected by service" in said
        answer = json.loads(machine.text("cat", "/run/inkstick/gpu.json"))
        assert answer["state"] == "locked" and "enrol" in answer["sentence"], answer
        said = judged(machine)
        assert said.startswith("True False locked ") and "choose 'enrol key' in the boot menu" in said, said


def test_with_the_key_enrolled_the_signature_counts_and_only_the_card_is_missing(with_key: Machine) -> None:
    assert "Secure boot enabled" in with_key.text("dmesg")
    failed, _, said = with_key.run("modprobe", "nvidia-current", seconds=600)
    print(said, with_key.text("sh", "-c", "dmesg | grep -i -e nvrm -e nvidia | tail -5"))
    assert failed and "No such device" in said and "Key was rejected" not in said
    assert "NVRM: No NVIDIA GPU found" in with_key.text("dmesg")


def test_the_missing_card_is_explained_and_nothing_failed(with_key: Machine) -> None:
    answer = json.loads(with_key.text("cat", "/run/inkstick/gpu.json"))
    assert answer["state"] == "none" and "processor reads" in answer["sentence"], answer
    assert with_key.text("systemctl", "is-active", "inkstick-engine").strip() == "inactive"
    assert with_key.text("systemctl", "--failed", "--no-legend", "--plain") == ""
    end = time.monotonic() + BOOT_SECONDS
    while with_key.run("test", "-e", STATUS)[0]:
        assert time.monotonic() < end, journal(with_key)
        time.sleep(3)
    said = status(with_key)["card"]["sentence"]
    print(f"told after {with_key.seconds:.0f} s: {said}")
    assert "no NVIDIA graphics card" in said, said


def test_with_the_key_a_card_would_not_be_called_locked(with_key: Machine) -> None:
    assert judged(with_key).startswith("True True no_driver ")


def test_every_layer_of_the_edition_is_verified(with_key: Machine) -> None:
    layers = with_key.text("sh", "-c", "ls /run/live/medium/live/*.squashfs").split()
    targets = [line for line in with_key.text("dmsetup", "table").splitlines() if " verity " in line]
    assert len(targets) == len(layers) >= 6, (targets, layers)


def test_libraries_programs_and_tools_of_the_engine_are_where_they_are_looked_for(with_key: Machine) -> None:
    assert "libcuda.so.1" in with_key.text("sh", "-c", "/sbin/ldconfig -p")
    for name in ("nvidia-smi", "nvidia-modprobe", "gcc"):
        assert with_key.run("sh", "-c", f"command -v {name}")[0] == 0, name
    assert with_key.run("test", "-x", "/opt/inkstick/engine/bin/python")[0] == 0
    assert with_key.run("test", "-e", "/opt/inkstick/models")[0] == 0
    assert with_key.run("test", "-e", "/usr/include/python3.13/Python.h")[0] == 0


def test_the_processor_reads_a_scan_that_a_unit_of_its_own_opened(with_key: Machine) -> None:
    wait_for_services(with_key, READY_SECONDS)
    print(f"ready after {with_key.seconds:.0f} s")
    drop(with_key, "scan.pdf", scanned("Invoice 4711 is paid"))
    found = read(with_key, "scan.pdf")
    print(f"read after {with_key.seconds:.0f} s: {found}")
    assert "4711" in found and "Invoice" in found, found
    assert parser_units(with_key)


def test_no_unit_of_the_edition_is_more_exposed_than_the_goals(with_key: Machine) -> None:
    """The service has a drop-in here, and the engine is here alone."""
    goals = {parser_units(with_key)[0]: 0.2, "inkstick-serve.service": 0.3, "inkstick-watch.service": 0.5}
    goals["inkstick-engine.service"] = ENGINE_EXPOSED
    assert {unit: goal for unit, goal in goals.items() if exposure(with_key, unit) > goal} == {}


def test_nothing_failed_or_was_started_anew(with_key: Machine) -> None:
    assert with_key.text("systemctl", "--failed", "--no-legend", "--plain") == ""
    restarts = with_key.text("systemctl", "show", "--property=Id,NRestarts", "inkstick-*.service")
    assert set(line for line in restarts.splitlines() if line.startswith("NRestarts")) == {"NRestarts=0"}, restarts


def test_the_engine_s_unit_loads_what_it_compiled_and_sees_nothing_else(with_key: Machine) -> None:
    """The unit itself, started as if a card had answered, with another program. The folder in which it compiles lies on
    the data folder, which is mounted noexec for everybody else."""
    with_key.run("sh", "-c", f"cat > {PROGRAM}", data=INSTEAD.encode())
    with_key.run("mkdir", "-p", DROP_IN)
    with_key.run("sh", "-c", f"cat > {DROP_IN}/test.conf", data=UNIT.encode())
    with_key.run("touch", CARD)
    with_key.run("systemctl", "daemon-reload")
    with_key.run("systemctl", "start", "inkstick-engine", seconds=1800)
    log = with_key.text("journalctl", "-u", "inkstick-engine*", "--no-pager", "-n", "40")
    with_key.run("rm", CARD, f"{DROP_IN}/test.conf")
    with_key.run("systemctl", "daemon-reload")
    said = with_key.text("cat", f"{STATE}/engine/cache/said.json")
    print(f"compiled and loaded after {with_key.seconds:.0f} s: {said}")
    assert said, log
    seen = json.loads(said)
    assert seen["answer"] == 42 and seen["process"] == 1 and seen["interfaces"] == ["lo"], seen
    assert set(seen["data"]) <= {"state", "models"} and set(seen["state"]) <= {"engine", "licences"}, seen
    assert seen["kernel"], seen
    load = f"import ctypes; ctypes.CDLL('{STATE}/engine/cache/answer.so')"
    failed, _, words = with_key.run("/usr/bin/python3", "-I", "-c", load)
    assert failed and "failed to map segment" in words, words
