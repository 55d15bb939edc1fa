"""`./build.sh` on a machine that lacks something."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "cat", "dirname", "tr")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout on a machine with next to no programs; its user is not root."""
    shutil.copy(ROOT / "build.sh", tmp_path / "build.sh")
    (tmp_path / "image").symlink_to(ROOT / "image")
    (tmp_path / "bin").mkdir()
    for name in TOOLS:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "/missing")
    program(tmp_path, "id", "echo 1000")
    program(tmp_path, "apt-get", "exit 1")
    return tmp_path


def program(checkout: Path, name: str, does: str) -> None:
    (checkout / "bin" / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    (checkout / "bin" / name).chmod(0o755)


def call(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(checkout / "bin"), "HOME": str(checkout)}
    return subprocess.run([checkout / "build.sh", *words], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("command", ["verify", "flash"])
def test_an_image_is_checked_and_written_by_a_python_without_venv(bare: Path, command: str) -> None:
    """As Debian's is before python3-venv is installed."""
    program(bare, "python3", f'case "$2" in *ensurepip*) exit 1 ;; esac\nexec {sys.executable} "$@"')
    done = call(bare, command, "none.iso", *(["/dev/null"] if command == "flash" else []))
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "build.sh: There is no file none.iso.")


@pytest.mark.parametrize("command", ["verify", "flash"])
def test_without_python_that_is_said(bare: Path, command: str) -> None:
    done = call(bare, command, "none.iso")
    assert done.returncode == 2
    assert done.stderr == "build.sh: no Python 3.11 or later found: sudo apt-get install python3\n"


def test_what_looks_into_a_stick_is_asked_for_wherever_the_stick_is_named(bare: Path) -> None:
    disk = next((entry.path for entry in os.scandir("/dev") if Path(entry.path).is_block_device()), None)
    if disk is None:
        pytest.skip("no disk is to be seen here")
    program(bare, "python3", f'exec {sys.executable} "$@"')
    for words in ([disk], ["--public-key", "key.pub", disk]):
        done = call(bare, "verify", *words)
        assert done.returncode == 2
        assert "sudo apt-get install -y xorriso mtools\n" in done.stderr


@pytest.mark.parametrize("left", ["cut short", "moved"])
def test_an_environment_that_cannot_be_used_is_made_anew(bare: Path, left: str) -> None:
    """Its making was ended by Ctrl-C: it has a python, and no pip yet. Or its folder was renamed: what it installed
    names the old one. Each call ended in "No such file", or "bad interpreter"."""
    for name in ("locks", "pyproject.toml"):
        (bare / name).symlink_to(ROOT / name)
    for name in ("gcc", "pkg-config", "bwrap"):
        program(bare, name, "exit 0")
    for name in ("cut", "grep", "rm", "sha256sum"):
        (bare / "bin" / name).symlink_to(shutil.which(name) or "/missing")
    (bare / ".venv/bin").mkdir(parents=True)
    (bare / ".venv/bin/python").symlink_to(shutil.which("true") or "/missing")
    if left == "moved":
        (bare / ".venv/bin/pip").write_text("#!/home/ann/older/.venv/bin/python3\n")
        (bare / ".venv/bin/pip").chmod(0o755)
        parts = [(ROOT / name).read_bytes() for name in ("locks/build.txt", "locks/runtime.txt", "pyproject.toml")]
        (bare / ".venv/inkstick-stamp").write_text(f"runtime {hashlib.sha256(b''.join(parts)).hexdigest()}\n")
    program(bare, "python3", 'case "$*" in "-m venv .venv") echo made; exit 7 ;; esac\nexit 0')
    done = call(bare, "ocr")
    assert (done.returncode, done.stdout) == (7, "made\n"), done.stderr
