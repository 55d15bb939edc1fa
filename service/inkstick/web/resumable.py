"""``/api/v1/uploads``: uploads that go on where they broke off, by the tus protocol 1.0 (core, creation, termination,
checksum).

The upload's id is the id of its document from the beginning. Metadata: `filename`, `sha256` (of the whole, in hex), and
the options that any upload takes; what common clients add by themselves is passed over. A piece with its SHA-256 counts
whole or not at all. When the last byte is safely on the disk, `Content-Location` names the document.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from inkstick.errors import UsageError
from inkstick.web import wishes
from inkstick.web.documents import body, content_length, file_name, hex_digest, split_folder
from inkstick.web.multipart import read_all
from inkstick.web.office_port import UploadInfo
from inkstick.web.problems import problem
from inkstick.web.state import Office

VERSION = "1.0.0"
EXTENSIONS = "creation,termination,checksum"
PIECE_BYTES = 16 << 20
"""The longest piece that may come with a checksum: it is held until it was compared."""
DAMAGED_PIECE = 460
"""The status that the protocol has for it."""
CHUNK_TYPE = "application/offset+octet-stream"
PASSED_OVER = ("filetype", "type", "name", "relativePath")
"""Sent by tus-js-client's examples and by Uppy with every file. A file's type is told by its bytes."""


class PieceDamaged(UsageError):
    """A piece is not what its sender hashed. Nothing of it counts; it is to be sent again."""

    default_message = "A piece of the file arrived damaged."
    default_hint = "Send it again from where the upload goes on."


Id = Annotated[str, Path(pattern="^[0-9a-z]{1,64}$")]


router = APIRouter(prefix="/api/v1/uploads", include_in_schema=False)


@router.options("")
async def options(office: Office) -> Response:
    known = {"Tus-Version": VERSION, "Tus-Extension": EXTENSIONS, "Tus-Max-Size": str(office.settings.max_bytes)}
    return _empty(204, {**known, "Tus-Checksum-Algorithm": "sha256"})


@router.post("")
async def begin(request: Request, office: Office) -> Response:
    if refused := _other_version(request):
        return refused
    length = _number(request, "upload-length")
    pairs = metadata(request.headers.get("upload-metadata", ""))
    name, sha256 = file_name(pairs.pop("filename", "")), hex_digest(pairs.pop("sha256", None))
    folder, others = split_folder([pair for pair in pairs.items() if pair[0] not in PASSED_OVER])
    info = await office.uploads.begin(
        name, length, sha256=sha256, wishes=wishes.gather(others), relpath=f"{folder}{name}"
    )
    return _empty(201, {"Location": f"/api/v1/uploads/{info.id}", **_standing(info)})


@router.head("/{id}")
async def look(request: Request, office: Office, id: Id) -> Response:
    if refused := _other_version(request):
        return refused
    return _empty(200, _standing(await office.uploads.look(id)))


@router.patch("/{id}")
async def append(request: Request, office: Office, id: Id) -> Response:
    if refused := _other_version(request):
        return refused
    if request.headers.get("content-type", "") != CHUNK_TYPE:
        raise UsageError("That is no piece of an upload.", hint=f"Its type is {CHUNK_TYPE}.", code="unsupported")
    offset = _number(request, "upload-offset")
    await office.admit(content_length(request))
    chunks = body(request)
    if told := request.headers.get("upload-checksum"):
        chunks = verified(chunks, _checksum(told))
    try:
        return _empty(204, _standing(await office.uploads.append(id, offset, chunks)))
    except PieceDamaged as error:
        return problem(error, DAMAGED_PIECE)


@router.delete("/{id}")
async def drop(request: Request, office: Office, id: Id) -> Response:
    if refused := _other_version(request):
        return refused
    await office.uploads.drop(id)
    return _empty(204, {})


def metadata(header: str) -> dict[str, str]:
    """Upload-Metadata: pairs by comma, of a word and a value in base64. Raises UsageError."""
    found: dict[str, str] = {}
    for pair in header.split(","):
        key, _, value = pair.strip().partition(" ")
        if not key:
            continue
        try:
            found[key] = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise UsageError(
                f"Upload-Metadata: {key} is not text in base64.", hint="Encode its UTF-8 bytes."
            ) from error
    return found


async def verified(chunks: AsyncIterator[bytes], digest: bytes) -> AsyncIterator[bytes]:
    """The same bytes, once all are here and have this SHA-256. Raises PieceDamaged, TooLarge."""
    data = await read_all(chunks, PIECE_BYTES, "a piece with a checksum")
    if hashlib.sha256(data).digest() != digest:
        raise PieceDamaged(code="checksum")
    yield data


def _checksum(header: str) -> bytes:
    algorithm, _, value = header.partition(" ")
    try:
        if algorithm == "sha256":
            return base64.b64decode(value, validate=True)
    except binascii.Error:
        pass
    raise UsageError("The checksum cannot be understood.", hint="Send sha256, a blank, and the digest in base64.")


def _standing(info: UploadInfo) -> dict[str, str]:
    known = {"Upload-Offset": str(info.offset), "Upload-Length": str(info.length)}
    return {**known, "Content-Location": f"/api/v1/documents/{info.document}"} if info.document else known


def _empty(status: int, headers: dict[str, str]) -> Response:
    return Response(status_code=status, headers={"Tus-Resumable": VERSION, "Cache-Control": "no-store", **headers})


def _other_version(request: Request) -> Response | None:
    if request.headers.get("tus-resumable") == VERSION:
        return None
    error = UsageError("The upload speaks another version.", hint=f"Send the header Tus-Resumable: {VERSION}.")
    response = problem(error, 412)
    response.headers["Tus-Version"] = VERSION
    return response


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise UsageError(f"{name.title()} is missing or no number.", hint="Send it as the tus protocol 1.0 says.")
