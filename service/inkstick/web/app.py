"""The two ASGI applications: the one for people and programs, and the internal one for the watch daemon."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect, Request

from inkstick import __version__
from inkstick.access.reception import Reception
from inkstick.intake.folders import Folders
from inkstick.web import (
    corrections,
    documents,
    events,
    inference,
    problems,
    resumable,
    service,
    shelves,
    site,
)
from inkstick.web.bodies import Bodies
from inkstick.web.lan import LanGate
from inkstick.web.office_port import OfficePort
from inkstick.web.screens import access, ask, document, failures, folders, inbox, machine, system
from inkstick.web.screens import documents as documents_screen
from inkstick.web.security import Gate
from inkstick.web.shapes import Document, DocumentList
from inkstick.web.shelf import Shelf
from inkstick.web.state import Office

SUMMARY = "Documents in, text out, no network. Errors are always {code, message, hint}."


ROUTERS = (
    service.router,
    documents.router,
    resumable.router,
    corrections.router,
    events.router,
    inference.router,
    *shelves.ROUTERS,
    inbox.router,
    documents_screen.router,
    failures.router,
    system.router,
    site.router,
    document.router,
    access.router,
    machine.router,
    ask.router,
    folders.router,
)
"""In the order in which the document at /openapi.json tells them."""


def create_app(
    office: OfficePort, *, streams: events.Streams | None = None, reception: Reception | None = None
) -> FastAPI:
    """The pages and the API over one office. `streams` lets the server end the event streams when it stops;
    `reception` says who may come in (everybody, without one: for a loopback address)."""
    reception = reception or Reception(office.settings)
    app = FastAPI(title="Inkstick", version=__version__, summary=SUMMARY, docs_url=None, redoc_url=None)
    templates = site.load_templates()
    templates.context_processors.append(machine.context(office.settings.appliance_folder))
    problems.install(app, templates)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.state.office = office
    app.state.reception = reception
    app.state.templates = templates
    app.state.streams = streams or events.Streams(office)
    app.state.turns = asyncio.Semaphore(inference.AT_ONCE)
    app.state.shelf = Shelf()
    app.state.folders = Folders(office.settings.folder)
    for router in ROUTERS:  # complete as they are: FastAPI's include_router would make each of their routes once more
        app.router.routes.extend(router.routes)
    app.mount("/static", StaticFiles(directory=site.HERE / "static"), name="static")
    app.add_middleware(Bodies)
    if reception.lan:
        app.add_middleware(LanGate, reception=reception)
    else:
        app.add_middleware(Gate)
    return app


async def _gone(request: Request, error: Exception) -> Response:
    """The client went away in the middle of its body: nobody reads this answer."""
    return Response(status_code=400)


class Watched(BaseModel):
    """What the watch daemon says: claims that are in the spool now, and its own status."""

    model_config = ConfigDict(extra="forbid")
    claims: list[str] = Field(default=[], max_length=200_000)
    status: dict[str, Any] = {}


internal = APIRouter()


@internal.post("/internal/watch", status_code=204)
async def watch(office: Office, said: Watched) -> None:
    await office.watched(said.claims, said.status)


@internal.get("/internal/documents", response_model=DocumentList)
async def listed(office: Office, limit: int = 1000) -> DocumentList:
    """For `inkstick run`, which is no paired browser."""
    return DocumentList(documents=[Document.of(row) for row in await office.documents(limit=limit)], after=None)


def create_internal_app(office: OfficePort) -> FastAPI:
    """Served on the unix socket in the data folder, which only the service's own user can open: no Host check."""
    app = FastAPI(title="Inkstick, internal", openapi_url=None, docs_url=None, redoc_url=None)
    problems.install(app)
    app.state.office = office
    app.router.routes.extend(internal.routes)
    return app
