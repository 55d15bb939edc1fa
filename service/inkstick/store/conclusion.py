"""The end of a document: write down what shall be, make it so, each step asking first whether it already is.

`intend` writes outcome.json; `finish` makes it true and may be called any number of times. Every name is taken by a
rename that refuses to overwrite; when somebody else has taken it meanwhile, the next number is written down first.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from inkstick.errors import UsageError
from inkstick.profile import Originals
from inkstick.store.claim import Claim, Outcome, numbered, outcome_from_bytes, raw_relpath
from inkstick.store.steps import make_dirs, sync_tree, write_atomic

if TYPE_CHECKING:
    from inkstick.store.spool import Spool

_EXPLANATION = ".error.json"


def intend(spool: Spool, claim: Claim, wish: Outcome) -> Outcome:
    """Make the staged results durable, choose names, write outcome.json."""
    staging = spool.folder(claim.id) / "staging"
    staged = wish.state != "failed" and spool.disk.exists(staging)
    if staged:
        sync_tree(spool.disk, staging, at="conclude.sync_result")
        # Before the intent: an outcome on the disk without staging/ means that the results are published.
        spool.disk.sync_dir(staging.parent, at="conclude.sync_staged")
    outcome = replace(wish, results=_free_results(spool, claim) if staged else None)
    outcome = _with_place(spool, claim, outcome)
    write_outcome(spool, claim, outcome)
    return outcome


def write_outcome(spool: Spool, claim: Claim, outcome: Outcome) -> None:
    write_atomic(spool.disk, spool.folder(claim.id) / "outcome.json", outcome.as_bytes(), at="conclude.intent")


def finish(spool: Spool, claim: Claim, outcome: Outcome) -> Outcome:
    """Make the outcome true. Returns it with the names that it got in the end."""
    outcome = _publish(spool, claim, outcome)
    while not (_explain(spool, claim, outcome) and _put_away(spool, claim, outcome)):
        withdraw_explanation(spool, claim, outcome)
        outcome = _with_place(spool, claim, outcome)
        write_outcome(spool, claim, outcome)
    tidy(spool, claim.id)
    return outcome


def finished(names: list[str]) -> bool:
    """Whether a document folder with these entries has nothing left to be done."""
    return "outcome.json" in names and not {"original", "staging", "parts", "error.json", "reopening.json"} & set(names)


def tidy(spool: Spool, identifier: str) -> None:
    """Remove what was only needed on the way. All of it is derived, so nothing is synced."""
    folder = spool.folder(identifier)
    for name in ("staging", "parts"):
        if spool.disk.exists(folder / name):
            spool.disk.remove_tree(folder / name, at="tidy.folder")
    notes = ("error.json", "outcome.json.tmp", "claim.json.tmp", "reopening.json", "upload.json", "offset.json")
    for name in (*notes, "original.part"):
        if spool.disk.exists(folder / name):
            spool.disk.unlink(folder / name, at="tidy.file")


# -- results


def _publish(spool: Spool, claim: Claim, outcome: Outcome) -> Outcome:
    staging = spool.folder(claim.id) / "staging"
    while outcome.results is not None and spool.disk.exists(staging):
        target = spool.data.results / outcome.results
        make_dirs(spool.disk, target.parent, at="conclude.results_parent")
        try:
            spool.disk.rename_new(staging, target, at="conclude.publish")
        except FileExistsError:
            outcome = replace(outcome, results=_free_results(spool, claim))
            write_outcome(spool, claim, outcome)
            continue
        spool.disk.sync_dir(target.parent, at="conclude.sync_published")
        # Not left to the sync after the original's leaving: a crash between may leave only this still to be done.
        spool.disk.sync_dir(staging.parent, at="conclude.sync_unstaged")
        break
    return outcome


# -- the original


def _explain(spool: Spool, claim: Claim, outcome: Outcome) -> bool:
    """Put ``….error.json`` where a person will look. False when the name belongs to somebody else."""
    if outcome.explained is None:
        return True
    target = spool.data.root / outcome.explained
    if spool.disk.exists(target):
        return _is_ours(spool, claim, target)
    text = {**(outcome.error or {}), "pages": list(outcome.failed_pages), "attempts": outcome.attempts}
    made = spool.folder(claim.id) / "error.json"
    make_dirs(spool.disk, target.parent, at="conclude.original_parent")
    data = json.dumps({**text, "document": claim.id}, ensure_ascii=False, indent=1).encode()
    spool.disk.write(made, data, at="conclude.write_error")
    spool.disk.sync_file(made, at="conclude.sync_error")
    try:
        spool.disk.rename_new(made, target, at="conclude.place_error")
    except FileExistsError:
        return False
    spool.disk.sync_dir(target.parent, at="conclude.sync_error_placed")
    return True


def _is_ours(spool: Spool, claim: Claim, explanation: Path) -> bool:
    try:
        return bool(json.loads(spool.disk.read(explanation)).get("document") == claim.id)
    except (ValueError, AttributeError, OSError):
        return False


def withdraw_explanation(spool: Spool, claim: Claim, outcome: Outcome) -> None:
    """Take the ``….error.json`` away, if it is this document's."""
    if outcome.explained and _is_ours(spool, claim, spool.data.root / outcome.explained):
        spool.disk.unlink(spool.data.root / outcome.explained, at="conclude.withdraw_error")


def _put_away(spool: Spool, claim: Claim, outcome: Outcome) -> bool:
    """The original leaves the spool. False when its new name belongs to somebody else."""
    original, disk = spool.original(claim.id), spool.disk
    if not disk.exists(original):
        return True
    if outcome.original is None:
        disk.unlink(original, at="conclude.unlink_original")
        disk.sync_dir(original.parent, at="conclude.sync_unspooled")
        return True
    target = spool.data.root / outcome.original
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


def _free_results(spool: Spool, claim: Claim) -> str:
    parent = _free_parent(spool, spool.data.results, claim.relpath)
    name, number = spool.name_of(claim.name), 1
    while spool.disk.exists(spool.data.results / parent / numbered(name, number)):
        number += 1
    return f"{parent}{numbered(name, number)}"


def _with_place(spool: Spool, claim: Claim, outcome: Outcome) -> Outcome:
    """The outcome with free names for the original and, if it failed, for the explanation beside it."""
    failed = outcome.state == "failed"
    where = spool.data.failed if failed else spool.data.done
    parent = _free_parent(spool, where, claim.relpath)
    stem, dot, extension = claim.relpath.rsplit("/", 1)[-1].rpartition(".")
    stem, suffix = (stem, dot + extension) if stem and len(extension.encode()) <= 20 else (stem + dot + extension, "")
    number = 1
    while True:
        place = f"{where.name}/{parent}{numbered(stem, number, suffix=suffix, room=len(_EXPLANATION))}"
        explained = place + _EXPLANATION if failed else None
        if not any(spool.disk.exists(spool.data.root / name) for name in (place, explained) if name):
            break
        number += 1
    return replace(outcome, original=None if _stays(claim, outcome) else place, explained=explained)


def _stays(claim: Claim, outcome: Outcome) -> bool:
    """No original in done/ or failed/: it is kept in the inbox, or deleted, which only a whole reading allows."""
    if claim.originals is Originals.KEEP:
        return True
    return claim.originals is Originals.DELETE and outcome.state == "done"


def _free_parent(spool: Spool, root: Path, relpath: str) -> str:
    """The sub-folders of `relpath` below `root`, with a slash behind; numbered where a file has such a name."""
    chosen = ""
    for part in relpath.split("/")[:-1]:
        number = 1
        while _is_file(spool, root / (chosen + numbered(part, number))):
            number += 1
        chosen += numbered(part, number) + "/"
    return chosen


def _is_file(spool: Spool, path: Path) -> bool:
    return spool.disk.exists(path) and spool.disk.stat(path).kind != "folder"


# -- again


def reopen(spool: Spool, claim: Claim) -> Claim:
    """Take an ended document back: reopening.json (the old outcome, renamed) is the intent."""
    folder, outcome = spool.folder(claim.id), spool.outcome(claim.id)
    if outcome is None:  # has not ended, or was reopened already, or nearly
        if spool.disk.exists(folder / "reopening.json"):
            finish_reopening(spool, claim)
        return claim
    if outcome.original is None or not spool.disk.exists(spool.data.root / outcome.original):
        raise UsageError(
            f"The original of {claim.name} is not where it was put.",
            hint="Drop the document into the inbox again.",
            code="not_ready",
        )
    spool.disk.rename(folder / "outcome.json", folder / "reopening.json", at="reopen.intent")
    finish_reopening(spool, claim)
    return claim


def finish_reopening(spool: Spool, claim: Claim) -> bool:
    """Make a written-down reopening true. False when the original is gone: then the document stays ended."""
    folder, disk = spool.folder(claim.id), spool.disk
    outcome = outcome_from_bytes(disk.read(folder / "reopening.json"))
    original = spool.original(claim.id)
    place = spool.data.root / (outcome.original or "")
    if not disk.exists(original):
        if outcome.original is None or not disk.exists(place):
            disk.rename(folder / "reopening.json", folder / "outcome.json", at="reopen.give_up")
            return False
        disk.rename_new(place, original, at="reopen.take_back")
    elif disk.exists(place) and disk.stat(place).identity.same_file(disk.stat(original).identity):
        disk.unlink(place, at="reopen.take_back")
    disk.sync_dir(folder, at="reopen.sync_taken")  # and with it the intent: the one without the other is undone
    withdraw_explanation(spool, claim, outcome)
    disk.sync_dir(place.parent, at="reopen.sync_left")
    disk.unlink(folder / "reopening.json", at="reopen.done")  # not synced: should it come back, this is done again
    return True


def source_path(spool: Spool, claim: Claim) -> tuple[Path, Path]:
    """The inbox of a claim, and its file there."""
    root = Path(claim.root) if claim.root else spool.data.inbox
    return root, root / raw_relpath(claim)
