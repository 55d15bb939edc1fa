"""Which model is served from which folder: an id of the catalogue, or a checkpoint folder given by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inkstick.config import Settings
from inkstick.engines.spec import ModelSpec, spec_of
from inkstick.errors import UsageError
from inkstick.models import catalogue as catalogues
from inkstick.models import licence
from inkstick.models.catalogue import Catalogue
from inkstick.models.commands import folder_of, presence
from inkstick.models.manifest import Manifest, Status


@dataclass(frozen=True, slots=True)
class Weights:
    """`manifest`: what to ask it and how to serve it. `folder`: its files. `name`: what pages say read them.
    `context`: the most tokens it takes, if its configuration says so. `template`: its chat template."""

    manifest: Manifest
    folder: Path
    name: str
    context: int | None = None
    template: Path | None = None

    @property
    def spec(self) -> ModelSpec:
        return spec_of(self.manifest, self.name)


def chosen(settings: Settings) -> Weights:
    """The model that the settings name (its id, or a folder), or the default one. Raises UsageError where it is
    unknown, not here, or its licence is not accepted."""
    catalogue = catalogues.read()
    if settings.model is not None and is_folder(settings.model):
        return of_folder(Path(settings.model).expanduser().absolute(), catalogue)
    manifest = catalogue.get(settings.model) if settings.model else catalogue.default
    folder = folder_of(settings.models_folder, manifest.id)
    if presence(manifest, folder) != "yes":
        raise UsageError(
            f"{manifest.title} is not in {folder}.",
            hint=f"Fetch it: inkstick models fetch {manifest.id}; or name its folder: --model PATH.",
            code="model_missing",
        )
    licence.require(manifest, folder, settings.folder.state / "licences")
    return _weights(manifest, folder, manifest.id)


def is_folder(model: str) -> bool:
    """Whether a --model means a folder rather than an id."""
    return "/" in model or Path(model).is_dir()


def of_folder(folder: Path, catalogue: Catalogue) -> Weights:
    """A checkpoint given by hand: its family's manifest, the default before others. Raises UsageError."""
    config = _config(folder)
    family = str(config.get("model_type", "")).replace("_", "-")
    fitting = [m for m in catalogue.manifests.values() if m.serve and m.status is not Status.EXAMPLE]
    for manifest in fitting:
        if manifest.family == family:
            return _weights(manifest, folder, folder.name)
    known = ", ".join(dict.fromkeys(manifest.family for manifest in fitting))
    raise UsageError(f"{folder} holds a model of the family {family!r}.", hint=f"Known families: {known}.")


def _weights(manifest: Manifest, folder: Path, name: str) -> Weights:
    template = folder / "chat_template.jinja"
    return Weights(manifest, folder, name, _context(_config(folder)), template if template.is_file() else None)


def _context(config: Mapping[str, Any]) -> int | None:
    """The most tokens. Configurations in the style of transformers 5 keep it with the text part."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        if isinstance(most := part.get("max_position_embeddings"), int):
            return most
    return None


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="Name the folder with the weights.") from error
    return value if isinstance(value, dict) else {}
