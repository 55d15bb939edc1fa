"""The index of everything: what the pages, the API and the search look at. SQLite, one process.

The ledger is never the truth about a document: the folders are, and `rebuild` makes it anew from them. So a ledger that
is damaged is set aside and made again, and losing it loses nothing but history.

- SQLite is apsw's own, at least 3.51.3: older ones can corrupt a WAL database (Debian 13 ships 3.46).
- WAL, synchronous=FULL, no mmap; a lock file keeps a second process out.
- One connection writes and one reads, each behind its lock, so nobody who looks waits for a disk to be synced. What is
  read is what was last committed. Every public method that writes is one commit.
- Every change of a document's state is an event (kind ``document``, data {state, pages, pages_done, code}) in the same
  commit, so that a page that follows the events never shows less than the ledger knows.
"""

from __future__ import annotations

import builtins
import fcntl
import functools
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from inkstick.document import Page, page_from_json
from inkstick.errors import DiskFull, Unavailable, UsageError
from inkstick.profile import Priority, Profile, merge
from inkstick.store import listing, strips
from inkstick.store.claim import Claim, Outcome
from inkstick.store.listing import Filter
from inkstick.store.spool import Spool

STATES = ("queued", "reading", "done", "partial", "failed", "blocked")
EVENTS_KEPT = 10_000
_MINIMUM = (3, 51, 3)
_PAGE_BITS = 24  # a search row's number: the document's seq, then the page's number (0: the document's name)
_MOST = 1 << 38  # more documents than there will be: with the page's bits it still is a number to SQLite
_UNREAD = (apsw.SQLITE_IOERR_READ, apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS)
_NO_PAGE = (ValueError, KeyError, TypeError, OverflowError, RecursionError)  # what a line that is no page raises
_FTS_MINIMUM = 3  # characters; a trigram index cannot answer for fewer

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    relpath TEXT NOT NULL,
    sha256 TEXT,
    size INTEGER,
    type TEXT,
    task TEXT NOT NULL,
    state TEXT NOT NULL,
    code TEXT,
    message TEXT,
    hint TEXT,
    priority INTEGER NOT NULL,
    pages INTEGER NOT NULL DEFAULT 0,
    pages_done INTEGER NOT NULL DEFAULT 0,
    flags TEXT NOT NULL DEFAULT '',
    received TEXT NOT NULL,
    results TEXT,
    original TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    profile TEXT NOT NULL,
    reading_key TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_state ON documents (state, seq);
CREATE INDEX IF NOT EXISTS by_content ON documents (sha256, reading_key) WHERE sha256 IS NOT NULL;
CREATE TABLE IF NOT EXISTS pages (
    document INTEGER NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    engine TEXT,
    flags TEXT NOT NULL,
    score REAL,
    seconds REAL NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (document, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    document TEXT,
    data TEXT NOT NULL
);
CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5(text, tokenize = 'trigram');
"""
_SCHEMA += listing.INDEXES


@dataclass(frozen=True, slots=True)
class Row:
    """A document as the ledger knows it. `flags`: of any of its pages. `results` and `original`: see `Outcome`."""

    id: str
    seq: int
    name: str
    relpath: str
    sha256: str | None
    size: int | None
    type: str | None
    task: str
    state: str
    code: str | None
    message: str | None
    hint: str | None
    priority: int
    pages: int
    pages_done: int
    flags: tuple[str, ...]
    received: str
    results: str | None
    original: str | None
    attempts: int
    profile: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PageRow:
    """`state` is done or failed."""

    number: int
    state: str
    engine: str | None
    flags: tuple[str, ...]
    score: float | None
    seconds: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Hit:
    """`page` 0: the document's name was hit. In `snippet`, what was hit stands between U+2068 and U+2069."""

    document: str
    name: str
    page: int
    snippet: str


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    kind: str
    document: str | None
    data: Mapping[str, Any]


@dataclass(slots=True)
class Rebuilt:
    """`added`: rows that were missing. `healed`: rows whose state was not what the folders say. `orphans`: rows whose
    folder is gone; they are reported and left."""

    added: int = 0
    healed: int = 0
    orphans: list[str] = field(default_factory=list)


class Damaged(Unavailable):
    """SQLite finds its file damaged, or the disk does not give all of it."""

    default_message = "The ledger is damaged."
    default_hint = "Start again: it is made anew from the folders."


class Ledger:
    """Opens or makes the ledger. `set_aside` is the damaged file that was found in its place, if one was: then (and
    after every start) call `rebuild`. Raises UsageError when another process has it open."""

    def __init__(self, path: Path) -> None:
        check_version(apsw.sqlite_lib_version())
        self.set_aside: Path | None = None
        self._path = path
        self._mark = path.with_name(f"{path.name}.damaged")  # found to be so when it was in use
        self._writing, self._reading = threading.RLock(), threading.Lock()
        self._lock = _lock_file(path.with_suffix(".lock"))
        try:
            self._open(damaged=self._mark.exists())
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, *, damaged: bool) -> None:
        try:
            self._db = self._anew() if damaged else _connect(self._path)
        except apsw.Error as error:
            if damaged or not _is_damage(error):
                raise
            self._db = self._anew()
        self._looks = _opened(self._path)
        self._looks.execute("PRAGMA query_only = 1")

    def _anew(self) -> apsw.Connection:
        if self._path.exists():
            self.set_aside = _set_aside(self._path)
        made = _connect(self._path)
        self._mark.unlink(missing_ok=True)
        return made

    def close(self) -> None:
        with self._writing, self._reading:
            self._looks.close()
            self._db.close()
            os.close(self._lock)

    # -- writing

    def accept(self, claims: Sequence[Claim]) -> None:
        """Rows for accepted documents, state queued: thousands in one commit. A known id is left as it is."""
        with self._commit() as db:
            for claim in claims:
                self._insert(db, claim)

    def _insert(self, db: apsw.Cursor, claim: Claim) -> bool:
        wishes = json.dumps(dict(claim.profile))
        profile = _profile(wishes)
        db.execute(
            "INSERT INTO documents (id, name, relpath, sha256, size, task, state, priority, received, profile,"
            " reading_key) VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING RETURNING seq",
            (claim.id, claim.name, claim.relpath, claim.sha256, claim.size, profile.task.value, int(profile.priority),
             claim.received, wishes, profile.reading_key()),
        )  # fmt: skip
        inserted = db.fetchone()
        if inserted is None:
            return False
        db.execute("INSERT INTO search (rowid, text) VALUES (?, ?)", (inserted[0] << _PAGE_BITS, claim.name))
        _event(db, "document", claim.id, {"state": "queued", "pages": 0, "pages_done": 0, "code": None})
        return True

    def set_state(
        self, identifier: str, state: str, code: str | None = None, message: str | None = None, hint: str | None = None
    ) -> None:
        """`state` is one of `STATES`; code, message and hint are those of the error that explains it."""
        if state not in STATES:
            raise ValueError(f"no such state: {state!r}")
        with self._commit() as db:
            values = (state, code, message, hint, identifier)
            db.execute("UPDATE documents SET state = ?, code = ?, message = ?, hint = ? WHERE id = ?", values)
            _tell(db, identifier)

    def set_pages(self, identifier: str, pages: int, type: str) -> None:
        """What opening the document told: its number of pages and media type."""
        with self._commit() as db:
            db.execute("UPDATE documents SET pages = ?, type = ? WHERE id = ?", (pages, type, identifier))
            _tell(db, identifier)

    def set_content(self, identifier: str, sha256: str, size: int) -> None:
        """The hash of a document that was claimed by rename, once it is known."""
        with self._commit() as db:
            db.execute("UPDATE documents SET sha256 = ?, size = ? WHERE id = ?", (sha256, size, identifier))

    def page_done(self, identifier: str, page: Page) -> None:
        self.pages_done(identifier, (page,))

    def pages_done(self, identifier: str, pages: Iterable[Page]) -> None:
        """Pages that were read (or could not be): their figures, and their text for the search. One commit."""
        with self._commit() as db:
            seq = _seq(db, identifier)
            if seq is None:
                return
            for page in pages:
                _put_page(db, seq, page)
            _sum_pages(db, seq)
            _tell(db, identifier)

    def reopened(self, identifier: str) -> None:
        """A retry: queued again, nothing read yet, one attempt more."""
        with self._commit() as db:
            seq = _seq(db, identifier)
            if seq is None:
                return
            _forget_pages(db, seq)
            db.execute(
                "UPDATE documents SET state = 'queued', code = NULL, message = NULL, hint = NULL, results = NULL,"
                " original = NULL, pages_done = 0, flags = '', attempts = attempts + 1 WHERE seq = ?",
                (seq,),
            )
            _tell(db, identifier)

    def concluded(self, identifier: str, outcome: Outcome) -> None:
        with self._commit() as db:
            _conclude(db, identifier, outcome)
            _tell(db, identifier)

    def set_profile(self, identifier: str, profile: Mapping[str, Any]) -> None:
        with self._commit() as db:
            db.execute("UPDATE documents SET profile = ? WHERE id = ?", (json.dumps(dict(profile)), identifier))

    def forget(self, identifier: str) -> None:
        """A document was deleted: no row, no page, no text of it is left. Those who listen are told (state removed)."""
        with self._commit() as db:
            seq = _seq(db, identifier)
            if seq is None:
                return
            _forget_pages(db, seq)
            db.execute("DELETE FROM search WHERE rowid = ?", (seq << _PAGE_BITS,))
            db.execute("DELETE FROM documents WHERE seq = ?", (seq,))
            _event(db, "document", identifier, {"state": "removed", "pages": 0, "pages_done": 0, "code": None})

    def event(self, kind: str, document: str | None, data: Mapping[str, Any]) -> int:
        """Tell those who listen something more than states. Returns the event's id."""
        with self._commit() as db:
            return _event(db, kind, document, data)

    # -- reading

    def get(self, identifier: str) -> Row | None:
        return next(self._rows("WHERE id = ?", (identifier,)), None)

    def find_done(self, sha256: str, reading_key: str) -> Row | None:
        """A document of the same bytes that was read whole for the same wishes."""
        where = "WHERE sha256 = ? AND reading_key = ? AND state = 'done' ORDER BY seq LIMIT 1"
        return next(self._rows(where, (sha256, reading_key)), None)

    def list(
        self,
        q: str | None = None,
        state: str | None = None,
        after: int | None = None,
        limit: int = 100,
        *,
        wanted: Filter | None = None,
    ) -> list[Row]:
        """Newest first. `wanted` (or just `q` and `state`) says which; `after` is the `seq` of the last row had."""
        wanted = wanted or Filter(q=q, state=state)
        if wanted.q:
            if "\0" in wanted.q:
                return []
            seqs = self._found(wanted, after, limit)
            marks = ", ".join("?" * len(seqs))
            return list(self._rows(f"WHERE seq IN ({marks}) ORDER BY seq DESC", seqs)) if seqs else []
        inner, values = wanted.select(after, limit)
        return list(self._rows(f"WHERE seq IN ({inner}) ORDER BY seq DESC", values))

    def _found(self, wanted: Filter, after: int | None, limit: int) -> builtins.list[int]:
        """Numbers of documents whose name or text holds `q`, newest first; pages are looked at until it is enough."""
        matching, value = _matching(wanted.q or "")
        where, values = wanted.conditions("d")
        clause = " AND ".join([matching, "search.rowid < ?", *where])
        sql = (
            f"SELECT d.seq FROM search CROSS JOIN documents d ON d.seq = search.rowid >> {_PAGE_BITS}"  # noqa: S608
            f" WHERE {clause} ORDER BY search.rowid DESC"
        )
        before = min(after if after is not None else _MOST, _MOST) << _PAGE_BITS
        found: dict[int, None] = {}
        with self._reading, self._told():
            for row in self._looks.cursor().execute(sql, (value, before, *values)):
                found[int(row[0])] = None
                if len(found) >= limit:
                    break
        return builtins.list(found)

    def waiting(self, limit: int = 1_000_000) -> builtins.list[Row]:
        """Documents that are not at their end, the most urgent and oldest first."""
        where = "WHERE state IN ('queued', 'reading', 'blocked') ORDER BY priority, seq LIMIT ?"
        return list(self._rows(where, (limit,)))

    def ids(self) -> builtins.list[str]:
        """Every document there is."""
        return [str(row[0]) for row in self._query("SELECT id FROM documents", ())]

    def pages(self, identifier: str, after: int = 0, limit: int = 1 << _PAGE_BITS) -> builtins.list[PageRow]:
        """Those after page `after`, `limit` numbers at most."""
        rows = self._query(
            "SELECT number, p.state, engine, p.flags, score, seconds, p.attempts FROM pages p"
            " JOIN documents d ON d.seq = p.document WHERE d.id = ? AND number > ? AND number <= ? ORDER BY number",
            (identifier, after, after + limit),
        )
        return [PageRow(row[0], row[1], row[2], _words(row[3]), *row[4:]) for row in rows]

    def noted(
        self, identifier: str, number: int, flags: Sequence[str], low: float, *, back: bool = False
    ) -> int | None:
        """The next page after `number` (`back`: before it) that has one of the flags, or a score below `low`."""
        there, order = ("<", "DESC") if back else (">", "ASC")
        marks = " OR ".join(["score < ?", *["instr(' ' || p.flags || ' ', ?)"] * len(flags)])
        rows = self._query(
            f"SELECT number FROM pages p JOIN documents d ON d.seq = p.document WHERE d.id = ? AND number {there} ?"  # noqa: S608
            f" AND ({marks}) ORDER BY number {order} LIMIT 1",
            (identifier, number, low, *(f" {flag} " for flag in flags)),
        )
        return int(rows[0][0]) if rows else None

    def search(self, q: str, limit: int = 50) -> builtins.list[Hit]:
        """Pages (and names) that hold `q` as it stands, case aside."""
        if not q.strip() or "\0" in q:  # no text has that, and SQLite's query would end there
            return []
        condition, value = _matching(q)
        short = len(q) < _FTS_MINIMUM
        snippet = "text" if short else "snippet(search, 0, '\u2068', '\u2069', '…', 40)"
        inner = (
            f"SELECT rowid >> {_PAGE_BITS} AS document, rowid & {(1 << _PAGE_BITS) - 1} AS number, {snippet} AS snippet"  # noqa: S608
            f" FROM search WHERE {condition} ORDER BY rowid DESC LIMIT ?"
        )
        sql = f"SELECT d.id, d.name, s.number, s.snippet FROM ({inner}) s JOIN documents d ON d.seq = s.document"  # noqa: S608
        rows = self._query(sql, (value, limit))
        return [Hit(row[0], row[1], row[2], _cut(row[3], q) if short else row[3]) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many documents are in each state; all states are there."""
        found = dict(self._query("SELECT state, count(*) FROM documents GROUP BY state", ()))
        return {state: found.get(state, 0) for state in STATES}

    def events(self, after: int = 0, limit: int = 100) -> builtins.list[Event]:
        """Oldest first, those with a greater id than `after`. Old ones are forgotten: about 10,000 are kept."""
        rows = self._query(
            "SELECT id, kind, document, data FROM events WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
        )
        return [Event(row[0], row[1], row[2], json.loads(row[3])) for row in rows]

    def last_event(self) -> int:
        rows = self._query("SELECT seq FROM sqlite_sequence WHERE name = 'events'", ())
        return int(rows[0][0]) if rows else 0

    def strips(self, ids: Sequence[str], warnings: Sequence[str]) -> dict[str, strips.Strip]:
        """The strip of each document that has been opened. `warnings`: the flags that a person should look at."""
        wanted = builtins.list(ids)
        marks = ", ".join("?" * len(wanted))
        known = self._query(f"SELECT id, pages FROM documents WHERE id IN ({marks})", wanted)  # noqa: S608
        parts: dict[str, builtins.list[tuple[int, int, int]]] = {row[0]: [] for row in known}
        for identifier, _, segment, level, count in self._query(strips.query(len(wanted), warnings), wanted):
            parts[identifier].append((segment, level, count))
        return {row[0]: strips.strip(row[1], parts[row[0]]) for row in known if row[1]}

    def at_work(self, sha256: str) -> bool:
        """Is a document of these bytes waiting or being read?"""
        where = "sha256 = ? AND state IN ('queued', 'reading', 'blocked')"
        return bool(self._query(f"SELECT 1 FROM documents WHERE {where} LIMIT 1", (sha256,)))  # noqa: S608

    def folders(self, limit: int = 200) -> builtins.list[str]:
        """Folders below inbox/ that documents came from, in order."""
        least = f"SELECT min({listing.FOLDER}) FROM documents WHERE {listing.FOLDER} >"  # noqa: S608
        sql = (  # from each folder to the next in the index: the documents in between are not looked at
            f"WITH RECURSIVE f(folder) AS ({least} '' UNION ALL"  # noqa: S608
            f" SELECT ({least} f.folder) FROM f WHERE f.folder IS NOT NULL)"
            " SELECT folder FROM f WHERE folder IS NOT NULL LIMIT ?"
        )
        rows = self._query(sql, (limit,))
        return [str(row[0]) for row in rows]

    def failures(self) -> dict[str, int]:
        """How many failed or partial documents there are by error code, the most frequent first."""
        rows = self._query(
            "SELECT code, count(*) FROM documents INDEXED BY by_code WHERE state IN ('failed', 'partial')"
            " AND code IS NOT NULL GROUP BY code ORDER BY 2 DESC, 1",
            (),
        )
        return {str(row[0]): int(row[1]) for row in rows}

    def remaining(self, sample: int = 200) -> tuple[int, int, float]:
        """(pages still to be read of opened documents, documents not opened yet, mean pages of the last `sample`
        ended ones; 0 without any)."""
        opened = self._query(
            "SELECT coalesce(sum(max(pages - pages_done, 0)), 0) FROM documents"
            " WHERE state IN ('reading', 'blocked') AND pages > 0",
            (),
        )
        unopened = self._query(
            "SELECT count(*) FROM documents WHERE state = 'queued' OR (state IN ('reading', 'blocked') AND pages = 0)",
            (),
        )
        mean = self._query(
            "SELECT coalesce(avg(pages), 0.0) FROM (SELECT pages FROM documents WHERE state = 'done'"
            " ORDER BY seq DESC LIMIT ?)",
            (sample,),
        )
        return int(opened[0][0]), int(unopened[0][0]), float(mean[0][0])

    def check(self) -> builtins.list[str]:
        """SQLite's own integrity check: empty when all is well."""
        found = [str(row[0]) for row in self._query("PRAGMA integrity_check", ())]
        return [] if found == ["ok"] else found

    # -- from the folders

    def rebuild(self, spool: Spool) -> Rebuilt:
        """Make every row say what the folders say; states of documents at work become queued. One commit. A ledger that
        turns out to be damaged is set aside, and made anew."""
        try:
            return self._rebuild(spool)
        except Damaged:
            with self._writing, self._reading:
                self._looks.close()
                self._db.close()
                self._open(damaged=True)
            return self._rebuild(spool)

    def _rebuild(self, spool: Spool) -> Rebuilt:
        done, seen = Rebuilt(), set()
        with self._commit() as db:
            for claim, outcome in spool.everything():
                seen.add(claim.id)
                self._heal(db, spool, claim, outcome, done)
            db.execute("SELECT id FROM documents")
            done.orphans = [str(row[0]) for row in db.fetchall() if row[0] not in seen]
        return done

    def _heal(self, db: apsw.Cursor, spool: Spool, claim: Claim, outcome: Outcome | None, done: Rebuilt) -> None:
        added = self._insert(db, claim)
        done.added += added
        db.execute("SELECT state, results, original FROM documents WHERE id = ?", (claim.id,))
        known: Any = db.fetchone()
        if outcome is None:
            if known[0] != "queued":
                db.execute(
                    "UPDATE documents SET state = 'queued', code = NULL, message = NULL, hint = NULL, results = NULL,"
                    " original = NULL WHERE id = ?",
                    (claim.id,),
                )
                _tell(db, claim.id)
                done.healed += known[0] not in ("reading", "blocked")
        elif added or known != (outcome.state, outcome.results, outcome.original):
            _conclude(db, claim.id, outcome)
            _tell(db, claim.id)
            done.healed += not added
        if added and outcome is not None and outcome.results is not None:
            record = spool.data.results / outcome.results / f"{spool.name_of(claim.name)}.json"
            self._read_results(db, claim.id, record)

    def _read_results(self, db: apsw.Cursor, identifier: str, record: Path) -> None:
        seq = _seq(db, identifier)
        if seq is None:
            return
        for page in _published_pages(record):
            with suppress(*_NO_PAGE):
                _put_page(db, seq, page)
        _sum_pages(db, seq)

    # -- below

    @contextmanager
    def _commit(self) -> Iterator[apsw.Cursor]:
        with self._writing, self._told():
            cursor = self._db.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                self.before_commit()
                cursor.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with _translated():
                yield
        except Damaged:
            with suppress(OSError):
                self._mark.touch()  # or the next start, which looks at little of it, would not notice
            raise

    def before_commit(self) -> None:
        """A kill point for the crash tests."""

    def _query(self, sql: str, values: Sequence[Any]) -> builtins.list[tuple[Any, ...]]:
        with self._reading, self._told():
            rows: Any = self._looks.cursor().execute(sql, values).fetchall()
            return builtins.list(rows)

    def _rows(self, where: str, values: Sequence[Any]) -> Iterator[Row]:
        columns = (
            "id, seq, name, relpath, sha256, size, type, task, state, code, message, hint, priority, pages, pages_done,"
            " flags, received, results, original, attempts, profile"
        )
        for row in self._query(f"SELECT {columns} FROM documents {where}", values):  # noqa: S608
            values_of: Any = (*row[:15], _words(row[15]), *row[16:20], json.loads(row[20]))
            yield Row(*values_of)


def check_version(version: str) -> None:
    """Raises UsageError for a SQLite that can corrupt a WAL database."""
    if tuple(int(part) for part in version.split(".")[:3]) < _MINIMUM:
        wanted = ".".join(map(str, _MINIMUM))
        raise UsageError(
            f"SQLite {version} can damage the ledger.", hint=f"Install an apsw with SQLite {wanted} or newer."
        )


def profile_of(wishes: Mapping[str, Any]) -> Profile:
    """The profile of a claim or row as an object. One that this version does not understand counts as the default."""
    return _profile(json.dumps(dict(wishes)))


@functools.lru_cache(maxsize=256)
def _profile(wishes: str) -> Profile:
    try:
        return merge(Profile(), json.loads(wishes), where="claim")
    except UsageError:
        return Profile(priority=Priority.WATCHED)


def _opened(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    try:
        db.set_busy_timeout(10_000)
        for pragma in ("mmap_size = 0", "journal_mode = WAL", "synchronous = FULL", "temp_store = MEMORY"):
            db.execute(f"PRAGMA {pragma}")
    except BaseException:
        db.close()
        raise
    return db


def _connect(path: Path) -> apsw.Connection:
    """For writing: looked over after an unclean end, with all tables."""
    unclean = path.with_name(path.name + "-wal").exists()
    db = _opened(path)
    try:
        if unclean and db.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
            raise apsw.CorruptError("quick_check")
        db.execute(_SCHEMA)
        db.execute("SELECT count(*) FROM (SELECT 1 FROM search LIMIT 1)").fetchall()
    except BaseException:
        db.close()
        raise
    return db


def _lock_file(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UsageError(
            "Another Inkstick is running on this data folder.", hint="Stop it, or choose another folder with --data."
        ) from None
    return handle


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    return aside


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.FullError as error:
        raise DiskFull from error
    except apsw.Error as error:
        if _is_damage(error):
            raise Damaged from error
        if isinstance(error, apsw.IOError | apsw.CantOpenError | apsw.ReadOnlyError):
            raise Unavailable(f"The ledger cannot be written: {error}.") from error
        raise


def _is_damage(error: apsw.Error) -> bool:
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return True
    return getattr(error, "extendedresult", None) in _UNREAD


def _seq(db: apsw.Cursor, identifier: str) -> int | None:
    row = db.execute("SELECT seq FROM documents WHERE id = ?", (identifier,)).fetchone()
    return None if row is None else int(row[0])


def _put_page(db: apsw.Cursor, seq: int, page: Page) -> None:
    state, flags = "failed" if page.error else "done", " ".join(page.flags)
    row = seq << _PAGE_BITS | page.number
    db.execute("DELETE FROM search WHERE rowid = ?", (row,))
    values = (seq, page.number, state, page.engine, flags, page.score, page.seconds, page.attempts)
    db.execute("INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    text = page.text()
    if text:
        db.execute("INSERT INTO search (rowid, text) VALUES (?, ?)", (row, text))


def _forget_pages(db: apsw.Cursor, seq: int) -> None:
    db.execute("DELETE FROM pages WHERE document = ?", (seq,))
    first = seq << _PAGE_BITS
    db.execute("DELETE FROM search WHERE rowid > ? AND rowid < ?", (first, first + (1 << _PAGE_BITS)))


def _sum_pages(db: apsw.Cursor, seq: int) -> None:
    rows: Any = db.execute("SELECT DISTINCT flags FROM pages WHERE document = ? AND flags <> ''", (seq,)).fetchall()
    flags = " ".join(sorted({flag for row in rows for flag in row[0].split()}))
    db.execute(
        "UPDATE documents SET flags = ?, pages_done = (SELECT count(*) FROM pages WHERE document = seq),"
        " pages = max(pages, (SELECT coalesce(max(number), 0) FROM pages WHERE document = seq)) WHERE seq = ?",
        (flags, seq),
    )


def _conclude(db: apsw.Cursor, identifier: str, outcome: Outcome) -> None:
    error = outcome.error or {}
    db.execute(
        "UPDATE documents SET state = ?, code = ?, message = ?, hint = ?, results = ?, original = ?, attempts = ?,"
        " pages = max(pages, ?), sha256 = coalesce(?, sha256), size = coalesce(?, size), type = coalesce(?, type)"
        " WHERE id = ?",
        (outcome.state, error.get("code"), error.get("message"), error.get("hint"), outcome.results, outcome.original,
         outcome.attempts, outcome.pages, outcome.sha256, outcome.size, outcome.type, identifier),
    )  # fmt: skip


def _tell(db: apsw.Cursor, identifier: str) -> None:
    row = db.execute("SELECT state, pages, pages_done, code FROM documents WHERE id = ?", (identifier,)).fetchone()
    if row is not None:
        _event(db, "document", identifier, dict(zip(("state", "pages", "pages_done", "code"), row, strict=True)))


def _event(db: apsw.Cursor, kind: str, document: str | None, data: Mapping[str, Any]) -> int:
    text = json.dumps(dict(data), ensure_ascii=False)
    db.execute("INSERT INTO events (kind, document, data) VALUES (?, ?, ?) RETURNING id", (kind, document, text))
    inserted: Any = db.fetchone()
    number = int(inserted[0])
    if number % 256 == 0:
        db.execute("DELETE FROM events WHERE id <= ?", (number - EVENTS_KEPT,))
    return number


def _matching(q: str) -> tuple[str, str]:
    """A condition on the search table and its value. A trigram index cannot answer for fewer than three characters."""
    if len(q) >= _FTS_MINIMUM:
        return "search MATCH ?", '"' + q.replace('"', '""') + '"'
    escaped = q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return "text LIKE ? ESCAPE '\\'", f"%{escaped}%"


def _cut(text: str, q: str) -> str:
    at = max(0, text.lower().find(q.lower()))
    start, end = max(0, at - 40), at + len(q) + 40
    middle = f"{text[start:at]}\u2068{text[at : at + len(q)]}\u2069{text[at + len(q) : end]}"
    return ("…" if start else "") + middle + ("…" if end < len(text) else "")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _published_pages(record: Path) -> Iterator[Page]:
    """Pages from a document's record, a line each (see `document.record_chunks`); what cannot be read is left out, for
    the search index is all that suffers."""
    with suppress(OSError), record.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(*_NO_PAGE):
                yield page_from_json(json.loads(line.strip().removesuffix("]}").rstrip(",")))
