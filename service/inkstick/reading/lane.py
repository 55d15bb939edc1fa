"""The way into one engine: who may go in now, and is anybody home.

A lane admits pages in the plan's order, at most `capacity.limit` at once. It closes when the engine is down, looks
after it until it is ready again, and opens by itself. After a stall (an engine that took pages and gave nothing
back, though its /health may say otherwise) it opens for a single page, and fully only when that one was read.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from inkstick.clock import Clock
from inkstick.engines.protocol import Engine, Load, Reading
from inkstick.errors import InkstickError
from inkstick.profile import Priority
from inkstick.reading.capacity import Capacity, steer
from inkstick.reading.plan import Key, bulk_share, recalled

log = logging.getLogger(__name__)

EPISODES = 5
"""So many losses in a row, with no page read between them, and the engine is on trial."""


class Recalled(Exception):
    """The page was taken back from the engine for a person's; it waits again, and no attempt is counted."""


class Closed(Exception):
    """The lane closed for longer than the page may wait; it may go elsewhere."""


@dataclass(order=True, slots=True)
class Waiter:
    """A page at the door. `alone`: only when nobody else is in. Ordered by the plan's key, then arrival."""

    key: Key
    arrival: int
    alone: bool = field(compare=False)
    may_leave: bool = field(compare=False)
    admitted: asyncio.Future[None] = field(compare=False)
    reading: asyncio.Future[Reading] | None = field(default=None, compare=False)
    recalled: bool = field(default=False, compare=False)

    async def run(self, work: Coroutine[Any, Any, Reading]) -> Reading:
        """The engine's work on this page, which the lane may take back: raises `Recalled`."""
        self.reading = asyncio.ensure_future(work)
        try:
            return await self.reading
        except asyncio.CancelledError:
            if self.recalled and self.reading.cancelled():
                task = asyncio.current_task()
                if task is not None and not task.cancelling():
                    raise Recalled from None
            self.reading.cancel()
            raise


class Lane:
    """See the module's docstring. `changed` is called whenever it opens, closes or has room."""

    def __init__(self, engine: Engine, clock: Clock, *, grace: float, poll: float, changed: Callable[[], None]) -> None:
        self.engine, self.grace = engine, grace
        self.capacity = Capacity.at(engine.limit)
        self.in_flight = 0
        self.read = 0
        self.refused = 0
        self.trial = False
        self.episodes = 0
        self.down_since: float | None = None
        self.detail = ""
        self.last_load: Load | None = None
        self._clock, self._poll, self._changed = clock, poll, changed
        self._pause = grace / 2
        self._waiters: list[Waiter] = []
        self._arrivals = itertools.count()
        self._lone = False
        self._persons = 0
        self._bulk: list[Waiter] = []
        self._trial_due = 0.0
        self._look = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    # -- life

    async def start(self) -> None:
        """Start the engine; one that is not there yet is waited for in the background."""
        try:
            await self.engine.start()
        except InkstickError as error:
            self._shut(error.message)
        self._keeper = asyncio.create_task(self._keep(), name=f"lane {self.engine.name}")

    async def close(self) -> None:
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self.engine.close()

    # -- state

    @property
    def up(self) -> bool:
        return self.down_since is None

    @property
    def gone(self) -> bool:
        """Down for longer than the grace: pages that may go elsewhere do."""
        return self.down_since is not None and self._clock.monotonic() - self.down_since >= self.grace

    @property
    def limit(self) -> int:
        return 1 if self.trial else min(self.capacity.limit, max(1, self.engine.limit))

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    def _trial_open(self) -> bool:
        return self.trial and self.in_flight == 0 and self._clock.monotonic() >= self._trial_due

    # -- going in

    @asynccontextmanager
    async def slot(self, key: Key, *, alone: bool = False, may_leave: bool = False) -> AsyncIterator[Waiter]:
        """Wait for a place and hold it. Raises `Closed` if `may_leave` and the engine is gone."""
        if may_leave and self.gone and not self._trial_open():
            raise Closed
        waiter = Waiter(key, next(self._arrivals), alone, may_leave, asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiters, waiter)
        self._admit()
        try:
            await waiter.admitted
        except BaseException:
            self._withdraw(waiter)
            raise
        try:
            yield waiter
        finally:
            self._leave(waiter)

    def _admit(self) -> None:
        while self._waiters and self._may_enter(self._waiters[0]):
            waiter = heapq.heappop(self._waiters)
            if not waiter.admitted.done():
                self._enter(waiter)
                waiter.admitted.set_result(None)

    def _may_enter(self, waiter: Waiter) -> bool:
        if waiter.admitted.done():
            return True
        if self._lone or (waiter.alone and self.in_flight):
            return False
        if not self.up:
            return self._trial_open()
        if waiter.key[0] == Priority.PERSON:
            return self.in_flight < self.limit
        return self.in_flight < min(self.limit, bulk_share(self.limit, person=self._persons > 0))

    def _enter(self, waiter: Waiter) -> None:
        self.in_flight += 1
        self._lone = self._lone or waiter.alone
        if waiter.key[0] == Priority.PERSON:
            self._persons += 1
            self._recall()
        else:
            self._bulk.append(waiter)

    def _recall(self) -> None:
        """Take the youngest bulk pages back from a remote engine."""
        for _ in range(recalled(self.limit, len(self._bulk)) if self.engine.remote else 0):
            waiter = self._bulk.pop()
            waiter.recalled = True
            if waiter.reading is not None:
                waiter.reading.cancel()

    def _leave(self, waiter: Waiter) -> None:
        self.in_flight -= 1
        self._persons -= waiter.key[0] == Priority.PERSON
        if waiter in self._bulk:
            self._bulk.remove(waiter)
        self._lone = self._lone and not waiter.alone
        self._admit()
        self._changed()

    def _withdraw(self, waiter: Waiter) -> None:
        if waiter.admitted.done() and not waiter.admitted.cancelled() and waiter.admitted.exception() is None:
            self._leave(waiter)
        elif waiter in self._waiters:
            self._waiters.remove(waiter)
            heapq.heapify(self._waiters)

    def _send_away(self) -> None:
        """Let those who may go elsewhere go."""
        leaving = [waiter for waiter in self._waiters if waiter.may_leave]
        self._waiters = [waiter for waiter in self._waiters if not waiter.may_leave]
        heapq.heapify(self._waiters)
        for waiter in leaving:
            if not waiter.admitted.done():
                waiter.admitted.set_exception(Closed())

    # -- what the pages found

    def succeeded(self) -> None:
        self.read += 1
        self.trial, self.episodes = False, 0
        if not self.up:
            self._open()

    def lost(self, message: str) -> None:
        """A page found the engine gone: close, and look at once whether it really is. An engine that says it is
        ready but loses pages again and again is given single pages only."""
        self.episodes += self.up
        if self.episodes >= EPISODES or self.trial:
            self._try_later()
        self._shut(message)
        self._look.set()

    def stalled(self, message: str) -> None:
        """A page was given nothing, and no other was either: one page at a time until one is read."""
        self._try_later()
        self.refused += 1
        self._shut(message)

    def _try_later(self) -> None:
        self.trial = True
        self._trial_due = self._clock.monotonic() + self._pause

    def busy(self) -> None:
        self.refused += 1

    # -- the keeper

    def _shut(self, message: str) -> None:
        self.detail = message
        if self.down_since is None:
            self.down_since = self._clock.monotonic()
        self._changed()

    def _open(self) -> None:
        self.down_since, self.detail = None, ""
        self._admit()
        self._changed()

    async def _keep(self) -> None:
        """Steer the capacity while up, look after the engine while down."""
        while True:
            try:
                await self._tick()
            except Exception as error:  # a look that failed says that the engine is not well; the next one is due
                if self.up:
                    log.exception("looking after the engine %s failed", self.engine.name)
                self._shut(f"It answers nonsense ({type(error).__name__}).")
            if self.gone:
                self._send_away()
            self._admit()
            self._changed()
            self._look.clear()
            try:
                async with asyncio.timeout(self._poll):
                    await self._look.wait()
                await asyncio.sleep(min(0.05, self._poll))  # let a crashing engine close its door
            except TimeoutError:
                pass

    async def _tick(self) -> None:
        if not self.up:
            health = await self.engine.health()
            if health.ready and not self.trial:
                self._open()
            elif not health.ready:
                self.trial = False
                self.detail = health.detail
            return
        refused, self.refused = self.refused, 0
        if self.in_flight or refused:
            self.last_load = await self.engine.load()
            before = self.capacity
            self.capacity = steer(before, load=self.last_load, in_flight=self.in_flight, refused=refused)
