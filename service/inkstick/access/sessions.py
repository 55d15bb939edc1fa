"""Paired browsers: who they are is decided here on the appliance; the browser holds 256 random bits and nothing else.

``state/sessions.json`` keeps a hash of those bits, so that whoever reads the file cannot use it. A session ends when it
was not used for a while, after its longest life, when it is revoked or left, and when the machine is switched off.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inkstick.access import private
from inkstick.access.moment import Moment, moment_from
from inkstick.access.roles import Role, role_of
from inkstick.errors import Blocked

MOST = 64
TOUCH_SECONDS = 60.0
"""A session's last use is written down at most this often."""


@dataclass(frozen=True, slots=True)
class Session:
    """`id` is for people and the log. `name`: what the person called the browser. `address`: where it was paired from.
    `paired`: wall time in ISO form, for people only."""

    id: str
    digest: str
    role: Role
    name: str
    address: str
    paired: str
    begun: Moment
    seen: Moment


@dataclass(frozen=True, slots=True)
class Life:
    """Seconds a session lives: without use, and at the longest."""

    idle: float
    longest: float

    def alive(self, session: Session, now: Moment) -> bool:
        return now.since(session.seen) < self.idle and now.since(session.begun) < self.longest


def digest(secret: str) -> str:
    """SHA-256 in hex. The secret is 256 random bits: nothing slower is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Sessions:
    """All sessions of one data folder. Thread-safe; methods that change something write and sync the file."""

    def __init__(self, state: Path, life: Life) -> None:
        self._path, self._life = state / "sessions.json", life
        self._lock = threading.RLock()
        self._known: dict[str, Session] | None = None

    def begin(self, role: Role, name: str, address: str, paired: str, now: Moment) -> tuple[Session, str]:
        """A new session, and the secret for its cookie. Of more than 64 the one unused longest ends."""
        secret = secrets.token_urlsafe(32)
        hashed = digest(secret)
        session = Session(hashed[:12], hashed, role, name[:60], address, paired, now, now)
        with self._lock:
            known = self._alive(now)
            for old in sorted(known.values(), key=lambda each: each.seen.seconds)[: max(0, len(known) - MOST + 1)]:
                del known[old.digest]
            self._save({**known, hashed: session})
        return session, secret

    def find(self, secret: str, now: Moment) -> Session | None:
        """The session whose cookie this is, if it lives; that counts as a use."""
        return self.use(digest(secret), now)

    def use(self, hashed: str, now: Moment) -> Session | None:
        """The session kept under this hash, if it lives; its use is written down, once a minute at most."""
        with self._lock:
            session = self.check(hashed, now)
            if session and now.since(session.seen) >= TOUCH_SECONDS:
                session = replace(session, seen=now)
                self._touched({**self._alive(now), hashed: session})
        return session

    def check(self, hashed: str, now: Moment) -> Session | None:
        """Does the session still live? No use is noted."""
        with self._lock:
            session = self._load().get(hashed)
        return session if session and self._life.alive(session, now) else None

    def living(self, now: Moment) -> Sequence[Session]:
        """Those that live, the newest first."""
        with self._lock:
            return sorted(self._alive(now).values(), key=lambda session: session.begun.seconds, reverse=True)

    def revoke(self, id: str, now: Moment) -> Session | None:
        """End a session at once. None: there is none of that id."""
        with self._lock:
            known = self._alive(now)
            found = next((session for session in known.values() if session.id == id), None)
            if found:
                self._save({key: session for key, session in known.items() if key != found.digest})
        return found

    def _alive(self, now: Moment) -> dict[str, Session]:
        return {key: session for key, session in self._load().items() if self._life.alive(session, now)}

    def _load(self) -> dict[str, Session]:
        if self._known is None:
            self._known = _from_json(private.load(self._path))
        return self._known

    def _touched(self, known: Mapping[str, Session]) -> None:
        """A use that cannot be written down keeps nobody out: on a full disk somebody must come in to make room."""
        try:
            self._save(known)
        except Blocked:
            self._known = dict(known)

    def _save(self, known: Mapping[str, Session]) -> None:
        private.save(self._path, [_as_json(session) for session in known.values()])
        self._known = dict(known)


def _as_json(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "digest": session.digest,
        "role": session.role.word,
        "name": session.name,
        "address": session.address,
        "paired": session.paired,
        "begun": session.begun.as_json(),
        "seen": session.seen.as_json(),
    }


def _from_json(value: Any) -> dict[str, Session]:
    """A file that cannot be understood holds no session: everybody pairs again."""
    try:
        rows = [
            Session(
                id=row["id"],
                digest=row["digest"],
                role=role_of(row["role"]),
                name=row["name"],
                address=row["address"],
                paired=row["paired"],
                begun=moment_from(row["begun"]),
                seen=moment_from(row["seen"]),
            )
            for row in value or []
        ]
    except (TypeError, KeyError, ValueError):
        return {}
    return {row.digest: row for row in rows}
