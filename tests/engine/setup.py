"""The engine's own Python environment for tests: vLLM 0.19.1 for the CPU, from the hash lock; and the tiny checkpoints.

    .venv/bin/python tests/engine/setup.py          make or check both, print their places as JSON

The environment is `.engine/` in the checkout. Where it is missing, one made earlier for the same locks is taken from
~/.cache/inkstick (moved there by nobody: it is a folder of its own that `.engine` points to), else it is installed:
about 8 GB. Raises `Missing`, with a plain reason, where that cannot be done.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from engine import pages
from inkstick.supervise.python import NEWER, newer_transformers

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inkstick"
LOCKS = (ROOT / "locks" / "engine-cpu.txt", ROOT / "locks" / "engine-transformers.txt")
BYTES = 14 << 30
"""Free space that an installation wants: 8 GB of environment, and 4 GB of packages until they are unpacked."""
INSTALL_SECONDS, TRAIN_SECONDS = 2400, 1800
TRIES = 2
"""A connection that breaks is no reason to skip the tests."""


class Missing(Exception):
    """The engine cannot be had on this machine; the message says why."""


class Failed(Exception):
    """It can be had, but something of ours went wrong; the message says what. Never a reason to skip."""


@dataclass(frozen=True)
class Engine:
    """`python`: of the engine's environment. `model`: the tiny checkpoint, `paddle`: the one of PaddleOCR-VL's kind.
    `pages`: the pages that both know, as PNG."""

    python: Path
    model: Path
    paddle: Path
    pages: Path


def ready() -> Engine:
    """Everything, made now where it is not there. Raises Missing."""
    python = environment()
    drawn = _drawn()
    with ThreadPoolExecutor(2) as pool:  # each trains on one core
        model, other = pool.submit(tiny, python, drawn), pool.submit(paddle, python, drawn)
        return Engine(python, model.result(), other.result(), drawn)


def key(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def environment() -> Path:
    """The Python of an environment that holds exactly the locks and the plug-in."""
    plugin = [path.read_bytes() for path in sorted((HERE / "plugin").glob("*.*"))]
    stamp = key(*(lock.read_bytes() for lock in LOCKS), *plugin)
    here = ROOT / ".engine"
    for folder in (here, CACHE / f"engine-{stamp}"):
        if _holds(folder, stamp):
            return folder / "bin" / "python"
    _can_install()
    folder = CACHE / f"engine-{stamp}"
    _install(folder)
    (folder / "inkstick-stamp").write_text(stamp)
    if not here.exists():
        here.symlink_to(folder)
    return folder / "bin" / "python"


def _holds(folder: Path, stamp: str) -> bool:
    """The stamp is written last: an environment half made has none. It must also start."""
    file = folder / "inkstick-stamp"
    if not file.is_file() or file.read_text() != stamp or newer_transformers(folder / "bin" / "python") is None:
        return False
    return subprocess.run([str(folder / "bin" / "python"), "-c", "import torch"], capture_output=True).returncode == 0


def _can_install() -> None:
    if platform.machine() != "x86_64" or sys.platform != "linux":
        raise Missing(f"vLLM for the CPU is locked for Linux on x86-64, this is {sys.platform} on {platform.machine()}")
    if sys.version_info[:2] != (3, 11):
        raise Missing(f"vLLM for the CPU is locked for Python 3.11, this is {platform.python_version()}")
    CACHE.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(CACHE).free
    if free < BYTES:
        raise Missing(f"installing vLLM for the CPU wants {BYTES >> 30} GiB of disk, {free >> 30} GiB are free")


def _install(folder: Path) -> None:
    """With pip alone, every hash checked, nothing that is not in the locks."""
    print(f"installing vLLM for the CPU into {folder} (about 8 GB)", flush=True)
    for old in CACHE.glob("engine-*"):
        shutil.rmtree(old, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)], "making the environment")
    pip = [
        str(folder / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-deps",
        "--retries=10",
        "--timeout=60",
    ]
    whole, newer = (str(lock) for lock in LOCKS)
    _run([*pip, "--no-cache-dir", "--require-hashes", "-r", whole], "installing vLLM for the CPU", tries=TRIES)
    beside = ["--require-hashes", "--target", str(folder / NEWER), "-r", newer]
    _run([*pip, *beside], "installing a newer transformers", tries=TRIES)
    with tempfile.TemporaryDirectory() as scratch:  # building in place would leave files in the checkout
        copy = shutil.copytree(HERE / "plugin", Path(scratch) / "plugin")
        _run([*pip, "--no-build-isolation", "--no-index", str(copy)], "installing the plug-in")


def _drawn() -> Path:
    """The pages, drawn by this environment's own libraries, in a folder named after what they show."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        pages.write(fresh)
        name = key(*(path.read_bytes() for path in sorted(fresh.iterdir())))
        folder = CACHE / f"pages-{name}"
        if not folder.is_dir():
            CACHE.mkdir(parents=True, exist_ok=True)
            part = folder.with_name(f"{folder.name}.part{os.getpid()}")
            shutil.copytree(fresh, part)
            part.rename(folder)
    return folder


def tiny(python: Path, drawn: Path) -> Path:
    """The tiny HunYuanVL checkpoint that reads `drawn`."""
    return _trained("tiny", python, drawn, [HERE / "tiny.py"])


def paddle(python: Path, drawn: Path) -> Path:
    """The tiny PaddleOCR-VL checkpoint that reads `drawn`."""
    code = sorted((HERE / "paddle_code").glob("*.py"))
    return _trained("paddle", python, drawn, [HERE / "paddle.py", HERE / "tiny.py", *code])


def _trained(name: str, python: Path, drawn: Path, sources: list[Path]) -> Path:
    """What the first of `sources` trains, from the cache where it is there; else made now, in one to four minutes."""
    stamp = key(*(source.read_bytes() for source in sources), drawn.name.encode(), LOCKS[1].read_bytes())
    folder = CACHE / f"{name}-{stamp}"
    if (folder / "trained").is_file():
        return folder
    what = f"training the tiny checkpoint ({sources[0].name})"
    print(what, flush=True)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    closed = {"PATH": os.environ["PATH"], "HOME": str(part), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    newer = python.parent.parent / NEWER
    _run(
        [str(python), str(sources[0]), str(drawn), str(part)],
        what,
        seconds=TRAIN_SECONDS,
        error=Failed,
        environment=closed | {"PYTHONPATH": str(newer), "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"},
    )
    (part / "trained").touch()
    for old in CACHE.glob(f"{name}-????????????????"):
        shutil.rmtree(old, ignore_errors=True)
    part.rename(folder)
    return folder


def _run(
    command: list[str],
    what: str,
    *,
    seconds: float = INSTALL_SECONDS,
    environment: dict[str, str] | None = None,
    error: type[Exception] = Missing,
    tries: int = 1,
) -> None:
    started = time.monotonic()
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise error(f"{what} took longer than {seconds:.0f} s") from None
    if done.returncode and tries > 1:
        print(f"{what} failed; once more", flush=True)
        return _run(command, what, seconds=seconds, environment=environment, error=error, tries=tries - 1)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise error(f"{what} failed: {last}")
    print(f"ok   {what} ({time.monotonic() - started:.0f} s)", flush=True)
    return None


if __name__ == "__main__":
    try:
        found = ready()
    except Missing as missing:
        print(f"no real vLLM here: {missing}", file=sys.stderr)
        sys.exit(3)
    except Failed as failed:
        sys.exit(str(failed))
    print(json.dumps({name: str(value) for name, value in asdict(found).items()}))
