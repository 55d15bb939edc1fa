"""The cpu edition boots, says what it is, and reads documents; nothing is left unverified or failed.

One boot under BIOS serves the tests here and those of test_network.py.
"""

from __future__ import annotations

import json

import pytest

from vm.appliance import (
    BOOT_SECONDS,
    DATA,
    READ_SECONDS,
    drop,
    exposure,
    parser_units,
    printed,
    read,
    scan,
    verity_targets,
)
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


def test_untrusted_documents_are_opened_by_units_that_see_neither_network_nor_data(machine: Machine) -> None:
    listed = machine.text("systemctl", "list-units", "--plain", "--no-legend", "inkstick-pages@*.service").splitlines()
    assert listed and all(line.split()[2:4] == ["active", "running"] for line in listed), listed
    parsers = machine.text("pgrep", "-f", "inkstick.pages.worker").split()
    assert len(parsers) == len(listed)
    service = main_process(machine, "inkstick-serve.service")
    for parser in parsers:
        assert "/inkstick-pages@" in machine.text("cat", f"/proc/{parser}/cgroup")
        others = set(spaces(machine, "1") + spaces(machine, service))
        assert not others & set(spaces(machine, parser))
        assert machine.run("test", "-e", f"/proc/{parser}/root/usr/bin")[0] == 0
        assert machine.run("test", "-e", f"/proc/{parser}/root{DATA}")[0] != 0
        assert interfaces(machine, parser) == ["lo"]


def test_the_service_has_no_network_of_its_own(machine: Machine) -> None:
    service = main_process(machine, "inkstick-serve.service")
    assert interfaces(machine, "1") != ["lo"]
    assert interfaces(machine, service) == ["lo"]


def test_no_unit_is_more_exposed_than_the_goals(machine: Machine) -> None:
    goals = {parser_units(machine)[0]: 0.2, "inkstick-serve.service": 0.3, "inkstick-watch.service": 0.5}
    assert {unit: goal for unit, goal in goals.items() if exposure(machine, unit) > goal} == {}


def main_process(machine: Machine, unit: str) -> str:
    return machine.text("systemctl", "show", "--property=MainPID", "--value", unit).strip()


def spaces(machine: Machine, process: str) -> list[str]:
    """Its network, user, mount, process and IPC namespaces."""
    kinds = ("net", "user", "mnt", "pid", "ipc")
    found = machine.text("readlink", *(f"/proc/{process}/ns/{kind}" for kind in kinds)).split()
    assert len(found) == len(kinds)
    return found


def interfaces(machine: Machine, process: str) -> list[str]:
    """The names of the network interfaces that it sees."""
    lines = machine.text("cat", f"/proc/{process}/net/dev").splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


def test_the_bill_of_materials_lies_inside(machine: Machine) -> None:
    folder = "/usr/share/inkstick/sbom"
    names = {part["name"] for part in json.loads(machine.text("cat", f"{folder}/inkstick.cdx.json"))["components"]}
    assert {"systemd", "numpy", "inkstick", "shim-signed"} <= names
    assert "GNU AFFERO" in machine.text("cat", f"{folder}/LICENSE")


def test_no_unit_failed(machine: Machine) -> None:
    assert machine.text("systemctl", "--failed", "--no-legend", "--plain") == ""
    restarts = machine.text("systemctl", "show", "--property=Id,NRestarts", "inkstick-*.service")
    assert set(line for line in restarts.splitlines() if line.startswith("NRestarts")) == {"NRestarts=0"}, restarts
