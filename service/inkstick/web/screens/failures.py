"""What went wrong, by reason: what it means, what to do, and how to try again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from inkstick.errors import UsageError
from inkstick.store.listing import Filter
from inkstick.web.documents import Id
from inkstick.web.office_port import DocumentInfo, OfficePort
from inkstick.web.phrases import REASONS
from inkstick.web.screens.documents import told
from inkstick.web.shelves import do_all
from inkstick.web.state import Office, Templates

SHOWN = 20
AT_ONCE = 1000
"""How many documents of one reason are tried again by one press."""


router = APIRouter(include_in_schema=False)


@router.get("/failures")
async def failures(request: Request, office: Office, templates: Templates) -> Response:
    groups = [
        (code, count, REASONS.get(code, REASONS["internal"]), await _ended(office, code, SHOWN))
        for code, count in (await office.failures()).items()
    ]
    return templates.TemplateResponse(request, "failures.html", {"groups": groups})


@router.post("/failures/retry")
async def retry(
    request: Request,
    office: Office,
    templates: Templates,
    id: Annotated[Id | None, Form()] = None,
    code: Annotated[str | None, Form(pattern="^[a-z_]{1,40}$")] = None,
    password: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """One document, with a password if it needs one; or all of a reason."""
    if id is not None:
        await office.retry(id, password=password or None)
    elif code is not None:
        done = await do_all(office, "retry", [row.id for row in await _ended(office, code, AT_ONCE)])
        return await told(request, office, templates, done, "/failures")
    else:
        raise UsageError("It is not said what to try again.", hint="Go back and press one of the buttons.")
    return RedirectResponse("/failures", 303)


async def _ended(office: OfficePort, code: str, limit: int) -> Sequence[DocumentInfo]:
    """Failed documents of this reason, then partial ones."""
    rows = [
        row
        for state in ("failed", "partial")
        for row in await office.listed(Filter(code=code, state=state), limit=limit)
    ]
    return rows[:limit]
