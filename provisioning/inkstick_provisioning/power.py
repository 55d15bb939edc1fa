"""Battery and boot stick: when to warn, and when to stop writing and switch off. Pure, with the file reads it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from inkstick_provisioning.status import Line
from inkstick_provisioning.unattended import Lid
from inkstick_provisioning.volume import MEDIUM

LOW, EMPTY = 15, 5
"""Percent. At EMPTY the computer is switched off in good order, before its battery does it in none."""
GONE_SECONDS = 20.0
"""From the boot stick's being gone to power-off: long enough to read why, too short to be found unattended."""
READ_SECONDS = 5.0
"""For a last sentence on the screen."""


class Charge(StrEnum):
    """FINE also where there is no battery, or the charger is in."""

    FINE = "fine"
    LOW = "low"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Battery:
    """`percent`: 0 to 100. `discharging`: without a charger."""

    percent: int
    discharging: bool


def charge(batteries: Sequence[Battery], mains: bool) -> Charge:
    """Of all batteries together; some laptops have two and empty one after the other."""
    draining = [battery for battery in batteries if battery.discharging]
    if mains or not draining:
        return Charge.FINE
    percent = max(battery.percent for battery in batteries)
    return Charge.EMPTY if percent <= EMPTY else Charge.LOW if percent <= LOW else Charge.FINE


def warning(state: Charge, batteries: Sequence[Battery]) -> Line | None:
    if state is Charge.FINE:
        return None
    if state is Charge.EMPTY:
        return Line("The battery is nearly empty. Reading has stopped, and this computer switches itself off.")
    percent = str(max(battery.percent for battery in batteries))
    return Line("The battery is low: {count} %. Plug the charger in.", "", (("count", percent),))


def look(folder: Path = Path("/sys/class/power_supply")) -> tuple[tuple[Battery, ...], bool]:
    """The computer's own batteries (not those of a mouse), and whether a charger is in."""
    batteries, mains = [], False
    for supply in sorted(folder.glob("*")):
        kind = _text(supply / "type")
        if kind == "Mains" or kind == "USB":
            mains |= _text(supply / "online") == "1"
        elif kind == "Battery" and _text(supply / "scope") != "Device" and _text(supply / "capacity").isdigit():
            batteries.append(Battery(int(_text(supply / "capacity")), _text(supply / "status") == "Discharging"))
    return tuple(batteries), mains


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def medium_device(mounts: str) -> str:
    """The device that we were started from, by /proc/self/mounts; "" where there is none to watch: the system is in
    memory and the stick may be taken out, or it is a file on it (a loop device, Ventoy's /dev/mapper/ventoy)."""
    for line in mounts.splitlines():
        device, point, *_ = line.split()
        name = device.removeprefix("/dev/")
        if point == MEDIUM and name != device and "/" not in name and not name.startswith("loop"):
            return name
    return ""


def needs_stick_after_all(command_line: str, mounts: str) -> bool:
    """Whether "Start from memory" was chosen, and did not come true: where memory is too short live-boot goes on from
    the stick, without a word. (The kernel's command line; /proc/self/mounts.)"""
    kinds = [line.split()[2] for line in mounts.splitlines() if line.split()[1] == MEDIUM]
    return "toram" in command_line.split() and kinds[-1:] not in ([], ["tmpfs"])


def is_gone(device: str, sys_class: Path = Path("/sys/class/block")) -> bool:
    """Whether a device that was there is there no more."""
    return bool(device) and not (sys_class / device).exists()


def lid_settings(lid: Lid) -> str:
    """logind's drop-in for /run/systemd/logind.conf.d."""
    action = "poweroff" if lid is Lid.OFF else "ignore"
    return f"[Login]\nHandleLidSwitch={action}\nHandleLidSwitchExternalPower={action}\nHandleLidSwitchDocked=ignore\n"
