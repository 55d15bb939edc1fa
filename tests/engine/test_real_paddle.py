"""A tiny checkpoint of PaddleOCR-VL's architecture, served by vLLM 0.19.1 on the CPU under the real supervision."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from engine import setup
from engine.running import inkstick
from engine.test_real_transformers import TEXTS, pixels
from inkstick.config import Settings
from inkstick.document import Kind, Task
from inkstick.engines import registry
from inkstick.engines.doclayout import DocLayout
from inkstick.engines.encode import as_array
from inkstick.engines.openai import OpenAiEngine, body
from inkstick.engines.protocol import Request
from inkstick.engines.regions import RegionEngine, cutting_of
from inkstick.engines.spec import Sampling, spec_of
from inkstick.models import catalogue
from inkstick.profile import EngineChoice
from inkstick.supervise import statefile

pytestmark = pytest.mark.timeout(1500)
START_SECONDS = 900.0
MANIFEST = catalogue.read().manifests["paddleocr-vl-1.6"]
assert MANIFEST.layout is not None
LAYOUT = MANIFEST.layout


@dataclass(frozen=True)
class Served:
    """By `inkstick engine`, once it is ready. `model`: the tiny checkpoint, with a layout model in its place."""

    data: Path
    model: Path

    @property
    def socket(self) -> Path:
        return self.data / "state/engine" / statefile.SOCKET


@pytest.fixture(scope="module")
def served(
    engine: setup.Engine, layout: setup.LayoutModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("paddle") / "data"
    model = Path(shutil.copytree(engine.paddle, data.parent / "model"))
    (model / LAYOUT.model).parent.mkdir()
    shutil.copy(layout.onnx, model / LAYOUT.model)
    command, log = ("engine", "--data", str(data), "--model", str(model)), data.parent / "engine.log"
    with inkstick(*command, python=engine.python, log=log) as process:
        _wait(process, data)
        yield Served(data, model)


@pytest.fixture
def socket(served: Served) -> Path:
    return served.socket


def _wait(process: subprocess.Popen[bytes], data: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while (state := statefile.read(data / "state/engine" / statefile.STATE)) is None or not state.ready:
        told = (data.parent / "engine.log").read_text()
        assert process.poll() is None, told
        assert state is None or state.state is not statefile.Stage.REFUSED, told
        assert time.monotonic() < end, told
        time.sleep(0.5)


def test_pages_are_read_right_one_by_one_and_at_once(engine: setup.Engine, socket: Path) -> None:
    """The supervisor's canary was passed before the socket was given out."""

    async def read(paths: list[Path]) -> list[tuple[str, str | None]]:
        client = OpenAiEngine(f"unix://{socket}", spec=spec_of(MANIFEST))
        await client.start()
        try:
            serial = [(await client.read(pixels(path), Request(Task.TEXT))).raw for path in paths]
            asked = [client.read(pixels(path), Request(Task.TEXT)) for path in paths * 3]
            assert [reading.raw for reading in await asyncio.gather(*asked)] == serial * 3
        finally:
            await client.close()
        return list(zip([path.name for path in paths], serial, strict=True))

    found = asyncio.run(read([engine.pages / name for name in TEXTS]))
    assert dict(found) == TEXTS


def test_spotting_is_asked_with_a_larger_picture(engine: setup.Engine, socket: Path) -> None:
    """The limit goes with the request, and the server keeps to it: the same page costs many more tokens than for text.
    (What the tiny model says to such a picture it never learned.)"""

    async def cost(task: Task) -> int:
        page = pixels(engine.pages / "invoice.png")
        shot = await client.encode(page, task=task)
        sent = body(client.spec, shot.url, client.spec.prompt(Request(task)), Sampling(max_tokens=4), task=task)
        asked = {**json.loads(sent), "stream": False}
        asked.pop("stream_options")
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(socket)), timeout=600) as plain:
            answer = await plain.post("http://engine/v1/chat/completions", json=asked)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["usage"]["prompt_tokens"])

    async def costs() -> tuple[int, int]:
        return await cost(Task.TEXT), await cost(Task.SPOTTING)

    client = OpenAiEngine(f"unix://{socket}", spec=spec_of(MANIFEST))
    plain, spotting = asyncio.run(costs())
    width, height = 2 * 640, 2 * 448
    assert spotting - plain > width * height // 28**2 // 2 > 500


async def test_a_page_is_cut_up_by_the_layout_model_and_each_region_read_by_vllm(
    engine: setup.Engine, layout: setup.LayoutModel, served: Served
) -> None:
    """The layout model's weights are random, and the tiny model never saw such parts of pages: what is proved is that
    every region, whatever its form, is asked about, answered, and stands at its place. Answers are kept short."""
    settings = Settings(
        data=served.data, engine=EngineChoice.VLLM, model=str(served.model), engine_python=engine.python
    )  # fmt: skip
    assert isinstance(registry.engines_for(settings).primary, RegionEngine)  # as the service finds the layout model
    cutting = cutting_of(MANIFEST)
    assert cutting is not None
    spec = spec_of(MANIFEST)
    short = replace(spec, sampling=replace(spec.sampling, max_tokens=16))
    page = pixels(layout.pages / "invoice.png")
    stage = DocLayout(served.model / LAYOUT.model, LAYOUT)
    found = stage.regions(as_array(page))
    reader = RegionEngine(OpenAiEngine(f"unix://{served.socket}", spec=short, in_flight=4), cutting, lambda: stage)
    await reader.start()
    try:
        reading = await reader.read(page, Request(Task.TEXT))
    finally:
        await reader.close()
    print(f"{len(found)} regions, {len(reading.blocks)} blocks, {len(reading.raw or '')} characters")
    assert len(found) > 8
    assert [block.order for block in reading.blocks] == list(range(1, len(reading.blocks) + 1))
    size = (page.width, page.height) * 2
    kept = iter([tuple(round(edge * 1000 / side) for edge, side in zip(r.box, size, strict=True)) for r in found])
    assert all(any(block.box == place for place in kept) for block in reading.blocks)  # in the order of the regions
    pictures = [block for block in reading.blocks if block.kind is Kind.FIGURE]
    assert len(pictures) == sum(region.name in LAYOUT.skip for region in found)
    assert all(block.text for block in reading.blocks if block.kind is not Kind.FIGURE)
    assert reading.raw
