"""Pairing a browser, and who may come in: ``/pair`` for strangers, ``/access`` for admins, ``/leave``."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Form, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.templating import Jinja2Templates

from inkstick.access.person import LOCAL, Person
from inkstick.access.reception import COOKIE, Reception
from inkstick.access.roles import GIVEN, Role, role_of
from inkstick.access.tokens import Token
from inkstick.errors import UsageError
from inkstick.web.documents import body
from inkstick.web.lan import STRANGERS_BYTES, address_of
from inkstick.web.multipart import read_all
from inkstick.web.problems import status_of
from inkstick.web.state import People, Templates

TAIL = 50
_BACK = re.compile(r"/([^/\\].*)?")
_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"),
            ("Mac OS", "Mac"), ("Linux", "Linux"))  # fmt: skip

Word = Annotated[str, Form(max_length=20)]
Id = Annotated[str, Path(pattern="^[0-9a-f]{12}$")]


def person_of(request: Request) -> Person:
    """Who asks. Where nobody is asked (loopback): an admin."""
    found = getattr(request.state, "person", LOCAL)
    return found if isinstance(found, Person) else STRANGER


STRANGER = Person("nobody", "", "", Role.ANYONE)


def context(request: Request) -> dict[str, object]:
    """What every template gets: `person`, for what it shows and leaves out."""
    return {"person": person_of(request)}


router = APIRouter(include_in_schema=False)


@router.get("/pair")
async def pair_page(
    request: Request, templates: Templates, back: Annotated[str, Query(max_length=2000)] = "/"
) -> Response:
    if person_of(request).role is not Role.ANYONE:
        return RedirectResponse(inside(back), 303)
    shown = {"back": inside(back), "name": browser_name(request.headers.get("user-agent", ""))}
    return templates.TemplateResponse(request, "pair.html", shown)


@router.post("/pair")
async def pair(request: Request, reception: People, templates: Templates) -> Response:
    said = parse_qs((await read_all(body(request), STRANGERS_BYTES, "the form")).decode("utf-8", "replace"))
    pin, name, back = (said.get(field, [""])[0] for field in ("pin", "name", "back"))
    if not reception.lan:
        return RedirectResponse("/", 303)
    name = " ".join(name.split()) or browser_name(request.headers.get("user-agent", ""))
    try:
        _, secret = await reception.pair(pin, name, address_of(request.scope))
    except UsageError as error:
        shown = {"back": inside(back), "name": name, "problem": error.as_json()}
        return templates.TemplateResponse(request, "pair.html", shown, status_of(error))
    response = RedirectResponse(inside(back), 303)
    response.set_cookie(COOKIE, secret, path="/", secure=True, httponly=True, samesite="strict")
    return response


@router.post("/leave")
async def leave(request: Request, reception: People) -> Response:
    await reception.leave(person_of(request))
    response = RedirectResponse("/pair" if reception.lan else "/", 303)
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return response


@router.get("/access")
async def people(request: Request, reception: People, templates: Templates) -> Response:
    return await _show(request, reception, templates)


@router.post("/access/pin")
async def new_pin(reception: People, role: Word = "operator") -> Response:
    await reception.new_pin(_role(role))
    return RedirectResponse("/access#pin", 303)


@router.post("/access/sessions/{id}/revoke")
async def revoke_session(reception: People, id: Id) -> Response:
    await reception.revoke_session(id)
    return RedirectResponse("/access#browsers", 303)


@router.post("/access/tokens")
async def new_token(
    request: Request,
    reception: People,
    templates: Templates,
    name: Annotated[str, Form(min_length=1, max_length=60)],
    role: Word = "operator",
) -> Response:
    """The one answer that shows the token: not sent on, so that a reload cannot show it again."""
    fresh = await reception.new_token(_role(role), name.strip() or "script")
    return await _show(request, reception, templates, fresh)


@router.post("/access/tokens/{id}/revoke")
async def revoke_token(reception: People, id: Id) -> Response:
    await reception.revoke_token(id)
    return RedirectResponse("/access#tokens", 303)


async def _show(
    request: Request, reception: Reception, templates: Jinja2Templates, fresh: tuple[Token, str] | None = None
) -> Response:
    whole = await reception.audit_verify()
    shown = {
        "lan": reception.lan,
        "sessions": reception.sessions(),
        "tokens": reception.tokens(),
        "pin": await reception.pin(),
        "roles": GIVEN,
        "now": reception.now(),
        "entries": await reception.audit_tail(TAIL),
        "whole": whole,
        "fresh": fresh,
    }
    return templates.TemplateResponse(request, "access.html", shown)


def inside(back: str) -> str:
    """An address on this machine to go back to; anything else is the first page."""
    return back if _BACK.fullmatch(back) and not back.startswith("/pair") else "/"


def browser_name(agent: str) -> str:
    """What a browser is called in the list until its person calls it something: ``Firefox on Linux``."""
    browser = next((name for mark, name in _BROWSERS if mark in agent), "Browser")
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    return f"{browser} on {system}" if system else browser


def _role(word: str) -> Role:
    try:
        return role_of(word)
    except ValueError:
        raise UsageError(
            f"There is no role {word!r}.", hint=f"One of: {', '.join(role.word for role in GIVEN)}."
        ) from None
