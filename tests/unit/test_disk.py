"""The disk's steps on a real file system."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from inkstick.errors import Blocked, DiskFull
from inkstick.store.disk import (
    Disk,
    StorageSuspect,
    exchange_by_renames,
    rename_by_link,
    rename_exchange,
    rename_noreplace,
)

RENAMES = pytest.mark.parametrize("rename", [rename_noreplace, rename_by_link])


@RENAMES
def test_a_rename_to_a_new_name_moves_files_and_folders(tmp_path: Path, rename: Callable[[Path, Path], None]) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_bytes(b"b")
    rename(tmp_path / "a", tmp_path / "b")
    rename(tmp_path / "folder", tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == ["b", "other"]
    assert (tmp_path / "other" / "inside").read_bytes() == b"b"


@RENAMES
def test_a_rename_to_a_taken_name_is_refused(tmp_path: Path, rename: Callable[[Path, Path], None]) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "taken").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").mkdir()
    for source, target in (("a", "taken"), ("folder", "empty"), ("folder", "taken"), ("a", "empty")):
        with pytest.raises(FileExistsError):
            rename(tmp_path / source, tmp_path / target)
    assert (tmp_path / "taken").read_bytes() == b"precious"
    assert (tmp_path / "a").exists()


@pytest.mark.parametrize("exchange", [rename_exchange, exchange_by_renames])
def test_two_folders_change_names(tmp_path: Path, exchange: Callable[[Path, Path], None]) -> None:
    for name in ("new", "old"):
        (tmp_path / name / "inside").mkdir(parents=True)
        (tmp_path / name / "which").write_text(name)
    exchange(tmp_path / "new", tmp_path / "old")
    assert [(tmp_path / name / "which").read_text() for name in ("new", "old")] == ["old", "new"]
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]


class FailingDisk(Disk):
    """Its fsync answers with an error: once, as the kernel does."""

    failed = False

    def fsync(self, handle: int, at: str, *, ours: bool = True) -> None:
        if not self.failed:
            self.failed = True
            self._suspect(at, OSError(errno.EIO, "I/O error"))
        super().fsync(handle, at)


def test_a_failed_sync_is_not_tried_again(tmp_path: Path) -> None:
    disk = FailingDisk()
    disk.write(tmp_path / "a", b"a", at="test.write")
    with pytest.raises(StorageSuspect, match=r"test\.sync"):
        disk.sync_file(tmp_path / "a", at="test.sync")
    with pytest.raises(Blocked):
        disk.sync_file(tmp_path / "a", at="test.sync")
    with pytest.raises(Blocked):
        disk.rename(tmp_path / "a", tmp_path / "b", at="test.rename")
    assert (tmp_path / "a").exists()
    assert disk.read(tmp_path / "a") == b"a"


def test_a_full_disk_says_so() -> None:
    with pytest.raises(DiskFull):
        Disk().write(Path("/dev/full"), b"x", at="test.write")


def test_a_dropped_file_is_not_reached_through_links(tmp_path: Path) -> None:
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    inbox.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (inbox / "link").symlink_to(outside / "secret")
    (inbox / "folder").symlink_to(outside)
    with Disk().source(inbox, PurePosixPath("link")) as source:
        assert source.stat().kind == "other"
        with pytest.raises(OSError, match="symbolic links"):
            source.open()
    with pytest.raises(NotADirectoryError), Disk().source(inbox, PurePosixPath("folder/secret")):
        pass


def test_a_source_is_held_although_its_folder_is_renamed(tmp_path: Path) -> None:
    folder = tmp_path / "inbox" / "sub"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"a")
    with Disk().source(tmp_path / "inbox", PurePosixPath("sub/a")) as source:
        folder.rename(tmp_path / "elsewhere")
        source.move_to(tmp_path / "taken", at="test.move")
    assert (tmp_path / "taken").read_bytes() == b"a"


def test_removing_a_tree_stays_inside_it(tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"x")
    (tmp_path / "tree" / "deep" / "link").symlink_to(tmp_path)
    Disk().remove_tree(tmp_path / "tree", at="test.remove")
    Disk().remove_tree(tmp_path / "tree", at="test.remove")
    assert os.listdir(tmp_path) == ["precious"]


def test_everything_of_a_file_system_can_be_synced(tmp_path: Path) -> None:
    Disk().sync_all(tmp_path, at="test.sync")
