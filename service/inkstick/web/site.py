"""The pages that people see: server-rendered, complete without JavaScript, nothing from elsewhere.

Every text of a document reaches the page through Jinja2's autoescaping, as text; no template marks anything safe.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import jinja2
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.templating import Jinja2Templates

from inkstick import __version__
from inkstick.access import roles
from inkstick.web import language, manual, phrases, words
from inkstick.web.documents import STATES, Id
from inkstick.web.examples import PAIRED, PREAMBLE
from inkstick.web.screens import NAVIGATION, access, folders
from inkstick.web.state import Office, People, Templates

HERE = Path(__file__).parent


def load_templates() -> Jinja2Templates:
    """Those of one application, which may add context processors of its own."""
    return Jinja2Templates(env=_environment(), context_processors=[language.context, access.context])


@functools.cache
def _environment() -> jinja2.Environment:
    """What all applications of a process share: each template is compiled once."""
    env = Jinja2Templates(directory=HERE / "templates").env
    env.auto_reload = False  # they come with the program: no look at the disk for each row of a list
    env.globals.update(version=__version__, states=STATES, words=words, phrases=phrases, navigation=NAVIGATION)
    env.globals.update(required=roles.required)
    env.filters.update(bytes=words.size, flag=words.flag, when=words.when, folder_key=folders.key_of)
    return env


router = APIRouter(include_in_schema=False)


@router.post("/documents/{id}/retry")
async def retry(office: Office, id: Id) -> Response:
    await office.retry(id)
    return RedirectResponse(f"/documents/{id}", 303)


@router.post("/language")
async def choose_language(
    code: Annotated[str, Form(pattern="^[a-z]{2}$")],
    back: Annotated[str, Form(pattern=r"^/([^/\\].*)?$", max_length=2000)] = "/",
) -> Response:
    response = RedirectResponse(back, 303)
    response.set_cookie(language.COOKIE, code, max_age=400 * 86_400, httponly=True, samesite="strict")
    return response


@router.get("/docs")
async def docs(request: Request, templates: Templates, reception: People) -> HTMLResponse:
    address = f"{request.url.scheme}://{request.headers.get('host', '127.0.0.1:8080')}"
    shown = {
        "sections": manual.sections(request.app.openapi()),
        "title": request.app.title,
        "summary": request.app.summary,
        "preamble": PREAMBLE.replace("http://127.0.0.1:8080", address) + (PAIRED if reception.lan else ""),
    }
    return templates.TemplateResponse(request, "docs.html", shown)
