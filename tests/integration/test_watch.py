"""The watched folder with real files, the real spool and a clock that the test moves. Each test is one thing that
people, scanners, file servers and disks do to a watched folder."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image

from inkstick.clock import ManualClock, SystemClock
from inkstick.config import DataFolder, Settings
from inkstick.errors import Unavailable, UsageError
from inkstick.intake import daemon, profiles
from inkstick.intake.daemon import continue_ids, keep_watching, only_watcher
from inkstick.intake.settle import Finding, Phase, Sighting
from inkstick.intake.status import WatchState
from inkstick.intake.watcher import Watcher, look
from inkstick.store.claim import Claim, Outcome, raw_relpath
from inkstick.store.disk import Disk
from inkstick.store.spool import Spool

SETTLE = 2.0


def picture(seed: int = 0) -> bytes:
    out = io.BytesIO()
    Image.frombytes("L", (24, 24), random.Random(seed).randbytes(576)).save(out, "PNG")
    return out.getvalue()


PNG = picture()


class Office:
    """A data folder with its watcher, on a clock that moves only here."""

    def __init__(self, root: Path, **changes: float) -> None:
        self.settings = dataclasses.replace(Settings(data=root, reserve_bytes=0), **changes)  # type: ignore[arg-type]
        self.folder = DataFolder(root)
        self.folder.create()
        self.clock = ManualClock(50.0)
        self.told: list[Claim] = []
        self.start()

    def start(self) -> None:
        """As after a restart of the process."""
        self.spool = Spool(self.folder, Disk(), self.clock)
        self.watcher = Watcher(self.folder, self.spool, self.clock, self.settings, on_claims=self.told.extend)

    def drop(self, name: str | bytes, content: bytes = PNG) -> Path:
        path = self.folder.inbox / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def tick(self, seconds: float = 0.0) -> list[Claim]:
        self.clock.advance(seconds)
        return self.watcher.tick()

    def settle(self) -> list[Claim]:
        """Two scans that span the settle time."""
        return self.tick() + self.tick(SETTLE)

    def names(self) -> list[str]:
        """What was accepted so far, in the order of the ids."""
        return [claim.relpath for claim in self.spool.claims()]

    def left(self) -> list[str]:
        return sorted(p.name for p in self.folder.inbox.rglob("*") if p.is_file() and not p.name.startswith("."))


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "data")


# -- writers


def test_a_dropped_file_is_accepted_once_it_was_still(office: Office) -> None:
    office.drop("a/scan.png")
    assert office.tick() == []
    assert office.tick(SETTLE - 0.1) == []
    (claim,) = office.tick(0.1)
    assert (claim.relpath, claim.method, claim.verdict) == ("a/scan.png", "rename", None)
    assert office.spool.original(claim.id).read_bytes() == PNG
    assert office.left() == []
    assert office.told == [claim]
    assert office.watcher.status().accepted == 1


def test_a_slow_writer_is_waited_for_to_the_last_byte(office: Office) -> None:
    path = office.drop("slow.png", b"")
    for at in range(0, len(PNG), 40):
        with path.open("ab") as out:
            out.write(PNG[at : at + 40])
        assert office.tick(1.5) == []
    office.tick()
    (claim,) = office.tick(SETTLE)
    assert office.spool.original(claim.id).read_bytes() == PNG


def test_a_writer_that_pauses_longer_than_the_settle_time_is_waited_for(office: Office) -> None:
    path = office.drop("paused.png", PNG[:200])
    assert office.settle() == []
    assert office.tick(30) == []
    assert office.watcher.status().incomplete == ("paused.png",)
    with path.open("ab") as out:
        out.write(PNG[200:])
    assert [claim.name for claim in office.settle()] == ["paused.png"]


def test_a_writer_that_sets_the_size_first_is_waited_for(office: Office) -> None:
    path = office.drop("explorer.png", bytes(len(PNG)))
    assert office.settle() == []
    with path.open("r+b") as out:
        out.write(PNG)
    (claim,) = office.settle()
    assert office.spool.original(claim.id).read_bytes() == PNG


def test_a_file_that_somebody_still_has_open_for_writing_is_waited_for(office: Office) -> None:
    """A scanner that keeps the file open between pages: whole so far, and yet not finished."""
    path = office.drop("scanner.png")
    with path.open("ab"):
        assert office.settle() == []
        assert office.watcher.status().incomplete == ("scanner.png",)
    assert len(office.tick(60)) == 1


def test_a_file_that_is_held_open_for_ever_is_taken_in_the_end(office: Office) -> None:
    with office.drop("held.png").open("ab"):
        office.settle()
        assert [claim.verdict for claim in office.tick(office.settings.incomplete_seconds)] == [None]


def test_an_old_mtime_does_not_make_a_file_ready(office: Office) -> None:
    """`cp -p` and `rsync -t`: the time of the original, at once."""
    os.utime(office.drop("old.png"), (0, 0))
    assert office.tick() == []
    assert len(office.tick(SETTLE)) == 1


def test_a_file_that_is_renamed_into_place_needs_no_special_case(office: Office) -> None:
    path = office.drop("scan.png.part")
    assert office.settle() == []
    path.rename(path.with_suffix(""))
    assert office.tick() == []
    assert [claim.name for claim in office.tick(SETTLE)] == ["scan.png"]


def test_a_folder_that_is_moved_in_is_read_to_its_depth(office: Office, tmp_path: Path) -> None:
    for name in ("case/1/a.png", "case/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "case").rename(office.folder.inbox / "case")
    assert {claim.relpath for claim in office.settle()} == {"case/1/a.png", "case/b.png"}


def test_a_burst_is_accepted_whole_and_in_the_order_of_people(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """In shares, so that the inbox is looked at in between."""
    monkeypatch.setattr("inkstick.intake.watcher.CLAIMS_PER_TICK", 1500)
    for number in range(1, 2001):
        office.drop(f"page{number}.png")
    office.tick()
    first = office.tick(SETTLE)
    assert len(first) == 1500
    assert office.watcher.wait_seconds() == 0
    second = office.tick()
    assert [claim.name for claim in first + second] == [f"page{number}.png" for number in range(1, 2001)]
    assert len({claim.id for claim in office.told}) == 2000
    assert office.left() == []


# -- files that never become documents


def test_a_file_that_stays_cut_ends_as_incomplete_and_is_kept_in_the_spool(office: Office) -> None:
    office.drop("cut.png", PNG[:-30])
    office.settle()
    assert office.tick(office.settings.incomplete_seconds - SETTLE - 1) == []
    (claim,) = office.tick(1)
    assert claim.verdict is not None
    assert claim.verdict["code"] == "incomplete"
    office.spool.conclude(claim.id, Outcome(state="failed", error=claim.verdict))
    assert (office.folder.failed / "cut.png").read_bytes() == PNG[:-30]
    assert json.loads((office.folder.failed / "cut.png.error.json").read_bytes())["code"] == "incomplete"


def test_an_empty_file_ends_as_incomplete_too(office: Office) -> None:
    office.drop("empty.pdf", b"")
    office.settle()
    assert [c.verdict and c.verdict["code"] for c in office.tick(office.settings.incomplete_seconds)] == ["incomplete"]


def test_dragging_a_failed_document_back_reads_it_again(office: Office) -> None:
    office.drop("cut.png", PNG[:-30])
    office.settle()
    (claim,) = office.tick(office.settings.incomplete_seconds)
    office.spool.conclude(claim.id, Outcome(state="failed", error=claim.verdict))
    (office.folder.failed / "cut.png").rename(office.folder.inbox / "cut.png")
    with (office.folder.inbox / "cut.png").open("ab") as out:
        out.write(PNG[-30:])
    (again,) = office.settle()
    assert again.id != claim.id
    assert again.verdict is None


def test_unsupported_files_stay_and_are_listed_once(office: Office) -> None:
    office.drop("letter.docx", _docx())
    office.drop("notes.txt", b"just text\n")
    for _ in range(5):
        assert office.tick(SETTLE) == []
    assert office.watcher.status().unsupported == ("letter.docx", "notes.txt")
    assert office.left() == ["letter.docx", "notes.txt"]
    (counts,) = office.watcher.status().folders
    assert office.watcher.status().total == counts
    assert (counts.unsupported, counts.waiting) == (2, 0)


def test_a_wrong_extension_does_not_matter(office: Office) -> None:
    office.drop("really-a-picture.docx")
    assert len(office.settle()) == 1


def _docx() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    return out.getvalue()


# -- people who change their mind


@pytest.mark.parametrize("phase", [Phase.MOVING, Phase.INCOMPLETE, Phase.UNSUPPORTED, Phase.DUE])
def test_a_file_may_be_deleted_in_every_state(office: Office, phase: Phase) -> None:
    content = {Phase.INCOMPLETE: PNG[:-9], Phase.UNSUPPORTED: b"text"}.get(phase, PNG)
    path = office.drop("gone.png", content)
    office.tick()
    if phase is Phase.DUE:
        office.watcher._check_room = lambda batch: path.unlink()  # type: ignore[method-assign]
        assert office.tick(SETTLE) == []
    elif phase is not Phase.MOVING:
        office.tick(SETTLE)
    path.unlink(missing_ok=True)
    assert office.tick(700) == []
    status = office.watcher.status()
    assert (status.folders, status.unsupported, status.incomplete, status.held) == ((), (), (), ())
    assert status.state is WatchState.WATCHING
    assert office.names() == []


def test_a_file_that_is_replaced_between_the_look_and_the_claim_settles_anew(office: Office) -> None:
    path = office.drop("twice.png")
    office.tick()
    other = picture(5)
    replaced: list[int] = []

    def replace_once(batch: object) -> None:
        if not replaced:
            replaced.append(1)
            path.with_suffix(".new.part").write_bytes(other)
            path.with_suffix(".new.part").rename(path)

    office.watcher._check_room = replace_once  # type: ignore[method-assign]
    assert office.tick(SETTLE) == []
    assert office.tick() == []
    (claim,) = office.tick(SETTLE)
    assert office.spool.original(claim.id).read_bytes() == other


def test_the_same_name_twice_makes_two_documents(office: Office) -> None:
    office.drop("scan.png")
    (first,) = office.settle()
    office.drop("scan.png", picture(2))
    (second,) = office.settle()
    assert first.id < second.id
    assert office.names() == ["scan.png", "scan.png"]


# -- names


def test_two_spellings_of_one_name_are_two_documents(office: Office) -> None:
    names = [unicodedata.normalize(form, "café.png").encode() for form in ("NFC", "NFD")]
    for name in names:
        office.drop(name)
    claims = office.settle()
    assert {bytes(raw_relpath(claim)) for claim in claims} == set(names)
    assert {claim.name for claim in claims} == {"café.png"}


@pytest.mark.parametrize(
    "name", [b"n" * 251 + b".png", b"bad-\xff\xfe.png", b"new\nline.png", "‮gnp.tfel".encode(), b"..."]
)
def test_every_name_that_a_disk_can_hold_is_accepted(office: Office, name: bytes) -> None:
    if name == b"...":
        name = b"a/b c/ .png"
        office.drop(b"a/b c/x.png").rename(office.folder.inbox / os.fsdecode(b"a/b c/\xc2\xa0.png"))
        name = b"a/b c/\xc2\xa0.png"
    else:
        office.drop(name)
    (claim,) = office.settle()
    assert bytes(raw_relpath(claim)) == name
    assert office.spool.original(claim.id).read_bytes() == PNG


# -- what is not a file


def test_links_and_pipes_are_never_opened(office: Office, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (office.folder.inbox / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(office.folder.inbox / "pipe.png")
    assert office.settle() == []
    assert office.watcher.status().skipped == 2
    assert (tmp_path / "secret.png").exists()


def test_a_hard_link_is_copied_so_that_its_other_name_cannot_change_it(office: Office, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.png").write_bytes(PNG)
    os.link(tmp_path / "elsewhere.png", office.folder.inbox / "linked.png")
    (claim,) = office.settle()
    (tmp_path / "elsewhere.png").write_bytes(b"changed")
    assert office.spool.original(claim.id).read_bytes() == PNG


# -- folders and their settings


def test_an_original_that_is_kept_is_read_once_even_after_a_restart(office: Office) -> None:
    office.drop(".inkstick.toml", b'originals = "keep"')
    office.drop("kept.png")
    (claim,) = office.settle()
    assert office.tick(SETTLE) == []
    office.spool.conclude(claim.id, Outcome(state="done", pages=1))
    office.start()
    assert office.settle() == []
    assert office.left() == ["kept.png"]
    office.drop("kept.png", picture(3))
    assert len(office.settle()) == 1


def test_a_folder_with_broken_settings_waits_with_a_message_and_goes_on(office: Office) -> None:
    office.drop("bills/.inkstick.toml", b"formats = md")
    office.drop("bills/a.png")
    office.drop("b.png")
    assert [claim.relpath for claim in office.settle()] == ["b.png"]
    (bad,) = office.watcher.status().bad_profiles
    assert bad.folder == "bills"
    assert "bills/.inkstick.toml" in bad.message
    assert office.left() == ["a.png"]
    office.drop("bills/.inkstick.toml", b'formats = ["md"]')
    (claim,) = office.settle()
    assert claim.profile["formats"] == ["md", "json"]


def test_settings_that_a_share_could_not_be_asked_for_once_are_read_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, broken = profiles.read_regular, [True]

    def shaky(path: str, folder: int | None = None) -> str:
        if broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path, folder)

    monkeypatch.setattr("inkstick.intake.profiles.read_regular", shaky)
    office.drop("bills/.inkstick.toml", b'formats = ["md"]')
    office.drop("bills/a.png")
    assert office.settle() == []
    assert [bad.folder for bad in office.watcher.status().bad_profiles] == ["bills"]
    broken.clear()
    (claim,) = office.tick(10)
    assert claim.profile["formats"] == ["md", "json"]
    assert office.watcher.status().bad_profiles == ()


# -- disks


def test_large_files_are_told_of_in_small_batches(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inkstick.intake.watcher.CLAIM_BATCH_BYTES", 2 * len(PNG))
    monkeypatch.setattr("inkstick.intake.watcher.CLAIM_BYTES_PER_TICK", 4 * len(PNG))
    batches: list[int] = []
    office.watcher._on_claims = lambda claims: batches.append(len(claims))
    for number in range(6):
        office.drop(f"{number}.png")
    assert len(office.settle()) == 4
    assert len(office.tick()) == 2
    assert batches == [2, 2, 2]


def test_a_file_with_a_bad_sector_holds_up_no_other(office: Office) -> None:
    class Scratched(Disk):
        def step(self, at: str) -> bool:
            if at == "accept.copy" and not self.suspect:
                raise Unavailable("A folder or device is not there: Input/output error.")
            return super().step(at)

    office.spool = Spool(office.folder, Scratched(), office.clock)
    office.watcher = Watcher(office.folder, office.spool, office.clock, office.settings)
    os.link(office.drop("bad.png"), office.folder.root / "other-name")  # a hard link is copied
    office.drop("good.png")
    assert [claim.name for claim in office.settle()] == ["good.png"]
    status = office.watcher.status()
    assert status.state is WatchState.WATCHING
    assert [name for name, _ in status.held] == ["bad.png"]
    assert office.left() == ["bad.png"]


def test_a_full_disk_stops_claiming_and_says_so_and_goes_on_by_itself(office: Office) -> None:
    office.settings = dataclasses.replace(office.settings, reserve_bytes=1 << 60)
    office.start()
    office.drop("waits.png")
    assert office.settle() == []
    status = office.watcher.status()
    assert (status.state, bool(status.message), bool(status.hint)) == (WatchState.DISK_FULL, True, True)
    assert office.watcher.wait_seconds() <= 5
    office.watcher._settings = dataclasses.replace(office.settings, reserve_bytes=0)
    assert len(office.tick(1)) == 1
    assert office.watcher.status().state is WatchState.WATCHING


def test_nothing_is_lost_when_a_small_disk_really_fills_up(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "small", "size=2m"):
        office = Office(tmp_path / "small" / "data")
        for number in range(40):
            office.drop(f"{number}.png", picture(number))
        ballast = tmp_path / "small" / "ballast"
        fill(ballast)
        before = office.settle() + office.tick(1)
        assert office.watcher.status().state is WatchState.DISK_FULL
        assert len(before) + len(office.left()) == 40
        ballast.unlink()
        office.tick(5)
        assert office.watcher.status().state is WatchState.WATCHING
        assert sorted(office.names()) == sorted(f"{number}.png" for number in range(40))
        for claim in office.spool.claims():
            assert office.spool.original(claim.id).read_bytes() == picture(int(claim.name.removesuffix(".png")))


def test_a_read_only_inbox_is_copied_once_and_left_alone(tmp_path: Path) -> None:
    """A write-protected stick or a share without write permission."""
    office = Office(tmp_path / "data")
    office.drop("a.png")
    office.drop("b.png")
    with mounted("--bind", office.folder.inbox, office.folder.inbox):
        mount("-o", "remount,bind,ro", office.folder.inbox)
        office.start()
        assert [claim.method for claim in office.settle()] == ["copy", "copy"]
        assert office.tick(SETTLE) == []
        office.start()
        assert office.settle() == []
        assert office.left() == ["a.png", "b.png"]


def test_an_inbox_on_another_file_system_is_moved_by_copy(tmp_path: Path) -> None:
    office = Office(tmp_path / "data")
    with mounted_tmpfs(office.folder.inbox, "size=4m"):
        office.start()
        office.drop("stick.png")
        (claim,) = office.settle()
        assert claim.method == "copy"
        assert office.spool.original(claim.id).read_bytes() == PNG
        assert office.left() == []


@pytest.mark.parametrize("code", [errno.ETXTBSY, errno.EIO], ids=["open elsewhere", "taken out"])
def test_a_copied_file_that_cannot_be_removed_is_not_taken_again_and_again(office: Office, code: int) -> None:
    """A file server refuses to remove what somebody has open; a stick is pulled out in that very moment."""

    class Refusing(Disk):
        def step(self, at: str) -> bool:
            if at == "accept.unlink_source":
                raise OSError(code, os.strerror(code)) if code != errno.EIO else Unavailable("It is not there.")
            return super().step(at)

    office.spool = Spool(office.folder, Refusing(), office.clock)
    office.watcher = Watcher(office.folder, office.spool, office.clock, office.settings)
    os.link(office.drop("a.png"), office.folder.root / "other-name")  # a hard link is copied, as from a share
    assert [claim.name for claim in office.settle()] == ["a.png"]
    for _ in range(5):
        assert office.tick(60) == []
    assert office.names() == ["a.png"]
    assert (office.left(), office.watcher.status().held) == (["a.png"], ())
    office.spool.recover()  # which would remove it now, and must not keep the service from starting
    office.watcher = Watcher(office.folder, office.spool, office.clock, office.settings)
    assert office.settle() == []


def test_a_stick_that_is_pulled_out_says_nothing_of_our_own_disk(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last sync fails; what lies elsewhere in the inbox is taken all the same."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shm:
        stick = os.stat(shm).st_dev
        sync = os.fsync

        def pulled_out(handle: int) -> None:
            if os.fstat(handle).st_dev == stick:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            sync(handle)

        monkeypatch.setattr("os.fsync", pulled_out)
        office.folder.inbox.rmdir()
        office.folder.inbox.symlink_to(shm)
        office.start()
        office.drop("a.png")
        assert office.settle() == []
        assert office.watcher.status().state is WatchState.WATCHING
        assert [name for name, _ in office.watcher.status().held] == ["a.png"]
        assert office.spool.disk.suspect is None
        monkeypatch.setattr("os.fsync", sync)  # it was plugged in again
        assert [claim.name for claim in office.tick(60)] == ["a.png"]
        assert office.left() == []


def test_an_unmounted_inbox_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    office = Office(tmp_path / "data")
    share = tmp_path / "share"
    share.mkdir()
    with mounted("--bind", share, office.folder.inbox):
        office.start()
        office.drop("cut.png", PNG[:-9])
        office.settle()
        assert office.watcher.status().incomplete == ("cut.png",)
    assert office.tick(1) == []
    status = office.watcher.status()
    assert status.state is WatchState.UNAVAILABLE
    assert status.incomplete == ("cut.png",), "its files are not treated as deleted"
    office.start()
    office.tick()
    assert office.watcher.status().state is WatchState.UNAVAILABLE, "remembered over a restart"
    with mounted("--bind", share, office.folder.inbox):
        office.settle()
        assert office.watcher.status().state is WatchState.WATCHING
        assert office.watcher.status().incomplete == ("cut.png",)
    office.drop("b.png")
    assert len(office.settle()) == 1, "a file in the new folder makes it the inbox"


@pytest.mark.parametrize("torn", [b"", b"\0" * 32], ids=["empty", "zeros"])
def test_a_mark_that_a_power_cut_tore_does_not_shut_the_inbox(office: Office, torn: bytes) -> None:
    office.tick()
    mark = office.folder.inbox / ".inkstick-id"
    first = mark.read_bytes()
    mark.write_bytes(torn)
    office.start()
    office.tick()
    assert office.watcher.status().state is WatchState.WATCHING
    assert len(mark.read_bytes().strip(b"\0")) == len(first)
    office.start()
    office.tick()
    assert office.watcher.status().state is WatchState.WATCHING


def test_a_network_folder_gets_a_slower_pace(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where attributes lag behind, two seconds of stillness prove nothing."""
    monkeypatch.setattr("inkstick.intake.scan.is_slow", lambda fd: True)
    office.drop("a.png")
    assert office.settle() == []
    assert office.tick(7.9) == []
    assert 0 < office.watcher.wait_seconds() <= 0.2
    assert len(office.tick(0.1)) == 1
    assert office.watcher.wait_seconds() == 10


def test_many_files_on_a_slow_share_are_looked_at_without_seeming_stuck(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service manager ends a watcher that does not get on, and the next one would begin with all of them again."""
    behind: list[float] = []

    def slow(path: Path, seen: Sighting, *, local: bool = True) -> Finding | None:
        behind.append(office.clock.monotonic() - office.watcher.progress)
        office.clock.advance(daemon.STUCK_SECONDS / 2)
        return look(path, seen, local=local)

    monkeypatch.setattr("inkstick.intake.watcher.look", slow)
    for number in range(5):
        office.drop(f"{number}.png")
    assert len(office.settle()) == 5
    assert len(behind) == 5
    assert max(behind) < daemon.STUCK_SECONDS


def test_an_inbox_on_a_share_that_is_mounted_after_the_start_is_waited_for(tmp_path: Path) -> None:
    """At a reboot the share often comes last; neither the service nor the watcher had started without it."""
    root, share = tmp_path / "data", tmp_path / "share"
    root.mkdir()
    (root / "inbox").symlink_to(share)
    office = Office(root)
    assert office.tick() == []
    assert office.watcher.status().state is WatchState.UNAVAILABLE
    share.mkdir()
    office.drop("a.png")
    assert len(office.settle()) == 1


def test_results_on_a_share_that_is_mounted_after_the_start_are_not_read_again(tmp_path: Path) -> None:
    root, share = tmp_path / "data", tmp_path / "share"
    (root / "state").mkdir(parents=True)
    (root / "inbox").symlink_to(share)
    office = Office(root)
    office.folder.results.rmdir()
    (share / "results").mkdir(parents=True)
    office.folder.results.symlink_to(share / "results")
    with pytest.raises(UsageError, match="read again"):
        office.tick()


def test_an_inbox_that_vanishes_and_returns_is_waited_for(office: Office) -> None:
    office.drop("a.png")
    office.tick()
    office.folder.inbox.rename(office.folder.root / "away")
    assert office.tick(SETTLE) == []
    assert office.watcher.status().state is WatchState.UNAVAILABLE
    assert office.watcher.status().hint
    (office.folder.root / "away").rename(office.folder.inbox)
    assert len(office.tick(1)) == 1


def test_results_mounted_into_the_inbox_are_not_read_again(tmp_path: Path) -> None:
    office = Office(tmp_path / "data")
    (office.folder.done / "old.png").write_bytes(PNG)
    trick = office.folder.inbox / "trick"
    trick.mkdir()
    with mounted("--bind", office.folder.done, trick):
        office.start()
        assert office.settle() == []


def test_results_inside_the_inbox_are_refused_at_the_start(office: Office) -> None:
    shutil.rmtree(office.folder.results)
    office.folder.results.symlink_to(office.folder.inbox)
    with pytest.raises(UsageError):
        office.start()


def test_a_file_that_may_not_be_read_is_held_with_its_reason_and_stops_nothing() -> None:
    with ordinary_user() as root:
        office = Office(root / "data")
        office.drop("locked.png").chmod(0)
        office.drop("open.png")
        assert [claim.name for claim in office.settle()] == ["open.png"]
        assert [name for name, _ in office.watcher.status().held] == ["locked.png"]
        (office.folder.inbox / "locked.png").chmod(0o600)
        assert [claim.name for claim in office.settle()] == ["locked.png"]
        assert office.watcher.status().held == ()


def test_a_folder_that_cannot_be_read_for_a_while_keeps_its_files_in_mind() -> None:
    with ordinary_user() as root:
        office = Office(root / "data")
        office.drop("sub/cut.png", PNG[:-9])
        office.settle()
        (office.folder.inbox / "sub").chmod(0)
        office.tick(1)
        assert office.watcher.status().unavailable == ("sub",)
        assert office.watcher.status().incomplete == ("sub/cut.png",)
        (office.folder.inbox / "sub").chmod(0o700)
        assert [c.verdict and c.verdict["code"] for c in office.tick(office.settings.incomplete_seconds)] == [
            "incomplete"
        ]


# -- the loop, in real time


async def becomes(condition: Callable[[], bool], seconds: float) -> None:
    """Raises TimeoutError when it does not become true in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def watched(office: Office, until: Callable[[], bool], *, hints: bool) -> float:
    """Run the loop until something holds; the seconds that it took."""
    stop = asyncio.Event()
    loop = asyncio.create_task(keep_watching(office.watcher, stop, hints=hints))
    start = time.monotonic()
    with suppress(TimeoutError):
        await becomes(until, 20)
    seconds = time.monotonic() - start
    stop.set()
    await loop
    assert until()
    return seconds


def real(tmp_path: Path, **changes: float) -> Office:
    office = Office(tmp_path / "data", **changes)
    office.clock = SystemClock()  # type: ignore[assignment]
    office.start()
    return office


async def test_the_loop_works_without_a_single_event(tmp_path: Path) -> None:
    office = real(tmp_path, settle_seconds=0.2, scan_seconds=0.1)
    office.drop("a/b.png")
    await watched(office, lambda: len(office.told) == 1, hints=False)


async def test_an_event_shortens_the_wait_for_the_next_scan(tmp_path: Path) -> None:
    office = real(tmp_path, settle_seconds=0.2, scan_seconds=10)
    office.drop("sub/first.png")

    def both() -> bool:
        if len(office.told) == 1 and not office.left():
            office.drop("sub/second.png")
        return len(office.told) == 2

    assert await watched(office, both, hints=True) < 8


async def test_a_name_that_is_no_utf8_ends_neither_the_loop_nor_its_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library that listens fails on it, in a group of exceptions."""
    monkeypatch.setattr(daemon, "HINT_RETRY_SECONDS", 0.1)
    office = real(tmp_path, settle_seconds=0.2, scan_seconds=1)
    office.drop("first.png")

    def both() -> bool:
        if len(office.told) == 1 and not office.left():
            office.drop(os.fsdecode(b"caf\xe9.png"))
        return len(office.told) == 2

    await watched(office, both, hints=True)


async def test_a_file_that_is_written_all_the_time_is_never_taken_early(tmp_path: Path) -> None:
    office = real(tmp_path, settle_seconds=0.3, scan_seconds=0.05)
    contents = {f"{n}.png": picture(n) for n in range(30)}
    finished: dict[str, float] = {}

    def write(name: str, content: bytes) -> None:
        path = office.folder.inbox / name
        for at in range(0, len(content), 100):
            with path.open("ab") as out:
                out.write(content[at : at + 100])
            time.sleep(0.05)
        finished[name] = time.monotonic()

    writers = [threading.Thread(target=write, args=item) for item in contents.items()]
    for writer in writers:
        writer.start()
    await watched(office, lambda: len(office.told) == len(contents), hints=True)
    for writer in writers:
        writer.join()
    assert {c.name: office.spool.original(c.id).read_bytes() for c in office.told} == contents


def test_a_clock_that_went_back_does_not_turn_the_order_round(office: Office) -> None:
    office.drop("first.png")
    (first,) = office.settle()
    office.clock = ManualClock(1.0)
    office.start()
    continue_ids(office.spool)
    office.drop("second.png")
    (second,) = office.settle()
    assert first.id < second.id


def test_there_is_one_watcher_for_a_data_folder(office: Office) -> None:
    with only_watcher(office.folder), pytest.raises(UsageError, match="Another watcher"), only_watcher(office.folder):
        pass
    with only_watcher(office.folder):
        pass


async def test_the_watch_process_tells_the_service_and_works_without_it(tmp_path: Path) -> None:
    """The real process: claims with nobody listening, then tells a service that appears; ends cleanly on SIGTERM."""
    folder = DataFolder(tmp_path / "d")
    folder.create()
    (folder.inbox / "early.png").write_bytes(PNG)
    heard: list[dict[str, object]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        assert head.startswith(b"POST /internal/watch ")
        heard.append(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    script = (
        "import asyncio, sys; from pathlib import Path; from inkstick.config import Settings;"
        "from inkstick.intake.daemon import watch_main;"
        "sys.exit(asyncio.run(watch_main(Settings(Path(sys.argv[1]), settle_seconds=0.2, scan_seconds=0.1,"
        " reserve_bytes=0))))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(folder.root))
    try:
        await becomes(lambda: any(folder.spool.glob("*/original")), 20)
        server = await asyncio.start_unix_server(answer, folder.state / "service.sock")
        await becomes(lambda: any(message["claims"] for message in heard), 20)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        server.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    (told,) = [message for message in heard if message["claims"]]
    (claim,) = folder.spool.iterdir()
    assert told["claims"] == [claim.name]
    assert told["status"]["state"] == "watching"  # type: ignore[index]
    assert told["status"]["files_waiting"] == 0  # type: ignore[index]


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """A folder of one's own, and for root: without root's rights, to whom no file is closed."""
    with tempfile.TemporaryDirectory() as name:
        user = os.geteuid()
        if user == 0:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(user)


# -- mounts: only where the tests may make them


def mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    mount(*arguments)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(arguments[-1])], check=True)


@contextmanager
def mounted_tmpfs(path: Path, options: str) -> Iterator[None]:
    path.mkdir(exist_ok=True)
    with mounted("-t", "tmpfs", "-o", options, "tmpfs", path):
        yield


def fill(path: Path) -> None:
    """Take all the space that is left."""
    with path.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            return
