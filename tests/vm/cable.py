"""The other end of a network cable: a network namespace with nothing in it but the cable, and every frame on it kept.

QEMU runs in the namespace, where its port is one end; the test goes in as the computer at the other end. What passes is
written down by QEMU itself, from power-on on, so nothing is missed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from vm.frames import Frame, frames_of

PORT = "cable"
MAC = "52:54:00:49:4e:4b"
CLONE_NEWNET = 0x40000000
SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add "$ip/$mask" dev "$interface"
printf '{"ip": "%s", "mask": "%s", "router": "%s", "dns": "%s"}' "$ip" "$mask" "$router" "$dns" > "$TOLD"
"""


class Cable:
    """Needs root. Give `within` and `devices` to the `Machine`; `plug` once it runs. `address`: the leased one."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="inkstick-cable-")
        self._record = Path(self._folder.name) / "frames"
        self.address = ""
        self._name = f"inkstick-{os.getpid()}-{time.monotonic_ns() % 100000}"
        _ip("netns", "add", self._name)
        self._space = os.open(f"/run/netns/{self._name}", os.O_RDONLY)
        self.within = ("ip", "netns", "exec", self._name)
        # (Without vnet_hdr: QEMU 7.2 would write virtio's header in front of each frame.)
        self.devices = (
            *("-netdev", f"tap,id=cable,ifname={PORT},script=no,downscript=no,vnet_hdr=off"),
            *("-device", f"virtio-net-pci,netdev=cable,mac={MAC}"),
            *("-object", f"filter-dump,id=record,netdev=cable,file={self._record}"),
        )

    def plug(self) -> None:
        """The port comes up; this end says nothing by itself."""
        with self.inside():
            for name in ("all", "default", PORT):
                Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1", encoding="ascii")
        _ip("-n", self._name, "link", "set", "lo", "up")
        _ip("-n", self._name, "link", "set", PORT, "up")

    def lease(self, seconds: float) -> dict[str, str]:
        """Ask for an address as any computer does, and take it: ip, mask, router, dns. Raises CalledProcessError."""
        script, told = Path(self._folder.name) / "leased", Path(self._folder.name) / "lease"
        script.write_text(SCRIPT, encoding="ascii")
        script.chmod(0o755)
        client = ["udhcpc", "-f", "-q", "-n", "-t", str(int(seconds / 3)), "-T", "3", "-i", PORT, "-s", str(script)]
        command = [*self.within, *client]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TOLD": str(told)})
        answer: dict[str, str] = json.loads(told.read_text(encoding="ascii"))
        self.address = answer["ip"]
        return answer

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread, and it alone, is at the other end: sockets that it makes are there."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(self._space)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    def frames(self) -> list[Frame]:
        """All that passed until now, in both directions."""
        return frames_of(self._record.read_bytes())

    def close(self) -> None:
        os.close(self._space)
        subprocess.run(["ip", "netns", "delete", self._name], capture_output=True)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _enter(space: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(space, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")
