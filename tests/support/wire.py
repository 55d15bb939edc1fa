"""Two network namespaces and a cable between them, on which real packets travel. As root, on Linux."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from inkstick_provisioning import network

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Wire:
    """Two network namespaces and a cable between them: `here` is the appliance, `there` somebody's laptop."""

    here: str
    there: str

    def inside(self, where: str, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        whole = ["ip", "netns", "exec", where, *command]
        return subprocess.run(whole, input=text, capture_output=True, text=True, timeout=60, env={"PATH": PATH})

    def rules(self, text: str) -> None:
        done = self.inside(self.here, "nft", "-f", "-", text=text)
        assert done.returncode == 0, done.stderr

    def dropped(self) -> dict[str, int]:
        done = self.inside(self.here, "nft", "--json", "list", "counters", "table", "inet", "inkstick")
        return network.dropped(json.loads(done.stdout))

    def reaches(self, server: str, client: str, address: str, port: int, expected: bool) -> bool:
        """Whether a connection from `client` to a listener in `server` comes about and carries a byte. What is expected
        is waited for with patience; what is not, for a moment."""
        patience = 50 if expected else 1.5
        code = f"import socket,sys; s=socket.create_server(('', {port})); print('up',flush=True); s.settimeout(55)\n"
        code += "c,_=s.accept(); c.sendall(b'!'); c.close()"
        listen = ["ip", "netns", "exec", server, sys.executable, "-c", code]
        with subprocess.Popen(listen, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout and process.stdout.readline() == "up\n"
            try:
                ask = f"import socket; s=socket.create_connection(('{address}', {port}), {patience}); print(s.recv(1))"
                return "b'!'" in self.inside(client, sys.executable, "-c", ask).stdout
            finally:
                process.kill()


@contextlib.contextmanager
def laid() -> Iterator[Wire]:
    """A cable with its two ends; the test is skipped, with the reason, where there can be none."""
    if os.geteuid() != 0 or not shutil.which("nft", path=PATH) or not shutil.which("ip", path=PATH):
        pytest.skip("needs root, nftables and iproute2")
    mark = uuid.uuid4().hex[:6]
    cable = Wire(f"ink-here-{mark}", f"ink-there-{mark}")
    made = [
        ["netns", "add", cable.here],
        ["netns", "add", cable.there],
        ["-n", cable.here, "link", "add", "cable0", "type", "veth", "peer", "name", "cable0", "netns", cable.there],
        ["-n", cable.here, "addr", "add", "10.77.0.1/24", "dev", "cable0"],
        ["-n", cable.there, "addr", "add", "10.77.0.50/24", "dev", "cable0"],
        *(["-n", end, "link", "set", link, "up"] for end in (cable.here, cable.there) for link in ("lo", "cable0")),
    ]
    try:
        for command in made:
            done = subprocess.run(["ip", *command], capture_output=True, text=True, env={"PATH": PATH})
            if done.returncode != 0:
                pytest.skip(f"no network namespaces here: {done.stderr.strip()}")
        probe = cable.inside(cable.here, "nft", "-f", "-", text="table inet probe { }\n")
        if probe.returncode != 0:
            pytest.skip(f"no nftables in this kernel: {probe.stderr.strip()}")
        yield cable
    finally:
        for name in (cable.here, cable.there):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, env={"PATH": PATH})
