"""The pages that people see: server-rendered, complete without JavaScript, nothing from elsewhere.

Every text of a document reaches the page through Jinja2's autoescaping, as text; no template marks anything safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.templating import Jinja2Templates

from inkstick import __version__
from inkstick.document import Task
from inkstick.profile import DEFAULT_FORMATS, Format
from inkstick.web import language, manual, words
from inkstick.web.documents import STATES, Id, content_length, documents, take_form
from inkstick.web.multipart import Parts
from inkstick.web.office_port import OfficePort, Stats
from inkstick.web.screens import NAVIGATION

HERE = Path(__file__).parent
ROWS = 50


def load_templates() -> Jinja2Templates:
    templates = Jinja2Templates(directory=HERE / "templates", context_processors=[language.context])
    templates.env.globals.update(version=__version__, states=STATES, words=words, navigation=NAVIGATION)
    templates.env.filters.update(bytes=words.size, flag=words.flag, when=words.when)
    return templates


def router(office: OfficePort, app: FastAPI, templates: Jinja2Templates) -> APIRouter:
    site = APIRouter(include_in_schema=False)

    @site.get("/")
    async def index(
        request: Request,
        q: Annotated[str, Query(max_length=500)] = "",
        state: str = "",
        after: Annotated[str | None, Query(pattern="^[0-9]{1,18}$")] = None,
    ) -> Response:
        rows = await documents(office, q, state, ROWS, after)
        hits = await office.search(q, limit=10) if q.strip() else []
        shown = {
            "rows": rows,
            "hits": hits,
            "q": q,
            "state": state,
            "first": after is None,
            "after": rows[-1].seq if len(rows) == ROWS else None,
            "last_event": await office.last_event(),
            "formats": list(Format),
            "chosen": DEFAULT_FORMATS,
            "tasks": list(Task),
            **_standing(await office.stats(), office),
        }
        return templates.TemplateResponse(request, "index.html", shown)

    @site.post("/upload")
    async def upload(request: Request) -> Response:
        await office.admit(content_length(request))
        await take_form(office, Parts(request), [], many=True)
        return RedirectResponse("/", 303)

    @site.post("/documents/{id}/retry")
    async def retry(id: Id) -> Response:
        await office.retry(id)
        return RedirectResponse(f"/documents/{id}", 303)

    @site.post("/language")
    async def choose_language(
        code: Annotated[str, Form(pattern="^[a-z]{2}$")],
        back: Annotated[str, Form(pattern=r"^/([^/\\].*)?$", max_length=2000)] = "/",
    ) -> Response:
        response = RedirectResponse(back, 303)
        response.set_cookie(language.COOKIE, code, max_age=400 * 86_400, httponly=True, samesite="strict")
        return response

    @site.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        shown = {"sections": manual.sections(app.openapi()), "title": app.title, "summary": app.summary}
        return templates.TemplateResponse(request, "docs.html", shown)

    return site


def _standing(stats: Stats, office: OfficePort) -> dict[str, Any]:
    counts: Mapping[str, int] = stats.documents
    return {
        "stats": stats,
        "counts": {state: counts.get(state, 0) for state in STATES},
        "engine": words.engine(stats),
        "disk": words.disk(stats),
        "inbox": str(office.settings.folder.inbox),
    }
