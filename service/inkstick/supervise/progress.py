"""How far vLLM is with starting, from the lines of its log. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from inkstick.supervise.statefile import Stage

_MARKS: tuple[tuple[Stage, re.Pattern[str], str], ...] = (
    (Stage.LOADING, re.compile(r"Starting to load model|Loading safetensors|Loading weights"), "Loading the weights."),
    (Stage.COMPILING, re.compile(r"torch\.compile takes|Dynamo bytecode|Compiling a graph"), "Compiling for the card."),
    (Stage.CAPTURING, re.compile(r"Capturing CUDA graph|Graph capturing|Warming up"), "Capturing graphs, warming up."),
)  # fmt: skip
_ORDER = (Stage.STARTING, *(stage for stage, _, _ in _MARKS), Stage.PROVING)
_SHARE = {Stage.STARTING: 0.0, Stage.LOADING: 0.25, Stage.COMPILING: 0.45, Stage.CAPTURING: 0.8, Stage.PROVING: 0.9}
FIRST_GUESS = 120.0
"""Seconds that a first start takes, where nothing is known: 60 to 120 are reported."""


@dataclass(frozen=True, slots=True)
class Progress:
    """`stage` never goes back; `detail`: a sentence for people."""

    stage: Stage = Stage.STARTING
    detail: str = "Starting the engine; until it is ready the CPU engine reads."


def after(progress: Progress, line: str) -> Progress:
    """The progress after one more line of the log."""
    for stage, pattern, detail in _MARKS:
        if _ORDER.index(stage) > _ORDER.index(progress.stage) and pattern.search(line):
            return Progress(stage, detail)
    return progress


def seconds_left(stage: Stage, elapsed: float, last: float | None) -> float:
    """An estimate, from how long the last start took (None: not known) and the stage reached."""
    whole = last or FIRST_GUESS
    left = whole - elapsed
    if left > 0:
        return left
    return max(1.0, elapsed * (1.0 - _SHARE.get(stage, 0.5)) * 0.5)
