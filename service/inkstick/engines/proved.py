"""Somebody else's server, which gets pages only once it was seen to give concurrent pages their own answers.

Of the canary only that comparison applies to an engine given by --engine-url: it is neither started nor watched here.
It is made when the server is first reached, and again when it was away; meanwhile, and for good if it is refused, the
engine counts as down, so that the CPU engine reads.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from inkstick.engines import canary
from inkstick.engines.canary import Verdict
from inkstick.engines.openai import OpenAiEngine
from inkstick.engines.protocol import Health
from inkstick.errors import EngineDown, InkstickError

PROVING = "The engine is being tested: several pages at once must get the same answers as one at a time."
PATIENCE_SECONDS = 300.0


class ProvedEngine(OpenAiEngine):
    """See the module's docstring. Takes what `OpenAiEngine` takes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._verdict: Verdict | None = None
        self._test: asyncio.Task[None] | None = None

    @property
    def limit(self) -> int:
        """As many as were proved."""
        planned = super().limit
        return max(1, min(planned, self._verdict.in_flight)) if self._verdict else planned

    async def start(self) -> None:
        """Connect, and begin the test; raises EngineDown until it is passed."""
        await super().start()
        self._check()

    async def health(self) -> Health:
        found = await super().health()
        if not found.ready:
            self._forget()
            return found
        try:
            self._check()
        except EngineDown as error:
            state = "refused" if self._verdict else "proving"
            return Health(False, state, error.message, found.facts)
        assert self._verdict is not None
        facts = {**found.facts, "in_flight": str(self._verdict.in_flight)}
        return Health(True, "ready", self._verdict.detail, facts)

    async def close(self) -> None:
        self._forget()
        await super().close()

    def _check(self) -> None:
        """Raises EngineDown unless the test was passed; begins it where it was not made."""
        if self._verdict is not None and not self._verdict.refused:
            return
        if self._verdict is not None:
            raise EngineDown(f"The engine is not used. {self._verdict.detail}", hint="See docs/engines.md.")
        if self._test is None or self._test.done():
            self._test = asyncio.create_task(self._prove(), name="canary")
        raise EngineDown(PROVING)

    async def _prove(self) -> None:
        """A test that breaks off, or takes too long, is begun again at the next look."""
        with contextlib.suppress(InkstickError, TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                self._verdict = await canary.prove(canary.asker(self, self.spec), super().limit)

    def _forget(self) -> None:
        self._verdict = None
        if self._test is not None:
            self._test.cancel()
            self._test = None
