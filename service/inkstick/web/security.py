"""What every request passes before anything else, and what every answer carries.

Threats: a web page that the user visits elsewhere talks to this service through the user's browser (cross-site
requests, DNS rebinding); a document whose text is hostile markup. Rules: the Host header must name this machine
(421 otherwise: a rebound name is refused); a browser's request must come from our own pages, except that a person may
follow a link to one (403 otherwise); answers may load nothing from elsewhere and run no inline script. What remains:
any program of any user of this machine can talk to a loopback port. Where other computers can reach the service,
`inkstick.web.lan` stands in this place.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inkstick.access.place import is_loopback
from inkstick.errors import UsageError
from inkstick.web.problems import problem

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
ANYONE = ("/healthz", "/readyz")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9.-]+))(?::[0-9]{1,5})?", re.ASCII)


def host_name(header: str) -> str | None:
    """The host of a Host header without its port, ``[::1]:8080`` gives ``::1``; None if it is not formed like one."""
    found = _HOST.fullmatch(header)
    return (found["six"] or found["name"]) if found else None


def wrong_host(headers: Headers) -> UsageError | None:
    """The refusal of a request that names another machine, None if it is fine."""
    hosts = headers.getlist("host")
    name = host_name(hosts[0]) if len(hosts) == 1 else None
    if name is not None and is_loopback(name):
        return None
    return UsageError(
        "This address is not one of this machine's own names.",
        hint="Open the page as http://localhost or http://127.0.0.1, with the port that Inkstick printed.",
        code="wrong_host",
    )


def cross_site(method: str, headers: Headers, scheme: str = "http") -> UsageError | None:
    """The refusal of a request that another site's page sent, None if it is fine.

    Programs send neither Sec-Fetch-Site nor Origin and pass; browsers always send one of them with a POST."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        followed_link = method in SAFE_METHODS and headers.get("sec-fetch-mode") == "navigate"
        fine = site in ("same-origin", "none") or followed_link
    else:
        origin = headers.get("origin")
        fine = method in SAFE_METHODS or origin is None or origin == f"{scheme}://{headers.get('host')}"
    if fine:
        return None
    return UsageError(
        "The request came from another web site.",
        hint="Use Inkstick's own page, or a program that is not a browser.",
        code="cross_site",
    )


def with_headers(send: Send) -> Send:
    """Sends what it is given, with the headers that every answer carries."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return send_with_headers


class Gate:
    """ASGI middleware: the rules above on the way in, the headers on the way out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        send_with_headers = with_headers(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await problem(refusal)(scope, receive, send_with_headers)
        else:
            await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> UsageError | None:
        if scope["path"] in ANYONE:
            return None
        headers = Headers(scope=scope)
        return wrong_host(headers) or cross_site(scope["method"], headers)
