"""Two readings of one page side by side: what agrees, which numbers differ, what only one of them has. Pure.

The first reading is a vision language model's: good text, no places, and now and then something that is not printed.
The second is PP-OCR's: exact places, plainer text, and it invents nothing. `compare` gives the page with the second
reader's boxes under the first reader's text, its agreement, and `Flag.LOW_AGREEMENT` where a person should look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from inkstick.document import Block, Box, Flag, Kind, Line, NumberPair, Page, Passage, Second
from inkstick.engines.protocol import Reading
from inkstick.reading import digits
from inkstick.reading.alignment import Match, align, segments
from inkstick.reading.comparable import BREAK, HOLE, MARKS, TAKEN, Comparable, comparable, weight
from inkstick.reading.spread import around, printed_lines, union
from inkstick.results.tables import plain_text

UNJUDGED_KINDS = {Kind.FORMULA: "formula", Kind.FIGURE: "figure"}
EDGES = (Kind.HEADER, Kind.FOOTER)
ILLEGIBLE = 8
"""Text of up to so many times the weight of an illegible line may be that line."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a page is doubtful. Calibrated on drawn pages, see docs/second-reader.md and tests/bench/second_reader.py.

    `agreement`: below it. `sure`: from this score on a line of the second reader is believed against the first.
    `invented`, `dropped`: weight of text (see `comparable.weight`) that only one reader has. `clear`: a page whose
    lines score less on average is not judged (handwriting, bad copies). `edge`: thousandths of the page, at top and
    bottom, where lines that stand apart are taken for running headers and footers. `enough`: weight from which
    agreement says something.
    """

    agreement: float = 0.90
    sure: float = 0.80
    invented: int = 8
    dropped: int = 4
    clear: float = 0.75
    edge: int = 100
    enough: int = 40


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Seen:
    """A line as the second reader saw it, and the kind of block that it put it in."""

    line: Line
    kind: Kind = Kind.PARAGRAPH

    @property
    def score(self) -> float:
        return 1.0 if self.line.score is None else self.line.score


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the second reader saw, line by line in its reading order."""

    engine: str
    lines: tuple[Seen, ...]


def opinion_of(engine: str, reading: Reading) -> Opinion | None:
    """The lines of a reading; None for a reader that saw text but tells no places."""
    lines = tuple(Seen(line, block.kind) for block in reading.blocks for line in block.lines)
    if not lines and any(block.text.strip() for block in reading.blocks):
        return None
    return Opinion(engine, lines)


def compare(page: Page, opinion: Opinion, limits: Limits = DEFAULT_LIMITS) -> Page:
    """`page` with boxes, lines, agreement and the second reader's findings; flagged if they are serious."""
    case = _Case(page, opinion, limits)
    blocks = tuple(case.finished(n) for n in range(len(page.blocks)))
    found = replace(page, blocks=blocks, second=case.second())
    return found.flagged(Flag.LOW_AGREEMENT) if case.doubtful() else found


class _Case:
    """The comparison of one page."""

    def __init__(self, page: Page, opinion: Opinion, limits: Limits) -> None:
        self.page, self.opinion, self.limits = page, opinion, limits
        self.texts = [None if _reason(block) else comparable(_plain(block)) for block in page.blocks]
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

    # -- what is left out

    def _absorbed(self) -> Iterator[tuple[int, int]]:
        """(line, block): unmatched lines that stand where a block that is not compared does."""
        for n, text in enumerate(self.texts):
            if text is not None:
                continue
            above = max((b[3] for b in map(self.box_of, range(n)) if b), default=0)
            below = [b[1] for b in map(self.box_of, range(n + 1, len(self.texts))) if b and b[1] >= above]
            for m in self.open_lines():
                middle = self.middle(m)
                if above <= middle <= min(below, default=1000):
                    yield m, n

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
        others = [self.opinion.lines[match.line].line.box for match in self.in_order]
        if not others:
            return False
        y0, y1 = seen.line.box[1], seen.line.box[3]
        apart = 0.6 * max(1, y1 - y0)
        above = y1 <= self.limits.edge and y1 + apart <= min(box[1] for box in others)
        below = y0 >= 1000 - self.limits.edge and y0 - apart >= max(box[3] for box in others)
        return above or below

    @cached_property
    def clear(self) -> bool:
        """The second reader could read the page at all."""
        total = sum(weight(line.keys) for line in self.lines)
        scores = sum(weight(line.keys) * seen.score for line, seen in zip(self.lines, self.opinion.lines, strict=True))
        return not total or scores / total >= self.limits.clear

    @cached_property
    def strange(self) -> bool:
        """Some of the page is in a script that the second reader does not know: what it saw there means nothing."""
        return any(_reason(block) == "script" for block in self.page.blocks)

    def not_judged(self) -> tuple[str, ...]:
        found = {reason for block in self.page.blocks if (reason := _reason(block))}
        if any(HOLE in text.keys for text in self.texts if text):
            found.add("formula")
        if not self.clear or self.unclear:
            found.add("unclear")
        if any(self.at_edge(m) for m in self.open_lines()):
            found.add("edge")
        return tuple(reason for reason in ("formula", "figure", "script", "unclear", "edge") if reason in found)

    # -- findings

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

    def left_out(self, m: int) -> bool:
        """An unmatched line that says nothing: it belongs to what is not judged."""
        return m in self.absorbed or self.opinion.lines[m].kind in UNJUDGED_KINDS or self.at_edge(m) or self.strange

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

    @cached_property
    def unclear(self) -> frozenset[int]:
        """Keys of the first reading where the second saw something, but not well enough to judge."""
        places = {key for segment in self.unclear_segments for key in range(*segment)}
        weak = (m for m in self.in_order if self.opinion.lines[m.line].score < self.limits.sure)
        return frozenset(places.union(*(range(m.start, m.end) for m in weak)))

    def weight_of(self, low: int, high: int) -> int:
        """Of the first reading's keys ``low:high`` that are judged."""
        return weight("".join(self.whole.keys[key] for key in range(low, high) if key not in self.unclear))

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
