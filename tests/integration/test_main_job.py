"""The main job as a user meets it: `inkstick run` as a process tree, files dropped into the inbox, the CPU engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from inkstick.plain import NO_TLS
from support.cer import error_rate

SAMPLES = Path(__file__).parent.parent / "samples"


class Running:
    """`inkstick run` on a data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        environment = {**os.environ, "INKSTICK_SETTLE_SECONDS": "0.5", "INKSTICK_RESERVE_BYTES": "0"}
        command = [sys.executable, "-m", "inkstick.cli", "run", "--data", str(data), "--port", "0"]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait(self, good: Callable[[], Any], seconds: float = 90) -> Any:
        """Until `good` gives something; what it gave."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.process.stdout and self.process.stdout.read()
            if found := good():
                return found
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds} s: {self.documents()}")

    def address(self) -> str:
        (text,) = [path.read_text().strip() for path in self.data.glob("state/address")]
        return text.rstrip("/")

    def documents(self) -> list[dict[str, Any]]:
        try:
            return list(httpx.get(f"{self.address()}/api/v1/documents", timeout=5, verify=NO_TLS).json()["documents"])
        except (httpx.HTTPError, ValueError):
            return []

    def child(self, name: str) -> int:
        """The process id of `inkstick serve` or `inkstick watch`."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return next(int(child) for child in children if name in Path(f"/proc/{child}/cmdline").read_text().split("\0"))

    def drop(self, *names: str) -> None:
        for name in names:
            shutil.copy(SAMPLES / name, self.data / "inbox" / name)


@contextmanager
def running(data: Path) -> Iterator[Running]:
    tree = Running(data)
    try:
        yield tree
    finally:
        tree.process.send_signal(signal.SIGTERM)
        try:
            tree.process.wait(15)
        finally:
            tree.process.kill()


def text_of(data: Path, name: str) -> str:
    return (data / "results" / name / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.timeout(240)
def test_dropped_scans_become_text_even_when_the_service_is_killed_on_the_way(tmp_path: Path) -> None:
    data, names = tmp_path / "data", ["english-letter.pdf", "chinese-notice.pdf", "rotated-90.png"]
    with running(data) as tree:
        tree.wait(lambda: list(data.glob("state/address")))
        tree.drop(*names)
        tree.wait(lambda: len(tree.documents()) == len(names))
        os.kill(tree.child("serve"), signal.SIGKILL)
        tree.wait(lambda: len(list((data / "done").iterdir())) == len(names), 150)
    for name in names:
        stem = name.split(".")[0]
        truth = (SAMPLES / "truth" / f"{stem}.txt").read_text(encoding="utf-8")
        assert error_rate(text_of(data, stem), truth) <= 0.005, name
        assert (data / "done" / name).read_bytes() == (SAMPLES / name).read_bytes()
    rotated = json.loads((data / "results/rotated-90/rotated-90.json").read_text(encoding="utf-8"))
    assert rotated["pages"][0]["flags"] == ["rotated"]
    assert not list((data / "inbox").glob("[!.]*"))
    assert sorted(path.name for path in (data / "results").iterdir()) == sorted(name.split(".")[0] for name in names)
