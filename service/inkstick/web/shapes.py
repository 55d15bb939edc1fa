"""What the API answers, as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from inkstick.engines.info import EngineInfo
from inkstick.web import words
from inkstick.web.language import Translate
from inkstick.web.office_port import DocumentInfo, Event, Hit, PageInfo, Stats
from inkstick.web.screens_port import Remaining


class Problem(BaseModel):
    """Every error: a stable code for programs, a sentence for people, and what to do about it."""

    code: str
    message: str
    hint: str


def problem(description: str) -> dict[str, Any]:
    """An answer with a `Problem`, for an address's documentation. By reference: from a model FastAPI would make a field
    for every such answer of every address, a third of all its fields."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


ERRORS: dict[int | str, dict[str, Any]] = {"default": problem("Any other error.")}
"""Of each address of the API."""


class Document(BaseModel):
    id: str
    seq: int = Field(description="Its place in the order of arrival.")
    name: str
    path: str = Field(description="Where it was dropped, below inbox/.")
    state: str = Field(description="queued, reading, done, partial, failed or blocked.")
    task: str
    priority: str
    received: str
    size: int | None
    sha256: str | None
    type: str | None = Field(description="Media type, from its content.")
    pages: int | None = Field(description="Number of pages; null until it was opened.")
    pages_done: int
    flags: list[str] = Field(description="What a person should know about its pages.")
    error: Problem | None = Field(description="Why it failed or waits.")
    results: str | None = Field(description="Its folder below results/; null before the end.")
    formats: list[str] = Field(description="Formats that can be fetched now.")
    attempts: int

    @classmethod
    def of(cls, row: DocumentInfo) -> Document:
        error = Problem(code=row.code, message=row.message or "", hint=row.hint or "") if row.code else None
        return cls(
            id=row.id,
            seq=row.seq,
            name=row.name,
            path=row.relpath,
            state=row.state,
            task=row.task,
            priority=row.priority,
            received=row.received,
            size=row.size,
            sha256=row.sha256,
            type=row.type,
            pages=row.pages,
            pages_done=row.pages_done,
            flags=list(row.flags),
            error=error,
            results=row.results,
            formats=list(row.formats),
            attempts=row.attempts,
        )


class DocumentList(BaseModel):
    documents: list[Document]
    after: str | None = Field(description="Pass it as `after` for the next ones; null at the end.")


class PageOf(BaseModel):
    number: int
    state: str = Field(description="waiting, read or failed.")
    engine: str | None
    flags: list[str]
    score: float | None
    seconds: float
    attempts: int

    @classmethod
    def of(cls, page: PageInfo) -> PageOf:
        return cls(
            number=page.number,
            state=page.state,
            engine=page.engine,
            flags=list(page.flags),
            score=page.score,
            seconds=page.seconds,
            attempts=page.attempts,
        )


class PageList(BaseModel):
    pages: list[PageOf]
    after: int | None = Field(description="Pass it as `after` for the next ones; null at the end.")


class Found(BaseModel):
    document: str
    name: str
    page: int
    snippet: str = Field(description="Plain text around the words.")

    @classmethod
    def of(cls, hit: Hit) -> Found:
        return cls(document=hit.document, name=hit.name, page=hit.page, snippet=hit.snippet)


class FoundList(BaseModel):
    hits: list[Found]


class EngineOf(BaseModel):
    name: str
    model: str
    role: str
    ready: bool
    state: str
    detail: str

    @classmethod
    def of(cls, engine: EngineInfo) -> EngineOf:
        return cls(
            name=engine.name,
            model=engine.model,
            role=engine.role,
            ready=engine.ready,
            state=engine.state,
            detail=engine.detail,
        )


class Says(BaseModel):
    level: str = Field(description="good, warn or bad.")
    text: str


class Status(BaseModel):
    """How things stand: what the first page shows."""

    documents: dict[str, int]
    engines: list[EngineOf]
    in_flight: int
    waiting: int
    pages_per_second: float
    blocked: dict[str, str] | None
    disk: dict[str, int]
    pages_left: int = Field(description="Of documents that have been opened.")
    documents_unopened: int
    seconds_left: float | None = Field(description="Roughly, as the last documents went; null if nobody can say.")
    says: dict[str, Says] = Field(description="The same in words: engine, disk, pace, left.")

    @classmethod
    def of(cls, stats: Stats, remaining: Remaining, _: Translate) -> Status:
        pairs = {
            "engine": words.engine(stats),
            "disk": words.disk(stats),
            "pace": ("good", words.pace(stats)),
            "left": ("good", words.left(remaining, stats)),
        }
        return cls(
            documents=dict(stats.documents),
            engines=[EngineOf.of(engine) for engine in stats.engines],
            in_flight=stats.in_flight,
            waiting=stats.waiting,
            pages_per_second=stats.pages_per_second,
            blocked={"code": stats.blocked[0], "message": stats.blocked[1]} if stats.blocked else None,
            pages_left=remaining.pages,
            documents_unopened=remaining.unopened,
            seconds_left=remaining.seconds(stats.pages_per_second),
            says={name: Says(level=level, text=_(text)) for name, (level, text) in pairs.items()},
            disk={"free": stats.disk_free, "total": stats.disk_total, "reserve": stats.disk_reserve},
        )


class Checks(BaseModel):
    status: str
    checks: dict[str, str] = {}


def event_json(event: Event) -> dict[str, Any]:
    return {"id": event.id, "kind": event.kind, "document": event.document, "data": dict(event.data)}
