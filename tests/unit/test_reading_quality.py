"""Which answers are believed, and how tiles become one page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkstick.document import Block, Flag, Kind, Line
from inkstick.engines.protocol import Reading
from inkstick.pages.view import TextLayer, Word
from inkstick.reading import layer
from inkstick.reading.ladder import Outcome
from inkstick.reading.merge import Piece, mapped, merge, seam
from inkstick.reading.quality import Expectation, balanced, findings, outcome, rectangular
from inkstick.results.tables import plain_text

PROSE = "The harbour master counted forty-one vessels before noon and wrote each name into the ledger. " * 3


def reading(text: str, *flags: Flag, prompt: str | None = None) -> Reading:
    blocks = (Block(1, Kind.PARAGRAPH, text),) if text else ()
    return Reading(blocks, "m", prompt, flags=frozenset(flags), raw=text)


@pytest.mark.parametrize(
    ("answer", "expected", "result"),
    [
        (reading(PROSE), Expectation(), Outcome.GOOD),
        (reading(PROSE, Flag.REPETITION), Expectation(), Outcome.REPETITION),
        (reading(PROSE, Flag.TRUNCATED), Expectation(), Outcome.TRUNCATED),
        (reading("  "), Expectation(), Outcome.EMPTY),
        (reading("(156,68),(783,758)"), Expectation(), Outcome.COORDINATES),
        (reading("提取图中的文字。提取", prompt="提取图中的文字。"), Expectation(), Outcome.ECHO),
        (reading(PROSE), Expectation(characters=2000), Outcome.SUSPECT),
        (reading(PROSE), Expectation(characters=60), Outcome.SUSPECT),
        (reading(PROSE), Expectation(characters=250), Outcome.GOOD),
        (reading(PROSE), Expectation(ink=0.0001), Outcome.SUSPECT),
        (reading("7"), Expectation(ink=0.03), Outcome.SUSPECT),
        (reading("\ue001" * 60), Expectation(), Outcome.SUSPECT),
    ],
)
def test_an_answer_is_judged(answer: Reading, expected: Expectation, result: Outcome) -> None:
    assert outcome(answer, expected) is result


@pytest.mark.parametrize(
    ("table", "good"),
    [
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>", True),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", False),
        ('<table><tr><td colspan="2">a</td></tr><tr><td>c</td><td>d</td></tr></table>', True),
        ('<table><tr><td rowspan="2">a</td><td>b</td></tr><tr><td>c</td></tr></table>', True),
        ('<table><tr><td rowspan="3">a</td><td>b</td></tr><tr><td>c</td></tr></table>', False),
        ('<table><tr><td rowspan="2">a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>', False),
        ("<table></table>", False),
    ],
)
def test_a_table_must_be_rectangular(table: str, good: bool) -> None:
    assert rectangular(table) is good
    assert (Flag.TABLE_BROKEN in findings((Block(1, Kind.TABLE, table),))) is not good


def test_formulas_must_be_closed_but_a_price_is_no_formula() -> None:
    assert balanced("costs $5 and a $$x$$")
    assert not balanced("so $$x + ")
    assert not balanced("so \\[ x")


def paragraphs(*texts: str) -> tuple[Block, ...]:
    return tuple(Block(n, Kind.PARAGRAPH, text) for n, text in enumerate(texts, 1))


HALVES = (0, 0, 1000, 550), (0, 450, 1000, 1000)


@given(st.integers(2, 40), st.integers(0, 39), st.integers(0, 39), st.booleans(), st.booleans())
def test_lines_read_by_both_tiles_stand_once(total: int, a: int, b: int, cut_above: bool, cut_below: bool) -> None:
    lines = [f"line {n * 7919} holds the words {n * 104729} and {n * 15485863}" for n in range(total)]
    start, end = sorted((a % total, b % total))
    upper, lower = lines[: end + 1], lines[start:]
    if cut_above and end + 1 - start >= 2:
        upper = [*upper, "gar"]
    if cut_below and end + 1 - start >= 2:
        lower = ["bled", *lower]
    merged = merge([Piece(HALVES[0], paragraphs("\n".join(upper))), Piece(HALVES[1], paragraphs("\n".join(lower)))])
    assert "\n".join(block.text for block in merged).split("\n") == lines
    assert [block.order for block in merged] == list(range(1, len(merged) + 1))


@given(st.lists(st.text("abc ", min_size=1, max_size=12), max_size=8), st.lists(st.text("xyz", min_size=1), max_size=8))
def test_tiles_with_nothing_in_common_lose_nothing(above: list[str], below: list[str]) -> None:
    assert seam(above, below) == (0, 0, 0)


def test_boxes_are_moved_to_the_page_and_the_same_place_is_read_once() -> None:
    at_seam = Block(1, Kind.PARAGRAPH, "on the seam", (100, 900, 900, 940))
    again = Block(1, Kind.PARAGRAPH, "on the seam", (100, 81, 900, 122))
    below = Block(2, Kind.PARAGRAPH, "below", (100, 500, 900, 540))
    merged = merge([Piece(HALVES[0], (at_seam,)), Piece(HALVES[1], (again, below))])
    assert [block.text for block in merged] == ["on the seam", "below"]
    assert merged[0].box == (100, 495, 900, 517)
    assert mapped(below, HALVES[1]).box == (100, 725, 900, 747)


def test_a_text_layer_becomes_lines_and_paragraphs() -> None:
    rows = [("First line", 100), ("of one paragraph.", 120), ("Another one.", 200)]
    words = []
    for text, y in rows:
        for n, word in enumerate(text.split()):
            words.append(Word(word, (100 + 80 * n, y, 170 + 80 * n, y + 14)))
    words += [Word("漢", (100, 300, 120, 314)), Word("字", (121, 300, 140, 314))]
    blocks = layer.blocks(TextLayer(tuple(words), good=True, born_digital=True))
    assert [block.text for block in blocks] == ["First line\nof one paragraph.", "Another one.", "漢字"]
    assert blocks[0].box == (100, 100, 330, 134)
    assert len(blocks[0].lines) == 2


ROWS = [f"2026-01-{day:02d}  Cash payment received   {100 + day}.00 EUR" for day in range(1, 29)]


@pytest.mark.parametrize(
    ("upper", "lower"),
    [
        (ROWS[:16], ROWS[13:]),
        (ROWS[:16], ROWS[16:]),
        (["checked"] * 20 + ROWS[:1], ROWS[:1] + ["checked"] * 20),
        ([f"{n}  present" for n in range(20)] + ["yes"] * 4, ["yes"] * 24),
    ],
)
def test_rows_that_are_alike_but_for_their_numbers_are_not_one_row(upper: list[str], lower: list[str]) -> None:
    merged = merge([Piece(HALVES[0], paragraphs("\n".join(upper))), Piece(HALVES[1], paragraphs("\n".join(lower)))])
    lines = "\n".join(block.text for block in merged).split("\n")
    assert set(lines) == {*upper, *lower}
    assert all(lines.count(line) >= max(upper.count(line), lower.count(line)) for line in lines)


def test_a_tile_loses_nothing_to_the_one_beside_it() -> None:
    left, right = (0, 0, 530, 1000), (470, 0, 1000, 1000)
    rows = ["checked and found correct"] * 5
    merged = merge([Piece(left, paragraphs("\n".join(rows))), Piece(right, paragraphs("\n".join(rows)))])
    assert "\n".join(block.text for block in merged).split("\n") == rows * 2


def test_a_digit_misread_on_one_tile_still_lets_them_be_joined() -> None:
    upper, lower = ROWS[:16], ROWS[10:]
    lower[2] = lower[2].replace("113.00", "118.00")
    merged = merge([Piece(HALVES[0], paragraphs("\n".join(upper))), Piece(HALVES[1], paragraphs("\n".join(lower)))])
    assert "\n".join(block.text for block in merged).split("\n") == ROWS


def test_words_that_run_from_right_to_left_are_lines_and_paragraphs_too() -> None:
    rows = ["שלום עולם זה מסמך", "הסכום הוא 1204 שקל", "نص عادي هنا"]
    words = []
    for y, row in enumerate(rows):
        for n, word in enumerate(row.split()):
            words.append(Word(word, (800 - 90 * n, 100 + 20 * y, 880 - 90 * n, 114 + 20 * y)))
    found = layer.blocks(TextLayer(tuple(words), good=True, born_digital=True))
    assert [block.text for block in found] == ["\n".join(rows)]


TALL = [f"entry {n:02d} of {1000 + 37 * n}.50" for n in range(24)]


def read_on(tile: tuple[int, int, int, int], kind: Kind) -> Piece:
    """`TALL`, printed 40 thousandths apart, as an engine with places reads it on a tile: cut lines are garbled."""
    lines, high = [], tile[3] - tile[1]
    for n, text in enumerate(TALL):
        top, bottom = 20 + 40 * n, 48 + 40 * n
        if bottom <= tile[1] + 4 or top >= tile[3] - 4:
            continue
        words = text if tile[1] <= top and bottom <= tile[3] else "enlrv"
        y0, y1 = ((min(max(y, tile[1]), tile[3]) - tile[1]) * 1000 // high for y in (top, bottom))
        lines.append(Line(words, (100, y0, 900, y1), 0.9))
    text = "\n".join(line.text for line in lines)
    if kind is Kind.TABLE:
        text = "<table>" + "".join(f"<tr><td>{line.text}</td></tr>" for line in lines) + "</table>"
    return Piece(tile, (Block(1, kind, text, (100, lines[0].box[1], 900, lines[-1].box[3]), 0.9, tuple(lines)),))


@pytest.mark.parametrize("kind", (Kind.LIST, Kind.TABLE, Kind.PARAGRAPH))
@pytest.mark.parametrize("cut", (450, 470, 490, 500))
@pytest.mark.parametrize("over", (30, 60, 95))
def test_lines_with_places_that_two_tiles_read_stand_once(kind: Kind, cut: int, over: int) -> None:
    merged = merge([read_on((0, 0, 1000, cut + over), kind), read_on((0, cut, 1000, 1000), kind)])
    texts = (plain_text(block.text) if kind is Kind.TABLE else block.text for block in merged)
    assert "\n".join(texts).split("\n") == TALL
    assert [line.text for block in merged for line in block.lines] == TALL


def test_what_begins_on_one_tile_and_ends_on_the_one_beside_it_is_kept() -> None:
    start = Block(1, Kind.PARAGRAPH, "To", (950, 100, 1000, 120), lines=(Line("To", (950, 100, 1000, 120)),))
    whole = Block(
        1, Kind.PARAGRAPH, "Total 9.50", (20, 100, 400, 120), lines=(Line("Total 9.50", (20, 100, 400, 120)),)
    )
    merged = merge([Piece((0, 0, 530, 1000), (start,)), Piece((470, 0, 1000, 1000), (whole,))])
    assert [block.text for block in merged] == ["To", "Total 9.50"]
