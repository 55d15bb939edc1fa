"""The cpu edition boots, says what it is, and reads documents; nothing is left unverified or failed.

One boot under BIOS serves the tests here and those of test_network.py.
"""

from __future__ import annotations

import json

import pytest

from vm.appliance import BOOT_SECONDS, DATA, READ_SECONDS, drop, printed, read, scan, verity_targets
from vm.machine import Machine

pytestmark = pytest.mark.timeout(BOOT_SECONDS + READ_SECONDS + 600)


def test_every_layer_is_verified_by_the_kernel_and_the_state_file_says_so(machine: Machine) -> None:
    assert len(verity_targets(machine)) == 3
    state = json.loads(machine.text("cat", "/run/inkstick/layers.json"))
    assert state["state"] == "verified" and len(state["layers"]) == 3, state


def test_a_document_with_text_comes_out_as_text(machine: Machine) -> None:
    drop(machine, "letter.pdf", printed("Dear Anna, thank you"))
    found = read(machine, "letter.pdf")
    print(f"BIOS: a PDF read after {machine.seconds:.0f} s")
    assert "Dear Anna" in found and "thank you" in found, found


@pytest.mark.vm_full  # minutes more; test_network.py sends a scan, too
def test_a_scan_comes_out_as_text(machine: Machine) -> None:
    drop(machine, "scan.png", scan("Invoice 4711 is paid"))
    found = read(machine, "scan.png")
    print(f"BIOS: a scan read after {machine.seconds:.0f} s")
    assert "4711" in found and "Invoice" in found, found
    assert machine.run("test", "-e", f"{DATA}/done/scan.png")[0] == 0


def test_untrusted_documents_are_opened_in_a_sandbox(machine: Machine) -> None:
    """Without it the service reads on, so only a look at the process tells."""
    parser = machine.text("pgrep", "-f", "inkstick.pages.worker").split()[-1]
    mine = machine.text("readlink", "/proc/1/ns/net", "/proc/1/ns/user", "/proc/1/ns/mnt").split()
    its = machine.text("readlink", *(f"/proc/{parser}/ns/{kind}" for kind in ("net", "user", "mnt"))).split()
    assert len(its) == 3 and not set(mine) & set(its)
    assert machine.run("test", "-e", f"/proc/{parser}/root{DATA}")[0] != 0


def test_the_bill_of_materials_lies_inside(machine: Machine) -> None:
    folder = "/usr/share/inkstick/sbom"
    names = {part["name"] for part in json.loads(machine.text("cat", f"{folder}/inkstick.cdx.json"))["components"]}
    assert {"systemd", "numpy", "inkstick", "shim-signed"} <= names
    assert "GNU AFFERO" in machine.text("cat", f"{folder}/LICENSE")


def test_no_unit_failed(machine: Machine) -> None:
    assert machine.text("systemctl", "--failed", "--no-legend", "--plain") == ""
    restarts = machine.text("systemctl", "show", "--property=Id,NRestarts", "inkstick-*.service")
    assert set(line for line in restarts.splitlines() if line.startswith("NRestarts")) == {"NRestarts=0"}, restarts
