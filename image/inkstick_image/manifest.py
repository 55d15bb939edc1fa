"""What a build was made of, beside the ISO: NAME.iso.sha256 and NAME.iso.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inkstick_image import hashes
from inkstick_image.errors import ImageError
from inkstick_image.trees import Place


def describe(
    place: Place,
    edition: str,
    version: str,
    stack: Sequence[Path],
    base: Path,
    roots: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Inputs, hashes, sizes (bytes) and times (seconds)."""
    record = json.loads((place.cache / "debs/base.json").read_text(encoding="utf-8"))
    return {
        "inkstick": version,
        "edition": edition,
        "epoch": place.epoch,
        "layers": {
            layer.name: {"size": layer.stat().st_size, "sha256": hashes.of_file(layer), "root_hash": roots[layer.name]}
            for layer in stack
        },
        "kernel": {name: hashes.of_file(base / name) for name in ("vmlinuz", "initrd.img")},
        "debian": record["debs"],
        "python_lock": hashes.of_file(place.repository / "locks/runtime.txt"),
        "seconds": dict(seconds),
    }


def write(iso: Path, record: dict[str, Any]) -> None:
    digest = hashes.of_file(iso)
    whole = {**record, "iso": {"name": iso.name, "size": iso.stat().st_size, "sha256": digest}}
    iso.with_name(f"{iso.name}.sha256").write_text(f"{digest}  {iso.name}\n", encoding="ascii")
    iso.with_name(f"{iso.name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def check(iso: Path) -> list[str]:
    """What was found good, a line each. Raises ImageError for whatever is not."""
    sums, record = iso.with_name(f"{iso.name}.sha256"), iso.with_name(f"{iso.name}.json")
    for path in (iso, sums, record):
        if not path.is_file():
            raise ImageError(f"There is no file {path}.", "The ISO, its .sha256 and its .json belong together.")
    said = sums.read_text(encoding="ascii").split()[:1]
    listed = json.loads(record.read_text(encoding="utf-8"))["iso"]
    if (size := iso.stat().st_size) != listed["size"]:
        raise ImageError(
            f"{iso.name} has {size} bytes, not {listed['size']}.", "Copy it again: it was cut short or changed."
        )
    digest = hashes.of_file(iso)
    if said != [digest] or listed["sha256"] != digest:
        raise ImageError(f"{iso.name} is not what its .sha256 and manifest say.", "Copy it again, or build it anew.")
    return [f"{iso.name}: {size} bytes, sha256 {digest}: as its .sha256 and manifest say"]
