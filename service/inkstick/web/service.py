"""How the service is: for whoever watches over it, for Prometheus, and in words."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from inkstick.web import language, metrics
from inkstick.web.shapes import ERRORS, Checks, Status
from inkstick.web.state import Office

_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Checks, "description": "No; the checks say why."}}
_FIGURES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text"}
}


router = APIRouter(tags=["service"], responses=ERRORS)


@router.get("/healthz", response_model=Checks, responses=_NOT_READY, summary="Is the service alive?")
async def healthz(office: Office) -> Response:
    health = await office.health()
    return _checks(health.live, "ok", "stuck", dict(health.checks))


@router.get("/readyz", response_model=Checks, responses=_NOT_READY, summary="Can it accept a document now?")
async def readyz(office: Office) -> Response:
    health = await office.health()
    return _checks(health.live and health.ready, "ready", "not ready", dict(health.checks))


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response, responses=_FIGURES)
async def figures(office: Office) -> Response:
    return Response(metrics.render(await office.stats()), media_type=metrics.CONTENT_TYPE)


@router.get("/api/v1/status", response_model=Status, summary="How things stand")
async def status(request: Request, office: Office) -> Status:
    """What `says` is in the language that the request accepts."""
    return Status.of(await office.stats(), await office.remaining(), language.translator(language.of(request)))


def _checks(fine: bool, good: str, bad: str, checks: dict[str, str]) -> Response:
    answer = Checks(status=good if fine else bad, checks=checks)
    return JSONResponse(answer.model_dump(), 200 if fine else 503)
