"""One page read at once: a person or a program waits for it, and nothing of it stays on the disk.

The page goes the way of all pages (parser, reader, checks), before those of any document. What is asked for is
compared with what the engines here can do first: a task that none of them offers is refused with the name of a model
that does, and so are words of one's own for an engine that takes none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from inkstick.document import Page, Task
from inkstick.engines.info import EngineInfo
from inkstick.engines.protocol import Request
from inkstick.errors import Unsupported, UsageError, by_code
from inkstick.models import catalogue
from inkstick.models.manifest import Manifest
from inkstick.pages.view import Probe, TextLayerMode
from inkstick.profile import EngineChoice, Priority, Profile
from inkstick.reading.reader import Job, Reader
from inkstick.reading.source import PartFile
from inkstick.work import CONTAINERS, identify_file

Told = Callable[[str | None], None]
"""Called with the code of what the page waits for, and with None when it goes on."""


def untold(code: str | None) -> None:
    """Nobody wants to know what the page waits for."""


@dataclass(frozen=True, slots=True)
class PageOf:
    """A page of a document that is here: the document's id, and the page's number from 1."""

    document: str
    number: int


@dataclass(frozen=True, slots=True)
class Asked:
    """`number`: which page of the file, from 1. `picture`: pixels of the longer side of the picture for people that is
    wanted with the answer; 0: none."""

    profile: Profile
    number: int = 1
    picture: int = 0


@dataclass(frozen=True, slots=True)
class PageRead:
    """The page as it was read, how many pages its file has, and the picture (PNG or JPEG, upright) if it was wanted."""

    page: Page
    pages: int
    picture: bytes = b""


@dataclass(frozen=True, slots=True)
class Offer:
    """A task, or None for words of one's own. `engines`: names of those here that do it. `models`: titles of models
    that do it, the default first; for a task also where an engine here does."""

    task: Task | None
    engines: tuple[str, ...]
    models: tuple[str, ...]


class Document(Protocol):
    """What `pages.pool` gives for an open document."""

    @property
    def probe(self) -> Probe: ...

    async def image(self, number: int, *, max_side: int, rotation: int = 0) -> bytes: ...

    async def close(self) -> None: ...


class Opener(Protocol):
    async def open(self, path: Path, media_type: str, *, passwords: tuple[str, ...] = ()) -> Any: ...


def profile_of(request: Request) -> Profile:
    """What a request of the plain API asks for, as a profile."""
    return Profile(
        task=request.task,
        keys=request.keys,
        to=request.to,
        prompt=request.prompt,
        text_layer=TextLayerMode.SKIP,
        priority=Priority.PERSON,
    )


# -- what can be asked


def offers(engines: Sequence[EngineInfo], models: Sequence[Manifest] | None = None) -> tuple[Offer, ...]:
    """Every task and, last, words of one's own, with who does it here and which models would."""
    known = _models() if models is None else models
    tasks = [Offer(task, _able(engines, task), tuple(m.title for m in known if task in m.offers)) for task in Task]
    prompted = tuple(engine.name for engine in engines if engine.prompts)
    return (*tasks, Offer(None, prompted, tuple(model.title for model in known if model.serve)))


def check(profile: Profile, engines: Sequence[EngineInfo]) -> Profile:
    """The profile, bound to the engine that takes words of one's own if it has any: the CPU engine, taking over, would
    leave them out and nobody would see it. Raises `Unsupported` if no engine here can do what is asked for."""
    named = [engine for engine in engines if profile.engine in (EngineChoice.AUTO, engine.name)]
    if not named:
        here = ", ".join(engine.name for engine in engines) or "none"
        raise Unsupported(f"The engine {profile.engine} is not set up here.", hint=f"Engines here: {here}.")
    found = {offer.task: offer for offer in offers(named)}
    if profile.prompt is not None and not found[None].engines:
        raise refusal(found[None], named)
    if not found[profile.task].engines:
        raise refusal(found[profile.task], named)
    if profile.prompt is None or found[None].engines[0] not in list(EngineChoice):
        return profile
    return replace(profile, engine=EngineChoice(found[None].engines[0]))


def refusal(offer: Offer, engines: Sequence[EngineInfo]) -> Unsupported:
    """Why nobody here does it, and which model does."""
    here = " and ".join(f"{engine.name} ({engine.model})" for engine in engines) or "No engine"
    verb = "take" if len(engines) > 1 else "takes"
    offer_verb = "do" if len(engines) > 1 else "does"
    said = f"{here} {verb} no prompt" if offer.task is None else f"{here} {offer_verb} not offer the task {offer.task}"
    hint = f"Models that do: {', '.join(offer.models)}." if offer.models else "No model in the catalogue does."
    return Unsupported(f"{said}.", hint=f"{hint} They need a GPU; see `inkstick models list`.")


def _able(engines: Sequence[EngineInfo], task: Task) -> tuple[str, ...]:
    return tuple(engine.name for engine in engines if task in engine.tasks)


@cache
def _models() -> tuple[Manifest, ...]:
    """The models to name: those of the catalogue that a server offers, in its order."""
    found = catalogue.read()
    offered = {model.id: model for task in Task for model in found.offering(task) if model.serve}
    return tuple(model for model in found.manifests.values() if model.id in offered)


# -- reading


async def written(data: bytes, path: Path, max_bytes: int) -> tuple[Path, str]:
    """Put the bytes into a scratch file: its path and media type. Raises what `identify_file` does, and `UsageError`
    for an archive."""
    await asyncio.to_thread(path.write_bytes, data)
    content = await asyncio.to_thread(identify_file, path, max_bytes)
    if content.type in CONTAINERS:
        raise UsageError("Only a page can be read at once, not an archive.", hint="Upload it as a document.")
    return path, content.type


async def read(
    pool: Opener, reader: Reader, path: Path, media_type: str, asked: Asked, told: Told = untold
) -> PageRead:
    """Read page `asked.number` of a file. Raises `UsageError` (not_found) beyond its last page, DocumentError for a
    file that cannot be opened, and the page's own error. Cancelling it stops the engine too."""
    document: Document = await pool.open(path, media_type, passwords=asked.profile.passwords)
    try:
        total = document.probe.pages
        if asked.number > total:
            raise UsageError(
                f"There is no page {asked.number}: the file has {total}.", hint="Ask for another.", code="not_found"
            )
        page = await _read(reader, path, media_type, asked, total, told)
        if page.error is not None:
            raise by_code(page.error["code"], page.error["message"], page.error["hint"])
        picture = await _picture(document, asked, page)
    finally:
        await document.close()
    return PageRead(page, total, picture)


async def _read(reader: Reader, path: Path, media_type: str, asked: Asked, total: int, told: Told) -> Page:
    pages: list[Page] = []

    async def on_page(page: Page) -> None:
        pages.append(page)

    async def on_blocked(code: str) -> None:
        told(code)

    async def on_unblocked() -> None:
        told(None)

    job = Job(
        id=f"at once {id(pages)}",
        parts=(PartFile(None, path, media_type),),
        profile=asked.profile,
        order=0,
        on_page=on_page,
        on_blocked=on_blocked,
        on_unblocked=on_unblocked,
        have=frozenset(range(1, total + 1)) - {asked.number},
    )
    ticket = reader.submit(job)
    try:
        await ticket
    except asyncio.CancelledError:
        ticket.cancel()
        raise
    return pages[0]


async def _picture(document: Document, asked: Asked, page: Page) -> bytes:
    if not asked.picture:
        return b""
    return await document.image(asked.number, max_side=asked.picture, rotation=page.rotation)
