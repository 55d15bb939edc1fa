"""A model's answer (Markdown with HTML tables and LaTeX, or JSON boxes) into blocks of the document model. Pure.

The answer is untrusted: a page can make a model write anything. Tables keep table, tr, td and th with rowspan and
colspan and nothing else; all other text stays text and is escaped by whoever writes HTML.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from inkstick.document import Block, Box, Kind, Line, Task
from inkstick.engines import otsl
from inkstick.results.tables import APART, RAISED, with_cells

_FENCE = re.compile(r"^```[^\n]*\n(.*?)(?:\n```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"<table\b.*?(?:</table\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_MATH = re.compile(r"\$\$(.+?)\$\$|\\\[((?:(?!\\\[).)+?)\\\]", re.DOTALL)
_SPECIAL = re.compile("|".join(f"(?:{p.pattern})" for p in (_FENCE, _TABLE, _MATH)), re.I | re.M | re.S)
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)(?:\s+#+)?$")
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_ROW = re.compile(r"^\s*\|.*\|\s*$")
_RULE = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*$")
_PIPE = re.compile(r"(?<!\\)\|")
_IMAGE = re.compile(r"^!\[[^\]]*\]\([^)]*\)$")
_COORDINATES = re.compile(r"[\s\[\]{}(),;:.\d\"'<>/-]+|<box>|</box>")
_LOC = re.compile(r"<\|LOC_(\d{1,4})\|>")
_LOC_PLACE = re.compile(r"(?:<\|LOC_\d{1,4}\|>){8}")
_LOC_MARK = re.compile(r"<\|(?:TEXT_START|TEXT_END|LOC_BEGIN|LOC_END|LOC_SEP)\|>")
FENCES = 8
"""So many fences around one another are taken off; a page can make a model write thousands."""
_LEFT = re.compile(r"<(?!/?[a-zA-Z][^<>]*>)")
"""A `<` that begins no tag: the parser would look for the tag's end through all that follows, for each of them."""
_SPOT_PLACE = re.compile(r"\((\d{1,4}),\s*(\d{1,4})\)\s*,\s*\((\d{1,4}),\s*(\d{1,4})\)")


def parse(answer: str, task: Task) -> tuple[Block, ...]:
    """The blocks of `answer`, numbered from 1. Never raises: what is not understood becomes paragraphs."""
    readers = {Task.SPOTTING: spots, Task.EXTRACT: fields, Task.FORMULA: formula, Task.CHART: chart}
    blocks = readers.get(task, markdown)(answer.strip())
    return tuple(replace(block, order=n) for n, block in enumerate(blocks, 1))


def parse_as(answer: str, task: Task, form: str | None) -> tuple[Block, ...]:
    """Like `parse`, for a model whose answers to `task` have a form of their own (`models.manifest.Answer`)."""
    readers = {"boxes_loc": loc_spots, "otsl": otsl_table, "latex": formula}
    if form not in readers:
        return parse(answer, task)
    return tuple(replace(block, order=n) for n, block in enumerate(readers[form](answer.strip()), 1))


def only_coordinates(answer: str) -> bool:
    """HunyuanOCR's degenerate answer on some figure pages: ``(156,68),(783,758)`` and no word."""
    return bool(answer.strip()) and "," in answer and _COORDINATES.fullmatch(answer.strip()) is not None


# -- Markdown


def markdown(answer: str, depth: int = 0) -> list[Block]:
    """`depth`: how many fences are around it that were taken off."""
    blocks: list[Block] = []
    position = 0
    for found in _SPECIAL.finditer(answer):
        blocks += _prose(answer[position : found.start()])
        blocks += _special(found.group(), depth)
        position = found.end()
    return blocks + _prose(answer[position:])


def _special(text: str, depth: int) -> list[Block]:
    if text.startswith("```"):
        fence = _FENCE.match(text)
        body = fence.group(1) if fence else text
        language = text[3 : text.find("\n")].strip().lower()
        whole = language in ("markdown", "md", "html") and depth < FENCES
        return markdown(body, depth + 1) if whole else [Block(0, Kind.CODE, body)]
    if text[:6].lower() == "<table":
        parsed = _parsed(text)
        blocks = [Block(0, Kind.CAPTION, parsed.caption()), Block(0, Kind.TABLE, parsed.clean())]
        return [block for block in blocks if block.text]
    found = _MATH.match(text)
    latex = (found.group(1) or found.group(2)).strip() if found else ""
    return [Block(0, Kind.FORMULA, latex)] if latex else []


def _prose(text: str) -> list[Block]:
    blocks: list[Block] = []
    for chunk in re.split(r"\n\s*\n", text):
        lines = [line.rstrip() for line in chunk.splitlines() if line.strip()]
        for kind, group in _groups(lines):
            blocks.append(_block(kind, group))
    return [block for block in blocks if block.text]


def _groups(lines: list[str]) -> Iterator[tuple[Kind, list[str]]]:
    """Runs of lines of one kind; a heading stands alone."""
    group: list[str] = []
    current = Kind.PARAGRAPH
    for line in lines:
        kind = _kind(line)
        if group and (kind is not current or kind is Kind.HEADING):
            yield current, group
            group = []
        current = kind
        group.append(line)
    if group:
        yield current, group


def _kind(line: str) -> Kind:
    if _HEADING.match(line):
        return Kind.HEADING
    if _ROW.match(line):
        return Kind.TABLE
    if _ITEM.match(line):
        return Kind.LIST
    return Kind.FIGURE if _IMAGE.match(line.strip()) else Kind.PARAGRAPH


def _block(kind: Kind, lines: list[str]) -> Block:
    if kind is Kind.HEADING:
        found = _HEADING.match(lines[0])
        assert found
        level = len(found.group(1))
        return Block(0, Kind.TITLE if level == 1 else Kind.HEADING, found.group(2).strip(), level=level)
    if kind is Kind.TABLE:
        return Block(0, Kind.TABLE, pipe_table(lines)) if len(lines) > 1 else Block(0, Kind.PARAGRAPH, lines[0].strip())
    return Block(0, kind, "\n".join(line.strip() if kind is not Kind.LIST else line for line in lines))


def pipe_table(lines: list[str]) -> str:
    """A Markdown table as HTML; the row over the rule of dashes is the heading."""
    rows = [_pipe_cells(line.strip()) for line in lines if not _RULE.match(line)]
    heading = len(lines) > 1 and _RULE.match(lines[1]) is not None
    out = []
    for n, row in enumerate(rows):
        tag = "th" if heading and n == 0 else "td"
        out.append("<tr>" + "".join(f"<{tag}>{html.escape(cell, quote=False)}</{tag}>" for cell in row) + "</tr>")
    return f"<table>{''.join(out)}</table>"


def _pipe_cells(line: str) -> list[str]:
    """Between the first pipe and the last: ``||2023|`` begins with an empty cell. A pipe after a backslash is text."""
    inner = line.removeprefix("|")
    inner = inner[:-1] if inner.endswith("|") and not inner.endswith("\\|") else inner
    return [cell.strip().replace("\\|", "|") for cell in _PIPE.split(inner)]


# -- HTML tables


class _Table(HTMLParser):
    """Rebuilds a table from the tags that are allowed; text of all others is kept, nested tables are flattened."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[tuple[str, str, list[str]]]] = []
        self._beside: list[str] = []
        self._cell: list[str] | None = None
        self._apart = self._raised = False
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._apart |= tag in APART
        self._raised = tag == "sup"
        if tag in ("script", "style"):
            self._hidden += 1
        elif tag == "tr":
            self.rows.append([])
            self._cell = None
        elif tag in ("td", "th"):
            if not self.rows:
                self.rows.append([])
            self._cell, self._apart = [], False
            self.rows[-1].append((tag, _spans(attrs), self._cell))
        elif tag == "br" and self._cell is not None:
            self._cell.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._apart |= tag in APART
        self._raised = False
        if tag in ("script", "style"):
            self._hidden = max(0, self._hidden - 1)
        elif tag in ("td", "th", "tr"):
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        if self._cell is None:
            self._beside.append(data)
            return
        if self._apart and data.strip():
            self._cell.append("\n")
            self._apart = False
        self._cell.append(data.translate(RAISED) if self._raised else data)

    def caption(self) -> str:
        """What stands in no cell: a caption, mostly."""
        return " ".join(" ".join(self._beside).split())

    def clean(self) -> str:
        """HTML with nothing in it but rows and cells; "" if there is no cell."""
        rows = list(with_cells(self.rows, _tall))
        return "<table>" + "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows) + "</table>" if rows else ""


def _spans(attrs: list[tuple[str, str | None]]) -> str:
    found = {name: value for name, value in attrs if name in ("rowspan", "colspan") and value}
    return "".join(
        f' {name}="{int(value)}"'
        for name, value in found.items()
        if value and re.fullmatch(r"\d{1,3}", value) and int(value) > 1
    )


def _tall(cell: tuple[str, str, list[str]]) -> int:
    found = re.search(r'rowspan="(\d+)"', cell[1])
    return int(found[1]) if found else 1


def _parsed(text: str) -> _Table:
    parser = _Table()
    parser.feed(_LEFT.sub("&lt;", text))
    parser.close()
    return parser


def _cell(cell: tuple[str, str, list[str]]) -> str:
    tag, spans, pieces = cell
    return f"<{tag}{spans}>{html.escape(''.join(pieces).strip(), quote=False)}</{tag}>"


# -- the other tasks


def formula(answer: str) -> list[Block]:
    """The whole answer is one formula, with or without delimiters."""
    latex = re.sub(r"^(\$\$?|\\\[|\\\()|(\$\$?|\\\]|\\\))$", "", answer.strip()).strip()
    return [Block(0, Kind.FORMULA, latex)] if latex else []


def chart(answer: str) -> list[Block]:
    """Mermaid without a fence is code as well; PaddleOCR-VL gives rows of ``a | b``, the first one the heading."""
    if re.match(r"(graph|flowchart|sequenceDiagram|pie|gantt|mindmap|classDiagram|stateDiagram)\b", answer):
        return [Block(0, Kind.CODE, answer)]
    lines = [line for line in answer.splitlines() if line.strip()]
    if len(lines) > 1 and all("|" in line and not line.lstrip().startswith("|") for line in lines):
        rule = "|".join("---" for _ in lines[0].split("|"))
        return [Block(0, Kind.TABLE, pipe_table([lines[0], rule, *lines[1:]]))]
    return markdown(answer)


def otsl_table(answer: str) -> list[Block]:
    """PaddleOCR-VL's table tokens; an answer without them is read as Markdown."""
    if not otsl.has_tokens(answer):
        return markdown(answer)
    rebuilt = otsl.table(answer)
    return [Block(0, Kind.TABLE, rebuilt)] if rebuilt else []


def loc_spots(answer: str) -> list[Block]:
    """Lines, each followed by the four corners of its place as eight ``<|LOC_n|>``, 0 to 1000 over the image. The box
    is the smallest upright one around them. Without places: paragraphs."""
    plain = _LOC_MARK.sub("", answer)
    found, position = [], 0
    for place in _LOC_PLACE.finditer(plain):
        words = _LOC.sub("", plain[position : place.start()]).strip()
        position = place.end()
        if words:
            values = [int(value) for value in _LOC.findall(place.group())]
            box = _clamped([min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])])
            found.append(Block(0, Kind.PARAGRAPH, words, box, None, (Line(words, box),)))
    rest = markdown(_LOC.sub("", plain[position:]).strip())
    return found + rest


def fields(answer: str) -> list[Block]:
    """JSON object: a field a key, ``key: value``. Anything else: paragraphs."""
    value = _json(answer)
    if not isinstance(value, dict):
        return markdown(answer)
    return [Block(0, Kind.FIELD, f"{key}: {_plain(item)}") for key, item in value.items()]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def spots(answer: str) -> list[Block]:
    """Lines with boxes: JSON (1.5) or ``text(x1,y1),(x2,y2)`` (1.0). A cut-off JSON array gives its whole elements."""
    value = _json(answer)
    if value is None:
        value = [item for item in map(_json, re.findall(r"\{[^{}]*\}", answer)) if item is not None]
    found = [spot for spot in map(_spot, value if isinstance(value, list) else []) if spot]
    rest = ""
    if not found:
        found, rest = _written_spots(answer)
    if not found:
        return [] if only_coordinates(answer) else markdown(answer)
    return [Block(0, Kind.PARAGRAPH, text, box, None, (Line(text, box),)) for text, box in found] + markdown(rest)


def _written_spots(answer: str) -> tuple[list[tuple[str, Box]], str]:
    """What stands before each place, and what comes after the last."""
    found, position = [], 0
    for place in _SPOT_PLACE.finditer(answer):
        words = " ".join(answer[position : place.start()].split())
        position = place.end()
        if words:
            found.append((words, _clamped([int(value) for value in place.groups()])))
    return found, answer[position:]


def _spot(item: Any) -> tuple[str, Box] | None:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str) or not item["text"].strip():
        return None
    box = item.get("box")
    if not isinstance(box, list) or len(box) != 4 or not all(_finite(v) for v in box):
        return None
    return item["text"].strip(), _clamped(box)


def _finite(value: Any) -> bool:
    """A number; JSON as Python reads it has NaN and Infinity too."""
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _clamped(values: list[Any]) -> Box:
    x0, y0, x1, y1 = (min(1000, max(0, round(v))) for v in values)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _json(text: str) -> Any:
    fence = _FENCE.search(text)
    body = (fence.group(1) if fence else text).strip()
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
