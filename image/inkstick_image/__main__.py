"""`./build.sh image | fetch | vm | verify | flash`: the builder's command line. Exit: 0 done, 1 failed, 2 wrong use."""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import filecmp
import io
import os
import re
import shutil
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inkstick_image import (
    debs,
    engine,
    flash,
    layers,
    lock,
    manifest,
    medium,
    minisign,
    namespace,
    nvidia,
    qemu,
    recipe,
    signing,
    tools,
    weights,
    wheels,
)
from inkstick_image.errors import ImageError, Missing, NotYours
from inkstick_image.progress import Progress
from inkstick_image.trees import OVERLAY, Place, release

REPOSITORY = Path(__file__).resolve().parents[2]
FREE_BYTES = {"cpu": 6 << 30, "gpu": 30 << 30}  # fetched packages, unpacked trees, layers and the ISO, at their peak
AGAIN_BYTES = {"cpu": 2 << 30, "gpu": 11 << 30}  # --twice, beside the first build's layers and ISO
DIST = REPOSITORY / "dist"
MANIFESTS = REPOSITORY / "models-manifest"
STOPPED = {
    "image": "Nothing half-made is used: the same command goes on from what was finished.",
    "fetch": "Nothing half-made is used: the same command goes on from what was finished.",
    "flash": "If writing had begun, the disk holds part of an image: write it again.",
}
"""What a person who pressed Ctrl-C should know, by command."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="./build.sh", description=__doc__, allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True)
    image = commands.add_parser("image", help="build the ISO", allow_abbrev=False)
    image.add_argument("--offline", action="store_true", help="only what `fetch` left in cache/")
    image.add_argument("--quick", action="store_true", help="for tests: pack less tightly, no firmware for cards")
    image.add_argument("--twice", action="store_true", help="build once more from nothing: it must be the same bits")
    image.add_argument("--sign", type=Path, metavar="KEY", help="a minisign secret key: signs the manifest")
    image.add_argument(
        "--mok-key", type=Path, metavar="FILE", help="gpu: signs the kernel modules (PEM); else one is made"
    )
    image.add_argument(
        "--mok-cert", type=Path, metavar="FILE", help="its certificate (DER), which the boot menu enrols"
    )
    image.add_argument("--out", type=Path, default=DIST, metavar="DIR", help="where the ISO goes (default: dist/)")
    for command in (image, commands.add_parser("fetch", help="fill cache/", allow_abbrev=False)):
        command.add_argument("--edition", choices=["cpu", "gpu"], default="cpu")
        command.add_argument(
            "--nvidia-run",
            type=Path,
            metavar="FILE",
            help="gpu, for RTX 50 (cuda13): the driver of NVIDIA's installer (NVIDIA-Linux-x86_64-VERSION.run, 580 or"
            " later) instead of Debian's, and the engine for it",
        )
        command.add_argument("--model", action="append", default=[], metavar="ID", help="gpu: a model of the manifests")
        command.add_argument(
            "--weights",
            type=Path,
            action="append",
            default=[],
            metavar="DIR",
            help="gpu: a folder with a model's files",
        )
        command.add_argument("--manifests", type=Path, default=MANIFESTS, metavar="DIR", help="other models' manifests")
        command.add_argument("--accept-licences", action="store_true", help="of the models: shown without it")
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
    options = parser().parse_args(arguments, argparse.Namespace(words=arguments))
    os.umask(0o022)  # folders that we make go into layers
    for stream in (sys.stdout, sys.stderr):  # a terminal without Unicode shows question marks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return COMMANDS[options.command](options)
    except ImageError as error:
        told, status = error, 1
    except KeyboardInterrupt:
        told, status = ImageError("Stopped.", STOPPED.get(options.command, "")), 128 + signal.SIGINT
    except OSError as error:
        told, status = _of_system(error), 1
    print(told.told(), file=sys.stderr)
    return status


def _of_system(error: OSError) -> ImageError:
    """What the system refused, for the person: a full disk, a file that may not be read."""
    where = f"{error.filename}: " if error.filename else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "Make room, or name other folders: INKSTICK_CACHE for the cache, --out for the ISO." if full else ""
    return ImageError(f"{where}{error.strerror or error}.", hint)


def _place(rules: recipe.Recipe, *, level: int = 9) -> Place:
    cache = Path(os.environ.get("INKSTICK_CACHE") or REPOSITORY / "cache").resolve()
    place = Place(REPOSITORY, cache, cache / "work", cache / "build.log", rules.epoch, level)
    for folder in (cache / "debs", cache / "wheels", cache / "layers", place.work):
        ours(folder)
    return place


def ours(folder: Path) -> None:
    """A folder to write into, made where it is not there. Raises NotYours."""
    with contextlib.suppress(PermissionError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return
    raise NotYours(
        f"{folder} is not yours to write: perhaps root has built here.",
        f"Build as root again, or take it over: sudo chown -R {namespace.facts().user} {folder}",
    )


@contextlib.contextmanager
def alone(cache: Path) -> Iterator[None]:
    """One build at a time in a cache: two would take each other's half-made trees away, and pack what is left of them.
    However a build ends, it gives the cache free. Raises ImageError."""
    with (cache / "in-use").open("a", encoding="ascii") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ImageError(
                f"Another build is using {cache}.", "Wait until it is done; INKSTICK_CACHE names another folder."
            ) from error
        yield


def _half_made(cache: Path) -> list[Path]:
    """What builds left that were cut short, by a full disk, say."""
    return [*cache.glob("layers/*.part"), *cache.glob("work/*")]


def _size(path: Path) -> int:
    """Bytes on the disk that are free once it is deleted, as far as we may look; without what is mounted there."""
    found, device = 0, path.lstat().st_dev
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if _device(Path(folder, name)) == device]
        for name in names:
            with contextlib.suppress(OSError):
                known = Path(folder, name).lstat()
                found += known.st_blocks * 512 if known.st_nlink == 1 else 0
    return found


def _device(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.lstat().st_dev
    return -1


def sweep(cache: Path) -> None:
    """Delete what builds left that were cut short. (Their layers may have other names by now than this one's.)"""
    for path in _half_made(cache):
        release(path)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def check_host(*, offline: bool, edition: str, cache: Path, twice: bool = False) -> None:
    """Everything that could be missing, before the long part."""
    programs = {name: package for name, package in tools.BUILD.items() if not (offline and name == "apt-get")}
    if os.geteuid() != 0:
        programs |= namespace.PROGRAMS
    lacking = tools.missing(programs)
    if not tools.KEYRING.exists():
        lacking.append("debian-archive-keyring")
    if lacking:
        raise Missing(f"Programs are missing: {' '.join(lacking)}", f"sudo apt-get install {' '.join(lacking)}")
    kept = sum(file.stat().st_size for file in cache.glob("layers/*/*.squashfs")) + sum(
        file.stat().st_size for file in cache.glob("wheels-engine/*")
    )
    needed = FREE_BYTES[edition] + (AGAIN_BYTES[edition] if twice else 0)
    free = shutil.disk_usage(cache).free
    if free + sum(map(_size, _half_made(cache))) < needed - min(kept, needed // 2):
        raise ImageError(
            f"Only {free >> 30} GiB are free for {cache}.",
            f"The {edition} edition{', built twice,' if twice else ''} needs {needed >> 30} GiB from nothing;"
            " INKSTICK_CACHE names another folder.",
        )


def _fetch_into(place: Place, rules: recipe.Recipe, options: argparse.Namespace, progress: Progress) -> None:
    archive, security = (
        (options.mirror, options.security_mirror) if options.mirror else debs.mirrors(debs.host_sources())
    )
    apt = debs.Archive(place.cache / "apt", place.cache / "debs")
    gpu = options.edition == "gpu"
    with progress.step("fetch Debian packages"):
        apt.update(debs.sources(rules, archive, security))
        wanted = _sets(options, rules)
        sets = {name: apt.fetch(name, packages) for name, packages in wanted.items()}
    _compare(sets, options, progress)
    count, size = sum(map(len, sets.values())), sum(file.stat().st_size for file in (place.cache / "debs").iterdir())
    progress.note(f"  {count} packages, {size >> 20} MiB")
    with progress.step("fetch Python packages"):
        into = place.cache / "wheels"
        for name, text in _service_locks(place, rules).items():
            (into / name).write_text(text, encoding="utf-8")
            wheels.fetch(into / name, rules.python, into)
    if gpu:
        kit = engine.kit(options.nvidia_run)
        with progress.step(f"fetch the engine's packages ({kit.gigabytes} GB)"):
            wheels.fetch_locked(
                [REPOSITORY / "locks" / name for name in kit.locks], rules.python, _engine_wheels(place)
            )
        if options.model:
            with progress.step("fetch models"):
                weights.fetch(options.model, options.manifests, place.cache / "models", accepts=options.accept_licences)


def _check_cache(place: Place, rules: recipe.Recipe, options: argparse.Namespace) -> None:
    """Where nothing is fetched: that all is there which will be asked for, before the long part. Raises ImageError."""
    wanted = _sets(options, rules)
    recorded = {name: debs.recorded(place.cache / "debs", name, packages) for name, packages in wanted.items()}
    if options.locked:
        lock.check(REPOSITORY / "image/debs.lock", recorded)
    if options.twice or not layers.folder(place, "environment", layers.environment_key(place, rules)).exists():
        wheels.kept(_service_locks(place, rules), place.cache / "wheels")
    kit = engine.kit(options.nvidia_run)
    if options.edition == "gpu" and (
        options.twice or not layers.folder(place, "engine", engine.key(place, rules, kit)).exists()
    ):
        texts = {name: (REPOSITORY / "locks" / name).read_text(encoding="utf-8") for name in kit.locks}
        wheels.kept(texts, _engine_wheels(place))


def _service_locks(place: Place, rules: recipe.Recipe) -> dict[str, str]:
    """Of the service's environment: file name in cache/wheels → text."""
    build = (REPOSITORY / "locks/build.txt").read_text(encoding="utf-8")
    return {"build.txt": build, "requirements.txt": layers.requirements(place, rules)}


def _sets(options: argparse.Namespace, rules: recipe.Recipe) -> dict[str, tuple[str, ...]]:
    """The sets of packages that are wanted; by `fetch` those of both kinds of 10-base."""
    gpu, installer = options.edition == "gpu", options.nvidia_run is not None
    kinds = (True, False) if options.command == "fetch" else (not options.quick,)
    made = [rules.sets(gpu=gpu, firmware=firmware, installer=installer) for firmware in kinds]
    return {name: packages for sets in made for name, packages in sets.items()}


def _check_installer(options: argparse.Namespace, rules: recipe.Recipe) -> None:
    """Raises ImageError for a file that cannot be NVIDIA's installer, and for an edition without a driver."""
    if options.nvidia_run is None:
        return
    if options.edition != "gpu":
        raise ImageError("The cpu edition has no driver.", "--nvidia-run FILE belongs to --edition gpu.")
    nvidia.branch(rules, options.nvidia_run)


def _engine_wheels(place: Place) -> Path:
    folder = place.cache / "wheels-engine"
    folder.mkdir(exist_ok=True)
    return folder


def _compare(sets: dict[str, list[debs.Deb]], options: argparse.Namespace, progress: Progress) -> None:
    """What was resolved against image/debs.lock: told; with --locked an error; with --update-lock written down."""
    path = REPOSITORY / "image/debs.lock"
    if options.update_lock:
        path.write_text(lock.updated(path.read_text(encoding="utf-8"), sets), encoding="utf-8")
    elif options.locked:
        lock.check(path, sets)
    elif found := lock.differences(path.read_text(encoding="utf-8"), sets):
        progress.note(f"  NOTE: Debian has moved on: {len(found)} lines differ from image/debs.lock")


def fetch(options: argparse.Namespace) -> int:
    rules = recipe.load(REPOSITORY / "image/recipe.toml")
    _check_installer(options, rules)
    place = _place(rules)
    check_host(offline=False, edition=options.edition, cache=place.cache)
    with alone(place.cache):
        _fetch_into(place, rules, options, Progress(_say))
    return 0


@dataclass(frozen=True, slots=True)
class Stack:
    """What the layers of an edition are. `folders`: of the layers, the lowest first; `base`, `app` are among them."""

    base: Path
    app: Path
    builder: Path
    folders: tuple[Path, ...]
    certificate: Path | None

    @property
    def layers(self) -> tuple[Path, ...]:
        """As live-boot stacks them: by their names."""
        return tuple(sorted((file for folder in self.folders for file in folder.glob("*.squashfs")), key=_name))

    def contents(self, edition: str, version: str, menu: str) -> medium.Contents:
        return medium.Contents(edition, version, self.layers, self.base, self.builder, menu, self.certificate)

    def parts(self, iso: Path) -> tuple[Path, ...]:
        """What two builds are compared by, the ISO last: where it differs, something before it tells why."""
        return (*self.layers, self.base / "vmlinuz", self.base / "initrd.img", iso)


def reproduced(first: Sequence[Path], second: Sequence[Path]) -> None:
    """Raises ImageError, which names them, when files of two builds differ."""
    unlike = [one.name for one, other in zip(first, second, strict=True) if not filecmp.cmp(one, other, shallow=False)]
    if unlike:
        raise ImageError(
            f"Built twice, these differ: {', '.join(unlike)}",
            "Both builds are left: cache/layers and cache/again. diffoscope shows where they differ.",
        )


def _elsewhere(place: Place) -> tuple[Place, Path]:
    """A cache with the same packages and nothing that was made of them; and its folder."""
    folder = place.cache / "again"
    release(folder)
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("layers", "work"):
        (folder / name).mkdir(parents=True)
    for name in ("debs", "wheels", "wheels-engine", "models", "keys"):
        if (place.cache / name).exists():
            (folder / name).symlink_to(place.cache / name)
    return replace(place, cache=folder, work=folder / "work", log=folder / "build.log"), folder


def _name(file: Path) -> str:
    return file.name


def image(options: argparse.Namespace) -> int:
    rules = recipe.load(REPOSITORY / "image/recipe.toml")
    for given in filter(None, (options.sign, options.mok_key, options.mok_cert)):
        if not given.is_file():
            raise ImageError(f"There is no file {given}.")
    _check_installer(options, rules)
    place, out = _place(rules, level=1 if options.quick else 9), options.out.resolve()
    ours(out)
    check_host(offline=options.offline, edition=options.edition, cache=place.cache, twice=options.twice)
    if os.geteuid() != 0:
        namespace.check(place.work, OVERLAY if options.edition == "gpu" else "no")
        _say("without root: in a user namespace")
        return namespace.run([sys.executable, "-m", __package__ or "", *options.words])
    with alone(place.cache):
        for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal, say: what is mounted goes away then, too
            if signal.getsignal(number) is not signal.SIG_IGN:  # (nohup)
                signal.signal(number, lambda number, _: sys.exit(128 + number))
        sweep(place.cache)
        return _build(options, rules, place, out)


def _build(options: argparse.Namespace, rules: recipe.Recipe, place: Place, out: Path) -> int:
    """The ISO and all that lies beside it, into `out`."""
    gpu = options.edition == "gpu"
    progress, version = Progress(_say), _version()
    key, models = (_key(options, place), _models(options, place, early=True)) if gpu else (None, [])
    if not options.offline:
        _fetch_into(place, rules, options, progress)
    else:
        _check_cache(place, rules, options)
    place.log.write_text("", encoding="utf-8")
    if gpu:
        models = models or _models(options, place, early=False)
    stack = _stack(options, place, rules, progress, version, key, models)
    iso = out / f"inkstick-{options.edition}-{version}.iso"
    menu = (REPOSITORY / "image/grub.cfg").read_text(encoding="ascii")
    with progress.step("medium"):
        made = medium.make(place, stack.contents(options.edition, version, menu), iso)
    if options.twice:
        again, folder = _elsewhere(place)
        anew = Progress(_say)  # the manifest keeps the first build's times
        second = _stack(options, again, rules, anew, version, key, models)
        with anew.step("medium"):
            medium.make(again, second.contents(options.edition, version, menu), folder / iso.name)
        reproduced(stack.parts(iso), second.parts(folder / iso.name))
        _say("built twice: the same bits")
        shutil.rmtree(folder)
    with progress.step("hash"):
        said = {
            "firmware": not options.quick,
            "driver": "cuda13" if options.nvidia_run else rules.driver if gpu else "",
        }
        packages, _ = rules.runtime_set(installer=options.nvidia_run is not None)
        runtime = manifest.Runtime(packages, engine.kit(options.nvidia_run).lock) if gpu else None
        record = manifest.describe(
            place, options.edition, version, stack.layers, stack.base, made, runtime, progress.seconds
        )
        digest = manifest.write(iso, {**record, **said, "models": [model.id for model in models]})
        manifest.write_bill(iso, stack.app, stack.folders, made)
    if options.sign is not None:
        minisign.sign(iso.with_name(f"{iso.name}.json"), options.sign, f"inkstick {version} {options.edition}")
    shown = iso.relative_to(REPOSITORY) if iso.is_relative_to(REPOSITORY) else iso
    _say(f"{shown}: {iso.stat().st_size / 1e6:.0f} MB, sha256 {digest}")
    return 0


def _stack(
    options: argparse.Namespace,
    place: Place,
    rules: recipe.Recipe,
    progress: Progress,
    version: str,
    key: signing.Key | None,
    models: list[weights.Model],
) -> Stack:
    """Every layer, made where it is not in the cache."""
    firmware = not options.quick
    with progress.step("builder tree"):
        builder = layers.cached(place, "builder", layers.builder_key(place, rules), layers.builder(place)) / "tree"
    place = replace(place, packer=builder)
    with progress.step("10-base"):
        base_key = layers.base_key(place, rules, firmware=firmware)
        base = layers.cached(place, "base", base_key, layers.base(place, rules, firmware=firmware))
    with progress.step("Python environment"):
        name = layers.environment_key(place, rules)
        environment = layers.cached(place, "environment", name, layers.environment(place, rules, builder))
    below = [base, environment]
    if key is not None:
        below += _engine_layers(options, place, rules, progress, key, models, base, builder)
    with progress.step("60-app"):
        make = layers.app(place, rules, builder, version, below, options.edition, options.manifests)
        app = layers.cached(place, "app", layers.app_key(place, options.edition, options.manifests, below), make)
    return Stack(base, app, builder, (*below, app), key.certificate if key else options.mok_cert)


def _engine_layers(
    options: argparse.Namespace,
    place: Place,
    rules: recipe.Recipe,
    progress: Progress,
    key: signing.Key,
    models: list[weights.Model],
    base: Path,
    builder: Path,
) -> list[Path]:
    """Those of the gpu edition alone."""
    installer = options.nvidia_run
    with progress.step("NVIDIA's kernel modules"):
        name = nvidia.modules_key(place, rules, installer)
        modules = layers.cached(place, "modules", name, nvidia.modules(place, rules, installer))
    with progress.step("20-nvidia"):
        name = nvidia.layer_key(place, rules, base.name, modules, key, installer)
        driver = layers.cached(place, "nvidia", name, nvidia.layer(place, rules, base, modules, key, installer))
    with progress.step("30-cuda and 40-runtime"):
        kit = engine.kit(installer)
        name = engine.key(place, rules, kit)
        runtime = layers.cached(place, "engine", name, engine.layer(place, rules, builder, kit))
    with progress.step("40-tools"):
        own = installer is not None
        name = engine.tools_key(place, rules, (base.name, driver.name), installer=own)
        tools_layer = layers.cached(place, "tools", name, engine.tools(place, rules, base, driver, installer=own))
    with progress.step("50-model"):
        name = weights.key(models, options.manifests)
        model = layers.cached(place, "model", name, weights.layer(place, models))
    return [driver, runtime, tools_layer, model]


def _key(options: argparse.Namespace, place: Place) -> signing.Key:
    """The key for kernel modules, with a loud note where one was made."""
    key = signing.key(options.mok_key, options.mok_cert, place.cache / "keys")
    if key.made:
        _say(f"\n  *** A NEW KEY for kernel modules was made: {key.private}")
        _say("  *** Every computer with Secure Boot must enrol it once (boot menu). Keep it safe and secret:")
        _say("  *** whoever has it can load modules there. For all later builds: --mok-key FILE --mok-cert FILE\n")
    return key


def _models(options: argparse.Namespace, place: Place, *, early: bool) -> list[weights.Model]:
    """The models of the image. `early`: before anything is fetched, where all are given as folders or nothing may be
    fetched; none is returned otherwise."""
    if not options.model and not options.weights:
        raise ImageError(
            "Which model?", "--model ID fetches it (see inkstick models list), --weights DIR takes a folder."
        )
    if early and options.model and not options.offline:
        return []
    folders = [folder.resolve() for folder in options.weights]
    cache, accepts = place.cache / "models", options.accept_licences
    return weights.find(options.model, folders, options.manifests, cache, accepts=accepts, epoch=place.epoch)


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
    if "curses" in display:  # which draws over what was said
        input("Enter starts it. ")
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
        lines = manifest.check_medium(options.what, manifest.sums_of(iso) if iso else None, _say)
    for line in lines:
        _say(line)
    return 0


def write(options: argparse.Namespace) -> int:
    manifest.check(options.iso)
    disk = flash.look(options.device)
    flash.refuse(disk, options.iso.stat().st_size)
    _say(f"{disk.path}: {disk.model or 'a disk'}, {disk.size / 1e9:.1f} GB. Everything on it will be lost.")
    try:
        typed = input("Type YES to go on: ")
    except EOFError:
        typed = ""
    if typed != "YES":
        raise ImageError("Nothing was written.")
    now = flash.look(options.device)
    flash.refuse(now, options.iso.stat().st_size)
    if now != disk:  # taken out meanwhile, and its name given to the next
        raise ImageError("Nothing was written: this is another disk now.", "Look what it is, and start again.")
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
