"""Documents that arrive in pieces, over several connections and restarts, until they are whole.

``spool/<id>/upload.json`` says what is to come, ``original.part`` holds what has, and ``offset.json`` how much of that
is certainly on the disk: what lies beyond it after a crash is cut off and asked for again. The last step is that of any
other upload (claim.json, then the name ``original``), under the id that the upload had from its beginning: so a crash
at any point leaves an upload that goes on, or a document that was accepted, and never two.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inkstick.errors import UsageError
from inkstick.profile import Profile
from inkstick.store.claim import Claim, claim_from_bytes
from inkstick.store.shelf import NOT_TOLD, UNREADABLE, Shelf

PLAN, PART, OFFSET = "upload.json", "original.part", "offset.json"
_BLOCK = 1 << 20
_SAVE_BYTES = 64 << 20
"""How much may have to be sent again after a power cut."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`length` bytes are to come, for the document `claim.id`; `sha256` is theirs, if the sender told."""

    claim: Claim
    length: int
    sha256: str | None

    def as_bytes(self) -> bytes:
        claim = json.loads(self.claim.as_bytes())
        return json.dumps({"claim": claim, "length": self.length, "sha256": self.sha256}).encode()


def plan_from(data: bytes) -> Plan:
    value: dict[str, Any] = json.loads(data)
    claim = claim_from_bytes(json.dumps(value["claim"]).encode())
    return Plan(claim, int(value["length"]), value["sha256"])


def begin(
    shelf: Shelf, name: str, profile: Profile, length: int, sha256: str | None, relpath: str | None = None
) -> Plan:
    """Make room for an upload. Raises DiskFull when `length` bytes would not leave the reserve."""
    claim = shelf.new_upload(name, profile, length, relpath)
    plan = Plan(claim, length, sha256)
    folder, disk = shelf.folder(claim.id), shelf.disk
    disk.make_dir(folder, at="grow.make_folder")
    disk.write(folder / PART, b"", at="grow.make_part")
    _replace(shelf, folder / PLAN, plan.as_bytes())
    disk.sync_dir(shelf.data.spool, at="grow.sync_spool")
    return plan


def plan(shelf: Shelf, identifier: str) -> Plan | None:
    """What is still arriving under this id; None: nothing (it was accepted, dropped, or never was)."""
    folder = shelf.folder(identifier)
    if shelf.disk.exists(folder / "original"):
        return None
    try:
        return plan_from(shelf.disk.read(folder / PLAN))
    except NOT_TOLD:
        return None


def offset(shelf: Shelf, identifier: str) -> int:
    """How many bytes are certainly here."""
    folder = shelf.folder(identifier)
    try:
        return int(json.loads(shelf.disk.read(folder / OFFSET))["offset"])
    except (*UNREADABLE, FileNotFoundError):
        return 0


def accepted(shelf: Shelf, identifier: str) -> Claim | None:
    """The claim, if a document was accepted under this id."""
    names = shelf.entries(identifier)
    whole = "claim.json" in names and {"original", "outcome.json"} & set(names)
    return shelf.claim(identifier) if whole else None


def growing(shelf: Shelf) -> list[str]:
    """The ids of all uploads that are not whole, the oldest first."""
    return [name for name in shelf.disk.list(shelf.data.spool) if plan(shelf, name)]


def drop(shelf: Shelf, identifier: str) -> None:
    """Forget an upload that is not whole."""
    if plan(shelf, identifier):
        shelf.disk.remove_tree(shelf.folder(identifier), at="grow.drop")


class Writer:
    """Appends to one upload; one at a time for an id. Begin it where the disk says, end it with `save` or `finish`.
    `before`: the writer that appended last, if it is known: it spares hashing anew what is here already."""

    def __init__(self, shelf: Shelf, plan: Plan, before: Writer | None = None) -> None:
        self._shelf, self.plan = shelf, plan
        self._folder = shelf.folder(plan.claim.id)
        self.offset = offset(shelf, plan.claim.id)
        self._saved = self.offset
        self._digest = hashlib.sha256()
        here = shelf.disk.stat(self._folder / PART).identity.size
        if before is not None and before.offset == self.offset <= here:
            self._digest = before._digest.copy()
        else:
            self._hash_part()
        self._sink = shelf.disk.grow(self._folder / PART, self.offset, at="grow.write")

    def _hash_part(self) -> None:
        left = self.offset
        with self._shelf.disk.open(self._folder / PART) as file:
            while left and (block := file.read(min(left, _BLOCK))):
                self._digest.update(block)
                left -= len(block)
        if left:  # less is there than was saved: the disk lost it, so it is all asked for again
            self.offset, self._digest = 0, hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Raises UsageError for more bytes than were announced, DiskFull when the reserve would be touched."""
        if self.offset + len(data) > self.plan.length:
            raise UsageError("More bytes came than the upload was to have.", hint="Begin a new upload.")
        if self.offset + len(data) - self._saved > _SAVE_BYTES:
            self._shelf.check_space(len(data))
            self.save()
        self._sink.write(data)
        self._digest.update(data)
        self.offset += len(data)

    def save(self) -> None:
        """What came so far is on the disk when this returns, and counts."""
        if self.offset == self._saved:
            return
        self._shelf.disk.sync_file(self._folder / PART, at="grow.sync_part")
        _replace(self._shelf, self._folder / OFFSET, json.dumps({"offset": self.offset}).encode())
        self._saved = self.offset

    def close(self) -> None:
        self._sink.close()

    def finish(self) -> Claim:
        """Everything came: accept it. Raises UsageError (code checksum), and forgets the upload, if it is not what
        was announced."""
        found = self._digest.hexdigest()
        self.close()
        if self.plan.sha256 not in (None, found):
            drop(self._shelf, self.plan.claim.id)
            raise UsageError(
                "The file arrived damaged: its SHA-256 is not the one announced.",
                hint="Send it again.",
                code="checksum",
            )
        claim = replace(self.plan.claim, size=self.offset, sha256=found)
        self._shelf.disk.sync_file(self._folder / PART, at="accept.sync_copy")
        self._shelf.seal(claim, self._folder / PART)
        for name in (PLAN, OFFSET):
            self._shelf.disk.unlink(self._folder / name, at="grow.tidy")
        return claim


def _replace(shelf: Shelf, path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.tmp")
    shelf.disk.write(part, data, at="grow.write_note")
    shelf.disk.sync_file(part, at="grow.sync_note")
    shelf.disk.rename(part, path, at="grow.name_note")
    shelf.disk.sync_dir(path.parent, at="grow.sync_folder")
