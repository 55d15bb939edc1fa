"""How many pages may be in flight on an engine: additive increase, multiplicative decrease, steered by its own figures.

Pure. Raise while everything is taken, nothing waits in the engine's queue and its cache has room; halve when it
refuses, stalls, or more than a quarter of what is in flight waits there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from inkstick.engines.protocol import Load

FULL_CACHE = 0.9


@dataclass(frozen=True, slots=True)
class Capacity:
    """`limit` between `floor` and `ceiling`; it begins at the ceiling, where the planned number was proved to work."""

    ceiling: int
    limit: int
    floor: int = 1

    @classmethod
    def at(cls, ceiling: int) -> Capacity:
        return cls(max(1, ceiling), max(1, ceiling))

    def halved(self) -> Capacity:
        return replace(self, limit=max(self.floor, self.limit // 2))

    def raised(self) -> Capacity:
        return replace(self, limit=min(self.ceiling, self.limit + max(1, self.ceiling // 16)))


def steer(capacity: Capacity, *, load: Load | None, in_flight: int, refused: int) -> Capacity:
    """The capacity after one look. `refused`: refusals (429, 503) and stalls since the last one. While more is in
    flight than allowed, an earlier decision has not taken effect yet: wait for it."""
    if in_flight > capacity.limit:
        return capacity
    if refused:
        return capacity.halved()
    if load is not None and load.waiting > max(1, capacity.limit // 4):
        return capacity.halved()
    relaxed = load is None or (load.waiting == 0 and load.cache_usage < FULL_CACHE)
    return capacity.raised() if relaxed and in_flight >= capacity.limit else capacity
