"""How long Inkstick's stick takes to start, over a stock Debian live medium with the same kernel, in the same emulator.

The stock one is made the plain way: Debian 13's required, important and standard packages, live-boot, live-config, one
squashfs, the same boot loader, no desktop. Both start as a virtual disk under BIOS, one after the other, `--repeat`
times. Their own clocks say when: from the kernel's start to process 1, and to multi-user.target (stock) or
inkstick.target (ours, set up by a file, so that it asks nothing). The processor's seconds are QEMU's until then: they
hardly depend on what else this machine does.

    python -m bench.boot ISO [--repeat N]       as root, from tests/ (PYTHONPATH=../service:../image:.)
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.efficiency import machine
from inkstick_image import debs, hashes, layers, medium, recipe, trees
from vm.appliance import UNATTENDED
from vm.machine import Machine

ROOT = Path(__file__).resolve().parents[2]
STANDARD = ("?priority(required)", "?priority(important)", "?priority(standard)")
LIVE = ("live-boot", "live-boot-initramfs-tools", "live-config", "live-config-systemd", "systemd-sysv", "zstd")
MENU = """set default=0
set timeout=5
menuentry "Debian live" {
    linux /live/vmlinuz boot=live components quiet
    initrd /live/initrd.img
}
"""
LIMIT = 3600  # against hangs alone
SHOWN = ("UserspaceTimestampMonotonic", "FinishTimestampMonotonic")


@dataclass(frozen=True)
class Start:
    """Seconds on the machine's own clock: to process 1, to the target, until all was done. `processor`: QEMU's seconds
    up to the target, as near as asking every few seconds comes to it."""

    first: float
    target: float
    finished: float
    processor: float


def stock(place: trees.Place, rules: recipe.Recipe) -> Path:
    """The stock medium, made once from the same archive as ours."""
    apt = debs.Archive(place.cache / "apt", place.cache / "debs")
    apt.update(debs.sources(rules, *debs.mirrors(debs.host_sources())))
    packages = (*STANDARD, *LIVE, f"linux-image-{rules.kernel}")
    listed = [deb.sha256 for deb in apt.fetch("stock", packages)]
    apt.fetch("builder", rules.builder)
    builder = layers.cached(place, "builder", layers.builder_key(place, rules), layers.builder(place)) / "tree"

    def make(out: Path) -> None:
        with trees.folder(place, "stock") as tree:
            trees.unpack(place, "stock", tree)
            with trees.mounted(tree):
                trees.inside(place, tree, "update-initramfs", "-c", "-k", rules.kernel)
            for name in ("vmlinuz", "initrd.img"):
                shutil.copyfile(tree / f"boot/{name}-{rules.kernel}", out / name)
            trees.tidy(tree)
            trees.squash(place, tree, out / "filesystem.squashfs")

    made = layers.cached(place, "stock", hashes.of_value([1, place.level, listed]), make)
    iso = made / "stock.iso"
    contents = medium.Contents("stock", rules.suite, (made / "filesystem.squashfs",), made, builder, MENU)
    medium.make(place, contents, iso)
    return iso


def shown(machine: Machine, *arguments: str) -> dict[str, float]:
    """Properties of systemd, microseconds, as seconds."""
    lines = machine.text("systemctl", "show", *arguments).splitlines()
    return {name: int(value or 0) / 1e6 for name, value in (line.split("=", 1) for line in lines)}


def start(iso: Path, target: str, credentials: Mapping[str, str]) -> Start:
    with Machine(iso, credentials=credentials) as running:
        running.wait(LIMIT)
        end = time.monotonic() + LIMIT
        while running.text("systemctl", "is-active", target).strip() != "active":
            if time.monotonic() > end:
                raise SystemExit(f"{target} was not reached:\n{running.text('systemctl', 'list-jobs')}")
            time.sleep(5)
        processor = running.processor
        while not (times := shown(running, *(f"--property={name}" for name in SHOWN)))["FinishTimestampMonotonic"]:
            time.sleep(5)
            if time.monotonic() > end:
                break
        reached = shown(running, "--property=ActiveEnterTimestampMonotonic", target)["ActiveEnterTimestampMonotonic"]
    return Start(times["UserspaceTimestampMonotonic"], reached, times["FinishTimestampMonotonic"], processor)


def told(name: str, found: Start) -> None:
    print(
        f"{name:22} process 1 after {found.first:6.1f} s, target after {found.target:6.1f} s, all done after"
        f" {found.finished:6.1f} s; {found.processor:6.1f} s of the processor   (load {os.getloadavg()[0]:.1f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("iso", type=Path, help="the cpu edition's")
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    print(f"machine: {machine()}", flush=True)
    rules = recipe.load(ROOT / "image/recipe.toml")
    cache = Path(os.environ.get("INKSTICK_CACHE") or ROOT / "cache").resolve()
    place = trees.Place(ROOT, cache, cache / "work", cache / "stock.log", rules.epoch, 1)
    for folder in (cache / "debs", cache / "layers", place.work):
        folder.mkdir(parents=True, exist_ok=True)
    other = stock(place, rules)
    for name, iso in (("stock", other), ("inkstick", options.iso)):
        print(f"{name}: {iso.stat().st_size / 1e6:.0f} MB", flush=True)
    found: dict[str, list[Start]] = {"stock": [], "inkstick": []}
    for _ in range(options.repeat):
        for name, iso, target, given in (
            ("stock", other, "multi-user.target", {}),
            ("inkstick", options.iso, "inkstick.target", UNATTENDED),
        ):
            found[name].append(start(iso, target, given))
            told(name, found[name][-1])
    for part in ("target", "processor"):
        mine, theirs = (
            statistics.median(getattr(each, part) for each in found[name]) for name in ("inkstick", "stock")
        )
        print(f"{part}: inkstick {mine:.1f} s / stock {theirs:.1f} s = {mine / theirs:.2f}")


if __name__ == "__main__":
    main()
