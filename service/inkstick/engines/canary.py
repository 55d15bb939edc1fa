"""The canary: pages of known print that tell whether an engine mixes pages up when several are in flight.

A server can return another page's text, or garbage, with status 200 and a plausible face; only a comparison shows it.
So distinct pages of different sizes are read one after the other, then many at once, and each answer is compared with
all of the serial ones (`likeness.judge`): it must be its own page's. Equal to the last character it need not be, for in
bf16 on a GPU the size of the batch changes the last bits of a sum, and now and then a character. Else the number in
flight is halved and tried again; an engine that fails even one at a time is refused, and so is one that answers
different pages alike, because nothing could be seen on it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np

from inkstick.document import Task
from inkstick.engines.encode import Encoded
from inkstick.engines.likeness import Judgement, Sort, judge
from inkstick.engines.openai import OpenAiEngine
from inkstick.engines.protocol import Reading, Request
from inkstick.engines.spec import ModelSpec
from inkstick.pages.view import Pixels

DISTINCT = 6
ROUNDS = 2
"""How often the places in flight are filled in one comparison."""
MOST_TOKENS = 96
"""Bounds a canary's answer: its pages hold two short lines."""
_SIZES = ((640, 320), (448, 448), (320, 512), (512, 256), (384, 576), (576, 416))

Ask = Callable[[int], Coroutine[Any, Any, str]]
"""Read canary page n (from 0) and give its text."""


@dataclass(frozen=True, slots=True)
class CanaryPage:
    """A drawn page and the text on it, two lines."""

    text: str
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Verdict:
    """`in_flight`: how many pages may be read at once, 0 when the engine is refused. `wrong` of `asked` concurrent
    answers were not their own page's at the planned number; `close` more differed in a few characters, `digits` of them
    in a digit. `detail`: a sentence for people."""

    in_flight: int
    planned: int
    asked: int
    wrong: int
    detail: str
    close: int = 0
    digits: int = 0

    @property
    def refused(self) -> bool:
        return self.in_flight == 0


@cache
def pages(count: int = DISTINCT) -> tuple[CanaryPage, ...]:
    """`count` distinct pages, the same ones every time."""
    return tuple(_page(number) for number in range(count))


def _page(number: int) -> CanaryPage:
    chance = random.Random(f"canary {number}")  # noqa: S311 - the same pages every time
    word = "".join(chance.choices("ABCDEFGHKLMNPRSTUVWXYZ", k=6))
    lines = (f"{word} {chance.randrange(10_000, 99_999)}", f"{number + 1} / {chance.randrange(1000, 9999)}")
    width, height = _SIZES[number % len(_SIZES)]
    image = np.full((height, width, 3), 255, np.uint8)
    for line, (text, share) in enumerate(zip(lines, (0.85, 0.55), strict=True)):
        scale = width * share / cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)[0][0]
        place = (width // 14, round(height * (0.35 + 0.4 * line)))
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 3, cv2.LINE_AA)
    return CanaryPage("\n".join(lines), Pixels(width, height, image.tobytes()))


def spec_for(spec: ModelSpec) -> ModelSpec:
    """The model's own prompts, asked greedily and for a short answer."""
    sampling = replace(spec.sampling, temperature=0.0, max_tokens=min(MOST_TOKENS, spec.sampling.max_tokens))
    return replace(spec, sampling=sampling, retries=(), seed=spec.seed or 1)


def request_for(spec: ModelSpec) -> Request:
    """Plain text where the model offers it, else whatever it offers first."""
    tasks = spec.tasks
    return Request(task=Task.TEXT if Task.TEXT in tasks else min(tasks))


def answer(reading: Reading) -> str:
    """What is compared: the model's own words, blanks aside."""
    text = reading.raw if reading.raw is not None else "\n".join(block.text for block in reading.blocks)
    return " ".join(text.split())


def asker(engine: OpenAiEngine, spec: ModelSpec) -> Ask:
    """Canary questions to a server through its client, whose own sampling `spec` replaces."""
    client, request, drawn = engine.asking(spec_for(spec)), request_for(spec), pages()
    shots: dict[int, Encoded] = {}

    async def ask(number: int) -> str:
        if number not in shots:  # once: later on all places must fill at the same moment
            shots[number] = await client.encode(drawn[number].pixels)
        return answer(await client.read_encoded(shots[number], request))

    return ask


async def prove(ask: Ask, planned: int, *, distinct: int = DISTINCT) -> Verdict:
    """Compare concurrent with serial answers at `planned` pages in flight, then at halves of it. What `ask` raises goes
    through: an engine that breaks off is no verdict."""
    serial = [await ask(number) for number in range(distinct)]
    if problem := _blind(serial):
        return Verdict(0, planned, 0, 0, problem)
    in_flight, first = max(1, planned), None
    while True:
        found = await _compare(ask, serial, in_flight)
        first = first or found
        if not found.wrong:
            detail = _told(in_flight, planned, first) + _told_close(found)
            return Verdict(in_flight, planned, first.asked, first.wrong, detail, found.close, found.digits)
        if in_flight == 1:
            detail = "It reads the same page differently each time, even one at a time."
            return Verdict(0, planned, first.asked, first.wrong, detail)
        in_flight //= 2


@dataclass(frozen=True, slots=True)
class Found:
    """Of `asked` answers: `wrong` were not their own page's; `close` were, but for a few characters; of those `digits`
    differed in a digit."""

    asked: int
    wrong: int
    close: int
    digits: int


def _blind(serial: Sequence[str]) -> str | None:
    """Why a mix-up could not be seen in these answers."""
    if any(not text for text in serial):
        return "It gave an empty answer to a test page with print on it."
    for number, text in enumerate(serial):
        if judge(text, number, serial).sort is not Sort.SAME:
            return "It gave different test pages the same answer, so mixed-up pages could not be noticed."
    return None


def _told(in_flight: int, planned: int, first: Found) -> str:
    if in_flight == planned:
        return f"{first.asked} answers at {planned} in flight equal the serial ones."
    return (
        f"At {planned} pages in flight {first.wrong} of {first.asked} answers were wrong (another page's text, or "
        f"garbage); at {in_flight} all are right, so no more than {in_flight} are sent at once."
    )


def _told_close(found: Found) -> str:
    if not found.close:
        return ""
    digits = f", {found.digits} of them in a digit" if found.digits else ""
    return f" {found.close} of {found.asked} differ from them in a few characters{digits}."


async def _compare(ask: Ask, serial: Sequence[str], in_flight: int) -> Found:
    """What came back with `in_flight` requests under way all the time."""
    places, total = asyncio.Semaphore(in_flight), max(ROUNDS * in_flight, len(serial))

    async def one(turn: int) -> Judgement:
        number = turn % len(serial)
        async with places:
            return judge(await ask(number), number, serial)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(turn)) for turn in range(total)]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    judged = [task.result() for task in tasks]
    close = [each for each in judged if each.sort is Sort.CLOSE]
    wrong = sum(each.sort is Sort.WRONG for each in judged)
    return Found(total, wrong, len(close), sum(bool(each.digits) for each in close))


def still(before: str, after: str) -> bool:
    """Whether a page that was answered with `before` is still read so: alike, but for a few characters."""
    return judge(after, 0, [before]).sort is not Sort.WRONG
