"""The recipe: image/recipe.toml, read once. Pure data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from inkstick_image.errors import ImageError

Set = tuple[str, tuple[str, ...]]
"""The name of a set of packages, and the packages."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """`epoch`: seconds since 1970, the date of everything inside. `driver`: NVIDIA's version in the suite. The rest are
    Debian package names: `firmware` for cards of field laptops, `modules` to build Debian's NVIDIA modules with,
    `open_modules` those of NVIDIA's installer, Debian's NVIDIA `libraries`, `tools` that the engine compiles with."""

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
    open_modules: tuple[str, ...]
    libraries: tuple[str, ...]
    tools: tuple[str, ...]

    @property
    def base_packages(self) -> tuple[str, ...]:
        return (*self.base, f"linux-image-{self.kernel}")

    def base_set(self, *, firmware: bool) -> Set:
        """What 10-base is made of."""
        return ("field", (*self.base_packages, *self.firmware)) if firmware else ("base", self.base_packages)

    def module_set(self, *, installer: bool) -> Set:
        """What NVIDIA's modules are built with. `installer`: the driver comes from NVIDIA, not from Debian."""
        headers = f"linux-headers-{self.kernel}"
        return ("open-modules", (*self.open_modules, headers)) if installer else ("modules", (*self.modules, headers))

    @property
    def driver_set(self) -> Set:
        """Debian's NVIDIA driver and all below it."""
        return "nvidia", (*self.base_packages, *self.libraries)

    def runtime_set(self, *, installer: bool) -> Set:
        """What the engine compiles with, and all below it."""
        if installer:
            return "open-runtime", (*self.base_packages, *self.tools)
        return "runtime", (*self.driver_set[1], *self.tools)

    def sets(self, *, gpu: bool, firmware: bool, installer: bool = False) -> dict[str, tuple[str, ...]]:
        """Which sets of packages an edition is made of."""
        made = dict([self.base_set(firmware=firmware), ("builder", self.builder)])
        if gpu:
            made |= dict([self.module_set(installer=installer), self.runtime_set(installer=installer)])
            made |= {} if installer else dict([self.driver_set])
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
            open_modules=tuple(raw["nvidia"]["open_modules"]),
            libraries=tuple(raw.pop("nvidia")["libraries"]),
            tools=tuple(raw.pop("runtime")["packages"]),
            **raw,
        )
    except (KeyError, TypeError) as error:
        raise ImageError(
            f"{path.name} is not a recipe: {error}", "Compare it with the one in the repository."
        ) from error
