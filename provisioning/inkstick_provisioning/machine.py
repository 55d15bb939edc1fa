"""The facts of this computer, read from /sys, /proc and nvidia-smi for `hardware.py`. Whatever cannot be read counts as
not there: a laptop with strange firmware is still to be set up."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from inkstick.supervise.process import answer_of
from inkstick_provisioning import hardware
from inkstick_provisioning.hardware import Driven, Facts, Pci, Thunderbolt
from inkstick_provisioning.language import clean
from inkstick_provisioning.settings import memory_of

QUERY = "--query-gpu=name,memory.total,compute_cap,driver_version"
SECONDS = 10.0
CERTIFICATE = Path("/usr/share/inkstick/module-signing.der")
DRIVER = Path("/usr/share/inkstick/nvidia-driver")
"""In the gpu edition: the driver's branch, one number."""
TRIED = Path("/run/inkstick/gpu.json")
"""In the gpu edition: what became of the driver, once it was tried."""
_DISPLAY_NAMES = ("graphics", "gpu", "egpu", "display", "core x", "razer", "aorus", "breakaway", "mantiz")


def look(root: Path = Path("/")) -> Facts:
    """`root`: another file system than this machine's, for tests."""
    sys = root / "sys"
    return Facts(
        memory=_memory(root / "proc/meminfo"),
        cores=len(os.sched_getaffinity(0)),
        displays=tuple(_displays(sys / "bus/pci/devices")),
        driven=_driven() if (sys / "module/nvidia").exists() else (),
        driver=int(_text(root / DRIVER.relative_to("/")) or 0),
        secure_boot=hardware.secure_boot(_bytes(sys / f"firmware/efi/efivars/{hardware.SECURE_BOOT}")),
        enrolled=_enrolled(root),
        thunderbolt=tuple(_thunderbolt(sys / "bus/thunderbolt/devices")),
        product=clean(f"{_text(sys / 'class/dmi/id/sys_vendor')} {_text(sys / 'class/dmi/id/product_name')}"),
        chassis=int(_text(sys / "class/dmi/id/chassis_type") or 0),
        battery=any(_text(path) == "Battery" for path in sys.glob("class/power_supply/*/type")),
        tried=_tried(root / TRIED.relative_to("/")),
    )


def signs(root: Path = Path("/")) -> tuple[object, ...]:
    """What a card's verdict hangs on and can be read without asking its driver, which may never answer: when it is
    other than before, `look` again. The driver is tried after the start, and external cards come and go."""
    sys = root / "sys"
    waiting = tuple(_thunderbolt(sys / "bus/thunderbolt/devices"))
    return tuple(_displays(sys / "bus/pci/devices")), waiting, _tried(root / TRIED.relative_to("/"))


def _tried(path: Path) -> str:
    try:
        return str(json.loads(_text(path))["state"])
    except (ValueError, KeyError, TypeError):
        return ""


def _text(path: Path) -> str:
    data = _bytes(path)
    return data.decode(errors="replace").strip() if data else ""


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _memory(path: Path) -> int:
    try:
        return memory_of(_text(path))
    except ValueError:
        return 0


def _displays(folder: Path) -> Iterator[Pci]:
    for device in sorted(folder.glob("*")):
        words = (_text(device / name) for name in ("vendor", "device", "class", "removable"))
        found = hardware.display(*words)
        if found:
            yield found


def _driven() -> tuple[Driven, ...]:
    command = ["nvidia-smi", QUERY, "--format=csv,noheader,nounits"]
    done = answer_of(command, SECONDS)
    return hardware.driven(done[1]) if done is not None and done[0] == 0 else ()


def _enrolled(root: Path) -> bool:
    """shim shows the machine owner's keys in one file or, where there are many, in several."""
    variables = root / "sys/firmware/efi"
    paths = [*variables.glob("mok-variables/MokListRT*"), *variables.glob("efivars/MokListRT*")]
    lists = [data for path in paths if (data := _bytes(path))]
    return hardware.enrolled(lists, _bytes(root / CERTIFICATE.relative_to("/")) or b"")


def _thunderbolt(folder: Path) -> Iterator[Thunderbolt]:
    """Devices, not the computer's own controllers (which have no `authorized`), whose name may mean a graphics card."""
    for device in sorted(folder.glob("*")):
        name = clean(f"{_text(device / 'vendor_name')} {_text(device / 'device_name')}")
        host = device.name.endswith("-0")
        if (device / "authorized").exists() and not host and any(word in name.lower() for word in _DISPLAY_NAMES):
            yield Thunderbolt(device.name, name, _text(device / "authorized") != "0")


def authorise(device: str, root: Path = Path("/")) -> None:
    """Let a Thunderbolt device in, until it is unplugged. Only after a person said so."""
    known = {path.name: path for path in (root / "sys/bus/thunderbolt/devices").glob("*")}
    (known[device] / "authorized").write_text("1")
