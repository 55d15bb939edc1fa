"""The recipe: image/recipe.toml, read once. Pure data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from inkstick_image.errors import ImageError


@dataclass(frozen=True, slots=True)
class Recipe:
    """`epoch`: seconds since 1970, the date of everything inside. `driver`: NVIDIA's version in the suite. The rest are
    Debian package names: `firmware` for cards of field laptops, `modules` to build NVIDIA's modules with, NVIDIA's
    `libraries`, `tools` that the engine compiles with."""

    suite: str
    components: tuple[str, ...]
    kernel: str
    python: str
    epoch: int
    data_uid: int
    base: tuple[str, ...]
    builder: tuple[str, ...]
    firmware: tuple[str, ...]
    driver: str
    modules: tuple[str, ...]
    libraries: tuple[str, ...]
    tools: tuple[str, ...]

    @property
    def base_packages(self) -> tuple[str, ...]:
        return (*self.base, f"linux-image-{self.kernel}")

    def base_set(self, *, firmware: bool) -> tuple[str, tuple[str, ...]]:
        """The name of the set of packages that 10-base is made of, and its packages."""
        return ("field", (*self.base_packages, *self.firmware)) if firmware else ("base", self.base_packages)

    @property
    def module_packages(self) -> tuple[str, ...]:
        return (*self.modules, f"linux-headers-{self.kernel}")

    @property
    def driver_packages(self) -> tuple[str, ...]:
        return (*self.base_packages, *self.libraries)

    @property
    def runtime_packages(self) -> tuple[str, ...]:
        return (*self.driver_packages, *self.tools)

    def sets(self, *, gpu: bool, firmware: bool) -> dict[str, tuple[str, ...]]:
        """Which sets of packages an edition is made of."""
        name, packages = self.base_set(firmware=firmware)
        made = {name: packages, "builder": self.builder}
        if gpu:
            made |= {"modules": self.module_packages, "nvidia": self.driver_packages, "runtime": self.runtime_packages}
        return made


def load(path: Path) -> Recipe:
    """Raises ImageError for a recipe that lacks something or has something unknown."""
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        return Recipe(
            components=tuple(raw.pop("components")),
            base=tuple(raw.pop("base")["packages"]),
            builder=tuple(raw.pop("builder")["packages"]),
            firmware=tuple(raw.pop("firmware")["packages"]),
            driver=raw["nvidia"]["driver"],
            modules=tuple(raw["nvidia"]["modules"]),
            libraries=tuple(raw.pop("nvidia")["libraries"]),
            tools=tuple(raw.pop("runtime")["packages"]),
            **raw,
        )
    except (KeyError, TypeError) as error:
        raise ImageError(
            f"{path.name} is not a recipe: {error}", "Compare it with the one in the repository."
        ) from error
