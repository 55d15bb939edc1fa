"""Two readings of one page: what is found, what is left alone, and where the text lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.second_reader import reading_of, tally
from inkstick.document import Block, Box, Flag, Kind, Line, Page, Task, page_from_json, page_json
from inkstick.engines.answers import parse
from inkstick.engines.protocol import Reading
from inkstick.reading.agreement import compare
from inkstick.reading.alignment import align
from inkstick.reading.comparable import HOLE, comparable, weight
from inkstick.reading.opinion import DEFAULT_LIMITS, Opinion, Seen, opinion_of
from inkstick.results.placement import place
from inkstick.results.tables import plain_text
from support import planted

READINGS = Path(__file__).resolve().parents[1] / "resources" / "second-readings.jsonl"
"""The CPU engine's readings of the pages of `support.planted` with those seeds; made by ``bench/second_reader.py
--cache``. From seed 2000 on they are rough copies."""

FIRST = "The harbour office opened in March and closed in the autumn of the same year."
SECOND = "All goods that were received before noon are entered in the northern ledger."
THIRD = "Payment is due within thirty days after the letter of the committee arrives."


def opinions() -> list[tuple[int, Opinion]]:
    entries = [json.loads(line) for line in READINGS.read_text(encoding="utf-8").splitlines()]
    found = [(entry["seed"], opinion_of("rapidocr", reading_of(entry))) for entry in entries]
    return [(seed, opinion) for seed, opinion in found if opinion]


def page(answer: str) -> Page:
    return Page(1, 1654, 2339, "vllm", blocks=parse(answer, Task.PARSE))


def seen(*texts: str, top: int = 200, score: float = 0.99, kind: Kind = Kind.PARAGRAPH) -> tuple[Seen, ...]:
    """Lines one below the other, 30 thousandths apart."""
    return tuple(
        Seen(Line(text, (100, top + 30 * n, 900, top + 30 * n + 20), score), kind) for n, text in enumerate(texts)
    )


def judged(answer: str, *lines: Seen) -> Page:
    return compare(page(answer), Opinion("rapidocr", lines))


# -- what is the same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("**Total** due, 1,240.50", "Total due: 1,240.50"),
        ("价格：１２３４元。", "价格:1234元"),
        ("ﬁle № 7 — Straße", "file No 7 - strasse"),
        ("see [the list](http://x.example/a)", "see the list"),
        ("Café <b>noir</b>&nbsp;", "cafe noir"),
    ],
)
def test_spelling_that_does_not_matter_is_not_compared(one: str, other: str) -> None:
    assert comparable(one).keys == comparable(other).keys


def test_money_is_no_formula_and_formulas_are_left_out() -> None:
    assert "5" in comparable("it costs $5 and then $6").keys
    assert comparable("where $x^2 + 1$ holds").keys == f"where{HOLE}holds"
    assert comparable("a note²").keys == f"anote{HOLE}"


def test_a_chinese_character_weighs_as_much_as_two_letters() -> None:
    assert weight(comparable("港口 office").keys) == 4 + 6


# -- where lines stand


def test_lines_are_found_in_any_order_of_reading() -> None:
    texts = [comparable(text).keys for text in (FIRST, SECOND, THIRD)]
    found = align("".join(texts), [texts[2], texts[0], texts[1]])
    assert [match.start if match else None for match in found] == [len(texts[0] + texts[1]), 0, len(texts[0])]


def test_a_line_written_twice_is_matched_once() -> None:
    line = comparable(FIRST).keys
    found = align(line + line, [line])
    assert sum(match is not None for match in found) == 1


def test_a_word_does_not_take_a_place_out_of_a_line_that_was_read_badly() -> None:
    text = comparable(f"Committee of the harbour. {FIRST}").keys
    lines = [comparable("Commitee of the harbour. " + FIRST[:40]).keys, comparable("committee.").keys]
    found = align(text, lines)
    assert found[0] is not None
    assert found[0].start == 0
    assert found[1] is None


def test_equal_cells_are_told_apart_by_their_neighbours() -> None:
    found = align("wheat12barley12rice12", ["wheat", "12", "barley", "12", "rice", "12"])
    assert [match.start if match else None for match in found] == [0, 5, 7, 13, 15, 19]


def test_a_cell_with_quite_another_number_is_still_paired() -> None:
    found = align("wheat47barley12", ["wheat", "35", "barley", "12"])
    assert found[1] is not None
    assert (found[1].start, found[1].end) == (5, 7)


# -- findings


def test_two_readings_that_agree_say_so() -> None:
    out = judged(f"# {FIRST}\n\n{SECOND} {THIRD}", *seen(FIRST, SECOND, THIRD))
    assert out.flags == ()
    assert out.second is not None
    assert out.second.agreement == 1.0
    assert [block.agreement for block in out.blocks] == [1.0, 1.0]
    assert (out.second.digits, out.second.only_first, out.second.only_second) == ((), (), ())


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("Total due 1,240.50 today", "Total due 1,246.50 today", ("1,240.50", "1,246.50")),
        ("Total due 1240 today", "Total due 12401 today", ("1240", "12401")),
        ("paid on 12 July 1921 in full", "paid on 21 July 1921 in full", ("12", "21")),
        ("金额为三百二十元整，已付", "金额为三百五十元整，已付", ("三百二十", "三百五十")),
        ("合同于1951年7月18日签字", "合同于1951年7月13日签字", ("18", "13")),
        ("Total due 12.50 today", "Total due 1250 today", ("12.50", "1250")),
        ("Total due 1,234.50 today", "Total due 1,23450 today", ("1,234.50", "1,23450")),
        ("Total due 0125 today", "Total due 0,125 today", ("0125", "0,125")),
        ("weight 1.250 tons", "weight 1250 tons", ("1.250", "1250")),
        ("carried forward -1,234.50 today", "carried forward 1,234.50 today", ("-1,234.50", "1,234.50")),
        ("carried forward 1,234.50 today", "carried forward −1,234.50 today", ("1,234.50", "−1,234.50")),
        ("carried forward -$12.50 today", "carried forward $12.50 today", ("-$12.50", "$12.50")),
        ("carried forward 12.50 today", "carried forward 12.50- today", ("12.50", "12.50-")),
        ("余额：-350元，已付", "余额：350元，已付", ("-350", "350")),
    ],
)
def test_a_number_that_differs_is_listed_with_its_place(first: str, second: str, told: tuple[str, str]) -> None:
    out = judged(f"{FIRST}\n\n{first}", *seen(FIRST, second))
    assert Flag.LOW_AGREEMENT in out.flags
    assert out.second is not None
    (pair,) = out.second.digits
    assert (pair.first, pair.second, pair.box) == (*told, (100, 230, 900, 250))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Total due 1,240.50 today", "Total due 1, 240.50 today"),
        ("Room 10 was let to 5 visitors", "Room 1O was let to S visitors"),
        ("on the 1st of May, page 10", "on the lst of May, page 10"),
        ("from 10 to 12 metres", "from 10 to12 metres"),
        ("see note $^{3}$ for the reason", "see note 3 for the reason"),
        ("Total due 1,240 today", "Total due 1240 today"),
        ("Total due 12.50 today", "Total due 12,50 today"),
        ("- 12 visitors stayed", "-12 visitors stayed"),
        ("- 12 visitors stayed", "12 visitors stayed"),
        ("from 1921 - 1925 it stood", "from 1921-1925 it stood"),
        ("from 1921 -1925 it stood", "from 1921-1925 it stood"),
        ("invoice 2024-0087 of May", "invoice 2024 0087 of May"),
        ("in 1921 — the year", "in 1921- the year"),
        ("on 12.03.2024 at noon", "on 12. 03.2024 at noon"),
        ("costs −12.50 or —13.50", "costs -12.50 or －13.50"),
    ],
)
def test_harmless_differences_around_numbers_are_let_pass(first: str, second: str) -> None:
    out = judged(f"{FIRST}\n\n{first}", *seen(FIRST, second))
    assert out.second is not None
    assert out.second.digits == ()
    assert out.flags == ()


def test_an_unsure_second_reader_lists_a_number_but_does_not_accuse() -> None:
    out = judged(f"{FIRST}\n\nTotal due 1240", *seen(FIRST), *seen("Total due 1246", top=230, score=0.6))
    assert out.second is not None
    assert len(out.second.digits) == 1
    assert out.flags == ()


def test_text_that_is_not_printed_is_listed_about_where_it_would_stand() -> None:
    out = judged(f"{FIRST}\n\n{SECOND}\n\n{THIRD}", *seen(FIRST), *seen(THIRD, top=400))
    assert out.second is not None
    (passage,) = out.second.only_first
    assert (passage.text, passage.box) == (SECOND.rstrip("."), (100, 220, 900, 400))
    assert Flag.LOW_AGREEMENT in out.flags


def test_text_on_an_empty_page_is_invented() -> None:
    out = judged(FIRST)
    assert out.second is not None
    assert len(out.second.only_first) == 1
    assert out.second.agreement == 0.0
    assert Flag.LOW_AGREEMENT in out.flags


def test_a_line_left_out_is_listed_with_its_box() -> None:
    out = judged(f"{FIRST} {THIRD}", *seen(FIRST, SECOND, THIRD))
    assert out.second is not None
    assert [(p.text, p.box) for p in out.second.only_second] == [(SECOND, (100, 230, 900, 250))]
    assert Flag.LOW_AGREEMENT in out.flags


def test_running_headers_and_footers_may_be_left_out() -> None:
    edge = (*seen("Annual report of the harbour", top=30), *seen("Page 17", top=960))
    out = judged(FIRST, *edge[:1], *seen(FIRST), *edge[1:])
    assert out.flags == ()
    assert out.second is not None
    assert out.second.not_judged == ("edge",)


def test_what_the_second_reader_cannot_read_is_not_judged() -> None:
    formula = f"{FIRST}\n\n$$\\int_0^1 x^2 dx$$\n\n{THIRD}"
    out = judged(formula, *seen(FIRST), *seen("S x2dx 0.99", top=300), *seen(THIRD, top=400))
    assert out.flags == ()
    assert out.second is not None
    assert out.second.not_judged == ("formula",)
    assert out.blocks[1].agreement is None
    assert out.blocks[1].box == (100, 300, 900, 320)
    russian = "Портовая контора была открыта в марте и закрыта осенью того же года."
    out = judged(f"{FIRST}\n\n{russian}", *seen(FIRST, "NopToBaR KOHTopa 6bIIa OTKpbITa B MapTe"))
    assert out.flags == ()
    assert out.second is not None
    assert out.second.not_judged == ("script",)


def test_handwriting_is_not_judged() -> None:
    out = judged(FIRST, *seen("Th hrbr ofice opnd m Mrch", "4utumn 0f tle 5ame yeor", score=0.6))
    assert out.flags == ()
    assert out.second is not None
    assert (out.second.agreement, out.second.not_judged) == (None, ("unclear",))


def test_a_note_that_only_the_first_reader_can_read_is_not_called_invented() -> None:
    out = judged(
        f"{FIRST}\n\n{SECOND}\n\n{THIRD}",
        *seen(FIRST),
        *seen("Ml gds thl w", top=230, score=0.55),
        *seen(THIRD, top=260),
    )
    assert out.flags == ()
    assert out.second is not None
    assert "unclear" in out.second.not_judged


def test_a_reader_that_tells_no_places_gives_no_opinion() -> None:
    blocks = (Block(1, Kind.PARAGRAPH, FIRST, (0, 0, 1000, 1000)),)
    assert opinion_of("other", Reading(blocks, "m")) is None
    assert opinion_of("other", Reading((), "m")) == Opinion("other", ())


# -- places


def test_the_better_text_lies_where_it_is_printed() -> None:
    out = judged(f"{FIRST} {SECOND}", *seen(FIRST.replace("harbour", "harb0ur"), SECOND.replace("noon", "n0on")))
    assert [(line.text, line.box) for line in place(out)] == [
        (FIRST, (100, 200, 900, 220)),
        (SECOND, (100, 230, 900, 250)),
    ]
    assert out.blocks[0].box == (100, 200, 900, 250)


def test_cells_of_a_table_lie_on_their_cells() -> None:
    boxes: list[Box] = [(100, 100, 200, 120), (300, 100, 350, 120), (100, 150, 200, 170), (300, 150, 350, 170)]
    cells = ("Wheat", "12", "Barley", "12")
    lines = tuple(Seen(Line(text, box, 0.99), Kind.TABLE) for text, box in zip(cells, boxes, strict=True))
    table = "<table><tr><td>Wheat</td><td>12</td></tr><tr><td>Barley</td><td>12</td></tr></table>"
    out = judged(table, *lines)
    assert [(line.text, line.box) for line in out.blocks[0].lines] == list(zip(cells, boxes, strict=True))
    assert out.blocks[0].text == table


def test_no_text_is_lost_or_doubled_by_laying_it_over_lines() -> None:
    for seed, opinion in opinions():
        answers = [planted.answer(planted.printed(seed))]
        answers += [planted.plant(planted.printed(seed), e) for e in ("line_invented", "paragraph_of_another_page")]
        for answer in answers:
            for block in compare(page(answer), opinion).blocks:
                text = plain_text(block.text) if block.kind is Kind.TABLE else block.text
                laid = "".join("".join(line.text.split()) for line in block.lines)
                assert laid == "".join(text.split()) or not block.lines, (seed, block)


def test_an_engine_that_gave_boxes_keeps_them() -> None:
    box: Box = (90, 190, 910, 225)
    own = Page(1, 1654, 2339, "vllm", blocks=(Block(1, Kind.PARAGRAPH, FIRST, box, None, (Line(FIRST, box),)),))
    out = compare(own, Opinion("rapidocr", seen(FIRST)))
    assert (out.blocks[0].box, out.blocks[0].lines) == (box, own.blocks[0].lines)


# -- the record


def test_the_opinion_is_kept_in_the_record() -> None:
    out = judged(f"{FIRST} 12\n\n{SECOND}", *seen(f"{FIRST} 21", THIRD))
    record = json.loads(json.dumps(page_json(out)))
    assert set(record["second"]) == {"engine", "agreement", "digits", "only_first", "only_second", "not_judged"}
    assert page_from_json(record) == out


def test_a_record_without_an_opinion_is_as_before() -> None:
    record = page_json(page(FIRST))
    assert "second" not in record
    assert "agreement" not in record["blocks"][0]
    assert page_from_json(record) == page(FIRST)


# -- the measure, on a few pages (the rest: bench/second_reader.py)


def test_planted_errors_are_found_and_good_pages_left_alone() -> None:
    sums = tally(opinions(), DEFAULT_LIMITS, attempts=1)
    assert sums.pages >= 12
    assert sums.suspected == []
    for error in planted.ERRORS:
        least = 0.85 if error == "line_dropped" else 0.95
        assert sums.found.get(error, 0) >= least * sums.planted[error], (error, sums.missed)
