"""All documents: search, filters, and what can be done with many at once."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.templating import Jinja2Templates

from inkstick.document import Flag
from inkstick.errors import UsageError
from inkstick.web.documents import STATES, Id, filter_of
from inkstick.web.office_port import DocumentInfo, OfficePort
from inkstick.web.screens_shapes import BulkDone
from inkstick.web.shelves import archive_of, do_all
from inkstick.web.state import Office, Templates

ROWS = 50
FILTERS = ("q", "state", "flag", "folder", "since", "until", "code", "after")
Chosen = Annotated[list[Id], Form(max_length=500)]
Back = Annotated[str, Form(pattern=r"^/documents(\?[^\\]*)?$", max_length=4000)]


router = APIRouter(include_in_schema=False)


@router.get("/documents")
async def documents(
    request: Request,
    office: Office,
    templates: Templates,
    q: Annotated[str, Query(max_length=500)] = "",
    state: str = "",
    flag: str = "",
    folder: Annotated[str, Query(max_length=1000)] = "",
    since: str = "",
    until: str = "",
    code: Annotated[str, Query(max_length=40)] = "",
    after: Annotated[str | None, Query(pattern="^[0-9]{1,18}$")] = None,
) -> Response:
    wanted = filter_of(q=q, state=state, flag=flag, folder=folder, since=since, until=until, code=code)
    last = int(after) if after else None
    last_event = await office.last_event()  # before all else: what happens while it is looked up is told again
    rows = await office.listed(wanted, after=last, limit=ROWS + 1)
    shown, given = rows[:ROWS], wanted.given()
    counts = (await office.stats()).documents
    values = {
        "rows": shown,
        "strips": await office.strips([row.id for row in shown]),
        "hits": await office.search(wanted.q, limit=10) if wanted.q and last is None else [],
        "wanted": wanted,
        "given": given,
        "counts": {state: counts.get(state, 0) for state in STATES},
        "flags": list(Flag),
        "folders": await office.folders(),
        "first": last is None,
        "back": _address(given, last),
        "next": _address(given, rows[ROWS - 1].seq) if len(rows) > ROWS else None,
        "link": _link(given),
        "all_results": f"/api/v1/archive?{urlencode(given)}",
        "last_event": last_event,
    }
    return templates.TemplateResponse(request, "documents.html", values)


@router.post("/documents/bulk")
async def bulk(
    request: Request,
    office: Office,
    templates: Templates,
    action: Annotated[str, Form(pattern="^(retry|archive|delete)$")],
    id: Chosen | None = None,
    back: Back = "/documents",
) -> Response:
    if not id:
        raise UsageError("No document is chosen.", hint="Go back and tick the boxes of those you mean.")
    if action == "archive":
        return await archive_of(office, id)
    if action == "delete":
        rows = await _known(office, id)
        if not rows:
            return RedirectResponse(back, 303)  # all of them were deleted meanwhile
        return templates.TemplateResponse(request, "delete.html", {"rows": rows, "back": back})
    return await told(request, office, templates, await do_all(office, "retry", id), back)


@router.post("/documents/delete")
async def delete(
    request: Request, office: Office, templates: Templates, id: Chosen, back: Back = "/documents"
) -> Response:
    """Only after the question that `bulk` asks."""
    return await told(request, office, templates, await do_all(office, "delete", id), back)


async def told(request: Request, office: OfficePort, templates: Jinja2Templates, done: BulkDone, back: str) -> Response:
    """Back to the list, or a page that says what could not be done."""
    if not done.refused:
        return RedirectResponse(back, 303)
    names = {row.id: row.relpath for row in await _known(office, [one.id for one in done.refused])}
    return templates.TemplateResponse(request, "refused.html", {"done": done, "names": names, "back": back})


async def _known(office: OfficePort, ids: Sequence[str]) -> list[DocumentInfo]:
    """Those of the documents that are still there."""
    found: list[DocumentInfo] = []
    for id in dict.fromkeys(ids):
        with contextlib.suppress(UsageError):
            found.append(await office.document(id))
    return found


def _address(given: dict[str, str], after: int | None) -> str:
    """This list, from a document on."""
    query = urlencode(given | ({"after": str(after)} if after is not None else {}))
    return f"/documents?{query}" if query else "/documents"


def _link(given: dict[str, str]) -> Any:
    """For the template: the address of this list with other values; None takes one away."""

    def link(**changes: str | None) -> str:
        return _address({name: value for name, value in (given | changes).items() if value}, None)

    return link
