"""The engine's own Python environments, from the hash locks: the vLLM that the appliance pins, and a newer one.

An environment is a folder below ~/.cache/inkstick named after its locks and plug-in; it gets that name, by one rename,
only when it is whole and was seen to start. Nothing depends on what an earlier run left there, and what an interrupted
one left is removed. (Its programs in bin/ name the folder that it was made in: only its `bin/python` is used.)
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inkstick.supervise.python import NEWER

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inkstick"
INSTALL_SECONDS = 2400.0
TRIES = 3
"""A connection that breaks is no reason to skip the tests. What has arrived is kept for the next try."""
MISMATCH = "DO NOT MATCH THE HASHES"
"""pip's words for a file that is another than the lock's: never a reason to skip."""
PART = 12
"""Packages that are fetched together."""
FORGOTTEN_DAYS = 14
"""Entries of the cache that nothing has used for so long are removed when another of their kind is made."""


class Missing(Exception):
    """The engine cannot be had on this machine; the message says why."""


class Failed(Exception):
    """It can be had, but something of ours went wrong; the message says what. Never a reason to skip."""


@dataclass(frozen=True)
class Kind:
    """`lock`: its packages, in locks/, for that version of `python`. `beside`: those of a newer transformers in a
    folder of its own. `plugin`: what of ours vLLM loads. `needs`: what must be importable. `gib`: free space for all of
    it, and for its packages meanwhile."""

    name: str
    title: str
    lock: str
    beside: str | None
    plugin: str | None
    needs: str
    gib: int = 14
    python: str = "3.11"

    @property
    def locks(self) -> tuple[Path, ...]:
        return tuple(ROOT / "locks" / name for name in (self.lock, self.beside) if name)

    @property
    def folder(self) -> Path:
        files = sorted((HERE / self.plugin).glob("*.*")) if self.plugin else []
        plugin = [path.read_bytes() for path in files]
        return CACHE / f"{self.name}-{key(*(lock.read_bytes() for lock in self.locks), *plugin)}"


PINNED = Kind(
    name="engine", title="vLLM 0.19.1 for the CPU", lock="engine-cpu.txt", beside="engine-transformers.txt",
    plugin="plugin", needs="torch, vllm, inkstick_vllm_cpu_mend",
)  # fmt: skip
CUDA = Kind(
    name="cuda", title="vLLM 0.19.1 for NVIDIA GPUs", lock="engine-gpu.txt", beside="engine-transformers.txt",
    plugin=None, needs="torch, vllm", gib=16, python="3.13",
)  # fmt: skip
"""The image's own; for a checkout on a machine with a GPU."""
NEWEST = Kind(
    name="newer", title="vLLM 0.32.0 for the CPU", lock="engine-newer.txt", beside=None, plugin="plugin_newer",
    needs="torch, vllm, inkstick_vllm_newer_mend",
)  # fmt: skip


def key(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def python_of(kind: Kind) -> Path:
    """The Python of an environment of this kind, made now where there is none. Raises Missing."""
    if any(not lock.is_file() for lock in kind.locks):
        raise Missing(f"the locks of {kind.title} are not in this checkout")
    folder = kind.folder
    with entry(folder, good=lambda: _starts(folder, "torch")) as part:
        if part is not None:
            _install(kind, part, _base(kind))
    return folder / "bin" / "python"


def exporter(python: Path) -> Path:
    """A folder with what torch needs besides to write ONNX; `python`: of the pinned environment. Raises Missing."""
    lock = ROOT / "locks" / "engine-layout.txt"
    folder = CACHE / f"onnx-{key(lock.read_bytes())}"
    with entry(folder) as part:
        if part is not None:
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                packages(python, lock, Path(scratch), "the writer of ONNX", "--target", str(part))
    return folder


def linked(kind: Kind = PINNED) -> Path:
    """The environment's Python by way of `.engine` in the checkout, where `inkstick` looks for it. A folder of that
    name that somebody made by hand stays as it is."""
    here, python = ROOT / ".engine", python_of(kind)
    if here.is_symlink():
        here.unlink()
    if not here.exists():
        here.symlink_to(python.parent.parent)
    return here / "bin" / "python"


@contextmanager
def entry(folder: Path, good: Callable[[], bool] = lambda: True) -> Iterator[Path | None]:
    """Yield None where the cache holds `folder`; else a place to fill, which gets its name when the block ends well.
    One process at a time. An entry that is no longer `good` is made anew."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        _wait_for(lock.fileno(), folder.name)
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)  # an interrupted one's
        if folder.is_dir() and good():
            os.utime(folder)
            yield None
            return
        shutil.rmtree(folder, ignore_errors=True)
        try:
            yield part
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        _forget(folder)


def _wait_for(lock: int, name: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process that makes {name}", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _forget(made: Path) -> None:
    """Remove what was made for other locks or pages and not used since."""
    name = made.name.rsplit("-", 1)[0]
    for old in CACHE.glob(f"{name}-{'?' * 16}"):
        if old != made and time.time() - old.stat().st_mtime > FORGOTTEN_DAYS * 86400:
            shutil.rmtree(old, ignore_errors=True)


def _starts(folder: Path, modules: str) -> bool:
    python = folder / "bin" / "python"
    return (
        python.is_file()
        and subprocess.run([str(python), "-c", f"import {modules}"], capture_output=True).returncode == 0
    )


def _base(kind: Kind) -> str:
    """The Python that the environment is made with. Raises Missing where it cannot be made here."""
    if platform.machine() != "x86_64" or sys.platform != "linux":
        raise Missing(f"{kind.title} is locked for Linux on x86-64, this is {sys.platform} on {platform.machine()}")
    own = f"{sys.version_info[0]}.{sys.version_info[1]}" == kind.python
    base = sys.executable if own else shutil.which(f"python{kind.python}")
    if base is None:
        raise Missing(f"{kind.title} is locked for Python {kind.python}, and there is no python{kind.python} here")
    free = shutil.disk_usage(CACHE).free >> 30
    if free < kind.gib:
        raise Missing(f"installing {kind.title} wants {kind.gib} GiB of disk in {CACHE}, {free} GiB are free")
    return base


def _install(kind: Kind, folder: Path, base: str) -> None:
    """With pip alone, every hash checked, nothing that is not in the locks, and tried before it is believed."""
    print(f"installing {kind.title} into {kind.folder} (about 8 GB; minutes)", flush=True)
    run([base, "-m", "venv", str(folder)], "making the environment", error=Missing)
    python = folder / "bin" / "python"
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:  # not in /tmp, which may be memory
        packages(python, kind.locks[0], Path(scratch), kind.title)
        if kind.beside:
            beside = ("--target", str(folder / NEWER))
            packages(python, kind.locks[1], Path(scratch), "a newer transformers", *beside)
        if kind.plugin:
            plugin = shutil.copytree(HERE / kind.plugin, Path(scratch) / "plugin")  # built there, not in the checkout
            run([*_pip(python, "install"), "--no-build-isolation", "--no-index", str(plugin)], "installing the plug-in")
    run([str(python), "-c", f"import {kind.needs}"], f"starting {kind.title}", seconds=600)


def _pip(python: Path, command: str) -> list[str]:
    compiling = ["--no-compile"] if command == "install" else []  # of 60,000 files a hundredth is ever run
    return [str(python), "-m", "pip", "--disable-pip-version-check", command, "--quiet", "--no-deps", *compiling]


def packages(python: Path, lock: Path, scratch: Path, title: str, *options: str) -> None:
    """Install a lock part by part: one is fetched while another is unpacked, and what fails is fetched again alone."""
    parts = parts_of(lock.read_text(encoding="utf-8"), PART)
    closed = os.environ | {"TMPDIR": str(scratch)}

    def fetched(number: int) -> Path:
        wheels = scratch / f"{lock.stem}-{number}"
        wheels.mkdir()
        (wheels / "lock.txt").write_text(parts[number], encoding="utf-8")
        command = [*_pip(python, "download"), "--no-cache-dir", "--retries=10", "--timeout=60", "--require-hashes"]
        where = ["--dest", str(wheels), "-r", str(wheels / "lock.txt")]
        what = f"fetching {title}, part {number + 1} of {len(parts)}"
        run([*command, *where], what, environment=closed, error=Missing, tries=TRIES)
        return wheels

    with ThreadPoolExecutor(1) as fetcher:
        coming = [fetcher.submit(fetched, number) for number in range(len(parts))]
        try:
            for number, part in enumerate(coming, 1):
                wheels = part.result()
                here = ["--no-index", "--find-links", str(wheels), "--require-hashes", "-r", str(wheels / "lock.txt")]
                what = f"installing {title}, part {number} of {len(parts)}"
                run([*_pip(python, "install"), *options, *here], what, environment=closed)
                shutil.rmtree(wheels)
        finally:
            fetcher.shutdown(cancel_futures=True)


def parts_of(lock: str, size: int) -> list[str]:
    """The lock's requirements, each with its hashes, in groups of at most `size`.

    `==2.13.0` would mean 2.13.0+cpu too, and where a machine's own pip settings name a folder with that build, pip
    prefers it and only then finds that its hash is another. `===` means that version and no other build of it.
    """
    whole = re.split(r"(?m)^(?=[A-Za-z0-9])", lock)
    wanted = [requirement.replace("==", "===", 1) for requirement in whole if "==" in requirement]
    return ["".join(wanted[at : at + size]) for at in range(0, len(wanted), size)]


def run(
    command: list[str],
    what: str,
    *,
    seconds: float = INSTALL_SECONDS,
    environment: dict[str, str] | None = None,
    error: type[Exception] = Failed,
    tries: int = 1,
) -> None:
    """Run to its end and say how long it took; tried again, what fails at last raises `error` with its last line."""
    started = time.monotonic()
    for left in reversed(range(tries)):
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise error(f"{what} took longer than {seconds:.0f} s") from None
        if done.returncode == 0:
            print(f"ok   {what} ({time.monotonic() - started:.0f} s)", flush=True)
            return
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        if MISMATCH in done.stderr:
            raise Failed(f"{what}: a package is not the one that the lock names. {last}")
        if left:
            print(f"{what} failed; once more: {last}", flush=True)
    raise error(f"{what} failed: {last}")
