"""Corrections and crashes: what was said to be saved is there, results are the old ones or the new, whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash.model import IMAGES, KEEP_ALL, KEEP_NOTHING, KEEP_SOME, KILL, Crash, ModelDisk
from crash.place import place
from inkstick.config import DataFolder
from inkstick.document import Block, Kind, Page
from inkstick.store.edits import Edits, Version

ROOT = place("/data")
DATA = DataFolder(ROOT)
RESULTS = ROOT / "results" / "letter"
DOCUMENT = "a" * 26
CHANGES = ((1, "one, corrected"), (2, "two, corrected"), (1, "one, corrected again"))

EXEMPT = {
    "edit.clear": "rubbish, cleared again before it is used",
    "edit.drop_replaced": "rubbish: the old results, cleared at the next start or export",
    "edit.put_back": "only where the file system cannot exchange (test_edits in unit)",
    "edit.sync_put_back": "as edit.put_back",
    "edit.forget": "when the document goes",
    "edit.sync_mark": "the mark has no content: its name is all that it says",
}


def read_page(number: int, text: str | None = None) -> Page:
    return Page(number, 100, 100, "fake", blocks=(Block(1, Kind.PARAGRAPH, text or f"page {number}"),))


def text_of(pages: list[Page]) -> bytes:
    return "\f".join(page.text() for page in pages).encode()


def texts() -> list[bytes]:
    """What the results may say after 0, 1, 2, … changes."""
    pages = {1: read_page(1), 2: read_page(2)}
    found = [text_of(list(pages.values()))]
    for number, text in CHANGES:
        pages[number] = read_page(number, text)
        found.append(text_of(list(pages.values())))
    return found


class Room:
    """The office in small: saves the changes that are not saved yet, each followed by new results. `said` survives."""

    def __init__(self, said: list[int]) -> None:
        self.said = said

    def start(self, disk: ModelDisk) -> None:
        self.disk = disk
        self.edits = Edits(DATA, disk)
        disk.sync_all(ROOT, at="recover.sync_all")
        for identifier in self.edits.documents():
            self.edits.recover(identifier, RESULTS)
        for identifier in self.edits.unpublished():
            assert identifier == DOCUMENT
            self.export()

    def work(self) -> None:
        for n, (number, text) in enumerate(CHANGES, 1):
            expected = sum(1 for page, _ in CHANGES[: n - 1] if page == number)
            if self.edits.newest_number(DOCUMENT, number) <= expected:
                before = read_page(number)
                self.edits.save(DOCUMENT, expected, before, Version(0, read_page(number, text), "me", "now", "text"))
            if n not in self.said:
                self.said.append(n)
            if n != 2:  # the second waits for the third's
                self.export()

    def export(self) -> None:
        count = self.edits.saved_count(DOCUMENT)
        staging = self.edits.staging(DOCUMENT)
        pages = list(self.edits.over(DOCUMENT, [read_page(1), read_page(2)]))
        write_results(self.disk, staging, text_of(pages))
        self.edits.publish(DOCUMENT, RESULTS, count)


def write_results(disk: ModelDisk, folder: Path, text: bytes) -> None:
    disk.make_dir(folder / "tables", at="stage.make")
    disk.write(folder / "letter.txt", text, at="stage.write")
    disk.write(folder / "tables" / "1.csv", text[::-1], at="stage.write")


def new_disk() -> ModelDisk:
    disk = ModelDisk()
    disk.add_device(ROOT, 2)
    for name in ("results", "results/letter", "state"):
        disk.make_dir(ROOT / name, at="setup")
    write_results(disk, RESULTS, texts()[0])
    disk.sync_all(ROOT, at="setup")
    disk.steps = 0
    return disk


def inspect(disk: ModelDisk, said: list[int], *, end: bool = False) -> None:
    edits = Edits(DATA, disk)
    for n in said:
        number, said_text = CHANGES[n - 1]
        version = sum(1 for page, _ in CHANGES[:n] if page == number)
        assert edits.version(DOCUMENT, number, version).page.text() == said_text, "a saved version is gone"
        assert edits.version(DOCUMENT, number, 0).page == read_page(number), "the page as it was read is gone"
    text = disk.read(RESULTS / "letter.txt")
    assert text in texts(), "results nobody made"
    assert disk.read(RESULTS / "tables" / "1.csv") == text[::-1], "results of two kinds"
    if not edits.is_unpublished(DOCUMENT):
        assert texts().index(text) >= max(said, default=0), "results without what was saved, and nobody knows"
    if end:
        assert text == texts()[-1]
        assert set(disk.list(edits.folder(DOCUMENT))) <= {"1", "2"}


def live(plan: list[tuple[int, str]], seed: int = 0, omit: str | None = None, trace: list[str] | None = None) -> int:
    """Steps of the last start. The crashes come after so many steps of their start, and leave that image."""
    disk, said, chance, crashes = new_disk(), list[int](), random.Random(seed), iter(plan)
    disk.trace, disk.omit = trace, omit
    while True:
        at, image = next(crashes, (-1, ""))
        disk.steps, disk.crash_at = 0, at
        room = Room(said)
        try:
            room.start(disk)
            room.work()
        except Crash:
            disk = disk.after_crash(chance, image)
            disk.trace = trace
            inspect(disk, said)
            continue
        inspect(disk, said, end=True)
        return disk.steps


def trace() -> list[str]:
    found: list[str] = []
    live([], trace=found)
    return found


def test_a_crash_at_any_step_keeps_what_was_saved_and_leaves_whole_results() -> None:
    for step in range(live([])):
        for image in IMAGES:
            for seed in range(3 if image == KEEP_SOME else 1):
                live([(step, image)], seed)


def test_a_crash_and_then_one_in_its_recovery() -> None:
    chance, steps = random.Random(5), live([])
    for first in range(steps):
        for second in range(first % 4, steps, 4):
            live([(first, chance.choice(IMAGES)), (second, chance.choice(IMAGES))], chance.randrange(1 << 30))


def _lives(name: str) -> Iterator[tuple[list[tuple[int, str]], int]]:
    yield [], 0
    for at in (n for n, step in enumerate(trace()) if step == name):
        for after in (*range(1, 11), 14, 20):
            for image in (KEEP_NOTHING, KEEP_ALL, KEEP_SOME, KILL):
                for seed in range(8 if image == KEEP_SOME else 1):
                    yield [(at + after, image)], seed


@pytest.mark.parametrize("name", sorted({step for step in trace() if step.startswith("edit.")} - set(EXEMPT)))
def test_leaving_a_step_out_is_noticed(name: str) -> None:
    def noticed(plan: list[tuple[int, str]], seed: int) -> bool:
        try:
            live(plan, seed, omit=name)
        except (AssertionError, OSError, ValueError, KeyError, UnicodeError):
            return True
        except Exception as error:
            return "version" in str(error)
        return False

    assert any(noticed(plan, seed) for plan, seed in _lives(name))
