"""A virtual machine under QEMU's software emulation: QMP for screen and devices, an agent for commands inside.

The image holds no code for tests. The agent comes in as systemd credentials (an extra unit and its program) in the
firmware's tables, which here are QEMU's, and talks JSON lines over a virtio port.
"""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from PIL import Image

from inkstick_image.qemu import EMULATED

AGENT = r"""
import base64, json, os, subprocess
port = os.open("/dev/virtio-ports/org.inkstick.test", os.O_RDWR)
def send(answer):
    data = (json.dumps(answer) + "\n").encode()
    while data:
        data = data[os.write(port, data):]
send({"hello": open("/proc/uptime").read().split()[0]})
rest = b""
while True:
    rest += os.read(port, 65536)
    while b"\n" in rest:
        line, rest = rest.split(b"\n", 1)
        asked = json.loads(line)
        done = subprocess.run(asked["run"], input=base64.b64decode(asked["input"]), capture_output=True)
        out = base64.b64encode(done.stdout).decode()
        send({"id": asked["id"], "rc": done.returncode, "out": out, "err": done.stderr.decode(errors="replace")})
"""
UNIT = """
[Unit]
Description=Test agent
DefaultDependencies=no
After=dev-virtio\\x2dports-org.inkstick.test.device
Wants=dev-virtio\\x2dports-org.inkstick.test.device
Conflicts=shutdown.target
Before=shutdown.target
StartLimitIntervalSec=0
[Service]
ImportCredential=inkstick.agent
ExecStart=/usr/bin/python3 ${CREDENTIALS_DIRECTORY}/inkstick.agent
Restart=always
RestartSec=1
"""
# Emulation is some sixty times slower than a laptop: what would be a hang there is patience here.
PATIENCE = """
[Service]
TimeoutStartSec=infinity
WatchdogSec=1800
Environment=INKSTICK_ENGINE_SECONDS=3600 INKSTICK_PAGE_SECONDS=1800
"""
WANTS = "[Unit]\nWants=inkstick-test-agent.service\n"
OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"


class Inside(Protocol):
    """Where commands run beside the appliance's units: a `Machine`, or a `container.Container`."""

    def run(self, *command: str, data: bytes = b"", seconds: float = 300) -> tuple[int, bytes, str]:
        """A command inside, as root: status, output, errors."""

    def text(self, *command: str, data: bytes = b"", seconds: float = 300) -> str:
        """Its output, whatever its status."""


class Machine:
    """Boots `iso`, which is never written. `firmware`: bios, or uefi (Secure Boot on, Microsoft's keys). `bus`: usb, or
    disk, which emulates in less time. `credentials`: systemd credentials besides the agent's, such as inkstick.toml.
    `devices`: more of QEMU's arguments. `within`: the command in front of QEMU (`Cable.within`)."""

    def __init__(
        self,
        iso: Path,
        firmware: str = "bios",
        bus: str = "disk",
        memory_mib: int = 4096,
        *,
        credentials: Mapping[str, str] | None = None,
        devices: Sequence[str] = (),
        within: Sequence[str] = (),
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="inkstick-vm-")
        self.folder = Path(self._folder.name)
        self._ids, self.uptime = 0, 0.0
        self.started = time.monotonic()
        errors = (self.folder / "qemu.log").open("wb")
        # It ends with us, whatever ends us.
        command = ["setpriv", "--pdeathsig", "TERM", *within, *self._command(iso, firmware, bus, memory_mib)]
        command += [*devices, *self._credentials(credentials or {})]
        self._process = subprocess.Popen(command, stdout=errors, stderr=errors)
        errors.close()
        self._qmp = _connect(self.folder / "qmp", 20)
        self._lines = self._qmp.makefile("rw")
        self._lines.readline()
        self.qmp("qmp_capabilities")
        self._agent = _connect(self.folder / "agent", 20)
        self._answers = self._agent.makefile("r")

    def _command(self, iso: Path, firmware: str, bus: str, memory_mib: int) -> list[str]:
        accelerator, processor, count = EMULATED
        out = ["qemu-system-x86_64", "-accel", accelerator, "-cpu", processor, "-m", str(memory_mib), "-smp", count]
        out += ["-machine", "q35,smm=on", "-display", "none", "-vga", "std", "-nic", "none", "-device", "qemu-xhci"]
        out += ["-drive", f"if=none,id=stick,file={iso},format=raw,snapshot=on"]
        stick = {"usb": "usb-storage,removable=on", "disk": "virtio-blk-pci"}[bus]
        out += ["-device", f"{stick},drive=stick,bootindex=1"]
        out += ["-qmp", f"unix:{self.folder}/qmp,server=on,wait=off", "-device", "virtio-serial"]
        out += ["-chardev", f"socket,id=agent,path={self.folder}/agent,server=on,wait=off"]
        out += ["-device", "virtserialport,chardev=agent,name=org.inkstick.test"]
        if firmware == "uefi":
            variables = self.folder / "variables"
            variables.write_bytes(Path(OVMF_VARS).read_bytes())
            out += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
            out += ["-drive", f"if=pflash,format=raw,unit=0,file={OVMF_CODE},readonly=on"]
            out += ["-drive", f"if=pflash,format=raw,unit=1,file={variables}"]
        return out

    def _credentials(self, more: Mapping[str, str]) -> list[str]:
        given = {
            **more,
            "inkstick.agent": AGENT,
            "systemd.extra-unit.inkstick-test-agent.service": UNIT,
            "systemd.unit-dropin.sysinit.target~test": WANTS,
            "systemd.unit-dropin.inkstick-serve.service~test": PATIENCE,
            "systemd.unit-dropin.inkstick-watch.service~test": PATIENCE,
        }
        out = []
        for number, (name, text) in enumerate(given.items()):
            file = self.folder / f"credential{number}"
            value = base64.b64encode(text.encode()).decode()
            file.write_text(f"io.systemd.credential.binary:{name}={value}", encoding="ascii")
            out += ["-smbios", f"type=11,path={file}"]
        return out

    def qmp(self, command: str, **arguments: Any) -> Any:
        self._lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._lines.flush()
        while True:
            answer = json.loads(self._lines.readline())
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    @property
    def seconds(self) -> float:
        """Since power-on."""
        return time.monotonic() - self.started

    @property
    def processor(self) -> float:
        """Seconds of this computer's processor that QEMU has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def picture(self) -> Image.Image:
        """What the screen shows."""
        file = self.folder / "screen.png"
        self.qmp("screendump", filename=str(file), format="png")
        with Image.open(io.BytesIO(file.read_bytes())) as shown:
            shown.load()
        return shown

    def press(self, *keys: str) -> None:
        """Keys held together, by QEMU's names."""
        self.qmp("send-key", keys=[{"type": "qcode", "data": key} for key in keys])
        time.sleep(0.2)

    def wait(self, seconds: float) -> float:
        """Until the agent is there; seconds since power-on (`uptime`: since the kernel's). Raises TimeoutError."""
        self._agent.settimeout(seconds)
        hello = json.loads(self._answers.readline())
        self.uptime = float(hello["hello"])
        return time.monotonic() - self.started

    def run(self, *command: str, data: bytes = b"", seconds: float = 300) -> tuple[int, bytes, str]:
        """A command inside, as root: status, output, errors."""
        self._ids += 1
        self._agent.settimeout(seconds)
        asked = {"id": self._ids, "run": list(command), "input": base64.b64encode(data).decode()}
        self._agent.sendall((json.dumps(asked) + "\n").encode())
        while (answer := json.loads(self._answers.readline())).get("id") != self._ids:
            pass
        return answer["rc"], base64.b64decode(answer["out"]), answer["err"]

    def text(self, *command: str, data: bytes = b"", seconds: float = 300) -> str:
        """Its output, whatever its status."""
        return self.run(*command, data=data, seconds=seconds)[1].decode(errors="replace")

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for part in (self._lines, self._qmp, self._answers, self._agent):
            part.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connect(path: Path, seconds: float) -> socket.socket:
    until = time.monotonic() + seconds
    while True:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(os.fspath(path))
            return link
        except OSError:
            link.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
