"""Where a person should look: the places of a page that its readers are not sure of, in reading order.

A doubt's `key` names it within one version of its page: ``digits:0``, ``only_first:1``, ``only_second:0`` (places in
the second reader's lists), ``block:5`` (order of a block that was read with little certainty), ``flag:suspect``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from inkstick.document import Block, Box, Flag, Kind, Page
from inkstick.results.tables import plain_text

_TAG = re.compile(r"<[^>]*>")

LOW = 0.80
"""A block's score below which it is a doubt of its own."""
SETTLED = (Flag.REPETITION, Flag.TRUNCATED, Flag.SUSPECT, Flag.TABLE_BROKEN, Flag.LOW_AGREEMENT)
"""Flags that a person who has compared the page may take off. The others are facts."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """`kind`: digits, only_first, only_second, block or flag. `first`: what the text says; `second`: what the second
    reader says; "" where there is none. `box`: where to look, in thousandths of the page. `block`: the order of the
    block it is in, `at`: where there `first` stands; None if that is not certain."""

    key: str
    kind: str
    first: str = ""
    second: str = ""
    box: Box | None = None
    block: int | None = None
    at: int | None = None


def doubts(page: Page) -> tuple[Doubt, ...]:
    """All doubts, from the top of the text to its end; those about the page as a whole last."""
    placed = [*_of_second(page), *_of_blocks(page)]
    places = {block.order: n for n, block in enumerate(page.blocks)}
    far = len(places)
    placed.sort(key=lambda doubt: (places.get(doubt.block or -1, far), _at(doubt), doubt.box or (0, 0, 0, 0)))
    return (*placed, *_of_flags(page, placed))


def _at(doubt: Doubt) -> int:
    """What was left out comes after the block that it is missing behind."""
    return doubt.at or 0 if doubt.kind != "only_second" else 1 << 30


def is_doubtful(flags: tuple[str, ...], score: float | None) -> bool:
    """Whether a page, by what the list of pages knows of it, may have doubts."""
    return any(flag in SETTLED for flag in flags) or (score is not None and score < LOW)


def _of_second(page: Page) -> Iterator[Doubt]:
    if page.second is None:
        return
    for n, pair in enumerate(page.second.digits):
        block, at = find(page, pair.first, pair.box) if pair.first else (None, None)
        yield Doubt(f"digits:{n}", "digits", pair.first, pair.second, pair.box or _box(page, block), block, at)
    for n, passage in enumerate(page.second.only_first):
        block, at = find(page, passage.text, passage.box)
        yield Doubt(f"only_first:{n}", "only_first", passage.text, "", passage.box or _box(page, block), block, at)
    for n, passage in enumerate(page.second.only_second):
        yield Doubt(f"only_second:{n}", "only_second", "", passage.text, passage.box, _before(page, passage.box))


def _of_blocks(page: Page) -> Iterator[Doubt]:
    for block in page.blocks:
        if block.score is not None and block.score < LOW and block.text.strip() and block.kind is not Kind.FIGURE:
            yield Doubt(f"block:{block.order}", "block", readable(block), "", block.box, block.order)


def _of_flags(page: Page, placed: list[Doubt]) -> Iterator[Doubt]:
    told = any(doubt.kind != "block" for doubt in placed)
    for flag in page.flags:
        if flag in SETTLED and not (flag is Flag.LOW_AGREEMENT and told):
            yield Doubt(f"flag:{flag.value}", "flag", flag.value)


def readable(block: Block) -> str:
    """A block's text as people read it: a table's cells by tabs and lines."""
    return plain_text(block.text) if block.kind is Kind.TABLE else block.text


def find(page: Page, text: str, box: Box | None) -> tuple[int | None, int | None]:
    """Block (order) and place in its text where `text` stands as a whole: the occurrence that is nearest to `box`."""
    found = [(block, at) for block in page.blocks for at in occurrences(block, text)]
    if not found:
        return None, None
    block, at = min(found, key=lambda place: _distance(place[0], place[1], text, box))
    return block.order, at


def occurrences(block: Block, text: str) -> list[int]:
    """Where `text` stands in the block's text; a number only where it is not a part of a longer one."""
    before, after = "(?<!\\d)" * text[:1].isdigit(), "(?!\\d)" * text[-1:].isdigit()
    pattern = re.compile(before + re.escape(text) + after)
    return [match.start() for match in pattern.finditer(_without_tags(block))]


def _without_tags(block: Block) -> str:
    """The text with each letter where it was: in a table's HTML, a ``colspan="2"`` is no 2 that was read."""
    return _TAG.sub(lambda tag: "\0" * len(tag[0]), block.text) if block.kind is Kind.TABLE else block.text


def _distance(block: Block, at: int, text: str, box: Box | None) -> float:
    """How far the middle of `box` is from the line of `block` that this occurrence stands in, in thousandths."""
    if box is None:
        return 0.0
    before = _without_tags(block)[:at].count(text)
    lines = [line.box for line in block.lines if text in line.text]
    place = lines[min(before, len(lines) - 1)] if lines else block.box
    if place is None:
        return 2000.0
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return max(place[0] - x, 0, x - place[2]) + max(place[1] - y, 0, y - place[3])


def _box(page: Page, order: int | None) -> Box | None:
    return next((block.box for block in page.blocks if block.order == order), None)


def _before(page: Page, box: Box | None) -> int | None:
    """The last block that ends above `box`: what the second reader saw there belongs after it."""
    if box is None:
        return page.blocks[-1].order if page.blocks else None
    above = [block for block in page.blocks if block.box and block.box[3] <= box[3]]
    return above[-1].order if above else None
