"""What a request from the network passes: host, own pages, who it is, what they may do, how much, and the log of it.

Takes the place of `inkstick.web.security.Gate` where other computers can reach the service. The order matters: a name
that is not ours is refused before anything is looked up, and nobody's body is read before they are known and allowed.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inkstick.access import roles
from inkstick.access.person import Person
from inkstick.access.reception import COOKIE, Reception
from inkstick.access.roles import Role, Rule
from inkstick.errors import InkstickError, TooLarge, UsageError
from inkstick.web import security
from inkstick.web.problems import openai_problem, problem, refusal_page, status_of, wants_page

STRANGERS_BYTES = 8 << 10
"""The longest body that is read from somebody who is not known: a PIN and a name are short."""


class LanGate:
    """ASGI middleware: see the module's docstring. `reception` knows the people."""

    def __init__(self, app: ASGIApp, reception: Reception) -> None:
        self.app, self.reception = app, reception

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = security.with_headers(send)
        rule = roles.rule_for(scope["method"], scope["path"])
        try:
            person = await self._enter(scope, rule)
        except InkstickError as error:
            await _refusal(scope, error)(scope, receive, send)
            return
        scope.setdefault("state", {})["person"] = person
        visit = _Visit(self.reception, scope, rule, person, send)
        try:
            await self._answer(visit, receive)
        except _Ended:
            return

    async def _answer(self, visit: _Visit, receive: Receive) -> None:
        if visit.person is None:
            await self.app(visit.scope, _small(visit.scope, receive), visit.send)
            return
        counted = bool(visit.rule and visit.rule.quota)
        if not counted:
            await self.app(visit.scope, receive, visit.send)
            return
        limits, who = self.reception.limits, visit.person.who
        try:
            limits.begin(who, _length(visit.scope), self.reception.seconds())
        except InkstickError as error:
            await _refusal(visit.scope, error)(visit.scope, receive, visit.send)
            return
        try:
            await self.app(visit.scope, visit.counting(receive), visit.send)
        finally:
            limits.end(who)
            limits.forget_idle(self.reception.seconds())

    async def _enter(self, scope: Scope, rule: Rule | None) -> Person | None:
        """Who asks, None for a stranger where strangers may be. Raises UsageError for who may not come in."""
        if scope["path"] in security.ANYONE:
            return None
        headers = Headers(scope=scope)
        refused = self._wrong_host(scope, headers) or security.cross_site(scope["method"], headers, scope["scheme"])
        if refused:
            raise refused
        needed = rule.role if rule else Role.ADMIN
        person = await self._person(headers, scope, quiet=needed is Role.ANYONE)
        if needed is Role.ANYONE:
            return person
        if person is None:
            raise UsageError(
                "This browser or program is not paired with this machine.",
                hint="Open /pair and type the PIN that the machine shows; a program sends a token.",
                code="not_paired",
            )
        if not person.may(needed):
            scope.setdefault("state", {})["person"] = person  # whom the page of the refusal is for
            await self.reception.write(person.who, "forbidden", {"needs": needed.word})
            raise UsageError(
                f"You are here as {_as_whom(person.role)}; this is for {_who_may(needed)}.",
                hint="Ask for a PIN of that role at the machine itself.",
                code="not_allowed",
            )
        return person

    def _wrong_host(self, scope: Scope, headers: Headers) -> UsageError | None:
        hosts = headers.getlist("host")
        name = security.host_name(hosts[0]) if len(hosts) == 1 else None
        local = (scope.get("server") or (None,))[0]
        if name is not None and self.reception.own(name, local):
            return None
        return UsageError(
            "This address is not one of this machine's own names.",
            hint="Open the page by the address that the machine shows, or add the name to the setting names.",
            code="wrong_host",
        )

    async def _person(self, headers: Headers, scope: Scope, *, quiet: bool) -> Person | None:
        """By token, else by cookie; a token that is not good is not made up for by a cookie."""
        token, cookie = _bearer(headers), session_cookie(headers)
        if token is not None:
            person = await self.reception.by_token(token)
        elif cookie is not None:
            person = await self.reception.by_cookie(cookie)
        else:
            return None
        if person is None and not quiet:
            await self.reception.refused(address_of(scope))
        return person


class _Ended(Exception):
    """The answer was cut off: its session or token was revoked."""


class _Visit:
    """One request of one person: what it reads and answers passes here."""

    def __init__(
        self, reception: Reception, scope: Scope, rule: Rule | None, person: Person | None, send: Send
    ) -> None:
        self.reception, self.scope, self.rule, self.person = reception, scope, rule, person
        self._send = send
        self._bytes = 0
        self._held: Message | None = None

    def counting(self, receive: Receive) -> Receive:
        """The body, counted into the person's quota as it comes."""

        async def counted() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            if size and self.person:
                self.reception.limits.add(self.person.who, size, self.reception.seconds())
                self._bytes += size
            return message

        return counted

    async def send(self, message: Message) -> None:
        """What was done is written down before its answer goes out; a long answer ends with its session."""
        if message["type"] == "http.response.start":
            await self._log(message)
        elif message.get("more_body") and self.person and not await self.reception.still(self.person):
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            raise _Ended
        await self._send(message)

    async def _log(self, start: Message) -> None:
        rule, person = self.rule, self.person
        if rule is None or person is None or not rule.event or start["status"] >= 400:
            return
        headers = Headers(raw=start["headers"])
        document = _document(headers.get("content-location") or headers.get("location") or "")
        if self.scope["method"] == "PATCH" and rule.quota and document is None:
            return  # a piece of an upload, not yet the whole
        about = dict(roles.logged(rule, self.scope["path"]))
        if document:
            about["id"] = document
        await self.reception.write(person.who, rule.event, {**about, **({"bytes": self._bytes} if self._bytes else {})})


def session_cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None


def address_of(scope: Scope) -> str:
    """Where a request comes from, for the log."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _bearer(headers: Headers) -> str | None:
    kind, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else None


def _document(address: str) -> str | None:
    begin = "/api/v1/documents/"
    return address[len(begin) :][:64] if address.startswith(begin) else None


def _who_may(role: Role) -> str:
    return {Role.READER: "readers", Role.OPERATOR: "operators and admins", Role.ADMIN: "admins"}[role]


def _as_whom(role: Role) -> str:
    return f"{'a' if role is Role.READER else 'an'} {role.word}"


def _length(scope: Scope) -> int:
    value = Headers(scope=scope).get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else 0


def _small(scope: Scope, receive: Receive) -> Receive:
    """The body of a stranger: refused beyond a few kilobytes."""
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if max(read, _length(scope)) > STRANGERS_BYTES:
            raise TooLarge("The request is too large for somebody who is not paired.")
        return message

    return bounded


def _refusal(scope: Scope, error: InkstickError) -> Response:
    """A person who is not paired is led to the page for that, and is told everything as a page; a program gets the
    error."""
    request = Request(scope)
    if error.code == "not_paired" and scope["method"] in ("GET", "HEAD") and wants_page(request):
        query = scope["query_string"].decode("ascii", "replace")
        back = scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(f"/pair?back={quote(back, safe='/')}", 303)
    if wants_page(request):
        scope.setdefault("state", {}).setdefault("person", None)
        response: Response = refusal_page(request, request.app.state.templates, error)
    elif scope["path"].startswith("/v1/"):
        response = openai_problem(error.as_json(), status_of(error))
    else:
        response = problem(error)
    if error.code == "not_paired":
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
