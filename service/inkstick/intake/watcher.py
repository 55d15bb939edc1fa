"""The watch on the inbox: scan, settle, look, claim. One `tick` is one round; `run` repeats it.

- The scan is the truth. Events (watchfiles) only shorten the wait; with none at all everything still works.
- A file leaves the inbox only through `Spool.claim_file`, which makes it durable first. Until then nothing is touched.
- What cannot be read now waits: a full disk, a missing folder, a bad settings file, a file without permission.
- What Inkstick does not read stays where it is, and is listed.
- Files of one scan are claimed in natural order, several at a time: the waiting is for the disk to sync.

Candidates live in memory: after a restart each file settles again, which costs seconds and loses nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inkstick.clock import Clock
from inkstick.config import DataFolder, Settings
from inkstick.errors import Blocked, DiskFull, Incomplete, InkstickError, Unavailable
from inkstick.intake.complete import examine
from inkstick.intake.names import display, escaped, natural_key, parent
from inkstick.intake.profiles import Profiles
from inkstick.intake.root import (
    guard_against_loops,
    mark_root,
    read_root,
    remembered_root,
    reserved_folders,
    same_root,
)
from inkstick.intake.scan import OPEN_FILE, Survey, scan
from inkstick.intake.settle import Candidate, Finding, Phase, Rules, Sighting, looked, needs_look, next_moment, observe
from inkstick.intake.status import NAMES_LISTED, WatchState, WatchStatus, folder_counts, names_in, names_of, total
from inkstick.profile import Profile
from inkstick.store.claim import Claim
from inkstick.store.disk import StorageSuspect
from inkstick.store.shelf import SourceChanged
from inkstick.store.spool import Spool

SLOW_SCAN_SECONDS: Final = 10.0
SLOW_SETTLE_SECONDS: Final = 10.0
SLOW_INCOMPLETE_FACTOR: Final = 6.0
BLOCKED_SECONDS: Final = 5.0
SHORTEST_WAIT: Final = 0.1
CLAIM_THREADS: Final = 8
CLAIM_BATCH: Final = 250
CLAIM_BATCH_BYTES: Final = 256 << 20
CLAIMS_PER_TICK: Final = 2000
CLAIM_BYTES_PER_TICK: Final = 1 << 30
SLOWEST_BYTES_PER_SECOND: Final = 1 << 20
SCAN_SHARE: Final = 4.0
CLAIM_LOCK: Final = "claim.lock"
HELD_FIRST, HELD_LIMIT = 5.0, 60.0

Listener = Callable[[list[Claim]], None]


@dataclass(frozen=True, slots=True)
class Held:
    """A file that could not be opened or taken: why, and when it is tried again. Times are monotonic."""

    reason: str
    wait: float
    again_at: float


class Watcher:
    """Watches one data folder's inbox. `tick` and `status` may be called from different threads, one tick at a time."""

    def __init__(
        self, folder: DataFolder, spool: Spool, clock: Clock, settings: Settings, on_claims: Listener | None = None
    ) -> None:
        """Raises UsageError when results would come back into the inbox, Unavailable when a folder is missing. Only the
        inbox may be: a link to a share that is not mounted yet. Then `tick` raises that UsageError when it has come."""
        self.folder = folder
        self._guarded = False
        if folder.inbox.exists():
            self._guard()
        self._spool, self._clock, self._settings = spool, clock, settings
        self._on_claims = on_claims
        self._inbox = folder.inbox.resolve()
        self._reserved = reserved_folders(folder)
        self._remembered = folder.state / "inbox.id"
        self._root = remembered_root(self._remembered)
        self._profiles = Profiles(self._inbox)
        self._candidates: dict[bytes, Candidate] = {}
        self._held: dict[bytes, Held] = {}
        self._survey = Survey()
        self._slow_root = False
        self._more = False
        self._scan_seconds = 0.0
        self._accepted = 0
        # Originals that stay in the inbox (kept, or on a read-only medium) are not taken twice. Device numbers are
        # left out: they do not survive a reboot.
        self._kept = {(k.ino, k.size, k.mtime_ns, k.ctime_ns) for k in spool.kept()}
        self._status = WatchStatus()
        self.progress = clock.monotonic()  # when something last went forward, or at the latest will

    def status(self) -> WatchStatus:
        return self._status

    def directories(self, limit: int) -> list[Path]:
        """The first folders that the last scan entered: where events are worth hearing."""
        return [self._path(folder) for folder in self._survey.folders[:limit]]

    def tick(self) -> list[Claim]:
        """One scan, and what follows from it. Returns the claims made, in the order of claiming. Raises nothing for
        trouble with files, folders or disks: that is in the status."""
        claims: list[Claim] = []
        trouble: Blocked | None = None
        try:
            self._observe()
            self._look()
            for batch in self._batches():
                self._claim(batch, claims)
        except Blocked as error:
            trouble = error
        self._report(trouble)
        self.progress = self._clock.monotonic()
        return claims

    def wait_seconds(self) -> float:
        """How long to sleep before the next tick, unless an event comes."""
        if self._status.state in (WatchState.DISK_FULL, WatchState.UNAVAILABLE):
            return min(BLOCKED_SECONDS, max(self._interval(), 1.0))
        if self._more:
            return 0.0
        now = self._clock.monotonic()
        moments = [self._interval()]
        for candidate in self._candidates.values():
            moment = next_moment(candidate, self._rules(candidate.sighting))
            if moment is not None:
                moments.append(moment - now)
        return max(min(moments), self.breath())

    def breath(self) -> float:
        """The shortest pause, events or not: scanning a huge inbox must not eat a core that could read pages."""
        return 0.0 if self._more else max(SHORTEST_WAIT, SCAN_SHARE * self._scan_seconds)

    # -- one round

    def _observe(self) -> None:
        """Check the root, scan, and bring the candidates up to date. Raises Unavailable."""
        root = read_root(self._inbox)
        self._guard()
        started = self._clock.monotonic()
        survey = scan(self._inbox, self._reserved)
        ended = self._clock.monotonic()
        if self._root is not None and not same_root(self._root, root, has_files=bool(survey.files)):
            raise Unavailable(
                "The inbox is not the folder that was there before: its disk or share is probably not mounted.",
                hint="Plug it in or mount it again. If it was replaced on purpose, drop a file into it.",
            )
        self._root = root if root.mark else mark_root(self._inbox, self._remembered)
        self._survey, self._scan_seconds = survey, ended - started
        self._slow_root = root.dev in survey.slow
        self._profiles.update(survey.settings, ended, self._rules_of(slow=self._slow_root))
        self._candidates = dict(self._observed(survey, started, ended))
        self._held = {path: held for path, held in self._held.items() if path in survey.files}

    def _guard(self) -> None:
        """Once: see `guard_against_loops`."""
        if not self._guarded:
            guard_against_loops(self.folder)
            self._guarded = True

    def _observed(self, survey: Survey, started: float, ended: float) -> Iterator[tuple[bytes, Candidate]]:
        """A file counts as seen first when its first scan ended, and as still only up to when the last one began."""
        for path, sighting in survey.files.items():
            known = self._candidates.get(path)
            if _mark(sighting) in self._kept:
                continue
            fresh = known is None or known.sighting != sighting
            if fresh:
                self._held.pop(path, None)
            yield path, observe(known, sighting, ended if fresh else started, self._rules(sighting))
        for path, known in self._candidates.items():
            if path not in survey.files and _below(path, survey.unreadable):
                yield path, known

    def _look(self) -> None:
        now = self._clock.monotonic()
        for path, candidate in self._candidates.items():
            if not needs_look(candidate, now) or self._is_held(path, now):
                continue
            try:
                local = candidate.sighting.dev not in self._survey.slow
                finding = look(self._path(path), candidate.sighting, local=local)
            except OSError as error:
                self._hold(path, _reason(error), now)
                continue
            finally:
                self.progress = self._clock.monotonic()
            if finding is not None:
                self._candidates[path] = looked(candidate, finding, now, self._rules(candidate.sighting))

    def _batches(self) -> Iterator[list[bytes]]:
        """The files that are due, in natural order, a batch at a time, until this round's share is used up."""
        due = self._due()
        taken, volume = 0, 0
        while taken < min(len(due), CLAIMS_PER_TICK) and volume < CLAIM_BYTES_PER_TICK:
            batch, size = self._batch(due, taken)
            self._check_room(batch)
            taken, volume = taken + len(batch), volume + size
            self.progress = self._clock.monotonic() + size / SLOWEST_BYTES_PER_SECOND
            yield batch
        self._more = taken < len(due)

    def _batch(self, due: Sequence[bytes], start: int) -> tuple[list[bytes], int]:
        """The next files of `due`, and their bytes together; both bounded, so that claims are told of in good time."""
        size = 0
        for number, path in enumerate(due[start : start + CLAIM_BATCH], 1):
            size += self._candidates[path].sighting.size
            if size >= CLAIM_BATCH_BYTES:
                return list(due[start : start + number]), size
        return list(due[start : start + CLAIM_BATCH]), size

    def _due(self) -> list[bytes]:
        now = self._clock.monotonic()
        ready = [
            path
            for path, candidate in self._candidates.items()
            if candidate.phase in (Phase.DUE, Phase.EXPIRED)
            and path in self._survey.files
            and not self._is_held(path, now)
            and isinstance(self._profiles.profile(parent(path)), Profile)
        ]
        return sorted(ready, key=natural_key)

    def _check_room(self, batch: Iterable[bytes]) -> None:
        """Free space for the reserve and for those of the batch that must be copied. Raises DiskFull, Unavailable."""
        try:
            target = self.folder.spool.stat().st_dev
            disk = os.statvfs(self.folder.spool)
        except OSError as error:
            raise Unavailable(f"The data folder is not there: {error.strerror}.") from error
        sightings = [self._candidates[path].sighting for path in batch]
        copies = sum(s.size for s in sightings if s.dev != target)
        if disk.f_bavail * disk.f_frsize < self._settings.reserve_bytes + copies:
            raise DiskFull

    # -- claiming

    def _claim(self, batch: Sequence[bytes], claims: list[Claim]) -> None:
        """Claim a batch, add its claims to `claims`, tell the listener; then raise Blocked if no more can be taken."""
        with shared_lock(self.folder), ThreadPoolExecutor(CLAIM_THREADS, thread_name_prefix="claim") as threads:
            outcomes = list(threads.map(self._claim_one, batch))
        made: list[Claim] = []
        blocked: Blocked | None = None
        for path, outcome in zip(batch, outcomes, strict=True):
            match outcome:
                case Claim():
                    made.append(outcome)
                    self._taken(path, outcome)
                case FileNotFoundError() | SourceChanged():
                    self._candidates.pop(path, None)  # gone, or written to again: the next scan starts it anew
                case DiskFull() | StorageSuspect():
                    blocked = outcome
                case _:  # this one file: no permission, a bad sector
                    self._hold(path, _reason(outcome), self._clock.monotonic())
        claims += made
        if made and self._on_claims is not None:
            self._on_claims(made)
        if blocked is not None:
            raise blocked

    def _claim_one(self, path: bytes) -> Claim | OSError | InkstickError:
        candidate = self._candidates[path]
        profile = self._profiles.profile(parent(path))
        assert isinstance(profile, Profile)  # _due chose only such
        verdict = Incomplete().as_json() if candidate.phase is Phase.EXPIRED else None
        try:
            if Sighting.of(self._path(path).lstat()) != candidate.sighting:
                raise SourceChanged
            return self._spool.claim_file(self._path(path), escaped(path), profile, verdict=verdict)
        except (OSError, InkstickError) as error:
            return error

    def _taken(self, path: bytes, claim: Claim) -> None:
        if claim.method == "copy":
            self._kept.add(_mark(self._candidates[path].sighting))
        del self._candidates[path]
        self._accepted += 1

    # -- small things

    def _path(self, path: bytes) -> Path:
        return self._inbox / escaped(path)

    def _interval(self) -> float:
        seconds = self._settings.scan_seconds
        return max(seconds, SLOW_SCAN_SECONDS) if self._slow_root else seconds

    def _rules(self, sighting: Sighting) -> Rules:
        return self._rules_of(slow=sighting.dev in self._survey.slow)

    def _rules_of(self, *, slow: bool) -> Rules:
        settle, incomplete = self._settings.settle_seconds, self._settings.incomplete_seconds
        if slow:
            return Rules(max(settle, SLOW_SETTLE_SECONDS), incomplete * SLOW_INCOMPLETE_FACTOR)
        return Rules(settle, incomplete)

    def _hold(self, path: bytes, reason: str, now: float) -> None:
        known = self._held.get(path)
        wait = HELD_FIRST if known is None else min(known.wait * 2, HELD_LIMIT)
        self._held[path] = Held(reason, wait, now + wait)

    def _report(self, trouble: Blocked | None) -> None:
        state, message, hint = WatchState.WATCHING, "", ""
        if trouble is not None:
            state = WatchState.DISK_FULL if isinstance(trouble, DiskFull) else WatchState.UNAVAILABLE
            message, hint = trouble.message, trouble.hint
            self._more = False
        held = sorted(self._held.items(), key=lambda item: natural_key(item[0]))[:NAMES_LISTED]
        counts = folder_counts(self._candidates)
        self._status = WatchStatus(
            state=state,
            message=message,
            hint=hint,
            total=total(counts),
            folders=counts[:NAMES_LISTED],
            unsupported=names_in(self._candidates, Phase.UNSUPPORTED),
            incomplete=names_in(self._candidates, Phase.INCOMPLETE),
            held=tuple((display(path), held.reason) for path, held in held),
            unavailable=names_of(self._survey.unreadable),
            bad_profiles=self._profiles.problems(),
            accepted=self._accepted,
            files=len(self._survey.files),
            ignored=self._survey.ignored,
            skipped=self._survey.skipped,
            scan_seconds=round(self._scan_seconds, 3),
        )

    def _is_held(self, path: bytes, now: float) -> bool:
        held = self._held.get(path)
        return held is not None and now < held.again_at


def look(path: Path, seen: Sighting, *, local: bool = True) -> Finding | None:
    """Open a file that a scan saw and find out whether it is whole; None if it is not that file any more.

    `local`: on a local file system, where the kernel knows of every writer. Raises OSError when it cannot be opened.
    """
    try:
        fd = os.open(path, OPEN_FILE)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or Sighting.of(status) != seen:
            return None
        finding = examine(fd)[0]
        return Finding.DOUBTFUL if finding is Finding.WHOLE and local and has_writer(fd) else finding
    finally:
        os.close(fd)


def has_writer(fd: int) -> bool:
    """Whether somebody has the file open for writing at this moment. False where the kernel will not tell us.

    A read lease is only given on a file that nobody writes; it is handed back at once. Its signal is set to one that
    is ignored by default, because SIGIO would end the process.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


@contextmanager
def shared_lock(folder: DataFolder) -> Iterator[None]:
    """Held while claims are made. Whoever repairs the spool after a crash (`Spool.recover`, in another process) takes
    state/claim.lock exclusively (`exclusive_lock`), so that it never clears away a claim that is just being made."""
    with _claim_lock(folder, fcntl.LOCK_SH):
        yield


@contextmanager
def exclusive_lock(folder: DataFolder) -> Iterator[None]:
    """The other side of `shared_lock`: while it is held, no claim is made."""
    with _claim_lock(folder, fcntl.LOCK_EX):
        yield


@contextmanager
def _claim_lock(folder: DataFolder, kind: int) -> Iterator[None]:
    try:
        fd = os.open(folder.state / CLAIM_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"The data folder cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(fd, kind)
        yield
    finally:
        os.close(fd)


def _mark(sighting: Sighting) -> tuple[int, int, int, int]:
    return sighting.ino, sighting.size, sighting.mtime_ns, sighting.ctime_ns


def _reason(error: OSError | InkstickError) -> str:
    return error.message if isinstance(error, InkstickError) else error.strerror or str(error)


def _below(path: bytes, folders: Iterable[bytes]) -> bool:
    return any(path.startswith(folder + b"/") for folder in folders)
