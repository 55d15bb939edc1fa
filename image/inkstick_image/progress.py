"""One line per step, with its time; the times go into the build manifest."""

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
