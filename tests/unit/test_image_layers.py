"""Layers: how they are stacked at the start, and the check after boot: what the kernel says about them → verified,
unverified or damaged."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

OVERLAY = Path(__file__).resolve().parents[2] / "image/overlay"
SOURCE = OVERLAY / "app/usr/lib/inkstick/layers.py"
START = OVERLAY / "base/usr/lib/live/boot/9999-inkstick.sh"
CMDLINE = "BOOT_IMAGE=/live/vmlinuz boot=live dm-verity-root-hash=10-base.squashfs:aa,60-app.squashfs:bb quiet"
MOUNTS = """25 1 0:22 / / rw,noatime - overlay overlay rw
26 25 254:0 / /run/live/rootfs/10-base.squashfs ro,noatime - squashfs /dev/mapper/libmnt_a ro
27 25 254:1 / /run/live/rootfs/60-app.squashfs ro,noatime - squashfs /dev/mapper/libmnt_b ro
"""
TABLE = """libmnt_a: 0 344 verity 1 7:0 7:1 4096 4096 43 1 sha256 aa -
libmnt_b: 0 8 verity 1 7:2 7:3 4096 4096 1 1 sha256 bb -
"""
STATUS = "libmnt_a: 0 344 verity V\nlibmnt_b: 0 8 verity V\n"
INFO = "libmnt_a:254:0\nlibmnt_b:254:1\n"
NAMES = ["10-base.squashfs", "60-app.squashfs"]


@pytest.fixture(scope="module")
def layers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_layers", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def said(
    layers: ModuleType, table: str = TABLE, status: str = STATUS, mounts: str = MOUNTS, line: str = CMDLINE
) -> str:
    found = layers.judge(layers.expected(line), NAMES, layers.mounted(mounts), layers.targets(table, status, INFO))
    report = layers.report(found)
    return f"{report['state']} {' '.join(report['bad'])}".strip()


def test_all_layers_through_verity_with_their_hashes_are_verified(layers: ModuleType) -> None:
    assert said(layers) == "verified"


@pytest.mark.parametrize(
    ("what", "changed", "answer"),
    [
        ("mounts", MOUNTS.replace("254:1", "7:2"), "unverified 60-app.squashfs"),  # live-boot's silent way out
        ("mounts", MOUNTS.replace("60-app", "61-more"), "unverified 60-app.squashfs 61-more.squashfs"),
        ("table", TABLE.replace("sha256 aa", "sha256 cc"), "unverified 10-base.squashfs"),
        ("table", TABLE.replace("verity 1", "linear 1"), "unverified 10-base.squashfs 60-app.squashfs"),
        ("table", "", "unverified 10-base.squashfs 60-app.squashfs"),
        ("line", "boot=live quiet", "unverified 10-base.squashfs 60-app.squashfs"),
        ("status", STATUS.replace("8 verity V", "8 verity C"), "damaged 60-app.squashfs"),
    ],
)
def test_anything_else_is_told_with_the_layer_s_name(layers: ModuleType, what: str, changed: str, answer: str) -> None:
    assert said(layers, **{what: changed}) == answer


def test_a_system_without_layers_is_not_verified(layers: ModuleType) -> None:
    assert layers.state([]) == "unverified"


def test_the_state_file_is_replaced_whole(layers: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    for word in ("verified", "damaged"):
        layers.write({"state": word}, path)
        assert json.loads(path.read_text())["state"] == word
    assert [file.name for file in tmp_path.iterdir()] == ["layers.json"]


def test_no_number_of_layers_makes_an_option_that_the_kernel_s_mount_interface_refuses(tmp_path: Path) -> None:
    """A value of more than 255 bytes is refused there, and mount says "wrong fs type"."""
    layers = [f"/run/live/rootfs/{number}-runtime.squashfs" for number in range(30, 9, -1)]
    said = 'mount() { printf "%s\\n" "$@"; }; do_union /root "$0/over" "$@"'
    script = ["sh", "-c", f". {START}; {said}", str(tmp_path), *layers]
    words = subprocess.run(script, check=True, capture_output=True, text=True).stdout.splitlines()
    assert words[:3] == ["-t", "overlay", "-o"] and words[4:] == ["overlay", "/root"]
    options = [option.partition("=") for option in words[3].split(",")]
    assert [value for name, _, value in options if name == "lowerdir+"] == layers  # the uppermost first
    assert all(len(value) < 256 for _, _, value in options)
    upper = {value for name, _, value in options if name in ("upperdir", "workdir")}
    assert len(upper) == 2 and all(Path(folder).is_dir() for folder in upper)
