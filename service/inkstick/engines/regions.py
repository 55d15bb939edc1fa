"""An engine whose model reads regions, not pages: each page is cut up first, and every region asked about by itself.

The order and the places are the layout model's, the words the reading model's. As many regions are in flight as the
inner engine takes pages. One that fails fails its page, so that nothing is missing without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from inkstick.document import Block, Box, Kind, Task
from inkstick.engines.doclayout import DocLayout, Region
from inkstick.engines.encode import as_array
from inkstick.engines.protocol import Engine, Health, Load, Reading, Request
from inkstick.models.manifest import Layout, Manifest
from inkstick.pages.view import Pixels
from inkstick.results.tables import plain_text

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "doc_title": Kind.TITLE,
        "paragraph_title": Kind.HEADING,
        "figure_title": Kind.CAPTION,
        "header": Kind.HEADER,
        "footer": Kind.FOOTER,
        "number": Kind.FOOTER,
        "algorithm": Kind.CODE,
    }
)
"""Of text regions; all others are paragraphs."""
LEVELS: Mapping[Kind, int] = MappingProxyType({Kind.TITLE: 1, Kind.HEADING: 2})
LONGEST = 100
"""vLLM refuses a picture that is more than 200 times as long as it is wide, and one refused region fails its page."""
TASKS: Mapping[str, Task] = MappingProxyType({"table": Task.TABLE, "chart": Task.CHART, "formula": Task.FORMULA})
"""By the prompt's name: how the answer about a region is understood."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """What to do with the regions. `tasks`: those that want the page cut up. `prompts`: all of the model's, by name."""

    layout: Layout
    tasks: frozenset[Task]
    prompts: Mapping[str, str]

    def asked(self, name: str) -> Request | None:
        """The question about a region of this class; None: it is a picture, nothing is asked."""
        if name in self.layout.skip:
            return None
        prompt = self.layout.prompts.get(name, self.layout.otherwise)
        return Request(task=TASKS.get(prompt, Task.TEXT), prompt=self.prompts[prompt])


def cutting_of(manifest: Manifest) -> Cutting | None:
    """None for a model that reads whole pages."""
    tasks = frozenset(task for task, offer in manifest.offers.items() if offer.layout)
    return Cutting(manifest.layout, tasks, manifest.prompts) if manifest.layout and tasks else None


class RegionEngine:
    """See the module's docstring. `load_layout` loads the layout model, in a thread, when the engine starts."""

    def __init__(self, inner: Engine, cutting: Cutting, load_layout: Callable[[], DocLayout]) -> None:
        self._inner, self._cutting, self._load_layout = inner, cutting, load_layout
        self._model: DocLayout | None = None
        self._cut = asyncio.Lock()
        self._places: asyncio.Semaphore | None = None
        self.name, self.model, self.tasks, self.remote = inner.name, inner.model, inner.tasks, inner.remote

    @property
    def limit(self) -> int:
        return self._inner.limit

    async def start(self) -> None:
        """Load the layout model and start the inner engine. Raises EngineDown."""
        if self._model is None:
            self._model = await asyncio.to_thread(self._load_layout)
        await self._inner.start()

    async def close(self) -> None:
        await self._inner.close()

    async def health(self) -> Health:
        return await self._inner.health()

    async def load(self) -> Load | None:
        return await self._inner.load()

    async def read(self, image: Pixels, request: Request) -> Reading:
        """A task that needs no regions, a prompt of the asker's own, and a page without regions are read whole."""
        if request.task not in self._cutting.tasks or request.prompt is not None:
            return await self._inner.read(image, request)
        page = as_array(image)
        regions = await self._regions(page)
        if not regions:
            return await self._inner.read(image, request)
        return await self._together(page, regions, request)

    async def _regions(self, page: npt.NDArray[np.uint8]) -> list[Region]:
        async with self._cut:
            if self._model is None:
                self._model = await asyncio.to_thread(self._load_layout)
            return await asyncio.to_thread(self._model.regions, page)

    async def _together(self, page: npt.NDArray[np.uint8], regions: list[Region], request: Request) -> Reading:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(page, region, request)) for region in regions]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        readings = [task.result() for task in tasks]
        size = page.shape[1], page.shape[0]
        blocks = [block for pair in zip(regions, readings, strict=True) for block in _blocks(*pair, size, request.task)]
        return Reading(
            tuple(replace(block, order=n) for n, block in enumerate(blocks, 1)),
            self.model,
            flags=frozenset(flag for reading in readings if reading for flag in reading.flags),
            raw="\n\n".join(reading.raw for reading in readings if reading and reading.raw),
        )

    async def _one(self, page: npt.NDArray[np.uint8], region: Region, request: Request) -> Reading | None:
        """What is in one region; None for a picture."""
        asked = self._cutting.asked(region.name)
        if asked is None:
            return None
        if self._places is None:
            self._places = asyncio.Semaphore(max(1, self._inner.limit))
        async with self._places:
            asked = replace(asked, attempt=request.attempt, priority=request.priority)
            return await self._inner.read(cropped(page, region), asked)


def cropped(page: npt.NDArray[np.uint8], region: Region) -> Pixels:
    """The region's part of the page, a pixel more on each side; a rule across the page gets white around it."""
    height, width = page.shape[:2]
    x0, y0 = max(0, int(region.box[0]) - 1), max(0, int(region.box[1]) - 1)
    x1, y1 = min(width, int(region.box[2]) + 2), min(height, int(region.box[3]) + 2)
    lacks_x = max(0, (y1 - y0) // LONGEST - (x1 - x0))
    lacks_y = max(0, (x1 - x0) // LONGEST - (y1 - y0))
    around = (lacks_y // 2, lacks_y - lacks_y // 2, lacks_x // 2, lacks_x - lacks_x // 2)
    part = cv2.copyMakeBorder(page[y0:y1, x0:x1], *around, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return Pixels(part.shape[1], part.shape[0], part.tobytes())


def _blocks(region: Region, reading: Reading | None, size: tuple[int, int], task: Task) -> list[Block]:
    """The region's blocks with its place, in thousandths of the page. A text region is one block; for task text so is
    a table: its rows as lines."""
    box = _thousandths(region.box, size)
    if reading is None:
        return [Block(0, Kind.FIGURE, "", box, region.score)]
    special = [block for block in reading.blocks if block.kind in (Kind.TABLE, Kind.FORMULA)]
    if special and task is not Task.TEXT:
        return [replace(block, box=box, score=region.score) for block in reading.blocks]
    texts = (plain_text(block.text) if block.kind is Kind.TABLE else block.text for block in reading.blocks)
    text = "\n".join(texts).strip()
    kind = KINDS.get(region.name, Kind.PARAGRAPH)
    return [Block(0, kind, text, box, region.score, level=LEVELS.get(kind))] if text else []


def _thousandths(box: tuple[float, float, float, float], size: tuple[int, int]) -> Box:
    width, height = size
    x0, y0, x1, y1 = box
    return (
        round(x0 * 1000 / width),
        round(y0 * 1000 / height),
        round(x1 * 1000 / width),
        round(y1 * 1000 / height),
    )
