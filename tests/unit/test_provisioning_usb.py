"""Sticks: which are taken, what is copied, and that pulling one out at any moment loses nothing."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inkstick.config import DataFolder
from inkstick.errors import DiskFull
from inkstick.intake.ignore import ignored_file
from inkstick_provisioning import blocks, copying, ingest, luks, sticks, usb, volume
from inkstick_provisioning.ingest import Visit, taken
from inkstick_provisioning.rights import as_user
from inkstick_provisioning.status import Stick
from inkstick_provisioning.sticks import Candidate, candidates
from inkstick_provisioning.unattended import Usb
from inkstick_provisioning.usb import Copied, Found, Ingest, StickFull, StickGone, StickLocked, VolumeFailed, journal

PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A stick with four documents and things that are none."""
    top = tmp_path / "stick"
    files = {
        "report.pdf": PDF, "Fälle/卷一/scan.png": PNG, "Fälle/letter": PDF, "inkstick-inbox/new.pdf": PDF + b"2",
        "notes.txt": b"not ours", "setup.exe": b"MZ\x90", ".hidden.pdf": PDF, "~$report.pdf": PDF,
        "System Volume Information/x.pdf": PDF, ".Trashes/y.pdf": PDF, "inkstick-results/report/report.pdf": PDF,
    }  # fmt: skip
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    (top / "link.pdf").symlink_to("/etc/passwd")
    (top / "loop").symlink_to(top)
    return top


def inbox(data: DataFolder) -> list[str]:
    return sorted(str(path.relative_to(data.inbox)) for path in data.inbox.rglob("*") if path.is_file())


DOCUMENTS = ["Fälle/letter", "Fälle/卷一/scan.png", "inkstick-inbox/new.pdf", "report.pdf"]


def test_documents_are_found_by_content_and_nothing_else_is(top: Path) -> None:
    assert [found.path for found in usb.documents(top)] == DOCUMENTS


def test_a_folder_without_end_is_not_read_without_end(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stick can be made so, by hand or by a fault; what it holds is kept in memory while it is counted."""
    scan, listed = os.scandir, list[int]()

    def endless(folder: Any) -> Any:
        entries = scan(folder)
        entry = next(entry for entry in entries if entry.name == "report.pdf")

        def more() -> Any:
            while True:
                listed.append(1)
                yield entry

        return contextlib.nullcontext(more())

    monkeypatch.setattr(os, "scandir", endless)
    monkeypatch.setattr(usb, "MOST", 50)
    assert len(usb.documents(top)) == 50
    assert len(listed) <= 51


def test_they_arrive_in_a_folder_with_the_sticks_name(top: Path, data: DataFolder) -> None:
    seen: list[int] = []
    ingest = Ingest(top, "KING/STON\x1b", data, 0)
    copied = ingest.run(ingest.find(), journal(data, "a"), seen.append)
    assert inbox(data) == [f"KING_STON/{path}" for path in DOCUMENTS]
    assert [entry.place for entry in copied] == inbox(data)
    assert (data.inbox / "KING_STON/report.pdf").read_bytes() == PDF
    assert seen == [1, 2, 3, 4]


def test_the_inbox_folder_alone_can_be_taken(top: Path, data: DataFolder) -> None:
    assert usb.has_inbox(top)
    ingest = Ingest(top, "K", data, 0, only=sticks.INBOX)
    ingest.run(ingest.find(), journal(data, "a"))
    assert inbox(data) == ["K/inkstick-inbox/new.pdf"]


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_stick_that_is_pulled_out_loses_nothing_and_goes_on_when_it_is_back(
    top: Path, data: DataFolder, tmp_path: Path, after: int
) -> None:
    """`after` documents it vanishes; those were copied whole, and the second time only the others are."""
    kept, away = journal(data, "a"), tmp_path / "away"
    ingest = Ingest(top, "K", data, 0)
    wanted = ingest.find()

    def pull(done: int) -> None:
        if done == after:
            top.rename(away)

    if after == 0:
        top.rename(away)
    with pytest.raises(StickGone):
        ingest.run(wanted, kept, pull)
    assert inbox(data) == [f"K/{path}" for path in DOCUMENTS[:after]]
    assert len(kept.read()) == after
    for path in list(data.inbox.rglob("*")):  # the service takes them meanwhile
        if path.is_file():
            path.unlink()
    away.rename(top)
    ingest.run(ingest.find(), kept)
    assert inbox(data) == [f"K/{path}" for path in DOCUMENTS[after:]]
    assert len(kept.read()) == 4


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of files and folders with an unreadable sector; "NAME:0" for one at a file's beginning."""
    names: set[str] = set()
    scan, pread = os.scandir, os.pread

    class Broken(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            if Path(str(self.name)).name in names:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size) or b""

    def listed(folder: Any) -> Any:
        if Path(folder).name in names:
            raise OSError(errno.EIO, "Input/output error")
        return scan(folder)

    def head(file: int, size: int, at: int) -> bytes:
        if f"{Path(f'/proc/self/fd/{file}').readlink().name}:0" in names:
            raise OSError(errno.EIO, "Input/output error")
        return pread(file, size, at)

    monkeypatch.setattr(usb, "GOING_SECONDS", 0)
    monkeypatch.setattr(copying, "opened", lambda path: Broken(path))
    monkeypatch.setattr(os, "scandir", listed)
    monkeypatch.setattr(os, "pread", head)
    return names


def test_what_cannot_be_read_keeps_nothing_else_from_being_copied(
    top: Path, data: DataFolder, broken: set[str]
) -> None:
    """A worn stick: one sector of a document, of a document's beginning, of a folder. Put in again it is as broken."""
    (top / "Fälle/卷二").mkdir()
    broken |= {"scan.png", "letter:0", "letter", "卷二"}
    visit = Visit(Candidate("sdb1", "/dev/null", "vfat", "K"), top, data, 0, lambda _: None)
    visit.count()
    assert (visit.stick.state, visit.stick.count) == ("offered", 5), "that one cannot be read is told, later"
    visit.copy()
    assert [path.partition("/")[2] for path in inbox(data)] == ["inkstick-inbox/new.pdf", "report.pdf"]
    assert (visit.stick.state, visit.stick.done, visit.stick.count) == ("partly", 2, 5)
    broken -= {"scan.png", "letter:0", "letter"}
    visit.copy()
    assert (visit.stick.state, visit.stick.done, visit.stick.count) == ("partly", 4, 5), "what is in 卷二 nobody knows"
    broken.clear()
    visit.copy()
    assert (visit.stick.state, visit.stick.done, len(inbox(data))) == ("copied", 4, 4)


def test_what_a_power_cut_left_half_copied_does_not_fill_volume_and_stick(
    top: Path, data: DataFolder, tmp_path: Path
) -> None:
    """A hidden file as large as the document was: no list shows it, and nobody would ever remove it."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    halves = [data.inbox / "K/Fälle" / f".letter.{gone.pid}.part", top / "inkstick-results" / f".a.md.{gone.pid}.part"]
    running, named = data.inbox / "K" / f".a.pdf.{os.getpid()}.part", data.inbox / "K/.notes.part"
    for path in (*halves, running, named):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PDF)
    assert not copying.is_part(named.name) and copying.is_part(running.name)
    ingest = Ingest(top, "K", data, 0)
    ingest.run(ingest.find(), journal(data, "a"))
    usb.export(data, "K", top)
    assert not any(path.exists() for path in halves)
    assert running.exists() and named.exists()
    (tmp_path / "volume").mkdir()
    luks.carry(data.root, tmp_path / "volume")
    assert (tmp_path / "volume/inbox/K/report.pdf").exists()
    assert not (tmp_path / "volume/inbox/K" / running.name).exists()


def test_what_goes_wrong_with_the_data_volume_is_not_said_of_the_stick(
    top: Path, data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(copying, "rename_noreplace", read_only)
    ingest = Ingest(top, "K", data, 0)
    with pytest.raises(VolumeFailed):
        ingest.run(ingest.find(), journal(data, "a"))
    visit = Visit(Candidate("sdb1", "/dev/null", "vfat", "K"), top, data, 0, lambda _: None)
    visit.copy()
    assert (visit.stick.state, visit.stick.done, visit.stick.count) == ("no_volume", 0, 4)


def test_a_folder_deeper_than_a_path_can_say_here_keeps_nothing_else_out(data: DataFolder, tmp_path: Path) -> None:
    deep, wanted = tmp_path / "d", "/".join(["x" * 190] * 20)
    (deep / wanted).mkdir(parents=True)
    (deep / wanted / "a.pdf").write_bytes(PDF)
    (deep / "z.pdf").write_bytes(PDF)
    ingest = Ingest(deep, "n" * 200, data, 0)
    assert len(ingest.find()) == 2
    assert [entry.place[-5:] for entry in ingest.run(ingest.find(), journal(data, "a"))] == ["z.pdf"]


def test_a_folder_called_as_a_document_is_keeps_nothing_else_out(data: DataFolder, tmp_path: Path) -> None:
    """Names that differ in a space at their end are one here."""
    top = tmp_path / "stick"
    for name in ("Report", "Report /inner/deep.pdf", "Report /page.pdf", "z.pdf"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(PDF)
    ingest = Ingest(top, "K", data, 0)
    assert len(ingest.find()) == 4
    assert [entry.place for entry in ingest.run(ingest.find(), journal(data, "a"))] == ["K/Report", "K/z.pdf"]


def test_a_document_without_room_keeps_no_smaller_one_out(top: Path, data: DataFolder) -> None:
    with (top / "A huge one.pdf").open("wb") as file:
        file.write(PDF)
        file.truncate(1 << 43)
    ingest = Ingest(top, "K", data, 0)
    with pytest.raises(DiskFull):
        ingest.run(ingest.find(), journal(data, "a"))
    assert inbox(data) == [f"K/{path}" for path in DOCUMENTS]


def test_a_file_that_breaks_off_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    class Breaking(io.RawIOBase):
        reads = 0

        def read(self, size: int = -1) -> bytes:
            self.reads += 1
            if self.reads == 3:
                raise OSError(errno.EIO, "gone")
            return b"x" * size

    with pytest.raises(OSError, match="gone"):
        copying.pour(Breaking(), tmp_path / "scan.pdf")
    assert list(tmp_path.iterdir()) == []


def test_while_it_is_copied_a_file_has_a_name_that_the_inbox_ignores(tmp_path: Path) -> None:
    seen: list[str] = []

    class Watching(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            seen.extend(path.name for path in tmp_path.iterdir())
            return super().read(size)

    copying.pour(Watching(b"data"), tmp_path / ("l" * 220 + ".pdf"))
    assert seen and all(ignored_file(name) for name in seen)
    assert (tmp_path / ("l" * 220 + ".pdf")).read_bytes() == b"data"


def test_a_half_written_line_of_the_journal_is_no_line(data: DataFolder) -> None:
    kept = journal(data, "a")
    kept.add(Copied("k1", "K/a.pdf"))
    path = next((data.state / "sticks").iterdir())
    with path.open("a") as file:
        file.write('{"key": "k2", "pla')
    assert list(kept.read()) == ["k1"]
    kept.add(Copied("k3", "K/c.pdf"))
    assert list(kept.read()) == ["k1", "k3"], "nor does it spoil the next one"


def test_a_changed_file_is_another_document(top: Path, data: DataFolder) -> None:
    ingest, kept = Ingest(top, "K", data, 0), journal(data, "a")
    ingest.run(ingest.find(), kept)
    (top / "report.pdf").write_bytes(PDF + b"changed")
    ingest.run(ingest.find(), kept)
    assert "K/report (2).pdf" in inbox(data)
    assert (data.inbox / "K/report.pdf").read_bytes() == PDF


def test_a_volume_without_room_takes_nothing_and_says_so(top: Path, data: DataFolder) -> None:
    ingest = Ingest(top, "K", data, reserve=1 << 60)
    with pytest.raises(DiskFull):
        ingest.run(ingest.find(), journal(data, "a"))
    assert inbox(data) == []


def test_results_go_back_beside_the_inbox_and_replace_nothing(top: Path, data: DataFolder) -> None:
    ingest, kept = Ingest(top, "K", data, 0), journal(data, "a")
    copied = ingest.run(ingest.find(), kept)
    assert usb.ended(data, copied) == []
    for entry in copied[1:]:
        target = data.done / entry.place
        target.parent.mkdir(parents=True, exist_ok=True)
        (data.inbox / entry.place).rename(target)
    (data.failed / "K/Fälle").mkdir(parents=True)
    (data.inbox / copied[0].place).rename(data.failed / copied[0].place)
    (data.failed / "K/Fälle/letter.error.json").write_text("{}")
    (data.results / "K/report").mkdir(parents=True)
    (data.results / "K/report/report.md").write_text("# text")
    (data.results / "other").mkdir()
    (data.results / "other/secret.md").write_text("of another stick")
    assert usb.ended(data, copied) == copied
    (top / "inkstick-results/report/report.md").write_text("older")
    assert usb.export(data, "K", top) == 2
    results = top / "inkstick-results"
    assert (results / "report/report.md").read_text() == "older"
    assert (results / "report/report (2).md").read_text() == "# text"
    assert (results / "Fälle/letter.error.json").exists()
    assert not list(top.rglob("secret.md"))
    assert not (results / "Fälle/letter").exists(), "the originals are on the stick already"
    usb.export(data, "K", top)
    assert len(list((results / "report").iterdir())) == 3, "a second time adds nothing"


@pytest.mark.parametrize("link", ["inkstick-results", "inkstick-results/Fälle"])
def test_results_do_not_follow_a_link_that_a_stick_brings(data: DataFolder, tmp_path: Path, link: str) -> None:
    """They are written by the service's user: into its own folders, if a stick may say where."""
    stick, requests = tmp_path / "stick", data.state / "requests"
    requests.mkdir(parents=True)
    (stick / link).parent.mkdir(parents=True)
    (stick / link).symlink_to(requests)
    (data.results / "K/Fälle/letter").mkdir(parents=True)
    (data.results / "K/Fälle/letter/letter.json").write_text('{"what": "power"}')
    gone = subprocess.Popen(["true"])
    gone.wait()
    (requests / f".ours.{gone.pid}.part").touch()
    with pytest.raises(StickLocked):
        usb.export(data, "K", stick)
    assert [path.name for path in requests.rglob("*")] == [f".ours.{gone.pid}.part"]


def test_a_stick_that_is_pulled_out_during_the_export_is_told(top: Path, data: DataFolder) -> None:
    for name in ("a", "b"):
        (data.results / "K" / name).mkdir(parents=True)
        (data.results / "K" / name / "text.md").write_text(name)
    with pytest.raises(StickGone):
        usb.export(data, "K", top, lambda _: shutil.rmtree(top))
    assert (data.results / "K/b/text.md").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scan.pdf", "scan.pdf"),
        ("..", "_"),
        ("", "_"),
        (".inkstick.toml", "inkstick.toml"),
        ("a/b", "a_b"),
        ("a\x1b[31mb.pdf", "a[31mb.pdf"),
        ("卷" * 200 + ".pdf", "卷" * 65 + ".pdf"),
        ("x" * 300, "x" * 200),
        (os.fsdecode(b"caf\xe9.pdf"), "caf\ufffd.pdf"),
    ],
)
def test_names_are_made_fit(name: str, expected: str) -> None:
    assert usb.safe(name) == expected
    assert len(usb.safe(name).encode()) <= usb.LONGEST


def test_a_settings_file_on_a_stick_sets_nothing(tmp_path: Path, data: DataFolder) -> None:
    """A stick of somebody else must not say what happens to originals."""
    top = tmp_path / "s"
    top.mkdir()
    (top / ".inkstick.toml").write_text("originals = 'delete'")
    (top / "a.pdf").write_bytes(PDF)
    ingest = Ingest(top, "K", data, 0)
    ingest.run(ingest.find(), journal(data, "a"))
    assert inbox(data) == ["K/a.pdf"]


# ---- which sticks


def disk(**fields: Any) -> dict[str, Any]:
    rest = {
        "path": "/dev/sdb",
        "type": "disk",
        "size": 8 << 30,
        "tran": "usb",
        "model": "Cruzer",
        "mountpoints": [None],
    }
    return {**rest, **fields}


def part(**fields: Any) -> dict[str, Any]:
    return {"path": "/dev/sdb1", "type": "part", "size": 8 << 30, "fstype": "vfat", "mountpoints": [None], **fields}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (disk(children=[part(label="KINGSTON")]), ["KINGSTON"]),
        (disk(children=[part()]), ["Cruzer"]),
        (disk(fstype="exfat", label="A\x1b[2J"), ["A[2J"]),  # no partition table
        (disk(children=[part(fstype="ntfs")]), ["Cruzer"]),
        (disk(children=[part(), part(path="/dev/sdb2", label="B")]), ["Cruzer", "B"]),
        (disk(tran="mmc", children=[part(label="SD")]), ["SD"]),
        (disk(tran="nvme", children=[part()]), []),  # the laptop's own disk
        (disk(tran="sata", children=[part()]), []),
        (disk(children=[part(fstype="BitLocker")]), ["Cruzer"]),
        (disk(children=[part(), part(path="/dev/sdb2", fstype="apfs", label="Mac")]), ["Cruzer", "Mac"]),
        (disk(children=[part(fstype="squashfs")]), []),
        (disk(children=[part(fstype="iso9660", mountpoints=[volume.MEDIUM]), part(path="/dev/sdb2")]), []),  # ours
        (disk(children=[part(mountpoints=["/mnt"])]), []),
        (disk(children=[part(parttype=volume.PARTITION_TYPE, partlabel=volume.PARTITION_NAME)]), []),
        (
            disk(
                children=[part(fstype="crypto_LUKS", parttype=volume.PARTITION_TYPE, partlabel=volume.PARTITION_NAME)]
            ),
            [],
        ),
    ],
)
def test_which_sticks_are_looked_at(entry: dict[str, Any], found: list[str]) -> None:
    told = candidates(blocks.parse(json.dumps({"blockdevices": [entry]})))
    assert [candidate.name for candidate in told] == found


@pytest.mark.parametrize(("system", "write"), [("vfat", False), ("exfat", True), ("ext4", False), ("ntfs3", True)])
def test_nothing_on_a_stick_can_be_run(system: str, write: bool) -> None:
    command = sticks.mount_command(Candidate("sdb1", "/dev/sdb1", system, "K"), "/mnt", 800, write=write)
    options = command[command.index("-o") + 1].split(",")
    assert {"nosuid", "nodev", "noexec"} <= set(options)
    assert ("rw" if write else "ro") in options
    assert ("uid=800" in options) == (system != "ext4")


def test_a_stick_starts_by_itself_only_where_that_was_allowed() -> None:
    assert [sticks.starts(setting, True) for setting in Usb] == [False, True, False]
    assert not sticks.starts(Usb.INBOX, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_real_file_system_is_mounted_safely_and_read(tmp_path: Path, data: DataFolder) -> None:
    image, source, point = tmp_path / "stick.img", tmp_path / "source", tmp_path / "point"
    for folder in (source, point):
        folder.mkdir()
    (source / "scan.pdf").write_bytes(PDF)
    with image.open("wb") as file:
        file.truncate(8 << 20)
    made = subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", "-d", str(source), str(image)], capture_output=True)
    done = subprocess.run(["/usr/sbin/losetup", "--find", "--show", str(image)], capture_output=True, text=True)
    if made.returncode or done.returncode:
        pytest.skip(f"no loop device: {done.stderr}")
    device = done.stdout.strip()
    try:
        command = sticks.mount_command(Candidate("x", device, "ext4", "K"), str(point), 0)
        mounted = subprocess.run(command, capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"cannot mount here: {mounted.stderr}")
        flags = os.statvfs(point).f_flag
        assert all(flags & flag for flag in (os.ST_RDONLY, os.ST_NOSUID, os.ST_NODEV, os.ST_NOEXEC))
        ingest = Ingest(point, "K", data, 0)
        ingest.run(ingest.find(), journal(data, "x"))
        assert inbox(data) == ["K/scan.pdf"]
        with pytest.raises(OSError):
            (point / "written").write_text("no")
    finally:
        subprocess.run(["umount", str(point)], capture_output=True)
        subprocess.run(["/usr/sbin/losetup", "--detach", device], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/usr/sbin/debugfs").exists(), reason="needs root and debugfs")
def test_a_damaged_file_of_a_real_file_system_keeps_nothing_else_out(tmp_path: Path, data: DataFolder) -> None:
    """Its name is there, and the kernel gives nothing else of it: neither size nor content."""
    image, source, point = tmp_path / "stick.img", tmp_path / "source", tmp_path / "point"
    (source / "lost").mkdir(parents=True)
    point.mkdir()
    for name in ("bad.pdf", "lost/inner.pdf", "scan.pdf"):
        (source / name).write_bytes(PDF)
    with image.open("wb") as file:
        file.truncate(8 << 20)
    made = subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", "-d", str(source), str(image)], capture_output=True)
    for name in ("bad.pdf", "lost"):
        damage = f"set_inode_field {name} checksum 0xbad"
        subprocess.run(["/usr/sbin/debugfs", "-w", "-n", "-R", damage, str(image)], check=True, capture_output=True)
    command = ["mount", "-o", "loop,ro,noload", str(image), str(point)]
    if made.returncode or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        visit = Visit(Candidate("x", str(image), "ext4", "K"), point, data, 0, lambda _: None)
        visit.copy()
    finally:
        subprocess.run(["umount", str(point)], check=True)
    assert [path.partition("/")[2] for path in inbox(data)] == ["scan.pdf"]
    assert (visit.stick.state, visit.stick.done, visit.stick.count) == ("partly", 1, 3)


def test_a_stick_without_room_for_results_says_so(data: DataFolder, tmp_path: Path) -> None:
    """A real file system that is full: a tmpfs of one page, in a mount namespace of its own."""
    (data.results / "K").mkdir()
    (data.results / "K/big.md").write_bytes(b"x" * 200_000)
    point = tmp_path / "full"
    point.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(point)]).returncode:
        pytest.skip("needs root and mount")
    try:
        with pytest.raises(StickFull):
            usb.export(data, "K", point)
        assert not [path for path in point.rglob("*") if path.is_file()]
    finally:
        subprocess.run(["umount", str(point)], check=True)


def test_a_found_document_is_known_by_path_size_and_time() -> None:
    one = Found("a.pdf", 3, 5)
    assert one.key == Found("a.pdf", 3, 5).key
    assert len({one.key, Found("b.pdf", 3, 5).key, Found("a.pdf", 4, 5).key, Found("a.pdf", 3, 6).key}) == 4


# ---- one stick's visit


def test_a_visit_counts_copies_and_brings_results_back(top: Path, data: DataFolder) -> None:
    told: list[Stick] = []
    visit = Visit(Candidate("sdb1", "/dev/null", "vfat", "KINGSTON"), top, data, 0, told.append)
    assert visit.count()
    assert (visit.stick.state, visit.stick.count) == ("offered", 4)
    assert inbox(data) == [], "nothing is copied before somebody says so"
    visit.copy(sticks.INBOX)
    assert (visit.stick.state, visit.stick.done, visit.stick.count) == ("copied", 1, 1)
    assert not visit.finished()
    name = inbox(data)[0].split("/")[0]
    assert name.startswith("KINGSTON ")
    (data.done / name / "inkstick-inbox").mkdir(parents=True)
    (data.inbox / name / "inkstick-inbox/new.pdf").rename(data.done / name / "inkstick-inbox/new.pdf")
    (data.results / name / "inkstick-inbox/new").mkdir(parents=True)
    (data.results / name / "inkstick-inbox/new/new.md").write_text("text")
    assert visit.finished()
    assert visit.export()
    assert (top / "inkstick-results/inkstick-inbox/new/new.md").read_text() == "text"
    assert (told[-1].state, told[-1].results) == ("exporting", 1)
    assert "copying" in [stick.state for stick in told]


@pytest.mark.parametrize(
    ("total", "free", "state"),
    [(1000, 20, "copied"), (1000, 1.9, "no_room"), (4, 0.4, "no_room"), (4, 0.6, "copied")],  # GB
)
def test_a_volume_is_full_for_a_stick_where_it_is_full_for_everybody(
    top: Path, data: DataFolder, monkeypatch: pytest.MonkeyPatch, total: float, free: float, state: str
) -> None:
    """Of a large disk fifty gigabytes were kept free; a small one was filled until the service took nothing in."""
    figures = SimpleNamespace(f_blocks=int(total * 1e6), f_bavail=int(free * 1e6), f_frsize=1000)
    monkeypatch.setattr(os, "statvfs", lambda _: figures)
    visit = Visit(Candidate("sdb1", "/dev/null", "vfat", "KINGSTON"), top, data, 0, lambda _: None)
    visit.copy()
    assert visit.stick.state == state


def test_a_stick_that_is_there_sooner_than_the_service_is_copied(top: Path, tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()  # a volume that was made a moment ago
    fresh, told = DataFolder(tmp_path / "fresh"), list[Stick]()
    visit = Visit(Candidate("sdb1", "/dev/null", "vfat", "KINGSTON"), top, fresh, 0, told.append)
    visit.count()
    visit.copy()
    assert (told[-1].state, told[-1].done) == ("copied", 4)
    assert len(inbox(fresh)) == 4


@pytest.mark.parametrize(("synced", "last"), [(0, "exported"), (1, "stopped")])
def test_that_results_are_on_a_stick_is_said_when_it_is_closed_and_not_before(
    synced: int, last: str, top: Path, data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        order.append(" ".join([command[0], *(["rw"] if any(word.startswith("rw,") for word in command) else [])]))
        return subprocess.CompletedProcess(command, synced if command[0] == "sync" else 0)

    candidate = Candidate("sdb1", "/dev/null", "vfat", "KINGSTON")
    visit = Visit(candidate, top, data, 0, lambda stick: order.append(stick.state))
    monkeypatch.setattr("inkstick_provisioning.ingest.subprocess.run", run)
    ingest._export(visit, candidate, 0)
    assert order == ["umount", "mount rw", "exporting", "exporting", "sync", "umount", "mount", last]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_results_that_a_write_protected_stick_refuses_are_told_and_it_is_still_read(
    top: Path, data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the switch on its side out, mount opens it for reading alone and calls that done."""
    image, point = tmp_path / "stick.img", tmp_path / "point"
    image.write_bytes(bytes(8 << 20))
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", "-d", str(top), str(image)], check=True)
    done = subprocess.run(
        ["/usr/sbin/losetup", "--read-only", "--find", "--show", str(image)], capture_output=True, text=True
    )
    point.mkdir()
    candidate = Candidate("x", done.stdout.strip(), "ext4", "K")
    if done.returncode or subprocess.run(sticks.mount_command(candidate, str(point), 0)).returncode:
        pytest.skip("no loop device, or no mount, here")
    try:
        monkeypatch.setattr(ingest, "POINT", point)
        visit = Visit(candidate, point, data, 0, lambda _: None)
        visit.copy()
        folder = data.results / inbox(data)[0].partition("/")[0]
        folder.mkdir()
        (folder / "a.md").write_text("text")
        ingest._export(visit, candidate, 0)
        assert visit.stick.state == "locked"
        assert (point / "report.pdf").exists()
        monkeypatch.setattr(sticks, "mount_command", lambda *_, write=False: ["false"])  # nor opened at all
        visit.say(state="copied")
        ingest._export(visit, candidate, 0)
        assert visit.stick.state == "locked"
    finally:
        subprocess.run(["umount", str(point)], capture_output=True)
        subprocess.run(["/usr/sbin/losetup", "--detach", candidate.device], check=True)


def test_nothing_is_told_of_a_stick_that_was_taken_out_while_its_unit_stood_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "FOLDER", tmp_path)
    monkeypatch.setattr(ingest, "_candidate", lambda _: None)
    (tmp_path / "sdb1.json").write_text("{}")
    assert ingest.main(["sdb1", "800"]) == 0
    assert not (tmp_path / "sdb1.json").exists()


@pytest.mark.parametrize("setting", Usb)
def test_where_sticks_are_never_read_none_is_mounted(
    setting: Usb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever forbids sticks does not want the kernel to read the file system of a hostile one either."""
    mounted: list[str] = []

    def command(found: Candidate, *_: object) -> list[str]:
        mounted.append(found.name)
        return ["false"]

    monkeypatch.setattr(ingest, "FOLDER", tmp_path)
    monkeypatch.setattr(ingest, "POINT", tmp_path / "point")
    monkeypatch.setattr("inkstick_provisioning.status.RUN", tmp_path)
    monkeypatch.setattr(ingest, "_candidate", lambda name: Candidate(name, "/dev/null", "vfat", "K"))
    monkeypatch.setattr(ingest, "LINGER_SECONDS", 0)
    monkeypatch.setattr(sticks, "mount_command", command)
    (tmp_path / "wishes.json").write_text(json.dumps({"usb": setting.value}))
    ingest.main(["sdb1", "800"])
    assert mounted == ([] if setting is Usb.NEVER else ["K"])


def test_that_an_encrypted_stick_or_one_of_a_mac_cannot_be_read_is_told_and_it_is_not_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screen had said nothing of it: whoever put it in waited."""
    entry = disk(children=[part(fstype="BitLocker", label="Fälle")])
    (candidate,) = candidates(blocks.parse(json.dumps({"blockdevices": [entry]})))
    told: list[str] = []

    def came_again(stick: Stick, _: float) -> bool:
        told.append(json.loads((tmp_path / "sdb1.json").read_text())["state"])
        return False

    for name, value in (
        ("FOLDER", tmp_path),
        ("POINT", tmp_path / "point"),
        ("_setting", lambda: Usb.ASK),
        ("_candidate", lambda _: candidate),
        ("_mounted", lambda _: told.append("mounted")),
        ("comes_again", came_again),
    ):
        monkeypatch.setattr(ingest, name, value)
    ingest.main(["sdb1", "800"])
    assert told == ["unreadable"]


def test_results_are_not_carried_back_by_themselves_while_documents_of_the_stick_are_missing(
    top: Path, data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would say that the stick can be taken out, where there was no room for all that is on it."""
    candidate = Candidate("sdb1", "/dev/null", "vfat", "KINGSTON")
    monkeypatch.setattr(ingest, "FOLDER", tmp_path)
    monkeypatch.setattr(ingest, "_setting", lambda: Usb.INBOX)
    monkeypatch.setattr(ingest, "POLL", 0)
    monkeypatch.setattr(Visit, "finished", lambda _: True)
    looks = iter([True, True, False])
    monkeypatch.setattr(ingest, "_plugged", lambda _: next(looks))
    carried: list[Visit] = []
    monkeypatch.setattr(ingest, "_export", lambda visit, *_: carried.append(visit))
    visit = Visit(candidate, top, data, 0, lambda _: None)
    monkeypatch.setattr(visit, "copy", lambda _: visit.say(state="no_room"))
    ingest._attend(visit, candidate, 0)
    assert carried == []


def test_a_stick_that_vanishes_is_told_and_leaves_no_child_behind(
    top: Path, data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork, children = os.fork, []

    def noted() -> int:
        child = fork()
        children.append(child)
        return child

    monkeypatch.setattr(os, "fork", noted)
    visit = Visit(Candidate("sdb1", "/dev/null", "vfat", "K"), top, data, 0, lambda _: None)
    visit.count()
    shutil.rmtree(top)
    visit.copy()
    assert visit.stick.state == "stopped"
    assert len(children) == 2
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_a_stick_that_is_back_with_nothing_new_on_it_is_here_for_its_results(top: Path, data: DataFolder) -> None:
    candidate = Candidate("sdb1", "/dev/null", "vfat", "KINGSTON")
    Visit(candidate, top, data, 0, lambda _: None).copy()
    again = Visit(candidate, top, data, 0, lambda _: None)
    again.count()
    assert (again.stick.state, again.stick.count, len(again.copied)) == ("copied", 4, 4)
    (top / "more.pdf").write_bytes(PDF + b"more")
    again.count()
    assert (again.stick.state, again.stick.count) == ("offered", 5)


@pytest.mark.parametrize("state", ["stopped", "no_room", "copied"])
def test_a_stick_that_is_put_in_again_at_once_is_looked_at_again(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = tmp_path / "sdb1"
    monkeypatch.setattr(ingest, "SYS", tmp_path)
    monkeypatch.setattr(ingest, "POLL", 0.01)
    monkeypatch.setattr(ingest, "_candidate", lambda name: Candidate(name, "/dev/null", "vfat", "K"))

    def put_in() -> None:
        time.sleep(0.1)
        block.touch()

    hand = threading.Thread(target=put_in)
    hand.start()
    came = ingest.comes_again(Stick("sdb1", "K", state), 20.0)
    hand.join()
    # What has come true is said no more: its unit ends, and systemd starts one anew.
    assert came is (state != "copied")


def test_a_card_that_is_taken_out_of_its_reader_is_gone_though_the_reader_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "SYS", tmp_path)
    (tmp_path / "sdb").mkdir()
    (tmp_path / "sdb/size").write_text("62333952\n")
    assert ingest._plugged("sdb") and not ingest._plugged("sdc")
    (tmp_path / "sdb/size").write_text("0\n")
    assert not ingest._plugged("sdb")
    assert ingest.comes_again(Stick("sdb", "CANON", "copied"), 20.0) is False


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_reads_a_stick_is_nobody_of_rank() -> None:
    def work(send: Any) -> None:
        send({"user": os.getresuid(), "groups": os.getgroups()})
        os.setuid(0)

    assert list(as_user(65534, work)) == [{"user": [65534] * 3, "groups": []}, {"failed": "unreadable"}]


def test_a_child_that_is_killed_in_the_middle_of_a_line_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel, where memory is short: what it said of two hundred thousand documents is one long line."""
    ends = os.pipe()
    monkeypatch.setattr(os, "pipe", lambda: ends)

    def work(send: Any) -> None:
        send({"count": 3})
        os.write(ends[1], b'{"copied": [{"key"')
        os.kill(os.getpid(), 9)

    assert list(as_user(0, work)) == [{"count": 3}, {"failed": "stick_gone"}]


def test_what_a_person_asked_for_is_taken_once(tmp_path: Path) -> None:
    (tmp_path / "a.ask").write_text("export\n")
    assert taken(tmp_path / "a.ask") == "export"
    assert taken(tmp_path / "a.ask") == ""
