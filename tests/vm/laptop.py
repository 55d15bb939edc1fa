"""A laptop that is started from a stick that can be written: keys are pressed, sticks put in and pulled out."""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vm.machine import Machine

STICK_BYTES = 12 << 30
SHIFTED = dict(zip('!@#$%^&*()_+{}|:"<>?~', "1234567890-=[]\\;',./`", strict=True))
KEYS = {
    " ": "spc", "\n": "ret", "\b": "backspace", "-": "minus", "=": "equal", "[": "bracket_left", "]": "bracket_right",
    "\\": "backslash", ";": "semicolon", "'": "apostrophe", ",": "comma", ".": "dot", "/": "slash", "`": "grave_accent",
}  # fmt: skip


def stick(iso: Path, folder: Path, size: int = STICK_BYTES) -> Path:
    """The ISO written to a stick of this size: a sparse file."""
    made = folder / "stick.img"
    shutil.copyfile(iso, made)
    os.truncate(made, size)
    return made


class Laptop(Machine):
    """Starts from `stick`, which is written. `cable`: a network cable, whose other end is QEMU's (10.77.0.2); `page`:
    the port of this computer that leads to the page. `given`: systemd credentials by name."""

    def __init__(
        self,
        stick: Path,
        given: Mapping[str, str] | None = None,
        *,
        bus: str = "disk",
        cable: bool = True,
        page: int = 0,
        extra: Sequence[str] = (),
    ) -> None:
        self._given, self._cable, self._page, self._extra = given or {}, cable, page, extra
        super().__init__(stick, bus=bus)

    def _command(self, iso: Path, firmware: str, bus: str, memory_mib: int) -> list[str]:
        out = super()._command(iso, firmware, bus, memory_mib)
        kind = "qcow2" if iso.suffix == ".qcow2" else "raw"
        out = [word.replace("format=raw,snapshot=on", f"format={kind},discard=unmap,cache=unsafe") for word in out]
        if bus == "usb":
            out[out.index("usb-storage,removable=on,drive=stick,bootindex=1")] += ",id=bootstick"
        if self._cable:
            forward = f",hostfwd=tcp:127.0.0.1:{self._page}-10.77.0.1:443" if self._page else ""
            out += ["-netdev", f"user,id=cable,net=10.77.0.0/24,host=10.77.0.2,restrict=on{forward}"]
            out += ["-device", "virtio-net-pci,netdev=cable"]
        for number, (name, text) in enumerate(self._given.items()):
            file = self.folder / f"given{number}"
            value = base64.b64encode(text.encode()).decode()
            file.write_text(f"io.systemd.credential.binary:{name}={value}", encoding="ascii")
            out += ["-smbios", f"type=11,path={file}"]
        return [*out, *self._extra]

    def press(self, *keys: str) -> None:
        """Keys held together, by QEMU's names."""
        self.qmp("send-key", keys=[{"type": "qcode", "data": key} for key in keys])

    def type(self, text: str) -> None:
        """On an American keyboard."""
        for letter in text:
            shift = ["shift"] if letter.isupper() or letter in SHIFTED else []
            plain = SHIFTED.get(letter, letter.lower())
            self.press(*shift, KEYS.get(plain, plain))
            time.sleep(0.15)

    def plug(self, image: Path, name: str = "usb1") -> None:
        """A stick put in while it runs."""
        self.qmp(
            "blockdev-add", **{"driver": "raw", "node-name": name, "file": {"driver": "file", "filename": str(image)}}
        )
        self.qmp("device_add", driver="usb-storage", id=name, drive=name, removable=True)

    def unplug(self, name: str = "usb1") -> None:
        """Pulled out, whatever is being done."""
        self.qmp("device_del", id=name)

    def wait_off(self, seconds: float) -> None:
        """Until it has switched itself off. Raises TimeoutExpired."""
        self._process.wait(seconds)
