"""The first page: drop documents, see how it goes, follow the newest ones."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from inkstick.document import Task
from inkstick.profile import DEFAULT_FORMATS, Format
from inkstick.store.listing import Filter
from inkstick.web import words
from inkstick.web.documents import STATES, content_length, take_form
from inkstick.web.multipart import Parts
from inkstick.web.office_port import OfficePort
from inkstick.web.screens import machine
from inkstick.web.screens.documents import FILTERS
from inkstick.web.state import Office, Templates

NEWEST = 20
AT_WORK = 6


router = APIRouter(include_in_schema=False)


@router.get("/")
async def inbox(request: Request, office: Office, templates: Templates) -> Response:
    if machine.to_be_answered(request, await office.machine()):
        return RedirectResponse("/start", 303)
    if any(request.query_params.get(name) for name in FILTERS):  # the list had this address once
        return RedirectResponse(f"/documents?{request.url.query}", 303)
    last_event = await office.last_event()  # before all else: what happens while it is looked up is told again
    newest = await office.listed(Filter(), limit=NEWEST + 1)
    rows = newest[:NEWEST]
    shown = {
        "rows": rows,
        "more": len(newest) > NEWEST,
        "strips": await office.strips([row.id for row in rows]),
        "at_work": await office.listed(Filter(state="reading"), limit=AT_WORK),
        "last_event": last_event,
        "formats": list(Format),
        "chosen": DEFAULT_FORMATS,
        "tasks": list(Task),
        "inbox": str(office.settings.folder.inbox),
        **await standing(office),
    }
    return templates.TemplateResponse(request, "index.html", shown)


@router.post("/upload")
async def upload(request: Request, office: Office) -> Response:
    await office.admit(content_length(request))
    await take_form(office, Parts(request), [], many=True)
    return RedirectResponse("/", 303)


async def standing(office: OfficePort) -> dict[str, Any]:
    """How things stand, in words: engine, disk, pace, what is left; documents by state."""
    stats = await office.stats()
    return {
        "counts": {state: stats.documents.get(state, 0) for state in STATES},
        "engine": words.engine(stats),
        "disk": words.disk(stats),
        "pace": words.pace(stats),
        "left": words.left(await office.remaining(), stats),
    }
