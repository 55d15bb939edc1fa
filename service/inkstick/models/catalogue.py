"""Which models there are: the manifests of one folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inkstick.document import Task
from inkstick.errors import UsageError
from inkstick.models.manifest import Manifest, Status, load

FOLDER = "models-manifest"
INSTALLED = Path("/usr/share/inkstick") / FOLDER


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All manifests by id, in the order of `Status` and then of their ids."""

    folder: Path
    manifests: Mapping[str, Manifest]

    def get(self, model_id: str) -> Manifest:
        """Raises UsageError that lists the known ids."""
        if model_id not in self.manifests:
            raise UsageError(f"There is no model {model_id!r}.", hint=f"Known models: {', '.join(self.manifests)}.")
        return self.manifests[model_id]

    @property
    def default(self) -> Manifest:
        """The model that a machine with a usable GPU reads with. Raises UsageError if no manifest is the default."""
        for manifest in self.manifests.values():
            if manifest.status is Status.DEFAULT:
                return manifest
        raise UsageError(f"No manifest in {self.folder} is the default.", hint='Set status = "default" in one of them.')

    def offering(self, task: Task, to: str | None = None) -> tuple[Manifest, ...]:
        """The models that offer a task (and, for translate, the language), examples left out."""
        return tuple(
            manifest
            for manifest in self.manifests.values()
            if manifest.status is not Status.EXAMPLE
            and (offer := manifest.offers.get(task))
            and (to is None or not offer.to or to in offer.to)
        )

    def instead(self, task: Task, to: str | None = None) -> str:
        """The hint of a refusal: the models that would do it, with what to type."""
        names = " or ".join(f"{one.title} (--model {one.id})" for one in self.offering(task, to) if one.serve)
        return f"Use a model that does: {names}." if names else "No model that Inkstick knows offers it."


def find(given: Path | None = None) -> Path:
    """The folder of manifests: the given one, else beside the checkout, else the installed one. Raises UsageError."""
    checkout = Path(__file__).resolve().parents[3] / FOLDER
    for folder in [given] if given else [checkout, INSTALLED]:
        if folder.is_dir() and any(folder.glob("*.toml")):
            return folder
    where = given or f"{checkout} or {INSTALLED}"
    raise UsageError(f"No model manifests in {where}.", hint="Name their folder: --manifests DIR.")


def read(given: Path | None = None) -> Catalogue:
    """The catalogue. Raises UsageError for a manifest that is not right, a doubled id, or two defaults."""
    folder = find(given)
    order = list(Status)
    found = sorted((load(path) for path in folder.glob("*.toml")), key=lambda m: (order.index(m.status), m.id))
    manifests = {manifest.id: manifest for manifest in found}
    if len(manifests) < len(found):
        raise UsageError(f"Two manifests in {folder} have the same id.", hint="Give each its own.", code="manifest")
    if sum(manifest.status is Status.DEFAULT for manifest in found) > 1:
        raise UsageError(f"Two manifests in {folder} are the default.", hint="Let one be offered.", code="manifest")
    return Catalogue(folder, manifests)
