"""The two ASGI applications: the one for people and programs, and the internal one for the watch daemon."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect, Request

from inkstick import __version__
from inkstick.access.reception import Reception
from inkstick.web import (
    corrections,
    documents,
    events,
    inference,
    language,
    metrics,
    problems,
    resumable,
    shelves,
    site,
)
from inkstick.web.lan import LanGate
from inkstick.web.office_port import OfficePort
from inkstick.web.screens import access, ask, document, failures, folders, inbox, machine, system
from inkstick.web.screens import documents as documents_screen
from inkstick.web.security import Gate
from inkstick.web.shapes import ERRORS, Checks, Document, DocumentList, Status
from inkstick.web.shelf import Shelf

SUMMARY = "Documents in, text out, no network. Errors are always {code, message, hint}."


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
    shelf = Shelf()
    for router in (
        service_router(office),
        documents.router(office),
        resumable.router(office),
        corrections.router(office),
        events.router(streams or events.Streams(office)),
        inference.router(office),
        *shelves.routers(office),
        *(screen.router(office, templates) for screen in (inbox, documents_screen, failures, system)),
        site.router(office, app, templates),
        document.router(office, templates),
        access.router(reception, templates),
        machine.router(office, templates),
        ask.router(office, templates, shelf),
        folders.router(office, templates, shelf),
    ):  # complete as they are: FastAPI's include_router would make each of their routes once more
        app.router.routes.extend(router.routes)
    app.mount("/static", StaticFiles(directory=site.HERE / "static"), name="static")
    if reception.lan:
        app.add_middleware(LanGate, reception=reception)
    else:
        app.add_middleware(Gate)
    return app


_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Checks, "description": "No; the checks say why."}}
_FIGURES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text"}
}


def service_router(office: OfficePort) -> APIRouter:
    api = APIRouter(tags=["service"], responses=ERRORS)

    @api.get("/healthz", response_model=Checks, responses=_NOT_READY, summary="Is the service alive?")
    async def healthz() -> Response:
        health = await office.health()
        return _checks(health.live, "ok", "stuck", dict(health.checks))

    @api.get("/readyz", response_model=Checks, responses=_NOT_READY, summary="Can it accept a document now?")
    async def readyz() -> Response:
        health = await office.health()
        return _checks(health.live and health.ready, "ready", "not ready", dict(health.checks))

    @api.get("/metrics", summary="Figures for Prometheus", response_class=Response, responses=_FIGURES)
    async def figures() -> Response:
        return Response(metrics.render(await office.stats()), media_type=metrics.CONTENT_TYPE)

    @api.get("/api/v1/status", response_model=Status, summary="How things stand")
    async def status(request: Request) -> Status:
        """What `says` is in the language that the request accepts."""
        return Status.of(await office.stats(), await office.remaining(), language.translator(language.of(request)))

    return api


class Watched(BaseModel):
    """What the watch daemon says: claims that are in the spool now, and its own status."""

    model_config = ConfigDict(extra="forbid")
    claims: list[str] = Field(default=[], max_length=200_000)
    status: dict[str, Any] = {}


def create_internal_app(office: OfficePort) -> FastAPI:
    """Served on the unix socket in the data folder, which only the service's own user can open: no Host check."""
    app = FastAPI(title="Inkstick, internal", openapi_url=None, docs_url=None, redoc_url=None)
    problems.install(app)

    @app.post("/internal/watch", status_code=204)
    async def watch(said: Watched) -> None:
        await office.watched(said.claims, said.status)

    @app.get("/internal/documents", response_model=DocumentList)
    async def listed(limit: int = 1000) -> DocumentList:
        """For `inkstick run`, which is no paired browser."""
        return DocumentList(documents=[Document.of(row) for row in await office.documents(limit=limit)], after=None)

    return app


def _checks(fine: bool, good: str, bad: str, checks: dict[str, str]) -> Response:
    answer = Checks(status=good if fine else bad, checks=checks)
    return JSONResponse(answer.model_dump(), 200 if fine else 503)


async def _gone(request: Request, error: Exception) -> Response:
    """The client went away in the middle of its body: nobody reads this answer."""
    return Response(status_code=400)
