"""What the watcher tells people and /metrics: plain frozen values, made from the candidates after each scan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, Final

from inkstick.intake.names import display, natural_key, parent
from inkstick.intake.profiles import BadProfile
from inkstick.intake.settle import Candidate, Phase

NAMES_LISTED: Final = 500


class WatchState(StrEnum):
    """What the watcher as a whole does. The last two wait and go on by themselves."""

    STARTING = "starting"
    WATCHING = "watching"
    DISK_FULL = "disk_full"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """Counts of the files directly in one folder ("" is the inbox). waiting: whole, about to be taken or held up."""

    folder: str
    moving: int = 0
    waiting: int = 0
    incomplete: int = 0
    unsupported: int = 0


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """The watcher at one moment.

    message, hint: sentences for people, "" while all is well. total: the whole inbox; folders: those with files that
    wait, in natural order. unsupported, incomplete, held: names of files; held: files that could not be taken, with the
    reason. Lists have at most `NAMES_LISTED` entries; counts are whole. unavailable: folders that cannot be read.
    accepted: files taken since the start. scan_seconds: what the last scan took. files: files seen by it.
    """

    state: WatchState = WatchState.STARTING
    message: str = ""
    hint: str = ""
    total: FolderStatus = FolderStatus("")
    folders: tuple[FolderStatus, ...] = ()
    unsupported: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()
    held: tuple[tuple[str, str], ...] = ()
    unavailable: tuple[str, ...] = ()
    bad_profiles: tuple[BadProfile, ...] = ()
    accepted: int = 0
    files: int = 0
    ignored: int = 0
    skipped: int = 0
    scan_seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """All fields, and the totals once more as plain numbers (``files_moving`` …) for /metrics."""
        out = dataclasses.asdict(self)
        return {**out, **{f"files_{name}": count for name, count in out["total"].items() if name != "folder"}}

    def line(self) -> str:
        """One line for `systemctl status`."""
        counts = f"{self.accepted} accepted, {self.files} in the inbox"
        return f"{self.message} ({counts})" if self.message else f"Watching: {counts}."


_COLUMNS: Final = {
    Phase.MOVING: "moving",
    Phase.STILL: "waiting",
    Phase.DUE: "waiting",
    Phase.EXPIRED: "waiting",
    Phase.INCOMPLETE: "incomplete",
    Phase.UNSUPPORTED: "unsupported",
}


def folder_counts(candidates: Mapping[bytes, Candidate]) -> tuple[FolderStatus, ...]:
    """Counts per folder, in natural order."""
    counts: dict[bytes, dict[str, int]] = {}
    for path, candidate in candidates.items():
        row = counts.setdefault(parent(path), {})
        column = _COLUMNS[candidate.phase]
        row[column] = row.get(column, 0) + 1
    return tuple(FolderStatus(display(f), **counts[f]) for f in sorted(counts, key=natural_key))


def total(folders: Iterable[FolderStatus]) -> FolderStatus:
    """The counts of all folders together."""
    columns = [(f.moving, f.waiting, f.incomplete, f.unsupported) for f in folders]
    return FolderStatus("", *(sum(column) for column in zip(*columns, strict=True)))


def names_in(candidates: Mapping[bytes, Candidate], phase: Phase) -> tuple[str, ...]:
    """Display names of candidates in a phase, at most `NAMES_LISTED`, in natural order."""
    return names_of(path for path, candidate in candidates.items() if candidate.phase is phase)


def names_of(paths: Iterable[bytes]) -> tuple[str, ...]:
    """Display names of paths, at most `NAMES_LISTED`, in natural order. Which ones are left out is left open: sorting a
    hundred thousand names every second is not worth it."""
    return tuple(display(path) for path in sorted(islice(paths, NAMES_LISTED), key=natural_key))
