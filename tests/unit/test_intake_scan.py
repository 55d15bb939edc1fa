"""The directory scan, the names it meets, the folder's identity and the settings of folders: real trees."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import textwrap
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from inkstick.config import DataFolder
from inkstick.errors import Unavailable, UsageError
from inkstick.intake.ignore import ignored_file, ignored_folder
from inkstick.intake.names import display, escaped, natural_key
from inkstick.intake.profiles import BadProfile, Profiles
from inkstick.intake.root import (
    MARK_NAME,
    Root,
    guard_against_loops,
    mark_root,
    read_root,
    remembered_root,
    reserved_folders,
    same_root,
)
from inkstick.intake.scan import MAX_DEPTH, Survey, _Walk, is_slow, scan
from inkstick.intake.settle import Rules, Sighting
from inkstick.profile import Format, Originals, Profile


def put(path: Path, content: bytes | str = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# -- ignored names


@pytest.mark.parametrize(
    "name",
    [".hidden", "._scan.pdf", ".DS_Store", "~$brief.pdf", "a.pdf~", "A.PDF.TMP", "x.part", "x.Partial", "x.crdownload",
     "x.filepart", "x.download", ".a.pdf.swp", "x.lock", "x.!ut", "x.opdownload", "Thumbs.db", "THUMBS.DB",
     "ehthumbs.db", "Desktop.ini", "Icon\r", ".nfs0001", ".smbdeleteAAA", ".scan.pdf.Xa81bc"],
)  # fmt: skip
def test_other_programs_litter_is_ignored(name: str) -> None:
    assert ignored_file(name)


@pytest.mark.parametrize(
    "name", ["scan.pdf", "icon.png", "partial.pdf", "tmp", "part", "downloads.zip", "lock.tif", "~a.pdf"]
)
def test_names_that_may_be_documents_are_not_ignored(name: str) -> None:
    assert not ignored_file(name)


@pytest.mark.parametrize(
    "name",
    [".stfolder", ".stversions", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", ".Trashes",
     ".Spotlight-V100", "__MACOSX", "lost+found", ".snapshot", ".zfs"],
)  # fmt: skip
def test_bins_and_server_folders_are_not_entered(name: str) -> None:
    assert ignored_folder(name)
    assert ignored_folder(name.upper())


# -- names


def test_natural_order_is_that_of_people() -> None:
    names = [b"page10.tif", b"page2.tif", b"Page1.tif", b"a/page3.tif", "página2.tif".encode(), b"\xff1.tif"]
    assert sorted(names, key=natural_key)[1:4] == [b"Page1.tif", b"page2.tif", b"page10.tif"]


def test_two_spellings_of_one_name_look_alike_but_stay_two() -> None:
    composed, decomposed = (unicodedata.normalize(form, "café.pdf").encode() for form in ("NFC", "NFD"))
    assert display(composed) == display(decomposed)
    assert natural_key(composed) != natural_key(decomposed)


def test_bytes_that_are_not_utf8_survive_the_way_to_the_file_functions_and_back() -> None:
    raw = b"r\xe9sum\xe9.pdf"
    assert os.fsencode(escaped(raw)) == raw
    assert display(raw) == "r\ufffdsum\ufffd.pdf"


def test_a_name_of_ten_thousand_digits_sorts() -> None:
    assert natural_key(b"9" * 10_000) > natural_key(b"1")


# -- the scan


def test_every_regular_file_is_found_at_every_depth(tmp_path: Path) -> None:
    names = [b"a.pdf", b"b/c.pdf", b"b/d/e.pdf", b"f/" + b"n" * 251 + b".pdf", b"bad-\xff\xfe.pdf", b"new\nline.pdf"]
    for name in names:
        put(tmp_path / escaped(name))
    survey = scan(tmp_path)
    assert set(survey.files) == set(names)
    assert set(survey.folders) == {b"", b"b", b"b/d", b"f"}
    assert survey.files[b"a.pdf"] == Sighting.of((tmp_path / "a.pdf").stat())


def test_links_pipes_sockets_and_devices_are_skipped_and_counted(tmp_path: Path) -> None:
    target = put(tmp_path / "outside" / "secret.pdf")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "link.pdf").symlink_to(target)
    (inbox / "folder-link").symlink_to(target.parent)
    (inbox / "dangling.pdf").symlink_to(tmp_path / "nowhere")
    os.mkfifo(inbox / "pipe.pdf")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(inbox / "socket.pdf"))
    expected = 5
    if os.geteuid() == 0:
        try:
            os.mknod(inbox / "null.pdf", stat.S_IFCHR | 0o600, os.makedev(1, 3))
            expected = 6
        except PermissionError:
            pass
    survey = scan(inbox)
    assert survey.files == {}
    assert survey.skipped == expected
    assert survey.folders == [b""]


def test_a_hard_link_is_a_file_of_its_own(tmp_path: Path) -> None:
    os.link(put(tmp_path / "a.pdf"), tmp_path / "b.pdf")
    assert set(scan(tmp_path).files) == {b"a.pdf", b"b.pdf"}


def test_what_is_ignored_is_counted_and_not_entered(tmp_path: Path) -> None:
    put(tmp_path / "x.part")
    put(tmp_path / "__MACOSX" / "a.pdf")
    put(tmp_path / "a.pdf")
    survey = scan(tmp_path)
    assert set(survey.files) == {b"a.pdf"}
    assert survey.ignored == 2


def test_a_reserved_folder_is_not_entered_under_any_name(tmp_path: Path) -> None:
    """As a bind mount of results/ inside the inbox would show it: the same device and inode."""
    results = put(tmp_path / "looks-harmless" / "a.pdf").parent
    status = results.stat()
    survey = scan(tmp_path, frozenset({(status.st_dev, status.st_ino)}))
    assert survey.files == {}


def test_folders_nested_without_end_are_given_up_at_a_depth(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * (MAX_DEPTH + 3))
    put(deep / "lost.pdf")
    put(tmp_path / "found.pdf")
    survey = scan(tmp_path)
    assert set(survey.files) == {b"found.pdf"}
    assert len(survey.unreadable) == 1


def test_a_missing_root_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        scan(tmp_path / "nothing")


def test_a_local_folder_is_not_slow(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not is_slow(fd)
    finally:
        os.close(fd)


@pytest.mark.slow
def test_a_hundred_thousand_files_fit_in_time_and_memory(tmp_path: Path) -> None:
    """Names linked to a few files, so that making them is quick; the scan cannot tell."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    fd = os.open(inbox, os.O_RDONLY)
    for number in range(100_000):
        if number % 20_000 == 0:
            seed = put(tmp_path / f"seed{number}")
        os.link(seed, f"scan number {number:06}.pdf", dst_dir_fd=fd)
    os.close(fd)
    script = """
        import sys, time
        from pathlib import Path
        from inkstick.intake.scan import scan
        from inkstick.intake.settle import Rules, observe
        start = time.monotonic()
        seen = scan(Path(sys.argv[1])).files
        candidates = {path: observe(None, sighting, 0.0, Rules()) for path, sighting in seen.items()}
        seconds = time.monotonic() - start
        status = Path("/proc/self/status").read_text()  # not getrusage: that remembers the process that started us
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        print(len(candidates), seconds, int(peak) >> 10)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(inbox)], capture_output=True, text=True, check=True
    )
    files, seconds, mebibytes = done.stdout.split()
    assert int(files) == 100_000
    assert float(seconds) < 60
    assert int(mebibytes) < 250


# -- the root


KNOWN = Root(dev=1, ino=2, mark="abc")


@pytest.mark.parametrize(
    ("now", "has_files", "same"),
    [
        (Root(1, 2, "abc"), False, True),
        (Root(9, 9, "abc"), False, True),  # mounted again: other numbers, its own mark
        (Root(1, 2, None), False, True),  # somebody removed the hidden file
        (Root(7, 2, None), False, False),  # the bare mount point
        (Root(7, 2, "other"), False, False),  # another share, empty
        (Root(7, 2, None), True, True),  # people drop files there: it is the inbox now
    ],
)
def test_an_empty_folder_of_another_identity_is_not_the_inbox(now: Root, has_files: bool, same: bool) -> None:
    assert same_root(KNOWN, now, has_files=has_files) is same


def test_the_mark_is_made_once_and_remembered(tmp_path: Path) -> None:
    inbox, note = tmp_path / "inbox", tmp_path / "inbox.id"
    inbox.mkdir()
    first = mark_root(inbox, note)
    assert first.mark
    assert mark_root(inbox, note) == first == read_root(inbox)
    known = remembered_root(note)
    assert known is not None
    assert same_root(known, first, has_files=False)
    assert scan(inbox).files == {}


def test_a_mark_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "secret", "secret")
    (tmp_path / MARK_NAME).symlink_to(tmp_path / "secret")
    assert read_root(tmp_path).mark is None


def data_folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


def test_an_ordinary_data_folder_has_no_loop(tmp_path: Path) -> None:
    guard_against_loops(data_folder(tmp_path))


@pytest.mark.parametrize("name", ["results", "done", "failed"])
def test_a_folder_of_ours_inside_the_inbox_is_refused_even_behind_a_link(tmp_path: Path, name: str) -> None:
    folder = data_folder(tmp_path)
    (folder.inbox / "sub").mkdir()
    (folder.root / name).rmdir()
    (folder.root / name).symlink_to(folder.inbox / "sub")
    with pytest.raises(UsageError, match="inside the watched inbox"):
        guard_against_loops(folder)


def test_an_inbox_that_is_a_link_to_the_data_folder_is_refused(tmp_path: Path) -> None:
    folder = data_folder(tmp_path)
    folder.inbox.rmdir()
    folder.inbox.symlink_to(folder.root)
    with pytest.raises(UsageError):
        guard_against_loops(folder)


def test_an_inbox_inside_the_results_is_refused(tmp_path: Path) -> None:
    folder = data_folder(tmp_path)
    folder.inbox.rmdir()
    (folder.results / "in").mkdir()
    folder.inbox.symlink_to(folder.results / "in")
    with pytest.raises(UsageError, match="belongs to Inkstick"):
        guard_against_loops(folder)


def test_the_folders_of_ours_are_reserved_by_identity(tmp_path: Path) -> None:
    folder = data_folder(tmp_path)
    status = folder.results.stat()
    assert (status.st_dev, status.st_ino) in reserved_folders(folder)
    assert len(reserved_folders(folder)) == 4


# -- settings of folders


class Folders:
    """An inbox with settings files, and the profiles as the watcher would see them once they are still."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.profiles = Profiles(root)
        self.now = 0.0

    def settle(self) -> Profiles:
        for _ in range(2):
            self.scan(3.0)
        return self.profiles

    def scan(self, seconds: float) -> Survey:
        self.now += seconds
        survey = scan(self.root)
        self.profiles.update(survey.settings, self.now, Rules())
        return survey

    def bad(self, folder: bytes) -> BadProfile:
        bad = self.profiles.profile(folder)
        assert isinstance(bad, BadProfile)
        return bad


def test_subfolders_inherit_key_by_key(tmp_path: Path) -> None:
    put(tmp_path / ".inkstick.toml", 'formats = ["md"]\noriginals = "keep"\n')
    put(tmp_path / "a" / ".inkstick.toml", 'originals = "move"\n')
    (tmp_path / "a" / "b").mkdir()
    profiles = Folders(tmp_path).settle()
    assert profiles.profile(b"a/b") == Profile(formats=(Format.MD, Format.JSON), originals=Originals.MOVE)
    assert profiles.profile(b"other") == Profile(formats=(Format.MD, Format.JSON), originals=Originals.KEEP)
    assert profiles.problems() == ()


def test_a_broken_settings_file_holds_its_folder_and_those_below_and_no_other(tmp_path: Path) -> None:
    put(tmp_path / "a" / ".inkstick.toml", 'task = "parze"\n')
    (tmp_path / "a" / "b").mkdir()
    folders = Folders(tmp_path)
    profiles = folders.settle()
    assert "parze" in folders.bad(b"a").message
    assert folders.bad(b"a/b").folder == "a"
    assert profiles.profile(b"c") == Profile()
    assert [bad.folder for bad in profiles.problems()] == ["a"]


def test_mending_the_settings_file_is_noticed(tmp_path: Path) -> None:
    broken = put(tmp_path / ".inkstick.toml", "task = \n")
    folders = Folders(tmp_path)
    folders.settle()
    assert folders.profiles.problems()
    broken.write_text('task = "text"')
    folders.settle()
    assert isinstance(folders.profiles.profile(b""), Profile)
    broken.unlink()
    folders.scan(0.1)
    assert folders.profiles.profile(b"") == Profile()


def test_files_wait_while_the_settings_file_is_being_saved(tmp_path: Path) -> None:
    put(tmp_path / ".inkstick.toml", "")
    folders = Folders(tmp_path)
    folders.scan(0)
    assert folders.bad(b"").moving
    assert folders.profiles.problems() == ()
    folders.scan(2.0)
    assert folders.profiles.profile(b"") == Profile()


def test_a_settings_file_must_be_an_ordinary_file(tmp_path: Path) -> None:
    """A link could make the watcher quote /etc/shadow in its message."""
    secret = put(tmp_path / "secret", "password-of-somebody")
    makers: list[Callable[[Path], None]] = [lambda path: path.symlink_to(secret), os.mkfifo]
    for number, make in enumerate(makers):
        folder = tmp_path / f"inbox{number}"
        folder.mkdir()
        make(folder / ".inkstick.toml")
        folders = Folders(folder)
        folders.settle()
        assert "cannot be used" in folders.bad(b"").message
        assert "password" not in folders.bad(b"").message


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * 70_000])
def test_a_settings_file_that_is_not_text_or_too_long_is_named(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "a" / ".inkstick.toml", content)
    folders = Folders(tmp_path)
    folders.settle()
    assert "a/.inkstick.toml cannot be used" in folders.bad(b"a").message


def test_a_settings_file_from_windows_notepad_is_read(tmp_path: Path) -> None:
    put(tmp_path / ".inkstick.toml", b'\xef\xbb\xbforiginals = "keep"\r\n')
    profile = Folders(tmp_path).settle().profile(b"")
    assert isinstance(profile, Profile)
    assert profile.originals is Originals.KEEP


def test_one_file_that_the_disk_cannot_tell_of_hides_no_other(tmp_path: Path) -> None:
    class Entry:
        """Of a directory with a broken inode in it."""

        def __init__(self, name: str) -> None:
            self.name = name

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            return False

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            if self.name == "broken.pdf":
                raise OSError(errno.EUCLEAN, os.strerror(errno.EUCLEAN))
            return os.stat(tmp_path / self.name)

    put(tmp_path / "good.pdf")
    walk = _Walk(Survey(), set())
    for name in ("broken.pdf", "good.pdf"):
        walk._entry(cast("os.DirEntry[str]", Entry(name)), b"box", [])
    assert list(walk.survey.files) == [b"box/good.pdf"]
    assert walk.survey.unreadable == [b"box/broken.pdf"]
