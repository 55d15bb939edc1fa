"""Whose answer is this? One answer against the serial answers of all test pages. Pure.

An answer is its own page's if it is alike enough to that page's serial answer, and clearly nearer to it than to any
other page's. A few characters may differ: in bf16 on a GPU a sum's last bits depend on what else is in the batch, and
where two characters are almost equally likely the other one may win. Digits that differ are counted apart: on a
page they would matter, and many of them say that the engine is not to be trusted with numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

ALIKE = 0.88
"""Share of characters in common, below which an answer is garbage or another page's."""
APART = 0.15
"""By so much it must be nearer to its own page than to the nearest other."""


class Sort(StrEnum):
    """`same`: to the last character. `close`: its own page's, with a few other characters. `wrong`: not its own."""

    SAME = "same"
    CLOSE = "close"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`digits`: of a close answer, how many digits differ from the page's own serial answer."""

    sort: Sort
    digits: int = 0


def judge(answer: str, number: int, serial: Sequence[str]) -> Judgement:
    """Is `answer` that of page `number` (from 0)? `serial` holds the answers of all pages, read one at a time.

    Compares character by character only where that can still change the verdict: it takes many milliseconds, and the
    service's event loop waits for them."""
    mine = serial[number]
    others = [text for place, text in enumerate(serial) if place != number]
    if answer == mine:
        return Judgement(Sort.WRONG if answer in others else Sort.SAME)
    own = likeness(answer, mine)
    if own >= ALIKE and all(likeness(answer, text) + APART <= own for text in others):
        return Judgement(Sort.CLOSE, digits_changed(mine, answer))
    return Judgement(Sort.WRONG)


def likeness(one: str, other: str) -> float:
    """Share of characters that two texts have in common, in order: 1 for equal ones, 0 for nothing in common."""
    if one == other:
        return 1.0
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def digits_changed(before: str, after: str) -> int:
    """How many digits of `before` are missing or replaced in `after`, or were added."""
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    changed = 0
    for what, a0, a1, b0, b1 in matcher.get_opcodes():
        if what != "equal":
            changed += max(_digits(before[a0:a1]), _digits(after[b0:b1]))
    return changed


def _digits(text: str) -> int:
    return sum(character.isdigit() for character in text)
