"""The CPU engine with its real models and processes, on the sample documents."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from inkstick.document import Block, Kind, Task
from inkstick.engines.ocr_lines import model_folder
from inkstick.engines.protocol import Reading, Request
from inkstick.engines.rapidocr import RapidOcrEngine
from inkstick.errors import EngineDown, PageFailed, Timeout, Unsupported
from inkstick.pages.view import Pixels
from inkstick.results.tables import grid as table_grid
from inkstick.results.tables import parse_table, plain_text
from support.cer import error_rate
from support.pages import Sheet, pixels

SAMPLES = Path(__file__).resolve().parents[1] / "samples"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[RapidOcrEngine]:
    engine = RapidOcrEngine(2)
    await engine.start()
    yield engine
    await engine.close()


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("rapidocr")]


def sample(name: str, page: int = 0) -> Pixels:
    """A sample page, upright, at 200 dpi."""
    if not name.endswith(".pdf"):
        image = Image.open(SAMPLES / name)
        image.seek(page)
        array = np.asarray(image.convert("RGB"))
        return pixels(np.rot90(array, -1) if name.startswith("rotated") else array)
    import pymupdf

    with pymupdf.open(SAMPLES / name) as document:
        drawn = document[page].get_pixmap(dpi=200, colorspace="rgb")
        return pixels(np.frombuffer(drawn.samples, np.uint8).reshape(drawn.h, drawn.w, 3))


def truth(name: str, page: int = 0) -> str:
    return (SAMPLES / "truth" / f"{Path(name).stem}.txt").read_text(encoding="utf-8").split("\f")[page]


def plain(block: Block) -> str:
    return plain_text(block.text) if block.kind is Kind.TABLE else block.text


def read_text(reading: Reading) -> str:
    return "\n".join(plain(block) for block in reading.blocks)


@pytest.mark.parametrize(
    ("name", "page", "bound"),
    [
        ("english-letter.pdf", 0, 0.005),
        ("chinese-notice.pdf", 0, 0.005),
        ("two-columns.jpg", 0, 0.005),
        ("two-page.tif", 1, 0.005),
        ("rotated-90.png", 0, 0.005),
        ("photographed.jpg", 0, 0.03),
    ],
)
async def test_samples_are_read_in_order_with_few_wrong_characters(
    engine: RapidOcrEngine, name: str, page: int, bound: float
) -> None:
    reading = await engine.read(sample(name, page), Request())
    assert error_rate(read_text(reading), truth(name, page)) <= bound
    assert reading.score is not None and reading.score > 0.9
    assert reading.model.startswith("pp-ocrv6-small@")


@pytest.mark.parametrize(("name", "size"), [("stock-list.pdf", (8, 5)), ("tide-table.jpg", (7, 5))])
async def test_tables_come_out_cell_by_cell(engine: RapidOcrEngine, name: str, size: tuple[int, int]) -> None:
    reading = await engine.read(sample(name), Request(Task.TABLE))
    (block,) = reading.blocks
    cells = table_grid(parse_table(block.text))
    assert (len(cells), {len(row) for row in cells}) == (size[0], {size[1]})
    rows = [re.sub(r"\s", "", "".join(row)) for row in cells]
    printed = [re.sub(r"\s", "", row) for row in truth(name).splitlines()]
    assert all(row in printed for row in rows)


async def test_spotting_gives_each_line_its_box(engine: RapidOcrEngine) -> None:
    sheet = Sheet(size=(1000, 600), margin=100)
    sheet.y = 100
    sheet.write("The first line", 40)
    sheet.y = 400
    sheet.write("这是第二行", 40)
    reading = await engine.read(sheet.pixels(), Request(Task.SPOTTING))
    first, second = reading.blocks
    assert (first.text.replace(" ", ""), second.text) == ("Thefirstline", "这是第二行")
    assert first.box and second.box
    assert [first.box[0], second.box[0]] == pytest.approx([100, 100], abs=15)
    assert [first.box[1], second.box[1]] == pytest.approx([167, 667], abs=25)
    assert len(first.lines) == 1 and first.lines[0].box == first.box


async def test_a_long_receipt_is_read_to_its_last_line(engine: RapidOcrEngine) -> None:
    sheet = Sheet(size=(500, 6500), margin=20, y=20)
    prices = [f"{n * 37 % 997 / 10:.2f}" for n in range(170)]
    for n, price in enumerate(prices):
        sheet.write(f"Item {n:03d} {price}", 26, leading=1.4, after=0)
    reading = await engine.read(sheet.pixels(), Request(Task.SPOTTING))
    found = [re.sub(r"\s", "", block.text) for block in reading.blocks]
    assert found == [f"Item{n:03d}{price}" for n, price in enumerate(prices)]


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5000, 1), (1, 5000), (9000, 12), (40, 40), (12, 6000)])
async def test_extreme_images_are_read_as_empty_within_seconds(engine: RapidOcrEngine, size: tuple[int, int]) -> None:
    width, height = size
    async with asyncio.timeout(60):
        reading = await engine.read(Pixels(width, height, b"\xff" * (width * height * 3)), Request())
    assert reading.blocks == () and reading.score is None


async def test_noise_is_not_text(engine: RapidOcrEngine) -> None:
    noise = np.random.default_rng(5).integers(0, 255, (700, 500, 3)).astype(np.uint8)
    assert (await engine.read(pixels(noise), Request())).blocks == ()


async def test_a_task_that_is_not_offered_and_a_broken_image_are_told(engine: RapidOcrEngine) -> None:
    with pytest.raises(Unsupported):
        await engine.read(Pixels(2, 2, bytes(12)), Request(Task.TRANSLATE))
    with pytest.raises(PageFailed):
        await engine.read(Pixels(2, 2, bytes(11)), Request())


def processes(engine: RapidOcrEngine) -> list[int]:
    return [worker._process.pid for worker in engine._workers if worker._process is not None]


def small() -> Pixels:
    sheet = Sheet(size=(700, 200), margin=50)
    sheet.y = 60
    sheet.write("Shelf B-03", 48)
    return sheet.pixels()


async def test_killed_processes_are_replaced_and_the_page_is_read_all_the_same(engine: RapidOcrEngine) -> None:
    reading = asyncio.gather(*(engine.read(small(), Request(Task.TEXT)) for _ in range(3)))
    await asyncio.sleep(0.05)
    for pid in processes(engine):
        os.kill(pid, signal.SIGKILL)
    assert [read_text(found).replace(" ", "") for found in await reading] == ["ShelfB-03"] * 3


async def test_a_cancelled_page_stops_its_process_and_the_engine_goes_on(engine: RapidOcrEngine) -> None:
    task = asyncio.create_task(engine.read(sample("english-letter.pdf"), Request()))
    await asyncio.sleep(0.4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sum(worker.alive for worker in engine._workers) < 2 or await _dead_soon(engine)
    assert read_text(await engine.read(small(), Request(Task.TEXT))).replace(" ", "") == "ShelfB-03"


async def _dead_soon(engine: RapidOcrEngine) -> bool:
    for _ in range(100):
        if not all(worker.alive for worker in engine._workers):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_page_past_the_deadline_is_given_up() -> None:
    engine = RapidOcrEngine(1, deadline_seconds=0.05)
    await engine.start()
    try:
        with pytest.raises(Timeout):
            await engine.read(sample("english-letter.pdf"), Request())
    finally:
        await engine.close()
    assert not any(worker.alive for worker in engine._workers)
    with pytest.raises(EngineDown):
        await engine.read(small(), Request())


async def test_closing_the_engine_fails_the_pages_that_are_read_or_wait() -> None:
    engine = RapidOcrEngine(1)
    await engine.start()
    pages = [asyncio.create_task(engine.read(sample("stock-list.pdf"), Request())) for _ in range(3)]
    await asyncio.sleep(0.2)
    await engine.close()
    found = await asyncio.wait_for(asyncio.gather(*pages, return_exceptions=True), 60)
    assert [type(error) for error in found] == [EngineDown] * 3
    assert not any(worker.alive for worker in engine._workers)


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie that nobody has buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_processes_end_when_the_parent_does_and_print_nothing(tmp_path: Path) -> None:
    import sys

    script = (
        "import asyncio, os\n"
        "from inkstick.engines.rapidocr import RapidOcrEngine\n"
        "async def main():\n"
        "    engine = RapidOcrEngine(1)\n"
        "    await engine.start()\n"
        "    print(engine._workers[0]._process.pid, flush=True)\n"
        "    os._exit(1)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()  # ends when nobody holds the pipes any more, the worker included
    assert err == b""
    for _ in range(200):
        if not is_running(int(out)):
            break
        await asyncio.sleep(0.1)
    assert not is_running(int(out))


async def test_a_missing_model_is_an_error_and_nothing_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "rapidocr").mkdir()
    (tmp_path / "rapidocr" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded: dict[str, Any] = {name: module for name, module in __import__("sys").modules.items()}
    for name in [name for name in loaded if name == "rapidocr" or name.startswith("rapidocr.")]:
        monkeypatch.delitem(__import__("sys").modules, name)
    with pytest.raises(FileNotFoundError, match="lacks its model"):
        model_folder()
