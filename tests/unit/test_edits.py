"""Versions of pages on a real file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from inkstick.config import DataFolder
from inkstick.document import Block, Kind, Page
from inkstick.errors import UsageError
from inkstick.store.disk import Disk
from inkstick.store.edits import Edits, Version

READ = Page(3, 10, 10, "x", blocks=(Block(1, Kind.PARAGRAPH, "as read"),))
CHANGED = Page(3, 10, 10, "x", blocks=(Block(1, Kind.PARAGRAPH, "changed \ud800"),))


@pytest.fixture
def edits(tmp_path: Path) -> Edits:
    data = DataFolder(tmp_path)
    data.create()
    return Edits(data, Disk())


def test_versions_are_counted_kept_and_guarded(edits: Edits) -> None:
    assert (edits.newest("a", 3), edits.versions("a", 3), edits.pages("a"), edits.documents()) == (None, [], [], [])
    edits.save("a", 0, READ, Version(0, CHANGED, "me", "now", "text"))
    with pytest.raises(UsageError) as error:
        edits.save("a", 0, READ, Version(0, READ, "you", "now", "text"))
    assert error.value.code == "conflict"
    edits.save("a", 1, CHANGED, Version(0, READ, "you", "later", "restored"))
    assert [(v.number, v.who, v.page.text()) for v in edits.versions("a", 3)] == [
        (0, "", "as read"),
        (1, "me", "changed ?"),
        (2, "you", "as read"),
    ]
    assert (edits.pages("a"), edits.unpublished(), edits.documents()) == ([3], ["a"], ["a"])
    with pytest.raises(UsageError):
        edits.version("a", 3, 9)
    edits.forget("a")
    assert edits.documents() == []


def test_an_export_that_was_overtaken_leaves_the_mark(edits: Edits, tmp_path: Path) -> None:
    results = tmp_path / "results" / "letter"
    results.mkdir()
    (results / "old.txt").write_text("old")
    edits.save("a", 0, READ, Version(0, CHANGED))
    count = edits.saved_count("a")
    (edits.staging("a") / "new.txt").write_text("new")
    edits.save("a", 1, READ, Version(0, CHANGED))  # while the results were made
    edits.publish("a", results, count)
    assert [path.name for path in results.iterdir()] == ["new.txt"]
    assert edits.is_unpublished("a")
    (edits.staging("a") / "newer.txt").write_text("newer")
    edits.publish("a", results, edits.saved_count("a"))
    assert not edits.is_unpublished("a")
    assert sorted(path.name for path in edits.folder("a").iterdir()) == ["3"]


def test_results_that_a_crash_left_aside_are_put_back(edits: Edits, tmp_path: Path) -> None:
    results = tmp_path / "results" / "letter"
    edits.save("a", 0, READ, Version(0, CHANGED))
    for name in ("replaced", "staging"):
        (edits.folder("a") / name).mkdir()
    (edits.folder("a") / "replaced" / "old.txt").write_text("old")
    edits.recover("a", results)
    assert (results / "old.txt").read_text() == "old"
    assert sorted(path.name for path in edits.folder("a").iterdir()) == ["3", "unpublished"]
