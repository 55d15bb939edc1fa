"""A laptop that is started from a stick that can be written: keys are pressed, sticks put in and pulled out.

Limits are against hangs only: QEMU emulates every instruction.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vm.machine import Machine
from vm.screen import PICTURES, keep, settled

PATIENCE = 3600.0
STICK_BYTES = 12 << 30
RUN, DATA = "/run/inkstick", "/var/lib/inkstick"
SHIFTED = dict(zip('!@#$%^&*()_+{}|:"<>?~', "1234567890-=[]\\;',./`", strict=True))
KEYS = {
    " ": "spc", "\n": "ret", "\b": "backspace", "-": "minus", "=": "equal", "[": "bracket_left", "]": "bracket_right",
    "\\": "backslash", ";": "semicolon", "'": "apostrophe", ",": "comma", ".": "dot", "/": "slash", "`": "grave_accent",
}  # fmt: skip
KNOWN = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1], uri=True).execute('select sha256 from documents'))"


def stick(iso: Path, folder: Path, size: int = STICK_BYTES) -> Path:
    """The ISO written to a stick of this size: a sparse file."""
    made = folder / "stick.img"
    shutil.copyfile(iso, made)
    os.truncate(made, size)
    return made


def usb_stick(image: Path, files: Mapping[str, bytes], label: str = "KINGSTON", mib: int = 64) -> Path:
    """A FAT stick that holds these files, made without mounting anything."""
    image.unlink(missing_ok=True)
    subprocess.run(["mkfs.vfat", "-C", "-n", label, image, str(mib << 10)], check=True, stdout=subprocess.DEVNULL)
    for folder in sorted({f"{parent}" for name in files for parent in Path(name).parents} - {"."}):
        subprocess.run(["mmd", "-i", image, f"::{folder}"], check=True)
    for name, content in files.items():
        subprocess.run(["mcopy", "-i", image, "-", f"::{name}"], input=content, check=True)
    return image


def listed(image: Path) -> list[str]:
    """The files on a FAT stick, by path."""
    shown = subprocess.run(["mdir", "-/", "-b", "-i", image, "::"], capture_output=True, text=True, check=True).stdout
    return [line.removeprefix("::/") for line in shown.splitlines() if not line.endswith("/")]


class Laptop(Machine):
    """Starts from `stick`, which is written. `settings`: an inkstick.toml. Its cable ends in QEMU; `page`: a port
    of this computer that leads to the page. `bus`: as Machine's; only a stick on usb can be pulled out. `log`: a file
    in which every write to the stick is recorded (`cuts.py`)."""

    def __init__(
        self,
        stick: Path,
        settings: str = "",
        *,
        bus: str = "disk",
        page: int = 0,
        log: Path | None = None,
        devices: Sequence[str] = (),
    ) -> None:
        self._log = log
        forward = f",hostfwd=tcp:127.0.0.1:{page}-10.77.0.1:443" if page else ""
        cable = ["-netdev", f"user,id=cable,net=10.77.0.0/24,host=10.77.0.2,restrict=on{forward}"]
        cable += ["-device", "virtio-net-pci,netdev=cable"]
        given = {"inkstick.toml": settings} if settings else {}
        super().__init__(stick, bus=bus, credentials=given, devices=[*cable, *devices])

    def _command(self, iso: Path, firmware: str, bus: str, memory_mib: int) -> list[str]:
        kind = "qcow2" if iso.suffix == ".qcow2" else "raw"
        out = super()._command(iso, firmware, bus, memory_mib)
        at = next(number for number, word in enumerate(out) if word.startswith("if=none,id=stick,"))
        if self._log is None:
            out[at] = f"if=none,id=stick,file={iso},format={kind},discard=unmap"
        else:
            out[at - 1 : at + 1] = ["-blockdev", f"driver=file,node-name=plain,filename={iso}"]
            out += ["-blockdev", f"driver=file,node-name=log,filename={self._log}"]
            out += ["-blockdev", "driver=blklogwrites,node-name=stick,file=plain,log=log,log-sector-size=512"]
        return [f"{word},id=bootstick" if word.endswith("drive=stick,bootindex=1") else word for word in out]

    # -- hands

    def type(self, text: str) -> None:
        """On an American keyboard."""
        for letter in text:
            shift = ["shift"] if letter.isupper() or letter in SHIFTED else []
            plain = SHIFTED.get(letter, letter.lower())
            self.press(*shift, KEYS.get(plain, plain))

    def plug(self, image: Path, name: str = "usb1", slow: int = 0) -> None:
        """A stick put in while it runs. `slow`: bytes that it reads in a second, where that is limited."""
        file: dict[str, Any] = {"driver": "raw", "file": {"driver": "file", "filename": str(image)}}
        if slow:
            limits = {"bps-read": slow}
            self.qmp("object-add", **{"qom-type": "throttle-group", "id": f"{name}-pace", "limits": limits})
            file = {"driver": "throttle", "throttle-group": f"{name}-pace", "file": file}
        self.qmp("blockdev-add", **{"node-name": name, **file})
        self.qmp("device_add", driver="usb-storage", id=name, drive=name, removable=True)

    def unplug(self, name: str = "usb1") -> None:
        """Pulled out, whatever is being done."""
        self.qmp("device_del", id=name)

    def forget(self, name: str = "usb1") -> None:
        """The pulled stick's image is closed, so that it can be looked at or put in again."""
        until(lambda: self._forgotten(name))

    def _forgotten(self, name: str) -> bool:
        try:
            self.qmp("blockdev-del", **{"node-name": name})
        except RuntimeError:
            return False
        return True

    def wait_off(self, seconds: float = PATIENCE) -> None:
        """Until it has switched itself off. Raises TimeoutExpired."""
        self._process.wait(seconds)

    def drop(self, name: str, content: bytes) -> None:
        """A document appears in the inbox whole; at a first start as soon as the service has made the inbox."""
        part = f"{DATA}/inbox/.part"
        command = f"cat > {part} && chown inkstick: {part} && mv {part} {DATA}/inbox/{name}"
        until(lambda: self.run("sh", "-c", command, data=content)[0] == 0, self.journal)

    # -- eyes

    def show(self, name: str) -> None:
        """For the field guide, if somebody asked for its pictures: what the screen shows, under its name."""
        if PICTURES in os.environ:
            keep(settled(self), name)

    def json(self, path: str) -> dict[str, Any]:
        """A file inside; {} while there is none."""
        status, out, _ = self.run("cat", path)
        try:
            value = json.loads(out) if status == 0 else {}
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def status(self) -> dict[str, Any]:
        """What the keeper tells."""
        return self.json(f"{RUN}/status.json")

    def working(self) -> bool:
        """Whether service and inbox are, by the keeper's account."""
        parts = self.status().get("parts", ())
        return bool(parts) and all(state == "active" for name, state, _ in parts if name != "engine")

    def step(self) -> str:
        """Where the first start stands."""
        return str(self.json(f"{RUN}/first-start.json").get("step", ""))

    def wait_for(self, step: str) -> None:
        """Until the first start asks this. Fails with the journal."""
        until(lambda: self.step() == step, self.journal)
        time.sleep(1.5)  # the console looks twice a second

    def accepted(self, content: bytes) -> bool:
        """Whether the ledger knows this document."""
        known = self.text("python3", "-c", KNOWN, f"file:{DATA}/state/ledger.sqlite?mode=ro")
        return hashlib.sha256(content).hexdigest() in known

    def parts(self) -> list[str]:
        """The encrypted volumes that are plugged in, by their devices."""
        listed = json.loads(self.text("lsblk", "--json", "--list", "--output", "PATH,FSTYPE"))["blockdevices"]
        return [str(part["path"]) for part in listed if part["fstype"] == "crypto_LUKS"]

    def new_part(self, known: list[str]) -> str:
        """The encrypted volume that was plugged in, once it is there."""
        until(lambda: len(self.parts()) > len(known), self.journal)
        return next(part for part in self.parts() if part not in known)

    def journal(self) -> str:
        return self.text("journalctl", "-b", "--no-pager", "-n", "100")

    def stick_state(self) -> str:
        """What is told of the stick that is in; "" without one."""
        return next((str(stick["state"]) for stick in self.status().get("sticks", ())), "")


def until(true: Callable[[], bool], story: Callable[[], str] = str, seconds: float = PATIENCE) -> None:
    """Fails with the story if it does not become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, story()
        time.sleep(1)
