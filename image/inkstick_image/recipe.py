"""The recipe: image/recipe.toml, read once. Pure data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from inkstick_image.errors import ImageError


@dataclass(frozen=True, slots=True)
class Recipe:
    """`epoch`: seconds since 1970, the date of everything inside. `base`, `builder`: Debian package names."""

    suite: str
    components: tuple[str, ...]
    kernel: str
    python: str
    epoch: int
    data_uid: int
    base: tuple[str, ...]
    builder: tuple[str, ...]

    @property
    def base_packages(self) -> tuple[str, ...]:
        return (*self.base, f"linux-image-{self.kernel}")


def load(path: Path) -> Recipe:
    """Raises ImageError for a recipe that lacks something or has something unknown."""
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        return Recipe(
            components=tuple(raw.pop("components")),
            base=tuple(raw.pop("base")["packages"]),
            builder=tuple(raw.pop("builder")["packages"]),
            **raw,
        )
    except (KeyError, TypeError) as error:
        raise ImageError(
            f"{path.name} is not a recipe: {error}", "Compare it with the one in the repository."
        ) from error
