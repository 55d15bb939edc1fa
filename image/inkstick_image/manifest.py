"""What a build was made of, beside the ISO: NAME.iso.sha256 and NAME.iso.json."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inkstick_image import esp, flash, hashes, minisign
from inkstick_image.errors import ImageError
from inkstick_image.medium import Made
from inkstick_image.progress import Way
from inkstick_image.trees import Place


@dataclass(frozen=True, slots=True)
class Runtime:
    """`packages`: the name of the set of Debian packages that the engine compiles with. `lock`: of its environment."""

    packages: str
    lock: str


def describe(
    place: Place,
    edition: str,
    version: str,
    stack: Sequence[Path],
    base: Path,
    made: Made,
    runtime: Runtime | None,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Inputs, hashes, sizes (bytes) and times (seconds). `runtime`: of the gpu edition."""
    name = "field" if (base / "firmware.txt").exists() else "base"
    names = [name, *([runtime.packages] if runtime else [])]
    records = [json.loads((place.cache / f"debs/{name}.json").read_text(encoding="utf-8")) for name in names]
    packages = {deb["name"]: deb for record in records for deb in record["debs"]}
    return {
        "inkstick": version,
        "edition": edition,
        "epoch": place.epoch,
        "layers": {
            layer.name: {
                "size": layer.stat().st_size,
                "sha256": made.digests[f"live/{layer.name}"],
                "root_hash": made.roots[layer.name],
            }
            for layer in stack
        },
        "kernel": {name: hashes.of_file(base / name) for name in ("vmlinuz", "initrd.img")},
        "debian": [packages[name] for name in sorted(packages)],
        "sums": hashlib.sha256(made.sums.encode()).hexdigest(),
        **({"engine_lock": hashes.of_file(place.repository / "locks" / runtime.lock)} if runtime else {}),
        "python_lock": hashes.of_file(place.repository / "locks/runtime.txt"),
        "seconds": dict(seconds),
    }


def write(iso: Path, record: dict[str, Any]) -> str:
    """Both files; the ISO's sha256. The signature of a build before is none of this one: it goes."""
    iso.with_name(f"{iso.name}.json.minisig").unlink(missing_ok=True)
    digest = hashes.of_file(iso)
    whole = {**record, "iso": {"name": iso.name, "size": iso.stat().st_size, "sha256": digest}}
    iso.with_name(f"{iso.name}.sha256").write_text(f"{digest}  {iso.name}\n", encoding="ascii")
    iso.with_name(f"{iso.name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return digest


def write_bill(iso: Path, folder: Path, layers: Sequence[Path], made: Made) -> list[Path]:
    """Both bills of materials and the list of all files, beside the ISO. `folder`: of the layer that has the bills."""
    written = []
    for name in ("cdx.json", "spdx.json"):
        written.append(iso.with_name(f"{iso.name}.{name}"))
        shutil.copyfile(folder / f"inkstick.{name}", written[-1])
    listed = [f"{path}\t{owner}\n" for path, owner in made.files.items()]
    listed += [(layer / "files.txt").read_text(encoding="utf-8") for layer in layers]
    written.append(iso.with_name(f"{iso.name}.files.txt"))
    written[-1].write_text("".join(listed), encoding="utf-8")
    return written


def signed(iso: Path, public_key: Path) -> str:
    """What the signature of the manifest says. Raises ImageError where there is none, or it does not fit."""
    record = iso.with_name(f"{iso.name}.json")
    signature = record.with_name(f"{record.name}.minisig")
    for path in (record, signature, public_key):
        if not path.is_file():
            raise ImageError(f"There is no file {path}.", "The manifest, its .minisig and the public key are needed.")
    key = minisign.public_key(public_key.read_text(encoding="utf-8"))
    return minisign.check(record.read_bytes(), signature.read_text(encoding="utf-8"), key)


def sums_of(iso: Path) -> str:
    """The `sums` of an ISO's manifest. Raises ImageError."""
    return str(_said(iso.with_name(f"{iso.name}.json"), "sums"))


def _said(record: Path, *names: str) -> Any:
    """What a manifest says of `names`, each inside the one before. Raises ImageError for what is none."""
    try:
        value = json.loads(record.read_text(encoding="utf-8"))
        for name in names:
            value = value[name]
        return value
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {record}.", "The ISO and its .json belong together.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{record} is no manifest.", "Copy it again: it was cut short or changed.") from error


def check_medium(device: Path, wanted_sums: str | None, say: Callable[[str], None] = lambda _: None) -> list[str]:
    """Read every file of a medium against its own sha256sum.txt, and that against the manifest's `sums`; and what
    starts a computer by UEFI, which lies in a partition of its own.

    Raises ImageError that names what is damaged."""
    places = flash.extents(device)
    if "sha256sum.txt" not in places:
        raise ImageError("This is no Inkstick medium.", "Name an ISO or a stick that build.sh wrote.")
    text = b"".join(flash.contents(device, places["sha256sum.txt"]))
    if wanted_sums is not None and hashlib.sha256(text).hexdigest() != wanted_sums:
        raise ImageError("The stick is of another build than the manifest.", "Use the manifest that came with it.")
    pairs = [line.split("  ./", 1) for line in text.decode("utf-8", "replace").splitlines()]
    way = Way("reading", sum(places[pair[-1]][1] for pair in pairs if pair[-1] in places), say)
    bad = [pair[-1] for pair in pairs if len(pair) != 2 or _digest(device, places.get(pair[1]), way) != pair[0]]
    bad += esp.differences(device, {pair[-1]: pair[0] for pair in pairs})
    if bad:
        raise ImageError(f"Damaged: {', '.join(bad)}.", "Write the stick anew, or take another one.")
    return [f"{len(pairs)} files, and those in the EFI partition, are as their sha256sum.txt says"]


def _digest(device: Path, where: tuple[int, int] | None, way: Way) -> str:
    found = hashlib.sha256()
    for block in flash.contents(device, where) if where else ():
        found.update(block)
        way.went(len(block))
    return found.hexdigest()


def check(iso: Path) -> list[str]:
    """What was found good, a line each. Raises ImageError for whatever is not."""
    sums, record = iso.with_name(f"{iso.name}.sha256"), iso.with_name(f"{iso.name}.json")
    for path in (iso, sums, record):
        if not path.is_file():
            raise ImageError(f"There is no file {path}.", "The ISO, its .sha256 and its .json belong together.")
    said = sums.read_text(encoding="ascii", errors="replace").split()[:1]
    wanted, listed = _said(record, "iso", "size"), _said(record, "iso", "sha256")
    if (size := iso.stat().st_size) != wanted:
        raise ImageError(f"{iso.name} has {size} bytes, not {wanted}.", "Copy it again: it was cut short or changed.")
    digest = hashes.of_file(iso)
    if said != [digest] or listed != digest:
        raise ImageError(f"{iso.name} is not what its .sha256 and manifest say.", "Copy it again, or build it anew.")
    return [f"{iso.name}: {size} bytes, sha256 {digest}: as its .sha256 and manifest say"]
