"""Battery and boot stick: when a warning is shown, and when the computer switches itself off."""

from __future__ import annotations

from pathlib import Path

import pytest

from inkstick_provisioning import power
from inkstick_provisioning.power import Battery, Charge, charge, warning
from inkstick_provisioning.unattended import Lid


@pytest.mark.parametrize(
    ("batteries", "mains", "state"),
    [
        ([], False, Charge.FINE),  # a tower
        ([Battery(100, True)], False, Charge.FINE),
        ([Battery(15, True)], False, Charge.LOW),
        ([Battery(5, True)], False, Charge.EMPTY),
        ([Battery(3, True)], True, Charge.FINE),
        ([Battery(3, False)], False, Charge.FINE),  # charging by a port that tells nothing
        ([Battery(0, False), Battery(60, True)], False, Charge.FINE),  # one after the other
        ([Battery(2, True), Battery(4, True)], False, Charge.EMPTY),
    ],
)
def test_when_the_battery_matters(batteries: list[Battery], mains: bool, state: Charge) -> None:
    assert charge(batteries, mains) is state
    assert (warning(state, batteries) is None) == (state is Charge.FINE)


def supply(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(text + "\n")


def test_the_mouse_is_not_the_laptop(tmp_path: Path) -> None:
    supply(tmp_path, "hidpp", type="Battery", scope="Device", capacity="3", status="Discharging")
    supply(tmp_path, "BAT0", type="Battery", capacity="80", status="Discharging")
    supply(tmp_path, "AC", type="Mains", online="0")
    supply(tmp_path, "BAT1", type="Battery", capacity="?", status="Unknown")
    assert power.look(tmp_path) == ((Battery(80, True),), False)
    (tmp_path / "AC/online").write_text("1")
    assert power.look(tmp_path)[1]
    assert power.look(tmp_path / "none") == ((), False)


@pytest.mark.parametrize(
    ("mounts", "device"),
    [
        ("/dev/sda1 /run/live/medium iso9660 ro 0 0\n", "sda1"),
        ("/dev/sr0 /run/live/medium iso9660 ro 0 0\n", "sr0"),
        ("tmpfs /run/live/medium tmpfs rw 0 0\n", ""),  # started from memory
        ("/dev/loop0 /run/live/medium iso9660 ro 0 0\n", ""),  # the ISO as a file
        ("/dev/mapper/ventoy /run/live/medium iso9660 ro 0 0\n", ""),  # it was taken for gone: off, at once
        ("/dev/sda1 /boot vfat ro 0 0\n", ""),
    ],
)
def test_which_stick_must_stay_in(mounts: str, device: str) -> None:
    assert power.medium_device(mounts) == device


@pytest.mark.parametrize(
    ("words", "kind", "needed"),
    [
        ("boot=live toram quiet", "iso9660", True),
        ("boot=live toram quiet", "tmpfs", False),
        ("boot=live quiet", "iso9660", False),
    ],
)
def test_a_start_from_memory_that_memory_was_too_short_for_is_noticed(words: str, kind: str, needed: bool) -> None:
    mounts = f"tmpfs /run tmpfs rw 0 0\n/dev/sda1 /run/live/medium {kind} ro 0 0\n"
    assert power.needs_stick_after_all(words, mounts) is needed
    assert not power.needs_stick_after_all(words, "tmpfs /run tmpfs rw 0 0\n")


def test_a_stick_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "sda1").mkdir()
    assert not power.is_gone("sda1", tmp_path)
    (tmp_path / "sda1").rmdir()
    assert power.is_gone("sda1", tmp_path)
    assert not power.is_gone("", tmp_path)


def test_the_lid() -> None:
    assert "HandleLidSwitch=ignore" in power.lid_settings(Lid.KEEP)
    assert "HandleLidSwitch=poweroff" in power.lid_settings(Lid.OFF)
