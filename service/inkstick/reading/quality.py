"""Is an answer believable? Checks of one reading against what is known of the page. Pure.

Findings become an `Outcome` for the retry ladder and flags for the reader of the result. A check speaks only when it is
sure enough: a wrong "suspect" costs a second reading, a missed one a wrong text.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from html.parser import HTMLParser

from inkstick.document import Block, Flag, Kind, Task
from inkstick.engines.answers import only_coordinates
from inkstick.engines.protocol import Reading
from inkstick.reading.ladder import Outcome

RATIO = (0.4, 2.5)
"""Characters read over characters expected, outside which an answer is suspect."""
FEW = 50
"""Below so many expected characters a ratio says nothing."""
HARDLY_ANY_INK = 0.0004
INKY = 0.004
STRANGE_SHARE = 0.04
LITERAL_TASKS = frozenset({Task.PARSE, Task.TEXT, Task.SPOTTING})


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is known of the page. `ink`: share of dark pixels. `characters`: of its text layer, or of the detector's
    lines, without spaces; None: not known."""

    task: Task = Task.PARSE
    ink: float | None = None
    characters: int | None = None


def outcome(reading: Reading, expected: Expectation) -> Outcome:
    """How the try that gave `reading` ended."""
    text = reading.raw if reading.raw is not None else plain(reading.blocks)
    if Flag.REPETITION in reading.flags:
        return Outcome.REPETITION
    if Flag.TRUNCATED in reading.flags:
        return Outcome.TRUNCATED
    if not text.strip():
        return Outcome.EMPTY
    if only_coordinates(text) and expected.task in LITERAL_TASKS:
        return Outcome.COORDINATES
    if echoes(text, reading.prompt):
        return Outcome.ECHO
    return Outcome.SUSPECT if suspicious(plain(reading.blocks), expected) else Outcome.GOOD


def findings(blocks: tuple[Block, ...]) -> frozenset[Flag]:
    """Flags that need no second try: they tell where to look."""
    broken = any(block.kind is Kind.TABLE and not rectangular(block.text) for block in blocks)
    wild = any(not balanced(block.text) for block in blocks if block.kind is Kind.PARAGRAPH)
    return frozenset({flag for flag, on in ((Flag.TABLE_BROKEN, broken), (Flag.SUSPECT, wild)) if on})


def plain(blocks: tuple[Block, ...]) -> str:
    """All text of the blocks without table tags."""
    return "\n".join(re.sub(r"<[^>]*>", " ", b.text) if b.kind is Kind.TABLE else b.text for b in blocks)


def characters(text: str) -> int:
    """Characters that are not space."""
    return sum(not c.isspace() for c in text)


def suspicious(text: str, expected: Expectation) -> bool:
    """Length against what is on the page, and characters that no page has."""
    count = characters(text)
    if strange(text) > STRANGE_SHARE:
        return True
    if expected.task not in LITERAL_TASKS:
        return False
    if expected.characters is not None and expected.characters >= FEW:
        return not RATIO[0] <= count / expected.characters <= RATIO[1]
    if expected.ink is None:
        return False
    invented = expected.ink < HARDLY_ANY_INK and count > 200
    missed = expected.ink > INKY and count < 2
    return invented or missed


def strange(text: str) -> float:
    """Share of unassigned, private and control characters and of replacement marks."""
    odd = sum(c == "\ufffd" or (unicodedata.category(c) in ("Co", "Cn", "Cc") and c not in "\n\t\r") for c in text)
    return odd / len(text) if text else 0.0


def echoes(text: str, prompt: str | None) -> bool:
    """The answer is the prompt, or begins with all of it; a long prompt is no text of a page wherever it stands."""
    asked = (prompt or "").strip()
    return len(asked) >= 8 and (text.strip().startswith(asked) or (len(asked) >= 24 and asked in text))


def balanced(text: str) -> bool:
    """No formula is left open. A lone dollar is a currency, so only doubled ones and brackets count."""
    return text.count("$$") % 2 == 0 and text.count("\\[") == text.count("\\]")


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[tuple[int, int]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            spans = dict(attrs)
            self.rows[-1].append((_span(spans.get("rowspan")), _span(spans.get("colspan"))))


def _span(value: str | None) -> int:
    return int(value) if value and value.isdigit() else 1


def rectangular(table: str) -> bool:
    """Every row of an HTML table covers the same number of columns, spans counted, and no span leaves the table."""
    parser = _Cells()
    parser.feed(table)
    below: dict[int, int] = {}
    widths = set()
    for row in parser.rows:
        taken = {column for column, left in below.items() if left > 0}
        below = {column: left - 1 for column, left in below.items() if left > 1}
        column = 0
        for down, across in row:
            while column in taken:
                column += 1
            for place in range(column, column + across):
                if place in taken:
                    return False
                taken.add(place)
                if down > 1:
                    below[place] = down - 1
            column += across
        if taken != set(range(len(taken))):
            return False
        widths.add(len(taken))
    return len(widths) == 1 and not below
