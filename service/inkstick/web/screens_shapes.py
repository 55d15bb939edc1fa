"""What the API answers for the screens Documents, Failures and System."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from inkstick.selftest import SelfTest
from inkstick.store.strips import Strip
from inkstick.web.phrases import REASONS
from inkstick.web.screens_port import SystemInfo
from inkstick.web.shapes import Problem

MOST = 1000


class RunOf(BaseModel):
    level: str = Field(description="waiting, read, note, warn or failed: the worst of its pages.")
    start: int
    length: int


class StripOf(BaseModel):
    """A document's pages as a strip of at most 60 segments, neighbours of one level joined."""

    pages: int
    segments: int
    runs: list[RunOf]
    counts: dict[str, int] = Field(description="Pages by level.")

    @classmethod
    def of(cls, strip: Strip) -> StripOf:
        runs = [RunOf(level=run.level, start=run.start, length=run.length) for run in strip.runs]
        return cls(pages=strip.pages, segments=len(strip.levels), runs=runs, counts=strip.counts)


class StripMap(BaseModel):
    strips: dict[str, StripOf] = Field(description="By document; those not opened yet are left out.")


class Password(BaseModel):
    model_config = ConfigDict(extra="forbid")
    password: str | None = Field(default=None, max_length=1000, description="Tried on an encrypted document.")


class Bulk(BaseModel):
    model_config = ConfigDict(extra="forbid")
    action: Literal["retry", "delete"]
    ids: list[str] = Field(min_length=1, max_length=MOST)


class Refused(BaseModel):
    id: str
    error: Problem


class BulkDone(BaseModel):
    done: list[str]
    refused: list[Refused]


class Reason(BaseModel):
    code: str
    documents: int
    message: str
    hint: str


class ReasonList(BaseModel):
    reasons: list[Reason]

    @classmethod
    def of(cls, counts: dict[str, int]) -> ReasonList:
        found = {code: REASONS.get(code, REASONS["internal"]) for code in counts}
        return cls(
            reasons=[
                Reason(code=code, documents=counts[code], message=message, hint=hint)
                for code, (message, hint) in found.items()
            ]
        )


class ItemOf(BaseModel):
    name: str
    version: str
    sha256: str = Field(description="Of a package's RECORD or a model's manifest; empty if it has none.")


class LineOf(BaseModel):
    at: str
    level: str
    text: str = Field(description="Without any text or name of a document.")


class System(BaseModel):
    machine: dict[str, str]
    gpu: list[str]
    packages: list[ItemOf]
    models: list[ItemOf]
    minutes: int = Field(description="The stretch of time of each figure in pages.")
    pages: list[int] = Field(description="Pages read, the oldest first; the last day.")
    known_minutes: int = Field(description="So long has the service been counting, at most a day.")
    log: list[LineOf]
    offers: list[str] = Field(description="What this machine can be asked for: lock, power-off.")

    @classmethod
    def of(cls, info: SystemInfo) -> System:
        made_of, series = info.inventory, info.series
        return cls(
            machine=dict(made_of.machine),
            gpu=list(made_of.gpu),
            packages=[ItemOf(name=i.name, version=i.version, sha256=i.sha256) for i in made_of.packages],
            models=[ItemOf(name=i.name, version=i.version, sha256=i.sha256) for i in made_of.models],
            minutes=series.minutes,
            pages=list(series.pages),
            known_minutes=series.known,
            log=[LineOf(at=line.at, level=line.level, text=line.text) for line in info.log],
            offers=list(info.offers),
        )


class TriedOf(BaseModel):
    expected: str
    read: str
    engine: str
    seconds: float
    good: bool


class SelfTestOf(BaseModel):
    good: bool
    engine: str
    problem: str = Field(description="Why there is no verdict; empty otherwise.")
    pages: list[TriedOf]

    @classmethod
    def of(cls, test: SelfTest) -> SelfTestOf:
        pages = [
            TriedOf(expected=p.expected, read=p.read, engine=p.engine, seconds=p.seconds, good=p.good)
            for p in test.tried
        ]
        return cls(good=test.good, engine=test.engine, problem=test.problem, pages=pages)
