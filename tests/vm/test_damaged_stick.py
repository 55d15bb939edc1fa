"""One flipped bit in a layer: the appliance names it, and the menu's check names it before anything starts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.appliance import BOOT_SECONDS, read_layers
from vm.machine import Machine
from vm.screen import choose, menu, shows

pytestmark = [pytest.mark.vm_full, pytest.mark.timeout(3600)]
LAYER = "20-python.squashfs"
CHECK = 3
"""Lines of the boot menu above "Check this stick"."""


@pytest.fixture(scope="module")
def damaged(iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the ISO with one bit of a layer changed."""
    copy = tmp_path_factory.mktemp("damaged") / "damaged.iso"
    shutil.copyfile(iso, copy)
    listed = subprocess.run(
        ["xorriso", "-indev", str(iso), "-find", f"/live/{LAYER}", "-exec", "report_lba"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    match = re.search(r"File data lba:\s*\d+\s*,\s*(\d+)\s*,\s*(\d+)\s*,", listed)
    assert match, listed
    where = (int(match[1]) + int(match[2]) // 2) * 2048 + 100
    with copy.open("r+b") as file:
        file.seek(where)
        byte = file.read(1)[0]
        file.seek(where)
        file.write(bytes([byte ^ 1]))
    yield copy
    copy.unlink()


def test_a_flipped_bit_in_a_layer_is_named_as_a_damaged_stick(damaged: Path) -> None:
    with Machine(damaged) as machine:
        machine.wait(BOOT_SECONDS)
        answer = read_layers(machine)
        assert (answer["state"], answer["bad"]) == ("damaged", [LAYER])
        end = time.monotonic() + BOOT_SECONDS
        while True:
            status, out, _ = machine.run("cat", "/run/inkstick/layers.json")
            if status == 0 and (state := json.loads(out))["state"] == "damaged":
                break
            assert time.monotonic() < end, out
            time.sleep(5)
        assert "damaged" in state["sentence"] and state["bad"] == [LAYER]


def check(machine: Machine) -> str:
    """Chooses the check in the boot menu; what the screen says at its end."""
    menu(machine, BOOT_SECONDS)
    choose(machine, CHECK)
    said = shows(machine, "THE STICK IS", BOOT_SECONDS)
    print(f"checked after {machine.seconds:.0f} s:\n{said}")
    return said


def test_the_menu_s_check_names_the_damaged_file_and_starts_nothing(damaged: Path) -> None:
    with Machine(damaged) as machine:
        said = check(machine)
        assert "THESTICKISDAMAGED" in said
        assert re.findall(r"DAMAGED:\s*(\S+)", said) == [f"live/{LAYER}"], said
        machine.press("ret")
        menu(machine, BOOT_SECONDS)


def test_the_menu_s_check_of_a_whole_stick_finds_nothing(iso: Path) -> None:
    with Machine(iso) as machine:
        said = check(machine)
        assert "THESTICKISGOOD" in said and "DAMAGED" not in said, said
