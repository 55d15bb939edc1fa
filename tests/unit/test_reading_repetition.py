"""When a model goes round in circles, and what only looks like it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inkstick.reading.repetition import REPEATS, Watch, cleaned, tail_loop, verdict

PROSE = " ".join(f"word{n} and {n * 7919 % 1013}" for n in range(600))


@given(st.text("abcdefg ", min_size=1, max_size=40), st.integers(REPEATS, 30), st.text("hijk", max_size=50))
def test_a_unit_repeated_at_the_end_is_found_with_its_smallest_length(unit: str, count: int, before: str) -> None:
    loop = tail_loop(before + unit * count)
    assert loop is not None
    assert loop.unit <= len(unit)
    tail = (before + unit * count)[loop.start :]
    assert all(tail[i] == tail[i + loop.unit] for i in range(len(tail) - loop.unit))


@given(st.text("abc", max_size=300))
def test_cleaning_never_lengthens_and_keeps_what_does_not_loop(text: str) -> None:
    assert len(cleaned(text)) <= len(text)
    assert text.startswith(cleaned(text))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60))
def test_the_watch_keeps_every_character_however_it_arrives(sizes: list[int]) -> None:
    watch, at = Watch(), 0
    for size in sizes:
        watch.feed(PROSE[at : at + size])
        at += size
    assert watch.text == PROSE[:at]


def test_a_loop_is_caught_long_before_the_answer_ends() -> None:
    watch = Watch()
    endless = PROSE[:1000] + "and so on, " * 3000
    caught = next((n for n in range(0, len(endless), 5) if watch.feed(endless[n : n + 5])), None)
    assert caught is not None
    assert caught < 1000 + 400 + 256 + 200


def test_the_official_rule_stops_a_short_run_in_a_long_answer() -> None:
    assert verdict(PROSE[:4500] + "a loop, " * 9) is not None
    assert verdict(PROSE[:500] + "a loop, " * 9) is None


def test_ordinary_prose_is_no_loop() -> None:
    watch = Watch()
    assert not any(watch.feed(PROSE[n : n + 7]) for n in range(0, len(PROSE), 7))


def test_identical_cells_and_rows_of_a_table_are_legal() -> None:
    row = "<tr>" + "<td>0</td>" * 12 + "</tr>"
    assert verdict(PROSE[:5000] + "<table>" + row * 20) is None
    assert verdict(PROSE[:5000] + "<table><tr>" + "<td></td>" * 60) is None
    assert verdict("| - | - |\n" * 60) is None


def test_a_table_that_never_ends_is_a_loop() -> None:
    assert verdict("<table>" + "<tr><td>0</td><td>0</td></tr>" * 400) is not None


def test_words_that_loop_within_one_cell_are_a_loop() -> None:
    assert verdict("<table><tr><td>" + "total sum " * 60) is not None


def test_leaders_of_a_contents_page_are_legal() -> None:
    assert verdict(PROSE[:4100] + "Chapter 1 " + "." * 300) is None
    assert verdict(PROSE[:4100] + "Name: " + "_" * 500) is None
    assert verdict(PROSE[:4100] + "." * 3000) is not None


def test_cleaning_keeps_one_copy() -> None:
    assert cleaned("begin " + "again and " * 100) == "begin again and"
