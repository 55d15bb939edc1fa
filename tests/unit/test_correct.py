"""Changing a page: text, cells, doubts; its lines follow, its marks say what happened."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkstick.correct.change import Settle, Text, apply, reread
from inkstick.correct.difference import difference
from inkstick.correct.doubt import doubts
from inkstick.correct.lines import follow
from inkstick.document import Block, Flag, Kind, Line, NumberPair, Page, Passage, Second
from inkstick.errors import UsageError
from inkstick.results.tables import plain_text

LETTER = "Paid on 3 May: 1,204.50 for exam\u00adple and 1,204.50 again"
LINES = (
    Line("Paid on 3 May: 1,204.50", (100, 100, 900, 120), 0.99),
    Line("for exam-", (100, 130, 500, 150), 0.98),
    Line("ple and 1,204.50 again", (100, 160, 900, 180), 0.97),
)
BLOCK = Block(
    1, Kind.PARAGRAPH, "Paid on 3 May: 1,204.50 for example and 1,204.50 again", (100, 100, 900, 180), 0.98, LINES
)
TABLE = Block(
    2,
    Kind.TABLE,
    "<table><tr><th>Item</th><th>Sum</th></tr><tr><td onclick=x>ink</td><td>12</td></tr></table>",
    (100, 300, 900, 400),
    0.95,
    (Line("Item", (100, 300, 400, 340)), Line("Sum", (500, 300, 900, 340)), Line("ink", (100, 350, 400, 400)),
     Line("12", (500, 350, 900, 400))),
)  # fmt: skip
SECOND = Second(
    "rapidocr",
    0.97,
    digits=(NumberPair("1,204.50", "1,264.50", (600, 160, 800, 180)), NumberPair("12", "72", (500, 350, 900, 400))),
    only_second=(Passage("A stamp 7", (100, 200, 400, 220)),),
)
PAGE = Page(3, 1000, 1400, "vllm", flags=(Flag.LOW_AGREEMENT,), blocks=(BLOCK, TABLE), second=SECOND)


def texts(page: Page) -> list[str]:
    return [block.text for block in page.blocks]


def test_lines_follow_a_changed_text_where_the_letters_stand() -> None:
    new = apply(PAGE, [Text(1, "Paid on 8 May: 1,204.50 for example and 1,264.50, again")])
    assert [line.text for line in new.blocks[0].lines] == [
        "Paid on 8 May: 1,204.50",
        "for exam-",
        "ple and 1,264.50, again",
    ]
    assert [line.score for line in new.blocks[0].lines] == [None, 0.98, None]
    assert [line.box for line in new.blocks[0].lines] == [line.box for line in LINES]
    assert (new.blocks[0].score, new.flags) == (None, (Flag.LOW_AGREEMENT, Flag.EDITED))


@given(st.lists(st.text("ab1 ", max_size=12), min_size=1, max_size=4), st.text("ab1 \n", max_size=40))
def test_any_change_leaves_no_letter_behind(parts: list[str], new: str) -> None:
    lines = [Line(part, (0, n, 10, n + 1)) for n, part in enumerate(parts)]
    followed = follow("\n".join(parts), new, lines)
    assert "".join("".join(line.text for line in followed).split()) == "".join(new.split())


def test_a_doubtful_number_is_corrected_where_it_is_doubted_and_nowhere_else() -> None:
    first, second = doubts(PAGE)[0], doubts(PAGE)[1]
    assert (first.key, first.block, first.first, first.second) == ("digits:0", 1, "1,204.50", "1,264.50")
    assert second.key == "only_second:0"
    new = apply(PAGE, [Settle("digits:0", "1,264.50")])
    assert new.blocks[0].text == "Paid on 3 May: 1,204.50 for example and 1,264.50 again"
    assert new.second is not None and [pair.first for pair in new.second.digits] == ["12"]
    assert Flag.LOW_AGREEMENT in new.flags


def test_a_number_in_a_table_is_corrected_as_text() -> None:
    new = apply(PAGE, [Settle("digits:1", "<b>=72")])
    assert plain_text(new.blocks[1].text) == "Item\tSum\nink\t<b>=72"
    assert [line.text for line in new.blocks[1].lines] == ["Item", "Sum", "ink", "<b>=72"]


def test_when_all_is_settled_the_page_is_no_longer_in_doubt() -> None:
    kept = apply(PAGE, [Settle("digits:0"), Settle("digits:1"), Settle("only_second:0")])
    assert (texts(kept), kept.flags, doubts(kept)) == (texts(PAGE), (), ())
    added = apply(PAGE, [Settle("only_second:0", "A stamp 7"), Settle("digits:0"), Settle("digits:1")])
    assert texts(added) == [BLOCK.text, "A stamp 7", TABLE.text]
    assert (added.blocks[1].order, added.flags) == (3, (Flag.EDITED,))


def test_a_cell_is_changed_and_the_table_made_anew() -> None:
    new = apply(PAGE, [Text(2, "<script>x</script> & 5", row=1, cell=0)])
    assert plain_text(new.blocks[1].text) == "Item\tSum\n<script>x</script> & 5\t12"
    assert "onclick" not in new.blocks[1].text
    assert "<script>" not in new.blocks[1].text
    with pytest.raises(UsageError):
        apply(PAGE, [Text(2, "x", row=7, cell=0)])
    with pytest.raises(UsageError):
        apply(PAGE, [Text(2, "all of it")])


def test_an_empty_text_takes_a_block_out_and_unsure_blocks_are_doubts() -> None:
    unsure = replace(PAGE, blocks=(replace(BLOCK, score=0.5), TABLE), second=None, flags=(Flag.SUSPECT,))
    assert [doubt.key for doubt in doubts(unsure)] == ["block:1", "flag:suspect"]
    assert texts(apply(unsure, [Text(1, " ")])) == [TABLE.text]
    seen = apply(unsure, [Settle("block:1"), Settle("flag:suspect")])
    assert (doubts(seen), seen.flags, texts(seen)) == ((), (), texts(unsure))


def test_what_is_not_there_cannot_be_changed() -> None:
    for change in (Text(9, "x"), Settle("digits:9"), Settle("flag:blank")):
        with pytest.raises(UsageError):
            apply(PAGE, [change])
    unplaced = replace(PAGE, second=replace(SECOND, digits=(NumberPair("", "5", None),)))
    with pytest.raises(UsageError) as error:
        apply(unplaced, [Settle("digits:0", "5")])
    assert error.value.code == "unplaced"


def test_another_reading_keeps_the_page_its_number() -> None:
    new = reread(PAGE, Page(1, 500, 700, "rapidocr", blocks=(Block(1, Kind.PARAGRAPH, "new"),)))
    assert (new.number, new.engine, new.flags) == (3, "rapidocr", (Flag.EDITED,))


def test_a_difference_is_both_texts() -> None:
    old, new = "Total 1,204.50 银行 now", "Total 1,264.50 银河 now!"
    pieces = difference(old, new)
    assert "".join(p.text for p in pieces if p.kind != "new") == old
    assert "".join(p.text for p in pieces if p.kind != "gone") == new
    assert [p.text for p in pieces if p.kind == "gone"] == ["204", "行"]
    assert [p.kind for p in difference("a " * 9000, "b")] == ["gone", "new"]


def test_a_number_in_a_table_is_not_looked_for_in_its_spans() -> None:
    html = '<table><tr><td colspan="2">Sum</td></tr><tr><td>x</td><td>2</td></tr></table>'
    second = Second("rapidocr", 0.9, digits=(NumberPair("2", "3", (600, 600, 700, 700)),))
    page = Page(1, 1000, 1000, "vllm", blocks=(Block(1, Kind.TABLE, html, (0, 0, 1000, 1000)),), second=second)
    assert apply(page, [Settle("digits:0", "3")]).blocks[0].text == html.replace(">2<", ">3<")


def test_several_numbers_settled_at_once_are_each_changed_where_they_stand() -> None:
    text = "5 boxes came, then 5 went, and 15 are left of 5"
    lines = (
        Line("5 boxes came,", (100, 100, 300, 120)), Line("then 5 went,", (100, 130, 300, 150)),
        Line("and 15 are left of 5", (100, 160, 300, 180)),
    )  # fmt: skip
    doubted = Second(
        "rapidocr", 0.9, (NumberPair("5", "6", (100, 100, 300, 120)), NumberPair("5", "9", (100, 130, 300, 150)))
    )
    page = Page(1, 1000, 1400, "vllm", blocks=(Block(1, Kind.PARAGRAPH, text, None, None, lines),), second=doubted)
    for given_order in (("digits:0", "600"), ("digits:1", "900")), (("digits:1", "900"), ("digits:0", "600")):
        new = apply(page, [Settle(key, number) for key, number in given_order])
        assert texts(new) == ["600 boxes came, then 900 went, and 15 are left of 5"]


def test_a_number_is_not_guessed_in_a_text_that_has_changed() -> None:
    page = replace(PAGE, blocks=(replace(BLOCK, text="7 of 7 and 7 more", lines=()),))
    page = replace(page, second=Second("rapidocr", 0.9, (NumberPair("7", "1"),)))
    with pytest.raises(UsageError, match="changed"):
        apply(page, [Text(1, "There were 7 of 7, and 7 more"), Settle("digits:0", "1")])


def test_a_number_with_a_sign_is_not_found_in_a_longer_one() -> None:
    lines = (Line("carried -12.505 forward", (0, 0, 500, 20)), Line("and -12.50 back", (0, 20, 500, 40)))
    text = "carried -12.505 forward and -12.50 back"
    pair = NumberPair("-12.50", "12.50", (0, 0, 500, 20))
    page = replace(PAGE, blocks=(Block(1, Kind.PARAGRAPH, text, (0, 0, 500, 40), lines=lines),), flags=())
    page = replace(page, second=Second("rapidocr", 0.9, digits=(pair,)))
    changed = apply(page, [Settle("digits:0", "12.50")]).blocks[0].text
    assert changed == "carried -12.505 forward and 12.50 back"
