"""A person deletes a document: its results, its original, what was written down about it.

The intent is one rename, ``outcome.json`` to ``removing.json``, made durable; from then on the document is not listed
any more, and what is left of it goes, now or after a crash. Its folder in the spool, which holds the intent, goes
last, when all the other names are durably gone. A file that somebody else put in the original's place is left alone.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from inkstick.errors import UsageError
from inkstick.profile import Originals
from inkstick.store import conclusion
from inkstick.store.claim import Claim, Outcome, outcome_from_bytes

if TYPE_CHECKING:
    from inkstick.store.spool import Spool

INTENT = "removing.json"


def intend(spool: Spool, claim: Claim) -> None:
    """Write down that the document shall go. Raises UsageError when it has not ended, or would come right back."""
    names = spool.disk.list(spool.folder(claim.id))
    if INTENT in names:
        return
    if not conclusion.finished(names):
        raise UsageError(
            f"{claim.name} is still being worked on.", hint="Wait for its end, then delete it.", code="not_ready"
        )
    if _lies_in_inbox(spool, claim):
        raise UsageError(
            f"The original of {claim.name} is kept in the inbox, and would be read again.",
            hint="Take it out of the inbox first.",
            code="not_ready",
        )
    folder = spool.folder(claim.id)
    spool.disk.rename(folder / "outcome.json", folder / INTENT, at="remove.intent")
    spool.disk.sync_dir(folder, at="remove.sync_intent")


def finish(spool: Spool, identifier: str) -> None:
    """Make a written-down removal true. Idempotent."""
    folder, disk = spool.folder(identifier), spool.disk
    with contextlib.suppress(FileNotFoundError):  # without one of them all the rest is gone already
        claim, outcome = spool.claim(identifier), outcome_from_bytes(disk.read(folder / INTENT))
        _remove_results(spool, outcome)
        _remove_original(spool, claim, outcome)
        conclusion.withdraw_explanation(spool, claim, outcome)
        if outcome.explained is not None:
            _sync(spool, (spool.data.root / outcome.explained).parent)
    disk.remove_tree(folder, at="remove.folder")
    disk.sync_dir(spool.data.spool, at="remove.sync_spool")


def _remove_results(spool: Spool, outcome: Outcome) -> None:
    if outcome.results is not None:
        spool.disk.remove_tree(spool.data.results / outcome.results, at="remove.results")
        _sync(spool, (spool.data.results / outcome.results).parent)


def _remove_original(spool: Spool, claim: Claim, outcome: Outcome) -> None:
    if outcome.original is None:
        return
    place = spool.data.root / outcome.original
    if spool.disk.exists(place) and _is_ours(spool, claim, outcome, place):
        spool.disk.unlink(place, at="remove.original")
    _sync(spool, place.parent)


def _sync(spool: Spool, folder: Path) -> None:
    if spool.disk.exists(folder):
        spool.disk.sync_dir(folder, at="remove.sync_left")


def _is_ours(spool: Spool, claim: Claim, outcome: Outcome, place: Path) -> bool:
    """Is it the very file, or at least one of the same bytes?"""
    found = spool.disk.stat(place)
    if found.kind != "file":
        return False
    known = claim.identity
    if claim.method == "rename" and known is not None:
        now = found.identity
        if (known.ino, known.size, known.mtime_ns) == (now.ino, now.size, now.mtime_ns):
            return True
    digest = claim.sha256 or outcome.sha256
    return digest is not None and spool.digest(place) == digest


def _lies_in_inbox(spool: Spool, claim: Claim) -> bool:
    if claim.originals is not Originals.KEEP or claim.identity is None:
        return False
    _, path = conclusion.source_path(spool, claim)
    return spool.disk.exists(path) and spool.disk.stat(path).identity == claim.identity
