"""What people are told of an engine."""

from __future__ import annotations

from dataclasses import dataclass

from inkstick.engines.protocol import Engine


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Who reads. `ready`: pages may be sent now. `state`, `detail`: words for people. `role`: primary fallback.
    `prompts`: it can be asked in words of one's own."""

    name: str
    model: str
    role: str
    ready: bool
    state: str
    detail: str = ""
    tasks: tuple[str, ...] = ()
    prompts: bool = True


async def engine_info(engine: Engine, role: str) -> EngineInfo:
    """As it is now."""
    health = await engine.health()
    tasks = tuple(sorted(task.value for task in engine.tasks))
    prompts = getattr(engine, "takes_prompts", True)
    return EngineInfo(engine.name, engine.model, role, health.ready, health.state, health.detail, tasks, prompts)
