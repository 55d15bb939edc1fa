"""The audit log: who did what and when, a line each, every line sealed to the one before it.

``state/audit.jsonl`` is only ever appended to, and each line is on the disk before the act is answered. A line holds
no text and no name of a document, only its id. `hash` is SHA-256 over the hash before and the line's own content, so
that a line that was changed, removed, added or moved is found; ``state/audit.head`` notes the last line, so that a
cut-off end is found too. Whoever can write both files can make up another history that fits: copy the last hash away to
prevent that.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inkstick import durable
from inkstick.access import private

START = "0" * 64
_TAIL_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Entry:
    """`number` from 1. `time`: wall time in ISO form, for people. `who`: ``session:…``, ``token:…``, ``console`` or
    ``nobody``. `what`: a word. `about`: plain words and numbers, never text of a document."""

    number: int
    time: str
    who: str
    what: str
    about: Mapping[str, Any]
    previous: str
    hash: str

    def as_line(self) -> bytes:
        return (_content(self) + f', "hash": "{self.hash}"}}\n').encode()


def _content(entry: Entry) -> str:
    """The line without its own hash and its end: what is hashed."""
    value = {
        "number": entry.number,
        "time": entry.time,
        "who": entry.who,
        "what": entry.what,
        "about": entry.about,
        "previous": entry.previous,
    }
    return json.dumps(value, ensure_ascii=True)[:-1]


def sealed(entry: Entry) -> str:
    """The hash that the entry must have."""
    return hashlib.sha256(f"{entry.previous}\n{_content(entry)}".encode()).hexdigest()


def follow(previous: Entry | None, time: str, who: str, what: str, about: Mapping[str, Any]) -> Entry:
    """The entry after `previous`, sealed."""
    number, before = (previous.number + 1, previous.hash) if previous else (1, START)
    bare = Entry(number, time, who, what, about, before, "")
    return Entry(number, time, who, what, about, before, sealed(bare))


def parse(line: bytes) -> Entry:
    """An entry from its line. Raises ValueError, KeyError or TypeError for what is none."""
    value = json.loads(line)
    return Entry(*(value[name] for name in ("number", "time", "who", "what", "about", "previous", "hash")))


def problem(lines: Iterator[bytes] | Sequence[bytes], head: tuple[int, str] | None) -> str | None:
    """The first thing that is wrong with a log, in words; None if it is whole.

    `lines` with their line ends; `head`: number and hash that the log must at least reach."""
    last: Entry | None = None
    reached = head is None or head[0] == 0
    for place, line in enumerate(lines, 1):
        try:
            entry = parse(line)
        except (ValueError, KeyError, TypeError):
            return f"line {place} is not an entry"
        expected = follow(last, entry.time, entry.who, entry.what, entry.about)
        if entry.as_line() != line or entry != expected:
            return f"line {place} does not fit the line before it, or was changed"
        if head and entry.number == head[0]:
            if entry.hash != head[1]:
                return f"line {place} is not the one that was written"
            reached = True
        last = entry
    return None if reached else f"the end is missing: {head[0] if head else 0} entries were written"


class Audit:
    """The log of one data folder; the service alone appends. Thread-safe."""

    def __init__(self, state: Path) -> None:
        self.path, self._head = state / "audit.jsonl", state / "audit.head"
        self._lock = threading.Lock()
        self._last: Entry | None = None
        self._opened = False

    def write(self, time: str, who: str, what: str, about: Mapping[str, Any]) -> Entry:
        """Append an entry; it is on the disk when this returns. Raises DiskFull or Unavailable."""
        with self._lock:
            try:
                if not self._opened:
                    self._open(time)
                self._append(follow(self._last, time, who, what, about))
            except OSError as error:
                self._opened = False  # look again what is really there
                raise private.translated(error) from error
            assert self._last is not None
            return self._last

    def tail(self, count: int) -> Sequence[Entry]:
        """The last entries, the newest first; those that cannot be understood are left out."""
        entries = []
        for line in reversed(self._last_lines()):
            try:
                entries.append(parse(line))
            except (ValueError, KeyError, TypeError):
                continue
        return entries[:count]

    def verify(self) -> tuple[int, str | None]:
        """How many lines there are, and what is wrong with them, if anything. A line that a power cut tore at the very
        end is nothing wrong: it was never answered."""
        head = _reached(private.load(self._head))
        try:
            with self.path.open("rb") as file:
                lines = [line for line in file if line.endswith(b"\n")]
        except FileNotFoundError:
            lines = []
        wrong = problem(lines, head)
        if wrong is None and head is None and (len(lines) > 1 or self._head.exists()):  # the first line comes before it
            wrong = f"{self._head.name} is missing or damaged, so that an end that was cut off cannot be seen"
        return len(lines), wrong

    def _append(self, entry: Entry) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            new = os.fstat(handle).st_size == 0
            line = entry.as_line()
            if os.write(handle, line) != len(line):
                raise OSError(28, "No space left on device")
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            durable.sync_folder(self.path.parent)
        private.save(self._head, {"number": entry.number, "hash": entry.hash})
        self._last = entry

    def _open(self, time: str) -> None:
        """Find the last entry; cut off what a power cut left of a line that was never answered."""
        torn = self._cut_torn_line()
        lines = self._last_lines()
        self._last, self._opened = _last_entry(lines), True
        if torn:
            self._append(follow(self._last, time, "service", "mended", {"bytes": torn}))

    def _cut_torn_line(self) -> int:
        try:
            with self.path.open("rb+") as file:
                size = file.seek(0, os.SEEK_END)
                start = max(0, size - _TAIL_BYTES)
                file.seek(start)
                whole = file.read().rfind(b"\n") + 1
                torn = size - start - whole
                if torn:
                    file.truncate(start + whole)
                    os.fsync(file.fileno())
                return torn
        except FileNotFoundError:
            return 0

    def _last_lines(self) -> list[bytes]:
        try:
            with self.path.open("rb") as file:
                start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
                file.seek(start)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return lines[1:] if start else lines


def _reached(head: Any) -> tuple[int, str] | None:
    """Number and hash of the last entry as they are kept beside the log; None if they are not, or damaged."""
    try:
        return int(head["number"]), str(head["hash"])
    except (ValueError, KeyError, TypeError):
        return None


def _last_entry(lines: Sequence[bytes]) -> Entry | None:
    """The entry to go on from. After a line that is none the chain begins anew, and `problem` tells where."""
    try:
        return parse(lines[-1]) if lines else None
    except (ValueError, KeyError, TypeError):
        return None
