"""The second reader: the CPU engine looks at what another engine reads, while nobody else needs it.

- It begins from the pixels that the page was rendered to, beside the first reading, so that nothing is rendered twice.
- Mode `idle`: only if a process of the CPU engine is free now and the first engine has enough pages at its door; else
  the page goes without. Mode `on`: the page waits for its turn.
- A page never holds a place of the first engine while it waits for a second opinion. A look that nobody wants any more
  is finished and forgotten: breaking it off would cost its process.
- A second reader that fails is no fault of the page: it then has no second opinion.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inkstick.document import Page, Task
from inkstick.engines.protocol import Request
from inkstick.errors import InkstickError
from inkstick.pages.view import Pixels
from inkstick.profile import Priority, SecondMode
from inkstick.reading.agreement import compare
from inkstick.reading.lane import Closed, Lane, Recalled
from inkstick.reading.opinion import Opinion, opinion_of
from inkstick.reading.plan import Key

ADMISSION = 0.25
"""Seconds that a look may wait for a free process in mode idle."""
PATIENCE = 5.0
"""Seconds that a page that was read waits for a look under way in mode idle."""
COMPARED = frozenset({Task.PARSE, Task.TEXT, Task.SPOTTING})
"""Tasks whose answer is what is printed. Of the others, a second reader of lines can say nothing."""
LAST: Key = (int(Priority.BULK) + 1, 1, 0, 0)


class Look:
    """A second reading that was begun: pixels, and when to give up."""

    def __init__(self, pixels: Pixels, *, admission: float | None, patience: float | None) -> None:
        self.pixels: Pixels | None = pixels
        self.size = len(pixels.data)
        self.admission, self.patience = admission, patience
        self.admitted = False
        self.task: asyncio.Task[Opinion | None] | None = None

    async def opinion(self) -> Opinion | None:
        """What was seen; None if it could not be had in time."""
        assert self.task
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.patience):
                return await asyncio.shield(self.task)
        return None

    def dismiss(self) -> None:
        """Nobody wants it any more."""
        if self.task and not self.admitted:
            self.task.cancel()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a page wants of a second reader. `fed`: the first engine does not wait for the processors."""

    mode: SecondMode
    task: Task
    fed: Callable[[], bool]


class SecondReader:
    """See the module's docstring. `lane`: into the CPU engine. `hold` is told the bytes that its looks keep. `reading`:
    looks in the engine now; `awaited`: pages that were read and wait for their look."""

    def __init__(self, lane: Lane, hold: Callable[[int], None], *, patience: float = PATIENCE) -> None:
        self._lane, self._hold, self._patience = lane, hold, patience
        self._looks: set[Look] = set()
        self.reading = 0
        self.awaited = 0

    async def close(self) -> None:
        tasks = [look.task for look in self._looks if look.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, pixels: Pixels, home: Lane | None, wish: Wish) -> Look | None:
        """Look at a page that the engine of `home` will read; None if that is not wanted, or not possible now."""
        if not self._wanted(home, wish) or (wish.mode is SecondMode.IDLE and not self._idle(wish)):
            return None
        if wish.mode is SecondMode.ON:
            look = Look(pixels, admission=None, patience=None)
        else:
            look = Look(pixels, admission=ADMISSION, patience=self._patience)
        look.task = asyncio.get_running_loop().create_task(self._look(look))
        self._looks.add(look)
        self._hold(look.size)
        look.task.add_done_callback(lambda _: self._forget(look))
        return look

    def _wanted(self, home: Lane | None, wish: Wish) -> bool:
        """Only beside an engine that can invent, and never instead of it."""
        if home is None or home is self._lane or not home.engine.remote or self._lane.engine.remote:
            return False
        return wish.mode is not SecondMode.OFF and wish.task in COMPARED and self._lane.up

    def _idle(self, wish: Wish) -> bool:
        return self._lane.waiting == 0 and self._lane.in_flight < self._lane.limit and wish.fed()

    def _forget(self, look: Look) -> None:
        self._looks.discard(look)
        self._hold(-look.size)

    async def _look(self, look: Look) -> Opinion | None:
        engine = self._lane.engine
        request = Request(Task.PARSE)
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(look.admission):
                    place = await stack.enter_async_context(self._lane.slot(LAST))
                look.admitted = True
                stack.enter_context(self._counted())
                pixels, look.pixels = look.pixels, None
                assert pixels
                reading = await place.run(engine.read(pixels, request))
        except (InkstickError, TimeoutError, Closed, Recalled):
            return None
        return opinion_of(engine.name, reading)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self.reading += 1
        try:
            yield
        finally:
            self.reading -= 1

    async def judged(self, page: Page, look: Look) -> Page:
        """`page`, read well, beside what `look` saw; as it is if that saw nothing in time."""
        self.awaited += 1
        try:
            opinion = await look.opinion()
        finally:
            self.awaited -= 1
        return page if opinion is None else await asyncio.to_thread(compare, page, opinion)
