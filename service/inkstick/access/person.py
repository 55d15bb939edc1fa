"""Who is asking."""

from __future__ import annotations

from dataclasses import dataclass

from inkstick.access.roles import Role


@dataclass(frozen=True, slots=True)
class Person:
    """`kind`: local (on loopback nobody is asked), session or token. `id`, `name`: those of the session or token;
    `digest` is what it is kept under."""

    kind: str
    id: str
    name: str
    role: Role
    digest: str = ""

    @property
    def who(self) -> str:
        """For the audit log and the quotas."""
        return f"{self.kind}:{self.id}"

    def may(self, role: Role) -> bool:
        return self.role >= role


LOCAL = Person("local", "", "", Role.ADMIN)
