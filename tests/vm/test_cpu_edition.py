"""The cpu edition boots, says what it is, and reads a document; nothing is left unverified or failed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.machine import OVMF_CODE, Machine

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
BOOT_SECONDS = 600
READ_SECONDS = 900
DATA = "/var/lib/inkstick"

pytestmark = pytest.mark.timeout(BOOT_SECONDS + READ_SECONDS + 300)


@pytest.fixture(scope="module")
def machine(iso: Path) -> Iterator[Machine]:
    with Machine(iso) as machine:
        print(f"agent after {machine.wait(BOOT_SECONDS):.0f} s")
        yield machine


def until(machine: Machine, words: str, seconds: float, *command: str) -> str:
    """The command's output once `words` are in it. Fails with the journal."""
    end = time.monotonic() + seconds
    while True:
        shown = machine.text(*command)
        if words in shown:
            return shown
        if time.monotonic() > end:
            pytest.fail(f"no {words!r} in {shown!r}\n{machine.text('journalctl', '-b', '--no-pager', '-n', '80')}")
        time.sleep(2)


def test_both_services_come_up_by_themselves(machine: Machine) -> None:
    for unit in ("inkstick-serve", "inkstick-watch", "inkstick-console"):
        until(machine, "active", BOOT_SECONDS, "systemctl", "show", "--property=ActiveState", "--value", unit)
    print(f"services after {time.monotonic() - machine.started:.0f} s")


def test_every_layer_is_verified_by_the_kernel(machine: Machine) -> None:
    targets = machine.text("dmsetup", "table").splitlines()
    assert len([line for line in targets if " verity " in line]) == 2, targets


def test_nothing_failed_and_there_is_no_network(machine: Machine) -> None:
    assert machine.text("systemctl", "--failed", "--no-legend", "--plain") == ""
    assert machine.text("ls", "/sys/class/net").split() == ["lo"]


def test_a_dropped_document_comes_out_as_text(machine: Machine) -> None:
    until(machine, "active", BOOT_SECONDS, "systemctl", "show", "--property=ActiveState", "--value", "inkstick-serve")
    page = (SAMPLES / "rotated-90.png").read_bytes()
    machine.run("sh", "-c", f"cat > {DATA}/inbox/.part && chown inkstick: {DATA}/inbox/.part", data=page)
    machine.run("mv", f"{DATA}/inbox/.part", f"{DATA}/inbox/letter.png")
    until(machine, "letter.json", READ_SECONDS, "find", f"{DATA}/results", f"{DATA}/failed", "-type", "f")
    record = json.loads(machine.text("cat", f"{DATA}/results/letter/letter.json"))
    truth = (SAMPLES / "truth/rotated-90.txt").read_text(encoding="utf-8")
    read = " ".join(block["text"] for block in record["pages"][0]["blocks"])
    words = [word for word in truth.split() if len(word) > 4]
    assert sum(word in read for word in words) > 0.9 * len(words), read
    assert (machine.run("test", "-e", f"{DATA}/done/letter.png"))[0] == 0


@pytest.mark.skipif(not Path(OVMF_CODE).exists(), reason="no UEFI firmware for QEMU here: install ovmf")
def test_it_starts_under_uefi_with_secure_boot(iso: Path) -> None:
    with Machine(iso, "uefi") as machine:
        print(f"agent after {machine.wait(BOOT_SECONDS):.0f} s")
        assert "Secure boot enabled" in machine.text("dmesg")
