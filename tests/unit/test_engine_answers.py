"""Answers that a hostile or confused page can provoke, and what becomes of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from inkstick.document import Task
from inkstick.engines import answers
from inkstick.results.tables import grid, parse_table


def kinds(answer: str, task: Task) -> list[tuple[str, str]]:
    return [(block.kind.value, block.text) for block in answers.parse(answer, task)]


LONG = """
import sys
from inkstick.document import Task
from inkstick.engines import answers
kind, n = sys.argv[1], 200_000
texts = {
    "words on one line": "abc d" * (n // 5),
    "formulas without end": " ".join(f"\\\\[{i}" for i in range(n // 6)),
    "tags without end": "<table><td>" + "".join(f"<a {i}" for i in range(n // 4)),
    "a long row and many short ones": "<fcel>" * 10_000 + "<nl>" + "<fcel><nl>" * 10_000,
}
if kind == "a long row and many short ones":
    (block,) = answers.parse_as(texts[kind], Task.TABLE, "otsl")
    assert block.text.count("<tr>") > 5_000, block.text.count("<tr>")
else:
    assert answers.parse(texts[kind], Task.SPOTTING if kind == "words on one line" else Task.PARSE)
"""


@pytest.mark.parametrize(
    "kind", ["words on one line", "formulas without end", "tags without end", "a long row and many short ones"]
)
def test_no_answer_keeps_the_service_busy_for_minutes(kind: str) -> None:
    """A page can make a model write anything, and the service's event loop waits while the answer is understood: one
    that took longer than its watchdog waits would be read again after the restart, and again."""
    subprocess.run([sys.executable, "-c", LONG, kind], check=True, timeout=120)


def test_fences_around_fences_are_taken_off_as_far_as_a_page_needs() -> None:
    assert kinds("```markdown\n```html\n<table><tr><td>1</td></tr></table>\n```\n```", Task.PARSE)[0][0] == "table"
    assert kinds("```md\n" * 5000, Task.PARSE)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("a b(1,2),(3,4)", [("a b", (1, 2, 3, 4))]),
        ("title: x\n(1, 2), (3,4) second(5,6),(7,8)", [("title: x", (1, 2, 3, 4)), ("second", (5, 6, 7, 8))]),
        ("left (out)kept(1,2),(3,4)\n(5,6),(7,8)", [("left (out)kept", (1, 2, 3, 4))]),
    ],
)
def test_words_before_their_places(answer: str, found: list[tuple[str, tuple[int, ...]]]) -> None:
    assert [(block.text, block.box) for block in answers.parse(answer, Task.SPOTTING)] == found


def test_a_sign_in_a_cell_that_begins_no_tag_is_kept() -> None:
    assert kinds("<table><tr><td>a < b &lt; c<d</td></tr></table>", Task.PARSE) == [
        ("table", "<table><tr><td>a &lt; b &lt; c&lt;d</td></tr></table>")
    ]


def test_cells_keep_their_numbers_apart_and_rows_their_place() -> None:
    answer = (
        '<table><tr><td rowspan="2"><p>1</p><p>2</p></td><td rowspan="2">10<sup>3</sup></td></tr><tr></tr>'
        "<tr><td>5</td><td><ul><li>6</li><li>7</li></ul></td></tr><tr></tr></table>"
    )
    (block,) = answers.parse(answer, Task.PARSE)
    assert grid(parse_table(block.text)) == [["1 2", "10³"], ["1 2", "10³"], ["5", "6 7"]]


@pytest.mark.parametrize(
    ("line", "text"), [("## Written in C#", "Written in C#"), ("## Flat 5 ##", "Flat 5"), ("# a", "a")]
)
def test_a_headings_own_sign_is_not_its_markup(line: str, text: str) -> None:
    assert [block.text for block in answers.parse(line, Task.PARSE)] == [text]
