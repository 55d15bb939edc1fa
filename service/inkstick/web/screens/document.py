"""The document screen: a page's picture beside its text, the places to look at, and forms to correct them.

Complete without JavaScript: every view and every change is an address or a form. static/document.js adds keys, zoom,
and the ties between picture and text. Text of documents is hostile: it reaches the page as text only, and tables
through their cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.templating import Jinja2Templates

from inkstick.access.roles import Role
from inkstick.correct.change import Change, Settle, Text
from inkstick.correct.difference import Piece, difference
from inkstick.correct.doubt import Doubt, doubts, is_doubtful
from inkstick.document import Block, Box, Kind, Page, Task
from inkstick.errors import InkstickError, UsageError
from inkstick.profile import EngineChoice
from inkstick.results.markdown import block_markdown
from inkstick.results.tables import Rows, parse_table
from inkstick.web import language, words
from inkstick.web.corrections import Number, who
from inkstick.web.corrections_port import PageNow, VersionInfo, Wish
from inkstick.web.documents import Id
from inkstick.web.office_port import DocumentInfo, OfficePort, PageInfo
from inkstick.web.problems import status_of
from inkstick.web.screens.access import person_of
from inkstick.web.state import Office, Templates

VIEWS = ("text", "source", "fields", "tables")
STRIP = 12
"""Thumbnails at once: those around the page."""
MOST_CELLS = 20_000
EDIT_CELLS = 600
"""Cells of a table that are changed in one form; a larger one is changed row by row."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of text; `doubt` is its key if it is doubtful."""

    text: str
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class BlockView:
    """A block to be shown: `marks` of its text, or `rows` of its table."""

    block: Block
    marks: tuple[Mark, ...] = ()
    rows: Rows = ()
    low: bool = False
    doubtful: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DoubtView:
    """A doubt to be shown. `crop`: the part of the picture around it, as the address takes it. `placed`: its text can
    be replaced here."""

    doubt: Doubt
    crop: str
    placed: bool
    mark: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the screen is asked for: the page, the view, which block is being changed, of a large table which `row`
    (from 1), and so on. `kept`, `cells` (by the names of their fields): what was written and could not be saved."""

    page: int = 1
    view: str = "text"
    edit: int | None = None
    row: int | None = None
    look: str = ""
    reading: str = ""
    saved: int = 0
    kept: str | None = None
    cells: Mapping[str, str] = field(default_factory=dict)
    problem: InkstickError | None = None


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything about the page that the template shows."""

    number: int
    now: PageNow | None
    info: PageInfo | None
    blocks: tuple[BlockView, ...] = ()
    doubts: tuple[DoubtView, ...] = ()
    tables: tuple[BlockView, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    source: str = ""
    versions: Sequence[VersionInfo] = ()
    pieces: tuple[Piece, ...] = field(default=())


class _Screen:
    """Puts the screen together."""

    def __init__(self, office: OfficePort, templates: Jinja2Templates) -> None:
        self.office, self.templates = office, templates

    async def change(
        self, request: Request, id: str, number: int, version: int, changes: Sequence[Change], asked: Asked
    ) -> Response:
        """Save, then on to the next doubtful place: on this page, or on the next that has one."""
        try:
            now = await self.office.corrections.change(id, number, version, changes, who=who(request))
        except UsageError as error:  # what was written is shown again beside it
            return await self.show(request, id, replace(asked, problem=error))
        if asked.look and not doubts(now.page):
            following = await self.office.corrections.doubtful(id, number)
            return _to(id, page=following or number, saved=number, look="first" if following else "end")
        if asked.look:
            return _to(id, page=number, saved=number, look=asked.look)
        return _to(id, page=number, saved=number)

    async def cells(self, id: str, number: int, version: int, order: int, fields: dict[str, str]) -> list[Text]:
        """The cells of a table's form that say something else than the table said in it."""
        page = await self._page_of(id, number, version)
        block = next((block for block in page.blocks if block.order == order), None) if page else None
        rows = parse_table(block.text) if block and block.kind is Kind.TABLE else ()
        changes: list[Text] = []
        for y, row in enumerate(rows):
            for x, cell in enumerate(row):
                given = fields.get(f"cell-{y}-{x}")
                if given is not None and given.replace("\r\n", "\n").strip() != cell.text:
                    changes.append(Text(order, given, y, x))
        return changes

    async def _page_of(self, id: str, number: int, version: int) -> Page | None:
        """The page as it was in the version that a form was made of."""
        now = await self.office.corrections.page(id, number)
        if now is None or now.version == version:
            return now.page if now else None
        try:
            return await self.office.corrections.version(id, number, version)
        except UsageError:  # the page was read anew meanwhile
            return now.page

    async def show(self, request: Request, id: str, asked: Asked) -> Response:
        last_event = await self.office.last_event()  # first: what happens while all else is looked up is told again
        row = await self.office.document(id)
        total = row.pages or 0
        number = min(asked.page, total) if total else asked.page
        start = max(1, min(number - STRIP // 2, total - STRIP + 1))
        strip = await self.office.pages(id, after=start - 1, limit=STRIP)
        sheet = await self._sheet(row, number, strip, asked)
        engines = await self.office.corrections.engines()
        translate = language.translator(language.of(request))
        shown = {
            "row": row,
            "asked": asked,
            "sheet": sheet,
            "number": number,
            "total": total,
            "strip": strip,
            "doubtful": is_doubtful,
            "views": VIEWS,
            "edit_cells": EDIT_CELLS,
            "next_doubt": await self.office.corrections.doubtful(id, number),
            "previous_doubt": await self.office.corrections.doubtful(id, number, back=True),
            "may_edit": person_of(request).may(Role.OPERATOR),
            "engines": engines,
            "tasks": {task.value for _, tasks in engines for task in tasks},
            "states": {word: translate(text) for word, text in words.STATES.items()},
            "last_event": last_event,
        }
        status = 200 if asked.problem is None else status_of(asked.problem)
        return self.templates.TemplateResponse(request, "document.html", shown, status)

    async def _sheet(self, row: DocumentInfo, number: int, strip: Sequence[PageInfo], asked: Asked) -> Sheet:
        info = next((page for page in strip if page.number == number), None)
        now = await self.office.corrections.page(row.id, number)
        if now is None:
            return Sheet(number, None, info)
        found = doubts(now.page)
        blocks = tuple(_block_view(block, found) for block in now.page.blocks)
        return Sheet(
            number,
            now,
            info,
            blocks,
            tuple(_doubt_view(doubt) for doubt in found),
            tuple(view for view in blocks if view.rows),
            tuple(_fields(now.page)),
            "\n\n".join(filter(None, map(block_markdown, now.page.blocks))) if asked.view == "source" else "",
            await self.office.corrections.versions(row.id, number) if now.version else (),
            await self._pieces(row.id, number, now, asked),
        )

    async def _pieces(self, id: str, number: int, now: PageNow, asked: Asked) -> tuple[Piece, ...]:
        if not asked.reading:
            return ()
        proposal = await self.office.corrections.proposal(id, number, asked.reading)
        return tuple(difference(now.page.text(), proposal.page.text()))


async def _screen(office: Office, templates: Templates) -> _Screen:
    return _Screen(office, templates)


Screen = Annotated[_Screen, Depends(_screen)]
router = APIRouter(include_in_schema=False)


@router.get("/documents/{id}")
async def document(
    request: Request,
    screen: Screen,
    id: Id,
    page: Annotated[int | None, Query(ge=1, le=10_000_000)] = None,
    view: str = "text",
    edit: Annotated[int | None, Query(ge=0)] = None,
    row: Annotated[int | None, Query(ge=1)] = None,
    look: Annotated[str, Query(max_length=8)] = "",
    reading: Annotated[str, Query(max_length=64)] = "",
    saved: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    after: Annotated[int | None, Query(ge=0, le=10_000_000)] = None,
) -> Response:
    chosen = page or (after + 1 if after is not None else 1)
    asked = Asked(chosen, view if view in VIEWS else "text", edit, row, look, reading, saved)
    return await screen.show(request, id, asked)


@router.post("/documents/{id}/pages/{n}/doubt")
async def settle(
    request: Request,
    screen: Screen,
    id: Id,
    n: Number,
    version: Annotated[int, Form(ge=0)],
    doubt: Annotated[str, Form(max_length=100)],
    choice: Annotated[str, Form(pattern="^(keep|second|other|remove)$")],
    text: Annotated[str, Form()] = "",
) -> Response:
    new = {"keep": None, "remove": "", "other": text}.get(choice, text)
    kept = text if choice == "other" else None
    return await screen.change(request, id, n, version, [Settle(doubt, new)], Asked(n, look="first", kept=kept))


@router.post("/documents/{id}/pages/{n}/text")
async def text(request: Request, screen: Screen, id: Id, n: Number) -> Response:
    fields = {name: value for name, value in (await request.form()).multi_items() if isinstance(value, str)}
    block, version = _whole(fields, "block"), _whole(fields, "version")
    if "text" in fields:
        asked = Asked(n, edit=block, kept=fields["text"])
        return await screen.change(request, id, n, version, [Text(block, fields["text"])], asked)
    changes = await screen.cells(id, n, version, block, fields)
    row = _whole(fields, "row") if "row" in fields else None
    asked = Asked(n, edit=block, row=row, cells={f"cell-{cell.row}-{cell.cell}": cell.text for cell in changes})
    return await screen.change(request, id, n, version, changes, asked)


@router.post("/documents/{id}/pages/{n}/restore")
async def restore(
    request: Request,
    office: Office,
    screen: Screen,
    id: Id,
    n: Number,
    version: Annotated[int, Form(ge=0)],
    to: Annotated[int, Form(ge=0)],
) -> Response:
    try:
        await office.corrections.restore(id, n, version, to, who=who(request))
    except UsageError as error:
        return await screen.show(request, id, Asked(n, problem=error))
    return _to(id, page=n, saved=n)


@router.post("/documents/{id}/pages/{n}/reread")
async def reread(
    request: Request,
    office: Office,
    screen: Screen,
    id: Id,
    n: Number,
    engine: Annotated[EngineChoice, Form()] = EngineChoice.AUTO,
    task: Annotated[Task, Form()] = Task.PARSE,
    prompt: Annotated[str, Form(max_length=4000)] = "",
) -> Response:
    try:
        found = await office.corrections.reread(id, n, Wish(engine, task, prompt.strip() or None))
    except InkstickError as error:
        return await screen.show(request, id, Asked(n, problem=error))
    return _to(id, page=n, reading=found.key)


@router.post("/documents/{id}/pages/{n}/accept")
async def accept(
    request: Request,
    office: Office,
    screen: Screen,
    id: Id,
    n: Number,
    version: Annotated[int, Form(ge=0)],
    reading: Annotated[str, Form(max_length=64)],
) -> Response:
    try:
        await office.corrections.accept(id, n, version, reading, who=who(request))
    except UsageError as error:
        still = reading if error.code == "conflict" else ""
        return await screen.show(request, id, Asked(n, reading=still, problem=error))
    return _to(id, page=n, saved=n)


def _to(id: str, **query: Any) -> Response:
    return RedirectResponse(f"/documents/{id}?{urlencode(query)}", 303)


def _whole(fields: dict[str, str], name: str) -> int:
    value = fields.get(name, "")
    if not (value.isascii() and value.isdigit() and len(value) < 12):
        raise UsageError(f"{name} is not a number.", hint="Load the page again.")
    return int(value)


def _block_view(block: Block, found: Sequence[Doubt]) -> BlockView:
    own = [doubt for doubt in found if doubt.block == block.order]
    low = any(doubt.kind == "block" for doubt in own)
    if block.kind is Kind.TABLE:
        rows = parse_table(block.text)
        if 0 < sum(map(len, rows)) <= MOST_CELLS:
            return BlockView(block, (), rows, low, frozenset(doubt.first for doubt in own if doubt.at is not None))
    return BlockView(block, tuple(_marks(block.text, own)), (), low)


def _marks(text: str, own: Sequence[Doubt]) -> Iterator[Mark]:
    """The text, its doubtful places apart."""
    at = 0
    for doubt in sorted((doubt for doubt in own if doubt.at is not None), key=lambda doubt: doubt.at or 0):
        start = doubt.at or 0
        if start < at or not doubt.first:
            continue
        if start > at:
            yield Mark(text[at:start])
        at = start + len(doubt.first)
        yield Mark(text[start:at], mark_id(doubt.key))
    if at < len(text):
        yield Mark(text[at:])


def mark_id(key: str) -> str:
    """A doubt's key as part of an element's id."""
    return key.replace(":", "-").replace("_", "-")


def _doubt_view(doubt: Doubt) -> DoubtView:
    placed = doubt.kind in ("only_second", "block") or doubt.at is not None
    return DoubtView(doubt, crop(doubt.box) if doubt.box else "", placed, mark_id(doubt.key))


def crop(box: Box) -> str:
    """The part of the picture to be shown for a place: some of what is around it, never a thin stripe."""
    width, height = max(box[2] - box[0], 1), max(box[3] - box[1], 1)
    beside, above = max(20, min(width // 3, 120)), max(8, min(height // 2, 30))
    x0, x1 = max(0, box[0] - beside), min(1000, box[2] + beside)
    y0, y1 = max(0, box[1] - above), min(1000, box[3] + above)
    return f"{min(x0, 999)},{min(y0, 999)},{max(x1, min(x0, 999) + 1)},{max(y1, min(y0, 999) + 1)}"


def _fields(page: Page) -> Iterator[tuple[str, str]]:
    """Named values: what task extract found."""
    for block in page.blocks:
        if block.kind is Kind.FIELD:
            name, colon, value = block.text.partition(":")
            yield (name.strip(), value.strip()) if colon else ("", block.text)
