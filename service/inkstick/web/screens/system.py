"""The machine and the service: engines, pages read, self-test, versions, log, diagnostics, power."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.templating import Jinja2Templates

from inkstick.selftest import SelfTest
from inkstick.throughput import Series
from inkstick.web.office_port import OfficePort
from inkstick.web.screens.inbox import standing
from inkstick.web.shelves import diagnostics_of
from inkstick.web.state import Office, Templates

LINES = 100
HEIGHT = 100.0
ASKED = "inkstick-asked"
"""The cookie of who just asked the machine for something: it takes a moment until that is seen."""
ASKED_SECONDS = 60


router = APIRouter(include_in_schema=False)


@router.get("/system")
async def system(request: Request, office: Office, templates: Templates) -> Response:
    return await _page(request, office, templates)


@router.post("/system/self-test")
async def self_test(request: Request, office: Office, templates: Templates) -> Response:
    return await _page(request, office, templates, await office.self_test())


@router.get("/system/diagnostics")
async def diagnostics(office: Office) -> Response:
    return await diagnostics_of(office)


@router.post("/system/machine")
async def machine(office: Office, action: Annotated[str, Form(pattern="^(lock|power-off)$")]) -> Response:
    await office.appliance(action)
    response = RedirectResponse("/system", 303)
    response.set_cookie(ASKED, action, max_age=ASKED_SECONDS, path="/system", httponly=True, samesite="strict")
    return response


async def _page(
    request: Request, office: OfficePort, templates: Jinja2Templates, test: SelfTest | None = None
) -> Response:
    info, stats = await office.system(), await office.stats()
    values = {
        "info": info,
        "stats": stats,
        "test": test,
        "asked": request.cookies.get(ASKED),
        "bars": bars(info.series),
        "hours": hours(info.series),
        "log": info.log[-LINES:],
        **await standing(office),
    }
    return templates.TemplateResponse(request, "system.html", values)


def bars(series: Series) -> list[tuple[int, float, float]]:
    """(place from the left, top, height) of each bar that has one, in a chart of `HEIGHT`."""
    if not series.most:
        return []
    heights = [round(HEIGHT * pages / series.most, 1) for pages in series.pages]
    return [(place, round(HEIGHT - height, 1), height) for place, height in enumerate(heights) if height]


def hours(series: Series) -> list[tuple[int, int]]:
    """(hours ago, pages), the latest first, of the hours that are known: the chart as figures."""
    each = 60 // series.minutes
    latest = series.pages[::-1]
    known = -(-series.known // 60)
    return [(n, sum(latest[n * each : (n + 1) * each])) for n in range(min(known, len(latest) // each))]
