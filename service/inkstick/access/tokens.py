"""Tokens for scripts: made by an admin, shown once, kept as a hash, good until they are revoked."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inkstick.access import private
from inkstick.access.roles import Role, role_of
from inkstick.access.sessions import digest
from inkstick.errors import UsageError

PREFIX = "inkstick_"
MOST = 100


@dataclass(frozen=True, slots=True)
class Token:
    """`id` is for people and the log. `name`: what it is for. `made`: wall time in ISO form, for people only."""

    id: str
    digest: str
    role: Role
    name: str
    made: str


class Tokens:
    """All tokens of one data folder. Thread-safe; methods that change something write and sync the file."""

    def __init__(self, state: Path) -> None:
        self._path = state / "tokens.json"
        self._lock = threading.RLock()
        self._known: dict[str, Token] | None = None

    def make(self, role: Role, name: str, made: str) -> tuple[Token, str]:
        """A new token and its secret, which is nowhere to be read again. Raises UsageError beyond 100."""
        secret = PREFIX + secrets.token_urlsafe(32)
        hashed = digest(secret)
        token = Token(hashed[:12], hashed, role, name[:60], made)
        with self._lock:
            known = self._load()
            if len(known) >= MOST:
                raise UsageError(f"There are {MOST} tokens already.", hint="Revoke those that are not used any more.")
            self._save([*known.values(), token])
        return token, secret

    def find(self, secret: str) -> Token | None:
        with self._lock:
            return self._load().get(digest(secret))

    def all(self) -> Sequence[Token]:
        with self._lock:
            return list(self._load().values())

    def revoke(self, id: str) -> Token | None:
        """End a token at once. None: there is none of that id."""
        with self._lock:
            known = self._load()
            found = next((token for token in known.values() if token.id == id), None)
            if found:
                self._save([token for token in known.values() if token is not found])
        return found

    def _load(self) -> dict[str, Token]:
        if self._known is None:
            self._known = _from_json(private.load(self._path))
        return self._known

    def _save(self, known: Sequence[Token]) -> None:
        private.save(self._path, [_as_json(token) for token in known])
        self._known = {token.digest: token for token in known}


def _as_json(token: Token) -> dict[str, Any]:
    return {"id": token.id, "digest": token.digest, "role": token.role.word, "name": token.name, "made": token.made}


def _from_json(value: Any) -> dict[str, Token]:
    """A file that cannot be understood holds no token."""
    try:
        rows = [Token(row["id"], row["digest"], role_of(row["role"]), row["name"], row["made"]) for row in value or []]
    except (TypeError, KeyError, ValueError):
        return {}
    return {row.digest: row for row in rows}
