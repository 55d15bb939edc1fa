"""What models answer to each task, and what hostile or broken answers become."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkstick.document import Flag, Kind, Task
from inkstick.engines import answers
from inkstick.engines.extraction import extracted
from inkstick.engines.openai import OpenAiEngine
from inkstick.engines.protocol import Request
from inkstick.engines.spec import spec_of
from inkstick.errors import PageFailed
from inkstick.models import catalogue
from support import page_code
from support.fake_engine import FakeEngine, Timing

KEYS = ("date", "Total sum")


def kinds(answer: str, task: Task) -> list[tuple[str, str]]:
    return [(block.kind.value, block.text) for block in answers.parse(answer, task)]


@pytest.mark.parametrize(
    "answer",
    [
        '{"date": "3 May", "Total sum": "12.50"}',
        '```json\n{"Total sum": "12.50", "date": "3 May"}\n```',
        "{'date': '3 May', 'Total sum': '12.50'}",
        '{"DATE": "3 May", "total_sum": "12.50", "admin": "invented"}',
        '[{"date": "3 May"}, {"Total sum": "12.50"}]',
        '[{"key": "date", "value": "3 May"}, {"key": "Total sum", "value": "12.50"}]',
        '{"date": "3 May", "date": "4 May", "Total sum": "12.50"}',
        'Here it is: {"date": "3 May", "Total sum": "12.50", "note": "cut off he',
    ],
)
def test_the_fields_that_were_asked_for_come_in_order_and_no_others(answer: str) -> None:
    found = extracted(answer, KEYS)
    assert found is not None
    assert found.values == (("date", "3 May"), ("Total sum", "12.50"))
    assert [block.text for block in found.blocks] == ["date: 3 May", "Total sum: 12.50"]
    assert found.missing == ()


@pytest.mark.parametrize(
    "answer", ['{"date": "3 May"}', '{"date": "3 May", "Total sum": null}', '{"date": "3 May", "To']
)
def test_a_missing_field_is_named(answer: str) -> None:
    found = extracted(answer, KEYS)
    assert found is not None
    assert found.missing == ("Total sum",)
    assert [block.text for block in found.blocks] == ["date: 3 May", "Total sum:"]


@pytest.mark.parametrize(
    "answer", ["", "I cannot read this.", "{", "[]", '{"other": 1}', "[" * 5000, "<table>", "__import__('os')"]
)
def test_an_answer_without_any_of_the_fields_is_refused(answer: str) -> None:
    assert extracted(answer, KEYS) is None


def test_one_field_alone_may_be_answered_in_plain_words() -> None:
    found = extracted("12.50", ("sum",))
    assert found is not None
    assert found.values == (("sum", "12.50"),)
    assert extracted('{"other": "x"}', ("sum",)) is None


@given(st.text(alphabet="{}[]\"':,datesum 1\\\n`", max_size=120))
def test_no_answer_breaks_the_extraction(answer: str) -> None:
    found = extracted(answer, KEYS)
    assert found is None or [key for key, _ in found.values] == list(KEYS)


async def test_fields_by_the_client_with_their_flags_and_refusals() -> None:
    spec = spec_of(catalogue.read().get("hunyuanocr-1.0"))
    texts = {1: '{"date": "3 May", "Total sum": "1"}', 2: '{"date": "3 May"}', 3: "no"}
    async with FakeEngine(speed=20, timing=Timing(tokens=20), texts=texts) as fake:
        engine = OpenAiEngine(fake.url, spec=dataclasses.replace(spec, served="tencent/HunyuanOCR"))
        request = Request(Task.EXTRACT, keys=KEYS)
        whole = await engine.read(page_code.pixels(page_code.draw(1)), request)
        assert (whole.flags, len(whole.blocks)) == (frozenset(), 2)
        lacking = await engine.read(page_code.pixels(page_code.draw(2)), request)
        assert lacking.flags == {Flag.SUSPECT}
        with pytest.raises(PageFailed, match="none of the fields"):
            await engine.read(page_code.pixels(page_code.draw(3)), request)
        await engine.close()


def test_boxes_out_of_range_swapped_or_broken_stay_in_the_page_or_out_of_the_result() -> None:
    answer = (
        '[{"box": [900, 40, -5, 10], "text": "swapped"}, {"box": [1, 2, 3], "text": "three"},'
        ' {"box": ["a", 1, 2, 3], "text": "words"}, {"box": [0, 1e9, 5, 7.6], "text": "far"}, {"text": "none"}, 7,'
        ' {"box": [1, 2, 3, 4], "text": "   "}]'
    )
    blocks = answers.parse(answer, Task.SPOTTING)
    assert [(block.text, block.box) for block in blocks] == [
        ("swapped", (0, 10, 900, 40)),
        ("far", (0, 8, 5, 1000)),
    ]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_box_that_is_no_number_is_left_out(number: str) -> None:
    answer = f'[{{"box": [1, 2, {number}, 4], "text": "bad"}}, {{"box": [1, 2, 3, 4], "text": "good"}}]'
    assert [block.text for block in answers.parse(answer, Task.SPOTTING)] == ["good"]


def test_tables_formulas_charts_translations_and_subtitles() -> None:
    assert kinds("<table><tr><td>1<td>2<tr><td>3</table> after", Task.TABLE)[0][0] == "table"
    assert kinds("<table><tr><td>cut", Task.TABLE) == [("table", "<table><tr><td>cut</td></tr></table>")]
    for written in ("$$E=mc^2$$", "\\[E=mc^2\\]", "E=mc^2", "$E=mc^2$"):
        assert kinds(written, Task.FORMULA) == [("formula", "E=mc^2")]
    assert kinds("```mermaid\ngraph TD\nA-->B\n```", Task.CHART) == [("code", "graph TD\nA-->B")]
    assert kinds("flowchart LR\nA-->B", Task.CHART) == [("code", "flowchart LR\nA-->B")]
    assert kinds("| a | b |\n|---|---|\n| 1 | 2 |", Task.CHART)[0][0] == "table"
    assert kinds("# Title\n\nText", Task.TRANSLATE) == [("title", "Title"), ("paragraph", "Text")]
    assert kinds("Good evening.", Task.SUBTITLES) == [("paragraph", "Good evening.")]
    assert kinds("<script>alert(1)</script>", Task.PARSE) == [("paragraph", "<script>alert(1)</script>")]


def test_an_empty_cell_at_the_edge_of_a_row_keeps_the_others_in_their_columns() -> None:
    [block] = answers.parse("||2023|2024|\n|---|---|---|\n|Revenue|5|6|\n|a \\| b|7||", Task.PARSE)
    assert block.text == (
        "<table><tr><th></th><th>2023</th><th>2024</th></tr>"
        "<tr><td>Revenue</td><td>5</td><td>6</td></tr>"
        "<tr><td>a | b</td><td>7</td><td></td></tr></table>"
    )


def test_the_caption_in_a_table_is_kept() -> None:
    answer = "<table><caption>Table 3: Revenue</caption><tr><td>a</td><td>1</td></tr></table>"
    assert [(block.kind, block.text) for block in answers.parse(answer, Task.PARSE)] == [
        (Kind.CAPTION, "Table 3: Revenue"),
        (Kind.TABLE, "<table><tr><td>a</td><td>1</td></tr></table>"),
    ]


def test_a_spotted_line_may_hold_brackets_and_nothing_beside_the_places_is_lost() -> None:
    answer = "Total (net)(10,20),(300,40)\nfirst\nsecond (1,50),(300,70)\n(1,80),(2,90) and the rest"
    blocks = answers.parse(answer, Task.SPOTTING)
    assert [block.text for block in blocks] == ["Total (net)", "first second", "and the rest"]
    assert [block.box for block in blocks] == [(10, 20, 300, 40), (1, 50, 300, 70), None]


@pytest.mark.timeout(60)
def test_a_long_answer_without_places_does_not_hold_up_everybody() -> None:
    """Forty thousand characters took half a minute of the service's own thread, and time grew with their square."""
    assert answers.parse("<sup>" * 40_000, Task.SPOTTING)
