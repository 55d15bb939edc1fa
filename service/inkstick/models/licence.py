"""A model's licence: shown, accepted by somebody, and remembered with the text that was accepted.

An acceptance is a small JSON file per model in the folder of acceptances (``state/licences/`` of the data folder). It
holds only as long as the text has the sha256 that was accepted: a new text must be accepted anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from inkstick import durable
from inkstick.clock import Clock
from inkstick.errors import UsageError
from inkstick.models.manifest import Manifest

TERRITORIES = {"EU": "the European Union", "GB": "the United Kingdom", "KR": "South Korea"}


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Who accepted which text, when (ISO, for people). `excluded`: where they were told not to use the model."""

    model: str
    licence: str
    who: str
    when: str
    text_sha256: str
    excluded: tuple[str, ...] = ()


def read_text(manifest: Manifest, folder: Path) -> str | None:
    """The licence text from the model's folder; None if it is not there, or cannot be read (then it is fetched anew),
    or if the model has none of its own."""
    if manifest.licence.text is None:
        return None
    try:
        return (folder / manifest.licence.text).read_bytes().decode("utf-8", "replace")
    except OSError:
        return None


def summary(manifest: Manifest) -> list[str]:
    """What a person must know before the text itself, one sentence each."""
    licence = manifest.licence
    lines = [f"{manifest.title}: {licence.name} ({licence.reference})."]
    if licence.excluded:
        lines.append(f"Not to be used in {territories(licence.excluded)}; nor what it reads.")
    return [*lines, *licence.conditions, *([f"Notice: {licence.notice}"] if licence.notice else [])]


def territories(codes: tuple[str, ...]) -> str:
    names = [TERRITORIES.get(code, code) for code in codes]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def accept(manifest: Manifest, folder: Path, records: Path, *, who: str, clock: Clock) -> Acceptance:
    """Record durably that `who` accepts the text in the model's folder. Raises UsageError if the text is not there."""
    acceptance = Acceptance(
        model=manifest.id,
        licence=manifest.licence.reference,
        who=who,
        when=clock.wall().isoformat(timespec="seconds"),
        text_sha256=_text_sha256(manifest, folder),
        excluded=manifest.licence.excluded,
    )
    durable.write(
        _record(manifest, records), json.dumps(asdict(acceptance), indent=1, ensure_ascii=False).encode() + b"\n"
    )
    return acceptance


def accepted(manifest: Manifest, folder: Path, records: Path) -> Acceptance | None:
    """The acceptance that holds for the text in the model's folder; None if there is none, or for another text."""
    try:
        values = json.loads(_record(manifest, records).read_text(encoding="utf-8"))
        acceptance = Acceptance(**{**values, "excluded": tuple(values["excluded"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    text = read_text(manifest, folder)
    if acceptance.model != manifest.id or text is None or acceptance.text_sha256 != _text_sha256(manifest, folder):
        return None
    return acceptance


def require(manifest: Manifest, folder: Path, records: Path) -> None:
    """Raises UsageError (code licence) if the licence must be accepted and is not."""
    if manifest.licence.accept and accepted(manifest, folder, records) is None:
        raise UsageError(
            f"The licence of {manifest.title} has not been accepted.",
            hint=f"Read it and accept it: inkstick models licence {manifest.id} --accept",
            code="licence",
        )


def _record(manifest: Manifest, records: Path) -> Path:
    return records / f"{manifest.id}.json"


def _text_sha256(manifest: Manifest, folder: Path) -> str:
    name = manifest.licence.text
    try:
        return hashlib.sha256((folder / (name or "")).read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(
            f"The licence text of {manifest.title} is not in {folder}.",
            hint=f"Fetch it: inkstick models licence {manifest.id}",
            code="licence",
        ) from error
