"""Who may do what: one table of every address, the least role that may use it, and what the audit log calls it.

An address that is not in the table is for admins only; a test walks through all addresses of the app and fails where
one is missing here. Add a line when you add an address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

from starlette.routing import compile_path


class Role(IntEnum):
    """Each may do what those before it may. ANYONE: no pairing is asked."""

    ANYONE = 0
    READER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        return self.name.lower()


GIVEN = (Role.READER, Role.OPERATOR, Role.ADMIN)
"""The roles that a session or a token can have."""


def role_of(word: str) -> Role:
    """Raises ValueError for what is no role of a session or a token."""
    for role in GIVEN:
        if role.word == word:
            return role
    raise ValueError(f"no role: {word!r}")


@dataclass(frozen=True, slots=True)
class Rule:
    """`methods`: by space (GET means HEAD too). `path`: a route's path, as the app has it. `event`: the word under
    which a use is written to the audit log, empty if it is not. `quota`: its body counts as an upload."""

    methods: str
    path: str
    role: Role
    event: str = ""
    quota: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        return compile_path(self.path)[0]

    def takes(self, method: str) -> bool:
        return ("GET" if method == "HEAD" else method) in self.methods.split()


_ANYONE, _READER, _OPERATOR, _ADMIN = Role.ANYONE, Role.READER, Role.OPERATOR, Role.ADMIN

RULES: tuple[Rule, ...] = (
    # Nobody is asked
    Rule("GET", "/healthz", _ANYONE),
    Rule("GET", "/readyz", _ANYONE),
    Rule("GET", "/pair", _ANYONE),
    Rule("POST", "/pair", _ANYONE),  # audited by the desk itself: a pairing, a failure
    Rule("GET", "/static/{path:path}", _ANYONE),
    Rule("POST", "/language", _ANYONE),
    # Look, and take away
    Rule("GET", "/", _READER),
    Rule("GET", "/documents", _READER),
    Rule("GET", "/documents/{id}", _READER),
    Rule("GET", "/failures", _READER),
    Rule("GET", "/docs", _READER),
    Rule("GET", "/openapi.json", _READER),
    Rule("GET", "/metrics", _READER),
    Rule("POST", "/leave", _READER, "left"),
    Rule("GET", "/api/v1/status", _READER),
    Rule("GET", "/api/v1/events", _READER),
    Rule("GET", "/api/v1/documents", _READER),
    Rule("GET", "/api/v1/documents/{id}", _READER),
    Rule("GET", "/api/v1/documents/{id}/pages", _READER),
    Rule("GET", "/api/v1/documents/{id}/pages/{n}/image", _READER),
    Rule("GET", "/api/v1/documents/{id}/pages/{n}", _READER),
    Rule("GET", "/api/v1/documents/{id}/pages/{n}/versions", _READER),
    Rule("GET", "/api/v1/documents/{id}/pages/{n}/versions/{version}", _READER),
    Rule("GET", "/api/v1/documents/{id}/results/{format}", _READER, "download"),
    Rule("GET", "/api/v1/documents/{id}/original", _READER, "download"),
    Rule("GET", "/api/v1/strips", _READER),
    Rule("GET", "/api/v1/archive", _READER, "download"),
    Rule("GET", "/api/v1/failures", _READER),
    Rule("GET", "/api/v1/search", _READER),
    Rule("GET", "/v1/models", _READER),
    # Bring in, correct, remove
    Rule("POST", "/upload", _OPERATOR, "upload", quota=True),
    Rule("POST", "/documents/{id}/retry", _OPERATOR, "retry"),
    Rule("POST", "/api/v1/documents", _OPERATOR, "upload", quota=True),
    Rule("PUT", "/api/v1/documents/{name}", _OPERATOR, "upload", quota=True),
    Rule("POST", "/api/v1/documents/{id}/retry", _OPERATOR, "retry"),
    Rule("PATCH", "/api/v1/documents/{id}/pages/{n}", _OPERATOR, "corrected"),
    Rule("POST", "/api/v1/documents/{id}/pages/{n}/restore", _OPERATOR, "corrected"),
    Rule("POST", "/api/v1/documents/{id}/pages/{n}/reread", _OPERATOR, "read_once_more"),
    Rule("POST", "/api/v1/documents/{id}/pages/{n}/readings/{key}/accept", _OPERATOR, "corrected"),
    Rule("POST", "/documents/{id}/pages/{n}/doubt", _OPERATOR, "corrected"),
    Rule("POST", "/documents/{id}/pages/{n}/text", _OPERATOR, "corrected"),
    Rule("POST", "/documents/{id}/pages/{n}/restore", _OPERATOR, "corrected"),
    Rule("POST", "/documents/{id}/pages/{n}/reread", _OPERATOR, "read_once_more"),
    Rule("POST", "/documents/{id}/pages/{n}/accept", _OPERATOR, "corrected"),
    Rule("OPTIONS", "/api/v1/uploads", _OPERATOR),
    Rule("POST", "/api/v1/uploads", _OPERATOR, "upload_begun"),
    Rule("GET", "/api/v1/uploads/{id}", _OPERATOR),
    Rule("PATCH", "/api/v1/uploads/{id}", _OPERATOR, "upload", quota=True),
    Rule("DELETE", "/api/v1/uploads/{id}", _OPERATOR, "upload_dropped"),
    Rule("POST", "/v1/chat/completions", _OPERATOR, "read_at_once", quota=True),
    Rule("POST", "/v1/models/{id:path}/inference", _OPERATOR, "read_at_once", quota=True),
    Rule("POST", "/documents/bulk", _OPERATOR, "bulk"),
    Rule("POST", "/documents/delete", _OPERATOR, "delete"),
    Rule("POST", "/api/v1/bulk", _OPERATOR, "bulk"),
    Rule("DELETE", "/api/v1/documents/{id}", _OPERATOR, "delete"),
    Rule("POST", "/failures/retry", _OPERATOR, "retry"),
    Rule("GET", "/ask", _OPERATOR),
    Rule("POST", "/ask", _OPERATOR, "read_at_once", quota=True),
    Rule("GET", "/ask/{name}", _OPERATOR),
    Rule("GET", "/ask/{name}/state", _OPERATOR),
    Rule("GET", "/ask/{name}/picture", _OPERATOR),
    Rule("GET", "/ask/{name}/page.{format}", _OPERATOR),
    Rule("POST", "/ask/{name}/forget", _OPERATOR),
    Rule("GET", "/folders", _OPERATOR),
    Rule("GET", "/folders/edit", _OPERATOR),
    Rule("POST", "/folders/check", _OPERATOR),
    Rule("GET", "/sticks", _OPERATOR),
    Rule("POST", "/sticks/{what}", _OPERATOR, "stick"),
    # Settings, people, and the appliance itself
    Rule("GET", "/start", _ADMIN),
    Rule("GET", "/start/state", _ADMIN),
    Rule("POST", "/start", _ADMIN, "first_start"),  # that it was answered, never what
    Rule("POST", "/start/later", _ADMIN),
    Rule("POST", "/folders/new", _ADMIN, "folder_made"),
    Rule("POST", "/folders/edit", _ADMIN, "folder_settings"),
    Rule("GET", "/system", _ADMIN),
    Rule("GET", "/system/diagnostics", _ADMIN, "diagnostics"),
    Rule("POST", "/system/self-test", _ADMIN, "self_test"),
    Rule("POST", "/system/machine", _ADMIN, "machine"),
    Rule("GET", "/api/v1/system", _ADMIN),
    Rule("GET", "/api/v1/system/diagnostics", _ADMIN, "diagnostics"),
    Rule("POST", "/api/v1/system/self-test", _ADMIN, "self_test"),
    Rule("POST", "/api/v1/system/lock", _ADMIN, "lock"),
    Rule("POST", "/api/v1/system/power-off", _ADMIN, "power_off"),
    Rule("GET", "/access", _ADMIN),
    Rule("POST", "/access/pin", _ADMIN, "pin_made"),
    Rule("POST", "/access/sessions/{id}/revoke", _ADMIN, "session_revoked"),
    Rule("POST", "/access/tokens", _ADMIN, "token_made"),
    Rule("POST", "/access/tokens/{id}/revoke", _ADMIN, "token_revoked"),
)
LOGGED = ("id", "n", "format", "what")
"""The parts of an address that go into the audit log: never a file's name, never a word that was searched for."""


def required(method: str, path: str) -> Role:
    """The least role that may send `method` to the address `path` (without the query). Admin for an unknown address."""
    rule = rule_for(method, path)
    return rule.role if rule else Role.ADMIN


def rule_for(method: str, path: str) -> Rule | None:
    """The rule of a request; the first that fits."""
    return next((rule for rule, pattern in _compiled() if rule.takes(method) and pattern.fullmatch(path)), None)


def logged(rule: Rule, path: str) -> Mapping[str, str]:
    """What of the address the audit log keeps."""
    found = rule.pattern.fullmatch(path)
    parts = found.groupdict() if found else {}
    return {name: parts[name][:64] for name in LOGGED if name in parts}


@cache
def _compiled() -> tuple[tuple[Rule, re.Pattern[str]], ...]:
    return tuple((rule, rule.pattern) for rule in RULES)
