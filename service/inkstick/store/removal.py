"""A person deletes a document: its results and corrections, its original, what was written down about it.

The intent is one rename, ``outcome.json`` to ``removing.json``, made durable; from then on the document is not listed
any more, and what is left of it goes, now or after a crash. Its folder in the spool, which holds the intent, goes
last, when all the other names are durably gone. A file that somebody else put in the original's place is left alone.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from inkstick.errors import UsageError
from inkstick.store import conclusion
from inkstick.store.claim import Claim, Outcome, outcome_from_bytes
from inkstick.store.shelf import Shelf

INTENT = "removing.json"


def intend(shelf: Shelf, claim: Claim) -> None:
    """Write down that the document shall go. Raises UsageError when it has not ended, or would come right back."""
    names = shelf.disk.list(shelf.folder(claim.id))
    if INTENT in names:
        return
    if not conclusion.finished(names):
        raise UsageError(
            f"{claim.name} is still being worked on.", hint="Wait for its end, then delete it.", code="not_ready"
        )
    if _lies_in_inbox(shelf, claim):
        raise UsageError(
            f"The original of {claim.name} is kept in the inbox, and would be read again.",
            hint="Take it out of the inbox first.",
            code="not_ready",
        )
    folder = shelf.folder(claim.id)
    shelf.disk.rename(folder / "outcome.json", folder / INTENT, at="remove.intent")
    shelf.disk.sync_dir(folder, at="remove.sync_intent")


def finish(shelf: Shelf, identifier: str) -> None:
    """Make a written-down removal true. Idempotent."""
    folder, disk = shelf.folder(identifier), shelf.disk
    with contextlib.suppress(FileNotFoundError):  # without one of them all the rest is gone already
        claim, outcome = shelf.claim(identifier), outcome_from_bytes(disk.read(folder / INTENT))
        published = [outcome, *shelf.earlier(identifier)]
        for one in published:
            _remove_results(shelf, one)
        disk.remove_tree(shelf.data.edits / identifier, at="remove.edits")
        _sync(shelf, shelf.data.edits)
        _remove_original(shelf, claim, outcome)
        conclusion.withdraw_explanation(shelf, claim, outcome)
        if outcome.explained is not None:
            _sync(shelf, (shelf.data.root / outcome.explained).parent)
        for one in published:
            shelf.let_go(one)
    disk.remove_tree(folder, at="remove.folder")
    disk.sync_dir(shelf.data.spool, at="remove.sync_spool")


def _remove_results(shelf: Shelf, outcome: Outcome) -> None:
    if outcome.results is not None:
        shelf.disk.remove_tree(shelf.data.results / outcome.results, at="remove.results")
        _sync(shelf, (shelf.data.results / outcome.results).parent)


def _remove_original(shelf: Shelf, claim: Claim, outcome: Outcome) -> None:
    if outcome.original is None:
        return
    place = shelf.data.root / outcome.original
    if shelf.disk.exists(place) and _is_ours(shelf, claim, outcome, place):
        shelf.disk.unlink(place, at="remove.original")
    _sync(shelf, place.parent)


def _sync(shelf: Shelf, folder: Path) -> None:
    if shelf.disk.exists(folder):
        shelf.disk.sync_dir(folder, at="remove.sync_left")


def _is_ours(shelf: Shelf, claim: Claim, outcome: Outcome, place: Path) -> bool:
    """Is it the very file, or at least one of the same bytes?"""
    found = shelf.disk.stat(place)
    if found.kind != "file":
        return False
    known = claim.identity
    if claim.method == "rename" and known is not None:
        now = found.identity
        if (known.ino, known.size, known.mtime_ns) == (now.ino, now.size, now.mtime_ns):
            return True
    digest = claim.sha256 or outcome.sha256
    return digest is not None and shelf.digest(place) == digest


def _lies_in_inbox(shelf: Shelf, claim: Claim) -> bool:
    """Is the dropped file still there, kept or left alone because it could not be removed? Only of a copy can it be."""
    if claim.method != "copy" or claim.identity is None:
        return False
    _, path = conclusion.source_path(shelf, claim)
    if not shelf.disk.exists(path):
        return False
    # The watcher does not look at the device's number either: it does not survive a reboot.
    return replace(shelf.disk.stat(path).identity, dev=claim.identity.dev) == claim.identity
