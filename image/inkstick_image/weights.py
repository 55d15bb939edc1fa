"""50-model: the weights, checked against their manifest, stored as they are (they do not get smaller).

The builder accepts each licence that asks for it; the acceptance lies beside the weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inkstick_image import account, hashes, signing, trees
from inkstick_image.errors import ImageError
from inkstick_image.sbom import Component
from inkstick_image.trees import Place

if TYPE_CHECKING:
    from inkstick.models.manifest import Manifest

FOLDER = "opt/inkstick/models"
RULES = 2  # raise it when this module makes something else of the same inputs
BUILDER = "the builder of this image"
SHARE = "usr/share/inkstick"
STORED = ("-noI", "-noD", "-noF", "-noX", "-b", "1M")


@dataclass(frozen=True, slots=True)
class Model:
    """One that goes into the image. `folder`: its files, checked. `licence`: its acceptance as JSON, "" if it needs
    none. `texts`: its licence's file, if it has one."""

    id: str
    title: str
    version: str
    licence_name: str
    folder: Path
    licence: str = ""
    text: str = ""


def find(
    ids: Sequence[str], given: Sequence[Path], manifests: Path, cache: Path, *, accepts: bool, epoch: int
) -> list[Model]:
    """The models by id (fetched into `cache` before) and by folder, the first one first. Raises ImageError for one that
    is not whole, is known to no manifest, or whose licence is not accepted."""
    from inkstick.errors import InkstickError
    from inkstick.models import catalogue, verify

    found: list[tuple[Manifest, Path]] = []
    try:
        listed = catalogue.read(manifests)
        known = tuple(listed.manifests.values())
        found += [(verify.recognise(folder, known), folder) for folder in given]
        found += [(listed.get(name), cache / name) for name in ids]
        for manifest, folder in found:
            verify.verify(manifest, folder, given=folder in given).require()
    except InkstickError as error:
        raise ImageError(error.message, error.hint) from error
    return [_model(manifest, folder, accepts=accepts, epoch=epoch) for manifest, folder in found]


def fetch(ids: Sequence[str], manifests: Path, cache: Path, *, accepts: bool) -> None:
    """Every file of these models into `cache`, as `inkstick models fetch` does it: licence first. Raises ImageError."""
    from rich.console import Console

    from inkstick.clock import SystemClock
    from inkstick.models import commands

    for name in ids:
        if commands.fetch(
            Console(),
            name,
            manifests=manifests,
            folder=cache / name,
            records=cache / "licences",
            who=BUILDER,
            clock=SystemClock(),
            accept=accepts,
        ):
            raise ImageError(f"The model {name} was not fetched.", "See above; or give its folder: --weights DIR")


def key(models: Sequence[Model], manifests: Path) -> str:
    """Of the layer: what lies in the folders, and what was accepted."""
    listed = [[model.id, model.licence, hashes.of_tree(model.folder)] for model in models]
    return hashes.of_value([RULES, listed, hashes.of_tree(manifests)])


def layer(place: Place, models: Sequence[Model]) -> Callable[[Path], None]:
    """50-model.squashfs."""

    def make(out: Path) -> None:
        with trees.folder(place, "model") as tree:
            known: dict[str, str] = {}
            for model in models:
                known |= _lay(model, tree)
            chosen = tree / SHARE / "model"
            chosen.parent.mkdir(parents=True, exist_ok=True)
            chosen.write_text(f"{models[0].id}\n", encoding="ascii")
            account.write(out, tree, known, [f"/{SHARE}/model"], [_component(model) for model in models])
            signing.check_no_key(tree, "50-model")
            trees.squash(place, tree, out / "50-model.squashfs", STORED)

    return make


def _lay(model: Model, tree: Path) -> dict[str, str]:
    """The model's files in the tree; file → component."""
    home = tree / FOLDER / model.id
    trees.lay(model.folder, home)
    for path in home.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    if model.licence:
        (tree / SHARE / "licences").mkdir(parents=True, exist_ok=True)
        (tree / SHARE / "licences" / f"{model.id}.json").write_text(model.licence, encoding="utf-8")
    listed = {f"/{path.relative_to(tree)}": model.id for path in home.rglob("*") if not path.is_dir()}
    return {**listed, f"/{SHARE}/licences/{model.id}.json": model.id}


def _component(model: Model) -> Component:
    text = f"/{FOLDER}/{model.id}/{model.text}" if model.text else ""
    digest = hashes.of_value(hashes.of_tree(model.folder))
    return Component("model", model.id, model.version, (model.licence_name,), (text,) if text else (), digest)


def _model(manifest: Manifest, folder: Path, *, accepts: bool, epoch: int) -> Model:
    from inkstick.clock import ManualClock
    from inkstick.models import licence

    accepted = ""
    if manifest.licence.accept:
        if not accepts:
            raise ImageError(
                " ".join(licence.summary(manifest)),
                f"Read {folder}/{manifest.licence.text}; if you accept it, add --accept-licences.",
            )
        # The date is the image's, so that the same inputs make the same bits.
        with tempfile.TemporaryDirectory() as records:
            licence.accept(manifest, folder, Path(records), who=BUILDER, clock=ManualClock(epoch))
            accepted = next(Path(records).iterdir()).read_text(encoding="utf-8")
    return Model(
        manifest.id,
        manifest.title,
        manifest.version,
        manifest.licence.name,
        folder,
        accepted,
        manifest.licence.text or "",
    )
