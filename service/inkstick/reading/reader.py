"""The reader: pages of all open documents, on the engines there are, as fast as those can take them.

    submitted jobs ──open──> candidates ──plan──> render, encode ──lane──> engine ──quality, ladder──> on_page

- Isolation: a page's error is its own; a document's error is its job's; neither stops anything else.
- Back-pressure: pages between document and engine are bounded in number (2 x in flight) and in bytes of image.
- No barrier: the next document's pages follow the last one's at once; order is `plan`'s.
- Nobody's fault is nobody's attempt: while the engine is away pages wait, or go to the fallback after a short grace.
- Shutdown: `close` cancels what runs; pages already handed to `on_page` are done, all others are not begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from inkstick.clock import Clock, SystemClock
from inkstick.document import Page, Part
from inkstick.engines.protocol import Engine, Request
from inkstick.errors import Blocked, DocumentError, Empty, Unsupported
from inkstick.models import catalogue
from inkstick.pages.view import Budget, PageView
from inkstick.profile import EngineChoice, Priority, Profile
from inkstick.reading.attempt import Hold, Order, PageReader
from inkstick.reading.lane import Lane
from inkstick.reading.plan import Candidate, Key, choose, key
from inkstick.reading.second import SecondReader, Wish
from inkstick.reading.source import Opener, PartFile, Source

__all__ = ["Engines", "Job", "JobSummary", "PartFile", "Reader", "Stats", "Ticket"]

OPENING = 4
RENDERING = 4
"""Pages asked of the parsers at once: two for those that work, and as many at their door."""
RATE_WINDOW = 60.0
MAX_PAGES = 100_000


@dataclass(frozen=True, slots=True)
class Engines:
    """`primary` reads; `fallback` is the CPU engine that carries on when it is gone. Either may be missing."""

    primary: Engine | None = None
    fallback: Engine | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One document to read. `have`: numbers of pages that are read already. `order`: arrival. `on_page` is awaited
    for each page in order of completion, one at a time; `on_opened` once with the total, before any page. An
    exception from either ends the job with it. `on_blocked` is told the code of what the job waits for,
    `on_unblocked` when it goes on."""

    id: str
    parts: tuple[PartFile, ...]
    profile: Profile
    order: int
    on_page: Callable[[Page], Awaitable[None]]
    on_opened: Callable[[int], Awaitable[None]] | None = None
    on_blocked: Callable[[str], Awaitable[None]] | None = None
    on_unblocked: Callable[[], Awaitable[None]] | None = None
    have: frozenset[int] | set[int] = frozenset()


@dataclass(frozen=True, slots=True)
class JobSummary:
    """`pages`: in all; `read`: well read now; `failed`: number and error of the others; `parts`: of an archive."""

    pages: int
    read: int
    failed: dict[int, dict[str, str]]
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures for /metrics. `pages_failed`: by the engine that tried last, ``none`` if none did.
    `engines`: by name: in_flight, waiting, limit, read, up (0 or 1)."""

    jobs: int
    preparing: int
    in_flight: int
    waiting: int
    pages_read: int
    pages_failed: dict[str, int]
    pages_per_second: float
    image_bytes: int
    engines: dict[str, dict[str, int]] = field(default_factory=dict)


class Ticket:
    """A submitted job. Await it for its `JobSummary`, or the error that ended it."""

    def __init__(self, job: Job, task: asyncio.Task[JobSummary]) -> None:
        self.job, self._task = job, task

    def __await__(self) -> Generator[Any, None, JobSummary]:
        return asyncio.shield(self._task).__await__()

    @property
    def done(self) -> bool:
        return self._task.done()

    def cancel(self) -> None:
        """Stop reading this document; engines stop working on its pages. Awaiting it then raises CancelledError."""
        self._task.cancel()


class _Work:
    """A job while it is open."""

    def __init__(self, job: Job, sources: list[Source], home: Lane | None, other: Lane | None) -> None:
        self.job, self.sources, self.home, self.other = job, sources, home, other
        self.todo: Iterator[int] = iter(())
        self.next: int | None = None
        self.remaining = 0
        self.unread = 0
        self.total = 0
        self.read = 0
        self.failed: dict[int, dict[str, str]] = {}
        self.fault: BaseException | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.telling = asyncio.Lock()
        self.ended = asyncio.Event()
        self.blocked = False

    def planned(self, total: int) -> None:
        """All pages of `total` that nobody has read yet are to be read."""
        have = self.job.have
        self.total = total
        self.remaining = self.unread = total - sum(1 <= number <= total for number in have)
        self.todo = (number for number in range(1, total + 1) if number not in have)
        self.next = next(self.todo, None)
        if self.unread == 0:
            self.ended.set()

    def take(self) -> int:
        number = self.next
        assert number is not None
        self.next = next(self.todo, None)
        self.remaining -= 1
        return number

    def candidate(self) -> Candidate:
        assert self.next is not None
        return Candidate(self.job.profile.priority, self.job.order, self.next, self.remaining)

    def source(self, number: int) -> Source:
        return next(source for source in self.sources if source.first <= number <= source.last)

    def fail(self, error: BaseException) -> None:
        self.fault = self.fault or error
        self.next = None
        self.ended.set()


class Reader:
    """See the module's docstring. `image_bytes` bounds page images held; `grace`: seconds that pages wait for the
    primary engine before the fallback takes them; `poll`: seconds between looks at the engines; `rendering`: pages
    asked of the pool at once; `max_pages`: of the longest document."""

    def __init__(
        self,
        *,
        pool: Opener,
        engines: Engines,
        clock: Clock | None = None,
        image_bytes: int = 512 << 20,
        budget: Budget | None = None,
        grace: float = 10.0,
        poll: float = 1.0,
        rendering: int = RENDERING,
        max_pages: int = MAX_PAGES,
    ) -> None:
        self._pool, self._clock = pool, clock or SystemClock()
        self._image_bytes, self._budget, self._max_pages = image_bytes, budget or Budget(), max_pages
        lane = functools.partial(Lane, clock=self._clock, grace=grace, poll=poll, changed=self._changed)
        self._primary = lane(engines.primary) if engines.primary else None
        self._fallback = lane(engines.fallback) if engines.fallback else None
        self._second = SecondReader(self._fallback, self._hold) if self._fallback else None
        self._works: list[_Work] = []
        self._tickets: set[asyncio.Task[JobSummary]] = set()
        self._opening = asyncio.Semaphore(OPENING)
        self._turn = 0
        self._rendering = rendering
        self._active = 0
        self._preparing = 0
        self._held = 0
        self._pages_read = 0
        self._pages_failed: Counter[str] = Counter()
        self._recent: deque[float] = deque(maxlen=10_000)
        self._pump_due = False
        self._closed = False
        self._telling: set[asyncio.Task[None]] = set()

    # -- life

    async def start(self) -> None:
        """Start the engines; those that are not there are waited for."""
        await asyncio.gather(*(lane.start() for lane in self._lanes))

    async def close(self) -> None:
        """Stop all jobs and the engines."""
        self._closed = True
        tasks = [*self._tickets, *self._telling]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._second:
            await self._second.close()
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    @property
    def _lanes(self) -> list[Lane]:
        return [lane for lane in (self._primary, self._fallback) if lane]

    @property
    def limit(self) -> int:
        """How many pages may be in flight on the engine that reads now."""
        open_lanes = [lane.limit for lane in self._lanes if lane.up]
        return open_lanes[0] if open_lanes else max((lane.limit for lane in self._lanes), default=1)

    def admits(self, engine: Engine) -> bool:
        """Whether pages are let in to one of the engines."""
        return any(lane.up for lane in self._lanes if lane.engine is engine)

    def submit(self, job: Job) -> Ticket:
        """Take a job on. It waits by itself while no engine is there."""
        task = asyncio.get_running_loop().create_task(self._run(job), name=f"job {job.id}")
        self._tickets.add(task)
        task.add_done_callback(self._tickets.discard)
        return Ticket(job, task)

    def stats(self) -> Stats:
        now = self._clock.monotonic()
        recent = [t for t in self._recent if now - t <= RATE_WINDOW]
        span = max(1.0, now - recent[0]) if recent else 1.0
        return Stats(
            jobs=len(self._tickets),
            preparing=self._preparing,
            in_flight=sum(lane.in_flight for lane in self._lanes),
            waiting=sum(lane.waiting for lane in self._lanes),
            pages_read=self._pages_read,
            pages_failed=dict(self._pages_failed),
            pages_per_second=len(recent) / span,
            image_bytes=self._held,
            engines={lane.engine.name: _figures(lane) for lane in self._lanes},
        )

    # -- one job

    async def _run(self, job: Job) -> JobSummary:
        home, other = self._choose(job.profile)
        sources = [Source(self._pool, part, job.profile.passwords, self._max_pages) for part in job.parts]
        work = _Work(job, sources, home, other)
        try:
            work.planned(await self._open(work))
            self._works.append(work)
            self._pump()
            await work.ended.wait()
            if work.fault is not None:
                raise work.fault
            parts = tuple(source.record() for source in sources if source.part.name is not None)
            return JobSummary(work.total, work.read, work.failed, parts)
        finally:
            await self._put_away(work)

    def _choose(self, profile: Profile) -> tuple[Lane | None, Lane | None]:
        """(the lane that reads, the lane to fall back on) for a profile. Raises Unsupported if no engine has the
        task."""
        able = [lane for lane in self._lanes if profile.task in lane.engine.tasks]
        if self._lanes and not able:
            raise Unsupported(
                f"No engine here offers the task {profile.task}.", hint=catalogue.read().instead(profile.task)
            )
        if profile.engine is not EngineChoice.AUTO:
            named = [lane for lane in able if lane.engine.name == profile.engine]
            return (named[0] if named else None), None
        return (able[0] if able else None), (able[1] if len(able) > 1 else None)

    async def _open(self, work: _Work) -> int:
        """Number the pages of all parts; the total. Raises the error of a document that is no archive, and Empty."""
        person = work.job.profile.priority == Priority.PERSON
        async with contextlib.nullcontext() if person else self._opening:
            total = 0
            for source in work.sources:
                total += await source.probe(total + 1, keep=len(work.sources) == 1)
        plain = [source for source in work.sources if source.part.name is None]
        if plain and plain[0].error:
            raise plain[0].error
        if total == 0:
            raise next((source.error for source in work.sources if source.error), None) or Empty()
        if work.job.on_opened:
            await work.job.on_opened(total)
        return total

    async def _put_away(self, work: _Work) -> None:
        if work in self._works:
            self._works.remove(work)
        for task in work.tasks:
            task.cancel()
        await asyncio.gather(*work.tasks, return_exceptions=True)
        await asyncio.gather(*(source.close() for source in work.sources), return_exceptions=True)
        self._changed()

    # -- the pump

    def _changed(self) -> None:
        """Something made room, or an engine came or went: look once, soon."""
        if not self._pump_due and not self._closed:
            self._pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Begin as many pages as there is room for."""
        self._pump_due = False
        if self._closed:
            return
        self._announce()
        ready = [work for work in self._works if work.next is not None]
        while ready:
            place = choose([work.candidate() for work in ready], self._turn)
            if not self._room(ready[place]):
                return
            self._turn += 1
            self._begin(ready[place])
            ready = [work for work in ready if work.next is not None]

    def _room(self, work: _Work) -> bool:
        """A page may be begun: few enough wait before the engine, and their images fit. A person's page needs less
        room."""
        waiting = self._active - sum(lane.in_flight for lane in self._lanes)
        if self._second:
            waiting += self._second.reading - self._second.awaited
        if self._active == 0 and self._held == 0:
            return True
        if self._preparing >= self._rendering:
            return False  # parsers work in order of arrival: what is not sent there yet can still be overtaken
        person = work.job.profile.priority == Priority.PERSON
        allowed = 2 * self.limit + (OPENING if person else 0)
        expected = 3 * self._budget.pixels * (self._preparing + 1)
        return waiting < allowed and self._held + expected <= self._image_bytes * (2 if person else 1)

    def _begin(self, work: _Work) -> None:
        at = key(work.candidate())
        self._preparing += 1
        self._active += 1
        rendered, hold = _Once(self._rendered), Hold(self._hold)
        task = asyncio.get_running_loop().create_task(self._page(work, work.take(), at, rendered, hold))
        work.tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:  # not in the task: one cancelled before it began never runs
            work.tasks.discard(task)
            rendered()
            hold.set(0)
            self._active -= 1
            self._changed()

        task.add_done_callback(ended)

    async def _page(self, work: _Work, number: int, at: Key, rendered: Callable[[], None], hold: Hold) -> None:
        source = work.source(number)
        render = functools.partial(self._render, source, number, work, rendered)
        reader = PageReader(number, render, self._asked(work, at, source), hold)
        try:
            page = await reader.read()
            await self._tell(work, page)
            await source.done_with()
        except (DocumentError, Blocked) as error:
            work.fail(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            work.fail(error)

    async def _render(self, source: Source, number: int, work: _Work, rendered: Callable[[], None]) -> PageView:
        try:
            return await source.page(number, budget=self._budget, mode=work.job.profile.text_layer)
        finally:
            rendered()

    def _asked(self, work: _Work, at: Key, source: Source) -> Order:
        profile = work.job.profile
        request = Request(
            task=profile.task,
            keys=profile.keys,
            to=profile.to,
            prompt=profile.prompt,
            priority=int(profile.priority),
        )
        detector = self._fallback.engine if self._fallback and self._fallback.up else None
        wish = Wish(profile.second_reader, profile.task, functools.partial(self._fed, work.home))
        second = self._second if profile.prompt is None else None
        return Order(at, request, profile.text_layer, work.home, work.other, detector, source.part.name, second, wish)

    def _fed(self, home: Lane | None) -> bool:
        """The engine has enough pages at its door, or there are no more to prepare: processors may do other work."""
        if not any(work.next is not None for work in self._works):
            return True
        return home is None or home.waiting >= max(1, home.limit // 2)

    async def _tell(self, work: _Work, page: Page) -> None:
        async with work.telling:
            await work.job.on_page(page)
        if page.error is None:
            work.read += 1
            self._pages_read += 1
            self._recent.append(self._clock.monotonic())
        else:
            work.failed[page.number] = dict(page.error)
            self._pages_failed[page.engine or "none"] += 1
        work.unread -= 1
        if work.unread == 0:
            work.ended.set()

    def _rendered(self) -> None:
        self._preparing -= 1
        self._changed()

    def _hold(self, difference: int) -> None:
        self._held += difference
        if difference < 0:
            self._changed()

    # -- waiting for an engine

    def _announce(self) -> None:
        """Tell jobs that began or ceased to wait for an engine."""
        for work in self._works:
            waits = not any(lane and lane.up for lane in (work.home, work.other))
            if waits != work.blocked:
                work.blocked = waits
                self._tell_blocked(work.job, waits)

    def _tell_blocked(self, job: Job, waits: bool) -> None:
        told = (job.on_blocked("engine_down") if job.on_blocked else None) if waits else None
        if not waits and job.on_unblocked:
            told = job.on_unblocked()
        if told is not None:
            task = asyncio.ensure_future(told)
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)


class _Once:
    """Calls `act` the first time that it is called."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def __call__(self) -> None:
        act, self._act = self._act, None
        if act:
            act()


def _figures(lane: Lane) -> dict[str, int]:
    return {
        "in_flight": lane.in_flight,
        "waiting": lane.waiting,
        "limit": lane.limit,
        "read": lane.read,
        "up": int(lane.up),
    }
