"""Errors as HTTP: every failure answers ``{code, message, hint}`` with a fitting status, whoever raised it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import iter_route_contexts
from fastapi.templating import Jinja2Templates
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from inkstick.errors import InkstickError, Internal, no_room, refused_by

log = logging.getLogger("inkstick.web")

STATUS: Mapping[str, int] = {
    "usage": 422,
    "checksum": 422,
    "not_paired": 401,
    "wrong_pin": 403,
    "not_allowed": 403,
    "too_many": 429,
    "wrong_offset": 409,
    "not_found": 404,
    "method": 405,
    "not_ready": 409,
    "conflict": 409,
    "cross_site": 403,
    "wrong_host": 421,
    "engine_down": 503,
    "unavailable": 503,
    "disk_full": 507,
    "too_large": 413,
    "unsupported": 415,
    "timeout": 504,
    "internal": 500,
}
"""Codes that are not listed (encrypted, damaged …) are the document's fault: 422."""

_HTTP: Mapping[int, tuple[str, str, str]] = {
    404: ("not_found", "There is nothing at this address.", "The addresses are listed at /docs."),
    405: ("method", "This address does not take this method.", "See /docs for what it takes."),
    408: ("silent", "The rest of the request did not come.", "Send it again; an upload goes on where it broke off."),
    413: ("too_large", "The request is larger than this address takes.", "Send less at a time."),
    416: ("no_range", "The file has no such part.", "Ask for a range within its length, or for the whole file."),
}


_DISK = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.EROFS)


def status_of(error: InkstickError) -> int:
    return STATUS.get(error.code, 422)


def problem(error: InkstickError, status: int | None = None) -> JSONResponse:
    """The error in our shape; OpenAI-compatible addresses use `openai_problem`."""
    return JSONResponse(error.as_json(), status or status_of(error))


def openai_problem(body: Mapping[str, Any], status: int) -> JSONResponse:
    """OpenAI's error shape and ours in one object, so that either kind of client understands it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": f"{body['message']} {body['hint']}", "type": kind, "param": None, "code": body["code"]}
    return JSONResponse({"error": error, **body}, status)


def refusal_page(request: Request, templates: Jinja2Templates, error: InkstickError) -> Response:
    """The error as a page, for a person."""
    status = status_of(error)
    return templates.TemplateResponse(request, "problem.html", {"problem": error.as_json(), "status": status}, status)


def install(app: FastAPI, templates: Jinja2Templates | None = None) -> None:
    """Handlers for our errors, a disk that refuses, FastAPI's validation, unknown addresses and methods, and faults of
    our own."""

    def answer(request: Request, body: Mapping[str, Any], status: int) -> Response:
        if request.url.path.startswith("/v1/"):
            return openai_problem(body, status)
        if templates is not None and wants_page(request):
            return templates.TemplateResponse(request, "problem.html", {"problem": body, "status": status}, status)
        return JSONResponse(dict(body), status)

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, InkstickError)
        response = answer(request, error.as_json(), status_of(error))
        if response.status_code == 503:
            response.headers["Retry-After"] = "5"
        if response.status_code == 429:
            response.headers["Retry-After"] = "60"
        return response

    async def disk(request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)
        if not no_room(error) and error.errno not in _DISK:
            raise error  # a fault of our own
        return await ours(request, refused_by(error))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request, _validation(error), 422)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code, message, hint = _HTTP.get(error.status_code, ("usage", str(error.detail), "See /docs."))
        response = answer(request, {"code": code, "message": message, "hint": hint}, error.status_code)
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(_methods(request))
        return response

    async def fault(request: Request, error: Exception) -> Response:
        log.error("fault while answering %s %s", request.method, request.url.path, exc_info=error)
        return answer(request, Internal().as_json(), 500)

    app.add_exception_handler(InkstickError, ours)
    app.add_exception_handler(OSError, disk)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, fault)


def _methods(request: Request) -> list[str]:
    """Every method that the address takes: Starlette itself names those of the first route only."""
    found: set[str] = set()
    for context in iter_route_contexts(request.app.routes):
        if context.path and compile_path(context.path)[0].fullmatch(request.url.path):
            found |= context.methods or set()
    return sorted(found)


def wants_page(request: Request) -> bool:
    """Does a person ask, who would rather have a page than JSON?"""
    machine = request.url.path.startswith(("/api/", "/healthz", "/readyz", "/metrics", "/openapi.json"))
    return not machine and "text/html" in request.headers.get("accept", "")


def _validation(error: RequestValidationError) -> dict[str, str]:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    said = first["msg"] if first["type"] != "extra_forbidden" else "is not known here"
    return {
        "code": "usage",
        "message": f"{where or 'request'}: {said}",
        "hint": "See /docs for what this address takes.",
    }
