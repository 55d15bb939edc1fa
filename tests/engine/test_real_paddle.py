"""A tiny checkpoint of PaddleOCR-VL's architecture, served by vLLM 0.19.1 on the CPU under the real supervision."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from engine import setup
from engine.running import inkstick
from engine.test_real_transformers import TEXTS, pixels
from inkstick.document import Task
from inkstick.engines.openai import OpenAiEngine, body
from inkstick.engines.protocol import Request
from inkstick.engines.spec import Sampling, spec_of
from inkstick.models import catalogue
from inkstick.supervise import statefile

pytestmark = pytest.mark.timeout(1500)
START_SECONDS = 900.0


@pytest.fixture(scope="module")
def socket(engine: setup.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of `inkstick engine`, once it is ready."""
    data = tmp_path_factory.mktemp("paddle") / "data"
    command, log = ("engine", "--data", str(data), "--model", str(engine.paddle)), data.parent / "engine.log"
    with inkstick(*command, python=engine.python, log=log) as process:
        _wait(process, data)
        yield data / "state" / statefile.SOCKET


def _wait(process: subprocess.Popen[bytes], data: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while (state := statefile.read(data / "state" / statefile.STATE)) is None or not state.ready:
        told = (data.parent / "engine.log").read_text()
        assert process.poll() is None, told
        assert state is None or state.state is not statefile.Stage.REFUSED, told
        assert time.monotonic() < end, told
        time.sleep(0.5)


def test_pages_are_read_right_one_by_one_and_at_once(engine: setup.Engine, socket: Path) -> None:
    """The supervisor's canary was passed before the socket was given out."""

    async def read(paths: list[Path]) -> list[tuple[str, str | None]]:
        client = OpenAiEngine(f"unix://{socket}", spec=spec_of(catalogue.read().manifests["paddleocr-vl-1.6"]))
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

    client = OpenAiEngine(f"unix://{socket}", spec=spec_of(catalogue.read().manifests["paddleocr-vl-1.6"]))
    plain, spotting = asyncio.run(costs())
    width, height = 2 * 640, 2 * 448
    assert spotting - plain > width * height // 28**2 // 2 > 500
