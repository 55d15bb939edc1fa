"""The layout stage: a real ONNX model of its own making through onnxruntime, and the page put together from regions.

The model here finds nothing: it gives fixed rows, placed by the factors it is fed, as sure as the page is light. So
what is proved is what we feed it and what we make of its rows, not PP-DocLayoutV3's own eye.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from inkstick.document import Block, Flag, Kind, Task
from inkstick.engines import doclayout, regions
from inkstick.engines.doclayout import DocLayout
from inkstick.engines.protocol import Health, Load, Reading, Request
from inkstick.errors import EngineDown, PageFailed
from inkstick.models import catalogue
from inkstick.models.manifest import Layout
from inkstick.pages.view import Pixels

MANIFEST = catalogue.read().manifests["paddleocr-vl-1.6"]
_CUTTING = regions.cutting_of(MANIFEST)
assert _CUTTING is not None
CUTTING: regions.Cutting = _CUTTING
LAYOUT: Layout = CUTTING.layout
CLASS = {name: number for number, name in enumerate(LAYOUT.classes)}


# -- a small ONNX file, written by hand: protobuf is tag, length, content


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(tag: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _number(tag << 3) + _number(value)
    content = value.encode() if isinstance(value, str) else value
    return _number(tag << 3 | 2) + _number(len(content)) + content


def _tensor(name: str, values: np.ndarray) -> bytes:
    kind = 7 if values.dtype == np.int64 else 1
    dims = b"".join(_field(1, size) for size in values.shape)
    return dims + _field(2, kind) + _field(8, name) + _field(9, values.tobytes())


def _node(kind: str, inputs: Iterable[str], output: str, **attributes: int) -> bytes:
    given = b"".join(
        _field(5, _field(1, name) + _field(3, value) + _field(20, 2)) for name, value in attributes.items()
    )
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, kind) + given


def _value(name: str, *dims: int) -> bytes:
    shape = b"".join(_field(1, _field(1, size)) for size in dims)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))


def layout_model(path: Path, rows: list[list[float]], *, image: str = "image") -> Path:
    """`rows`: class, score, box in the square's pixels, order."""
    nodes = [
        _node("ReduceMean", [image], "mean", keepdims=1),
        _node("Reshape", ["mean", "one_one"], "light"),
        _node("Concat", ["scale_factor", "one", "light"], "all", axis=1),
        _node("Gather", ["all", "place"], "divisor", axis=1),
        _node("Gather", ["all", "sure"], "factor", axis=1),
        _node("Div", ["rows", "divisor"], "placed"),
        _node("Mul", ["placed", "factor"], "regions"),
    ]
    tensors = [
        _tensor("one_one", np.array([1, 1], np.int64)),
        _tensor("one", np.ones((1, 1), np.float32)),
        _tensor("place", np.array([2, 2, 1, 0, 1, 0, 2], np.int64)),
        _tensor("sure", np.array([2, 3, 2, 2, 2, 2, 2], np.int64)),
        _tensor("rows", np.array(rows, np.float32)),
    ]
    graph = (
        b"".join(_field(1, node) for node in nodes)
        + _field(2, "layout")
        + b"".join(_field(5, tensor) for tensor in tensors)
        + _field(11, _value(image, 1, 3, 800, 800))
        + _field(11, _value("im_shape", 1, 2))
        + _field(11, _value("scale_factor", 1, 2))
        + _field(12, _value("regions", len(rows), 7))
    )
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13)))
    return path


def white(width: int = 1000, height: int = 500) -> Pixels:
    return Pixels(width, height, b"\xff" * (width * height * 3))


ROWS = [
    [CLASS["text"], 0.9, 80, 400, 720, 480, 3],
    [CLASS["doc_title"], 0.95, 80, 16, 720, 80, 1],
    [CLASS["table"], 0.8, 80, 160, 720, 320, 2],
    [CLASS["image"], 0.7, 80, 560, 400, 720, 4],
    [CLASS["text"], 0.6, 82, 402, 718, 478, 9],
    [CLASS["inline_formula"], 0.9, 100, 410, 160, 430, 5],
    [CLASS["text"], 0.3, 0, 0, 800, 800, 6],
]


def test_the_model_sees_the_page_stretched_and_its_rows_come_back_in_the_pages_pixels(tmp_path: Path) -> None:
    model = DocLayout(layout_model(tmp_path / "layout.onnx", ROWS), LAYOUT)
    found = model.regions(np.full((500, 1000, 3), 255, np.uint8))
    assert [region.name for region in found] == ["doc_title", "table", "text", "image"]
    assert found[0].box == pytest.approx((100, 10, 900, 50))
    assert found[2].score == pytest.approx(0.9, abs=0.01)


def test_a_darker_page_reaches_the_model_darker(tmp_path: Path) -> None:
    model = DocLayout(layout_model(tmp_path / "layout.onnx", ROWS), LAYOUT)
    found = model.regions(np.full((500, 1000, 3), 170, np.uint8))
    assert found[0].score == pytest.approx(0.95 * 170 / 255, abs=0.01)
    assert "image" not in [region.name for region in found]


def test_rows_out_of_bounds_narrow_or_without_a_number_are_left_out() -> None:
    rows = np.array(
        [
            [CLASS["text"], 0.9, -50, -50, 2000, 2000, 1],
            [99, 0.9, 0, 0, 50, 50, 2],
            [CLASS["text"], 0.9, 10, 10, 12, 400, 3],
            [CLASS["table"], 0.9, float("nan"), 0, 50, 50, 4],
        ]
    )
    assert [region.box for region in doclayout.chosen(rows, 100, 200, LAYOUT)] == [(0, 0, 100, 200)]


def test_a_file_that_is_no_such_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineDown, match="cannot be loaded"):
        DocLayout(tmp_path / "broken.onnx", LAYOUT)
    with pytest.raises(EngineDown, match="wants"):
        DocLayout(layout_model(tmp_path / "other.onnx", ROWS, image="picture"), LAYOUT)


class Reader:
    """An inner engine that answers by what it is asked, and remembers it."""

    name, model, remote, limit = "vllm", "paddleocr-vl-1.6", True, 2
    tasks = frozenset(Task)

    def __init__(self, broken: Task | None = None) -> None:
        self.asked: list[tuple[int, int, Task, str | None]] = []
        self.broken, self.now, self.most = broken, 0, 0

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def health(self) -> Health:
        return Health(True, "ready")

    async def load(self) -> Load | None:
        return None

    async def read(self, image: Pixels, request: Request) -> Reading:
        self.asked.append((image.width, image.height, request.task, request.prompt))
        if request.task is self.broken:
            raise PageFailed("no")
        kind = Kind.TABLE if request.task is Task.TABLE else Kind.PARAGRAPH
        flags = frozenset({Flag.TRUNCATED}) if request.task is Task.TABLE else frozenset()
        return Reading((Block(1, kind, f"{request.prompt} {image.height}"),), self.model, flags=flags, raw="r")


async def started(folder: Path, inner: Reader, rows: list[list[float]]) -> regions.RegionEngine:
    path = layout_model(folder / "layout.onnx", rows)
    engine = regions.RegionEngine(inner, CUTTING, lambda: DocLayout(path, LAYOUT))
    await engine.start()
    return engine


async def test_each_region_is_asked_about_in_its_own_way_and_the_page_is_in_reading_order(tmp_path: Path) -> None:
    inner = Reader()
    engine = await started(tmp_path, inner, ROWS)
    reading = await engine.read(white(), Request(Task.PARSE))
    assert [(block.order, block.kind, block.box) for block in reading.blocks] == [
        (1, Kind.TITLE, (100, 20, 900, 100)),
        (2, Kind.TABLE, (100, 200, 900, 400)),
        (3, Kind.PARAGRAPH, (100, 500, 900, 600)),
        (4, Kind.FIGURE, (100, 700, 500, 900)),
    ]
    assert {(task, prompt) for _, _, task, prompt in inner.asked} == {
        (Task.TEXT, "OCR:"),
        (Task.TABLE, "Table Recognition:"),
    }
    assert len(inner.asked) == 3
    assert inner.asked[0][:2] == (803, 43)
    assert reading.flags == {Flag.TRUNCATED}


async def test_where_plain_text_is_asked_for_a_table_s_rows_are_lines_and_no_markup(tmp_path: Path) -> None:
    class Tables(Reader):
        async def read(self, image: Pixels, request: Request) -> Reading:
            html = "<table><tr><td>a</td><td>b &lt; c</td></tr><tr><td>d</td></tr></table>"
            kind, text = (Kind.TABLE, html) if request.task is Task.TABLE else (Kind.PARAGRAPH, "words")
            return Reading((Block(1, kind, text),), self.model)

    reading = await (await started(tmp_path, Tables(), ROWS)).read(white(), Request(Task.TEXT))
    assert [block.text for block in reading.blocks] == ["words", "a\tb < c\nd", "words", ""]
    assert {block.kind for block in reading.blocks} == {Kind.TITLE, Kind.PARAGRAPH, Kind.FIGURE}


async def test_other_tasks_own_prompts_and_pages_without_regions_are_read_whole(tmp_path: Path) -> None:
    inner = Reader()
    engine = await started(tmp_path, inner, [[0, 0.1, 0, 0, 9, 9, 1]])
    for request in (Request(Task.TABLE), Request(Task.PARSE, prompt="mine"), Request(Task.PARSE)):
        await engine.read(white(), request)
    assert [asked[:3] for asked in inner.asked] == [
        (1000, 500, Task.TABLE),
        (1000, 500, Task.PARSE),
        (1000, 500, Task.PARSE),
    ]


@pytest.mark.parametrize("box", [(0, 200, 3000, 205), (200, 0, 205, 3000)])
def test_a_rule_across_the_page_is_not_too_thin_to_be_sent(box: tuple[float, float, float, float]) -> None:
    """vLLM refuses what is more than 200 times as long as wide."""
    cut = regions.cropped(np.zeros((3000, 3000, 3), np.uint8), doclayout.Region("text", 0.9, box))
    assert max(cut.width, cut.height) <= 101 * min(cut.width, cut.height)
    assert (len(cut.data), cut.data.count(0)) == (cut.width * cut.height * 3, 3000 * 8 * 3)


async def test_a_region_that_cannot_be_read_fails_the_page(tmp_path: Path) -> None:
    engine = await started(tmp_path, Reader(broken=Task.TABLE), ROWS)
    with pytest.raises(PageFailed):
        await engine.read(white(), Request(Task.PARSE))


def test_a_model_that_reads_whole_pages_is_not_cut_up() -> None:
    assert regions.cutting_of(catalogue.read().default) is None
