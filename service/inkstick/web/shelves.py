"""``/api/v1`` for many documents at once, for what went wrong, and for the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from inkstick.errors import InkstickError, UsageError, refused_by
from inkstick.store.listing import Filter
from inkstick.web import bundle
from inkstick.web.documents import PROBLEMS, Download, Id, Wanted, attachment, file_answer
from inkstick.web.office_port import OfficePort
from inkstick.web.screens_shapes import (
    MOST,
    Bulk,
    BulkDone,
    ReasonList,
    Refused,
    SelfTestOf,
    StripMap,
    StripOf,
    System,
)
from inkstick.web.shapes import ERRORS, Problem, problem
from inkstick.web.state import Office

ORIGINAL = file_answer("application/octet-stream")
ARCHIVE = file_answer("application/zip")
NOT_READY: dict[int | str, dict[str, Any]] = {409: problem("Not in a state for that.")}
_NOT_OFFERED: dict[int | str, dict[str, Any]] = {404: problem("The machine does not.")}
_IDS = Query(alias="id", max_length=MOST, min_length=1, description="A document; may be repeated.")
Ids = Annotated[list[Id], _IDS]
Chosen = Annotated[list[Id] | None, _IDS]
AT_ONCE = 10_000
"""Documents in one archive, at most: what its directory says of each of their files stays in memory to the end."""


documents = APIRouter(prefix="/api/v1", tags=["documents"], responses=ERRORS)


@documents.delete(
    "/documents/{id}", status_code=204, responses=PROBLEMS | NOT_READY, summary="Delete a document for good"
)
async def delete(office: Office, id: Id) -> Response:
    """Its results and its original go too. Only after its end."""
    await office.remove(id)
    return Response(status_code=204)


@documents.get(
    "/documents/{id}/original",
    response_class=Response,
    responses=PROBLEMS | ORIGINAL,
    summary="The original, unchanged",
)
async def original(office: Office, id: Id) -> Response:
    """Always as a file to save."""
    return await original_of(office, id)


@documents.post("/bulk", response_model=BulkDone, responses={422: PROBLEMS[422]}, summary="Retry or delete many")
async def bulk(office: Office, wish: Bulk) -> BulkDone:
    """Each for itself: what is refused is told, and hinders no other."""
    return await do_all(office, wish.action, wish.ids)


@documents.get("/strips", response_model=StripMap, responses={422: PROBLEMS[422]}, summary="Pages as strips of colours")
async def strips(office: Office, ids: Ids) -> StripMap:
    found = await office.strips(ids)
    return StripMap(strips={id: StripOf.of(strip) for id, strip in found.items()})


@documents.get(
    "/archive",
    response_class=Response,
    responses=PROBLEMS | NOT_READY | ARCHIVE,
    summary="Results of many documents as one ZIP",
)
async def archive(office: Office, wanted: Wanted, ids: Chosen = None) -> Response:
    """Made while it is sent, a folder for each document. Those without results are left out. Without `id`: of all
    documents that the list would show."""
    return await archive_of(office, ids if ids is not None else await _matching(office, wanted))


@documents.get("/failures", response_model=ReasonList, summary="What went wrong, by reason")
async def failures(office: Office) -> ReasonList:
    """The most frequent first. List the documents with `/api/v1/documents?code=`."""
    return ReasonList.of(dict(await office.failures()))


machine = APIRouter(prefix="/api/v1/system", tags=["service"], responses=ERRORS)


@machine.get("", response_model=System, summary="What this Inkstick is made of, and how much it read")
async def system(office: Office) -> System:
    return System.of(await office.system())


@machine.post("/self-test", response_model=SelfTestOf, summary="Read pages of known print")
async def self_test(office: Office) -> SelfTestOf:
    """By the primary engine; takes as long as three pages do."""
    return SelfTestOf.of(await office.self_test())


@machine.get("/diagnostics", response_class=Response, responses=ARCHIVE, summary="Figures and log for those who repair")
async def diagnostics(office: Office) -> Response:
    """A ZIP without any text or name of a document."""
    return await diagnostics_of(office)


@machine.post("/lock", status_code=202, responses=_NOT_OFFERED, summary="Lock the data")
async def lock(office: Office) -> Response:
    """Only where the machine offers it: see `offers`."""
    await office.appliance("lock")
    return Response(status_code=202)


@machine.post("/power-off", status_code=202, responses=_NOT_OFFERED, summary="Switch the machine off")
async def power_off(office: Office) -> Response:
    """Only where the machine offers it: see `offers`."""
    await office.appliance("power-off")
    return Response(status_code=202)


ROUTERS = (documents, machine)


async def do_all(office: OfficePort, action: str, ids: Sequence[str]) -> BulkDone:
    """Retry or delete each; what is refused hinders no other."""
    done, refused = list[str](), list[Refused]()
    for id in dict.fromkeys(ids):
        try:
            await (office.retry(id) if action == "retry" else office.remove(id))
            done.append(id)
        except (InkstickError, OSError) as error:
            told = error if isinstance(error, InkstickError) else refused_by(error)
            refused.append(Refused(id=id, error=Problem(**told.as_json())))
    return BulkDone(done=done, refused=refused)


async def archive_of(office: OfficePort, ids: Sequence[str]) -> Response:
    """Raises UsageError if none of the documents has results, or those of one do not hold its corrections yet."""
    root, folders = office.settings.folder.results, []
    for id in dict.fromkeys(ids):
        await office.corrections.exported(id)
        try:
            folder = await office.result_folder(id)
        except UsageError:
            continue
        folders.append((folder.relative_to(root).as_posix(), folder))
    if not folders:
        raise UsageError("None of these documents has results.", hint="Wait until one is done.", code="not_ready")
    headers = {"Content-Disposition": attachment("inkstick results.zip")}
    return StreamingResponse(bundle.stream(folders), media_type="application/zip", headers=headers)


async def _matching(office: OfficePort, wanted: Filter) -> list[str]:
    """The ids of all that match, newest first. Raises UsageError where they are too many."""
    found, last = list[str](), None
    while rows := await office.listed(wanted, after=last, limit=MOST):
        found += (row.id for row in rows)
        last = rows[-1].seq
        if len(found) > AT_ONCE:
            reason = f"These are more than {AT_ONCE:,} documents, too many for one archive."
            raise UsageError(reason, hint="Narrow it down, by folder or by day, and take one part after the other.")
    return found


async def original_of(office: OfficePort, id: str) -> Response:
    info = await office.document(id)
    path = await office.original_file(id)
    return Download(path, media_type="application/octet-stream", headers={"Content-Disposition": attachment(info.name)})


async def diagnostics_of(office: OfficePort) -> Response:
    headers = {"Content-Disposition": attachment("inkstick diagnostics.zip")}
    return Response(await office.diagnostics(), media_type="application/zip", headers=headers)
