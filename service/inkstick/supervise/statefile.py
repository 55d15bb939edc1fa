"""What the engine process tells about itself: DATA/state/engine/state.json, for the service to read."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path

STATE, SOCKET, LADDER, LOG = "state.json", "socket", "ladder.json", "log"
STALE_SECONDS = 15.0
"""The file is written anew at least every few seconds: an older one is a supervisor that is no more."""


class Stage(StrEnum):
    """starting, loading weights, compiling, capturing graphs, proving (the canary): on the way; ready; restarting after
    a failure; given_up: the CPU engine reads, and it is tried again later; refused: it answers wrongly, and is not
    tried again by itself; stopped."""

    STARTING = "starting"
    LOADING = "loading"
    COMPILING = "compiling"
    CAPTURING = "capturing"
    PROVING = "proving"
    READY = "ready"
    RESTARTING = "restarting"
    GIVEN_UP = "given_up"
    REFUSED = "refused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class EngineState:
    """`detail`: a sentence for people. `since`, `now`: CLOCK_BOOTTIME seconds, of the state and of the last writing.
    `pid`: the engine's own process. `in_flight`: pages that may be sent at once. `restarts`: since the supervisor
    began. `rung`: of the ladder. `seconds_left`: an estimate while starting. `start_seconds`: of the last one.
    """

    state: Stage
    detail: str = ""
    since: float = 0.0
    now: float = 0.0
    pid: int | None = None
    started: str | None = None
    model: str = ""
    in_flight: int = 0
    restarts: int = 0
    rung: str = "normal"
    isolated: bool = False
    seconds_left: float | None = None
    start_seconds: float | None = None

    @property
    def ready(self) -> bool:
        return self.state is Stage.READY


def uptime() -> float:
    """CLOCK_BOOTTIME in seconds: the same clock for all processes, and a suspended laptop does not stop it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write(path: Path, state: EngineState) -> None:
    """Whole or not at all. Not synced: after a power cut it would be wrong anyway."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(asdict(state)), encoding="utf-8")
    part.replace(path)


def read(path: Path, now: float | None = None) -> EngineState | None:
    """What the supervisor last said; None where there is no readable file. One that is too old, or from before a
    restart of the machine, counts as stopped."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in fields(EngineState)}
        state = EngineState(**{**{k: v for k, v in value.items() if k in known}, "state": Stage(value["state"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    at = uptime() if now is None else now
    if not 0 <= at - state.now <= STALE_SECONDS:
        return EngineState(Stage.STOPPED, "The engine process does not run.", model=state.model)
    return state


def started_at(pid: int) -> str | None:
    """When a process began, in the kernel's ticks: with its number it is a process's identity. None: no such process,
    or it has ended and only waits to be collected."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if rest[0] in "ZX" else rest[19]
