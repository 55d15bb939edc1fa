"""What is sent to a server, how its answers become blocks, and what each way of failing is called."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkstick.document import Flag, Kind, Task
from inkstick.engines import answers
from inkstick.engines.encode import encode
from inkstick.engines.faults import EngineBusy, EngineLost
from inkstick.engines.openai import Deadlines, OpenAiEngine, body
from inkstick.engines.protocol import Load, Request
from inkstick.engines.spec import Sampling, default_spec, spec_of
from inkstick.errors import EngineDown, PageFailed, Timeout, Unsupported
from inkstick.models import catalogue
from inkstick.pages.view import Pixels
from support import page_code
from support.fake_engine import FakeEngine, Rule

QUICK = Deadlines(connect=0.5, first=0.5, idle=0.4, total=5.0, figures=0.5)
PAGE = page_code.pixels(page_code.draw(5))


# -- requests


def test_the_request_has_exactly_the_fields_of_the_schema() -> None:
    sent = json.loads(body(default_spec(), b"data:image/png;base64,QUJD", "读", Sampling(0.0, 1.0, -1, 1.08, 100)))
    assert set(sent) == {
        "model", "messages", "temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "skip_special_tokens",
        "stream", "stream_options",
    }  # fmt: skip
    seeded = json.loads(body(replace(default_spec(), seed=1234), b"data:x", "读", Sampling()))
    assert set(seeded) - set(sent) == {"seed"}
    system, user = sent["messages"]
    assert system == {"role": "system", "content": ""}
    assert [part["type"] for part in user["content"]] == ["image_url", "text"]
    assert user["content"][0]["image_url"]["url"] == "data:image/png;base64,QUJD"
    assert user["content"][1]["text"] == "读"


@given(st.text() | st.just("@"))
def test_a_prompt_cannot_break_out_of_its_field(prompt: str) -> None:
    prompt = prompt.encode("utf-8", "replace").decode()
    sent = json.loads(body(default_spec(), b"data:x", prompt, Sampling()))
    assert sent["messages"][1]["content"][1]["text"] == prompt
    assert sent["messages"][1]["content"][0]["image_url"]["url"] == "data:x"
    turned = json.loads(body(replace(default_spec(), order=("text", "image")), b"data:x", prompt, Sampling()))
    assert turned["messages"][1]["content"] == sent["messages"][1]["content"][::-1]


def test_each_task_has_the_models_own_prompt() -> None:
    spec = default_spec()
    assert spec.prompt(Request(Task.TEXT)) == "提取图中的文字。"
    assert "翻译为中文" in spec.prompt(Request(Task.TRANSLATE, to="zh"))
    assert spec.tasks == frozenset(Task) - {Task.EXTRACT, Task.SUBTITLES}
    for request in (Request(Task.TRANSLATE, to="fr"), Request(Task.EXTRACT, keys=("date",))):
        with pytest.raises(Unsupported):
            spec.prompt(request)
    older = spec_of(catalogue.read().get("hunyuanocr-1.0"))
    asked = older.prompt(Request(Task.EXTRACT, keys=("date", "sum")))
    assert asked.startswith("Extract the content of the fields: ['date', 'sum'] from the image")


def test_sampling_changes_with_the_attempt_and_stays_at_the_last() -> None:
    temperatures = [default_spec().sampled(n).temperature for n in (1, 2, 3, 9)]
    assert temperatures == [0.0, 0.2, 0.5, 0.5]


# -- pictures


def decoded(url: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    raw = np.frombuffer(base64.b64decode(url.partition(b",")[2]), np.uint8)
    image = cv2.imdecode(raw, cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def test_print_is_sent_as_png_without_loss() -> None:
    page = page_code.draw(9)
    sent = encode(page_code.pixels(page))
    assert sent.url.startswith(b"data:image/png;")
    assert np.array_equal(decoded(sent.url), page)


def test_colour_is_kept() -> None:
    page = page_code.draw(9)
    page[100:140, 100:300] = (200, 30, 30)
    assert np.array_equal(decoded(encode(page_code.pixels(page)).url), page)


def test_photos_are_sent_as_jpeg_and_still_tell_their_number() -> None:
    sent = encode(page_code.pixels(page_code.draw(9, photo=True)))
    assert sent.url.startswith(b"data:image/jpeg;")
    assert page_code.look(np.ascontiguousarray(decoded(sent.url)[:, :, 1])) == 9


def test_a_smaller_picture_and_a_sliver_have_sizes_a_model_can_take() -> None:
    assert decoded(encode(PAGE, scale=0.5).url).shape[:2] == (424, 300)
    assert decoded(encode(PAGE, double_below=849).url).shape[:2] == (1696, 1200)
    assert decoded(encode(PAGE, double_below=848).url).shape[:2] == (848, 600)
    assert decoded(encode(PAGE, scale=0.5, double_below=849).url).shape[:2] == (848, 600)
    assert min(decoded(encode(Pixels(300, 10, b"\xff" * 9000)).url).shape[:2]) == 32


# -- answers


def kinds(answer: str, task: Task = Task.PARSE) -> list[tuple[str, str]]:
    return [(block.kind.value, block.text) for block in answers.parse(answer, task)]


def test_markdown_becomes_blocks_in_order() -> None:
    answer = """# Title

Some text
on two lines.

## 1. Part
- one
- two

$$E = mc^2$$

<table border=1><tr><td onclick="x()" colspan="2">a<b>b</b></td></tr><tr><td>1 < 2</td><td>d</td></tr></table>

| h | i |
|---|---|
| 1 | 2 |

```mermaid
graph TD
```"""
    assert kinds(answer) == [
        ("title", "Title"),
        ("paragraph", "Some text\non two lines."),
        ("heading", "1. Part"),
        ("list", "- one\n- two"),
        ("formula", "E = mc^2"),
        ("table", '<table><tr><td colspan="2">ab</td></tr><tr><td>1 &lt; 2</td><td>d</td></tr></table>'),
        ("table", "<table><tr><th>h</th><th>i</th></tr><tr><td>1</td><td>2</td></tr></table>"),
        ("code", "graph TD"),
    ]
    assert [block.order for block in answers.parse(answer, Task.PARSE)] == list(range(1, 9))


def test_nothing_but_cells_survives_in_a_table() -> None:
    hostile = '<table><tr><td><script>alert(1)</script><img src=x onerror=y>ok</td><td rowspan="9999">z</td></tr>'
    assert kinds(hostile) == [("table", "<table><tr><td>ok</td><td>z</td></tr></table>")]


@given(st.text(alphabet="<>table/rdhi $\\[]{}|-#`\"'\n(),:1", max_size=200), st.sampled_from(list(Task)))
def test_no_answer_breaks_the_parser(answer: str, task: Task) -> None:
    for block in answers.parse(answer, task):
        if block.kind is Kind.TABLE:
            assert block.text.startswith("<table><tr><t")
            assert "<script" not in block.text


def test_spotting_gives_lines_with_boxes_even_when_cut_off() -> None:
    answer = '[{"box": [10, 20, 300, 40], "text": "one"}, {"box": [10, 50, 1300, 70], "text": "two"}, {"box": [1'
    blocks = answers.parse(answer, Task.SPOTTING)
    assert [(b.text, b.box) for b in blocks] == [("one", (10, 20, 300, 40)), ("two", (10, 50, 1000, 70))]
    assert blocks[0].lines[0].text == "one"
    older = answers.parse("one(10,20),(300,40)two(10,50),(900,70)", Task.SPOTTING)
    assert [(b.text, b.box) for b in older] == [("one", (10, 20, 300, 40)), ("two", (10, 50, 900, 70))]


def test_extraction_gives_fields() -> None:
    assert kinds('```json\n{"date": "3 May", "sum": 12}\n```', Task.EXTRACT) == [
        ("field", "date: 3 May"),
        ("field", "sum: 12"),
    ]


def test_an_answer_of_coordinates_only_is_recognised() -> None:
    assert answers.only_coordinates("(156,68),(783,758)")
    assert not answers.only_coordinates("Total (156,68)")
    assert not answers.only_coordinates("")


# -- faults


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (Rule("429"), EngineBusy),
        (Rule("503"), EngineBusy),
        (Rule("500"), PageFailed),
        (Rule("oom"), EngineLost),
        (Rule("404"), EngineDown),
        (Rule("reset", "before"), EngineLost),
        (Rule("reset", "middle"), EngineLost),
        (Rule("reset", "end"), EngineLost),
        (Rule("truncated", "middle"), EngineLost),
        (Rule("truncated", "end"), EngineLost),
        (Rule("garbage", "middle"), PageFailed),
        (Rule("wrong_id", "middle"), PageFailed),
        (Rule("wrong_model", "end"), PageFailed),
        (Rule("hang"), Timeout),
        (Rule("slow_first", seconds=3), Timeout),
        (Rule("drip", seconds=3), Timeout),
    ],
    ids=lambda value: f"{value.kind}-{value.at}" if isinstance(value, Rule) else "",
)
async def test_each_fault_has_its_error(rule: Rule, error: type[Exception]) -> None:
    async with FakeEngine(speed=60, rules=[rule]) as fake:
        engine = OpenAiEngine(fake.url)
        await engine.start()
        engine.deadlines = QUICK if error is Timeout else Deadlines()
        with pytest.raises(error):
            await engine.read(PAGE, Request())
        fake.control({"rules": []})
        engine.deadlines = Deadlines()
        assert (await engine.read(PAGE, Request())).blocks[0].text == "Page 5", "the engine is usable afterwards"
        await engine.close()


async def test_a_cut_answer_and_a_loop_are_told_by_flags() -> None:
    async with FakeEngine(speed=60, rules=[Rule("length", first=1), Rule("repetition")]) as fake:
        engine = OpenAiEngine(fake.url)
        assert (await engine.read(PAGE, Request())).flags == {Flag.TRUNCATED}
        looped = await engine.read(PAGE, Request())
        assert looped.flags == {Flag.REPETITION}
        assert looped.raw is not None
        assert len(looped.raw) < 1000
        await engine.close()


async def test_cancelling_closes_the_stream() -> None:
    async with FakeEngine(speed=1) as fake:
        engine = OpenAiEngine(fake.url)
        reading = asyncio.ensure_future(engine.read(PAGE, Request()))
        async with asyncio.timeout(60):
            while not fake.report()["running"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            reading.cancel()
            while fake.report()["running"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert fake.seen.finished == 0
        await engine.close()


async def test_connections_are_kept_and_figures_are_read(tmp_path: Path) -> None:
    async with FakeEngine(uds=str(tmp_path / "engine.sock"), speed=60) as fake:
        engine = OpenAiEngine(fake.url)
        await engine.start()
        for _ in range(4):
            await engine.read(PAGE, Request())
        load = await engine.load()
        assert isinstance(load, Load)
        assert load.generated_tokens > 0
        assert (await engine.health()).ready
        assert fake.seen.connections == 1
        await engine.close()


async def test_nobody_home_is_engine_down() -> None:
    engine = OpenAiEngine("http://127.0.0.1:9", deadlines=QUICK)
    with pytest.raises(EngineDown):
        await engine.start()
    with pytest.raises(EngineDown):
        await engine.read(PAGE, Request())
    assert not (await engine.health()).ready
    assert await engine.load() is None
    await engine.close()


# -- a server that is none


@contextlib.asynccontextmanager
async def answering(status: int, body: bytes, *, endless: bool = False) -> AsyncIterator[str]:
    """The address of a server that gives everybody this answer; `endless`: the body over and over."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 %d Told\r\nconnection: close\r\n\r\n%b" % (status, body))
            while endless and not writer.is_closing():
                writer.write(body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("listed", [b'{"data": null}', b'{"data": 5}', b'{"data": ["x"]}', b"[" * 100_000, b"7"])
async def test_a_listing_of_another_shape_is_engine_down(listed: bytes) -> None:
    async with answering(200, listed) as url:
        engine = OpenAiEngine(url, deadlines=QUICK)
        with pytest.raises(EngineDown):
            await engine.start()
        assert not (await engine.health()).ready
        await engine.close()


@pytest.mark.parametrize("value", [b".", b"1e999", b"+-"])
async def test_figures_that_are_no_numbers_are_none(value: bytes) -> None:
    async with answering(200, b"vllm:num_requests_running %b\n" % value) as url:
        engine = OpenAiEngine(url, deadlines=QUICK)
        assert await engine.load() is None
        await engine.close()


async def test_an_error_without_end_is_told_by_its_beginning() -> None:
    async with answering(500, b"x" * 65_536, endless=True) as url:
        engine = OpenAiEngine(url, deadlines=replace(QUICK, total=60.0))
        with pytest.raises(PageFailed, match="500"):
            await engine.read(PAGE, Request())
        await engine.close()


async def test_figures_without_end_are_engine_down() -> None:
    async with answering(200, b" " * 65_536, endless=True) as url:
        engine = OpenAiEngine(url, deadlines=replace(QUICK, figures=60.0))
        with pytest.raises(EngineDown, match="no end"):
            await engine.start()
        await engine.close()
