"""Where a document's files lie in the spool, and the steps that several ways of a document share.

Below everything that happens to a document: accepting it whole (`spool`) or in pieces (`growing`), its end
(`conclusion`), its deletion (`removal`), and what follows a crash (`recovery`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from inkstick.clock import Clock
from inkstick.config import DataFolder
from inkstick.errors import Blocked, DiskFull, Unavailable
from inkstick.profile import Profile
from inkstick.store.claim import (
    Claim,
    Ids,
    Outcome,
    claim_from_bytes,
    clean_relpath,
    display_name,
    outcome_from_bytes,
    plain_result_name,
)
from inkstick.store.disk import Disk, Source, StorageSuspect

CHUNK = 1 << 20
"""Bytes that are read or checked at once."""
EARLIER = "earlier-"
"""How the outcomes of earlier readings are called, of which there are results."""
UNREADABLE = (ValueError, KeyError, TypeError)
"""What reading a claim or an outcome raises whose bytes are not what was written."""
NOT_TOLD = (*UNREADABLE, FileNotFoundError, NotADirectoryError, Unavailable)
"""The same, and what it raises where the disk has not got them any more, or does not give them: one bad sector, or a
file that a repair of the disk has put somewhere, must hinder no other document, and no start."""


class SourceChanged(Unavailable):
    """The dropped file was written or replaced while it was being claimed. It stays in the inbox."""

    default_message = "The file changed while it was being taken."
    default_hint = "Nothing to do: it is taken as soon as it has been still for a moment."


class Shelf:
    """The folders of one data folder's documents.

    `name_of` gives the results folder's name for a document's name. `reserve_bytes`: free space that accepting leaves.
    """

    def __init__(
        self,
        folder: DataFolder,
        disk: Disk,
        clock: Clock,
        *,
        name_of: Callable[[str], str] = plain_result_name,
        reserve_bytes: int = 0,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.data = folder
        self.disk = disk
        self.name_of = name_of
        self.reserve_bytes = reserve_bytes
        self.ids = Ids(entropy)
        self.lock = threading.RLock()
        self._clock = clock
        self._held: set[str] | None = None  # None: not looked up yet

    # -- looking

    def folder(self, identifier: str) -> Path:
        return self.data.spool / identifier

    def original(self, identifier: str) -> Path:
        return self.folder(identifier) / "original"

    def claim(self, identifier: str) -> Claim:
        """Raises FileNotFoundError for an unknown document."""
        return claim_from_bytes(self.disk.read(self.folder(identifier) / "claim.json"))

    def entries(self, identifier: str) -> list[str]:
        """What lies in a document's folder; nothing where there is no such folder (it may be gone by now, and what else
        lies in spool/ is not ours), or the disk does not give it."""
        try:
            return self.disk.list(self.folder(identifier))
        except (FileNotFoundError, NotADirectoryError, Unavailable):
            return []

    def readable(self, identifier: str) -> Claim | None:
        """The claim; None where it cannot be read, or is gone by now. `recover` reports such a folder."""
        try:
            return self.claim(identifier)
        except NOT_TOLD:
            return None

    def outcome(self, identifier: str) -> Outcome | None:
        """None while the document has not ended."""
        try:
            return outcome_from_bytes(self.disk.read(self.folder(identifier) / "outcome.json"))
        except FileNotFoundError:
            return None

    def held(self) -> set[str]:
        """Names below the data folder that ended documents have, whether or not anything lies there: what people carry
        away is still theirs, and must not be taken for another's of the same name. Call it with the lock."""
        if self._held is None:
            self._held = set()
            for identifier in self.disk.list(self.data.spool):
                with contextlib.suppress(*NOT_TOLD):
                    if (outcome := self.outcome(identifier)) is not None:
                        self._held |= outcome.places
                    for earlier in self.earlier(identifier):
                        self._held |= earlier.places
        return self._held

    def earlier(self, identifier: str) -> list[Outcome]:
        """What earlier readings of the document published: only `results` still counts of them."""
        names = [name for name in self.entries(identifier) if name.startswith(EARLIER)]
        outcomes = [outcome_from_bytes(self.disk.read(self.folder(identifier) / name)) for name in names]
        return [replace(outcome, original=None, explained=None) for outcome in outcomes]

    def hold(self, outcome: Outcome) -> None:
        """A document got these names."""
        if self._held is not None:
            self._held |= outcome.places

    def let_go(self, outcome: Outcome) -> None:
        """A document has given these names up."""
        if self._held is not None:
            self._held -= outcome.places

    def digest(self, path: Path) -> str:
        """SHA-256 of a file, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        with self.disk.open(path) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    # -- accepting

    def new_claim(self, text: str, raw: str, source: str, method: str, profile: Profile, **more: object) -> Claim:
        self.check_space(0)
        wall = self._clock.wall()
        claim = Claim(
            id=self.ids.next(wall.timestamp()),
            name=display_name(text),
            relpath=text,
            raw=raw,
            source=source,
            method=method,
            profile=profile.as_json(),
            received=wall.isoformat(timespec="seconds"),
        )
        return replace(claim, **more)  # type: ignore[arg-type]

    def check_space(self, size: int) -> None:
        """Raises DiskFull when `size` more bytes would not leave the reserve."""
        if self.disk.free_bytes(self.data.spool) < self.reserve_bytes + size:
            raise DiskFull

    def new_upload(self, name: str, profile: Profile, size: int, relpath: str | None = None) -> Claim:
        """A claim for bytes that are to come. Raises DiskFull where `size` of them would not leave the reserve."""
        text, raw = clean_relpath(relpath or name)
        self.check_space(size)
        return replace(self.new_claim(text, raw, "upload", "upload", profile), name=display_name(name))

    def seal(self, claim: Claim, part: Path) -> None:
        """The bytes are durable in `part`: write the claim, give them their name. Now the document is accepted."""
        self.write_claim(claim)
        self.disk.rename(part, part.with_name("original"), at="accept.name_copy")
        self.disk.sync_dir(part.parent, at="accept.sync_folder")

    def write_claim(self, claim: Claim) -> None:
        folder = self.folder(claim.id)
        self.disk.write(folder / "claim.json", claim.as_bytes(), at="accept.write_claim")
        self.disk.sync_file(folder / "claim.json", at="accept.sync_claim")
        self.disk.sync_dir(folder, at="accept.sync_claim_name")
        self.disk.sync_dir(self.data.spool, at="accept.sync_spool")

    @staticmethod
    def check_unchanged(source: Source, claim: Claim) -> None:
        if source.stat().identity != claim.identity:
            raise SourceChanged

    def forget_source(self, source: Source, claim: Claim) -> None:
        """Remove the dropped file that was copied, if it is still the one. Where that cannot be (a medium that only
        reads, a stick that was pulled out, a file server on which somebody has it open) it stays, and is not taken
        again: the document is accepted, and its claim must not fail."""
        try:
            self.check_unchanged(source, claim)
            source.unlink(at="accept.unlink_source")
            source.sync_dir(at="accept.sync_source_folder")
        except StorageSuspect:
            raise
        except (OSError, Blocked):
            return
