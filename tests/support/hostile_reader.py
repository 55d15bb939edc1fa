"""An engine that reads payloads on every page, in blocks of every kind: the pages carry numbers (`page_code`)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from inkstick.document import Block, Kind, Line, Task
from inkstick.engines.protocol import Health, Load, Reading, Request
from inkstick.pages.view import Pixels
from support import page_code, payloads

PER_PAGE = 20
PAGES = payloads.COUNT // PER_PAGE


def blocks(number: int) -> tuple[Block, ...]:
    """The payloads of page `number` (from 0), each in a block of the next kind, and all of them in one table."""
    mine = payloads.texts()[number * PER_PAGE : (number + 1) * PER_PAGE]
    kinds = list(Kind)
    found = [_block(kinds[(number + n) % len(kinds)], text, n) for n, text in enumerate(mine)]
    found.append(Block(0, Kind.TABLE, _table(mine)))
    return tuple(Block(n, b.kind, b.text, b.box, b.score, b.lines) for n, b in enumerate(found, 1))


def _block(kind: Kind, text: str, place: int) -> Block:
    box = (50, 50 + 40 * place, 900, 80 + 40 * place)
    if kind is Kind.TABLE:
        return Block(0, kind, _table([text]), box)
    return (
        Block(0, Kind.FIELD, f"{text}: {text}", box)
        if kind is Kind.FIELD
        else Block(0, kind, text, box, 0.9, (Line(text, box, 0.9),))
    )


def _table(texts: Sequence[str]) -> str:
    """As a model writes it: the cells are not escaped."""
    return "<table>" + "".join(f"<tr><td>{text}</td></tr>" for text in texts) + "</table>"


class HostileReader:
    """An engine whose model has been talked into anything."""

    name, model, remote, limit = "vllm", "hostile", False, 4
    tasks = frozenset(Task)

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def health(self) -> Health:
        return Health(True, "ready")

    async def load(self) -> Load | None:
        return None

    async def read(self, image: Pixels, request: Request) -> Reading:
        page = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
        code = page_code.look(np.asarray(cv2.cvtColor(page, cv2.COLOR_RGB2GRAY), np.uint8))
        return Reading(blocks((code or 0) % PAGES), self.model)
