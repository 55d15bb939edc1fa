"""30-cuda and 40-runtime: the engine's own Python environment (vLLM), in two layers; 40-tools: what it compiles with.

30-cuda holds NVIDIA's libraries as they come in their wheels, 40-runtime all the rest. Both are packed quickly: machine
code hardly shrinks more. 40-tools is gcc, the C library's headers and Python's: without them Triton starts no kernel.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inkstick_image import account, hashes, layers, nvidia, owners, sbom, signing, trees
from inkstick_image.recipe import Recipe
from inkstick_image.tools import run
from inkstick_image.trees import Place

RULES = 1  # raise it when this module makes something else of the same inputs
HOME = "opt/inkstick/engine"
NEWER = "transformers-5"  # the service looks for it under this name
PACKING = ("-comp", "zstd", "-Xcompression-level", "3", "-b", "256K")


@dataclass(frozen=True, slots=True)
class Kit:
    """What the environment is made of, all in locks/. `lock`: vLLM's set. `newer`: of a transformers that knows
    HunYuanVL, in a folder beside it; None where vLLM's own does. `gigabytes`: of all wheels."""

    lock: str
    newer: str | None
    gigabytes: float

    @property
    def locks(self) -> tuple[str, ...]:
        return (self.lock, self.newer) if self.newer else (self.lock,)


CUDA12 = Kit("engine-gpu.txt", "engine-transformers.txt", 5)
# vLLM 0.27.1: 0.28 has a HunYuanVL of its own too, but fails at HunyuanOCR's lm_head (vLLM's pull request 53342); later
# ones serve it through transformers, where pages were seen mixed up (docs/engines.md).
CUDA13 = Kit("engine-gpu-cuda13.txt", None, 3.9)


def kit(installer: Path | None) -> Kit:
    """What fits the driver: CUDA 13 runs on those alone that come from NVIDIA's installer."""
    return CUDA13 if installer else CUDA12


def key(place: Place, recipe: Recipe, made_of: Kit) -> str:
    """Of 30-cuda and 40-runtime: they do not depend on the layers below, so a new kernel leaves them as they are."""
    locks = [hashes.of_file(place.repository / "locks" / name) for name in made_of.locks]
    return hashes.of_value([RULES, layers.builder_key(place, recipe), recipe.python, locks])


def layer(place: Place, recipe: Recipe, builder_tree: Path, made_of: Kit) -> Callable[[Path], None]:
    """30-cuda*.squashfs and 40-runtime*.squashfs in one folder."""

    def make(out: Path) -> None:
        with trees.folder(place, "engine") as whole, trees.folder(place, "cuda") as cuda:
            _install(place, recipe, builder_tree, whole, made_of)
            packages = whole / HOME / f"lib/python{recipe.python}/site-packages"
            known = owners.of_python(whole, packages) | owners.of_python(whole, whole / HOME / NEWER)
            parts = sbom.python(whole, packages) + sbom.python(whole, whole / HOME / NEWER)
            for path, target in owners.files(whole).items():  # what `python -m venv` made
                if path not in known and (target or "site-packages" not in path) and f"/{NEWER}/" not in path:
                    known[path] = layers.VENV.name
            _part(whole, cuda, known, f"/{packages.relative_to(whole)}")
            account.write(out, whole, known, (), [*parts, layers.VENV])
            account.append(out, cuda, known)
            for tree, name in ((cuda, "30-cuda"), (whole, "40-runtime")):
                signing.check_no_key(tree, name)
                trees.squash(place, tree, out / f"{name}.squashfs", PACKING)

    return make


def tools_key(place: Place, recipe: Recipe, below: Sequence[str], *, installer: bool) -> str:
    """Of 40-tools. `below`: the names of the folders of 10-base and 20-nvidia."""
    packages = [deb.sha256 for deb in nvidia.recorded(place, recipe.runtime_set(installer=installer))]
    return hashes.of_value([RULES, *below, packages, place.level])


def tools(place: Place, recipe: Recipe, base: Path, driver: Path, *, installer: bool) -> Callable[[Path], None]:
    """40-tools.squashfs: Debian's compiler and headers. `base`, `driver`: the folders of the layers below."""

    def make(out: Path) -> None:
        wanted = nvidia.recorded(place, recipe.runtime_set(installer=installer))
        there = {deb.name for deb in nvidia.driver_debs(place, recipe, installer=installer)}
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


def _install(place: Place, recipe: Recipe, builder_tree: Path, whole: Path, made_of: Kit) -> None:
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
            trees.inside(place, builder_tree, *pip, "-r", f"/wheels/{made_of.lock}")
            folders = [f"lib/python{recipe.python}/site-packages"]
            if made_of.newer:
                folders.append(NEWER)
                beside = ("--target", f"/{HOME}/{NEWER}", "-r", f"/wheels/{made_of.newer}")
                trees.inside(place, builder_tree, *pip, *beside)
            trees.inside(place, builder_tree, python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip")
            layers.forget_bytecode(whole / HOME)
            shutil.rmtree(whole / HOME / NEWER / "bin", ignore_errors=True)  # commands that nobody calls
            for folder in folders:
                # Files for other versions of Python, which some packages bring, do not compile: they stay as they are.
                compiling = " ".join((*layers.COMPILE, f"/{HOME}/{folder}"))
                trees.inside(place, builder_tree, "sh", "-c", f"{compiling} >/dev/null || true")
    finally:
        run(["umount", wheels])
        run(["umount", home])
        wheels.rmdir()
        home.rmdir()


def _part(whole: Path, cuda: Path, known: dict[str, str], packages: str) -> None:
    """Move the files of NVIDIA's own packages to the other tree."""
    for path in cuda_files(known, owners.files(whole), packages):
        target = cuda / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        (whole / path.lstrip("/")).rename(target)
    for folder in sorted((path for path in whole.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def cuda_files(known: dict[str, str], files: Iterable[str], packages: str) -> list[str]:
    """Those of NVIDIA's libraries, and their bytecode. `packages`: the site-packages folder, as a path in `known`.

    Their names do not tell them: nvidia-cublas-cu12 is nvidia-cublas since CUDA 13. All of them, and no other package,
    lie in the folder `nvidia`."""
    theirs = {owner for path, owner in known.items() if path.startswith(f"{packages}/nvidia/")}
    folders = {f"{path.rpartition('/')[0]}/__pycache__" for path, owner in known.items() if owner in theirs}
    ours = {f"{path.rpartition('/')[0]}/__pycache__" for path, owner in known.items() if owner not in theirs}
    return [path for path in files if known.get(path, "") in theirs or path.rpartition("/")[0] in folders - ours]
