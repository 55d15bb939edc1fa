"""The spool on a real file system: what each call leaves behind. Crashes are in tests/crash."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from inkstick.clock import ManualClock
from inkstick.config import DataFolder
from inkstick.document import Page
from inkstick.errors import DiskFull, Unavailable, Unsupported, UsageError
from inkstick.profile import Originals, Profile
from inkstick.store import growing
from inkstick.store.claim import Ids, Outcome
from inkstick.store.disk import Disk
from inkstick.store.ledger import Ledger
from inkstick.store.shelf import SourceChanged
from inkstick.store.spool import Spool

DONE = Outcome("done", pages=1)
ERROR = {"code": "damaged", "message": "The file is damaged.", "hint": "Scan it again."}
FAILED = Outcome("failed", error=ERROR, attempts=2)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


@pytest.fixture
def spool(data: DataFolder) -> Spool:
    return Spool(data, Disk(), ManualClock(1e9))


def drop(data: DataFolder, relpath: str, content: bytes = b"%PDF-1.7 hello") -> Path:
    path = data.inbox / relpath
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def stage(spool: Spool, identifier: str, text: str = "hello") -> None:
    staging = spool.staging(identifier)
    (staging / "a.md").write_text(text)
    (staging / "tables").mkdir()
    (staging / "tables" / "1.csv").write_text("1,2")


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_dropped_file_ends_in_done_with_its_results(data: DataFolder, spool: Spool) -> None:
    claim = spool.claim_file(drop(data, "box 7/a.pdf"), "box 7/a.pdf", Profile())
    assert files(data.inbox) == {}
    assert [found.id for found in spool.claims()] == [claim.id]
    stage(spool, claim.id)
    outcome = spool.conclude(claim.id, DONE)
    assert (outcome.results, outcome.original) == ("box 7/a", "done/box 7/a.pdf")
    assert files(data.done) == {"box 7/a.pdf": b"%PDF-1.7 hello"}
    assert files(data.results) == {"box 7/a/a.md": b"hello", "box 7/a/tables/1.csv": b"1,2"}
    assert sorted(os.listdir(spool.folder(claim.id))) == ["claim.json", "outcome.json"]
    assert list(spool.claims()) == []


def test_conclude_twice_is_conclude_once(data: DataFolder, spool: Spool) -> None:
    claim = spool.claim_file(drop(data, "a.pdf"), "a.pdf", Profile())
    stage(spool, claim.id)
    first = spool.conclude(claim.id, DONE)
    before = files(data.root)
    assert spool.conclude(claim.id, FAILED) == first
    assert files(data.root) == before


def test_a_failed_document_lies_beside_its_explanation(data: DataFolder, spool: Spool) -> None:
    claim = spool.claim_file(drop(data, "x/a.pdf"), "x/a.pdf", Profile())
    outcome = spool.conclude(claim.id, FAILED)
    assert outcome.original == "failed/x/a.pdf"
    explanation = json.loads((data.failed / "x/a.pdf.error.json").read_text())
    assert {key: explanation[key] for key in ("code", "message", "hint", "pages", "attempts")} == {
        **ERROR,
        "pages": [],
        "attempts": 2,
    }
    assert (data.failed / "x/a.pdf").read_bytes() == b"%PDF-1.7 hello"


@pytest.mark.parametrize("wish", [DONE, FAILED], ids=["done", "failed"])
def test_the_same_name_again_is_numbered_and_nothing_is_overwritten(
    data: DataFolder, spool: Spool, wish: Outcome
) -> None:
    for content in (b"one", b"two", b"three"):
        claim = spool.claim_file(drop(data, "a.pdf", content), "a.pdf", Profile())
        if wish is DONE:
            stage(spool, claim.id, content.decode())
        spool.conclude(claim.id, wish)
    where = data.done if wish is DONE else data.failed
    originals = {name: content for name, content in files(where).items() if name.endswith(".pdf")}
    assert originals == {"a.pdf": b"one", "a (2).pdf": b"two", "a (3).pdf": b"three"}
    if wish is DONE:
        results = {name: content for name, content in files(data.results).items() if name.endswith(".md")}
        assert results == {"a/a.md": b"one", "a (2)/a.md": b"two", "a (3)/a.md": b"three"}
    else:
        assert {"a.pdf.error.json", "a (2).pdf.error.json", "a (3).pdf.error.json"} <= set(files(data.failed))


def test_a_folder_named_like_an_earlier_file_gets_a_number(data: DataFolder, spool: Spool) -> None:
    spool.conclude(spool.claim_file(drop(data, "a"), "a", Profile()).id, FAILED)
    outcome = spool.conclude(spool.claim_file(drop(data, "a/b.pdf"), "a/b.pdf", Profile()).id, FAILED)
    assert outcome.original == "failed/a (2)/b.pdf"


@pytest.mark.parametrize("raw", ["ä" * 127, "x" * 251 + ".pdf", "名" * 85, "\udcff\udcfe.pdf"])
def test_names_of_every_length_and_bytes_of_no_encoding_get_through(data: DataFolder, spool: Spool, raw: str) -> None:
    for _ in range(2):
        claim = spool.claim_file(drop(data, raw), raw, Profile())
        claim.relpath.encode()  # is text now
        outcome = spool.conclude(claim.id, FAILED)
        assert outcome.original is not None
        assert (data.root / outcome.original).read_bytes() == b"%PDF-1.7 hello"


def test_kept_originals_stay_and_are_remembered(data: DataFolder, spool: Spool) -> None:
    path = drop(data, "a.pdf")
    claim = spool.claim_file(path, "a.pdf", Profile(originals=Originals.KEEP))
    stage(spool, claim.id)
    assert spool.conclude(claim.id, DONE).original is None
    assert path.read_bytes() == b"%PDF-1.7 hello"
    assert files(data.done) == {}
    identity = Disk().stat(path).identity
    for any_spool in (spool, Spool(data, Disk(), ManualClock())):
        assert identity in any_spool.kept()
    path.write_bytes(b"changed")
    assert Disk().stat(path).identity not in spool.kept()


def test_whoever_retries_what_stays_in_the_inbox_is_told_how(data: DataFolder, spool: Spool) -> None:
    path = drop(data, "a.pdf")
    claim = spool.claim_file(path, "a.pdf", Profile(originals=Originals.KEEP))
    spool.conclude(claim.id, FAILED)
    with pytest.raises(UsageError, match="stays in the inbox") as told:
        spool.reopen(claim.id)
    assert (told.value.code, told.value.hint[:30]) == ("not_ready", "Take it out of the inbox and p")
    path.rename(data.root / "out")
    (data.root / "out").rename(path)
    assert Disk().stat(path).identity not in spool.kept()


def test_deleting_originals_waits_for_a_whole_reading(data: DataFolder, spool: Spool) -> None:
    wishes = {"done.pdf": DONE, "partial.pdf": Outcome("partial", pages=2), "failed.pdf": FAILED}
    for name, wish in wishes.items():
        claim = spool.claim_file(drop(data, name), name, Profile(originals=Originals.DELETE))
        if wish is not FAILED:
            stage(spool, claim.id)
        spool.conclude(claim.id, wish)
    assert files(data.done) == {"partial.pdf": b"%PDF-1.7 hello"}
    assert set(files(data.failed)) == {"failed.pdf", "failed.pdf.error.json"}


def test_an_upload_is_hashed_and_accepted(data: DataFolder, spool: Spool) -> None:
    upload = spool.begin_upload("Écrit.pdf", "Écrit.pdf", Profile())
    for chunk in (b"one ", b"two"):
        upload.write(chunk)
    assert list(spool.claims()) == []
    claim = upload.commit(hashlib.sha256(b"one two").hexdigest())
    assert (claim.sha256, claim.size) == (hashlib.sha256(b"one two").hexdigest(), 7)
    assert spool.original(claim.id).read_bytes() == b"one two"
    assert [found.name for found in spool.claims()] == ["Écrit.pdf"]


def test_an_upload_that_arrives_damaged_or_is_given_up_leaves_nothing(data: DataFolder, spool: Spool) -> None:
    upload = spool.begin_upload("a.pdf", "a.pdf", Profile())
    upload.write(b"x")
    with pytest.raises(UsageError) as caught:
        upload.commit("0" * 64)
    assert caught.value.code == "checksum"
    given_up = spool.begin_upload("a.pdf", "a.pdf", Profile())
    given_up.write(b"x")
    given_up.abort()
    assert os.listdir(data.spool) == []


def test_links_pipes_and_paths_that_leave_are_refused(data: DataFolder, spool: Spool, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (data.inbox / "link.pdf").symlink_to(secret)
    (data.inbox / "folder").symlink_to(tmp_path)
    os.mkfifo(data.inbox / "pipe.pdf")
    for name in ("link.pdf", "pipe.pdf"):
        with pytest.raises(Unsupported):
            spool.claim_file(data.inbox / name, name, Profile())
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        spool.claim_file(data.inbox / "folder/secret", "folder/secret", Profile())
    with pytest.raises(UsageError):
        spool.claim_file(data.inbox / "../../secret", "../../secret", Profile())
    assert secret.read_bytes() == b"secret"
    assert os.listdir(data.spool) == []


def test_a_hard_linked_file_is_copied_so_that_nobody_writes_into_the_spool(
    data: DataFolder, spool: Spool, tmp_path: Path
) -> None:
    path = drop(data, "a.pdf")
    os.link(path, tmp_path / "other name")
    claim = spool.claim_file(path, "a.pdf", Profile())
    assert not path.exists()
    (tmp_path / "other name").write_bytes(b"changed")
    assert spool.original(claim.id).read_bytes() == b"%PDF-1.7 hello"


def test_below_the_reserve_nothing_moves(data: DataFolder) -> None:
    spool = Spool(data, Disk(), ManualClock(), reserve_bytes=1 << 62)
    path = drop(data, "a.pdf")
    with pytest.raises(DiskFull):
        spool.claim_file(path, "a.pdf", Profile())
    with pytest.raises(DiskFull):
        spool.begin_upload("a.pdf", "a.pdf", Profile())
    assert path.exists()
    assert os.listdir(data.spool) == []


def test_a_retried_document_ends_once_more(data: DataFolder, spool: Spool) -> None:
    claim = spool.claim_file(drop(data, "a.pdf"), "a.pdf", Profile())
    spool.conclude(claim.id, FAILED)
    spool.reopen(claim.id)
    assert files(data.failed) == {}
    assert [found.id for found in spool.claims()] == [claim.id]
    stage(spool, claim.id)
    assert spool.conclude(claim.id, DONE).original == "done/a.pdf"


def test_a_document_whose_original_is_gone_cannot_be_retried(data: DataFolder, spool: Spool) -> None:
    claim = spool.claim_file(drop(data, "a.pdf"), "a.pdf", Profile())
    spool.conclude(claim.id, FAILED)
    (data.failed / "a.pdf").unlink()
    with pytest.raises(UsageError) as caught:
        spool.reopen(claim.id)
    assert caught.value.code == "not_ready"


def test_pages_are_kept_by_work_and_number(spool: Spool) -> None:
    for number in (10, 2, 1):
        spool.checkpoint("w", Page(number, 100, 200, "fake"))
    assert [page.number for page in spool.checkpoints("w")] == [1, 2, 10]
    assert spool.has_checkpoint("w", 2)
    assert not spool.has_checkpoint("w", 3)
    assert spool.checkpoint_numbers("other") == frozenset()
    spool.drop_checkpoints("w")
    assert list(spool.checkpoints("w")) == []


def test_recovery_leaves_alone_what_nobody_can_explain(data: DataFolder, spool: Spool) -> None:
    strange = data.spool / "strange"
    strange.mkdir()
    (strange / "original").write_bytes(b"whose?")
    found = spool.recover()
    assert found.leftovers == [strange]
    assert (strange / "original").read_bytes() == b"whose?"


@pytest.mark.parametrize("name", ["claim.json", "outcome.json"])
def test_one_folder_that_nobody_can_read_holds_up_no_other_document(data: DataFolder, spool: Spool, name: str) -> None:
    (data.spool / "a file that a repair of the disk left here").write_bytes(b"whose?")
    torn, good = (spool.claim_file(drop(data, relpath), relpath, Profile()) for relpath in ("torn.pdf", "good.pdf"))
    (spool.folder(torn.id) / name).write_bytes(b"\0" * 50)
    assert len(spool.recover().leftovers) == 2
    assert [claim.id for claim in spool.claims()] == [good.id]
    assert [claim.id for claim, _ in spool.everything()] == [good.id]
    assert spool.kept() == frozenset()
    assert growing.growing(spool) == []
    assert Ledger(data.ledger).rebuild(spool).added == 1


@pytest.mark.parametrize("name", ["", "claim.json", "outcome.json", "upload.json"])
@pytest.mark.parametrize("ended", [False, True])
def test_a_bad_sector_under_one_document_holds_up_no_other_and_no_start(
    data: DataFolder, name: str, *, ended: bool
) -> None:
    class Scratched(Disk):
        bad = Path("/none")

        def read(self, path: Path) -> bytes:
            if path == self.bad:
                raise Unavailable("A folder or device is not there: Input/output error.")
            return super().read(path)

        def list(self, path: Path) -> list[str]:
            if path == self.bad:
                raise Unavailable("A folder or device is not there: Input/output error.")
            return super().list(path)

    spool = Spool(data, disk := Scratched(), ManualClock(1e9))
    bad, good = (spool.claim_file(drop(data, relpath), relpath, Profile()) for relpath in ("bad.pdf", "good.pdf"))
    if ended:
        for claim in (bad, good):
            stage(spool, claim.id)
            spool.conclude(claim.id, DONE)
    if name == "upload.json":
        plan = growing.begin(spool, "c.pdf", Profile(), 10, None)
        disk.bad = spool.folder(plan.claim.id) / name
    else:
        disk.bad = spool.folder(bad.id) / name
    again = Spool(data, disk, ManualClock(1e9))
    again.recover()
    assert good.id in [claim.id for claim, _ in again.everything()]
    assert ended or good.id in [claim.id for claim in again.claims()]
    again.kept()
    growing.growing(again)
    assert Ledger(data.ledger).rebuild(again).added >= 1
    if not ended:
        stage(again, good.id)
        again.conclude(good.id, DONE)
    assert (data.done / "good.pdf").exists()


def test_a_page_on_a_bad_sector_is_read_again(spool: Spool) -> None:
    class Scratched(Disk):
        def read(self, path: Path) -> bytes:
            if path.name == "2.json":
                raise Unavailable("A folder or device is not there: Input/output error.")
            return super().read(path)

    for number in (1, 2, 3):
        spool.checkpoint("w", Page(number, 100, 200, "fake"))
    spool.disk = Scratched()
    assert [page.number for page in spool.checkpoints("w")] == [1, 3]
    assert spool.drop_torn_checkpoints("w") == 1
    assert spool.checkpoint_numbers("w") == {1, 3}


def test_a_folder_that_goes_while_the_spool_is_looked_through_is_not_missed(data: DataFolder) -> None:
    class Going(Disk):
        def list(self, path: Path) -> list[str]:
            return [*super().list(path), "gone by now"] if path == data.spool else super().list(path)

    spool = Spool(data, Going(), ManualClock(1e9))
    claim = spool.claim_file(drop(data, "a.pdf"), "a.pdf", Profile())
    assert [found.id for found in spool.claims()] == [claim.id]
    assert [found.id for found, _ in spool.everything()] == [claim.id]


def test_a_file_swapped_for_a_link_at_the_last_moment_is_put_back(data: DataFolder, tmp_path: Path) -> None:
    class Swapping(Disk):
        def step(self, at: str) -> bool:
            if at == "accept.rename":
                (data.inbox / "a.pdf").unlink()
                (data.inbox / "a.pdf").symlink_to(tmp_path / "secret")
            return super().step(at)

    spool = Spool(data, Swapping(), ManualClock())
    with pytest.raises(SourceChanged):
        spool.claim_file(drop(data, "a.pdf"), "a.pdf", Profile())
    assert (data.inbox / "a.pdf").is_symlink()
    assert os.listdir(data.spool) == []


def test_a_file_written_to_while_it_is_copied_stays(data: DataFolder) -> None:
    class Writing(Disk):
        def step(self, at: str) -> bool:
            if at == "accept.sync_copy":
                (data.inbox / "a.pdf").write_bytes(b"more and more")
            return super().step(at)

    spool = Spool(data, Writing(), ManualClock())
    with pytest.raises(SourceChanged):
        spool.claim_file(drop(data, "a.pdf"), "a.pdf", Profile(originals=Originals.KEEP))
    assert (data.inbox / "a.pdf").read_bytes() == b"more and more"
    assert os.listdir(data.spool) == []


def test_a_retry_whose_original_is_taken_away_is_given_up(data: DataFolder, spool: Spool) -> None:
    claim = spool.claim_file(drop(data, "a.pdf"), "a.pdf", Profile())
    outcome = spool.conclude(claim.id, FAILED)
    folder = spool.folder(claim.id)
    (folder / "outcome.json").rename(folder / "reopening.json")
    (data.failed / "a.pdf").unlink()
    assert spool.recover().accepted == 0
    assert spool.outcome(claim.id) == outcome


def test_ids_sort_by_arrival_even_when_the_clock_steps_back() -> None:
    ids = Ids(os.urandom)
    made = [ids.next(seconds) for seconds in (1e9, 1e9, -5.0, 0.0, 2e9, 1e9)]
    assert made == sorted(set(made))
    assert {len(identifier) for identifier in made} == {26}
    later = Ids(os.urandom)
    later.saw(made[-1])
    assert later.next(0.0) > made[-1]


def test_a_document_from_folders_too_deep_for_a_path_ends_all_the_same(data: DataFolder, spool: Spool) -> None:
    relpath = "/".join([*["x" * 200] * 25, "a.pdf"])
    upload = spool.begin_upload("a.pdf", relpath, Profile())
    upload.write(b"%PDF-1.7 hello")
    claim = upload.commit()
    stage(spool, claim.id)
    outcome = spool.conclude(claim.id, DONE)
    assert outcome.results is not None and outcome.original is not None
    assert (data.results / outcome.results / "a.md").read_text() == "hello"
    assert (data.root / outcome.original).read_bytes() == b"%PDF-1.7 hello"
