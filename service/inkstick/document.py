"""The one document model. Engines produce it, checks flag it, every output format is written from it.

A box is ``(x0, y0, x1, y1)`` in thousandths of the page *as read*: after the PDF's own /Rotate and after `rotation`.
`Page.width` and `Page.height` are the pixels that were read, so ``x * width / 1000`` is a pixel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

Box = tuple[int, int, int, int]


class Kind(StrEnum):
    """What a block is. Closed set, part of the contract."""

    TITLE = "title"
    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST = "list"
    TABLE = "table"
    FORMULA = "formula"
    FIGURE = "figure"
    CAPTION = "caption"
    HEADER = "header"
    FOOTER = "footer"
    CODE = "code"
    FIELD = "field"


class Flag(StrEnum):
    """What a person should know about a page. Closed set, part of the contract."""

    BLANK = "blank"
    ROTATED = "rotated"
    TILED = "tiled"
    LOW_DPI = "low_dpi"
    REPETITION = "repetition"
    TRUNCATED = "truncated"
    SUSPECT = "suspect"
    FALLBACK_CPU = "fallback_cpu"
    TEXT_LAYER = "text_layer"
    LOW_AGREEMENT = "low_agreement"
    TABLE_BROKEN = "table_broken"
    EDITED = "edited"


class Task(StrEnum):
    """What is asked of a page. Not every engine offers every task."""

    PARSE = "parse"
    TEXT = "text"
    SPOTTING = "spotting"
    TABLE = "table"
    FORMULA = "formula"
    CHART = "chart"
    EXTRACT = "extract"
    TRANSLATE = "translate"
    SUBTITLES = "subtitles"


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line (or table cell): where its text stands on the page. Feeds PDF, ALTO and hOCR."""

    text: str
    box: Box
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of the page in reading order.

    `text` is plain text, except HTML (one ``<table>`` element) for kind table and LaTeX without delimiters for kind
    formula. `lines` are the printed lines behind it, where known. `level` is a heading's depth, 1 to 6. `agreement`:
    how much of it a second reader read alike, 0 to 1; None: not judged.
    """

    order: int
    kind: Kind
    text: str
    box: Box | None = None
    score: float | None = None
    lines: tuple[Line, ...] = ()
    level: int | None = None
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """Text that only one of two readers has. `box`: where it stands, or about where it would."""

    text: str
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class NumberPair:
    """A number that two readers read differently, as each wrote it; "" where it saw none."""

    first: str
    second: str
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Second:
    """A second reader's opinion of a page. `agreement`: 0 to 1, over what was judged; None: nothing was.

    `not_judged`: why parts were left out, a closed set: formula, figure, script (one that the second reader cannot
    read), unclear (it read too badly there), edge (running headers and footers).
    """

    engine: str
    agreement: float | None = None
    digits: tuple[NumberPair, ...] = ()
    only_first: tuple[Passage, ...] = ()
    only_second: tuple[Passage, ...] = ()
    not_judged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """One page and its provenance.

    `rotation` is how many degrees clockwise the rendered page was turned before it was read (0, 90, 180, 270).
    `part` names the member of an archive or mail that the page comes from. `error` is ``{code, message, hint}`` of a
    page that could not be read: it then has no blocks and the document is `partial`. `second`: a second reader's
    opinion, where there is one.
    """

    number: int
    width: int
    height: int
    engine: str | None
    model: str | None = None
    prompt: str | None = None
    seconds: float = 0.0
    attempts: int = 1
    flags: tuple[Flag, ...] = ()
    score: float | None = None
    blocks: tuple[Block, ...] = ()
    rotation: int = 0
    part: str | None = None
    error: Mapping[str, str] | None = None
    second: Second | None = None

    def flagged(self, *flags: Flag) -> Page:
        """The page with these flags added, each once, in the order of the closed set."""
        wanted = {*self.flags, *flags}
        return replace(self, flags=tuple(flag for flag in Flag if flag in wanted))

    def text(self) -> str:
        """The page's blocks as text, a blank line between them; tables stay HTML."""
        return "\n\n".join(block.text for block in self.blocks if block.text)


@dataclass(frozen=True, slots=True)
class Part:
    """A member of an archive or a mail: its name there, type, and its pages ``first..last``: both 0 if it failed, but
    not if its error is that it was cut short."""

    name: str
    type: str
    first: int = 0
    last: int = 0
    error: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a document beside its pages. `type` is a media type such as ``application/pdf``."""

    name: str
    sha256: str
    size: int
    type: str
    task: Task = Task.PARSE
    versions: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()


def block_json(block: Block) -> dict[str, Any]:
    out: dict[str, Any] = {"order": block.order, "kind": block.kind.value, "text": block.text}
    out["box"] = list(block.box) if block.box else None
    out["score"] = block.score
    if block.level is not None:
        out["level"] = block.level
    if block.agreement is not None:
        out["agreement"] = block.agreement
    if block.lines:
        out["lines"] = [{"text": line.text, "box": list(line.box), "score": line.score} for line in block.lines]
    return out


def page_json(page: Page) -> dict[str, Any]:
    """A page as it stands in ``<name>.json`` and in a page checkpoint."""
    out: dict[str, Any] = {
        "number": page.number,
        "width": page.width,
        "height": page.height,
        "engine": page.engine,
        "model": page.model,
        "prompt": page.prompt,
        "seconds": round(page.seconds, 3),
        "attempts": page.attempts,
        "flags": [flag.value for flag in page.flags],
        "score": page.score,
        "rotation": page.rotation,
        "blocks": [block_json(block) for block in page.blocks],
    }
    if page.part is not None:
        out["part"] = page.part
    if page.second is not None:
        out["second"] = _second_json(page.second)
    if page.error is not None:
        out["error"] = dict(page.error)
    return out


def _second_json(second: Second) -> dict[str, Any]:
    return {
        "engine": second.engine,
        "agreement": second.agreement,
        "digits": [{"first": d.first, "second": d.second, "box": _list(d.box)} for d in second.digits],
        "only_first": [{"text": p.text, "box": _list(p.box)} for p in second.only_first],
        "only_second": [{"text": p.text, "box": _list(p.box)} for p in second.only_second],
        "not_judged": list(second.not_judged),
    }


def _list(box: Box | None) -> list[int] | None:
    return list(box) if box else None


def header_json(header: Header) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": header.name,
        "sha256": header.sha256,
        "size": header.size,
        "type": header.type,
        "task": header.task.value,
        "versions": dict(header.versions),
    }
    if header.parts:
        out["parts"] = [
            {"name": p.name, "type": p.type, "first": p.first, "last": p.last}
            | ({"error": dict(p.error)} if p.error else {})
            for p in header.parts
        ]
    return out


def _box(value: Any) -> Box | None:
    if value is None:
        return None
    x0, y0, x1, y1 = (int(v) for v in value)
    return (x0, y0, x1, y1)


def _block(data: Mapping[str, Any]) -> Block:
    lines = tuple(
        Line(line["text"], _box(line["box"]) or (0, 0, 0, 0), line["score"]) for line in data.get("lines", ())
    )
    return Block(
        order=data["order"],
        kind=Kind(data["kind"]),
        text=data["text"],
        box=_box(data.get("box")),
        score=data.get("score"),
        lines=lines,
        level=data.get("level"),
        agreement=data.get("agreement"),
    )


def _second(data: Mapping[str, Any] | None) -> Second | None:
    if data is None:
        return None
    return Second(
        engine=data["engine"],
        agreement=data["agreement"],
        digits=tuple(NumberPair(d["first"], d["second"], _box(d["box"])) for d in data["digits"]),
        only_first=tuple(Passage(p["text"], _box(p["box"])) for p in data["only_first"]),
        only_second=tuple(Passage(p["text"], _box(p["box"])) for p in data["only_second"]),
        not_judged=tuple(data["not_judged"]),
    )


def page_from_json(data: Mapping[str, Any]) -> Page:
    """Inverse of `page_json`. Raises KeyError, TypeError or ValueError on anything else."""
    return Page(
        number=data["number"],
        width=data["width"],
        height=data["height"],
        engine=data["engine"],
        model=data["model"],
        prompt=data["prompt"],
        seconds=data["seconds"],
        attempts=data["attempts"],
        flags=tuple(Flag(flag) for flag in data["flags"]),
        score=data["score"],
        blocks=tuple(_block(block) for block in data["blocks"]),
        rotation=data.get("rotation", 0),
        part=data.get("part"),
        error=data.get("error"),
        second=_second(data.get("second")),
    )


def header_from_json(data: Mapping[str, Any]) -> Header:
    """Inverse of `header_json`."""
    parts = tuple(Part(p["name"], p["type"], p["first"], p["last"], p.get("error")) for p in data.get("parts", ()))
    return Header(
        data["name"], data["sha256"], data["size"], data["type"], Task(data["task"]), dict(data["versions"]), parts
    )


_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""Control characters that JSON lets stand as they are, though a terminal that shows the file would act on them."""


def record_chunks(header: Header, pages: Iterable[Page]) -> Iterator[str]:
    """The full record ``<name>.json`` as text chunks, a page at a time, so that 20,000 pages need no memory."""
    yield '{"inkstick": 1,\n "document": ' + json.dumps(header_json(header), ensure_ascii=False) + ',\n "pages": ['
    separator = "\n  "
    for page in pages:
        yield separator + json.dumps(page_json(page), ensure_ascii=False).translate(_CONTROLS)
        separator = ",\n  "
    yield "]}\n"
