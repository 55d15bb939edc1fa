"""PaddleOCR-VL's own forms of answers: table tokens, places as tokens, chart rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inkstick.document import Kind, Task
from inkstick.engines import answers, otsl
from inkstick.engines.spec import spec_of
from inkstick.models import catalogue

SPEC = spec_of(catalogue.read().manifests["paddleocr-vl-1.6"])


def blocks(answer: str, task: Task) -> list[tuple[Kind, str]]:
    return [(block.kind, block.text) for block in answers.parse_as(answer, task, SPEC.forms.get(task))]


def test_table_tokens_become_rows_and_cells() -> None:
    answer = "<fcel>Item<fcel>Price<nl><fcel>Tea<fcel>2.00<nl><fcel>Gift<ecel><nl>"
    assert blocks(answer, Task.TABLE) == [
        (
            Kind.TABLE,
            "<table><tr><td>Item</td><td>Price</td></tr><tr><td>Tea</td><td>2.00</td></tr>"
            "<tr><td>Gift</td><td></td></tr></table>",
        )
    ]


def test_cells_that_go_on_to_the_right_and_below_are_joined() -> None:
    answer = "<fcel>Wide<lcel><fcel>C<nl><fcel>Big<lcel><fcel>1<nl><ucel><xcel><fcel>2<nl><ucel><xcel><ecel><nl>"
    assert otsl.table(answer) == (
        '<table><tr><td colspan="2">Wide</td><td>C</td></tr>'
        '<tr><td rowspan="3" colspan="2">Big</td><td>1</td></tr>'
        "<tr><td>2</td></tr><tr><td></td></tr></table>"
    )


def test_a_table_that_continues_nothing_keeps_its_text() -> None:
    assert otsl.table("<lcel><fcel>a<nl><fcel>b<nl>") == (
        "<table><tr><td></td><td>a</td></tr><tr><td>b</td><td></td></tr></table>"
    )


def test_text_in_cells_stays_text() -> None:
    assert otsl.table("<fcel><script>alert(1)</script><nl>") == (
        "<table><tr><td>&lt;script&gt;alert(1)&lt;/script&gt;</td></tr></table>"
    )


def test_an_answer_without_table_tokens_is_read_as_it_is() -> None:
    assert blocks("no table here", Task.TABLE) == [(Kind.PARAGRAPH, "no table here")]
    assert blocks("<ecel><nl>", Task.TABLE) == []


@given(st.lists(st.sampled_from(["<fcel>x", "<ecel>", "<lcel>", "<ucel>", "<xcel>", "<nl>", "words "]), max_size=40))
def test_any_order_of_tokens_gives_a_table_with_every_filled_cell_once(parts: list[str]) -> None:
    answer = "".join(parts)
    assert otsl.table(answer).count(">x") == parts.count("<fcel>x")


def places(*values: int) -> str:
    return "".join(f"<|LOC_{value}|>" for value in values)


def test_places_become_boxes_of_thousandths() -> None:
    answer = f"Total 42.00{places(100, 210, 300, 200, 310, 240, 90, 250)}Ink{places(0, 0, 50, 0, 50, 20, 0, 20)}"
    found = answers.parse_as(answer, Task.SPOTTING, SPEC.forms[Task.SPOTTING])
    assert [(block.text, block.box, block.order) for block in found] == [
        ("Total 42.00", (90, 200, 310, 250), 1),
        ("Ink", (0, 0, 50, 20), 2),
    ]
    assert found[0].lines[0].text == "Total 42.00"


def test_places_between_marks_are_understood_as_well() -> None:
    answer = f"<|TEXT_START|>Hello<|TEXT_END|><|LOC_BEGIN|>{places(1, 2, 3, 2, 3, 4, 1, 4)}<|LOC_END|>"
    (block,) = answers.parse_as(answer, Task.SPOTTING, "boxes_loc")
    assert (block.text, block.box) == ("Hello", (1, 2, 3, 4))


def test_words_without_a_whole_place_are_kept_as_a_paragraph() -> None:
    answer = f"First{places(1, 2, 3, 2, 3, 4, 1, 4)}cut off{places(1, 2, 3)}"
    found = answers.parse_as(answer, Task.SPOTTING, "boxes_loc")
    assert [(block.text, block.box) for block in found] == [("First", (1, 2, 3, 4)), ("cut off", None)]


def test_places_are_wanted_in_the_answer_and_others_special_tokens_are_not() -> None:
    assert SPEC.marked == {Task.SPOTTING}


def test_chart_rows_become_a_table_with_a_heading() -> None:
    assert blocks("Year | Sales\n2024 | 12\n2025 | 15", Task.CHART) == [
        (
            Kind.TABLE,
            "<table><tr><th>Year</th><th>Sales</th></tr><tr><td>2024</td><td>12</td></tr>"
            "<tr><td>2025</td><td>15</td></tr></table>",
        )
    ]


def test_a_formula_loses_its_delimiters() -> None:
    assert blocks(r"\[ E = mc^2 \]", Task.FORMULA) == [(Kind.FORMULA, "E = mc^2")]
