"""What follows a bad answer: other sampling, a plainer prompt, a smaller picture, tiles, the other engine; then it
is settled.

Pure. Every way has a bounded number of uses, so every ladder ends. Faults of the connection are no tries and do not
come here. Whatever was seen on the way is flagged, even when the page came out well in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from inkstick.document import Flag


class Outcome(StrEnum):
    """How a try ended, from best to worst. `poison`: the page killed the engine."""

    GOOD = "good"
    SUSPECT = "suspect"
    REPETITION = "repetition"
    TRUNCATED = "truncated"
    COORDINATES = "coordinates"
    ECHO = "echo"
    EMPTY = "empty"
    TIMEOUT = "timeout"
    FAILED = "failed"
    POISON = "poison"


class Way(StrEnum):
    """`whole`: the page as it is (each time with the next sampling). `plain`: the simplest prompt. `smaller`: half the
    pixels. `tiles`: in overlapping parts. `other`: the other engine."""

    WHOLE = "whole"
    PLAIN = "plain"
    SMALLER = "smaller"
    TILES = "tiles"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Try:
    way: Way
    outcome: Outcome


LADDERS: dict[Outcome, tuple[Way, ...]] = {
    Outcome.GOOD: (),
    Outcome.SUSPECT: (Way.WHOLE,),
    Outcome.REPETITION: (Way.WHOLE, Way.WHOLE, Way.TILES, Way.OTHER),
    Outcome.TRUNCATED: (Way.TILES, Way.OTHER),
    Outcome.COORDINATES: (Way.PLAIN, Way.OTHER),
    Outcome.ECHO: (Way.WHOLE, Way.PLAIN, Way.OTHER),
    Outcome.EMPTY: (Way.WHOLE, Way.OTHER),
    Outcome.TIMEOUT: (Way.SMALLER, Way.TILES, Way.OTHER),
    Outcome.FAILED: (Way.WHOLE, Way.SMALLER, Way.OTHER),
    Outcome.POISON: (Way.OTHER,),
}
UNANSWERED = frozenset({Outcome.TIMEOUT, Outcome.FAILED, Outcome.POISON})

MOST_TRIES = 7
LONE_DEATHS = 2
"""So many deaths of the engine with nothing but this page in it, while others were read: the page is the cause."""


def next_way(tries: Sequence[Try], *, can_tile: bool, has_other: bool, varies: bool = True) -> Way | None:
    """The way of the next try after `tries` (at least one); None: settle for the best so far. `varies`: the engine
    answers differently with other sampling or another prompt (a CPU engine does not)."""
    last = tries[-1]
    if last.way is Way.OTHER or len(tries) >= MOST_TRIES:
        return None
    used = [tried.way for tried in tries[1:]]
    if tries[0].way is not Way.WHOLE:
        used.append(tries[0].way)
    for way in LADDERS[last.outcome]:
        if way in used:
            used.remove(way)
        elif _possible(way, can_tile, has_other, varies):
            return way
    return None


def _possible(way: Way, can_tile: bool, has_other: bool, varies: bool) -> bool:
    return {Way.TILES: can_tile, Way.OTHER: has_other, Way.WHOLE: varies, Way.PLAIN: varies}.get(way, True)


def best(tries: Sequence[Try]) -> int | None:
    """The place of the try to settle for: the best outcome, the latest of equals; None if no try gave an answer."""
    order = list(Outcome)
    answered = [n for n, tried in enumerate(tries) if tried.outcome not in UNANSWERED]
    return min(answered, key=lambda n: (order.index(tries[n].outcome), -n), default=None)


_SEEN = {Outcome.REPETITION: Flag.REPETITION, Outcome.TRUNCATED: Flag.TRUNCATED}


def flags(tries: Sequence[Try], settled: int | None) -> frozenset[Flag]:
    """What to tell about a page read by `tries` and settled for the one at `settled`."""
    found = {_SEEN[tried.outcome] for tried in tries if tried.outcome in _SEEN}
    if settled is None:
        return frozenset(found)
    chosen = tries[settled]
    if chosen.outcome is not Outcome.GOOD:
        found.add(Flag.SUSPECT)
    if chosen.way is Way.TILES:
        found.add(Flag.TILED)
    if chosen.way is Way.OTHER:
        found.add(Flag.FALLBACK_CPU)
    return frozenset(found)


def poisonous(lone_deaths: int, *, others_read: bool) -> bool:
    """Did this page kill the engine? Only if it was alone in it, and the engine can read other pages."""
    return lone_deaths >= LONE_DEATHS and others_read
