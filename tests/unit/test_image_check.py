"""The menu's check of a stick, by the shells and the sha256sum at hand: every damaged file is named, and no other."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

START = Path(__file__).resolve().parents[2] / "image/overlay/base/usr/lib/live/boot/9999-inkstick.sh"
BUSYBOX = "busybox sh"
"""In the first root file system the shell is busybox's, and so are the other programs that coreutils did not bring."""
SAY = """
inkstick_say() { printf '%b\\n' "$@"; }
inkstick_stop() { echo stopped; }
LIVE_BOOT_CMDLINE="$1"
[ "$3" = plain ] || for name in sha256sum find ls tr awk; do eval "$name() { busybox $name \\"\\$@\\"; }"; done
Verify_checksums "$2"
"""


@pytest.fixture(params=["sh", BUSYBOX])
def shell(request: pytest.FixtureRequest) -> list[str]:
    words = str(request.param).split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    return words


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """A medium with small files and a large one, and its sums."""
    files = {
        "live/60-app.squashfs": bytes(range(256)) * 8192,
        "boot/grub/x86/linux.mod": b"linux",
        "boot/grub/fonts/two words.pf2": b"font",
        "empty": b"",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    sums = [f"{hashlib.sha256(content).hexdigest()}  ./{name}\n" for name, content in files.items()]
    (tmp_path / "sha256sum.txt").write_text("".join(sums), encoding="ascii")
    return tmp_path


def check(shell: list[str], stick: Path, words: str = "boot=live verify-checksums") -> list[str]:
    """What it says, line by line."""
    kind = "plain" if shell == ["sh"] else "busybox"
    script = [*shell, "-c", f". {START}\n{SAY}", "sh", words, str(stick), kind]
    said = subprocess.run(script, capture_output=True, text=True, check=True)
    assert said.stderr == ""
    return [line.strip() for line in said.stdout.splitlines()]


def test_a_whole_stick_is_good_and_its_large_files_are_told_as_they_are_read(shell: list[str], stick: Path) -> None:
    said = check(shell, stick)
    assert "live/60-app.squashfs (2 MB)" in said
    assert said[-2:] == ["THE STICK IS GOOD: every file is what was written.", "stopped"]
    assert not any("DAMAGED" in line or "linux.mod" in line for line in said)


def test_every_damaged_file_is_named_and_no_other(shell: list[str], stick: Path) -> None:
    large = stick / "live/60-app.squashfs"
    data = bytearray(large.read_bytes())
    data[len(data) // 2] ^= 1
    large.write_bytes(data)
    (stick / "boot/grub/x86/linux.mod").unlink()
    (stick / "boot/grub/fonts/two words.pf2").write_bytes(b"fond")
    (stick / "empty").write_bytes(b"\0")
    said = check(shell, stick)
    assert [line.removeprefix("DAMAGED: ") for line in said if line.startswith("DAMAGED: ")] == [
        "live/60-app.squashfs", "boot/grub/x86/linux.mod", "boot/grub/fonts/two words.pf2", "empty",
    ]  # fmt: skip
    assert said[-2].startswith("THE STICK IS DAMAGED") and said[-1] == "stopped"


def test_sums_that_are_damaged_themselves_are_no_good_stick(shell: list[str], stick: Path) -> None:
    sums = stick / "sha256sum.txt"
    sums.write_text(sums.read_text(encoding="ascii").replace("  ./empty", "\x01./empty"), encoding="ascii")
    assert check(shell, stick)[-2].startswith("THE STICK IS DAMAGED")


def test_a_list_of_sums_that_cannot_be_read_is_no_good_stick(shell: list[str], stick: Path) -> None:
    (stick / "sha256sum.txt").write_bytes(b"")
    said = check(shell, stick)
    assert "DAMAGED: sha256sum.txt" in said and said[-2].startswith("THE STICK IS DAMAGED")


def test_a_start_checks_nothing_and_goes_on(shell: list[str], stick: Path) -> None:
    (stick / "empty").write_bytes(b"damaged")
    assert check(shell, stick, "boot=live quiet") == []
