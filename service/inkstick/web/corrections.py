"""``/api/v1/documents/{id}/pages/{n}``: a page as it is, changes to it, its versions, other readings."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from inkstick.correct.change import LONGEST, Change, Settle, Text
from inkstick.correct.difference import difference
from inkstick.correct.doubt import Doubt, doubts
from inkstick.document import Task, page_json
from inkstick.errors import UsageError, no_such_page
from inkstick.profile import EngineChoice
from inkstick.web.corrections_port import PageNow, Wish
from inkstick.web.documents import PROBLEMS, Id
from inkstick.web.office_port import OfficePort
from inkstick.web.screens.access import person_of
from inkstick.web.shapes import ERRORS, problem
from inkstick.web.state import Office

Number = Annotated[int, Path(ge=1, le=10_000_000, description="The page's number, from 1.")]
CONFLICT: dict[int | str, dict[str, Any]] = {
    409: problem("Somebody else changed the page meanwhile, or it cannot be changed now.")
}
BUSY: dict[int | str, dict[str, Any]] = {503: problem("No engine reads now.")}


class DoubtOf(BaseModel):
    """A place to look at."""

    key: str = Field(description="Names it within this version of the page.")
    kind: str = Field(description="digits, only_first, only_second, block or flag.")
    first: str = Field(description="What the text says.")
    second: str = Field(description="What the second reader says.")
    box: list[int] | None = Field(description="Where to look, in thousandths of the page.")
    block: int | None = Field(description="The order of the block that it is in.")

    @classmethod
    def of(cls, doubt: Doubt) -> DoubtOf:
        box = list(doubt.box) if doubt.box else None
        return cls(key=doubt.key, kind=doubt.kind, first=doubt.first, second=doubt.second, box=box, block=doubt.block)


class PageState(BaseModel):
    """A page as it is now."""

    version: int = Field(description="0 until somebody changes the page; send it with a change.")
    exported: bool = Field(description="The result files hold all that was saved.")
    editable: bool = Field(description="False while the document is being read.")
    page: dict[str, Any] = Field(description="The page as it stands in the record.")
    doubts: list[DoubtOf] = Field(description="Where to look, in reading order.")

    @classmethod
    def of(cls, now: PageNow) -> PageState:
        return cls(
            version=now.version,
            exported=now.exported,
            editable=now.editable,
            page=page_json(now.page),
            doubts=[DoubtOf.of(doubt) for doubt in doubts(now.page)],
        )


_SOME: dict[str, Any] = {"not": {"type": "null"}}
_EITHER: dict[str, Any] = {
    "anyOf": [
        {"required": ["block", "text"], "properties": {"block": _SOME, "text": _SOME, "doubt": {"type": "null"}}},
        {"required": ["doubt"], "properties": {"doubt": _SOME, "block": {"type": "null"}}},
    ]
}
"""What the fields cannot say each for itself."""


class ChangeOf(BaseModel):
    """Either `block` and `text` (of a table also `row` and `cell`), or `doubt` and, if the text is wrong, `text`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_EITHER)
    block: int | None = Field(None, ge=0, le=1 << 40, description="Order of the block.")
    row: int | None = Field(None, ge=0, le=1 << 20, description="Of a table: the row, from 0.")
    cell: int | None = Field(None, ge=0, le=1 << 20, description="Of a table: the cell in its row, from 0.")
    doubt: str | None = Field(None, max_length=100, description="Key of a doubt that was looked at.")
    text: str | None = Field(None, max_length=LONGEST, description="What it is to say. Empty: taken out.")

    def change(self) -> Change:
        if self.doubt is not None and self.block is None:
            return Settle(self.doubt, self.text)
        if (
            self.block is None
            or self.doubt is not None
            or self.text is None
            or (self.row is None) != (self.cell is None)
        ):
            raise UsageError("A change names a block and its text, or a doubt.", hint="See /docs for its fields.")
        return Text(self.block, self.text, self.row, self.cell)


class Changes(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: int = Field(ge=0, le=1 << 40, description="The version that was changed.")
    changes: list[ChangeOf] = Field(min_length=1, max_length=1000)


class Restore(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: int = Field(ge=0, le=1 << 40, description="The version that the page has now.")
    to: int = Field(ge=0, le=1 << 40, description="The version to go back to; 0 is the page as it was read.")


class Reread(BaseModel):
    model_config = ConfigDict(extra="forbid")
    engine: EngineChoice = EngineChoice.AUTO
    task: Task = Task.PARSE
    prompt: str | None = Field(None, min_length=1, max_length=4000, description="In place of the task's own prompt.")


class Accept(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: int = Field(ge=0, le=1 << 40, description="The version that the page has now.")


class VersionOf(BaseModel):
    version: int
    who: str
    when: str
    what: str = Field(description="text, checked, reread or restored; empty for the page as it was read.")


class VersionList(BaseModel):
    versions: list[VersionOf]


class PieceOf(BaseModel):
    kind: str = Field(description="same, gone or new.")
    text: str


class Reading(BaseModel):
    """A page read once more. Nothing has changed until it is accepted."""

    reading: str = Field(description="Its key, for accepting it.")
    page: dict[str, Any]
    difference: list[PieceOf] = Field(description="From the text as it is to this reading's, word by word.")


router = APIRouter(prefix="/api/v1/documents/{id}/pages/{n}", tags=["pages"], responses=ERRORS | PROBLEMS)


@router.get("", response_model=PageState, responses=CONFLICT, summary="A page as it is now")
async def get_page(office: Office, id: Id, n: Number) -> PageState:
    """With its blocks, where a person should look, and the version that a change has to name."""
    return PageState.of(await now(office, id, n))


@router.patch("", response_model=PageState, responses=CONFLICT, summary="Correct a page")
async def change_page(id: Id, n: Number, asked: Changes, request: Request, office: Office) -> PageState:
    """All changes together, or none. Safely on disk, and found by the search, when it answers; the result files
    follow by themselves."""
    changes = [change.change() for change in asked.changes]
    return PageState.of(await office.corrections.change(id, n, asked.version, changes, who=who(request)))


@router.get("/versions", response_model=VersionList, summary="A page's versions")
async def list_versions(office: Office, id: Id, n: Number) -> VersionList:
    """Oldest first; empty for a page that nobody changed."""
    found = await office.corrections.versions(id, n)
    return VersionList(
        versions=[VersionOf(version=one.number, who=one.who, when=one.when, what=one.what) for one in found]
    )


@router.get("/versions/{version}", response_model=dict[str, Any], summary="A page as it was")
async def get_version(
    office: Office, id: Id, n: Number, version: Annotated[int, Path(ge=0, le=1 << 40)]
) -> dict[str, Any]:
    return page_json(await office.corrections.version(id, n, version))


@router.post("/restore", response_model=PageState, responses=CONFLICT, summary="Go back to an earlier version")
async def restore(id: Id, n: Number, asked: Restore, request: Request, office: Office) -> PageState:
    """The earlier text becomes a new version; nothing is lost."""
    return PageState.of(await office.corrections.restore(id, n, asked.version, asked.to, who=who(request)))


@router.post("/reread", response_model=Reading, responses=CONFLICT | BUSY, summary="Read a page once more")
async def reread(office: Office, id: Id, n: Number, asked: Reread) -> Reading:
    """With another engine, task or prompt. The page stays as it is until the reading is accepted."""
    before = await now(office, id, n)
    found = await office.corrections.reread(id, n, Wish(asked.engine, asked.task, asked.prompt))
    pieces = difference(before.page.text(), found.page.text())
    told = [PieceOf(kind=piece.kind, text=piece.text) for piece in pieces]
    return Reading(reading=found.key, page=page_json(found.page), difference=told)


@router.post("/readings/{key}/accept", response_model=PageState, responses=CONFLICT, summary="Take another reading")
async def accept(
    id: Id,
    n: Number,
    key: Annotated[str, Path(max_length=64)],
    asked: Accept,
    request: Request,
    office: Office,
) -> PageState:
    return PageState.of(await office.corrections.accept(id, n, asked.version, key, who=who(request)))


async def now(office: OfficePort, id: str, number: int) -> PageNow:
    """The page as it is. Raises `UsageError` (not_ready or not_found) where there is none."""
    found = await office.corrections.page(id, number)
    if found is not None:
        return found
    row = await office.document(id)
    if row.pages is not None and number > row.pages:
        raise no_such_page()
    raise UsageError("The page is not read yet.", hint="Wait until it is.", code="not_ready")


def who(request: Request) -> str:
    """Who asks, for the list of versions: whoever opened the session, else the machine itself."""
    return person_of(request).name[:200] or "this machine"
