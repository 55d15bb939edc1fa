"""Is a model going round in circles? Told from the tail of its answer while it is still being written.

Pure. Two rules: HunyuanOCR 1.5's own client (from 4,000 characters on, every 1,000, within the last 8,000: a unit of at
most 256 characters eight times at the end), and an earlier, stricter one that asks for a longer run. Both know
tables, where identical cells and rows are legal, and leaders (dots, underscores, dashes), which forms and contents
pages are full of.
"""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_UNIT = 256
WINDOW = 8000
REPEATS = 8
OFFICIAL_FROM = 4000
EARLY_EVERY = 200
EARLY_RUN = 400
"""Characters that a run must span before the early rule believes it."""
LEADER_RUN = 1500
TABLE_REPEATS = 80
TABLE_RUN = 3000
LEADERS = frozenset(" .·…_-—=*~\t\n　|:")


@dataclass(frozen=True, slots=True)
class Loop:
    """The last `count` times `unit` characters of a text are the same, and it starts at character `start`."""

    unit: int
    count: int
    start: int


def tail_loop(text: str, *, largest: int = LARGEST_UNIT, window: int = WINDOW) -> Loop | None:
    """The shortest unit that the end of `text` repeats at least `REPEATS` times, and how often; None if there is
    none."""
    tail = text[-window:]
    size = len(tail)
    for unit in range(1, min(largest, size // REPEATS) + 1):
        if tail[-1] != tail[-1 - unit]:
            continue
        if tail[-unit * (REPEATS - 1) :] == tail[-unit * REPEATS : -unit]:
            run = _run(tail, unit)
            return Loop(unit, run // unit, len(text) - run)
    return None


def _run(tail: str, unit: int) -> int:
    """How many characters at the end of `tail` have period `unit`."""
    length = unit
    while length < len(tail) and tail[-1 - length] == tail[-1 - length + unit]:
        length += 1
    return length


def verdict(text: str) -> Loop | None:
    """The loop at the end of `text` that means "stop", or None. A pure function of the text so far."""
    loop = tail_loop(text)
    if loop is None:
        return None
    span = loop.unit * loop.count
    unit = text[len(text) - loop.unit :]
    if set(unit) <= LEADERS:
        return loop if span >= LEADER_RUN else None
    if "<t" in unit or "</t" in unit or (unit.count("|") >= 2 and "\n" in unit):
        return loop if loop.count >= TABLE_REPEATS and span >= TABLE_RUN else None
    official = len(text) >= OFFICIAL_FROM and span >= 64
    return loop if official or span >= EARLY_RUN else None


class Watch:
    """Feed it an answer as it arrives; it looks every `EARLY_EVERY` characters. `text` is all of it so far."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._looked = 0

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def feed(self, piece: str) -> Loop | None:
        """Add `piece`; the loop, once there is one."""
        self._pieces.append(piece)
        self._length += len(piece)
        if self._length - self._looked < EARLY_EVERY:
            return None
        self._looked = self._length
        self._pieces = [self.text]
        return verdict(self._pieces[0])

    def finish(self) -> Loop | None:
        """A last look at the whole answer."""
        return verdict(self.text)


def cleaned(text: str) -> str:
    """`text` with a loop at its end reduced to one copy."""
    loop = verdict(text)
    return text if loop is None else text[: loop.start + loop.unit]
