"""A stand-in for the page pool whose documents are drawn, not parsed: fast, in this process, the same interface.

A document is a JSON file: ``{"first": 7, "pages": 3, "width": 600, "height": 848}`` has pages that carry the
numbers 7, 8, 9 (`support.page_code`). Further keys, each a list of page numbers within the document: ``blank``,
``unsure``, ``photo``, ``layer`` (born digital), ``tiled``, ``damaged`` (rendering raises), ``late`` (rendering
times out). ``error``: opening raises that code. ``warnings``: what opening tells.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from inkstick.document import Flag
from inkstick.errors import Damaged, Timeout, by_code
from inkstick.pages.view import Budget, Ink, PageView, Pixels, Probe, TextLayer, TextLayerMode, Tile, Word
from support import page_code

MEDIA = "application/x-drawn"


def write(path: Path, *, first: int, pages: int = 1, **wishes: Any) -> Path:
    path.write_text(json.dumps({"first": first, "pages": pages, **wishes}))
    return path


class DrawnDocument:
    def __init__(self, pool: DrawnPool, plan: Mapping[str, Any]) -> None:
        self.probe = Probe(MEDIA, plan["pages"], tuple(plan.get("warnings", ())))
        self._pool, self._plan = pool, plan

    async def page(self, number: int, *, budget: Budget, mode: TextLayerMode, orient: bool = True) -> PageView:
        self._pool.rendered += 1
        return await asyncio.to_thread(self._draw, number)

    async def close(self) -> None:
        self._pool.open_documents -= 1

    def _has(self, key: str, number: int) -> bool:
        return number in self._plan.get(key, ())

    def _draw(self, number: int) -> PageView:
        if self._has("damaged", number):
            raise Damaged("this page kills the parser")
        if self._has("late", number):
            raise Timeout("this page takes too long")
        width, height = self._plan.get("width", 600), self._plan.get("height", 848)
        if self._has("blank", number) or self._has("unsure", number):
            ink = Ink.BLANK if self._has("blank", number) else Ink.UNSURE
            return PageView(number, page_code.pixels(np.full((height, width, 3), 255, np.uint8)), ink)
        code = self._plan["first"] + number - 1
        page = page_code.draw(code, width=width, height=height, photo=self._has("photo", number))
        view = PageView(number, page_code.pixels(page), Ink.PRINTED, dpi=150.0)
        if self._has("layer", number):
            words = tuple(
                Word(w, (100 + 60 * n, 100, 150 + 60 * n, 120)) for n, w in enumerate(f"layer of page {code}".split())
            )
            view = replace(view, text_layer=TextLayer(words, good=True, born_digital=True))
        if self._has("tiled", number):
            halves = [
                (page[: height * 55 // 100], (0, 0, 1000, 550)),
                (page[height * 45 // 100 :], (0, 450, 1000, 1000)),
            ]
            tiles = tuple(Tile(page_code.pixels(np.ascontiguousarray(part)), box) for part, box in halves)
            view = replace(view, tiles=tiles, flags=(Flag.TILED,))
        return view


class DrawnPool:
    """See the module's docstring. Counts what was rendered and is open."""

    def __init__(self) -> None:
        self.rendered = 0
        self.open_documents = 0

    async def open(self, path: Path, media_type: str, *, passwords: tuple[str, ...] = ()) -> DrawnDocument:
        plan = json.loads(path.read_text())
        if "error" in plan:
            raise by_code(plan["error"])
        self.open_documents += 1
        return DrawnDocument(self, plan)


def blank_pixels(width: int = 40, height: int = 40) -> Pixels:
    return Pixels(width, height, b"\xff" * (width * height * 3))
