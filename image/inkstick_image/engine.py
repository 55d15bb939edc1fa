"""30-cuda and 40-runtime: the engine's own Python environment (vLLM), in two layers; 40-tools: what it compiles with.

30-cuda holds NVIDIA's libraries as they come in their wheels, 40-runtime all the rest. Both are packed quickly: machine
code hardly shrinks more. 40-tools is gcc, the C library's headers and Python's: without them Triton starts no kernel.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from inkstick_image import account, debs, hashes, layers, nvidia, owners, sbom, signing, trees
from inkstick_image.recipe import Recipe
from inkstick_image.tools import run
from inkstick_image.trees import Place

RULES = 1  # raise it when this module makes something else of the same inputs
HOME = "opt/inkstick/engine"
NEWER = "transformers-5"  # the service looks for it under this name
PACKING = ("-comp", "zstd", "-Xcompression-level", "3", "-b", "256K")
LOCKS = ("engine-gpu.txt", "engine-transformers.txt")
_CUDA = re.compile(r"nvidia-[a-z-]+-cu\d+")


def key(place: Place, recipe: Recipe) -> str:
    """Of 30-cuda and 40-runtime: they do not depend on the layers below, so a new kernel leaves them as they are."""
    locks = [hashes.of_file(place.repository / "locks" / name) for name in LOCKS]
    return hashes.of_value([RULES, layers.builder_key(place, recipe), recipe.python, locks])


def layer(place: Place, recipe: Recipe, builder_tree: Path) -> Callable[[Path], None]:
    """30-cuda*.squashfs and 40-runtime*.squashfs in one folder."""

    def make(out: Path) -> None:
        with trees.folder(place, "engine") as whole, trees.folder(place, "cuda") as cuda:
            _install(place, recipe, builder_tree, whole)
            packages = whole / HOME / f"lib/python{recipe.python}/site-packages"
            known = owners.of_python(whole, packages) | owners.of_python(whole, whole / HOME / NEWER)
            parts = sbom.python(whole, packages) + sbom.python(whole, whole / HOME / NEWER)
            for path, target in owners.files(whole).items():  # what `python -m venv` made
                if path not in known and (target or "site-packages" not in path) and f"/{NEWER}/" not in path:
                    known[path] = layers.VENV.name
            _part(whole, cuda, known)
            account.write(out, whole, known, (), [*parts, layers.VENV])
            account.append(out, cuda, known)
            for tree, name in ((cuda, "30-cuda"), (whole, "40-runtime")):
                signing.check_no_key(tree, name)
                trees.squash(place, tree, out / f"{name}.squashfs", PACKING)

    return make


def tools_key(place: Place, recipe: Recipe, below: Sequence[str]) -> str:
    """Of 40-tools. `below`: the names of the folders of 10-base and 20-nvidia."""
    packages = [deb.sha256 for deb in debs.recorded(place.cache / "debs", "runtime", recipe.runtime_packages)]
    return hashes.of_value([RULES, *below, packages, place.level])


def tools(place: Place, recipe: Recipe, base: Path, driver: Path) -> Callable[[Path], None]:
    """40-tools.squashfs: Debian's compiler and headers. `base`, `driver`: the folders of the layers below."""

    def make(out: Path) -> None:
        wanted = debs.recorded(place.cache / "debs", "runtime", recipe.runtime_packages)
        there = {deb.name for deb in debs.recorded(place.cache / "debs", "nvidia", recipe.driver_packages)}
        there |= {deb.name for deb in nvidia.base_debs(place, recipe, base)}
        with trees.above(place, "tools", [base / "10-base.squashfs", driver / "20-nvidia.squashfs"]) as (tree, new):
            trees.add(place, tree, [deb for deb in wanted if deb.name not in there])
            trees.tidy(tree)
            archives = {deb.name: deb.sha256 for deb in wanted}
            account.write(out, new, owners.of_debian(tree), (), sbom.debian(tree, archives))
            trees.without_holes(new)
            signing.check_no_key(new, "40-tools")
            trees.squash(place, new, out / "40-tools.squashfs", xattrs=False)

    return make


def _install(place: Place, recipe: Recipe, builder_tree: Path, whole: Path) -> None:
    """The environment as it will lie in /opt/inkstick/engine. The wheels come in by a mount: they are large."""
    home, wheels, python = builder_tree / HOME, builder_tree / "wheels", f"/{HOME}/bin/python"
    trees.release(builder_tree)
    for left in (home, wheels):
        shutil.rmtree(left, ignore_errors=True)
        left.mkdir(parents=True)
    (whole / HOME).mkdir(parents=True)
    pip = (python, "-m", "pip", "install", *layers.PIP)
    run(["mount", "--bind", whole / HOME, home])
    run(["mount", "--bind", place.cache / "wheels-engine", wheels])
    try:
        with trees.mounted(builder_tree):
            trees.inside(place, builder_tree, "python3", "-m", "venv", f"/{HOME}")
            trees.inside(place, builder_tree, *pip, "-r", f"/wheels/{LOCKS[0]}")
            trees.inside(place, builder_tree, *pip, "--target", f"/{HOME}/{NEWER}", "-r", f"/wheels/{LOCKS[1]}")
            trees.inside(place, builder_tree, python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip")
            layers.forget_bytecode(whole / HOME)
            shutil.rmtree(whole / HOME / NEWER / "bin", ignore_errors=True)  # commands that nobody calls
            for folder in (f"lib/python{recipe.python}/site-packages", NEWER):
                # Files for other versions of Python, which some packages bring, do not compile: they stay as they are.
                compiling = " ".join((*layers.COMPILE, f"/{HOME}/{folder}"))
                trees.inside(place, builder_tree, "sh", "-c", f"{compiling} >/dev/null || true")
    finally:
        run(["umount", wheels])
        run(["umount", home])
        wheels.rmdir()
        home.rmdir()


def _part(whole: Path, cuda: Path, known: dict[str, str]) -> None:
    """Move the files of NVIDIA's own packages to the other tree."""
    for path in cuda_files(known, owners.files(whole)):
        target = cuda / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        (whole / path.lstrip("/")).rename(target)
    for folder in sorted((path for path in whole.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def cuda_files(known: dict[str, str], files: Iterable[str]) -> list[str]:
    """Those of NVIDIA's CUDA packages, and their bytecode."""
    folders = {f"{path.rpartition('/')[0]}/__pycache__" for path, owner in known.items() if _CUDA.fullmatch(owner)}
    ours = {f"{path.rpartition('/')[0]}/__pycache__" for path, owner in known.items() if not _CUDA.fullmatch(owner)}
    return [path for path in files if _CUDA.fullmatch(known.get(path, "")) or path.rpartition("/")[0] in folders - ours]
