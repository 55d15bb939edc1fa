"""The bill of materials: Debian packages, Python packages, models and our own code, as CycloneDX 1.6 and as SPDX 2.3.

Both documents are made of the same components and carry no random number and no time but the recipe's: same inputs,
same bits.
"""

from __future__ import annotations

import email
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from inkstick_image import hashes, owners

_SPACE = uuid.UUID("6f0c1b0e-3c52-5d0a-9a53-2f1d8f6f2c11")
_SPDX_ID = re.compile(r"[^A-Za-z0-9.-]+")
MODEL_SUFFIXES = (".onnx", ".safetensors")


@dataclass(frozen=True, slots=True)
class Component:
    """One part. `kind`: debian, python, model or own; `licences`: as its own metadata names them; `texts`: where in the
    image their texts lie; `sha256`: of the package or model file, where there is one."""

    kind: str
    name: str
    version: str
    licences: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def purl(self) -> str:
        """Its package URL."""
        name, version = quote(self.name, safe=""), quote(self.version, safe="")
        return {
            "debian": f"pkg:deb/debian/{name}@{version}?arch=amd64",
            "python": f"pkg:pypi/{name}@{version}",
        }.get(self.kind, f"pkg:generic/{name}@{version}")


def debian(tree: Path, archives: Mapping[str, str]) -> list[Component]:
    """The installed packages of `tree`. `archives`: (name_version_architecture, as in a .deb's name) → sha256."""
    found = []
    for stanza in (tree / "var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.MULTILINE))
        if fields.get("Status") != "install ok installed":
            continue
        name, version = fields["Package"], fields["Version"]
        text = tree / f"usr/share/doc/{name}/copyright"
        licences = copyright_names(text.read_text(encoding="utf-8", errors="replace")) if text.is_file() else ()
        stem = f"{name}_{version.replace(':', '%3a')}_{fields['Architecture']}.deb"
        texts = (f"/usr/share/doc/{name}/copyright",) if text.is_file() else ()
        found.append(Component("debian", name, version, licences, texts, archives.get(stem, "")))
    return found


def copyright_names(text: str) -> tuple[str, ...]:
    """The short names of a machine-readable Debian copyright file; none where it is prose."""
    if not text.startswith("Format:"):
        return ()
    return tuple(sorted({name.strip() for name in re.findall(r"^License: *(\S.*)$", text, re.MULTILINE)}))


def python(tree: Path, packages: Path) -> list[Component]:
    """The Python packages of a site-packages folder below `tree`."""
    found = []
    for info in sorted(packages.glob("*.dist-info")):
        text = (info / "METADATA").read_text(encoding="utf-8", errors="replace")
        meta = email.message_from_string(text.partition("\n\n")[0])
        texts = [path for path in sorted(info.rglob("*")) if re.match(r"(?i)(licen[cs]e|copying|notice)", path.name)]
        places = tuple(f"/{path.relative_to(tree)}" for path in texts if path.is_file())
        name = owners.normal(meta["Name"])
        found.append(Component("python", name, meta["Version"], _python_licence(meta), places))
    return found


def _python_licence(meta: Any) -> tuple[str, ...]:
    if expression := meta.get("License-Expression"):
        return (expression,)
    classes = [c.rpartition(" :: ")[2] for c in meta.get_all("Classifier", []) if c.startswith("License :: ")]
    short = meta.get("License", "").strip()
    return tuple(classes) or ((short,) if short and len(short) < 60 else ())


def models(tree: Path, licences: Mapping[str, str]) -> list[Component]:
    """Every file of weights below `tree`. `licences`: model's folder or package → licence name."""
    found = []
    for path in sorted(path for path in tree.rglob("*") if path.suffix in MODEL_SUFFIXES and path.is_file()):
        where = f"/{path.relative_to(tree)}"
        licence = next((name for part, name in licences.items() if f"/{part}/" in where), "")
        digest = hashes.of_file(path)
        found.append(Component("model", path.name, digest[:12], (licence,) if licence else (), (), digest))
    return found


def cyclonedx(parts: Iterable[Component], name: str, version: str, epoch: int) -> dict[str, Any]:
    kinds = {"model": "machine-learning-model", "own": "application"}
    listed = [_cyclonedx_part(part, kinds.get(part.kind, "library")) for part in ordered(parts)]
    serial = uuid.uuid5(_SPACE, hashes.of_value(listed))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": _time(epoch),
            "component": {"type": "operating-system", "bom-ref": name, "name": name, "version": version},
        },
        "components": listed,
        "dependencies": [{"ref": name, "dependsOn": [part["bom-ref"] for part in listed]}],
    }


def _cyclonedx_part(part: Component, kind: str) -> dict[str, Any]:
    made: dict[str, Any] = {"type": kind, "bom-ref": part.purl, "name": part.name, "version": part.version}
    made["purl"] = part.purl
    if part.sha256:
        made["hashes"] = [{"alg": "SHA-256", "content": part.sha256}]
    if part.licences:
        made["licenses"] = [{"license": {"name": licence}} for licence in part.licences]
    if part.texts:
        made["properties"] = [{"name": "inkstick:licence-text", "value": text} for text in part.texts]
    return made


def spdx(parts: Iterable[Component], name: str, version: str, epoch: int) -> dict[str, Any]:
    listed = [_spdx_part(part) for part in ordered(parts)]
    root = {
        "SPDXID": "SPDXRef-image",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "OPERATING-SYSTEM",
    }
    held = [
        {"spdxElementId": "SPDXRef-image", "relationshipType": "CONTAINS", "relatedSpdxElement": part["SPDXID"]}
        for part in listed
    ]
    described = {"relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-image"}
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}-{version}",
        "documentNamespace": f"urn:uuid:{uuid.uuid5(_SPACE, hashes.of_value([name, version, listed]))}",
        "creationInfo": {"created": _time(epoch), "creators": ["Tool: inkstick-image"]},
        "packages": [root, *listed],
        "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", **described}, *held],
    }


def _spdx_part(part: Component) -> dict[str, Any]:
    texts = f" Texts in the image: {', '.join(part.texts)}." if part.texts else ""
    made: dict[str, Any] = {
        "SPDXID": f"SPDXRef-{_SPDX_ID.sub('-', f'{part.kind}-{part.name}-{part.version}')}",
        "name": part.name,
        "versionInfo": part.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",  # Debian's and PyPI's names are no SPDX expressions
        "licenseComments": f"Named by the package: {'; '.join(part.licences) or 'nothing machine-readable'}.{texts}",
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": part.purl}
        ],
    }
    if part.sha256:
        made["checksums"] = [{"algorithm": "SHA256", "checksumValue": part.sha256}]
    return made


def ordered(parts: Iterable[Component]) -> Sequence[Component]:
    """Each once, in a fixed order. What several layers name (a Python package of two environments, a Debian package of
    the layer below) is one part: with the licence texts of all, and the hash that one of them knows."""
    merged: dict[tuple[str, str, str], Component] = {}
    for part in parts:
        key = (part.kind, part.name, part.version)
        known = merged.get(key)
        merged[key] = part if known is None or known == part else _both(known, part)
    return [merged[key] for key in sorted(merged)]


def _both(one: Component, other: Component) -> Component:
    texts = tuple(dict.fromkeys((*one.texts, *other.texts)))
    return replace(one, licences=one.licences or other.licences, texts=texts, sha256=one.sha256 or other.sha256)


def _time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
