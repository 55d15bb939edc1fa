"""``/api/v1``: documents in, results out."""

from __future__ import annotations

import re
import unicodedata
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from inkstick.errors import UsageError
from inkstick.profile import Format
from inkstick.web import wishes
from inkstick.web.multipart import Part, Parts
from inkstick.web.office_port import DocumentInfo, OfficePort
from inkstick.web.shapes import Document, DocumentList, Found, FoundList, PageList, PageOf, Problem

STATES = ("queued", "reading", "done", "partial", "failed", "blocked")
MEDIA: Mapping[Format, str] = {
    Format.MD: "text/markdown; charset=utf-8",
    Format.JSON: "application/json",
    Format.TXT: "text/plain; charset=utf-8",
    Format.PDF: "application/pdf",
    Format.ALTO: "application/xml",
    Format.HOCR: "text/html; charset=utf-8",
    Format.CSV: "application/zip",
    Format.DOCX: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such document."},
    422: {"model": Problem, "description": "The request cannot be understood."},
}
UPLOAD_PROBLEMS = PROBLEMS | {
    413: {"model": Problem, "description": "Larger than this appliance accepts."},
    507: {"model": Problem, "description": "The disk is nearly full; said before the body is read."},
}
OPTIONS = [
    {"name": "task", "description": "What is asked of each page, for example parse or text."},
    {"name": "formats", "description": "Formats to write, by comma: md json txt pdf alto hocr csv docx."},
    {"name": "engine", "description": "auto, vllm, transformers or rapidocr."},
    {"name": "keys", "description": "For task extract: what to extract, by comma."},
    {"name": "to", "description": "For task translate: en or zh."},
    {"name": "priority", "description": "person, watched or bulk. An upload is a person's unless it says otherwise."},
    {"name": "text_layer", "description": "auto, force or skip."},
    {"name": "passwords", "description": "Tried on an encrypted document. May be given more than once."},
]
_PARAMETERS = [{"in": "query", "required": False, "schema": {"type": "string"}} | option for option in OPTIONS]
_FORM = {
    "parameters": _PARAMETERS,
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        **{option["name"]: {"type": "string"} for option in OPTIONS},
                        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
                    },
                }
            }
        },
    },
}
_RAW = {
    "parameters": _PARAMETERS,
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}},
}

Id = Annotated[str, Path(pattern="^[0-9a-z]{1,64}$", description="The document's id.")]


def router(office: OfficePort) -> APIRouter:
    api = APIRouter(prefix="/api/v1", tags=["documents"])

    @api.post(
        "/documents",
        status_code=201,
        response_model=Document,
        responses=UPLOAD_PROBLEMS,
        openapi_extra=_FORM,
        summary="Upload a document as a form",
    )
    async def upload_form(request: Request, response: Response) -> Document:
        """One field `file`, streamed to disk. Options are form fields before the file, or in the address.
        The answer comes when the document is safely on disk."""
        await office.admit(content_length(request))
        asked = list(request.query_params.multi_items())
        rows = await take_form(office, Parts(request), asked, many=False)
        return created(response, rows[0])

    @api.put(
        "/documents/{name}",
        status_code=201,
        response_model=Document,
        responses=UPLOAD_PROBLEMS,
        openapi_extra=_RAW,
        summary="Upload a document as it is",
    )
    async def upload_raw(
        request: Request,
        response: Response,
        name: Annotated[str, Path(description="The file's name, percent-encoded.")],
        sha256: Annotated[
            str | None, Header(alias="X-Content-SHA256", description="SHA-256 of the bytes, 64 hexadecimal digits.")
        ] = None,
    ) -> Document:
        """The body is the file. With X-Content-SHA256 it is accepted only if that is what arrived; a file of the same
        name is a document of its own. The answer comes when it is safely on disk."""
        asked = wishes.gather(request.query_params.multi_items())
        digest = hex_digest(sha256)
        await office.admit(content_length(request))
        row = await office.accept_upload(file_name(name), body(request), sha256=digest, wishes=asked)
        return created(response, row)

    @api.get("/documents", response_model=DocumentList, responses={422: PROBLEMS[422]}, summary="List documents")
    async def list_documents(
        q: Annotated[str | None, Query(max_length=500, description="Words in the name or the text.")] = None,
        state: Annotated[str | None, Query(description=", ".join(STATES))] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: Annotated[str | None, Query(pattern="^[0-9]{1,18}$", description="From the answer before.")] = None,
    ) -> DocumentList:
        """Newest first."""
        rows = await documents(office, q, state, limit, after)
        more = str(rows[-1].seq) if len(rows) == limit else None
        return DocumentList(documents=[Document.of(row) for row in rows], after=more)

    @api.get("/documents/{id}", response_model=Document, responses=PROBLEMS, summary="One document")
    async def get_document(id: Id) -> Document:
        return Document.of(await office.document(id))

    @api.get("/documents/{id}/pages", response_model=PageList, responses=PROBLEMS, summary="A document's pages")
    async def list_pages(
        id: Id, after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 1000
    ) -> PageList:
        """How each page was read: engine, attempts, flags."""
        pages = await office.pages(id, after=after, limit=limit)
        more = pages[-1].number if len(pages) == limit else None
        return PageList(pages=[PageOf.of(page) for page in pages], after=more)

    @api.get("/documents/{id}/results/{format}", responses=PROBLEMS | _NOT_READY, summary="A result")
    async def get_result(id: Id, format: Format) -> Response:
        """Always as a file to save. csv is a ZIP of all tables."""
        files = await office.result_files(id, format.value)
        return await result(format, files)

    @api.get("/documents/{id}/pages/{n}/image", responses=PROBLEMS, summary="A picture of a page")
    async def get_image(
        id: Id,
        n: Annotated[int, Path(ge=1, le=10_000_000)],
        max_side: Annotated[int, Query(ge=32, le=4096, description="Pixels of the longer side, at most.")] = 1600,
    ) -> Response:
        """The page as it was read: upright, a PNG or JPEG."""
        data, media = await office.page_image(id, n, max_side=max_side)
        return Response(data, media_type=media, headers={"Cache-Control": "private, max-age=3600"})

    @api.post(
        "/documents/{id}/retry",
        status_code=202,
        response_model=Document,
        responses=PROBLEMS | _NOT_READY,
        summary="Read a failed or partial document again",
    )
    async def retry(id: Id) -> Document:
        return Document.of(await office.retry(id))

    @api.get("/search", response_model=FoundList, responses={422: PROBLEMS[422]}, summary="Search the text")
    async def search(
        q: Annotated[str, Query(min_length=1, max_length=500)], limit: Annotated[int, Query(ge=1, le=500)] = 50
    ) -> FoundList:
        """The pages on which the words stand."""
        return FoundList(hits=[Found.of(hit) for hit in await office.search(q, limit=limit)])

    return api


_NOT_READY: dict[int | str, dict[str, Any]] = {409: {"model": Problem, "description": "Not in a state for that."}}


async def documents(
    office: OfficePort, q: str | None, state: str | None, limit: int, after: str | None
) -> Sequence[DocumentInfo]:
    """A validated list request. Raises `UsageError` for an unknown state."""
    if state and state not in STATES:
        raise UsageError(f"state cannot be {state!r}", hint=f"One of: {', '.join(STATES)}.")
    return await office.documents(
        q=(q or "").strip() or None, state=state or None, after=int(after) if after else None, limit=limit
    )


def content_length(request: Request) -> int | None:
    value = request.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None


def hex_digest(value: str | None) -> str | None:
    if value is None or re.fullmatch(r"[0-9a-fA-F]{64}", value):
        return value.lower() if value else None
    raise UsageError("X-Content-SHA256 is not a SHA-256.", hint="Send 64 hexadecimal digits, or leave it out.")


def file_name(given: str) -> str:
    """The last part of a name that a browser or a program gave, without control characters; NFC."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", given))[-1]
    name = "".join(c for c in last if unicodedata.category(c) not in ("Cc", "Cs")).strip()
    return "document" if name in ("", ".", "..") else name


async def body(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


async def take_form(
    office: OfficePort, parts: Parts, asked: list[tuple[str, str]], *, many: bool
) -> list[DocumentInfo]:
    """Accept the file (or with `many` the files) of a form; `asked` are options from the address.

    With one file, nothing is accepted if anything follows it that should not. Raises `UsageError` without a file."""
    pairs, accepted = list(asked), list[DocumentInfo]()
    while (part := await parts.next()) is not None:
        if part.filename is None:
            pairs.append((part.name, await part.text()))
        elif part.filename:
            if part.name != "file":
                raise UsageError(f"unknown file field {part.name!r}", hint="Name it file.")
            chunks = part.source if many else _only(part, parts)
            accepted.append(await office.accept_upload(file_name(part.filename), chunks, wishes=wishes.gather(pairs)))
    if not accepted:
        raise UsageError("There is no file in the form.", hint="Choose a file; its field is named file.")
    return accepted


async def _only(part: Part, parts: Parts) -> AsyncIterator[bytes]:
    """The part's bytes, ending only when the form has ended without another field or file."""
    async for chunk in part.source:
        yield chunk
    while (later := await parts.next()) is not None:
        if later.filename is None:
            raise UsageError(
                f"field {later.name!r} comes after the file", hint="Put options before the file, or into the address."
            )
        if later.filename:
            raise UsageError("The form has more than one file.", hint="Send each file in a request of its own.")


def created(response: Response, row: DocumentInfo) -> Document:
    response.headers["Location"] = f"/api/v1/documents/{row.id}"
    return Document.of(row)


async def result(format: Format, files: Sequence[FilePath]) -> Response:
    """The file of a result as a download; tables as one ZIP."""
    if not files:
        raise UsageError("The document has no table.", hint="Fetch another format.", code="not_found")
    if format is not Format.CSV:
        return FileResponse(files[0], media_type=MEDIA[format], filename=files[0].name)
    spooled = await run_in_threadpool(_zip, files)
    name = files[0].parent.parent.name
    return StreamingResponse(
        _blocks(spooled), media_type=MEDIA[format], headers={"Content-Disposition": _attachment(f"{name} tables.zip")}
    )


def _attachment(name: str) -> str:

    return f"attachment; filename*=utf-8''{quote(name)}"


def _zip(files: Sequence[FilePath]) -> IO[bytes]:
    spooled = SpooledTemporaryFile(max_size=16 << 20)  # noqa: SIM115  (closed by _blocks, when it was sent)
    with zipfile.ZipFile(spooled, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    spooled.seek(0)
    return spooled


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(256 << 10):
            yield block
