"""A layer's account: parts.json (its components) and files.txt (file → component), beside its squashfs file.

The bill of materials of an edition is made of its layers' accounts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inkstick_image import owners, sbom
from inkstick_image.errors import ImageError
from inkstick_image.sbom import Component

FOLDER = "usr/share/inkstick/sbom"


def write(
    out: Path, tree: Path, known: Mapping[str, str], ours: Iterable[str], parts: Sequence[Component]
) -> dict[str, str]:
    """Account for every file of `tree` in `out`; file → component. Raises ImageError for a file without one."""
    assigned = owners.assign(owners.files(tree), known, ours)
    names = {part.name for part in parts} | {owners.OURS}
    if strange := sorted(set(assigned.values()) - names):
        raise ImageError(
            f"No such component: {', '.join(strange)}.", "owners.py names a package that is not installed."
        )
    lines = "".join(f"{path}\t{owner}\n" for path, owner in assigned.items())
    (out / "files.txt").write_text(lines, encoding="utf-8")
    (out / "parts.json").write_text(json.dumps([asdict(part) for part in parts], indent=1), encoding="utf-8")
    return assigned


def append(out: Path, tree: Path, known: Mapping[str, str]) -> None:
    """Account for the files of one more layer in the same folder, whose components are those of `write`."""
    assigned = owners.assign(owners.files(tree), known)
    with (out / "files.txt").open("a", encoding="utf-8") as file:
        file.writelines(f"{path}\t{owner}\n" for path, owner in assigned.items())


def parts(layers: Iterable[Path]) -> list[Component]:
    """The components of several layers' folders."""
    found: list[Component] = []
    for layer in layers:
        raw: list[dict[str, Any]] = json.loads((layer / "parts.json").read_text(encoding="utf-8"))
        found += [
            Component(**{**part, "licences": tuple(part["licences"]), "texts": tuple(part["texts"])}) for part in raw
        ]
    return found


def documents(listed: Iterable[Component], version: str, epoch: int) -> dict[str, str]:
    """File name → text: both forms of the bill."""
    all_parts = sbom.ordered(listed)
    made = {
        "inkstick.cdx.json": sbom.cyclonedx(all_parts, "inkstick-image", version, epoch),
        "inkstick.spdx.json": sbom.spdx(all_parts, "inkstick-image", version, epoch),
    }
    return {name: json.dumps(document, indent=1, ensure_ascii=False) + "\n" for name, document in made.items()}
