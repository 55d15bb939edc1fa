"""Where in the first reading's text each line of the second reading stands. Pure.

Lines are placed from the surest to the least sure: very long ones that stand in the text exactly, then nearly; shorter
ones that stand there once and exactly; those that stand there more than once, near their neighbours; those that stand
there nearly; at last the short ones, between the places of the lines before and after them. So neither columns nor an
order of reading that differs matters. A place once taken is not given again: a line that the first reader wrote twice
is matched once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from inkstick.reading.comparable import HOLE, MARKS, TAKEN, weight

LONG = 8
"""From this weight on a line is told from others by its text alone."""
VERY_LONG = 24
"""From this weight on, a line that stands nearly in the text goes before one that stands there twice exactly."""
NEARLY = 70.0
"""Per cent alike, at least, for a long line to be placed by its text alone."""
HALF = 0.5
GRAM = 4
FAR = 400
"""In a gap longer than this, a line that is nowhere in the text is not looked for."""
SLACK = 4


@dataclass(frozen=True, slots=True)
class Match:
    """Line `line` stands at ``text[start:end]``. `pairs`: (place in the text, place in the line), same or not."""

    line: int
    start: int
    end: int
    pairs: tuple[tuple[int, int], ...]
    equal: int


def align(text: str, lines: Sequence[str]) -> list[Match | None]:
    """For each of `lines` (comparison keys, in its reader's order) its match in `text`, or None."""
    work = _Alignment(text, lines)
    work.unique(VERY_LONG)
    work.nearly(VERY_LONG)
    work.unique(LONG)
    work.repeated()
    work.nearly(LONG)
    work.between(exact=True)
    work.between(exact=False)
    return work.matches


class _Alignment:
    """The work in progress. `free`: the text with what was taken masked."""

    def __init__(self, text: str, lines: Sequence[str]) -> None:
        self.text, self.lines = text, lines
        self.free = text
        self._grams = {text[n : n + GRAM] for n in range(len(text) - GRAM + 1)}
        self.matches: list[Match | None] = [None] * len(lines)

    def familiar(self, line: str) -> bool:
        """A fifth of what the line is made of stands somewhere in the text: worth a search, which costs much more."""
        grams = [line[n : n + GRAM] for n in range(len(line) - GRAM + 1)]
        return 5 * sum(gram in self._grams for gram in grams) >= len(grams)

    def open(self) -> list[int]:
        """Lines without a place, in their order."""
        return [n for n, line in enumerate(self.lines) if line and self.matches[n] is None]

    def long(self, least: int = LONG) -> list[int]:
        """Those of at least that weight, longest first."""
        found = (n for n in self.open() if weight(self.lines[n]) >= least and self.familiar(self.lines[n]))
        return sorted(found, key=lambda n: -len(self.lines[n]))

    def unique(self, least: int) -> None:
        for n in self.long(least):
            at = self.free.find(self.lines[n])
            if at >= 0 and self.free.find(self.lines[n], at + 1) < 0 and self.lines.count(self.lines[n]) == 1:
                self.take(n, at, at + len(self.lines[n]))

    def repeated(self) -> None:
        for n in self.long():
            self.take_nearest(n)

    def take_nearest(self, n: int) -> None:
        """The exact occurrence that fits best between the neighbours of line `n`."""
        size = len(self.lines[n])
        low, high = self.neighbours(n)
        places = list(_occurrences(self.free, self.lines[n]))
        if places:
            at = min(places, key=lambda p: (max(0, low - p) + max(0, p + size - high), p))
            self.take(n, at, at + size)

    def nearly(self, least: int) -> None:
        for n in self.long(least):
            line = self.lines[n]
            if len(line) >= len(self.free):
                self.take_window(n, 0, len(self.free), NEARLY / 100)
                continue
            found = fuzz.partial_ratio_alignment(line, self.free, score_cutoff=NEARLY)
            if found is not None:
                self.take_window(n, found.dest_start, found.dest_end, NEARLY / 100 - 0.1)

    def between(self, *, exact: bool) -> None:
        """Short lines, and whatever else is left, in reading order, so that each line helps the next."""
        for n in self.open():
            low, high = self.neighbours(n)
            if exact:
                at = self.free.find(self.lines[n], low, high)
                if at >= 0:
                    self.take(n, at, at + len(self.lines[n]))
                elif weight(self.lines[n]) >= LONG // 2:
                    self.take_nearest(n)
            else:
                self.take_alike(n, low, high)

    def take_alike(self, n: int, low: int, high: int) -> None:
        """In the free text between the neighbours, the piece that is most alike; digits may all be different."""
        line = self.lines[n]
        if high - low > FAR and not self.familiar(line):
            return
        for start, end in segments(self.free, low, high):
            if end - start > len(line):
                found = fuzz.partial_ratio_alignment(line, self.free[start:end], score_cutoff=40.0)
                if found and self.take_window(n, start + found.dest_start, start + found.dest_end, HALF, start, end):
                    return
            elif self.take_window(n, start, end, HALF, start, end):
                return
            if end - start <= len(line) + 1 and _numeric(line) and _numeric(self.free[start:end]):
                self.take(n, start, end)
                return

    def neighbours(self, n: int) -> tuple[int, int]:
        """End of the place of the line before, start of that of the line after. Where the orders cross, the free
        stretch after the line before."""
        low = next((m.end for m in reversed(self.matches[:n]) if m), 0)
        high = next((m.start for m in self.matches[n + 1 :] if m), len(self.text))
        if low <= high:
            return low, high
        taken = self.free.find(TAKEN, low)
        return low, taken if taken >= 0 else len(self.text)

    def take_window(self, n: int, start: int, end: int, least: float, low: int = 0, high: int | None = None) -> bool:
        """Take the best window near ``start:end`` if it is at least `least` (0 to 1) alike."""
        line, high = self.lines[n], len(self.free) if high is None else high
        starts = range(max(low, start - SLACK), min(start + SLACK, high) + 1)
        ends = range(max(low, end - SLACK), min(end + SLACK, high) + 1)
        ways = ((s, e) for s in starts for e in ends if s < e)
        cost, _, s, e = min(
            ((Levenshtein.distance(line, self.free[s:e]), abs(e - s - len(line)), s, e) for s, e in ways),
            default=(len(line), 0, 0, 0),
        )
        if s == e or 1 - cost / max(len(line), e - s) < least:
            return False
        self.take(n, s, e)
        return True

    def take(self, n: int, start: int, end: int) -> None:
        pairs, equal = _pairs(self.free[start:end], self.lines[n], start)
        if not pairs:
            return
        first, last = pairs[0][0], pairs[-1][0] + 1
        self.matches[n] = Match(n, first, last, pairs, equal)
        taken = "".join(char if char in MARKS else TAKEN for char in self.free[first:last])
        self.free = self.free[:first] + taken + self.free[last:]


def segments(text: str, low: int, high: int) -> Iterator[tuple[int, int]]:
    """The stretches of `text` between `low` and `high` that hold no mark of `MARKS` but holes."""
    start = None
    for place in range(low, high + 1):
        inside = place < high and (text[place] not in MARKS or text[place] == HOLE)
        if inside and start is None:
            start = place
        elif not inside and start is not None:
            yield start, place
            start = None


def _pairs(text: str, line: str, start: int) -> tuple[tuple[tuple[int, int], ...], int]:
    pairs: list[tuple[int, int]] = []
    equal = 0
    for step in Levenshtein.opcodes(text, line):
        if step.tag in ("equal", "replace"):
            length = min(step.src_end - step.src_start, step.dest_end - step.dest_start)
            pairs += [
                (start + step.src_start + n, step.dest_start + n)
                for n in range(length)
                if text[step.src_start + n] not in MARKS
            ]
            equal += length if step.tag == "equal" else 0
    return tuple(pairs), equal


def _occurrences(text: str, piece: str) -> Iterator[int]:
    at = text.find(piece)
    while at >= 0:
        yield at
        at = text.find(piece, at + 1)


def _numeric(keys: str) -> bool:
    return 2 * sum(key.isdigit() for key in keys) > len(keys)
