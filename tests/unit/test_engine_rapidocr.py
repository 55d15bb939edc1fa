"""The CPU engine: reading order and tables as pure geometry, and the real models on the sample documents."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from inkstick.document import Block, Kind, Task
from inkstick.engines.grid import place
from inkstick.engines.layout import Region
from inkstick.engines.ocr_lines import TextLine, model_folder
from inkstick.engines.order import printed_rows, reading_order
from inkstick.engines.protocol import Reading, Request
from inkstick.engines.rapidocr import RapidOcrEngine
from inkstick.engines.structure import Sheet as Lines
from inkstick.engines.structure import join_rows, parse, spots, tables, text
from inkstick.errors import EngineDown, PageFailed, Timeout, Unsupported
from inkstick.pages.view import Pixels
from inkstick.results.tables import grid as table_grid
from inkstick.results.tables import parse_table, plain_text
from support.cer import error_rate
from support.pages import Sheet, pixels

SAMPLES = Path(__file__).resolve().parents[1] / "samples"


def line(words: str, x: float, y: float, width: float = 300, height: float = 20) -> TextLine:
    return TextLine(words, (x, y, x + width, y + height), 0.9)


# Reading order


def test_columns_are_read_one_after_the_other_below_a_heading_across_both() -> None:
    heading, left, right = (50, 20, 900, 60), (50, 100, 450, 400), (500, 100, 900, 350)
    assert reading_order([right, left, heading], 20) == [2, 1, 0]


def test_paragraphs_that_end_at_one_height_in_both_columns_are_not_read_across() -> None:
    boxes = [(50, 100, 450, 200), (500, 100, 900, 200), (50, 240, 450, 400), (500, 240, 900, 400)]
    assert reading_order(boxes, 20) == [0, 2, 1, 3]


def test_labels_and_values_side_by_side_are_read_row_by_row() -> None:
    boxes = [(50, 100, 120, 120), (300, 100, 380, 120), (50, 150, 120, 170), (300, 150, 380, 170)]
    assert reading_order(boxes, 20) == [0, 1, 2, 3]


def test_a_short_heading_below_columns_stands_between_them_and_what_follows() -> None:
    boxes = [(50, 100, 450, 400), (500, 100, 900, 380), (50, 430, 250, 450), (50, 470, 900, 600)]
    assert reading_order(boxes, 20) == [0, 1, 2, 3]


def test_every_box_is_ordered_once_wherever_boxes_lie() -> None:
    chance = random.Random(7)
    for _ in range(200):
        corners = [(chance.uniform(0, 900), chance.uniform(0, 900)) for _ in range(chance.randrange(0, 25))]
        boxes = [(x, y, x + chance.uniform(0, 400), y + chance.uniform(0, 200)) for x, y in corners]
        assert sorted(reading_order(boxes, 20)) == list(range(len(boxes)))
        assert sorted(index for row in printed_rows(boxes) for index in row) == list(range(len(boxes)))


# Paragraphs


def test_chinese_rows_are_joined_without_a_space_and_others_with_one() -> None:
    assert join_rows(["本馆九时开放，", "六时闭馆"]) == "本馆九时开放，六时闭馆"
    assert join_rows(["open at", "nine"]) == "open at nine"
    assert join_rows(["使用", "OCR"]) == "使用 OCR"


def test_a_hyphen_at_a_rows_end_goes_only_where_the_page_shows_the_whole_word() -> None:
    assert join_rows(["an inter-", "national loan"], frozenset({"international"})) == "an international loan"
    assert join_rows(["a well-", "known book"], frozenset({"known"})) == "a well-known book"
    assert join_rows(["pages 10-", "12"]) == "pages 10- 12"


# Tables


def test_lines_go_into_the_cells_that_the_borders_make() -> None:
    boxes = [(10, 10, 90, 30), (110, 10, 190, 30), (10, 60, 90, 80), (110, 60, 190, 80)]
    grid = place(boxes, (0, 0, 200, 100), rows=(45,), columns=(100,))
    assert [(cell.row, cell.column, cell.members) for cell in grid.cells] == [
        (0, 0, (0,)), (0, 1, (1,)), (1, 0, (2,)), (1, 1, (3,)),
    ]  # fmt: skip


def test_a_line_across_two_columns_spans_them_and_missing_cells_stay_empty() -> None:
    boxes = [(10, 10, 190, 30), (10, 60, 90, 80), (110, 60, 190, 80), (210, 60, 290, 80)]
    grid = place(boxes, (0, 0, 300, 100), rows=(45,), columns=(100, 200))
    assert (grid.rows, grid.columns) == (2, 3)
    assert [(cell.column, cell.wide, cell.members) for cell in grid.cells if cell.row == 0] == [
        (0, 2, (0,)),
        (2, 1, ()),
    ]


def test_without_borders_rows_and_columns_come_from_the_gaps() -> None:
    boxes = [(x, y, x + 60, y + 20) for y in (0, 40, 80) for x in (0, 100, 200)]
    grid = place(boxes, (0, 0, 260, 100))
    assert (grid.rows, grid.columns) == (3, 3)


def test_cells_cover_every_place_once_and_hold_every_line_once() -> None:
    chance = random.Random(3)
    for _ in range(200):
        count = chance.randrange(1, 30)
        corners = [(chance.uniform(0, 900), chance.uniform(0, 900)) for _ in range(count)]
        boxes = [(x, y, x + chance.uniform(1, 500), y + chance.uniform(1, 60)) for x, y in corners]
        borders = sorted(chance.uniform(0, 900) for _ in range(chance.randrange(0, 6)))
        grid = place(boxes, (0, 0, 1000, 1000), rows=borders, columns=borders)
        covered = Counter((cell.row, cell.column + n) for cell in grid.cells for n in range(cell.wide))
        assert covered == {(row, column): 1 for row in range(grid.rows) for column in range(grid.columns)}
        assert sorted(member for cell in grid.cells for member in cell.members) == list(range(count))


# Blocks


def all_lines(blocks: list[Block]) -> Counter[str]:
    return Counter(line.text for block in blocks for line in block.lines)


def test_no_line_is_lost_or_doubled_whatever_the_regions_cover() -> None:
    chance = random.Random(11)
    kinds = [
        "text",
        "title",
        "picture",
        "table",
        "list-item",
        "page-header",
        "page-footer",
        "caption",
        "formula",
        "new",
    ]
    for _ in range(100):
        corners = [(chance.uniform(0, 700), chance.uniform(0, 950)) for _ in range(chance.randrange(1, 20))]
        lines = [line(f"line {n}", x, y) for n, (x, y) in enumerate(corners)]
        owners = [chance.randrange(0, 5) for _ in lines]
        regions = [
            Region(
                chance.choice(kinds), (0, 0, 500, 500), tuple(n for n, owner in enumerate(owners) if owner == number)
            )
            for number in range(4)
        ]
        sheet = Lines(1000, 1000, lines)
        wanted = Counter(found.text for found in lines)
        for blocks in (parse(sheet, regions), text(sheet, regions), spots(sheet)):
            assert all_lines(blocks) == wanted
            assert [block.order for block in blocks] == list(range(1, len(blocks) + 1))
            assert all(found.text in "".join(plain(block) for block in blocks) for found in lines)


def plain(block: Block) -> str:
    return plain_text(block.text) if block.kind is Kind.TABLE else block.text


def test_list_items_that_follow_one_another_are_one_list() -> None:
    lines = [line("• one", 50, 100), line("• two", 50, 140), line("after", 50, 200)]
    regions = [Region("list-item", lines[0].box, (0,)), Region("list-item", lines[1].box, (1,))]
    blocks = parse(Lines(1000, 1000, lines), regions)
    assert [(block.kind, block.text) for block in blocks] == [(Kind.LIST, "• one\n• two"), (Kind.PARAGRAPH, "after")]


def test_a_headings_level_follows_its_size() -> None:
    lines = [line("big", 50, 20, height=40), line("middle", 50, 100, height=27)]
    lines += [line(f"body {n}", 50, 200 + 30 * n) for n in range(5)]
    regions = [Region("section-header", lines[n].box, (n,)) for n in range(2)]
    blocks = parse(Lines(1000, 1000, lines), regions)
    assert [block.level for block in blocks[:2]] == [1, 2]


def test_markup_in_a_cell_is_text() -> None:
    lines = [line("<b>5 & 6", 50, 100), line("x", 400, 100)]
    (block,) = tables(Lines(1000, 1000, lines), [])
    assert "&lt;b&gt;5 &amp; 6" in block.text


# The engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[RapidOcrEngine]:
    engine = RapidOcrEngine(2)
    await engine.start()
    yield engine
    await engine.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


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
    assert not Path(f"/proc/{int(out)}").exists() or "Z" in Path(f"/proc/{int(out)}/stat").read_text().split(")")[1][:3]


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
