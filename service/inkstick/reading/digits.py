"""Numbers that two readings of the same place read differently. Pure.

Groups of digits are linked by the characters that stand at the same place; the digits of all groups that hang together
are compared as one, so that a blank that only one reader saw between them does not matter. Where the digits are the
same, a point between two of them, or a minus, that only one reader saw makes another number all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from inkstick.reading.alignment import Match
from inkstick.reading.comparable import HOLE, Comparable

LOOKALIKE = {"o": "0", "l": "1", "i": "1", "z": "2", "s": "5", "b": "8", "口": "0", "丨": "1"}
"""Letters (as comparison keys) that either reader may take for a digit; they stand for it beside one."""
NUMERALS = frozenset("零〇一二三四五六七八九十百千万亿壹贰叁肆伍陆柒捌玖拾佰仟")
POINTS = frozenset(".,，．·。")
THOUSANDS = frozenset(",，")
_DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_MONEY = "$€£¥￥"
_DASH = rf"[{re.escape(_DASHES)}]"
_BEFORE = re.compile(rf"(?P<bare>^|(?!{_DASH})[^\w)\]%.,/])?{_DASH}(?P<apart>[ \t]*[{_MONEY}]?[ \t]*)$")
_AFTER = re.compile(rf"(?P<apart>[ \t]*){_DASH}(?P<bare>$|(?!{_DASH})\W)?")
_ASIDE = ".,:;-/，。：、"
AROUND = 8
"""So many characters beside a number are looked at for its sign."""
Group = tuple[int, int]
"""First key and the one after the last."""


@dataclass(frozen=True, slots=True)
class Change:
    """`first` and `second`: the numbers as each reader wrote them, "" where it wrote none. `at`: key in the first
    reading, -1 if none. `line`: of the second reading."""

    first: str
    second: str
    at: int
    line: int


def changes(text: Comparable, lines: Sequence[Comparable], matches: Sequence[Match | None]) -> list[Change]:
    """Numbers that differ within the lines that both readers saw."""
    web = _Web(text, lines, [match for match in matches if match])
    return [*web.digits(), *web.numerals()]


def groups(text: Comparable) -> list[Group]:
    """Runs of digits that stand side by side in the written text."""
    found: list[Group] = []
    for n, key in enumerate(text.keys):
        if not key.isdigit():
            continue
        if found and found[-1][1] == n and text.at[n] - text.at[n - 1] <= 1:
            found[-1] = (found[-1][0], n + 1)
        else:
            found.append((n, n + 1))
    return found


def written(text: Comparable, start: int, end: int) -> str:
    """The number around the keys ``start:end`` as it stands in the text, with its points and signs."""
    first, last = _extent(text, start, end)
    return text.text[first:last]


def _extent(text: Comparable, start: int, end: int) -> tuple[int, int]:
    first, last = text.at[start], text.at[end - 1] + 1
    while first > 0 and _belongs(text.text[first - 1]):
        first -= 1
    while last < len(text.text) and _belongs(text.text[last]):
        last += 1
    whole = text.text[first:last]
    return first + len(whole) - len(whole.lstrip(_ASIDE)), first + len(whole.rstrip(_ASIDE))


def _belongs(char: str) -> bool:
    return char.isdigit() or char in ".,:/-%'’"


class _Marks:
    """The points between digits that were read alike, and the sign before or after them. `written`: with both."""

    def __init__(self, text: Comparable, places: Sequence[int]) -> None:
        self.gaps = [text.text[text.at[a] + 1 : text.at[b]] for a, b in pairwise(places)]
        first, last = _extent(text, places[0], places[-1] + 1)
        begin, end = text.at[places[0]], text.at[places[-1]] + 1
        before = _BEFORE.search(text.text[max(0, begin - AROUND) : begin])
        after = _AFTER.match(text.text[end : end + AROUND])
        self.minus = bool(before or after)
        """Something that may be one: a dash that leads to the number, or a bullet, too."""
        self.surely = False
        first -= first > 0 and text.text[first - 1] in _MONEY
        if before and before["bare"] is not None and not before["apart"].strip(_MONEY):
            self.surely, first = True, min(first, begin - len(before["apart"]) - 1)
        if after and after["bare"] is not None and not after["apart"]:
            self.surely, last = True, max(last, end + 1)
        self.written = text.text[first:last]

    def lacks(self, other: _Marks) -> bool:
        """A point or a minus that the other has."""
        if other.surely and not self.minus:
            return True
        pairs = enumerate(zip(self.gaps, other.gaps, strict=True))
        return any(not own and other.is_point(n) for n, (own, _) in pairs)

    def is_point(self, n: int) -> bool:
        """After digit `n` (from 0) stands a point, and not one that only parts thousands."""
        mark = self.gaps[n].strip()
        return mark in POINTS and not (mark in THOUSANDS and self._parts_thousands(n))

    def _parts_thousands(self, n: int) -> bool:
        following = next((at for at in range(n + 1, len(self.gaps)) if self.gaps[at]), len(self.gaps))
        return following - n == 3 and not self.written.lstrip(_DASHES).startswith("0")


class _Web:
    """What hangs together: groups of the text, groups of the lines, and the pairs between them."""

    def __init__(self, text: Comparable, lines: Sequence[Comparable], matches: Sequence[Match]) -> None:
        self.text, self.lines = text, lines
        self.matches = {match.line: match for match in matches}
        self.partner = {t: (m.line, s) for m in matches for t, s in m.pairs}
        self.back = {(m.line, s): t for m in matches for t, s in m.pairs}
        self.own = groups(text)
        self.theirs = [(n, group) for n in self.matches for group in groups(lines[n])]

    def digits(self) -> Iterator[Change]:
        for own, theirs in self.clusters():
            change = self.change(own, theirs)
            if change is not None:
                yield change

    def clusters(self) -> Iterator[tuple[list[Group], list[tuple[int, Group]]]]:
        """Groups of the text with the groups of the lines that stand at the same place."""
        of = {(n, s): (n, group) for n, group in self.theirs for s in range(*group)}
        seen: set[tuple[int, Group]] = set()
        pending: tuple[list[Group], list[tuple[int, Group]]] = ([], [])
        for group in self.own:
            linked = {of[p] for t in range(*group) if (p := self.partner.get(t)) in of}
            if pending[0] and not linked & set(pending[1]):
                yield pending
                pending = ([], [])
            pending = ([*pending[0], group], sorted({*pending[1], *linked}))
            seen |= linked
        if pending[0]:
            yield pending
        yield from (([], [item]) for item in self.theirs if item not in seen)

    def change(self, own: list[Group], theirs: list[tuple[int, Group]]) -> Change | None:
        lone = own[0] if own else theirs[0][1]
        if not own:
            n, group = theirs[0]
            if self.beside_hole(n, group) or self.beside_lookalike(n, group):
                return None
            return Change("", written(self.lines[n], *group), self.near(n, group[0]), n)
        first = "".join(self.text.keys[t] for group in own for t in range(*group))
        second, line = self.read_there(own, theirs)
        if first == second:
            return self.pointed(own, theirs)
        if line is None:
            return None
        told = written(self.lines[theirs[0][0]], theirs[0][1][0], theirs[-1][1][1]) if self.one_line(theirs) else second
        return Change(written(self.text, own[0][0], own[-1][1]), told, lone[0], line)

    def pointed(self, own: list[Group], theirs: list[tuple[int, Group]]) -> Change | None:
        """The same digits, but with a point or a minus that one reader alone saw."""
        if not self.one_line(theirs):
            return None
        n = theirs[0][0]
        ours = [t for group in own for t in range(*group)]
        seen = [s for _, group in theirs for s in range(*group)]
        if len(ours) != len(seen):
            return None
        one, other = _Marks(self.text, ours), _Marks(self.lines[n], seen)
        alike = not (one.lacks(other) or other.lacks(one))
        return None if alike else Change(one.written, other.written, ours[0], n)

    def read_there(self, own: list[Group], theirs: list[tuple[int, Group]]) -> tuple[str, int | None]:
        """The digits that the second reader saw there, and in which line; None: nobody looked."""
        places = {(n, s) for n, group in theirs for s in range(*group)}
        for group in own:
            for t in range(*group):
                partner = self.partner.get(t)
                if partner and self.key(partner) in LOOKALIKE:
                    places.add(partner)
        ordered = sorted(places, key=lambda place: (self.matches[place[0]].start, place[1]))
        line = ordered[0][0] if ordered else self.line_at(own[0][0])
        return "".join(LOOKALIKE.get(self.key(place), self.key(place)) for place in ordered), line

    def line_at(self, t: int) -> int | None:
        return next((n for n, match in self.matches.items() if match.start <= t < match.end), None)

    def key(self, place: tuple[int, int]) -> str:
        return self.lines[place[0]].keys[place[1]]

    def one_line(self, theirs: list[tuple[int, Group]]) -> bool:
        return bool(theirs) and theirs[0][0] == theirs[-1][0]

    def near(self, n: int, s: int) -> int:
        """The key of the text at or before place `s` of line `n`."""
        match = self.matches[n]
        return max((t for t, place in match.pairs if place <= s), default=match.start)

    def beside_hole(self, n: int, group: Group) -> bool:
        """The first reader has a formula or a raised figure there."""
        match = self.matches[n]
        low = self.near(n, group[0])
        high = min((t for t, s in match.pairs if s >= group[1]), default=match.end)
        return HOLE in self.text.keys[max(0, low - 1) : high + 2]

    def beside_lookalike(self, n: int, group: Group) -> bool:
        """Every digit of it stands where the first reader has a letter of that shape."""
        partners = [self.back.get((n, s)) for s in range(*group)]
        return all(
            t is not None and LOOKALIKE.get(self.text.keys[t]) == self.lines[n].keys[s]
            for t, s in zip(partners, range(*group), strict=True)
        )

    def numerals(self) -> Iterator[Change]:
        """Chinese numerals, one against another."""
        for n, match in self.matches.items():
            for t, s in match.pairs:
                ours, theirs = self.text.keys[t], self.lines[n].keys[s]
                if ours != theirs and ours in NUMERALS and theirs in NUMERALS:
                    yield Change(_run(self.text, t), _run(self.lines[n], s), t, n)


def _run(text: Comparable, at: int) -> str:
    """The Chinese number around key `at`."""
    first = last = at
    while first > 0 and text.keys[first - 1] in NUMERALS:
        first -= 1
    while last + 1 < len(text.keys) and text.keys[last + 1] in NUMERALS:
        last += 1
    return text.keys[first : last + 1]
