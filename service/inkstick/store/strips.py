"""A document's pages as a strip of a few dozen colours: what was read, what a person should look at, what failed.

A document of up to `SEGMENTS` pages has a segment for each; a longer one has `SEGMENTS`, each showing the worst of its
pages. Counting is done by the database, so that 5,000 pages cost no more objects than 50.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SEGMENTS = 60
LEVELS = ("waiting", "read", "note", "warn", "failed")
"""From unimportant to important. `note`: flagged, nothing to do; `warn`: flagged, worth a look."""


@dataclass(frozen=True, slots=True)
class Run:
    """`length` segments of one level, the first at `start` (from 0)."""

    level: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Strip:
    """`pages`: of the document. `levels`: one of `LEVELS` per segment. `counts`: pages per level."""

    pages: int
    levels: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def runs(self) -> list[Run]:
        """Neighbours of one level joined."""
        runs: list[Run] = []
        for place, level in enumerate(self.levels):
            if runs and runs[-1].level == level:
                runs[-1] = Run(level, runs[-1].start, runs[-1].length + 1)
            else:
                runs.append(Run(level, place, 1))
        return runs


def query(documents: int, warnings: Sequence[str]) -> str:
    """SQL for (document id, its pages, segment, level, count); its values are the ids. Levels as places in `LEVELS`."""
    looks = " OR ".join(f"' ' || p.flags || ' ' LIKE '% {word} %'" for word in warnings) or "0"
    level = f"CASE WHEN p.state = 'failed' THEN 4 WHEN p.flags = '' THEN 1 WHEN {looks} THEN 3 ELSE 2 END"
    return (
        f"SELECT d.id, d.pages, (p.number - 1) * {SEGMENTS} / max(d.pages, {SEGMENTS}), {level}, count(*)"  # noqa: S608
        f" FROM documents d CROSS JOIN pages p ON p.document = d.seq WHERE d.id IN ({', '.join('?' * documents)})"
        " GROUP BY 1, 3, 4"
    )


def strip(pages: int, rows: Iterable[tuple[int, int, int]]) -> Strip:
    """From (segment, level, count) of one document that has `pages` pages. A segment with pages that are still to be
    read is waiting, unless one of the others is worth a look already."""
    segments = min(pages, SEGMENTS)
    worst, read = [0] * segments, [0] * segments
    counts: dict[str, int] = {}
    for segment, level, count in rows:
        if segment < segments:
            worst[segment] = max(worst[segment], level)
            read[segment] += count
        counts[LEVELS[level]] = counts.get(LEVELS[level], 0) + count
    levels = [LEVELS[worst[n] if worst[n] > 2 or read[n] >= _size(n, pages, segments) else 0] for n in range(segments)]
    counts["waiting"] = max(0, pages - sum(counts.values()))
    return Strip(pages, tuple(levels), counts)


def _size(segment: int, pages: int, segments: int) -> int:
    """How many pages fall into a segment: those n (from 0) with n * segments // pages == segment."""
    return -(-(segment + 1) * pages // segments) - -(-segment * pages // segments)
