"""What people are told of an engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

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


async def engine_info(engine: Engine, role: str, *, admits: bool = True) -> EngineInfo:
    """As it is now. `admits`: pages are let in; one that has just come back is ready a moment before they are."""
    health = await engine.health()
    if health.ready and not admits:
        health = replace(health, ready=False, state="opening", detail="It is back; pages go to it again in a moment.")
    tasks = tuple(sorted(task.value for task in engine.tasks))
    prompts = getattr(engine, "takes_prompts", True)
    return EngineInfo(engine.name, engine.model, role, health.ready, health.state, health.detail, tasks, prompts)
