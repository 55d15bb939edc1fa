"""Folders of the inbox: listed, made, set up; nothing leads out of it, and settings are old or new, never half."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkstick.config import DataFolder
from inkstick.document import Task
from inkstick.errors import Unavailable, UsageError
from inkstick.intake.folders import Folders, digest, new_name
from inkstick.intake.profiles import Profiles
from inkstick.intake.scan import scan
from inkstick.intake.settings_text import CHOICES, LISTS, alike, changed, statements, values
from inkstick.intake.settle import Rules
from inkstick.profile import Originals
from inkstick.store.disk import Disk, StorageSuspect

SETTINGS = ".inkstick.toml"
NONE = digest(None)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


@pytest.fixture
def folders(data: DataFolder) -> Folders:
    return Folders(data)


# Looking


def test_folders_are_listed_with_what_they_ask_for(data: DataFolder, folders: Folders) -> None:
    (data.inbox / "bills" / "2026").mkdir(parents=True)
    (data.inbox / "bills" / "a.pdf").write_bytes(b"%PDF")
    (data.inbox / ".hidden").mkdir()
    (data.inbox / "bills" / SETTINGS).write_text('task = "extract"\nkeys = ["total"]\n')
    (data.inbox / "bills" / "2026" / SETTINGS).write_text('originals = "keep"\n')
    inbox, bills, year = folders.listed()
    assert (inbox.raw, inbox.own, inbox.files) == (b"", False, 0)
    assert (bills.name, bills.own, bills.files) == ("bills", True, 1)
    assert year.profile is not None
    assert (year.profile.task, year.profile.originals) == (Task.EXTRACT, Originals.KEEP)


def test_a_mistake_above_is_said_for_every_folder_below(data: DataFolder, folders: Folders) -> None:
    (data.inbox / "a" / "b").mkdir(parents=True)
    (data.inbox / "a" / SETTINGS).write_text('task = "sing"')
    _, above, below = folders.listed()
    assert above.problem is not None
    assert below.problem is above.problem
    assert "a/.inkstick.toml: task cannot be 'sing'" in above.problem.message


# Changing


def test_saved_settings_are_what_the_watcher_reads(data: DataFolder, folders: Folders) -> None:
    raw = folders.create(b"", "bills 发票")
    folders.save(raw, 'task = "text"  # 纯文本\n', NONE)
    survey = scan(data.inbox)
    profiles = Profiles(data.inbox)
    profiles.update(survey.settings, 0.0, Rules())
    profiles.update(survey.settings, 1000.0, Rules())
    assert getattr(profiles.profile(raw), "task", profiles.profile(raw)) == Task.TEXT
    assert [path.name for path in (data.inbox / "bills 发票").iterdir()] == [SETTINGS], "nothing is left beside it"


def test_what_somebody_else_saved_meanwhile_is_not_overwritten(data: DataFolder, folders: Folders) -> None:
    folders.save(b"", 'task = "text"\n', NONE)
    first = digest(folders.text(b""))
    folders.save(b"", 'task = "table"\n', first)
    for known in (first, NONE):
        with pytest.raises(UsageError, match="changed meanwhile") as raised:
            folders.save(b"", 'task = "parse"\n', known)
        assert raised.value.code == "not_ready"
        with pytest.raises(UsageError, match="changed meanwhile"):
            folders.remove(b"", known)
    assert (data.inbox / SETTINGS).read_text() == 'task = "table"\n'
    folders.remove(b"", digest(folders.text(b"")))
    assert not (data.inbox / SETTINGS).exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('task = "sing"', "task cannot be 'sing'"),
        ("task = ", "not valid TOML"),
        ("colour = 1", "unknown key 'colour'"),
        ('task = "extract"', "needs keys"),
        ("formats = 3", "formats must be a list"),
        ("[table]\nx = 1", "unknown key 'table'"),
        ("#" * 70_000, "too long"),
        ('prompt = "\ud800"', "UTF-8"),
    ],
)
def test_a_text_with_a_mistake_is_never_saved(folders: Folders, data: DataFolder, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        folders.save(b"", text, NONE)
    assert not (data.inbox / SETTINGS).exists()


class Recorder(Disk):
    """Notes every step, and the folder's content at each."""

    def __init__(self, folder: Path, *, fail: str = "") -> None:
        super().__init__()
        self.folder, self.fail, self.seen = folder, fail, list[tuple[str, str]]()

    def _note(self, at: str) -> None:
        text = (self.folder / SETTINGS).read_text() if (self.folder / SETTINGS).exists() else ""
        self.seen.append((at, text))

    def step(self, at: str) -> bool:
        self._note(at)
        return super().step(at)

    def fsync(self, handle: int, at: str, *, ours: bool = True) -> None:
        self._note(at)
        if at == self.fail:
            self._suspect(at, OSError(5, "Input/output error"))
        super().fsync(handle, at, ours=ours)


def test_settings_are_synced_before_they_take_the_name_and_the_folder_after(data: DataFolder) -> None:
    disk = Recorder(data.inbox)
    folders = Folders(data, disk)
    folders.save(b"", 'task = "text"\n', NONE)
    folders.save(b"", 'task = "table"\n', digest('task = "text"\n'))
    old, new = 'task = "text"\n', 'task = "table"\n'
    assert disk.seen == [
        ("folders.write", ""), ("folders.sync", ""), ("folders.sync_folder", old),
        ("folders.write", old), ("folders.sync", old), ("folders.sync_folder", new),
    ]  # fmt: skip


def test_a_sync_that_fails_leaves_the_old_settings_and_is_said(data: DataFolder) -> None:
    Folders(data).save(b"", 'task = "text"\n', NONE)
    with pytest.raises(StorageSuspect):
        Folders(data, Recorder(data.inbox, fail="folders.sync")).save(b"", 'task = "table"', digest('task = "text"\n'))
    assert (data.inbox / SETTINGS).read_text() == 'task = "text"\n'
    assert [path.name for path in data.inbox.iterdir()] == [SETTINGS]


def test_a_share_that_does_not_save_says_nothing_of_our_own_disk(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as share:
        data.inbox.rmdir()
        data.inbox.symlink_to(share)
        folders, sync = Folders(data), os.fsync

        def failing(handle: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr("os.fsync", failing)
        with pytest.raises(Unavailable, match="not there") as told:
            folders.save(b"", 'task = "text"\n', NONE)
        assert not isinstance(told.value, StorageSuspect)
        monkeypatch.setattr("os.fsync", sync)  # it is back
        folders.save(b"", 'task = "text"\n', NONE)
        assert folders.text(b"") == 'task = "text"\n'


# Nothing leads out of the inbox


@pytest.mark.parametrize(
    "raw", [b"..", b"../state", b"a/../../state", b"/etc", b"a//b", b".", b"a\0b", b"missing", b".hidden", b"x" * 300]
)
def test_no_path_leads_out_of_the_inbox_or_into_what_is_not_searched(
    data: DataFolder, folders: Folders, raw: bytes
) -> None:
    (data.inbox / "a" / "b").mkdir(parents=True)
    (data.inbox / ".hidden").mkdir()
    for act in (
        lambda: folders.text(raw),
        lambda: folders.save(raw, "", NONE),
        lambda: folders.create(raw, "new"),
        lambda: folders.remove(raw, NONE),
    ):
        with pytest.raises(UsageError) as raised:
            act()
        assert raised.value.code == "not_found"
    assert not (data.state / SETTINGS).exists()


def test_links_are_not_followed(data: DataFolder, folders: Folders, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / SETTINGS).write_text("secret = 1")
    (data.inbox / "door").symlink_to(outside)
    with pytest.raises(UsageError, match="no such folder"):
        folders.text(b"door")
    with pytest.raises(UsageError, match="no such folder"):
        folders.save(b"door", "", NONE)
    (data.inbox / "real").mkdir()
    (data.inbox / "real" / SETTINGS).symlink_to(outside / SETTINGS)
    with pytest.raises(UsageError, match="it is a link") as raised:
        folders.text(b"real")
    assert "secret" not in raised.value.message + raised.value.hint
    folders.save(b"real", 'task = "text"\n', NONE)
    assert (outside / SETTINGS).read_text() == "secret = 1", "the link itself was replaced, not its target"
    assert stat.S_ISREG((data.inbox / "real" / SETTINGS).lstat().st_mode)


def test_pipes_and_folders_in_the_place_of_settings_are_said_and_never_opened(
    data: DataFolder, folders: Folders
) -> None:
    (data.inbox / "pipe").mkdir()
    os.mkfifo(data.inbox / "pipe" / SETTINGS)
    with pytest.raises(UsageError, match="not an ordinary file"):
        folders.text(b"pipe")
    (data.inbox / "dir" / SETTINGS).mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot be changed"):
        folders.save(b"dir", "", NONE)


def test_a_mounted_folder_of_our_own_is_no_inbox_folder(data: DataFolder) -> None:
    inside = DataFolder(data.root)
    (data.inbox / "results").mkdir()
    data.results.rmdir()
    data.results.symlink_to(data.inbox / "results")
    with pytest.raises(UsageError, match="no such folder"):
        Folders(inside).text(b"results")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "..\\x", ".git", "~$x", "CON", "con.txt", "a:b", "what?", "a\nb", "a\0b", "end.", "x" * 201,
     "\u202egnp.exe", "zero\u200bwidth", "$RECYCLE.BIN", "\ud800"],
)  # fmt: skip
def test_a_name_that_would_not_do_is_refused_and_nothing_is_made(data: DataFolder, folders: Folders, name: str) -> None:
    with pytest.raises(UsageError):
        folders.create(b"", name)
    assert list(data.inbox.iterdir()) == []


def test_a_new_folder_has_a_composed_name_and_is_made_once(data: DataFolder, folders: Folders) -> None:
    assert folders.create(b"", " e\u0301te\u0301 ") == "été".encode()
    with pytest.raises(UsageError, match="already"):
        folders.create(b"", "été")
    assert folders.create("été".encode(), "审计 & b") == "été/审计 & b".encode()


def test_a_name_that_is_no_text_is_listed_and_can_be_set_up(data: DataFolder, folders: Folders) -> None:
    raw = b"caf\xe9 \x07"
    os.mkdir(os.fsencode(data.inbox) + b"/" + raw)
    folders.save(raw, 'task = "text"\n', NONE)
    (_, odd) = folders.listed()
    assert (odd.raw, odd.own) == (raw, True)


# Text and form


def test_a_changed_choice_keeps_comments_and_everything_else() -> None:
    text = '# bills\ntask = "extract" # why\nkeys = [\n  "a",  # first\n  "b",\n]\n\n# end\n'
    form = {**values(text), "keys": ["a", "c"], "originals": "keep"}
    assert changed(text, form) == '# bills\ntask = "extract" # why\nkeys = ["a", "c"]\n\n# end\noriginals = "keep"\n'
    assert changed(text, {**values(text), "task": None}).startswith("# bills\nkeys")
    assert changed(text, values(text)) == text


def test_a_text_with_a_mistake_cannot_be_changed_by_the_form() -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        changed("task = ", {"task": "text"})


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
FORMS = st.fixed_dictionaries(
    {
        **{key: st.none() | WORDS for key in CHOICES},
        **{key: st.none() | st.lists(WORDS, min_size=1, max_size=4) for key in LISTS},
    }
)


@settings(max_examples=60, deadline=None)
@given(FORMS, FORMS)
def test_whatever_a_form_holds_the_text_says_it_back(first: dict[str, Any], second: dict[str, Any]) -> None:
    text = changed("# kept\n", first)
    assert alike(values(text), first)
    again = changed(text, second)
    assert alike(values(again), second)
    assert again.startswith("# kept\n")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_the_pieces_of_a_text_join_to_it(text: str) -> None:
    assert "".join(piece for _, piece in statements(text)) == text


def test_a_new_name_is_stripped() -> None:
    assert new_name("  bills ") == "bills"
