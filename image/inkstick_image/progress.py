"""One line per step, with its time, and for a long one a line for each tenth; the times go into the build manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """`say` prints one line. `seconds`: step → seconds, as they end."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._say(f"{name} …")
        started = self._clock()
        yield
        self.seconds[name] = round(self._clock() - started, 1)
        self._say(f"{name}: done in {self.seconds[name]:.1f} s")

    def note(self, text: str) -> None:
        self._say(text)


class Way:
    """How much of a long step's `total` bytes is done: a line for each tenth, with the minutes left at this pace."""

    def __init__(
        self, name: str, total: int, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._total, self._say, self._clock = name, total, say, clock
        self._started, self._done, self._tenths = clock(), 0, 0

    def went(self, count: int) -> None:
        """`count` bytes more."""
        self._done += count
        tenths = 10 * self._done // self._total
        if tenths == self._tenths:
            return
        self._tenths = tenths
        pace = self._done / max(self._clock() - self._started, 0.001)
        left = (self._total - self._done) / pace / 60
        wait = f", {left:.0f} min left" if left >= 1 else ""
        self._say(f"{self._name}: {10 * tenths} % of {self._total / 1e9:.1f} GB, {pace / 1e6:.0f} MB/s{wait}")
