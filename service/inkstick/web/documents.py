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

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from inkstick.document import Box, Flag, Task
from inkstick.errors import UsageError
from inkstick.pages.view import TextLayerMode
from inkstick.profile import EngineChoice, Format, SecondMode
from inkstick.store.listing import Filter
from inkstick.web import wishes
from inkstick.web.multipart import Part, Parts
from inkstick.web.office_port import DocumentInfo, OfficePort
from inkstick.web.screens_shapes import Password
from inkstick.web.shapes import ERRORS, Document, DocumentList, Found, FoundList, PageList, PageOf, problem
from inkstick.web.state import Office

FOLDER_BYTES = 2000
"""Of a folder's whole path: the results below it, too, must have paths that a disk can hold."""
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
    404: problem("There is no such document."),
    422: problem("The request cannot be understood."),
}
UPLOAD_PROBLEMS = PROBLEMS | {
    413: problem("Larger than this appliance accepts."),
    507: problem("The disk is nearly full; said before the body is read."),
}
_NOT_READY: dict[int | str, dict[str, Any]] = {409: problem("Not in a state for that.")}
_FORMATS = "|".join(Format)
OPTIONS: list[dict[str, Any]] = [
    {"name": "task", "description": "What is asked of each page, for example parse or text.", "enum": list(Task)},
    {
        "name": "formats",
        "description": "Formats to write, by comma: md json txt pdf alto hocr csv docx.",
        "pattern": f"^(({_FORMATS})(,({_FORMATS}))*)?$",
    },
    {"name": "engine", "description": "auto, vllm, transformers or rapidocr.", "enum": list(EngineChoice)},
    {"name": "keys", "description": "For task extract: what to extract, by comma."},
    {"name": "to", "description": "For task translate: en or zh.", "enum": ["en", "zh"]},
    {
        "name": "priority",
        "description": "person, watched or bulk. An upload is a person's unless it says otherwise.",
        "enum": ["person", "watched", "bulk"],
    },
    {"name": "text_layer", "description": "auto, force or skip.", "enum": list(TextLayerMode)},
    {
        "name": "second_reader",
        "description": "off, idle or on: does the CPU engine check what the GPU engine reads.",
        "enum": list(SecondMode),
    },
    {"name": "passwords", "description": "Tried on an encrypted document. May be given more than once."},
    {"name": "folder", "description": "Where it belongs below inbox/, like letters/2026; its results go there too."},
]


def _schema(option: Mapping[str, Any]) -> dict[str, Any]:
    """(A form sends what was left empty, too: it counts as not given.)"""
    words = {"enum": ["", *option["enum"]]} if "enum" in option else {}
    return {"type": "string"} | {key: option[key] for key in ("pattern", "description") if key in option} | words


_PARAMETERS = [
    {"in": "query", "required": False, "schema": _schema(option)}
    | {"name": option["name"], "description": option["description"]}
    for option in OPTIONS
]
_FORM = {
    "parameters": _PARAMETERS,
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        **{option["name"]: _schema(option) for option in OPTIONS},
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
_DIGEST = "^[0-9a-fA-F]{64}$"
_DAY: dict[str, Any] = {
    "json_schema_extra": {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "maxLength": 0}]}
}
_CURSOR = "^[0-9]{1,18}$"


def file_answer(*media: str) -> dict[int | str, dict[str, Any]]:
    """The good answer of an operation that gives a file of one of these media types."""
    content = {
        name: {} if name == "application/json" else {"schema": {"type": "string", "format": "binary"}}
        for name in (kind.partition(";")[0] for kind in media)
    }
    return {200: {"content": content, "description": "The file"}}


Id = Annotated[str, Path(pattern="^[0-9a-z]{1,64}$", description="The document's id.")]


router = APIRouter(prefix="/api/v1", tags=["documents"], responses=ERRORS)


@router.post(
    "/documents",
    status_code=201,
    response_model=Document,
    responses=UPLOAD_PROBLEMS,
    openapi_extra=_FORM,
    summary="Upload a document as a form",
)
async def upload_form(request: Request, response: Response, office: Office) -> Document:
    """One field `file`, streamed to disk. Options are form fields before the file, or in the address.
    The answer comes when the document is safely on disk."""
    await office.admit(content_length(request))
    asked = list(request.query_params.multi_items())
    rows = await take_form(office, Parts(request), asked, many=False)
    return created(response, rows[0])


@router.put(
    "/documents/{name}",
    status_code=201,
    response_model=Document,
    responses=UPLOAD_PROBLEMS,
    openapi_extra=_RAW,
    summary="Upload a document as it is",
)
async def upload_raw(
    request: Request,
    office: Office,
    response: Response,
    name: Annotated[str, Path(description="The file's name, percent-encoded.")],
    sha256: Annotated[
        str | None,
        Header(
            alias="X-Content-SHA256",
            description="SHA-256 of the bytes, 64 hexadecimal digits.",
            json_schema_extra={"pattern": _DIGEST},
        ),
    ] = None,
) -> Document:
    """The body is the file. With X-Content-SHA256 it is accepted only if that is what arrived; a file of the same
    name is a document of its own. The answer comes when it is safely on disk."""
    folder, pairs = split_folder(request.query_params.multi_items())
    asked = wishes.gather(pairs)
    digest = hex_digest(sha256)
    await office.admit(content_length(request))
    name = file_name(name)
    place = f"{folder}{name}"
    row = await office.accept_upload(name, body(request), sha256=digest, wishes=asked, relpath=place)
    return created(response, row)


def _wanted(
    q: Annotated[str | None, Query(max_length=500, description="Words in the name or the text.")] = None,
    state: Annotated[
        str | None, Query(description=", ".join(STATES), json_schema_extra={"enum": ["", *STATES]})
    ] = None,
    flag: Annotated[str | None, Query(description=", ".join(Flag), json_schema_extra={"enum": ["", *Flag]})] = None,
    folder: Annotated[str | None, Query(max_length=1000, description="Below inbox/, with what is in it.")] = None,
    since: Annotated[str | None, Query(description="First day of arrival (UTC), 2026-11-21.", **_DAY)] = None,
    until: Annotated[str | None, Query(description="Last day of arrival (UTC).", **_DAY)] = None,
    code: Annotated[str | None, Query(description="Error code, of failed, partial and blocked ones.")] = None,
) -> Filter:
    return filter_of(q=q, state=state, flag=flag, folder=folder, since=since, until=until, code=code)


Wanted = Annotated[Filter, Depends(_wanted)]


@router.get("/documents", response_model=DocumentList, responses={422: PROBLEMS[422]}, summary="List documents")
async def list_documents(
    office: Office,
    wanted: Wanted,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(pattern=_CURSOR, description="From the answer before.")] = None,
) -> DocumentList:
    """Newest first."""
    rows = await office.listed(wanted, after=int(after) if after else None, limit=limit)
    more = str(rows[-1].seq) if len(rows) == limit else None
    return DocumentList(documents=[Document.of(row) for row in rows], after=more)


@router.get("/documents/{id}", response_model=Document, responses=PROBLEMS, summary="One document")
async def get_document(office: Office, id: Id) -> Document:
    return Document.of(await office.document(id))


@router.get("/documents/{id}/pages", response_model=PageList, responses=PROBLEMS, summary="A document's pages")
async def list_pages(
    office: Office, id: Id, after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 1000
) -> PageList:
    """How each page was read: engine, attempts, flags."""
    pages = await office.pages(id, after=after, limit=limit)
    more = pages[-1].number if len(pages) == limit else None
    return PageList(pages=[PageOf.of(page) for page in pages], after=more)


@router.get(
    "/documents/{id}/results/{format}",
    responses=PROBLEMS | _NOT_READY | file_answer(*MEDIA.values()),
    response_class=Response,
    summary="A result",
)
async def get_result(office: Office, id: Id, format: Format) -> Response:
    """Always as a file to save. csv is a ZIP of all tables."""
    files = await office.result_files(id, format.value)
    return await result(format, files)


@router.get(
    "/documents/{id}/pages/{n}/image",
    responses=PROBLEMS | file_answer("image/png", "image/jpeg"),
    response_class=Response,
    summary="A picture of a page",
)
async def get_image(
    office: Office,
    id: Id,
    n: Annotated[int, Path(ge=1, le=10_000_000)],
    max_side: Annotated[int, Query(ge=32, le=4096, description="Pixels of the longer side, at most.")] = 1600,
    box: Annotated[
        str | None,
        Query(
            pattern="^[0-9]{1,4}(,[0-9]{1,4}){3}$",
            description="Only this part: left, top, right, bottom in thousandths of the page.",
        ),
    ] = None,
) -> Response:
    """The page as it was read: upright, a PNG or JPEG."""
    data, media = await office.page_image(id, n, max_side=max_side, box=box_of(box))
    return Response(data, media_type=media, headers={"Cache-Control": "private, max-age=3600"})


@router.post(
    "/documents/{id}/retry",
    status_code=202,
    response_model=Document,
    responses=PROBLEMS | _NOT_READY,
    summary="Read a failed or partial document again",
)
async def retry(office: Office, id: Id, asked: Password | None = None) -> Document:
    """A document that ended is queued again; an encrypted one may be given its password."""
    return Document.of(await office.retry(id, password=asked.password if asked else None))


@router.get("/search", response_model=FoundList, responses={422: PROBLEMS[422]}, summary="Search the text")
async def search(
    office: Office,
    q: Annotated[str, Query(min_length=1, max_length=500)],
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> FoundList:
    """The pages on which the words stand."""
    return FoundList(hits=[Found.of(hit) for hit in await office.search(q, limit=limit)])


def filter_of(**asked: str | None) -> Filter:
    """A validated list request. Raises `UsageError` for a state or flag that there is not, or a date that is none."""
    given = {name: value.strip() or None for name, value in asked.items() if value}
    for name, known in (("state", STATES), ("flag", tuple(Flag))):
        if (value := given.get(name)) and value not in known:
            raise UsageError(f"{name} cannot be {value!r}", hint=f"One of: {', '.join(known)}.")
    return Filter(**given)


def split_folder(pairs: Sequence[tuple[str, str]]) -> tuple[str, list[tuple[str, str]]]:
    """Takes the option `folder` out: the folder below inbox/ with a slash behind, or nothing; and the others.

    Raises `UsageError` if it leads anywhere else, or is too deep."""
    given = [value for name, value in pairs if name == "folder" and value.strip("/")]
    rest = [pair for pair in pairs if pair[0] != "folder"]
    return (folder_path(given[0]) if given else ""), rest


def folder_path(given: str) -> str:
    parts = [part for part in given.split("/") if part]
    cleaned = [file_name(part) for part in parts]
    longest = sum(len(part.encode()) + 1 for part in parts)
    if (
        len(parts) > 32
        or longest > FOLDER_BYTES
        or any(part in (".", "..") or "\\" in part or len(part.encode()) > 255 for part in parts)
    ):
        raise UsageError(f"folder cannot be {given!r}", hint="Name folders below the inbox, like letters/2026.")
    return "".join(f"{part}/" for part in cleaned)


def box_of(given: str | None) -> Box | None:
    """A box in an address, ``100,200,300,250``. Raises `UsageError` for one that has no area or leaves the page."""
    if given is None:
        return None
    x0, y0, x1, y1 = (int(value) for value in given.split(","))
    if x0 >= x1 or y0 >= y1 or max(x1, y1) > 1000:
        raise UsageError("box is not a part of the page.", hint="Left, top, right, bottom in thousandths.")
    return (x0, y0, x1, y1)


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
            folder, wished = split_folder(pairs)
            if many and not folder:  # a browser names the files of a chosen folder with their folders
                folder = folder_path(part.filename.rpartition("/")[0])
            name = file_name(part.filename)
            asked_for = wishes.gather(wished)
            accepted.append(await office.accept_upload(name, chunks, wishes=asked_for, relpath=f"{folder}{name}"))
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
    if not files and format is Format.CSV:
        raise UsageError("The document has no table.", hint="Fetch another format.", code="not_found")
    if not files:
        hint = "Its `formats` are those that there are."
        raise UsageError(f"The document was not written as {format}.", hint=hint, code="not_found")
    if format is not Format.CSV:
        return Download(files[0], media_type=MEDIA[format], filename=files[0].name)
    spooled = await run_in_threadpool(_zip, files)
    name = files[0].parent.parent.name
    return StreamingResponse(
        _blocks(spooled), media_type=MEDIA[format], headers={"Content-Disposition": attachment(f"{name} tables.zip")}
    )


class Download(FileResponse):
    """A file, or the ranges of it that are asked for; what cannot be had is told as every error is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_or_refuse(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (400, 416):
                headers = Headers(raw=message["headers"])
                told = {"Content-Range": headers["content-range"]} if "content-range" in headers else {}
                raise HTTPException(message["status"], "The header Range cannot be understood.", told)
            await send(message)

        await super().__call__(scope, receive, send_or_refuse)


def attachment(name: str) -> str:
    """A Content-Disposition for a file to save."""
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
