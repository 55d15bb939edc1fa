"""Which page is read next. Pure: candidates in, one of them out.

Order: priority class, then (within the class) short jobs before long ones, then the older document, then page
number. So pages of all open documents flow without a gap between documents, a person's one page overtakes 3,000
pages, and every `FAIR`-th choice takes the class's oldest document whatever its length, so that no long one waits
for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHORT = 4
FAIR = 4

Key = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """The next unread page of one open document. `remaining`: how many of its pages nobody has begun."""

    priority: int
    order: int
    page: int
    remaining: int


def key(candidate: Candidate, *, fair: bool = False) -> Key:
    """Smaller is sooner. `fair`: length does not count."""
    long = 0 if fair or candidate.remaining <= SHORT else 1
    return (candidate.priority, long, candidate.order, candidate.page)


def choose(candidates: Sequence[Candidate], turn: int) -> int:
    """The place in `candidates` (not empty) of the page to begin at this `turn` (a running number)."""
    fair = turn % FAIR == FAIR - 1
    return min(range(len(candidates)), key=lambda place: key(candidates[place], fair=fair))


def bulk_share(limit: int, *, person: bool) -> int:
    """How many of `limit` pages in flight may be other people's while a `person` waits for theirs: a token of one page
    takes longer the more pages are generated beside it."""
    return max(1, limit // 4) if person else limit


def recalled(limit: int, bulk: int) -> int:
    """How many of `bulk` pages in flight are taken back when a person's page comes in: the youngest, down to half of
    what may be in flight. They lose little, are read again later, and the person's page is generated twice as fast."""
    return max(0, bulk - max(1, limit // 2))
