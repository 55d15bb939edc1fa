"""Two readings of one page side by side: what agrees, which numbers differ, what only one of them has. Pure.

The first reading is a vision language model's: good text, no places, and now and then something that is not printed.
The second is PP-OCR's: exact places, plainer text, and it invents nothing. `compare` gives the page with the second
reader's boxes under the first reader's text, its agreement, and `Flag.LOW_AGREEMENT` where a person should look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from inkstick.document import Block, Flag, Line, NumberPair, Page, Passage, Second
from inkstick.reading import digits
from inkstick.reading.alignment import Match, segments
from inkstick.reading.comparable import weight
from inkstick.reading.comparison import Comparison
from inkstick.reading.opinion import DEFAULT_LIMITS, Limits, Opinion
from inkstick.reading.spread import printed_lines, union


def compare(page: Page, opinion: Opinion, limits: Limits = DEFAULT_LIMITS) -> Page:
    """`page` with boxes, lines, agreement and the second reader's findings; flagged if they are serious."""
    case = _Findings(page, opinion, limits)
    blocks = tuple(case.finished(n) for n in range(len(page.blocks)))
    found = replace(page, blocks=blocks, second=case.second())
    return found.flagged(Flag.LOW_AGREEMENT) if case.doubtful() else found


class _Findings(Comparison):
    """What the comparison of one page comes to."""

    def finished(self, n: int) -> Block:
        """Block `n` with its boxes and its agreement."""
        block, text = self.page.blocks[n], self.texts[n]
        if text is None:
            boxes = [self.opinion.lines[m].line.box for m, owner in self.absorbed.items() if owner == n]
            return replace(block, box=block.box or (union(boxes) if boxes else None))
        parts, low = self.parts[n], self.starts[n]
        local = [(part.start - low, part.end - low, self.line_of(part)) for part in parts]
        lines = block.lines or printed_lines(text, local)
        return replace(block, box=self.box_of(n), lines=lines, agreement=self.agreement_of(n))

    @cached_property
    def invented(self) -> list[tuple[int, int]]:
        """Stretches of the first reading that the second has nothing of."""
        return [
            (start, end) for start, end in self.unseen
            if weight(self.free[start:end]) >= self.limits.invented
        ]  # fmt: skip

    @cached_property
    def unseen(self) -> list[tuple[int, int]]:
        """Stretches of the first reading where the second saw nothing."""
        return [segment for segment in segments(self.free, 0, len(self.free)) if segment not in self.unclear_segments]

    @cached_property
    def dropped(self) -> list[int]:
        """Lines that the first reading has nothing of."""
        return [m for m in self.open_lines() if self._is_dropped(m)]

    def _is_dropped(self, m: int) -> bool:
        sure = self.opinion.lines[m].score >= self.limits.sure
        return sure and not self.left_out(m) and weight(self.lines[m].keys) >= self.limits.dropped

    @cached_property
    def numbers(self) -> list[digits.Change]:
        found = digits.changes(self.whole, self.lines, self.matches)
        return sorted([*found, *self._lone_numbers()], key=lambda change: change.at)

    def _lone_numbers(self) -> Iterator[digits.Change]:
        """Numbers in short stretches and short lines that only one reader has."""
        groups = set(digits.groups(self.whole))
        for start, end in self.unseen:
            if weight(self.free[start:end]) < self.limits.invented and (start, end) in groups:
                yield digits.Change(digits.written(self.whole, start, end), "", start, -1)
        for m in self.open_lines():
            keys = self.lines[m].keys
            if weight(keys) < self.limits.dropped and keys.isdigit() and not self.left_out(m):
                yield digits.Change("", digits.written(self.lines[m], 0, len(keys)), -1, m)

    def sure(self, change: digits.Change) -> bool:
        return change.line < 0 or self.opinion.lines[change.line].score >= self.limits.sure

    # -- the sum

    def ratio(self, own: int, matches: Sequence[Match], extra: int = 0) -> float | None:
        """The weight of what both have by half the weight of what each has. `extra`: more that the second has."""
        judged = [m for m in matches if self.opinion.lines[m.line].score >= self.limits.sure]
        lines = [self.lines[m.line].keys for m in judged]
        total = own + extra + sum(
            weight(keys[m.pairs[0][1] : m.pairs[-1][1] + 1]) for m, keys in zip(judged, lines, strict=True)
        )  # fmt: skip
        equal = sum(
            weight(keys[s]) for m, keys in zip(judged, lines, strict=True) for t, s in m.pairs
            if self.whole.keys[t] == keys[s]
        )  # fmt: skip
        return round(2 * equal / total, 3) if total and self.clear else None

    def agreement_of(self, n: int) -> float | None:
        own = self.weight_of(*self.span(n))
        return self.ratio(own, self.parts[n]) if own else None

    @cached_property
    def agreement(self) -> float | None:
        extra = sum(weight(self.lines[m].keys) for m in self.dropped)
        return self.ratio(self.weight_of(0, len(self.whole.keys)), self.in_order, extra)

    def doubtful(self) -> bool:
        if not self.clear:
            return False
        own = self.weight_of(0, len(self.whole.keys))
        low = own >= self.limits.enough and self.agreement is not None and self.agreement < self.limits.agreement
        return low or bool(self.invented or self.dropped) or any(map(self.sure, self.numbers))

    def second(self) -> Second:
        return Second(
            engine=self.opinion.engine,
            agreement=self.agreement,
            digits=tuple(map(self._pair, self.numbers)),
            only_first=tuple(self._passage(start, end) for start, end in self.invented),
            only_second=tuple(Passage(line.text, line.box) for line in self._dropped_lines()),
            not_judged=self.not_judged(),
        )

    def _dropped_lines(self) -> Iterator[Line]:
        return (self.opinion.lines[m].line for m in self.dropped)

    def _pair(self, change: digits.Change) -> NumberPair:
        if change.line >= 0:
            return NumberPair(change.first, change.second, self.opinion.lines[change.line].line.box)
        return NumberPair(change.first, change.second, self.place_of(change.at, change.at + 1))

    def _passage(self, start: int, end: int) -> Passage:
        n = self.block_at(start)
        text = self.texts[n]
        assert text is not None
        first, last = text.at[start - self.starts[n]], text.at[end - 1 - self.starts[n]]
        return Passage(" ".join(text.text[first : last + 1].split()), self.place_of(start, end))
