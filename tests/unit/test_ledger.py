"""The ledger: real SQLite on a real file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from inkstick.clock import ManualClock
from inkstick.config import DataFolder
from inkstick.correct.doubt import LOW, SETTLED, is_doubtful
from inkstick.document import Block, Flag, Header, Kind, Page, record_chunks
from inkstick.errors import Unavailable, UsageError
from inkstick.profile import Priority, Profile
from inkstick.store import ledger as ledger_module
from inkstick.store.claim import Claim, Ids, Outcome
from inkstick.store.disk import Disk
from inkstick.store.ledger import Ledger, check_version
from inkstick.store.spool import Spool

ERROR = {"code": "damaged", "message": "The file is damaged.", "hint": "Scan it again."}


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


@pytest.fixture
def ledger(data: DataFolder) -> Iterator[Ledger]:
    opened = Ledger(data.ledger)
    yield opened
    opened.close()


def claim(identifier: str, name: str = "a.pdf", sha256: str | None = None, profile: Profile | None = None) -> Claim:
    wishes = (profile or Profile()).as_json()
    return Claim(identifier, name, name, "", "inbox", "rename", wishes, "2026-01-01T00:00:00+00:00", sha256=sha256)


def page(number: int, text: str = "", *flags: Flag) -> Page:
    blocks = (Block(1, Kind.PARAGRAPH, text),) if text else ()
    return Page(number, 100, 200, "fake", flags=flags, score=0.9, seconds=1.5, blocks=blocks)


def test_of_many_pages_only_those_that_are_asked_for_are_looked_at(ledger: Ledger) -> None:
    ledger.accept([claim("d1"), claim("d2")])
    ledger.pages_done("d1", [page(n, "", *([Flag.SUSPECT, Flag.BLANK] if n in (3, 8) else [])) for n in range(1, 10)])
    ledger.pages_done("d1", [replace(page(5), score=0.5), replace(page(6, "", Flag.BLANK), score=None)])
    ledger.pages_done("d2", [page(4, "", Flag.SUSPECT)])
    assert [row.number for row in ledger.pages("d1", 4, 2)] == [5, 6]
    there = [ledger.noted("d1", n, ("suspect", "truncated"), 0.8) for n in (0, 3, 5, 8)]
    back = [ledger.noted("d1", n, ("suspect",), 0.8, back=True) for n in (10, 8, 5, 3)]
    assert (there, back) == ([3, 5, 8, None], [8, 5, 3, None])
    rows = ledger.pages("d1")
    doubtful = [row.number for row in rows if is_doubtful(row.flags, row.score)]
    assert doubtful == [n for n in range(1, 10) if ledger.noted("d1", n - 1, SETTLED, LOW) == n]


def test_a_document_goes_through_its_states(ledger: Ledger) -> None:
    ledger.accept([claim("d1", "report.pdf")])
    row = ledger.get("d1")
    assert row is not None
    assert (row.state, row.task, row.priority, row.seq) == ("queued", "parse", Priority.WATCHED, 1)
    ledger.set_state("d1", "reading")
    ledger.set_pages("d1", 2, "application/pdf")
    ledger.page_done("d1", page(1, "hello", Flag.ROTATED))
    ledger.page_done("d1", replace(page(2), error=ERROR))
    ledger.concluded("d1", Outcome("partial", "report", "done/report.pdf", ERROR, pages=2, sha256="ab"))
    row = ledger.get("d1")
    assert row is not None
    assert (row.state, row.pages, row.pages_done, row.flags) == ("partial", 2, 2, ("rotated",))
    assert (row.results, row.original, row.code, row.sha256) == ("report", "done/report.pdf", "damaged", "ab")
    assert [(p.number, p.state, p.flags) for p in ledger.pages("d1")] == [(1, "done", ("rotated",)), (2, "failed", ())]
    assert ledger.counts() == {"queued": 0, "reading": 0, "done": 0, "partial": 1, "failed": 0, "blocked": 0}


def test_accepting_twice_is_accepting_once(ledger: Ledger) -> None:
    ledger.accept([claim("d1")])
    ledger.set_state("d1", "reading")
    ledger.accept([claim("d1"), claim("d2")])
    assert [(row.id, row.state) for row in ledger.list()] == [("d2", "queued"), ("d1", "reading")]


def test_search_finds_text_and_names_in_every_script_and_length(ledger: Ledger) -> None:
    ledger.accept([claim("d1", "Rechnung Nr 7.pdf"), claim("d2", "b.pdf")])
    ledger.page_done("d1", page(3, "the total amount is 1,234.50 EUR, 100% paid"))
    ledger.page_done("d2", page(1, "中华人民共和国 使用价值"))
    assert [(hit.document, hit.page) for hit in ledger.search("TOTAL amount")] == [("d1", 3)]
    assert "\u2068total amount\u2069" in ledger.search("total amount")[0].snippet
    assert [(hit.document, hit.page) for hit in ledger.search("rechnung")] == [("d1", 0)]
    assert [(hit.document, hit.snippet) for hit in ledger.search("价值")] == [
        ("d2", "中华人民共和国 使用\u2068价值\u2069")
    ]
    assert [hit.document for hit in ledger.search("使用价值")] == ["d2"]
    assert [hit.page for hit in ledger.search("0%")] == [3]
    assert ledger.search("_x") == []
    assert ledger.search('" OR text:"') == []
    assert ledger.search("  ") == []
    assert [row.id for row in ledger.list(q="total")] == ["d1"]


def test_a_page_read_again_replaces_its_text(ledger: Ledger) -> None:
    ledger.accept([claim("d1")])
    ledger.page_done("d1", page(1, "first reading"))
    ledger.page_done("d1", page(1, "second reading"))
    assert ledger.search("first") == []
    assert len(ledger.search("second")) == 1
    ledger.reopened("d1")
    assert ledger.search("second") == []
    assert ledger.pages("d1") == []
    row = ledger.get("d1")
    assert row is not None
    assert (row.state, row.attempts, row.pages_done) == ("queued", 1, 0)


def test_events_tell_every_change_once_and_can_be_followed(ledger: Ledger) -> None:
    ledger.accept([claim("d1")])
    first = ledger.last_event()
    ledger.set_state("d1", "blocked", "engine_down", "The engine does not answer.", "Wait.")
    ledger.event("engine", None, {"state": "down"})
    events = ledger.events(after=first)
    assert [(event.kind, event.document) for event in events] == [("document", "d1"), ("engine", None)]
    assert (events[0].data["state"], events[0].data["code"]) == ("blocked", "engine_down")
    assert ledger.events(after=events[-1].id) == []
    assert ledger.last_event() == events[-1].id


def test_old_events_are_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "EVENTS_KEPT", 300)
    for _ in range(1100):
        ledger.event("tick", None, {})
    kept = ledger.events(limit=10_000)
    assert 300 <= len(kept) <= 556
    assert kept[-1].id == 1100


def test_the_same_bytes_with_the_same_wishes_are_found(ledger: Ledger) -> None:
    profile = Profile()
    ledger.accept([claim("d1", sha256="aa"), claim("d2", sha256="aa")])
    assert ledger.find_done("aa", profile.reading_key()) is None
    ledger.concluded("d2", Outcome("done", "a", "done/a.pdf", pages=1))
    found = ledger.find_done("aa", profile.reading_key())
    assert found is not None
    assert found.id == "d2"
    assert ledger.find_done("aa", "other") is None


def test_the_list_is_paged_by_key(ledger: Ledger) -> None:
    ledger.accept([claim(f"d{number:03}") for number in range(250)])
    seen: list[str] = []
    after = None
    while rows := ledger.list(state="queued", after=after, limit=100):
        seen += [row.id for row in rows]
        after = rows[-1].seq
    assert seen == [f"d{number:03}" for number in reversed(range(250))]


def test_what_waits_comes_by_priority_and_arrival(ledger: Ledger) -> None:
    bulk, person = Profile(priority=Priority.BULK), Profile(priority=Priority.PERSON)
    ledger.accept([claim("d1", profile=bulk), claim("d2"), claim("d3", profile=person), claim("d4", profile=person)])
    ledger.concluded("d4", Outcome("done"))
    assert [row.id for row in ledger.waiting()] == ["d3", "d2", "d1"]


def test_a_second_process_is_kept_out(data: DataFolder, ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="Another Inkstick"):
        Ledger(data.ledger)


def test_an_old_sqlite_is_refused() -> None:
    with pytest.raises(UsageError, match=r"3\.46\.1"):
        check_version("3.46.1")
    check_version("3.51.3")


@pytest.mark.parametrize("damage", ["zeroed", "text", "truncated", "gone"])
def test_a_damaged_ledger_is_set_aside_and_made_again_from_the_folders(data: DataFolder, damage: str) -> None:
    spool = Spool(data, Disk(), ManualClock(1e9))
    ledger = Ledger(data.ledger)
    for name, wish in (("a.pdf", None), ("b.pdf", "done"), ("c.pdf", "failed")):
        (data.inbox / name).write_bytes(name.encode())
        accepted = spool.claim_file(data.inbox / name, name, Profile())
        ledger.accept([accepted])
        if wish == "done":
            header = Header(name, "ab", 5, "application/pdf")
            record = "".join(record_chunks(header, [page(1, "some words"), page(2, "more of them", Flag.ROTATED)]))
            (spool.staging(accepted.id) / "b.json").write_text(record)
        if wish:
            outcome = spool.conclude(accepted.id, Outcome(wish, error=ERROR if wish == "failed" else None, pages=2))
            ledger.concluded(accepted.id, outcome)
    states = {row.id: (row.state, row.results, row.original) for row in ledger.list()}
    ledger.close()
    size = data.ledger.stat().st_size
    spoiled = {"zeroed": bytes(size), "text": b"not a database" * 500, "truncated": data.ledger.read_bytes()[:5000]}
    if damage == "gone":
        data.ledger.unlink()
    else:
        data.ledger.write_bytes(spoiled[damage])
    again = Ledger(data.ledger)
    rebuilt = again.rebuild(spool)
    assert {row.id: (row.state, row.results, row.original) for row in again.list()} == states
    assert again.check() == []
    assert rebuilt.added == 3
    assert [hit.page for hit in again.search("more of")] == [2]
    assert (again.set_aside is not None) == (damage != "gone")
    again.close()


def test_damage_anywhere_in_the_ledger_hinders_one_start_at_most(data: DataFolder) -> None:
    """The head of the file is good: an opening notices nothing."""

    def start() -> tuple[int, bool]:
        again = Ledger(data.ledger)
        try:
            again.rebuild(spool)
            return len(again.waiting()), again.set_aside is not None
        finally:
            again.close()

    spool = Spool(data, Disk(), ManualClock(1e9))
    ledger = Ledger(data.ledger)
    for number in range(60):
        (data.inbox / f"{number}.pdf").write_bytes(b"%d" % number)
        ledger.accept([spool.claim_file(data.inbox / f"{number}.pdf", f"{number}.pdf", Profile())])
    ledger.close()
    good, set_aside = data.ledger.read_bytes(), 0
    for place in range(4096, len(good), 4096):
        data.ledger.write_bytes(good[:place] + b"\xff" * 4096 + good[place + 4096 :])
        try:
            waiting, aside = start()
        except Unavailable:
            waiting, aside = start()
            assert aside
        assert waiting == 60
        set_aside += aside
    assert set_aside > 5


@pytest.mark.parametrize("error", [apsw.CorruptError("malformed"), apsw.exceptionfor(apsw.SQLITE_IOERR_READ)])
def test_damage_that_is_found_while_it_is_used_is_gone_with_the_next_start(
    data: DataFolder, error: apsw.Error, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the sentence says that people read."""
    ledger = Ledger(data.ledger)
    ledger.accept([claim("d1")])

    def damaged(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "_seq", damaged)
        with pytest.raises(Unavailable, match="damaged"):
            ledger.page_done("d1", page(1))
    ledger.close()
    again = Ledger(data.ledger)
    assert again.set_aside is not None
    assert again.ids() == []
    again.close()
    once_more = Ledger(data.ledger)
    assert once_more.set_aside is None
    once_more.close()


@pytest.mark.parametrize(
    "content",
    [
        b'{"inkstick": 1,\n "pages": [\n  \xff\xfe\n',
        b'{"number": "one", "width": 1, "height": 1, "engine": null, "model": null, "prompt": null, "seconds": 0,'
        b' "attempts": 1, "flags": [], "score": null, "blocks": []}',
        b"[" * 100_000,
        None,
    ],
    ids=["no text", "no number", "nested", "no file"],
)
def test_a_record_that_cannot_be_read_does_not_hinder_the_start(data: DataFolder, content: bytes | None) -> None:
    """The disk that damaged the ledger may have damaged a result too; and people may write where results lie."""
    spool = Spool(data, Disk(), ManualClock(1e9))
    for name in ("a.pdf", "b.pdf"):
        (data.inbox / name).write_bytes(name.encode())
        accepted = spool.claim_file(data.inbox / name, name, Profile())
        header = Header(name, "ab", 5, "application/pdf")
        record = spool.staging(accepted.id) / f"{name[0]}.json"
        record.write_text("".join(record_chunks(header, [page(1, "some words")])))
        spool.conclude(accepted.id, Outcome("done", pages=1))
    (data.results / "a/a.json").unlink()
    if content is None:
        (data.results / "a/a.json").mkdir()
    else:
        (data.results / "a/a.json").write_bytes(content)
    (data.results / "b/notes.json").write_bytes("{somebody's own}".encode("utf-16"))
    ledger = Ledger(data.ledger)
    assert ledger.rebuild(spool).added == 2
    assert [hit.name for hit in ledger.search("some words")] == ["b.pdf"]
    assert [len(ledger.pages(row.id)) for row in ledger.list()] == [1, 0]
    ledger.close()


def test_rebuilding_heals_states_and_reports_orphans(data: DataFolder, ledger: Ledger) -> None:
    spool = Spool(data, Disk(), ManualClock(1e9))
    (data.inbox / "a.pdf").write_bytes(b"x")
    accepted = spool.claim_file(data.inbox / "a.pdf", "a.pdf", Profile())
    ledger.accept([accepted, claim("0" * 26)])
    ledger.set_state(accepted.id, "reading")
    spool.conclude(accepted.id, Outcome("failed", error=ERROR))
    rebuilt = ledger.rebuild(spool)
    row = ledger.get(accepted.id)
    assert row is not None
    assert (row.state, row.code, row.original) == ("failed", "damaged", "failed/a.pdf")
    assert (rebuilt.added, rebuilt.healed, rebuilt.orphans) == (0, 1, ["0" * 26])
    assert ledger.rebuild(spool).healed == 0


def test_thirty_thousand_documents_stay_quick(ledger: Ledger) -> None:
    ids = Ids(lambda count: bytes(count))
    claims = [claim(ids.next(1e9 + number), f"scan {number:06}.pdf") for number in range(30_000)]
    started = time.process_time()
    ledger.accept(claims)
    accepted = time.process_time() - started
    started = time.process_time()
    assert len(ledger.list(limit=100)) == 100
    assert len(ledger.list(state="queued", after=15_000, limit=100)) == 100
    assert [hit.name for hit in ledger.search("scan 017777")] == ["scan 017777.pdf"]
    assert ledger.counts()["queued"] == 30_000
    asked = time.process_time() - started
    assert accepted < 15
    assert asked < 1


def test_a_place_in_the_list_that_no_list_has_is_no_error(ledger: Ledger) -> None:
    ledger.accept([claim("d1", "report.pdf")])
    assert [row.seq for row in ledger.list(q="report", after=22360257140064995)] == [1]
    assert ledger.list(q="report", after=0) == []


def test_a_search_for_what_no_text_can_hold_finds_nothing(ledger: Ledger) -> None:
    ledger.accept([claim("d1", "abc.pdf")])
    assert ledger.search("abc\0d") == []
    assert ledger.list(q="abc\0d") == []


def test_a_retry_that_a_crash_cut_off_shows_nothing_of_the_end_before_it(data: DataFolder, ledger: Ledger) -> None:
    spool = Spool(data, Disk(), ManualClock(1e9))
    upload = spool.begin_upload("a.pdf", "a.pdf", Profile())
    upload.write(b"%PDF-1.7")
    accepted = upload.commit()
    ledger.accept([accepted])
    ledger.concluded(accepted.id, spool.conclude(accepted.id, Outcome("failed", error=ERROR)))
    spool.reopen(accepted.id)  # and then the power went, before the ledger was told
    ledger.rebuild(spool)
    row = ledger.get(accepted.id)
    assert row is not None
    assert (row.state, row.code, row.message, row.hint, row.results, row.original) == ("queued", *[None] * 5)
