"""The cpu edition, built once per session (layers from cache/ where nothing changed); one boot of it for many tests.

Tests that take `machine` or `cable` share one virtual machine. They run first, and it is gone before the next one,
which boots a machine of its own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.appliance import BOOT_SECONDS, UNATTENDED, wait_for_services
from vm.cable import Cable
from vm.machine import Machine

ROOT = Path(__file__).resolve().parents[2]
_shared = contextlib.ExitStack()


@pytest.fixture(scope="session")
def iso() -> Path:
    """INKSTICK_ISO names one that is built already; else it is built here."""
    if given := os.environ.get("INKSTICK_ISO"):
        return Path(given)
    done = subprocess.run([ROOT / "build.sh", "image", "--edition", "cpu", "--quick"], cwd=ROOT, stdout=None)
    assert done.returncode == 0, "the build failed: its output is above"
    return next((ROOT / "dist").glob("inkstick-cpu-*.iso"))


@pytest.fixture(scope="session")
def cable(iso: Path) -> Iterator[Cable]:
    with _shared:
        yield _shared.enter_context(Cable())


@pytest.fixture(scope="session")
def machine(iso: Path, cable: Cable) -> Machine:
    """Under BIOS, set up by inkstick.toml: documents in memory, the cable gives addresses; its services are up."""
    devices = Machine(iso, credentials=UNATTENDED, devices=cable.devices, within=cable.within)
    machine = _shared.enter_context(devices)
    cable.plug()
    print(f"BIOS: agent after {machine.wait(BOOT_SECONDS):.0f} s, {machine.uptime:.0f} s of them the kernel's")
    wait_for_services(machine)
    print(f"BIOS: ready after {machine.seconds:.0f} s")
    return machine


def shares(item: pytest.Item) -> bool:
    return "cable" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not shares(item))


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if shares(item) and not (nextitem and shares(nextitem)):
        _shared.close()
