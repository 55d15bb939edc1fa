"""What an engine is: pixels and a request in, a reading out.

An engine is added by writing one class with this shape and naming it in `inkstick.engines.registry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from inkstick.document import Block, Flag, Task
from inkstick.pages.view import Pixels


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of one page.

    `attempt` starts at 1 and lets an engine vary its sampling on a retry. `keys` (task extract) and `to` (task
    translate, ``en`` or ``zh``) belong to their tasks. `prompt` replaces the task's own prompt (API inference only).
    `priority`: lower is sooner, passed to engines that schedule.
    """

    task: Task = Task.PARSE
    attempt: int = 1
    keys: tuple[str, ...] = ()
    to: str | None = None
    prompt: str | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What an engine read on one image. Boxes are thousandths of that image.

    `flags` are the engine's own findings (repetition, truncated): the retry ladder decides what follows.
    `raw` is the model's answer before parsing, for checks; None where there is none.
    """

    blocks: tuple[Block, ...]
    model: str
    prompt: str | None = None
    score: float | None = None
    flags: frozenset[Flag] = frozenset()
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """An engine's own figures, where it has any (vLLM's /metrics): they steer how much is sent to it."""

    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0
    generated_tokens: int = 0
    finished: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """`ready` says that pages may be sent; `state` and `detail` are for people."""

    ready: bool
    state: str
    detail: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """One way to read a page.

    `read` raises `EngineDown` when the engine cannot be reached or died (no attempt is counted, the page waits or
    goes to the fallback), `Unsupported` for a task outside `tasks`, `Timeout` past the deadline, and `PageFailed`
    for an answer that cannot be used. It is cancelled by cancelling the task: the engine must then stop working on
    the page. No call blocks the event loop.
    """

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def tasks(self) -> frozenset[Task]: ...

    @property
    def remote(self) -> bool:
        """True when pages wait on another process's queue, so that more than one per core may be in flight."""

    async def start(self) -> None:
        """Make ready: load models or connect. Raises `EngineDown` if it cannot."""

    async def close(self) -> None: ...

    async def health(self) -> Health: ...

    async def load(self) -> Load | None:
        """The engine's own load figures; None if it has none."""

    @property
    def limit(self) -> int:
        """The most pages it is useful to have in flight."""

    async def read(self, image: Pixels, request: Request) -> Reading: ...
