"""One page from its document to text: render, decide whether an engine is needed, climb the ladder, settle.

Pages are encoded before they wait for the engine, and their pixels let go: what waits is a fifth of the size, and
an engine's place is held only while the engine works. A retry that needs pixels renders the page again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from inkstick.document import Box, Flag, Page, Task
from inkstick.engines.encode import Encoded
from inkstick.engines.faults import EngineBusy, EngineLost
from inkstick.engines.protocol import Engine, Reading, Request
from inkstick.errors import DocumentError, EngineDown, InkstickError, PageFailed, Timeout
from inkstick.pages.view import Ink, PageView, Pixels, TextLayerMode
from inkstick.reading import ladder, layer, merge, quality
from inkstick.reading.ladder import Outcome, Try, Way
from inkstick.reading.lane import Closed, Lane, Recalled
from inkstick.reading.plan import Key
from inkstick.reading.second import Look, SecondReader, Wish

T = TypeVar("T")

SMALLER = 0.707
STALLS = 2
"""So often a silent engine is not held against a page; then the page's own time is up."""
DEATHS_BEFORE_ALONE = 3


@runtime_checkable
class Encoding(Protocol):
    """An engine that can prepare a page ahead of its turn."""

    async def encode(self, image: Pixels, *, scale: float = 1.0, task: Task = Task.PARSE) -> Encoded: ...

    async def read_encoded(self, image: Encoded, request: Request) -> Reading: ...


@runtime_checkable
class Detecting(Protocol):
    """An engine that can say cheaply whether there is any text on a page."""

    async def has_text(self, image: Pixels) -> bool: ...


@dataclass(slots=True)
class Hold:
    """How many bytes of images a page holds; `changed` is told each difference."""

    changed: Callable[[int], None]
    held: int = 0

    def set(self, size: int) -> None:
        difference, self.held = size - self.held, size
        if difference:
            self.changed(difference)


class Picture:
    """An image of the page or of a part of it: as pixels, or as it is sent. Never both for longer than needed."""

    def __init__(self, box: Box | None, render: Callable[[], Awaitable[Pixels]], pixels: Pixels | None = None) -> None:
        self.box = box
        self._render, self._pixels = render, pixels
        self._encoded: dict[tuple[float, Task], Encoded] = {}

    @property
    def size(self) -> int:
        pixels = len(self._pixels.data) if self._pixels else 0
        return pixels + sum(encoded.size for encoded in self._encoded.values())

    @property
    def ink(self) -> float | None:
        return next((encoded.ink for encoded in self._encoded.values()), None)

    async def pixels(self) -> Pixels:
        return self._pixels if self._pixels is not None else await self._render()

    async def encoded(self, engine: Encoding, scale: float, task: Task) -> Encoded:
        if (scale, task) not in self._encoded:
            pixels = await self.pixels()
            self._encoded = {(scale, task): await engine.encode(pixels, scale=scale, task=task)}
            self._pixels = None
        return self._encoded[scale, task]


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of the page, and of whom. `home` reads it; `other` is the fallback, `other_ok`: it may be used.
    `second` checks what `home` reads, as `wish` says."""

    key: Key
    request: Request
    mode: TextLayerMode
    home: Lane | None
    other: Lane | None
    detector: Engine | None = None
    part: str | None = None
    second: SecondReader | None = None
    wish: Wish | None = None


@dataclass(slots=True)
class _Tried:
    tried: Try
    reading: Reading | None
    engine: Engine | None
    error: DocumentError | None = None


@dataclass(slots=True)
class _Deaths:
    """What befell the page in an engine, apart from tries."""

    lost: int = 0
    lone: int = 0
    stalls: int = 0
    read_before: int = 0
    busy_since: float | None = field(default=None)


class PageReader:
    """Reads page `number`; `render` gives its view, again if asked again."""

    def __init__(self, number: int, render: Callable[[], Awaitable[PageView]], order: Order, hold: Hold) -> None:
        self.number, self._render, self._order, self._hold = number, render, order, hold
        self._expected = quality.Expectation(order.request.task)
        self._started = time.monotonic()
        self._pictures: dict[Way, list[Picture]] = {}
        self._look: Look | None = None

    async def read(self) -> Page:
        """The page, read or with its error. Raises only what is not the page's fault (cancellation, our own bugs)."""
        try:
            view = await self._render()
        except DocumentError as error:
            return self._failed(None, error)
        light = _light(view)
        try:
            page = await self._decide(view)
            del view  # or its pixels would stay in memory until the page is read
            return page or await self._judged_twice(await self._climb(light))
        except DocumentError as error:
            return self._failed(light, error)
        finally:
            self._hold.set(0)
            if self._look:
                self._look.dismiss()

    # -- without an engine

    async def _decide(self, view: PageView) -> Page | None:
        """The page, if no engine is needed; None: its pictures are ready for one."""
        self._hold.set(_bytes_of(view))
        if view.ink is Ink.BLANK:
            return self._page(view).flagged(Flag.BLANK)
        if self._takes_layer(view):
            return self._layer_page(view)
        if view.ink is Ink.UNSURE and await self._detected_blank(view):
            return self._page(view).flagged(Flag.BLANK)
        known = layer.characters(view.text_layer) if view.text_layer and view.text_layer.good else None
        self._expected = replace(self._expected, characters=known)
        self._pictures[Way.TILES if view.tiles else Way.WHOLE] = self._given(view)
        self._look = self._second_look(view)
        return None

    def _second_look(self, view: PageView) -> Look | None:
        """A second reading of the same pixels. Of a tiled page there is no image that lines can be read from."""
        second, wish = self._order.second, self._order.wish
        if second is None or wish is None or view.tiles:
            return None
        return second.begin(view.pixels, self._order.home, wish)

    async def _judged_twice(self, page: Page) -> Page:
        home, second = self._order.home, self._order.second
        if self._look is None or second is None or home is None or page.engine != home.engine.name:
            return page
        self._hold.set(0)
        return await second.judged(page, self._look)

    def _takes_layer(self, view: PageView) -> bool:
        found, mode = view.text_layer, self._order.mode
        if found is None or not found.words or self._order.request.task not in (Task.PARSE, Task.TEXT):
            return False
        return mode is TextLayerMode.FORCE or (mode is TextLayerMode.AUTO and found.born_digital and found.good)

    def _layer_page(self, view: PageView) -> Page:
        assert view.text_layer
        page = self._page(view, engine="textlayer", blocks=layer.blocks(view.text_layer))
        return page.flagged(Flag.TEXT_LAYER)

    async def _detected_blank(self, view: PageView) -> bool:
        """The second opinion on a page that may be blank: the CPU engine's detector invents nothing. No opinion: no."""
        detector = self._order.detector
        if detector is None:
            return False
        try:
            if isinstance(detector, Detecting):
                return not await detector.has_text(view.pixels)
            return not (await detector.read(view.pixels, Request(Task.TEXT))).blocks
        except InkstickError:
            return False

    # -- the ladder

    async def _climb(self, view: PageView) -> Page:
        way: Way | None = Way.TILES if view.tiles else Way.WHOLE
        tries: list[_Tried] = []
        while way is not None:
            tries.append(await self._try(way, [t.tried for t in tries], view))
            can_tile = not view.tiles and min(view.pixels.width, view.pixels.height) >= 200
            if view.ink is Ink.UNSURE and _locally_empty(tries[-1]):
                return self._page(view).flagged(Flag.BLANK)
            engine = tries[-1].engine
            way = ladder.next_way(
                [t.tried for t in tries],
                can_tile=can_tile,
                has_other=self._has_other(tries[-1]),
                varies=engine is None or engine.remote,
            )
        return self._settle(view, tries)

    def _has_other(self, last: _Tried) -> bool:
        other = self._order.other
        return other is not None and last.engine is not other.engine

    async def _try(self, way: Way, before: Sequence[Try], view: PageView) -> _Tried:
        lane = self._order.other if way is Way.OTHER else self._order.home
        request = replace(self._order.request, attempt=1 + sum(t.way is Way.WHOLE for t in before))
        if way is Way.PLAIN:
            request = replace(request, task=Task.TEXT)
        pictures = await self._pictures_for(way, view)
        scale = SMALLER if way is Way.SMALLER else 1.0
        try:
            answers = await _together([self._ask(lane, picture, request, scale) for picture in pictures])
        except DocumentError as error:
            return self._unanswered(way, error, lane)
        return self._judged(way, [a[0] for a in answers], answers[0][1], pictures)

    def _unanswered(self, way: Way, error: DocumentError, lane: Lane | None) -> _Tried:
        outcome = Outcome.TIMEOUT if isinstance(error, Timeout) else Outcome.FAILED
        if isinstance(error, _Poison):
            outcome = Outcome.POISON
        return _Tried(Try(way, outcome), None, lane.engine if lane else None, error)

    def _judged(self, way: Way, readings: list[Reading], engine: Engine, pictures: list[Picture]) -> _Tried:
        expected = replace(self._expected, ink=_mean_ink(pictures))
        whole = readings[0] if len(readings) == 1 else _merged(readings, pictures)
        outcome = quality.outcome(whole, expected)
        if len(readings) > 1:
            each = [quality.outcome(r, replace(expected, ink=None, characters=None)) for r in readings]
            bad = [o for o in each if o in (Outcome.REPETITION, Outcome.TRUNCATED, Outcome.ECHO)]
            outcome = bad[0] if bad else outcome
        if engine is not (self._order.home.engine if self._order.home else None):
            way = Way.OTHER
        return _Tried(Try(way, outcome), whole, engine)

    def _settle(self, view: PageView, tries: list[_Tried]) -> Page:
        place = ladder.best([t.tried for t in tries])
        flags = ladder.flags([t.tried for t in tries], place)
        if place is None:
            error = tries[-1].error or PageFailed("The page could not be read.")
            return replace(self._failed(view, error), attempts=len(tries)).flagged(*flags)
        chosen = tries[place]
        assert chosen.reading and chosen.engine
        page = replace(
            self._page(view, engine=chosen.engine.name, blocks=chosen.reading.blocks),
            model=chosen.reading.model,
            prompt=chosen.reading.prompt,
            score=chosen.reading.score,
            attempts=len(tries),
        )
        return page.flagged(*flags, *(chosen.reading.flags), *quality.findings(page.blocks))

    # -- asking an engine

    async def _ask(self, lane: Lane | None, picture: Picture, request: Request, scale: float) -> tuple[Reading, Engine]:
        """A reading and who gave it. Faults of the connection end in waiting or in the other engine, never here."""
        if lane is None:
            raise EngineDown("There is no engine that reads this.")
        deaths = _Deaths(read_before=lane.read)
        other = self._order.other if lane is not self._order.other else None
        while True:
            try:
                return await self._once(lane, picture, request, scale, deaths, may_leave=other is not None), lane.engine
            except Closed:
                assert other
                lane, deaths, other = other, _Deaths(read_before=other.read), None
            except Recalled:
                continue
            except EngineBusy as error:
                await self._wait_for_room(lane, deaths, error)
            except EngineDown as error:
                self._note_death(lane, deaths, error)
            except Timeout as error:
                if deaths.stalls >= STALLS or not lane.engine.remote or lane.read > deaths.read_before:
                    raise
                deaths.stalls += 1
                lane.stalled(error.message)

    async def _once(
        self, lane: Lane, picture: Picture, request: Request, scale: float, deaths: _Deaths, *, may_leave: bool
    ) -> Reading:
        engine = lane.engine
        shot = await picture.encoded(engine, scale, request.task) if isinstance(engine, Encoding) else None
        self._recount()
        async with lane.slot(self._order.key, alone=deaths.lost >= DEATHS_BEFORE_ALONE, may_leave=may_leave) as place:
            deaths.read_before = lane.read
            if isinstance(engine, Encoding) and shot is not None:
                reading = await place.run(engine.read_encoded(shot, request))
            else:
                reading = await place.run(engine.read(await picture.pixels(), request))
        lane.succeeded()
        return reading

    def _note_death(self, lane: Lane, deaths: _Deaths, error: EngineDown) -> None:
        lane.lost(error.message)
        if not isinstance(error, EngineLost):
            return
        deaths.lone += deaths.lost >= DEATHS_BEFORE_ALONE
        deaths.lost += 1
        if ladder.poisonous(deaths.lone, others_read=lane.read > 0):
            raise _Poison("The engine breaks down on this page, and on this page only.") from error

    async def _wait_for_room(self, lane: Lane, deaths: _Deaths, error: EngineBusy) -> None:
        lane.busy()
        now = time.monotonic()
        deaths.busy_since = deaths.busy_since or now
        if now - deaths.busy_since > lane.grace:
            lane.lost(error.message)
        await asyncio.sleep(min(1.0, 0.05 + (now - deaths.busy_since) / 4))

    # -- pictures

    def _given(self, view: PageView) -> list[Picture]:
        if not view.tiles:
            return [Picture(None, self._again, view.pixels)]
        return [Picture(tile.box, self._tile_again(n), tile.pixels) for n, tile in enumerate(view.tiles)]

    async def _pictures_for(self, way: Way, view: PageView) -> list[Picture]:
        """Pictures of the page as `way` wants it; anything but tiles takes those that the page came with."""
        if way in self._pictures:
            return self._pictures[way]
        if way is not Way.TILES:
            return next(iter(self._pictures.values()))
        pixels = await self._again()
        self._pictures[way] = [Picture(box, self._part_again(box), crop(pixels, box)) for box in merge.halves()]
        self._recount()
        return self._pictures[way]

    async def _again(self) -> Pixels:
        return (await self._render()).pixels

    def _tile_again(self, place: int) -> Callable[[], Awaitable[Pixels]]:
        async def render() -> Pixels:
            return (await self._render()).tiles[place].pixels

        return render

    def _part_again(self, box: Box) -> Callable[[], Awaitable[Pixels]]:
        async def render() -> Pixels:
            return crop(await self._again(), box)

        return render

    def _recount(self) -> None:
        self._hold.set(sum(picture.size for pictures in self._pictures.values() for picture in pictures))

    # -- pages

    def _page(self, view: PageView, *, engine: str | None = None, blocks: Sequence[object] = ()) -> Page:
        return Page(
            number=self.number,
            width=view.pixels.width,
            height=view.pixels.height,
            engine=engine,
            seconds=time.monotonic() - self._started,
            flags=view.flags,
            blocks=tuple(blocks),  # type: ignore[arg-type]
            rotation=view.rotation,
            part=self._order.part,
        )

    def _failed(self, view: PageView | None, error: DocumentError) -> Page:
        told = {key: str(value) for key, value in error.as_json().items()}
        if view is None:
            seconds = time.monotonic() - self._started
            return Page(self.number, 0, 0, None, seconds=seconds, part=self._order.part, error=told)
        return replace(self._page(view), error=told)


class _Poison(PageFailed):
    """The page kills the engine."""


def _locally_empty(tried: _Tried) -> bool:
    """An engine that cannot invent found nothing."""
    return tried.tried.outcome is Outcome.EMPTY and tried.engine is not None and not tried.engine.remote


def crop(pixels: Pixels, box: Box) -> Pixels:
    """The part of `pixels` that `box` (thousandths) covers."""
    image = np.frombuffer(pixels.data, np.uint8).reshape(pixels.height, pixels.width, 3)
    x0, x1 = (x * pixels.width // 1000 for x in (box[0], box[2]))
    y0, y1 = (y * pixels.height // 1000 for y in (box[1], box[3]))
    part = image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    return Pixels(part.shape[1], part.shape[0], part.tobytes())


def _merged(readings: Sequence[Reading], pictures: Sequence[Picture]) -> Reading:
    pieces = [merge.Piece(p.box or merge.WHOLE, r.blocks) for r, p in zip(readings, pictures, strict=True)]
    flags = frozenset[Flag]().union(*(reading.flags for reading in readings))
    scores = [reading.score for reading in readings if reading.score is not None]
    score = min(scores) if scores else None
    raws = [reading.raw for reading in readings if reading.raw]
    raw = "\n\n".join(raws) if raws else None
    return Reading(merge.merge(pieces), readings[0].model, readings[0].prompt, score, flags, raw)


def _mean_ink(pictures: Sequence[Picture]) -> float | None:
    found = [picture.ink for picture in pictures if picture.ink is not None]
    return sum(found) / len(found) if found else None


async def _together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error cancels the rest."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _bytes_of(view: PageView) -> int:
    return len(view.pixels.data) + sum(len(tile.pixels.data) for tile in view.tiles)


def _light(view: PageView) -> PageView:
    """The view without pixels, which the pictures hold now."""
    pixels = replace(view.pixels, data=b"")
    return replace(view, pixels=pixels, tiles=tuple(replace(t, pixels=replace(t.pixels, data=b"")) for t in view.tiles))
