"""What a start does before anything else: half-made claims are undone, half-made endings finished.

Nothing is ever deleted that might be somebody's document: what cannot be explained is reported as a leftover.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from inkstick.errors import Blocked, Unavailable
from inkstick.profile import Originals
from inkstick.store import conclusion, growing, removal
from inkstick.store.claim import Claim, Outcome, raw_relpath
from inkstick.store.disk import StorageSuspect
from inkstick.store.shelf import NOT_TOLD, UNREADABLE, Shelf


@dataclass(slots=True)
class Recovery:
    """`undone`: claims that had not been accepted (their files are still in the inbox). `finished`: documents whose
    end was completed. `full`: documents whose end is written down, and the disk is too full for it, or refuses it.
    `going`: those whose deletion is written down, and the disk refuses it for now. `accepted`: how many wait to be
    read. `leftovers`: folders nobody can explain, left alone."""

    undone: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    going: list[str] = field(default_factory=list)
    accepted: int = 0
    leftovers: list[Path] = field(default_factory=list)


def recover(shelf: Shelf) -> Recovery:
    """Idempotent; a crash in it is repaired by the next."""
    found = Recovery()
    # What we are about to build on may be seen but not yet be on the disk: after a mere kill, or a start without a
    # power cut. One syncfs makes "seen" and "durable" the same.
    shelf.disk.sync_all(shelf.data.state, at="recover.sync_all")
    for identifier in shelf.disk.list(shelf.data.spool):
        shelf.ids.saw(identifier)
        names = _entries(shelf, identifier)
        if names is None:
            found.leftovers.append(shelf.folder(identifier))
        elif not conclusion.finished(names):
            _repair(shelf, identifier, names, found)
    return found


def _entries(shelf: Shelf, identifier: str) -> list[str] | None:
    try:
        return shelf.disk.list(shelf.folder(identifier))
    except (NotADirectoryError, Unavailable):
        return None


def _repair(shelf: Shelf, identifier: str, names: list[str], found: Recovery) -> None:
    if removal.INTENT in names:
        _remove(shelf, identifier, found)
        return
    ended = {"outcome.json", "reopening.json"} & set(names)
    if "original" not in names and not ended and growing.PLAN in names:
        return  # an upload that goes on when its sender comes back
    if "original" not in names and not ended:
        shelf.disk.remove_tree(shelf.folder(identifier), at="recover.undo")
        found.undone.append(identifier)
        return
    try:
        claim, outcome = shelf.claim(identifier), shelf.outcome(identifier)
    except NOT_TOLD:
        found.leftovers.append(shelf.folder(identifier))
        return
    try:
        _complete(shelf, claim, outcome, names, found)
    except StorageSuspect:
        raise
    except (*UNREADABLE, FileNotFoundError):
        found.leftovers.append(shelf.folder(identifier))
    except (Blocked, OSError):
        found.full.append(identifier)  # the others come in all the same, and somebody can make room


def _remove(shelf: Shelf, identifier: str, found: Recovery) -> None:
    try:
        removal.finish(shelf, identifier)
    except StorageSuspect:
        raise
    except (Blocked, OSError):
        found.going.append(identifier)
    except UNREADABLE:
        found.leftovers.append(shelf.folder(identifier))


def _complete(shelf: Shelf, claim: Claim, outcome: Outcome | None, names: list[str], found: Recovery) -> None:
    if outcome is not None:
        conclusion.finish(shelf, claim, outcome)
        found.finished.append(claim.id)
    elif "reopening.json" in names:
        if conclusion.finish_reopening(shelf, claim):
            found.accepted += 1
    else:
        conclusion.tidy(shelf, claim.id)
        _forget_source(shelf, claim)
        found.accepted += 1


def _forget_source(shelf: Shelf, claim: Claim) -> None:
    """The dropped file of an accepted document, if the crash came before it was gone: the same file under two names
    (half a rename), or the source of a finished copy."""
    if claim.identity is None or (claim.method == "copy" and claim.originals is Originals.KEEP):
        return
    root, path = conclusion.source_path(shelf, claim)
    if not shelf.disk.exists(path):
        return
    with shelf.disk.source(root, raw_relpath(claim), home=shelf.data.spool) as source:
        if claim.method == "copy":
            shelf.forget_source(source, claim)
        elif source.stat().identity.same_file(shelf.disk.stat(shelf.original(claim.id)).identity):
            source.unlink(at="recover.unlink_source")
            source.sync_dir(at="recover.sync_source_folder")
