"""What a start does before anything else: half-made claims are undone, half-made endings finished.

Nothing is ever deleted that might be somebody's document: what cannot be explained is reported as a leftover.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from inkstick.profile import Originals
from inkstick.store import conclusion, removal
from inkstick.store.claim import Claim, Outcome, raw_relpath

if TYPE_CHECKING:
    from inkstick.store.spool import Spool


@dataclass(slots=True)
class Recovery:
    """`undone`: claims that had not been accepted (their files are still in the inbox). `finished`: documents whose
    end was completed. `accepted`: how many wait to be read. `leftovers`: folders nobody can explain, left alone."""

    undone: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    accepted: int = 0
    leftovers: list[Path] = field(default_factory=list)


def recover(spool: Spool) -> Recovery:
    """Idempotent; a crash in it is repaired by the next."""
    found = Recovery()
    # What we are about to build on may be seen but not yet be on the disk: after a mere kill, or a start without a
    # power cut. One syncfs makes "seen" and "durable" the same.
    spool.disk.sync_all(spool.data.state, at="recover.sync_all")
    for identifier in spool.disk.list(spool.data.spool):
        spool.ids.saw(identifier)
        names = _entries(spool, identifier)
        if names is None:
            found.leftovers.append(spool.folder(identifier))
        elif not conclusion.finished(names):
            _repair(spool, identifier, names, found)
    return found


def _entries(spool: Spool, identifier: str) -> list[str] | None:
    try:
        return spool.disk.list(spool.folder(identifier))
    except NotADirectoryError:
        return None


def _repair(spool: Spool, identifier: str, names: list[str], found: Recovery) -> None:
    if removal.INTENT in names:
        removal.finish(spool, identifier)
        return
    ended = {"outcome.json", "reopening.json"} & set(names)
    if "original" not in names and not ended:
        spool.disk.remove_tree(spool.folder(identifier), at="recover.undo")
        found.undone.append(identifier)
        return
    try:
        claim, outcome = spool.claim(identifier), spool.outcome(identifier)
        _complete(spool, claim, outcome, names, found)
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        found.leftovers.append(spool.folder(identifier))


def _complete(spool: Spool, claim: Claim, outcome: Outcome | None, names: list[str], found: Recovery) -> None:
    if outcome is not None:
        conclusion.finish(spool, claim, outcome)
        found.finished.append(claim.id)
    elif "reopening.json" in names:
        if conclusion.finish_reopening(spool, claim):
            found.accepted += 1
    else:
        conclusion.tidy(spool, claim.id)
        _forget_source(spool, claim)
        found.accepted += 1


def _forget_source(spool: Spool, claim: Claim) -> None:
    """The dropped file of an accepted document, if the crash came before it was gone: the same file under two names
    (half a rename), or the source of a finished copy."""
    if claim.identity is None or (claim.method == "copy" and claim.originals is Originals.KEEP):
        return
    root, path = conclusion.source_path(spool, claim)
    if not spool.disk.exists(path):
        return
    with spool.disk.source(root, raw_relpath(claim)) as source:
        if claim.method == "copy":
            spool.forget_source(source, claim)
        elif source.stat().identity.same_file(spool.disk.stat(spool.original(claim.id)).identity):
            source.unlink(at="recover.unlink_source")
            source.sync_dir(at="recover.sync_source_folder")
