"""Deleting a document: everything of it goes, nothing else does, and a crash in between changes neither."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from crash.model import IMAGES, Crash, ModelDisk
from crash.place import place
from crash.simulate import _A, _B
from inkstick.clock import ManualClock, SystemClock
from inkstick.config import DataFolder
from inkstick.errors import Unavailable, UsageError
from inkstick.profile import Originals, Profile
from inkstick.store.claim import Claim, Outcome
from inkstick.store.disk import Disk
from inkstick.store.spool import Spool
from inkstick.store.steps import make_dirs

ERROR = {"code": "damaged", "message": "The file is damaged.", "hint": "Scan it again."}


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


@pytest.fixture
def spool(data: DataFolder) -> Spool:
    return Spool(data, Disk(), SystemClock())


def ended(spool: Spool, name: str, content: bytes, profile: Profile | None = None, *, failed: bool = False) -> Claim:
    """A document that was dropped, read and concluded."""
    make_dirs(spool.disk, (spool.data.inbox / name).parent, at="person")
    spool.disk.write(spool.data.inbox / name, content, at="person")
    claim = spool.claim_file(spool.data.inbox / name, name, profile or Profile())
    if failed:
        spool.conclude(claim.id, Outcome("failed", error=ERROR))
        return claim
    spool.disk.write(spool.staging(claim.id) / "text.md", content, at="stage.write")
    spool.conclude(claim.id, Outcome("done", pages=1))
    return claim


def left(data: DataFolder) -> set[str]:
    return {str(path.relative_to(data.root)) for path in data.root.rglob("*") if path.is_file()}


def test_a_document_goes_with_its_results_its_original_and_its_explanation(data: DataFolder, spool: Spool) -> None:
    done, failed = ended(spool, "a.pdf", b"one"), ended(spool, "b.pdf", b"two", failed=True)
    stays = ended(spool, "c.pdf", b"three")
    for claim in (done, stays):  # as people's corrections lie there
        (data.edits / claim.id / "1").mkdir(parents=True)
        (data.edits / claim.id / "1" / "1.json").write_text("corrected")
    before = left(data)
    forgotten: list[str] = []
    spool.remove(done.id, forgotten.append)
    spool.remove(failed.id, forgotten.append)
    assert forgotten == [done.id, failed.id]
    assert before - left(data) == {
        f"state/edits/{done.id}/1/1.json", "results/a/text.md", "done/a.pdf", "failed/b.pdf", "failed/b.pdf.error.json",
        *(f"state/spool/{claim.id}/{name}" for claim in (done, failed) for name in ("claim.json", "outcome.json")),
    }  # fmt: skip
    assert [claim.id for claim, _ in spool.everything()] == [stays.id]


def test_what_is_still_worked_on_or_would_come_back_is_not_deleted(data: DataFolder, spool: Spool) -> None:
    (data.inbox / "a.pdf").write_bytes(b"one")
    waiting = spool.claim_file(data.inbox / "a.pdf", "a.pdf", Profile())
    with pytest.raises(UsageError, match="still being worked on"):
        spool.remove(waiting.id, lambda _: pytest.fail("it must not be forgotten"))
    kept = ended(spool, "b.pdf", b"two", Profile(originals=Originals.KEEP))
    with pytest.raises(UsageError, match="kept in the inbox"):
        spool.remove(kept.id, lambda _: pytest.fail("it must not be forgotten"))
    (data.inbox / "b.pdf").unlink()
    spool.remove(kept.id, lambda _: None)
    assert [claim.id for claim, _ in spool.everything()] == [waiting.id]


def test_the_results_of_earlier_readings_go_too(data: DataFolder, spool: Spool) -> None:
    claim = ended(spool, "a.pdf", b"half")
    for content in (b"more", b"all"):
        spool.reopen(claim.id)
        spool.disk.write(spool.staging(claim.id) / "text.md", content, at="stage.write")
        spool.conclude(claim.id, Outcome("done", pages=1))
    stays = ended(spool, "b.pdf", b"another")
    assert {path.name for path in data.results.iterdir()} == {"a", "a (2)", "a (3)", "b"}
    (data.results / "a").rename(data.root / "carried away")  # it is still this document's name
    assert spool.outcome(ended(spool, "a.pdf", b"later").id) == Outcome(
        "done", results="a (4)", original="done/a (2).pdf", pages=1
    )
    spool.remove(claim.id, lambda _: None)
    assert {path.name for path in data.results.iterdir()} == {"a (4)", "b"}
    assert not spool.folder(claim.id).exists()
    assert spool.outcome(stays.id)


def test_what_was_copied_from_a_medium_that_only_reads_would_come_back_too(data: DataFolder) -> None:
    class Reading(Disk):
        def step(self, at: str) -> bool:
            if at == "accept.rename" or at == "accept.unlink_source":
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return super().step(at)

    spool = Spool(data, Reading(), SystemClock())
    claim = ended(spool, "a.pdf", b"one")
    assert (data.inbox / "a.pdf").exists()
    with pytest.raises(UsageError, match="kept in the inbox"):
        spool.remove(claim.id, lambda _: pytest.fail("it must not be forgotten"))
    (data.inbox / "a.pdf").write_bytes(b"another document")
    spool.remove(claim.id, lambda _: None)
    assert list(spool.everything()) == []


def test_a_file_that_took_the_originals_place_is_left_alone(data: DataFolder, spool: Spool) -> None:
    claim = ended(spool, "a.pdf", b"one")
    (data.done / "a.pdf").rename(data.root / "carried away")
    (data.done / "a.pdf").write_bytes(b"somebody else's")
    spool.remove(claim.id, lambda _: None)
    assert (data.done / "a.pdf").read_bytes() == b"somebody else's"


def test_what_came_from_a_folder_named_like_a_document_does_not_go_with_it(data: DataFolder, spool: Spool) -> None:
    report, chapter = ended(spool, "2024.pdf", b"report"), ended(spool, "2024/one.pdf", b"chapter")
    spool.remove(report.id, lambda _: None)
    assert not (data.results / "2024").exists()
    outcome = spool.outcome(chapter.id)
    assert outcome and outcome.results == "2024 (2)/one"
    assert (data.results / "2024 (2)/one/text.md").read_bytes() == b"chapter"


@pytest.mark.parametrize("started_again", [False, True])
def test_what_was_carried_away_keeps_its_name_and_takes_nothing_of_another_with_it(
    data: DataFolder, spool: Spool, *, started_again: bool
) -> None:
    """A scanner calls every document scan.pdf, and people carry results away to make room."""
    first = ended(spool, "scan.pdf", b"one")
    (data.results / "scan").rename(data.root / "carried away")
    (data.done / "scan.pdf").rename(data.root / "carried away.pdf")
    spool = Spool(data, Disk(), SystemClock()) if started_again else spool
    second = ended(spool, "scan.pdf", b"two")
    with pytest.raises(UsageError, match="not where it was put"):
        spool.reopen(first.id)
    spool.remove(first.id, lambda _: None)
    outcome = spool.outcome(second.id)
    assert outcome and (outcome.results, outcome.original) == ("scan (2)", "done/scan (2).pdf")
    assert (data.results / "scan (2)/text.md").read_bytes() == (data.done / "scan (2).pdf").read_bytes() == b"two"
    third = ended(spool, "scan.pdf", b"three")  # whose name was deleted with its document is free again
    outcome = spool.outcome(third.id)
    assert outcome and (outcome.results, outcome.original) == ("scan", "done/scan.pdf")


def test_a_retry_takes_what_was_changed_of_its_wishes(data: DataFolder, spool: Spool) -> None:
    claim = ended(spool, "a.pdf", b"one", failed=True)
    spool.amend(claim.id, {**claim.profile, "passwords": ["sesame"]})
    assert spool.reopen(claim.id).profile["passwords"] == ["sesame"]


def test_a_deletion_that_a_start_cannot_finish_does_not_hinder_it(data: DataFolder, spool: Spool) -> None:
    """One because the disk refuses for now, one because what was written down about it is damaged."""

    class Refusing(Disk):
        refuses = True

        def step(self, at: str) -> bool:
            if at == "remove.results" and self.refuses:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            return super().step(at)

    spool = Spool(data, disk := Refusing(), SystemClock())
    busy, torn, waits = ended(spool, "a.pdf", b"one"), ended(spool, "b.pdf", b"two"), ended(spool, "c.pdf", b"three")
    for claim in (busy, torn):
        with pytest.raises(Unavailable, match="busy") as told:
            spool.remove(claim.id, lambda _: None)
        assert "listed no more" in told.value.hint
    (spool.folder(torn.id) / "removing.json").write_bytes(b"\0" * 50)
    again = Spool(data, disk, SystemClock())
    assert again.recover().leftovers == [spool.folder(torn.id)]
    assert [claim.id for claim, _ in again.everything()] == [waits.id]
    disk.refuses = False
    again.finish_removals()
    assert not (data.results / "a").exists()
    assert not again.folder(busy.id).exists()


# Crashes


def _life(crash_at: int, image: str, seed: int, *, failed: bool) -> int:
    """Two documents ended; one is deleted with a crash at a step; recovery. Returns the number of steps without one."""
    chance = random.Random(seed)
    disk, data = ModelDisk(), DataFolder(place("/") / "data")
    disk.add_device(data.root, 2)
    for folder in (data.inbox, data.results, data.done, data.failed, data.state, data.spool):
        disk.make_dir(folder, at="setup")
    disk.sync_all(data.root, at="setup")
    spool = Spool(data, disk, ManualClock(1e9), entropy=chance.randbytes)
    goes, stays = ended(spool, "a.pdf", _A, failed=failed), ended(spool, "b.pdf", _B)
    forgotten: list[str] = []
    disk.steps, disk.crash_at = 0, crash_at
    try:
        spool.remove(goes.id, forgotten.append)
        said = True
    except Crash:
        said = False
        disk = disk.after_crash(chance, image)
    steps = disk.steps
    if crash_at < 0:
        disk = disk.after_crash(chance, "nothing")  # what was said holds even then
    spool = Spool(data, disk, ManualClock(1e9), entropy=chance.randbytes)
    forgotten += spool.removals()
    spool.recover()
    here = {claim.id for claim, _ in spool.everything()}
    assert stays.id in here
    assert disk.read(data.done / "b.pdf") == _B
    assert disk.read(data.results / "b" / "text.md") == _B
    names = [data.results / "a", data.done / "a.pdf", data.failed / "a.pdf", data.failed / "a.pdf.error.json"]
    remains = [path for path in names if disk.exists(path)]
    if goes.id in here:
        assert not said
        assert len(remains) == 2, remains
    else:
        assert remains == [], remains
        assert goes.id in forgotten, "gone without its row in the ledger having been taken out"
        assert disk.list(data.spool) == [stays.id]
    return steps


@pytest.mark.parametrize("failed", [False, True], ids=["done", "failed"])
def test_a_crash_at_any_step_leaves_the_document_whole_or_gone(failed: bool) -> None:
    steps = _life(-1, "", 0, failed=failed)
    assert steps >= 8
    for step in range(steps):
        for image in IMAGES:
            for seed in range(3):
                _life(step, image, seed, failed=failed)
