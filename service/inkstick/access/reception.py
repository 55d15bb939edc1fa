"""The reception: knows everybody who may come in, writes down what they do. One per service.

On a loopback address it lets everybody in as an admin, and writes nothing down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from inkstick.access import moment, place
from inkstick.access.audit import Audit
from inkstick.access.limits import Limits, Quota
from inkstick.access.moment import Moment
from inkstick.access.person import Person
from inkstick.access.pin import Pin, PinFile
from inkstick.access.roles import Role
from inkstick.access.sessions import TOUCH_SECONDS, Life, Session, Sessions
from inkstick.access.tokens import Token, Tokens
from inkstick.clock import Clock, SystemClock
from inkstick.config import Settings
from inkstick.errors import UsageError
from inkstick.store.ballast import Ballast

COOKIE = "__Host-inkstick"


class Reception:
    """See the module's docstring. `lan`: the service is bound to an address that others reach. Nothing blocks the
    event loop: files are written in threads."""

    def __init__(self, settings: Settings, *, lan: bool = False, clock: Clock | None = None) -> None:
        state = settings.folder.state
        self.lan = lan
        self.settings = settings
        self._clock = clock or SystemClock()
        self._boot = moment.now(self._clock).boot
        self._pins = PinFile(state)
        self._sessions = Sessions(state, Life(settings.session_idle_seconds, settings.session_seconds))
        self._tokens = Tokens(state)
        self._audit = Audit(state)
        self._ballast = Ballast(settings.folder.ballast, settings.reserve_bytes)
        self.limits = Limits(Quota(settings.uploads_at_once, settings.upload_bytes_per_hour))
        self._names = frozenset([*place.names(), *place.configured(settings.names)])
        self._refused_at = float("-inf")

    def now(self) -> Moment:
        return Moment(self._boot, self._clock.monotonic())

    def _wall(self) -> str:
        return self._clock.wall().isoformat(timespec="seconds")

    def own(self, host: str, local: str | None) -> bool:
        """May a request call this machine `host`, if it came to the address `local`?"""
        return place.is_own(host, local, self._names)

    # ---- who

    async def by_cookie(self, secret: str) -> Person | None:
        session = await asyncio.to_thread(self._sessions.find, secret, self.now())
        return _of_session(session) if session else None

    async def by_token(self, secret: str) -> Person | None:
        token = await asyncio.to_thread(self._tokens.find, secret)
        return Person("token", token.id, token.name, token.role, token.digest) if token else None

    async def still(self, person: Person) -> bool:
        """May somebody whose long answer is under way go on with it? Having a page open counts as using it."""
        if person.kind == "token":
            return any(token.digest == person.digest for token in self._tokens.all())
        if person.kind == "local":
            return True
        session = self._sessions.check(person.digest, self.now())
        if session and self.now().since(session.seen) >= TOUCH_SECONDS:
            await asyncio.to_thread(self._sessions.use, person.digest, self.now())
        return session is not None

    # ---- browsers

    async def pair(self, said: str, name: str, address: str) -> tuple[Session, str]:
        """A session for a browser that says a PIN, and the secret for its cookie.

        Raises UsageError: code too_many (`wait` in its hint) while tries must wait, wrong_pin otherwise."""
        await asyncio.to_thread(self._ballast.spend)  # on a full disk somebody must come in to make room
        gained = await asyncio.to_thread(self._pins.attempt, said, self.now())
        if isinstance(gained, float):
            raise UsageError(
                f"There was a wrong PIN a moment ago. Try again in {int(gained) + 1} seconds.",
                hint="Or make a fresh PIN at the machine itself: then nobody waits.",
                code="too_many",
            )
        if gained is None:
            await self.write("nobody", "pair_failed", {"address": address})
            raise UsageError(
                "That is not the PIN, or it is not good any more.",
                hint="Look at the screen of the machine. If it shows none, make a fresh one there: inkstick pin new",
                code="wrong_pin",
            )
        session, secret = await asyncio.to_thread(self._sessions.begin, gained, name, address, self._wall(), self.now())
        about = {"role": gained.word, "address": address}
        await self.write(_of_session(session).who, "paired", about)
        return session, secret

    async def leave(self, person: Person) -> None:
        if person.kind == "session":
            await asyncio.to_thread(self._sessions.revoke, person.id, self.now())

    def sessions(self) -> Sequence[Session]:
        return self._sessions.living(self.now())

    async def revoke_session(self, id: str) -> None:
        if await asyncio.to_thread(self._sessions.revoke, id, self.now()) is None:
            raise UsageError("There is no such session.", hint="It may have ended by itself.", code="not_found")

    # ---- PINs and tokens

    async def new_pin(self, role: Role) -> Pin:
        return await asyncio.to_thread(self._pins.new, role, self.now())

    async def pin(self) -> tuple[Pin, float] | None:
        """The PIN that is good now, and for how many seconds."""
        pin = await asyncio.to_thread(self._pins.show, self.now())
        return (pin, pin.left(self.now())) if pin else None

    def tokens(self) -> Sequence[Token]:
        return self._tokens.all()

    async def new_token(self, role: Role, name: str) -> tuple[Token, str]:
        return await asyncio.to_thread(self._tokens.make, role, name, self._wall())

    async def revoke_token(self, id: str) -> None:
        if await asyncio.to_thread(self._tokens.revoke, id) is None:
            raise UsageError("There is no such token.", hint="It may be revoked already.", code="not_found")

    # ---- what they do

    async def write(self, who: str, what: str, about: Mapping[str, Any]) -> None:
        """Write a line into the audit log, if others can reach this service; it is on the disk then."""
        if self.lan:
            await asyncio.to_thread(self._audit.write, self._wall(), who, what, dict(about))

    async def refused(self, address: str) -> None:
        """Somebody came with a token or a cookie that is not good: noted once a minute at most."""
        if self._clock.monotonic() - self._refused_at >= 60:
            self._refused_at = self._clock.monotonic()
            await self.write("nobody", "refused", {"address": address})

    async def audit_tail(self, count: int) -> Sequence[Any]:
        return await asyncio.to_thread(self._audit.tail, count)

    async def audit_verify(self) -> tuple[int, str | None]:
        return await asyncio.to_thread(self._audit.verify)

    def seconds(self) -> float:
        """For the quotas."""
        return self._clock.monotonic()


def _of_session(session: Session) -> Person:
    return Person("session", session.id, session.name, session.role, session.digest)
