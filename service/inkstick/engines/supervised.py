"""The engine that `inkstick engine` supervises: a client of its socket that believes its supervisor.

Whether pages may be sent, how many at once, and what is wrong are in DATA/state/engine/state.json. A server that
answers but was not proved yet, or is being tested, gets no pages.
"""

from __future__ import annotations

from pathlib import Path

from inkstick.config import DataFolder
from inkstick.engines.encode import Encoded
from inkstick.engines.openai import Deadlines, OpenAiEngine
from inkstick.engines.protocol import Health, Reading, Request
from inkstick.engines.spec import ModelSpec
from inkstick.errors import EngineDown
from inkstick.supervise import statefile
from inkstick.supervise.statefile import EngineState

MOST_IN_FLIGHT = 64


class SupervisedEngine(OpenAiEngine):
    """See the module's docstring. `model` is the served model's name in pages."""

    def __init__(self, folder: DataFolder, spec: ModelSpec, *, deadline_seconds: float = 300.0) -> None:
        deadlines = Deadlines(first=min(120.0, deadline_seconds), total=deadline_seconds)
        super().__init__(
            f"unix://{folder.engine / statefile.SOCKET}", spec=spec, deadlines=deadlines, in_flight=MOST_IN_FLIGHT
        )
        self._file: Path = folder.engine / statefile.STATE
        self._allowed = MOST_IN_FLIGHT

    @property
    def limit(self) -> int:
        """What the supervisor's canary allowed when it last was ready."""
        return self._allowed

    def told(self) -> EngineState:
        """What the supervisor says now."""
        state = statefile.read(self._file) or EngineState(statefile.Stage.STOPPED, "The engine process does not run.")
        if state.ready:
            self._allowed = max(1, min(MOST_IN_FLIGHT, state.in_flight))
        return state

    async def start(self) -> None:
        self._must_be_ready()
        await super().start()

    async def health(self) -> Health:
        state = self.told()
        facts = {"model": state.model, "rung": state.rung, "in_flight": str(state.in_flight)}
        if not state.ready:
            return Health(False, state.state.value, sentence(state), facts)
        listed = await super().health()
        return Health(listed.ready, listed.state, listed.detail or state.detail, facts)

    async def read_encoded(self, image: Encoded, request: Request) -> Reading:
        self._must_be_ready()
        return await super().read_encoded(image, request)

    def _must_be_ready(self) -> None:
        state = self.told()
        if not state.ready:
            raise EngineDown(sentence(state))


def sentence(state: EngineState) -> str:
    """The state in words, with the estimate while it starts."""
    left = f" About {state.seconds_left:.0f} s to go." if state.seconds_left else ""
    return f"Engine {state.state.value.replace('_', ' ')}: {state.detail}{left}"
