"""The machine around the service: the questions of its first start (``/start``), and the sticks that are plugged in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from inkstick import appliance
from inkstick.access.roles import Role
from inkstick.appliance import LONGEST, Machine, Stick
from inkstick.web import language, words
from inkstick.web.language import Translate
from inkstick.web.screens.access import person_of
from inkstick.web.state import Office, Templates

LATER = "inkstick-later"
"""The cookie of a browser whose person wants to answer later."""
NONE = -1


def context(folder: Path) -> Callable[[Request], dict[str, object]]:
    """What every template gets: `machine`. Two small files in memory are read for it."""

    def shown(_: Request) -> dict[str, object]:
        return {"machine": appliance.look(folder)}

    return shown


def to_be_answered(request: Request, machine: Machine) -> bool:
    """Whether the first page shall be the question: it may be answered by an admin, and was not put off."""
    return bool(machine.question and LATER not in request.cookies and person_of(request).role is Role.ADMIN)


def _shown(stick: Stick, translate: Translate) -> dict[str, Any]:
    done, of = words.stick_progress(stick)
    offers = [
        {"what": what, "sentence": translate(sentence), "other": n > 0 or what not in ("stick", "export")}
        for n, (what, sentence) in enumerate(words.stick_offers(stick))
    ]
    text = translate(words.stick(stick))
    told = {"id": stick.id, "name": stick.name, "state": stick.state}
    return {**told, "text": text, "done": done, "of": of, "offers": offers}


router = APIRouter(include_in_schema=False)


@router.get("/start")
async def start(
    request: Request, office: Office, templates: Templates, after: Annotated[int, Query(ge=NONE)] = NONE
) -> Response:
    """The question. `after`: the one that was just answered, which the machine has not taken yet."""
    asked = (await office.machine()).question
    if asked is None:
        response: Response = RedirectResponse("/", 303)
        response.delete_cookie(LATER)
        return response
    shown = {"asked": asked, "waiting": asked.field == "nothing" or asked.number == after, "longest": LONGEST}
    response = templates.TemplateResponse(request, "start.html", shown)
    response.headers["Cache-Control"] = "no-store"
    return response


@router.get("/start/state")
async def state(office: Office) -> dict[str, int | bool]:
    asked = (await office.machine()).question
    return {"number": asked.number if asked else NONE, "waiting": bool(asked and asked.field == "nothing")}


@router.post("/start")
async def answer(
    office: Office, number: Annotated[int, Form(ge=0)], value: Annotated[str, Form(max_length=LONGEST)] = ""
) -> Response:
    """An answer to question `number`; one to an earlier question is late, and the machine ignores it."""
    asked = (await office.machine()).question
    if asked is None or asked.number != number or asked.field == "nothing":
        return RedirectResponse("/start", 303)
    await office.ask_machine(appliance.Request("answer", value, number))
    return RedirectResponse(f"/start?after={number}", 303)


@router.post("/start/later")
async def later() -> Response:
    response = RedirectResponse("/", 303)
    response.set_cookie(LATER, "yes", httponly=True, samesite="strict")
    return response


@router.get("/sticks")
async def sticks(request: Request, office: Office) -> dict[str, Any]:
    """What ``sticks.html`` shows, in the language of the page, so that it can be renewed."""
    translate = language.translator(language.of(request))
    shown = [_shown(stick, translate) for stick in (await office.machine()).sticks]
    return {"label": translate("Sticks"), "sticks": shown}


@router.post("/sticks/{what}")
async def stick(
    office: Office,
    what: Literal["stick", "decline", "export", "eject"],
    id: Annotated[str, Form(max_length=200)],
    back: Annotated[Literal["/", "/system"], Form()] = "/",
) -> Response:
    if any(stick.id == id for stick in (await office.machine()).sticks):
        await office.ask_machine(appliance.Request(what, id))
    return RedirectResponse(back, 303)
