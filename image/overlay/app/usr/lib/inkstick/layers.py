#!/usr/bin/python3
"""Is every layer of this system really verified by the kernel, and is one of them damaged?

live-boot mounts a layer without dm-verity when anything is amiss with the hash, and says nothing that a person would
see. So this asks the kernel: each layer of the medium must be mounted from a dm-verity device with the root hash that
the boot menu gave, and none may have met a damaged block. The answer lies in /run/inkstick/layers.json, for the console
and the page; it is asked again every few seconds, because a damaged block shows when it is first read.

Only Python's standard library, and Debian's own interpreter: it must run when the layer above is the damaged one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

STATE = Path("/run/inkstick/layers.json")
MEDIUM = Path("/run/live/medium/live")
SECONDS = 15.0
BLOCK = 1 << 20
SENTENCES = {
    "verified": "Every part of the system on this stick is verified by the kernel.",
    "unverified": "This system runs without its protection against damage: do not trust this stick, write it anew.",
    "damaged": "This stick is damaged: write it anew, or take another one.",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One squashfs file. `verified`: mounted through dm-verity with the root hash of the boot menu; `damaged`: the
    kernel met a block there that is not what was written."""

    name: str
    verified: bool
    damaged: bool


@dataclass(frozen=True, slots=True)
class Target:
    """A device-mapper device as `dmsetup` tells it. `kind`: verity for ours; `root`: its root hash; `flag`: V is good,
    C is damaged."""

    kind: str
    root: str
    flag: str


def expected(command_line: str) -> dict[str, str]:
    """Layer → root hash, from the kernel's command line."""
    match = re.search(r"(?:^|\s)(?:live-boot\.)?dm-verity-root-hash=(\S+)", command_line)
    pairs = (pair.partition(":") for pair in match[1].split(",")) if match else ()
    return {name: root for name, _, root in pairs}


def mounted(mountinfo: str) -> dict[str, str]:
    """Layer → major:minor of what is mounted for it, from /proc/self/mountinfo."""
    found = {}
    for line in mountinfo.splitlines():
        words = line.split(" ")
        if len(words) > 4 and "/rootfs/" in words[4] and words[4].endswith(".squashfs"):
            found[words[4].rpartition("/")[2]] = words[2]
    return found


def targets(tables: str, states: str, numbers: str) -> dict[str, Target]:
    """major:minor → target, from `dmsetup table`, `status` and `info` (name:major:minor)."""
    flags = {name: words[-1] for name, words in _lines(states).items()}
    where = {line.split(":")[0].strip(): ":".join(line.split(":")[1:3]) for line in numbers.splitlines() if ":" in line}
    return {
        where[name]: Target(words[2], words[11] if len(words) > 11 else "", flags.get(name, ""))
        for name, words in _lines(tables).items()
        if name in where and len(words) > 2
    }


def judge(
    wanted: Mapping[str, str], present: Sequence[str], devices: Mapping[str, str], found: Mapping[str, Target]
) -> list[Layer]:
    """`wanted`: root hashes; `present`: layers on the medium; `devices`: what is mounted. A layer that one of them
    names and another does not know is not verified."""
    layers = []
    for name in sorted({*wanted, *present, *devices}):
        target = found.get(devices.get(name, ""))
        good = target is not None and target.kind == "verity" and target.root == wanted.get(name) and bool(target.root)
        layers.append(Layer(name, good, target is not None and target.flag == "C"))
    return layers


def state(layers: Sequence[Layer]) -> str:
    """`damaged`, `unverified` or `verified`; no layer at all is unverified."""
    if any(layer.damaged for layer in layers):
        return "damaged"
    return "verified" if layers and all(layer.verified for layer in layers) else "unverified"


def report(layers: Sequence[Layer]) -> dict[str, object]:
    word = state(layers)
    bad = [layer.name for layer in layers if layer.damaged] or [layer.name for layer in layers if not layer.verified]
    return {"state": word, "sentence": SENTENCES[word], "bad": bad, "layers": [asdict(layer) for layer in layers]}


def look() -> dict[str, object]:
    """Ask the kernel."""
    wanted = expected(Path("/proc/cmdline").read_text(encoding="utf-8"))
    present = [file.name for file in MEDIUM.glob("*.squashfs")]
    devices = mounted(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    info = _dmsetup("info", "--columns", "--noheadings", "--separator", ":", "-o", "name,major,minor")
    return report(judge(wanted, present, devices, targets(_dmsetup("table"), _dmsetup("status"), info)))


def write(answer: Mapping[str, object], path: Path) -> None:
    """The file changes whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(answer) + "\n", encoding="utf-8")
    part.chmod(0o644)
    part.rename(path)


def read_through(devices: Mapping[str, str], dev: Path = Path("/dev/block")) -> None:
    """Read every layer from end to end, so that the kernel meets every damaged block; nothing stays in memory."""
    for number in devices.values():
        with (dev / number).open("rb", buffering=0) as device:
            size, done = device.seek(0, os.SEEK_END), 0
            while done < size:
                try:
                    os.pread(device.fileno(), BLOCK, done)
                except OSError:
                    break
                os.posix_fadvise(device.fileno(), done, BLOCK, os.POSIX_FADV_DONTNEED)
                done += BLOCK


def main(arguments: Sequence[str]) -> int:
    """Without arguments: for ever. With --read: read all layers first, print the answer, exit 1 unless verified."""
    if "--read" in arguments:
        read_through(mounted(Path("/proc/self/mountinfo").read_text(encoding="utf-8")))
        answer = look()
        sys.stdout.write(json.dumps(answer) + "\n")
        return 0 if answer["state"] == "verified" else 1
    shown = ""
    while True:
        answer = look()
        if (now := json.dumps(answer)) != shown:
            write(answer, STATE)
            sys.stdout.write(f"{answer['sentence']} {answer['bad'] or ''}\n")
            sys.stdout.flush()
            shown = now
        time.sleep(SECONDS)


def _lines(said: str) -> dict[str, list[str]]:
    """`name: words …` → name → words."""
    return {line.partition(": ")[0]: line.partition(": ")[2].split() for line in said.splitlines() if ": " in line}


def _dmsetup(*arguments: str) -> str:
    done = subprocess.run(["/sbin/dmsetup", *arguments], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
