"""Lines and regions become blocks of the document model, in reading order. Pure functions.

Every line that was read ends up in exactly one block: in the region that covers it, or in a paragraph of its own.
"""

from __future__ import annotations

import html
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from inkstick.document import Block, Box, Kind, Line
from inkstick.engines.grid import Grid, place
from inkstick.engines.layout import Region
from inkstick.engines.ocr_lines import TextLine
from inkstick.engines.order import printed_rows, reading_order

KINDS = {
    "title": Kind.TITLE,
    "section-header": Kind.HEADING,
    "text": Kind.PARAGRAPH,
    "footnote": Kind.PARAGRAPH,
    "list-item": Kind.LIST,
    "table": Kind.TABLE,
    "formula": Kind.FORMULA,
    "picture": Kind.FIGURE,
    "caption": Kind.CAPTION,
    "page-header": Kind.HEADER,
    "page-footer": Kind.FOOTER,
}
_CJK = "[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\u3000-\u303f]"
_CJK_END = re.compile(_CJK + "$")
_CJK_START = re.compile("^" + _CJK)
_HYPHEN = re.compile(r"([^\W\d_]{2,})-$")
_CONTINUED = re.compile(r"^([^\W\d_]{2,})")


@dataclass(frozen=True, slots=True)
class Sheet:
    """The page that is being put together: its size in pixels and all of its lines."""

    width: int
    height: int
    lines: Sequence[TextLine]

    @property
    def line_height(self) -> float:
        return statistics.median(line.height for line in self.lines) if self.lines else 1.0

    @property
    def standing(self) -> bool:
        """Most of the page is Chinese or Japanese that runs from top to bottom, its columns from right to left."""
        return 2 * sum(len(line.text) for line in self.lines if stands(line)) > sum(
            len(line.text) for line in self.lines
        )

    def box(self, box: Sequence[float]) -> Box:
        """Pixels to thousandths of the page."""
        x0, y0, x1, y1 = box
        across, down = 1000 / self.width, 1000 / self.height
        return (_milli(x0 * across), _milli(y0 * down), _milli(x1 * across), _milli(y1 * down))

    def printed(self, index: int) -> Line:
        line = self.lines[index]
        return Line(line.text, self.box(line.box), round(line.score, 4))


def _milli(value: float) -> int:
    return min(1000, max(0, round(value)))


def parse(sheet: Sheet, regions: Sequence[Region]) -> list[Block]:
    """Task parse: headings, paragraphs, lists, tables and the rest."""
    parts = _ordered(sheet, [*regions, *_strays(sheet, regions)])
    blocks = [_block(sheet, part) for part in parts]
    return _numbered(_lists_joined([block for block in blocks if block.lines or block.kind is Kind.FIGURE]))


def text(sheet: Sheet, regions: Sequence[Region]) -> list[Block]:
    """Task text: plain paragraphs; a table's rows become lines."""
    plain = [replace(region, kind="table" if region.kind == "table" else "text") for region in regions]
    parts = _ordered(sheet, [*plain, *_strays(sheet, plain)])
    return _numbered([_paragraph(sheet, part, rows=part.kind == "table") for part in parts if part.lines])


def tables(sheet: Sheet, regions: Sequence[Region]) -> list[Block]:
    """Task table: the tables alone; a page without a recognised one is laid out as one table."""
    found = [region for region in regions if region.kind == "table" and region.lines]
    if not found and sheet.lines:
        found = [Region("table", _around(sheet, range(len(sheet.lines))), tuple(range(len(sheet.lines))))]
    return _numbered([_block(sheet, part) for part in _ordered(sheet, found)])


def spots(sheet: Sheet) -> list[Block]:
    """Task spotting: one block for each printed line."""
    regions = [Region("text", line.box, (index,)) for index, line in enumerate(sheet.lines)]
    printed = [sheet.printed(region.lines[0]) for region in _sorted(sheet, regions)]
    return _numbered([Block(0, Kind.PARAGRAPH, line.text, line.box, line.score, (line,)) for line in printed])


def _strays(sheet: Sheet, regions: Sequence[Region]) -> list[Region]:
    """The lines that no region covers, each a region of its own."""
    owned = {index for region in regions for index in region.lines}
    return [Region("text", line.box, (index,)) for index, line in enumerate(sheet.lines) if index not in owned]


def _ordered(sheet: Sheet, regions: Sequence[Region]) -> list[Region]:
    """Headers first, footers last, the rest as it is read."""
    first = [region for region in regions if region.kind == "page-header"]
    last = [region for region in regions if region.kind == "page-footer"]
    rest = [region for region in regions if region.kind not in ("page-header", "page-footer")]
    return [region for part in (first, rest, last) for region in _sorted(sheet, part)]


def _sorted(sheet: Sheet, regions: list[Region]) -> list[Region]:
    boxes = [_around(sheet, region.lines) if region.lines else region.box for region in regions]
    high = sheet.line_height
    if sheet.standing:
        boxes = [(sheet.width - x1, y0, sheet.width - x0, y1) for x0, y0, x1, y1 in boxes]
        high = statistics.median(line.box[2] - line.box[0] for line in sheet.lines)
    return [regions[index] for index in reading_order(boxes, high)]


def _around(sheet: Sheet, indexes: Sequence[int] | range) -> tuple[float, float, float, float]:
    boxes = [sheet.lines[index].box for index in indexes]
    return (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))


def _block(sheet: Sheet, region: Region) -> Block:
    kind = KINDS.get(region.kind, Kind.PARAGRAPH)
    if kind is Kind.TABLE:
        return _table(sheet, region)
    block = replace(_paragraph(sheet, region, rows=kind is Kind.FIGURE), kind=kind)
    if kind is Kind.FIGURE:
        return replace(block, box=sheet.box(region.box))
    return replace(block, level=_level(sheet, region)) if kind in (Kind.HEADING, Kind.TITLE) else block


def _paragraph(sheet: Sheet, region: Region, rows: bool = False) -> Block:
    """A block of running text. `rows`: keep each printed row a line, for what is not running text."""
    groups = _rows(sheet, region.lines)
    ordered = [index for group in groups for index in group]
    written = [" ".join(sheet.lines[index].text.strip() for index in group) for group in groups]
    joined = "\n".join(written) if rows else join_rows(written, _words(sheet))
    box = _around(sheet, ordered) if ordered else region.box
    return Block(0, Kind.PARAGRAPH, joined, sheet.box(box), _score(sheet, ordered), _printed(sheet, ordered))


def stands(line: TextLine) -> bool:
    x0, y0, x1, y1 = line.box
    return len(line.text) > 1 and y1 - y0 > 2 * (x1 - x0) and bool(_CJK_START.search(line.text))


def _rows(sheet: Sheet, indexes: Sequence[int]) -> list[list[int]]:
    if indexes and all(stands(sheet.lines[index]) for index in indexes):
        return [[index] for index in sorted(indexes, key=lambda index: -sheet.lines[index].box[2])]
    return [[indexes[place] for place in row] for row in printed_rows([sheet.lines[index].box for index in indexes])]


def _printed(sheet: Sheet, indexes: Sequence[int]) -> tuple[Line, ...]:
    return tuple(sheet.printed(index) for index in indexes)


def _score(sheet: Sheet, indexes: Sequence[int]) -> float | None:
    """Mean of the lines' scores, weighted by their length."""
    total = sum(len(sheet.lines[index].text) for index in indexes)
    if not total:
        return None
    return round(sum(sheet.lines[index].score * len(sheet.lines[index].text) for index in indexes) / total, 4)


def page_score(lines: Sequence[TextLine]) -> float | None:
    """The score of the whole page, weighted by length; None for a page without text."""
    return _score(Sheet(1, 1, lines), range(len(lines)))


def _words(sheet: Sheet) -> frozenset[str]:
    return frozenset(word for line in sheet.lines for word in re.findall(r"[^\W\d_]+", line.text.lower()))


def join_rows(rows: Sequence[str], words: frozenset[str] = frozenset()) -> str:
    """Printed rows to one paragraph: no space between Chinese or Japanese, one elsewhere.

    A hyphen at a row's end is dropped only if the whole word stands elsewhere on the page (`words`, lower case):
    "inter-" + "national" may be one word, "well-" + "known" is not, and guessing would change what is printed.
    """
    joined = ""
    for row in rows:
        joined = _join(joined, row, words) if joined else row
    return joined


def _join(before: str, after: str, words: frozenset[str]) -> str:
    broken, rest = _HYPHEN.search(before), _CONTINUED.search(after)
    if broken and rest and after[0].islower():
        whole = (broken.group(1) + rest.group(1)).lower()
        return (before[:-1] if whole in words else before) + after
    if _CJK_END.search(before) and _CJK_START.search(after):
        return before + after
    return f"{before} {after}"


def _level(sheet: Sheet, region: Region) -> int:
    """Depth of a heading from its size against the page's running text, so that it means the same on every page."""
    if region.kind == "title" or not region.lines:
        return 1
    size = statistics.median(type_size(sheet.lines[index]) for index in region.lines)
    ratio = size / statistics.median(type_size(line) for line in sheet.lines)
    return 1 if ratio >= 1.5 else 2 if ratio >= 1.15 else 3


def type_size(line: TextLine) -> float:
    """Size of the print, in pixels, from the line's width and what its characters are wide in an ordinary font.

    Steadier than the height of the box, which the detector finds to a few pixels only."""
    ems = sum(_ems(character) for character in line.text.strip())
    return (line.box[2] - line.box[0]) / ems if ems else line.height


def _ems(character: str) -> float:
    if character > "\u2e7f":
        return 1.0
    if character in " .,:;'|!ijltfI()[]":
        return 0.28
    return 0.67 if character.isupper() or character in "mwMW" else 0.5


def _lists_joined(blocks: list[Block]) -> list[Block]:
    """List items that follow one another become one list, an item a line."""
    joined: list[Block] = []
    for block in blocks:
        if block.kind is Kind.LIST and joined and joined[-1].kind is Kind.LIST:
            joined[-1] = _both(joined[-1], block)
        else:
            joined.append(block)
    return joined


def _both(one: Block, other: Block) -> Block:
    lines = one.lines + other.lines
    weights = [(line.score or 0.0, len(line.text)) for line in lines]
    total = sum(weight for _, weight in weights)
    score = round(sum(score * weight for score, weight in weights) / total, 4) if total else None
    return replace(one, text=f"{one.text}\n{other.text}", box=_union(one.box, other.box), lines=lines, score=score)


def _union(one: Box | None, other: Box | None) -> Box | None:
    if one is None or other is None:
        return one or other
    return (min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3]))


def _table(sheet: Sheet, region: Region) -> Block:
    boxes = [sheet.lines[index].box for index in region.lines]
    grid = place(boxes, region.box, region.rows, region.columns)
    ordered = [region.lines[member] for cell in grid.cells for member in cell.members]
    return Block(
        0, Kind.TABLE, _html(sheet, region, grid), sheet.box(_around(sheet, ordered) if ordered else region.box),
        _score(sheet, ordered), _printed(sheet, ordered),
    )  # fmt: skip


def _html(sheet: Sheet, region: Region, grid: Grid) -> str:
    rows = []
    for number in range(grid.rows):
        cells = [cell for cell in grid.cells if cell.row == number]
        rows.append(
            "<tr>" + "".join(_cell(sheet, region, cell.members, cell.tall, cell.wide) for cell in cells) + "</tr>"
        )
    return "<table>" + "".join(rows) + "</table>"


def _cell(sheet: Sheet, region: Region, members: Sequence[int], tall: int, wide: int) -> str:
    rows = _rows(sheet, [region.lines[member] for member in members])
    written = join_rows([" ".join(sheet.lines[index].text.strip() for index in row) for row in rows])
    span = (f' rowspan="{tall}"' if tall > 1 else "") + (f' colspan="{wide}"' if wide > 1 else "")
    return f"<td{span}>{html.escape(written, quote=False)}</td>"


def _numbered(blocks: Sequence[Block]) -> list[Block]:
    return [replace(block, order=number) for number, block in enumerate(blocks, start=1)]
