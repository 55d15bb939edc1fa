"""Lists of many documents: what is shown, in which order, and that no row more than needed is looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from inkstick.errors import UsageError
from inkstick.profile import Profile
from inkstick.store import strips
from inkstick.store.ledger import Ledger
from inkstick.store.listing import Filter

MANY = 100_000
PROFILE = json.dumps(Profile().as_json())


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """100,000 documents: each 1,000th failed, each 5,000th in doubt, a name and a page of text for each 10th."""
    opened = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    with opened._commit() as db:
        db.executemany(
            "INSERT INTO documents (id, name, relpath, task, state, code, flags, pages, priority, received, profile,"
            " reading_key) VALUES (?, ?, ?, 'parse', ?, ?, ?, 1, 10, ?, ?, 'k')",
            (_row(n) for n in range(1, MANY + 1)),
        )
        tenth = range(10, MANY + 1, 10)
        db.executemany("INSERT INTO search (rowid, text) VALUES (?, ?)", ((n << 24, f"scan {n}.pdf") for n in tenth))
        text = "INSERT INTO search (rowid, text) VALUES (?, ?)"
        db.executemany(text, ((n << 24 | 1, f"harbour dues 港务费 {n}") for n in tenth))
    yield opened
    opened.close()


def _row(n: int) -> tuple[object, ...]:
    failed = n % 1000 == 0
    where = f"{n % 150:03d}/cabinet/scan {n}.pdf" if n % 2 else f"scan {n}.pdf"
    state, code = ("failed", "damaged" if n % 2000 else "empty") if failed else ("done", None)
    received = f"2026-{n % 12 + 1:02d}-{n % 28 + 1:02d}T12:00:00+00:00"
    return f"d{n}", f"scan {n}.pdf", where, state, code, "suspect" if n % 5000 == 7 else "", received, PROFILE


def seqs(ledger: Ledger, wanted: Filter, after: int | None = None, limit: int = 5) -> list[int]:
    return [row.seq for row in ledger.list(wanted=wanted, after=after, limit=limit)]


@pytest.mark.parametrize(
    ("wanted", "first"),
    [
        (Filter(), [100000, 99999, 99998, 99997, 99996]),
        (Filter(state="failed"), [100000, 99000, 98000, 97000, 96000]),
        (Filter(flag="suspect"), [95007, 90007, 85007, 80007, 75007]),
        (Filter(folder="003"), [99903, 99753, 99603, 99453, 99303]),
        (Filter(folder="003/cabinet/"), [99903, 99753, 99603, 99453, 99303]),
        (Filter(folder="00"), []),
        (Filter(code="empty"), [100000, 98000, 96000, 94000, 92000]),
        (Filter(since="2026-12-28", until="2026-12-28"), [99959, 99875, 99791, 99707, 99623]),
        (Filter(q="harbour", state="failed"), [100000, 99000, 98000, 97000, 96000]),
        (Filter(q="港务"), [100000, 99990, 99980, 99970, 99960]),
        (Filter(q="scan 4711"), [47110]),
    ],
)
def test_a_list_holds_what_was_asked_for_newest_first(ledger: Ledger, wanted: Filter, first: list[int]) -> None:
    assert seqs(ledger, wanted) == first


@pytest.mark.parametrize("wanted", [Filter(), Filter(state="failed"), Filter(flag="suspect"), Filter(q="harbour")])
def test_the_cursor_goes_on_where_the_last_row_was(ledger: Ledger, wanted: Filter) -> None:
    both = seqs(ledger, wanted, limit=8)
    assert seqs(ledger, wanted, after=both[3], limit=4) == both[4:]


def test_no_list_without_words_reads_the_table_of_documents_from_end_to_end(ledger: Ledger) -> None:
    for wanted in (Filter(), Filter(state="done"), Filter(flag="suspect", folder="003"), Filter(since="2026-01-01")):
        inner, values = wanted.select(None, 50)
        plan = " / ".join(str(row[3]) for row in ledger._query(f"EXPLAIN QUERY PLAN {inner}", values))
        assert "USING" in plan, plan
        assert "TEMP B-TREE" not in plan, plan


def test_folders_and_failures_are_told_without_looking_at_every_document(ledger: Ledger) -> None:
    folders = ledger.folders()
    assert (len(folders), folders[0], folders[-1]) == (75, "001/cabinet", "149/cabinet")
    assert ledger.failures() == {"damaged": 50, "empty": 50}


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="since"):
        Filter(since="yesterday")


# Strips


def test_a_short_document_has_a_segment_for_each_page_and_a_long_one_shows_the_worst() -> None:
    short = strips.strip(4, [(0, 1, 1), (1, 3, 1), (2, 4, 1)])
    assert short.levels == ("read", "warn", "failed", "waiting")
    long = strips.strip(600, [(n, 1, 10) for n in range(60) if n != 7] + [(7, 1, 9), (7, 3, 1)])
    assert [run.length for run in long.runs] == [7, 1, 52]
    assert long.runs[1].level == "warn"
    assert long.counts == {"read": 599, "warn": 1, "waiting": 0}


def test_a_segment_is_read_when_all_its_pages_are() -> None:
    strip = strips.strip(130, [(0, 1, 3), (1, 1, 1), (59, 1, 2)])
    assert (strip.levels[0], strip.levels[1], strip.levels[59]) == ("read", "waiting", "read")
    assert sum(strips._size(n, 130, 60) for n in range(60)) == 130


def test_the_strip_of_5000_pages_is_counted_by_the_ledger(ledger: Ledger) -> None:
    with ledger._commit() as db:
        db.execute("UPDATE documents SET pages = 5000 WHERE seq = 1")
        rows = ((1, n, "failed" if n == 5000 else "done", "suspect" if n == 2500 else "") for n in range(1, 5001))
        db.executemany("INSERT INTO pages VALUES (?, ?, ?, 'e', ?, 0.9, 1.0, 1)", rows)
    found = ledger.strips(["d1", "d2", "nobody"], ("suspect", "truncated"))
    assert list(found) == ["d1", "d2"]
    assert [(run.level, run.start, run.length) for run in found["d1"].runs] == [
        ("read", 0, 29), ("warn", 29, 1), ("read", 30, 29), ("failed", 59, 1),
    ]  # fmt: skip
    assert found["d1"].counts == {"read": 4998, "warn": 1, "failed": 1, "waiting": 0}
    assert found["d2"].levels == ("waiting",)


def test_a_date_may_be_written_in_any_way_that_iso_8601_has() -> None:
    assert {Filter(since=given).since for given in ("2026-11-21", "20261121", "2026-W47-6")} == {"2026-11-21"}
