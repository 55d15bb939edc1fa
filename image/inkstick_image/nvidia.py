"""20-nvidia: NVIDIA's kernel modules for exactly the image's kernel, signed with the builder's key, and the libraries
that compute; nothing that draws.

DKMS builds the modules in a throw-away tree. It makes a key of its own there and signs with it: both are thrown away.
With `--nvidia-run` the modules are the open ones of an installer from NVIDIA, and so are the libraries.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from inkstick_image import account, debs, hashes, owners, sbom, signing, trees
from inkstick_image.errors import ImageError
from inkstick_image.recipe import Recipe, Set
from inkstick_image.sbom import Component
from inkstick_image.signing import Key
from inkstick_image.trees import Place

RULES = 1  # raise it when this module makes something else of the same inputs
SHIPPED = ("nvidia-current", "nvidia-current-uvm")  # no modesetting, no drm: the card computes, another chip draws
BRANCH = "usr/share/inkstick/nvidia-driver"  # provisioning/ reads it
CERTIFICATE = "usr/share/inkstick/module-signing.der"  # provisioning/ compares it with the firmware's keys
OPEN = ("nvidia", "nvidia-uvm")
OPEN_LIBRARIES = (
    "libcuda",
    "libnvidia-cfg",
    "libnvidia-gpucomp",
    "libnvidia-ml",
    "libnvidia-nvvm",
    "libnvidia-nvvm70",  # since 590
    "libnvidia-ptxjitcompiler",
)
OPEN_PROGRAMS = ("nvidia-smi", "nvidia-modprobe", "nvidia-persistenced")
FIRMWARE = ("firmware/gsp_ga10x.bin",)  # the open modules start no card without it: RTX 30 and all later ones
LICENCE = "LICENSE"
TEXT = "usr/share/doc/nvidia-driver/copyright"
OVERLAY = "image/overlay/installer"
LEAST = 580  # CUDA 13 asks for it
_VERSION = re.compile(r"NVIDIA-Linux-x86_64-(\d+\.[\d.]*\d)\.run")


def recorded(place: Place, wanted: Set) -> list[debs.Deb]:
    """The packages that were fetched for a set."""
    return debs.recorded(place.cache / "debs", *wanted)


def driver_debs(place: Place, recipe: Recipe, *, installer: bool) -> list[debs.Deb]:
    """Debian's driver and all below it; none where it comes from NVIDIA's installer."""
    return [] if installer else recorded(place, recipe.driver_set)


def modules_key(place: Place, recipe: Recipe, installer: Path | None) -> str:
    packages = [deb.sha256 for deb in recorded(place, recipe.module_set(installer=installer is not None))]
    return hashes.of_value([RULES, recipe.kernel, packages, hashes.of_file(installer) if installer else ""])


def modules(place: Place, recipe: Recipe, installer: Path | None) -> Callable[[Path], None]:
    """The modules, unsigned: NAME.ko each; with an installer its unpacked content too, in `run`. Takes minutes."""

    def make(out: Path) -> None:
        with trees.folder(place, "modules") as over:
            tree = over / "tree"
            trees.unpack(place, recipe.module_set(installer=installer is not None)[0], tree)
            if installer is None:
                _take(built(tree, recipe.kernel), SHIPPED, out)
            else:
                _open(place, recipe, tree, installer, out)

    return make


def built(tree: Path, kernel: str) -> dict[str, Path]:
    """What DKMS made in a tree: name → file. Raises ImageError where it made nothing for this kernel."""
    found = {path.name.partition(".ko")[0]: path for path in tree.glob(f"usr/lib/modules/{kernel}/updates/dkms/*.ko*")}
    if not found:
        logs = [line for log in tree.glob("var/lib/dkms/*/*/build/make.log") for line in log.read_text().splitlines()]
        raise ImageError(f"DKMS made no modules for {kernel}.", "\n".join(logs[-20:]))
    return found


def plain(module: Path) -> bytes:
    """A module's bytes, unpacked and without a signature."""
    raw = module.read_bytes()
    return signing.unsigned(lzma.decompress(raw) if module.suffix == ".xz" else raw)


def _take(found: dict[str, Path], names: Sequence[str], out: Path) -> None:
    for name in names:
        if name not in found:
            raise ImageError(f"There is no module {name}.", f"There are: {', '.join(sorted(found))}")
        (out / f"{name}.ko").write_bytes(plain(found[name]))


def layer_key(place: Place, recipe: Recipe, base: str, made: Path, by: Key, installer: Path | None) -> str:
    """`base`: the key of 10-base. `made`: the modules' folder."""
    packages = [deb.sha256 for deb in driver_debs(place, recipe, installer=installer is not None)]
    key = hashes.of_file(by.certificate)
    overlay = [hashes.of_tree(place.repository / OVERLAY)] if installer else []
    return hashes.of_value([RULES, base, packages, made.name, key, place.level, bool(installer), *overlay])


def layer(
    place: Place, recipe: Recipe, base: Path, made: Path, by: Key, installer: Path | None
) -> Callable[[Path], None]:
    """20-nvidia.squashfs over `base` (10-base's folder)."""

    def make(out: Path) -> None:
        wanted, below = driver_debs(place, recipe, installer=installer is not None), base_debs(place, recipe, base)
        with trees.above(place, "nvidia", [base / "10-base.squashfs"]) as (tree, new):
            if installer is None:
                trees.add(place, tree, [deb for deb in wanted if deb.name not in {deb.name for deb in below}])
            folder = tree / f"usr/lib/modules/{recipe.kernel}/updates/inkstick"
            folder.mkdir(parents=True)
            for module in sorted(made.glob("*.ko")):
                (folder / module.name).write_bytes(signing.signed(module.read_bytes(), by))
            with trees.mounted(tree):
                trees.inside(place, tree, "depmod", recipe.kernel)
            ours = [f"/{BRANCH}", f"/{CERTIFICATE}"]
            parts = [_debian_modules(recipe.driver)] if installer is None else of_installer(version(installer))
            known = {f"/{path.relative_to(tree)}": parts[0].name for path in folder.iterdir()}
            if installer is not None:
                known |= lay_open(made / "run", tree, version(installer), parts)
                trees.lay(place.repository / OVERLAY, tree)
                ours += [f"/{name}" for name in hashes.of_tree(place.repository / OVERLAY)]
                with trees.mounted(tree):
                    trees.inside(place, tree, "ldconfig")
            (tree / BRANCH).parent.mkdir(parents=True, exist_ok=True)
            (tree / BRANCH).write_text(branch(recipe, installer), encoding="ascii")
            shutil.copyfile(by.certificate, tree / CERTIFICATE)
            trees.tidy(tree)
            archives = {deb.name: deb.sha256 for deb in wanted or below}
            known = {**owners.of_debian(tree), **known}
            account.write(out, new, known, ours, [*sbom.debian(tree, archives), *parts])
            trees.without_holes(new)
            signing.check_no_key(new, "20-nvidia")
            trees.squash(place, new, out / "20-nvidia.squashfs", xattrs=False)

    return make


def base_debs(place: Place, recipe: Recipe, base: Path) -> list[debs.Deb]:
    """What 10-base is made of: with firmware or without."""
    return recorded(place, recipe.base_set(firmware=(base / "firmware.txt").exists()))


def branch(recipe: Recipe, installer: Path | None) -> str:
    """The driver's branch, one number: 550 of 550.163.01. Raises ImageError for a file that is no installer's."""
    if installer is None:
        return f"{recipe.driver.partition('.')[0]}\n"
    number = version(installer).partition(".")[0]
    if int(number) < LEAST:
        raise ImageError(f"Driver {number} is too old for CUDA 13.", f"It needs {LEAST} or later.")
    if not installer.is_file():
        raise ImageError(f"There is no file {installer}.", "The builder gets it from NVIDIA.")
    return f"{number}\n"


def version(installer: Path) -> str:
    """The driver's version, from the name of NVIDIA's installer. Raises ImageError for another file."""
    match = _VERSION.fullmatch(installer.name)
    if match is None:
        raise ImageError(f"{installer.name} is not NVIDIA's installer.", "It is called NVIDIA-Linux-x86_64-VERSION.run")
    return match[1]


def _debian_modules(version: str) -> Component:
    text = "/usr/share/doc/nvidia-kernel-support/copyright"
    return Component("debian", "nvidia-kernel-dkms", version, ("NVIDIA-Software-License",), (text,))


def of_installer(version: str) -> list[Component]:
    """The modules, and all the rest."""
    texts = (f"/{TEXT}",)
    modules = Component("nvidia", "nvidia-open-gpu-kernel-modules", version, ("MIT", "GPL-2.0-only"), texts)
    return [modules, Component("nvidia", "nvidia-driver", version, ("LicenseRef-NVIDIA-Driver",), texts)]


def _open(place: Place, recipe: Recipe, tree: Path, installer: Path, out: Path) -> None:
    """Modules and libraries of an installer: unpacked and built in the throw-away tree, never run as an installer."""
    shutil.copyfile(installer, tree / "installer.run")
    with trees.mounted(tree):
        trees.inside(place, tree, "sh", "/installer.run", "--extract-only", "--target", "/run-files")
        source, kernel = "/run-files/kernel-open", f"/lib/modules/{recipe.kernel}"
        # (Debian parts the headers: with one folder for both NVIDIA's questions to the compiler find none of them)
        headers = (f"SYSSRC={kernel}/source", f"SYSOUT={kernel}/build")
        settings = (*headers, "IGNORE_CC_MISMATCH=1", f"NV_KERNEL_MODULES={' '.join(OPEN)}")
        trees.inside(place, tree, "make", "-C", source, f"-j{os.cpu_count() or 1}", *settings, "modules")
        trees.inside(place, tree, "strip", "--strip-debug", *(f"{source}/{name}.ko" for name in OPEN))  # as DKMS does
    unpacked = tree / "run-files"
    _take({path.stem: path for path in (unpacked / "kernel-open").glob("*.ko")}, OPEN, out)
    names = [str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()]
    for name in (*open_files(names), LICENCE):
        if not (unpacked / name).is_file():
            raise ImageError(f"NVIDIA's installer has no {name}.", "Take the one that NVIDIA offers, whole.")
        (out / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(unpacked / name, out / "run" / name)


def open_files(names: Sequence[str]) -> dict[str, str]:
    """Of the installer's files (paths in it), those that compute → where they go in the image."""
    placed = {}
    for name in names:
        file = name.rpartition("/")[2]
        if "/" not in name and file in OPEN_PROGRAMS:
            placed[name] = f"usr/bin/{file}"
        elif "/" not in name and file.partition(".so")[0] in OPEN_LIBRARIES and ".so." in file:
            placed[name] = f"usr/lib/x86_64-linux-gnu/{file}"
        elif re.fullmatch(r"firmware/gsp_\w+\.bin", name):
            placed[name] = f"usr/lib/firmware/nvidia/VERSION/{file}"
    return placed


def lay_open(source: Path, tree: Path, version: str, parts: Sequence[Component]) -> dict[str, str]:
    """Lay the installer's files into the tree; file → component. `parts`: as `of_installer` lists them.

    Raises ImageError for an installer that holds another version than it is called by, or less than the card needs."""
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
    for name in (f"libcuda.so.{version}", f"libnvidia-ml.so.{version}", *OPEN_PROGRAMS, *FIRMWARE, LICENCE):
        if name not in names:
            raise ImageError(f"NVIDIA's installer has no {name}.", "Take the one that NVIDIA offers, whole.")
    known = {}
    for name, place in {**open_files(names), LICENCE: TEXT}.items():
        target = tree / place.replace("VERSION", version)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)
        target.chmod(0o755 if "/bin/" in place else 0o644)
        known[f"/{target.relative_to(tree)}"] = parts[1].name
        if target.name.endswith(f".so.{version}"):
            known |= _sonames(target, tree, parts[1].name)
    return known


def _sonames(library: Path, tree: Path, owner: str) -> dict[str, str]:
    """The names by which a library is looked for: libcuda.so.1 and libcuda.so."""
    stem = library.name.partition(".so.")[0]
    known = {}
    for name in (f"{stem}.so.{4 if stem == 'libnvidia-nvvm' else 1}", f"{stem}.so"):
        (library.parent / name).symlink_to(library.name)
        known[f"/{(library.parent / name).relative_to(tree)}"] = owner
    return known
