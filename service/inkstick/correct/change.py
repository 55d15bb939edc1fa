"""A page with a person's changes. Pure: a page and changes in, a page out.

What a person wrote has no score and no second opinion: both were about other words. A page whose text changed has the
flag `edited`. When the last place that the second reader doubted is settled, `low_agreement` goes: somebody has looked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from inkstick.correct.doubt import SETTLED, Doubt, doubts, occurrences
from inkstick.correct.lines import follow
from inkstick.document import Block, Flag, Kind, Line, Page, Second
from inkstick.errors import UsageError
from inkstick.results.tables import Cell, Rows, parse_table, plain_text, rows_html

LONGEST = 1_000_000
"""Characters that one block may have."""


@dataclass(frozen=True, slots=True)
class Text:
    """A block's whole text, or with `row` and `cell` (from 0, as written in its rows) that of a table's cell. An empty
    text takes the block out."""

    block: int
    text: str
    row: int | None = None
    cell: int | None = None


@dataclass(frozen=True, slots=True)
class Settle:
    """A doubt that was looked at. `text`: what is printed there instead; None: the text is right as it is."""

    doubt: str
    text: str | None = None


Change = Text | Settle


def apply(page: Page, changes: Iterable[Change]) -> Page:
    """`page` as it is after `changes`. Raises UsageError for one that the page has no place for."""
    settled: set[str] = set()
    known = {doubt.key: doubt for doubt in doubts(page)}
    changed = page
    for change in _last_places_first(changes, known):
        if isinstance(change, Text):
            changed = _with_text(changed, change)
            settled.add(f"block:{change.block}")
        else:
            doubt = known.get(change.doubt)
            if doubt is None:
                raise UsageError("There is no such doubtful place.", hint="Load the page again.", code="not_found")
            changed = changed if change.text is None else _corrected(changed, doubt, change.text)
            settled.add(doubt.key)
    marked = changed if _same_text(page, changed) else changed.flagged(Flag.EDITED)
    return _settled(marked, settled)


def _last_places_first(changes: Iterable[Change], known: Mapping[str, Doubt]) -> Iterator[Change]:
    """The changes in their order, but the settled doubts among each other from the end of a text to its beginning: so
    none moves the place of another."""
    given = list(changes)
    settles = sorted(
        (change for change in given if isinstance(change, Settle)),
        key=lambda change: known[change.doubt].at or 0 if change.doubt in known else 0,
        reverse=True,
    )
    following = iter(settles)
    return (next(following) if isinstance(change, Settle) else change for change in given)


def reread(page: Page, reading: Page) -> Page:
    """`page` with what another reading made of it."""
    kept = replace(reading, number=page.number, part=page.part)
    return kept.flagged(Flag.EDITED)


def _same_text(one: Page, other: Page) -> bool:
    return [block.text for block in one.blocks] == [block.text for block in other.blocks]


def _block(page: Page, order: int) -> Block:
    for block in page.blocks:
        if block.order == order:
            return block
    raise UsageError("There is no such block on this page.", hint="Load the page again.", code="not_found")


def _with_text(page: Page, change: Text) -> Page:
    block = _block(page, change.block)
    text = clean(change.text)
    if change.row is not None:
        text = _with_cell(block, change.row, change.cell or 0, text)
    elif block.kind is Kind.TABLE and text:
        raise UsageError("A table is changed cell by cell.", hint="Say which row and cell.")
    return _replaced(page, block, text)


def clean(text: str) -> str:
    """What people may write: any characters but controls; line ends as ``\\n``."""
    if len(text) > LONGEST:
        raise UsageError("The text is too long for one block.", hint=f"It may have {LONGEST:,} characters.")
    flat = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    return "".join(char for char in flat if char in "\n\t" or (ord(char) >= 32 and ord(char) != 127)).strip()


def _replaced(page: Page, block: Block, text: str) -> Page:
    if text == block.text:
        return page
    new = _rewritten(block, text)
    blocks = tuple(new if one.order == block.order else one for one in page.blocks)
    return replace(page, blocks=tuple(one for one in blocks if one is not None))


def _rewritten(block: Block, text: str) -> Block | None:
    """The block with another text, its lines following; None when nothing is left of it."""
    if not text:
        return None
    table = block.kind is Kind.TABLE
    lines = follow(plain_text(block.text), plain_text(text), block.lines) if table else (
        follow(block.text, text, block.lines)
    )  # fmt: skip
    return replace(block, text=text, lines=lines, score=None, agreement=None)


def _with_cell(block: Block, row: int, cell: int, text: str) -> str:
    """The table's HTML, made anew from its cells, one of them changed."""
    rows = parse_table(block.text) if block.kind is Kind.TABLE else ()
    if not (0 <= row < len(rows) and 0 <= cell < len(rows[row])):
        raise UsageError("There is no such cell in this table.", hint="Load the page again.", code="not_found")
    return rows_html(_replace_cell(rows, row, cell, text))


def _replace_cell(rows: Rows, row: int, cell: int, text: str) -> Rows:
    def own(y: int, x: int, old: Cell) -> Cell:
        return replace(old, text=text) if (y, x) == (row, cell) else old

    return tuple(tuple(own(y, x, old) for x, old in enumerate(line)) for y, line in enumerate(rows))


# -- doubts


def _corrected(page: Page, doubt: Doubt, text: str) -> Page:
    text = clean(text)
    if doubt.kind == "only_second":
        return _inserted(page, doubt, text) if text else page
    if doubt.kind == "block":
        assert doubt.block is not None
        return _with_text(page, Text(doubt.block, text))
    if doubt.block is None or doubt.at is None:
        raise UsageError(
            "Where this stands in the text is not certain.",
            hint="Change the text of the block itself.",
            code="unplaced",
        )
    block = _block(page, doubt.block)
    at = _place(block, doubt.first, doubt.at)
    if at is None:
        raise UsageError("The text has changed there.", hint="Load the page again.", code="conflict")
    new = _escaped(block, text)
    return _replaced(page, block, (block.text[:at] + new + block.text[at + len(doubt.first) :]).strip())


def _place(block: Block, first: str, at: int) -> int | None:
    """Where in the block's text `first` stands: where it stood, or the only place where it does now."""
    places = occurrences(block, first)
    if at in places:
        return at
    return places[0] if len(places) == 1 else None


def _escaped(block: Block, text: str) -> str:
    """What is put into the HTML of a table is text there too."""
    if block.kind is not Kind.TABLE:
        return text
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _inserted(page: Page, doubt: Doubt, text: str) -> Page:
    """A paragraph that was left out, after the block above it. It gets an order that nobody has; the place counts."""
    order = max((block.order for block in page.blocks), default=0) + 1
    lines = (Line(" ".join(text.split()), doubt.box),) if doubt.box else ()
    new = Block(order, Kind.PARAGRAPH, text, doubt.box, lines=lines)
    place = next((n + 1 for n, block in enumerate(page.blocks) if block.order == doubt.block), 0)
    return replace(page, blocks=(*page.blocks[:place], new, *page.blocks[place:]))


def _settled(page: Page, keys: set[str]) -> Page:
    second = _without(page.second, keys) if page.second else None
    scored = tuple(
        replace(block, score=None) if f"block:{block.order}" in keys else block for block in page.blocks
    )  # fmt: skip
    gone = {flag for flag in SETTLED if f"flag:{flag.value}" in keys}
    if second is not None and page.second != second and not _open(second):
        gone.add(Flag.LOW_AGREEMENT)
    return replace(page, second=second, blocks=scored, flags=tuple(flag for flag in page.flags if flag not in gone))


def _without(second: Second, keys: set[str]) -> Second:
    return replace(
        second,
        digits=tuple(one for n, one in enumerate(second.digits) if f"digits:{n}" not in keys),
        only_first=tuple(one for n, one in enumerate(second.only_first) if f"only_first:{n}" not in keys),
        only_second=tuple(one for n, one in enumerate(second.only_second) if f"only_second:{n}" not in keys),
    )


def _open(second: Second) -> bool:
    return bool(second.digits or second.only_first or second.only_second)
