"""External programs: which the build needs, and one way to run them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from inkstick_image.errors import ImageError

# program → Debian package that has it
BUILD = {
    "apt-get": "apt",
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "unsquashfs": "squashfs-tools",
    "openssl": "openssl",
    "xorriso": "xorriso",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "veritysetup": "cryptsetup-bin",
    "dpkg-deb": "dpkg",
    "mount": "mount",  # a small Debian 13 lacks it
}
RUN = {"qemu-system-x86_64": "qemu-system-x86"}
FIRMWARE = {"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd": "ovmf"}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def missing(programs: Mapping[str, str]) -> list[str]:
    """Debian packages whose program is not on this machine, in order, each once."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return list(
        dict.fromkeys(package for program, package in programs.items() if shutil.which(program, path=path) is None)
    )


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
) -> str:
    """Run to the end; its standard output. What tells our own Python where its parts are is kept from other trees'
    Pythons (an installation script's, say), and whoever calls gives no dates but the recipe's: mksquashfs takes no two.
    It speaks English, as what is read here has to; a byte that is no letter is put up with. With `log`, everything it
    says is appended there.

    Raises ImageError with the last lines of what it said."""
    words = [str(word) for word in command]
    started = time.monotonic()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name != "SOURCE_DATE_EPOCH"
    }
    environment = {**inherited, "LC_ALL": "C.UTF-8", **(env or {})}
    done = subprocess.run(words, env=environment, cwd=cwd, capture_output=True, encoding="utf-8", errors="replace")
    if log is not None:
        with log.open("a", encoding="utf-8") as out:
            seconds = time.monotonic() - started
            out.write(f"$ {shlex.join(words)}\n{done.stdout}{done.stderr}[{seconds:.1f} s]\n\n")
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ImageError(
            f"{words[0]} failed ({done.returncode}):\n{tail}", f"The whole call: {shlex.join(words)[:2000]}"
        )
    return done.stdout


def to_disk(path: Path) -> None:
    """All that was written to the file system of `path` is on the disk on return: what gets its final name after this
    is whole after a power cut too."""
    run(["sync", "--file-system", path])
