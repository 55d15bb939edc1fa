"""One page's two readings laid over each other: which line stands where, and what cannot be judged. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from inkstick.document import Block, Box, Kind, Line, Page
from inkstick.reading.alignment import Match, align, segments
from inkstick.reading.comparable import BREAK, HOLE, MARKS, TAKEN, Comparable, comparable, weight
from inkstick.reading.opinion import Limits, Opinion
from inkstick.reading.spread import around, union
from inkstick.results.tables import plain_text

UNJUDGED_KINDS = {Kind.FORMULA: "formula", Kind.FIGURE: "figure"}
EDGES = (Kind.HEADER, Kind.FOOTER)
ILLEGIBLE = 8
"""Text of up to so many times the weight of an illegible line may be that line."""


class Comparison:
    """One page, the lines of its blocks, and what cannot be compared.

    `texts`: by block, None: not compared. `whole`: all of them as one; `starts`: the key at which each begins.
    `matches`: by line of the second reader. `parts`: by block. `absorbed`: lines that belong to a block that is not
    compared, and to which.
    """

    def __init__(self, page: Page, opinion: Opinion, limits: Limits) -> None:
        self.page, self.opinion, self.limits = page, opinion, limits
        self.reasons = [_reason(block) for block in page.blocks]
        self.texts = [
            None if reason else comparable(_plain(block))
            for block, reason in zip(page.blocks, self.reasons, strict=True)
        ]
        self.lines = [comparable(seen.line.text) for seen in opinion.lines]
        self.whole, self.starts = _joined(self.texts)
        self.matches = align(self.whole.keys, [line.keys for line in self.lines])
        self.parts = [self._parts(n) for n in range(len(self.texts))]
        self.absorbed = dict(self._absorbed())

    # -- places

    @cached_property
    def in_order(self) -> list[Match]:
        return sorted((match for match in self.matches if match), key=lambda match: match.start)

    def span(self, n: int) -> tuple[int, int]:
        text = self.texts[n]
        return (self.starts[n], self.starts[n] + len(text.keys)) if text else (0, 0)

    def _parts(self, n: int) -> list[Match]:
        """The matches in block `n`, and the parts in it of those that reach into another."""
        low, high = self.span(n)
        return [part for match in self.in_order if (part := _clipped(match, low, high))]

    def line_of(self, part: Match) -> Line:
        """The printed line behind a match, or as much of it as the match covers."""
        line, size = self.opinion.lines[part.line].line, len(self.lines[part.line].keys)
        first, last = part.pairs[0][1], part.pairs[-1][1] + 1
        if self.matches[part.line] == part:
            return line
        x0, y0, x1, y1 = line.box
        return replace(line, box=(x0 + (x1 - x0) * first // size, y0, x0 + (x1 - x0) * last // size, y1))

    def box_of(self, n: int) -> Box | None:
        """Where block `n` stands, by its own account or by its lines."""
        boxes = [self.line_of(part).box for part in self.parts[n]]
        return self.page.blocks[n].box or (union(boxes) if boxes else None)

    def place_of(self, start: int, end: int) -> Box | None:
        """About where the keys ``start:end``, which no line has, would stand: between the lines around them."""
        n = self.block_at(start)
        if self.page.blocks[n].box and not self.parts[n]:
            return self.page.blocks[n].box
        before = [m for m in self.in_order if m.end <= start][-1:]
        after = [m for m in self.in_order if m.start >= end][:1]
        return around(*([self.opinion.lines[m.line].line.box for m in side] for side in (before, after)))

    def block_at(self, key: int) -> int:
        return max(n for n, text in enumerate(self.texts) if text is not None and self.starts[n] <= key)

    # -- what is left out

    def _absorbed(self) -> Iterator[tuple[int, int]]:
        """(line, block): unmatched lines that stand where a block that is not compared does."""
        for n, text in enumerate(self.texts):
            if text is None:
                low, high = self._between(n)
                yield from ((m, n) for m in self.open_lines() if low <= self.middle(m) <= high and not self.at_edge(m))

    def _between(self, n: int) -> tuple[int, int]:
        """From where to where on the page block `n` stands: from the block before to the one after, in one column."""
        own = self.page.blocks[n].box
        if own:
            return own[1], own[3]
        above = next((box[3] for box in map(self.box_of, reversed(range(n))) if box), 0)
        below = next((box[1] for box in map(self.box_of, range(n + 1, len(self.texts))) if box), 1000)
        return above, below if below >= above else 1000

    def open_lines(self) -> list[int]:
        return [m for m, match in enumerate(self.matches) if match is None and self.lines[m].keys]

    def middle(self, m: int) -> float:
        box = self.opinion.lines[m].line.box
        return (box[1] + box[3]) / 2

    def at_edge(self, m: int) -> bool:
        """A running header or footer: by the second reader's layout, or apart from all text at top or bottom."""
        seen = self.opinion.lines[m]
        if seen.kind in EDGES:
            return True
        if not self.in_order:
            return False
        top, bottom = self._extent
        y0, y1 = seen.line.box[1], seen.line.box[3]
        apart = 0.6 * max(1, y1 - y0)
        above = y1 <= self.limits.edge and y1 + apart <= top
        below = y0 >= 1000 - self.limits.edge and y0 - apart >= bottom
        return above or below

    @cached_property
    def _extent(self) -> tuple[int, int]:
        """Top and bottom of all matched lines."""
        boxes = [self.opinion.lines[match.line].line.box for match in self.in_order]
        return min(box[1] for box in boxes), max(box[3] for box in boxes)

    @cached_property
    def clear(self) -> bool:
        """The second reader could read the page at all."""
        total = sum(weight(line.keys) for line in self.lines)
        scores = sum(weight(line.keys) * seen.score for line, seen in zip(self.lines, self.opinion.lines, strict=True))
        return not total or scores / total >= self.limits.clear

    @cached_property
    def strange(self) -> bool:
        """Some of the page is in a script that the second reader does not know: what it saw there means nothing."""
        return "script" in self.reasons

    @cached_property
    def free(self) -> str:
        """The first reading with all matched places taken."""
        free = list(self.whole.keys)
        for match in self.in_order:
            for place in range(match.start, match.end):
                free[place] = free[place] if free[place] in MARKS else TAKEN
        return "".join(free)

    @cached_property
    def unclear_segments(self) -> list[tuple[int, int]]:
        """Stretches of the first reading, not much longer than what the second reader saw there without being able to
        read it well."""
        seen: dict[tuple[int, int], int] = {}
        for m in self.open_lines():
            if self.opinion.lines[m].score < self.limits.sure and m not in self.absorbed and not self.at_edge(m):
                gap = self.gap(m)
                seen[gap] = seen.get(gap, 0) + weight(self.lines[m].keys)
        found = {segment: amount for gap, amount in seen.items() for segment in segments(self.free, *gap)}
        return [
            (start, end) for (start, end), most in found.items() if weight(self.free[start:end]) <= ILLEGIBLE * most
        ]

    def gap(self, m: int) -> tuple[int, int]:
        """Between the places of the matched lines before and after line `m`."""
        low = next((x.end for x in reversed(self.matches[:m]) if x), 0)
        high = next((x.start for x in self.matches[m + 1 :] if x), len(self.free))
        return low, max(low, high)

    def left_out(self, m: int) -> bool:
        """An unmatched line that says nothing: it belongs to what is not judged."""
        return m in self.absorbed or self.opinion.lines[m].kind in UNJUDGED_KINDS or self.at_edge(m) or self.strange

    @cached_property
    def unclear(self) -> frozenset[int]:
        """Keys of the first reading where the second saw something, but not well enough to judge."""
        places = {key for segment in self.unclear_segments for key in range(*segment)}
        weak = (m for m in self.in_order if self.opinion.lines[m.line].score < self.limits.sure)
        return frozenset(places.union(*(range(m.start, m.end) for m in weak)))

    def weight_of(self, low: int, high: int) -> int:
        """Of the first reading's keys ``low:high`` that are judged."""
        return weight("".join(self.whole.keys[key] for key in range(low, high) if key not in self.unclear))

    def not_judged(self) -> tuple[str, ...]:
        found = {reason for reason in self.reasons if reason}
        if any(HOLE in text.keys for text in self.texts if text):
            found.add("formula")
        if not self.clear or self.unclear:
            found.add("unclear")
        if any(self.at_edge(m) for m in self.open_lines()):
            found.add("edge")
        return tuple(reason for reason in ("formula", "figure", "script", "unclear", "edge") if reason in found)


def _clipped(match: Match, low: int, high: int) -> Match | None:
    """The part of a match that lies in ``low:high``."""
    if low <= match.start and match.end <= high:
        return match
    pairs = tuple(pair for pair in match.pairs if low <= pair[0] < high)
    return replace(match, start=pairs[0][0], end=pairs[-1][0] + 1, pairs=pairs) if pairs else None


def _plain(block: Block) -> str:
    return plain_text(block.text) if block.kind is Kind.TABLE else block.text


def _reason(block: Block) -> str | None:
    """Why a block is not compared."""
    if block.kind in UNJUDGED_KINDS:
        return UNJUDGED_KINDS[block.kind]
    return "script" if comparable(_plain(block)).unreadable else None


def _joined(texts: Sequence[Comparable | None]) -> tuple[Comparable, list[int]]:
    """All texts as one, a `BREAK` after each; and the key at which each begins."""
    keys, at, text, starts = "", [], "", []
    for one in texts:
        starts.append(len(keys))
        if one is None:
            continue
        at += [place + len(text) for place in one.at] + [len(text) + len(one.text)]
        keys += one.keys + BREAK
        text += one.text + "\n"
    return Comparable(text, keys, tuple(at)), starts
