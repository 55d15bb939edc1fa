"""An answer that many ask for at once, and that takes a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """What `ask` answers; however many want to know it, there is one question at a time. `now`: a monotonic clock.
    Who gives up waiting ends the question for nobody else."""

    def __init__(self, ask: Callable[[], Awaitable[T]], now: Callable[[], float]) -> None:
        self._ask, self._now = ask, now
        self._asked: asyncio.Task[T] | None = None
        self._told = 0.0

    async def get(self, seconds: float) -> T:
        """The answer, which is so many seconds old at the most. Raises what `ask` raises."""
        if self._asked is None or (self._asked.done() and self._now() - self._told > seconds):
            self._asked = asyncio.create_task(self._question())
        return await asyncio.shield(self._asked)

    async def _question(self) -> T:
        try:
            return await self._ask()
        finally:
            self._told = self._now()
