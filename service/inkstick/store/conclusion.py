"""The end of a document: write down what shall be, make it so, each step asking first whether it already is.

`intend` writes outcome.json; `finish` makes it true and may be called any number of times. Every name is taken by a
rename that refuses to overwrite; when somebody else has taken it meanwhile, the next number is written down first.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from inkstick.errors import UsageError
from inkstick.profile import Originals
from inkstick.store.claim import Claim, Outcome, numbered, outcome_from_bytes, raw_relpath
from inkstick.store.shelf import EARLIER, Shelf
from inkstick.store.steps import make_dirs, sync_tree, write_atomic

_EXPLANATION = ".error.json"
_DEEP = 2500
"""Bytes of sub-folders; those below are left out, so that the names of results fit into a path (4,096 bytes)."""


def intend(shelf: Shelf, claim: Claim, wish: Outcome) -> Outcome:
    """Make the staged results durable, choose names, write outcome.json."""
    staging = shelf.folder(claim.id) / "staging"
    staged = wish.state != "failed" and shelf.disk.exists(staging)
    if staged:
        sync_tree(shelf.disk, staging, at="conclude.sync_result")
        # Before the intent: an outcome on the disk without staging/ means that the results are published.
        shelf.disk.sync_dir(staging.parent, at="conclude.sync_staged")
    outcome = replace(wish, results=_free_results(shelf, claim) if staged else None)
    outcome = _with_place(shelf, claim, outcome)
    write_outcome(shelf, claim, outcome)
    return outcome


def write_outcome(shelf: Shelf, claim: Claim, outcome: Outcome) -> None:
    write_atomic(shelf.disk, shelf.folder(claim.id) / "outcome.json", outcome.as_bytes(), at="conclude.intent")
    shelf.hold(outcome)


def finish(shelf: Shelf, claim: Claim, outcome: Outcome) -> Outcome:
    """Make the outcome true. Returns it with the names that it got in the end."""
    outcome = _publish(shelf, claim, outcome)
    while not (_explain(shelf, claim, outcome) and _put_away(shelf, claim, outcome)):
        withdraw_explanation(shelf, claim, outcome)
        outcome = _with_place(shelf, claim, outcome)
        write_outcome(shelf, claim, outcome)
    tidy(shelf, claim.id)
    return outcome


def finished(names: list[str]) -> bool:
    """Whether a document folder with these entries has nothing left to be done."""
    return "outcome.json" in names and not {"original", "staging", "parts", "error.json", "reopening.json"} & set(names)


def tidy(shelf: Shelf, identifier: str) -> None:
    """Remove what was only needed on the way. All of it is derived, so nothing is synced."""
    folder = shelf.folder(identifier)
    for name in ("staging", "parts"):
        if shelf.disk.exists(folder / name):
            shelf.disk.remove_tree(folder / name, at="tidy.folder")
    notes = ("error.json", "outcome.json.tmp", "claim.json.tmp", "reopening.json", "upload.json", "offset.json")
    for name in (*notes, "original.part"):
        if shelf.disk.exists(folder / name):
            shelf.disk.unlink(folder / name, at="tidy.file")


# -- results


def _publish(shelf: Shelf, claim: Claim, outcome: Outcome) -> Outcome:
    staging = shelf.folder(claim.id) / "staging"
    while outcome.results is not None and shelf.disk.exists(staging):
        target = shelf.data.results / outcome.results
        make_dirs(shelf.disk, target.parent, at="conclude.results_parent")
        try:
            shelf.disk.rename_new(staging, target, at="conclude.publish")
        except FileExistsError:
            outcome = replace(outcome, results=_free_results(shelf, claim))
            write_outcome(shelf, claim, outcome)
            continue
        shelf.disk.sync_dir(target.parent, at="conclude.sync_published")
        # Not left to the sync after the original's leaving: a crash between may leave only this still to be done.
        shelf.disk.sync_dir(staging.parent, at="conclude.sync_unstaged")
        break
    return outcome


# -- the original


def _explain(shelf: Shelf, claim: Claim, outcome: Outcome) -> bool:
    """Put ``….error.json`` where a person will look. False when the name belongs to somebody else."""
    if outcome.explained is None:
        return True
    target = shelf.data.root / outcome.explained
    if shelf.disk.exists(target):
        return _is_ours(shelf, claim, target)
    text = {**(outcome.error or {}), "pages": list(outcome.failed_pages), "attempts": outcome.attempts}
    made = shelf.folder(claim.id) / "error.json"
    make_dirs(shelf.disk, target.parent, at="conclude.original_parent")
    data = json.dumps({**text, "document": claim.id}, ensure_ascii=False, indent=1).encode()
    shelf.disk.write(made, data, at="conclude.write_error")
    shelf.disk.sync_file(made, at="conclude.sync_error")
    try:
        shelf.disk.rename_new(made, target, at="conclude.place_error")
    except FileExistsError:
        return False
    shelf.disk.sync_dir(target.parent, at="conclude.sync_error_placed")
    return True


def _is_ours(shelf: Shelf, claim: Claim, explanation: Path) -> bool:
    try:
        return bool(json.loads(shelf.disk.read(explanation)).get("document") == claim.id)
    except (ValueError, AttributeError, OSError):
        return False


def withdraw_explanation(shelf: Shelf, claim: Claim, outcome: Outcome) -> None:
    """Take the ``….error.json`` away, if it is this document's."""
    if outcome.explained and _is_ours(shelf, claim, shelf.data.root / outcome.explained):
        shelf.disk.unlink(shelf.data.root / outcome.explained, at="conclude.withdraw_error")


def _put_away(shelf: Shelf, claim: Claim, outcome: Outcome) -> bool:
    """The original leaves the spool. False when its new name belongs to somebody else."""
    original, disk = shelf.original(claim.id), shelf.disk
    if not disk.exists(original):
        return True
    if outcome.original is None:
        disk.unlink(original, at="conclude.unlink_original")
        disk.sync_dir(original.parent, at="conclude.sync_unspooled")
        return True
    target = shelf.data.root / outcome.original
    make_dirs(disk, target.parent, at="conclude.original_parent")
    try:
        disk.rename_new(original, target, at="conclude.put_away")
    except FileExistsError:
        if not disk.stat(target).identity.same_file(disk.stat(original).identity):
            return False
        disk.unlink(original, at="conclude.put_away")  # a crash kept half of the rename: both names, one file
    disk.sync_dir(target.parent, at="conclude.sync_put_away")
    disk.sync_dir(original.parent, at="conclude.sync_unspooled")
    return True


# -- choosing names


def _free_results(shelf: Shelf, claim: Claim) -> str:
    parent = _free_parent(shelf, shelf.data.results, claim.relpath)
    name, number = shelf.name_of(claim.name), 1
    while not _is_free(shelf, f"{shelf.data.results.name}/{parent}{numbered(name, number)}"):
        number += 1
    return f"{parent}{numbered(name, number)}"


def _with_place(shelf: Shelf, claim: Claim, outcome: Outcome) -> Outcome:
    """The outcome with free names for the original and, if it failed, for the explanation beside it."""
    failed = outcome.state == "failed"
    where = shelf.data.failed if failed else shelf.data.done
    parent = _free_parent(shelf, where, claim.relpath)
    stem, dot, extension = claim.relpath.rsplit("/", 1)[-1].rpartition(".")
    stem, suffix = (stem, dot + extension) if stem and len(extension.encode()) <= 20 else (stem + dot + extension, "")
    number = 1
    while True:
        place = f"{where.name}/{parent}{numbered(stem, number, suffix=suffix, room=len(_EXPLANATION))}"
        explained = place + _EXPLANATION if failed else None
        if all(_is_free(shelf, name) for name in (place, explained) if name):
            break
        number += 1
    return replace(outcome, original=None if _stays(claim, outcome) else place, explained=explained)


def _is_free(shelf: Shelf, place: str) -> bool:
    """Nothing lies there, and it is no other document's name."""
    return place not in shelf.held() and not shelf.disk.exists(shelf.data.root / place)


def _stays(claim: Claim, outcome: Outcome) -> bool:
    """No original in done/ or failed/: it is kept in the inbox, or deleted, which only a whole reading allows."""
    if claim.originals is Originals.KEEP:
        return True
    return claim.originals is Originals.DELETE and outcome.state == "done"


def _free_parent(shelf: Shelf, root: Path, relpath: str) -> str:
    """The sub-folders of `relpath` below `root`, with a slash behind; numbered where a file has such a name, or the
    results of a document: what lay among them would be replaced and deleted with them."""
    chosen = ""
    for part in relpath.split("/")[:-1]:
        number = 1
        while _is_no_parent(shelf, root, chosen + numbered(part, number)):
            number += 1
        deeper = f"{chosen}{numbered(part, number)}/"
        if len(deeper.encode()) > _DEEP:
            break
        chosen = deeper
    return chosen


def _is_no_parent(shelf: Shelf, root: Path, place: str) -> bool:
    if f"{root.name}/{place}" in shelf.held():
        return True
    return shelf.disk.exists(root / place) and shelf.disk.stat(root / place).kind != "folder"


# -- again


def reopen(shelf: Shelf, claim: Claim) -> Claim:
    """Take an ended document back: reopening.json (the old outcome, renamed) is the intent."""
    folder, outcome = shelf.folder(claim.id), shelf.outcome(claim.id)
    if outcome is None:  # has not ended, or was reopened already, or nearly
        if shelf.disk.exists(folder / "reopening.json"):
            finish_reopening(shelf, claim)
        return claim
    if outcome.original is None and claim.originals is Originals.KEEP:
        raise UsageError(
            f"The original of {claim.name} stays in the inbox.",
            hint="Take it out of the inbox and put it back: then it is read again.",
            code="not_ready",
        )
    if outcome.original is None or not shelf.disk.exists(shelf.data.root / outcome.original):
        raise UsageError(
            f"The original of {claim.name} is not where it was put.",
            hint="Drop the document into the inbox again.",
            code="not_ready",
        )
    shelf.disk.rename(folder / "outcome.json", folder / "reopening.json", at="reopen.intent")
    shelf.let_go(replace(outcome, results=None))
    finish_reopening(shelf, claim)
    return claim


def finish_reopening(shelf: Shelf, claim: Claim) -> bool:
    """Make a written-down reopening true. False when the original is gone: then the document stays ended."""
    folder, disk = shelf.folder(claim.id), shelf.disk
    outcome = outcome_from_bytes(disk.read(folder / "reopening.json"))
    original = shelf.original(claim.id)
    place = shelf.data.root / (outcome.original or "")
    if not disk.exists(original):
        if outcome.original is None or not disk.exists(place):
            disk.rename(folder / "reopening.json", folder / "outcome.json", at="reopen.give_up")
            shelf.hold(outcome)
            return False
        disk.rename_new(place, original, at="reopen.take_back")
    elif disk.exists(place) and disk.stat(place).identity.same_file(disk.stat(original).identity):
        disk.unlink(place, at="reopen.take_back")
    disk.sync_dir(folder, at="reopen.sync_taken")  # and with it the intent: the one without the other is undone
    withdraw_explanation(shelf, claim, outcome)
    disk.sync_dir(place.parent, at="reopen.sync_left")
    # Not synced: should it come back, this is done again. What was published stays, and goes with the document.
    if outcome.results is None:
        disk.unlink(folder / "reopening.json", at="reopen.done")
    else:
        disk.rename(folder / "reopening.json", folder / _next_earlier(shelf, claim.id), at="reopen.done")
    return True


def _next_earlier(shelf: Shelf, identifier: str) -> str:
    number = 1
    while shelf.disk.exists(shelf.folder(identifier) / f"{EARLIER}{number}.json"):
        number += 1
    return f"{EARLIER}{number}.json"


def source_path(shelf: Shelf, claim: Claim) -> tuple[Path, Path]:
    """The inbox of a claim, and its file there."""
    root = Path(claim.root) if claim.root else shelf.data.inbox
    return root, root / raw_relpath(claim)
