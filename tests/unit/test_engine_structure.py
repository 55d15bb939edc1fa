"""Reading order, paragraphs, tables and blocks of the CPU engine: pure geometry, no models."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from inkstick.document import Block, Kind
from inkstick.engines.grid import place
from inkstick.engines.layout import Region
from inkstick.engines.ocr_lines import TextLine
from inkstick.engines.order import printed_rows, reading_order
from inkstick.engines.structure import Sheet as Lines
from inkstick.engines.structure import join_rows, parse, spots, tables, text
from inkstick.results.tables import plain_text


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


@pytest.mark.parametrize("regions", ["one", "each", "none"])
def test_columns_of_chinese_that_run_down_the_page_are_read_from_right_to_left(regions: str) -> None:
    words = ["总金额为三千五百元，", "于一九四九年十月", "一日付清。"]
    lines = [line(text, 700 - 60 * n, 100 + 2 * n, 30, 30 * len(text)) for n, text in enumerate(words)][::-1]
    found = {
        "one": [Region("text", (500, 90, 800, 500), (0, 1, 2))],
        "each": [Region("text", line.box, (n,)) for n, line in enumerate(lines)],
        "none": [],
    }[regions]
    blocks = parse(Lines(1000, 1000, lines), found)
    assert "".join(block.text for block in blocks) == "".join(words)
    assert [printed.text for block in blocks for printed in block.lines] == words
    assert [block.text for block in spots(Lines(1000, 1000, lines))] == words
    level = [line("A sign", 100, 100 * n) for n in range(3)]
    assert next(block.text for block in spots(Lines(1000, 1000, [*level, lines[0]]))) == "A sign"


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
    lines = [line("Shelves", 50, 20, width=140), line("Shelves", 50, 100, width=100)]
    lines += [line("shelves in the cellar", 50, 200 + 30 * n, width=205) for n in range(5)]
    regions = [Region("section-header", lines[n].box, (n,)) for n in range(2)]
    blocks = parse(Lines(1000, 1000, lines), regions)
    assert [block.level for block in blocks[:2]] == [1, 2]


def test_markup_in_a_cell_is_text() -> None:
    lines = [line("<b>5 & 6", 50, 100), line("x", 400, 100)]
    (block,) = tables(Lines(1000, 1000, lines), [])
    assert "&lt;b&gt;5 &amp; 6" in block.text
