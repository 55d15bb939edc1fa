"""The layers of an image started natively by systemd-nspawn: the image's own systemd and units without a kernel, so at
full speed. For what emulation would take an hour over. It needs root and the kernel's squashfs and overlay."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

UNITS = "/etc/systemd/system"
WITHOUT_A_MACHINE: Mapping[str, str | None] = {
    **{f"{UNITS}/inkstick-{name}.service": None for name in ("console", "firewall", "keeper", "layers", "share")},
    f"{UNITS}/var-lib-inkstick.mount": """[Mount]
What=tmpfs
Where=/var/lib/inkstick
Type=tmpfs
Options=uid=800,gid=800,mode=0750,nodev,nosuid,noexec
""",
}
"""Laid over an image: nothing starts that looks after a machine; documents lie in memory, as by the unit replaced."""
NEEDS = ("systemd-nspawn", "nsenter", "mount", "umount", "xorriso")
CGROUPS = {"UNIFIED_CGROUP_HIERARCHY": "1", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class CannotStart(Exception):
    """No container starts on this machine; the message says what stood in the way."""


class Container:
    """`iso`: whose layers. `files`: laid over them, by their path inside (None: the unit of that name does not exist).
    `mounts`: folders of this machine, shown read-only at a path inside. Raises CannotStart."""

    def __init__(self, iso: Path, files: Mapping[str, str | None], mounts: Mapping[str, Path]) -> None:
        if missing := [name for name in NEEDS if shutil.which(name) is None]:
            raise CannotStart(f"{', '.join(missing)} not found")
        self._stack = contextlib.ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="inkstick-container-")))
        try:
            self.root = self._layers(iso)
            for inside, text in files.items():
                self._lay(inside, text)
            self._process = self._start(mounts)
            self.first = self._first()
        except (OSError, subprocess.CalledProcessError) as error:
            self._stack.close()
            raise CannotStart(str(error)) from error
        except BaseException:
            self._stack.close()
            raise

    def _mount(self, name: str, *arguments: str | Path) -> Path:
        place = self.folder / name
        place.mkdir()
        subprocess.run(["mount", *arguments, place], check=True)
        self._stack.callback(lambda: subprocess.run(["umount", "--lazy", place], check=False))
        return place

    def _layers(self, iso: Path) -> Path:
        # (taken out: not every kernel here reads a medium's file system)
        command = ["xorriso", "-osirrox", "on", "-indev", str(iso), "-extract", "/live", str(self.folder / "live")]
        subprocess.run(command, check=True, capture_output=True)
        layers = sorted((self.folder / "live").glob("*.squashfs"), reverse=True)
        below = ":".join(str(self._mount(path.stem, "-o", "loop,ro", path)) for path in layers)
        memory = self._mount("memory", "-t", "tmpfs", "tmpfs")
        for name in ("upper", "work"):
            (memory / name).mkdir()
        options = f"lowerdir={below},upperdir={memory}/upper,workdir={memory}/work"
        return self._mount("root", "-t", "overlay", "-o", options, "overlay")

    def _lay(self, inside: str, text: str | None) -> None:
        path = self.root / inside.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if text is None:
            path.symlink_to("/dev/null")
        else:
            path.write_text(text, encoding="utf-8")

    def _start(self, mounts: Mapping[str, Path]) -> subprocess.Popen[bytes]:
        # (the kernel's log and the right to read it: systemd hands it to units that ask for it)
        options = ["--boot", "--register=no", "--keep-unit", "--private-network", "--console=pipe", "--quiet"]
        options += ["--capability=CAP_SYSLOG", "--bind=/dev/kmsg", "--directory", str(self.root)]
        options += [f"--bind-ro={outside}:{inside}" for inside, outside in mounts.items()]
        log = self._stack.enter_context((self.folder / "log").open("wb"))
        process = subprocess.Popen(
            ["systemd-nspawn", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=CGROUPS
        )
        self._stack.callback(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _first(self) -> int:
        """The number of its process 1, as seen from outside."""
        end = time.monotonic() + 60
        while time.monotonic() < end and self._process.poll() is None:
            pid = self._process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
            if children and Path(f"/proc/{children[0]}/comm").read_text(encoding="utf-8").strip() == "systemd":
                return int(children[0])
            time.sleep(0.2)
        raise CannotStart((self.folder / "log").read_text(errors="replace")[-2000:] or "its systemd did not start")

    def run(self, *command: str, data: bytes = b"", seconds: float = 300) -> tuple[int, bytes, str]:
        """A command inside, as root: status, output, errors."""
        enter: Sequence[str] = ["nsenter", "--target", str(self.first), "--mount", "--uts", "--ipc", "--net", "--pid"]
        enter = [*enter, "--cgroup", "--root", "--wd"]
        done = subprocess.run([*enter, *command], input=data, capture_output=True, timeout=seconds)
        return done.returncode, done.stdout, done.stderr.decode(errors="replace")

    def text(self, *command: str, data: bytes = b"", seconds: float = 300) -> str:
        """Its output, whatever its status."""
        return self.run(*command, data=data, seconds=seconds)[1].decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


@contextlib.contextmanager
def started(iso: Path, files: Mapping[str, str | None], mounts: Mapping[str, Path]) -> Iterator[Container]:
    """For a fixture: skips, with the reason, where none starts. (That the image does, a virtual machine shows.)"""
    try:
        inside = Container(iso, files, mounts)
    except CannotStart as why:
        pytest.skip(f"no container starts here: {why}")
    with inside:
        yield inside
