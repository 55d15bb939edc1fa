"""`./build.sh image | fetch | vm | verify | flash`: the builder's command line. Exit: 0 done, 1 failed, 2 wrong use."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from inkstick_image import debs, flash, hashes, layers, lock, manifest, medium, minisign, qemu, recipe, tools, wheels
from inkstick_image.errors import ImageError
from inkstick_image.progress import Progress
from inkstick_image.trees import Place

REPOSITORY = Path(__file__).resolve().parents[2]
FREE_BYTES = 6 << 30


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="./build.sh", description=__doc__, allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True)
    image = commands.add_parser("image", help="build the ISO", allow_abbrev=False)
    image.add_argument("--edition", choices=["cpu"], default="cpu", help="gpu is not built yet")
    image.add_argument("--offline", action="store_true", help="only what `fetch` left in cache/")
    image.add_argument("--quick", action="store_true", help="pack less tightly: a larger ISO, sooner (for tests)")
    image.add_argument("--sign", type=Path, metavar="KEY", help="a minisign secret key: signs the manifest")
    image.add_argument("--mok-cert", type=Path, metavar="FILE", help="the key (DER) that the boot menu offers to enrol")
    for command in (image, commands.add_parser("fetch", help="fill cache/", allow_abbrev=False)):
        command.add_argument("--mirror", metavar="URL", help="a Debian archive (default: that of this machine's apt)")
        command.add_argument("--locked", action="store_true", help="only the packages of image/debs.lock")
        command.add_argument("--update-lock", action="store_true", help="write image/debs.lock anew")
        command.add_argument("--security-mirror", metavar="URL", help="its security archive")
    vm = commands.add_parser("vm", help="boot an ISO in QEMU", allow_abbrev=False)
    vm.add_argument("iso", type=Path)
    vm.add_argument("--memory", default="4096", metavar="MIB")
    vm.add_argument("--settings", type=Path, metavar="FILE", help="an inkstick.toml: nothing is asked on the screen")
    verify = commands.add_parser("verify", help="check an ISO or a stick", allow_abbrev=False)
    verify.add_argument("what", type=Path, metavar="ISO|DEVICE")
    verify.add_argument(
        "--public-key", type=Path, metavar="FILE", help="minisign's: the manifest must be signed with it"
    )
    verify.add_argument("--iso", type=Path, metavar="ISO", help="for a stick: the ISO whose manifest it must match")
    write = commands.add_parser("flash", help="write an ISO to a removable disk", allow_abbrev=False)
    write.add_argument("iso", type=Path)
    write.add_argument("device", type=Path)
    return top


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except ImageError as error:
        print(f"build.sh: {error.message}\n          {error.hint}", file=sys.stderr)
        return 1


def _place(rules: recipe.Recipe, *, level: int = 9) -> Place:
    cache = Path(os.environ.get("INKSTICK_CACHE") or REPOSITORY / "cache").resolve()
    place = Place(REPOSITORY, cache, cache / "work", cache / "build.log", rules.epoch, level)
    for folder in (cache / "debs", cache / "wheels", cache / "layers", place.work):
        folder.mkdir(parents=True, exist_ok=True)
    return place


def _check_host(*, offline: bool) -> None:
    """Everything that could be missing, before the long part."""
    if os.geteuid() != 0:
        raise ImageError(
            "Building an image needs root on this machine for now.", "Run it with sudo, or in a container as root."
        )
    programs = {name: package for name, package in tools.BUILD.items() if not (offline and name == "apt-get")}
    if lacking := tools.missing(programs):
        raise ImageError(f"Programs are missing: {' '.join(lacking)}", f"apt-get install {' '.join(lacking)}")
    if not tools.KEYRING.exists():
        raise ImageError("Debian's archive keys are missing.", "apt-get install debian-archive-keyring")
    if (free := shutil.disk_usage(REPOSITORY).free) < FREE_BYTES:
        raise ImageError(f"Only {free >> 30} GiB are free here.", f"A build needs {FREE_BYTES >> 30} GiB.")


def _fetch_into(place: Place, rules: recipe.Recipe, options: argparse.Namespace, progress: Progress) -> None:
    archive, security = (
        (options.mirror, options.security_mirror) if options.mirror else debs.mirrors(debs.host_sources())
    )
    apt = debs.Archive(place.cache / "apt", place.cache / "debs")
    with progress.step("fetch Debian packages"):
        apt.update(debs.sources(rules, archive, security))
        sets = {"base": apt.fetch("base", rules.base_packages), "builder": apt.fetch("builder", rules.builder)}
    _compare(sets, options, progress)
    count, size = sum(map(len, sets.values())), sum(file.stat().st_size for file in (place.cache / "debs").iterdir())
    progress.note(f"  {count} packages, {size >> 20} MiB")
    with progress.step("fetch Python packages"):
        into = place.cache / "wheels"
        shutil.copyfile(REPOSITORY / "locks/build.txt", into / "build.txt")
        (into / "requirements.txt").write_text(layers.requirements(place, rules), encoding="utf-8")
        for name in ("build.txt", "requirements.txt"):
            wheels.fetch(into / name, rules.python, into)


def _compare(sets: dict[str, list[debs.Deb]], options: argparse.Namespace, progress: Progress) -> None:
    """What was resolved against image/debs.lock: told; with --locked an error; with --update-lock written down."""
    path = REPOSITORY / "image/debs.lock"
    if options.update_lock:
        path.write_text(lock.text(sets), encoding="utf-8")
    elif options.locked:
        lock.check(path, sets)
    elif found := lock.differences(path.read_text(encoding="utf-8"), sets):
        progress.note(f"  NOTE: Debian has moved on: {len(found)} lines differ from image/debs.lock")


def fetch(options: argparse.Namespace) -> int:
    _check_host(offline=False)
    rules = recipe.load(REPOSITORY / "image/recipe.toml")
    _fetch_into(_place(rules), rules, options, Progress(_say))
    return 0


def image(options: argparse.Namespace) -> int:
    _check_host(offline=options.offline)
    rules = recipe.load(REPOSITORY / "image/recipe.toml")
    place = _place(rules, level=1 if options.quick else 9)
    progress, version = Progress(_say), _version()
    if not options.offline:
        _fetch_into(place, rules, options, progress)
    elif options.locked:
        wanted = {"base": rules.base_packages, "builder": rules.builder}
        lock.check(
            REPOSITORY / "image/debs.lock",
            {name: debs.recorded(place.cache / "debs", name, packages) for name, packages in wanted.items()},
        )
    place.log.write_text("", encoding="utf-8")
    with progress.step("builder tree"):
        builder = layers.cached(place, "builder", layers.builder_key(place, rules), layers.builder(place)) / "tree"
    with progress.step("10-base"):
        base = layers.cached(place, "base", layers.base_key(place, rules), layers.base(place, rules))
    with progress.step("Python environment"):
        key = layers.environment_key(place, rules)
        environment = layers.cached(place, "environment", key, layers.environment(place, rules, builder))
    with progress.step("60-app"):
        make = layers.app(place, rules, builder, version, (base, environment))
        app = layers.cached(place, "app", layers.app_key(place, rules), make)
    (REPOSITORY / "dist").mkdir(exist_ok=True)
    iso = REPOSITORY / "dist" / f"inkstick-{options.edition}-{version}.iso"
    menu = (REPOSITORY / "image/grub.cfg").read_text(encoding="ascii")
    stack = (base / "10-base.squashfs", environment / "20-python.squashfs", app / "60-app.squashfs")
    with progress.step("medium"):
        made = medium.make(
            place, medium.Contents(options.edition, version, stack, base, builder, menu, options.mok_cert), iso
        )
    with progress.step("hash"):
        manifest.write(iso, manifest.describe(place, options.edition, version, stack, base, made, progress.seconds))
        manifest.write_bill(iso, app, (base, environment, app), made)
    if options.sign is not None:
        minisign.sign(iso.with_name(f"{iso.name}.json"), options.sign, f"inkstick {version} {options.edition}")
    _say(f"{iso.relative_to(REPOSITORY)}: {iso.stat().st_size / 1e6:.0f} MB, sha256 {hashes.of_file(iso)}")
    return 0


def vm(options: argparse.Namespace) -> int:
    """In a window where there is a screen; else the screen is drawn as text (the console is a text console)."""
    if lacking := tools.missing(tools.RUN):
        raise ImageError("QEMU is missing.", f"apt-get install {' '.join(lacking)}")
    if not options.iso.is_file():
        raise ImageError(f"There is no file {options.iso}.", "Build one: ./build.sh image --edition cpu")
    window = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    display = () if window else ("-display", "curses" if sys.stdout.isatty() else "none")
    settings = options.settings.read_text(encoding="utf-8") if options.settings else ""
    wanted = qemu.Wanted(options.iso, options.memory, qemu.has_kvm(), qemu.has_tap(), display, settings)
    for line in qemu.words(wanted):
        _say(line)
    return qemu.run(wanted)


def verify(options: argparse.Namespace) -> int:
    """An ISO against its manifest; a stick, file by file, against its own list and, with --iso, the manifest."""
    stick = stat.S_ISBLK(options.what.stat().st_mode) if options.what.exists() else False
    iso = options.iso if stick else options.what
    if options.public_key is not None:
        if iso is None:
            raise ImageError("Which manifest?", "For a stick, name its ISO too: --iso FILE")
        _say(f"signed: {manifest.signed(iso, options.public_key)}")
    if not stick:
        lines = manifest.check(options.what)
    else:
        sums = json.loads(iso.with_name(f"{iso.name}.json").read_text(encoding="utf-8"))["sums"] if iso else None
        lines = manifest.check_medium(options.what, sums)
    for line in lines:
        _say(line)
    return 0


def write(options: argparse.Namespace) -> int:
    manifest.check(options.iso)
    disk = flash.look(options.device)
    flash.refuse(disk, options.iso.stat().st_size)
    _say(f"{disk.path}: {disk.model or 'a disk'}, {disk.size / 1e9:.1f} GB. Everything on it will be lost.")
    if input("Type YES to go on: ") != "YES":
        raise ImageError("Nothing was written.")
    flash.write(options.iso, options.device, _say)
    return 0


def _version() -> str:
    match = re.search(
        r'^version = "([^"]+)"$', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    if match is None:
        raise ImageError("pyproject.toml names no version.")
    return match[1]


def _say(text: str) -> None:
    print(text, flush=True)


COMMANDS = {"image": image, "fetch": fetch, "vm": vm, "verify": verify, "flash": write}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
