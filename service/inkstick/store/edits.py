"""What people changed: every version of every page that was corrected, and results that follow them.

    state/edits/<id>/<page>/<version>.json   0: the page as it was read; 1, 2, …: as people left it
    state/edits/<id>/unpublished             the results do not hold all of it yet
    state/edits/<id>/staging/                results that are being made, or those that were, on their way out

A version is *said* to be saved when its file is on the disk; it is never changed and never removed. Results are made
anew from the record and the newest versions, into staging/, and change places with the old ones in one step: whoever
looks finds the old results or the new, whole. `unpublished` is durable before the version that it speaks of, and goes
after the new results are durable, so that a start knows what was cut off. docs/durability.md gives the order, and the
crash tests take each step away.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inkstick.config import DataFolder
from inkstick.document import Page, page_from_json, page_json
from inkstick.errors import UsageError
from inkstick.store.disk import Disk
from inkstick.store.steps import make_dirs, sync_tree, write_atomic

_MARK = "unpublished"
_STAGING = "staging"
_REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Version:
    """A page as it was left. `number`: from 1; 0 is the page as it was read. `who`, `what`: for people; `when`: ISO
    8601."""

    number: int
    page: Page
    who: str = ""
    when: str = ""
    what: str = ""


class Edits:
    """All corrections of one data folder. Thread-safe; one process at a time."""

    def __init__(self, data: DataFolder, disk: Disk) -> None:
        self._data, self._disk = data, disk
        self._lock = threading.RLock()
        self._saved: dict[str, int] = {}  # how often something was saved since the start, by document

    def folder(self, identifier: str) -> Path:
        return self._data.edits / identifier

    # -- saving

    def save(self, identifier: str, expected: int, before: Page, after: Version) -> Version:
        """Keep `after` (its `number` is given here) as the version that follows `expected`. `before`: the page as it
        is now, kept as version 0 if nobody has changed it yet. Durable when it returns.

        Raises UsageError (code conflict) when somebody else saved meanwhile."""
        with self._lock:
            newest = self.newest_number(identifier, before.number)
            if newest != expected:
                raise conflict()
            folder = self.folder(identifier) / str(before.number)
            make_dirs(self._disk, folder, at="edit.folder")
            if not self._disk.exists(folder / "0.json"):
                write_atomic(self._disk, folder / "0.json", _dump(Version(0, before)), at="edit.first")
            self._mark(identifier)
            saved = Version(newest + 1, after.page, after.who, after.when, after.what)
            write_atomic(self._disk, folder / f"{saved.number}.json", _dump(saved), at="edit.version")
            self._saved[identifier] = self._saved.get(identifier, 0) + 1
            return saved

    def _mark(self, identifier: str) -> None:
        """There will be something that the results do not hold."""
        mark = self.folder(identifier) / _MARK
        if not self._disk.exists(mark):
            self._disk.write(mark, b"", at="edit.mark")
        # Also if it was there: its making may not be durable, or its removal by an export may be under way.
        self._disk.sync_file(mark, at="edit.sync_mark")
        self._disk.sync_dir(mark.parent, at="edit.sync_marked")

    # -- looking

    def newest_number(self, identifier: str, page: int) -> int:
        """0 for a page that nobody changed."""
        return max(self._numbers(self.folder(identifier) / str(page)), default=0)

    def newest(self, identifier: str, page: int) -> Version | None:
        """None for a page that nobody changed."""
        number = self.newest_number(identifier, page)
        return self.version(identifier, page, number) if number else None

    def version(self, identifier: str, page: int, number: int) -> Version:
        """Raises UsageError (code not_found)."""
        path = self.folder(identifier) / str(page) / f"{number}.json"
        try:
            return _load(self._disk.read(path))
        except FileNotFoundError:
            raise UsageError(
                "There is no such version.", hint="The list of versions shows all.", code="not_found"
            ) from None

    def versions(self, identifier: str, page: int) -> list[Version]:
        """Oldest first, version 0 included; empty for a page that nobody changed."""
        numbers = sorted(self._numbers(self.folder(identifier) / str(page)))
        return [self.version(identifier, page, number) for number in numbers] if any(numbers) else []

    def pages(self, identifier: str) -> list[int]:
        """Numbers of the pages that somebody changed."""
        try:
            names = self._disk.list(self.folder(identifier))
        except FileNotFoundError:
            return []
        found = sorted(int(name) for name in names if name.isdecimal())
        return [page for page in found if self.newest_number(identifier, page)]

    def over(self, identifier: str, pages: Iterable[Page]) -> Iterator[Page]:
        """`pages`, those that somebody changed as they were left."""
        changed = set(self.pages(identifier))
        for page in pages:
            version = self.newest(identifier, page.number) if page.number in changed else None
            yield version.page if version else page

    def under(self, identifier: str, pages: Iterable[Page]) -> Iterator[Page]:
        """`pages`, those that somebody changed as they were read."""
        changed = set(self.pages(identifier))
        for page in pages:
            yield self.version(identifier, page.number, 0).page if page.number in changed else page

    def _numbers(self, folder: Path) -> list[int]:
        try:
            names = self._disk.list(folder)
        except FileNotFoundError:
            return []
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return [int(stem) for stem in stems if stem.isdecimal()]

    # -- results that follow

    def unpublished(self) -> list[str]:
        """Documents whose results do not hold all that was saved."""
        return [name for name in self._documents() if self.is_unpublished(name)]

    def is_unpublished(self, identifier: str) -> bool:
        return self._disk.exists(self.folder(identifier) / _MARK)

    def saved_count(self, identifier: str) -> int:
        """Take it before the versions are read for an export, and give it to `publish`."""
        with self._lock:
            return self._saved.get(identifier, 0)

    def staging(self, identifier: str) -> Path:
        """A fresh, empty folder for the new results."""
        staging = self.folder(identifier) / _STAGING
        self._disk.remove_tree(staging, at="edit.clear")
        self._disk.make_dir(staging, at="edit.stage")
        return staging

    def publish(self, identifier: str, results: Path, count: int) -> None:
        """The staged results change places with those at `results`, which go."""
        folder = self.folder(identifier)
        staging = folder / _STAGING
        sync_tree(self._disk, staging, at="edit.sync_result")
        self._disk.exchange(staging, results, at="edit.publish")
        self._disk.sync_dir(results.parent, at="edit.sync_published")
        self._disk.sync_dir(folder, at="edit.sync_replaced")
        self._disk.remove_tree(staging, at="edit.drop_replaced")
        self.settle(identifier, count)

    def settle(self, identifier: str, count: int) -> None:
        """The results hold everything that was saved up to `count`."""
        with self._lock:
            if self.saved_count(identifier) == count:
                # Not synced: should it come back, the same results are made once more.
                self._disk.unlink(self.folder(identifier) / _MARK, at="edit.done")

    def recover(self, identifier: str, results: Path | None) -> None:
        """After a start, and after `Spool.recover`: results that a crash left aside go back, half-made ones go."""
        folder = self.folder(identifier)
        aside = folder / _REPLACED
        if results is not None and self._disk.exists(aside) and not self._disk.exists(results):
            self._disk.rename_new(aside, results, at="edit.put_back")
            self._disk.sync_dir(results.parent, at="edit.sync_put_back")
            self._disk.sync_dir(folder, at="edit.sync_put_back")
        for name in (_STAGING, _REPLACED):
            if self._disk.exists(folder / name):
                self._disk.remove_tree(folder / name, at="edit.clear")

    def forget(self, identifier: str) -> None:
        """With the document itself."""
        with self._lock:
            self._disk.remove_tree(self.folder(identifier), at="edit.forget")

    def _documents(self) -> list[str]:
        try:
            return self._disk.list(self._data.edits)
        except FileNotFoundError:
            return []

    def documents(self) -> list[str]:
        """Everything that was ever corrected, by id."""
        return self._documents()


def conflict() -> UsageError:
    return UsageError(
        "Somebody else has changed this page meanwhile.",
        hint="Look at the page as it is now, and make your change again.",
        code="conflict",
    )


def _dump(version: Version) -> bytes:
    values: dict[str, Any] = {"version": version.number, "who": version.who, "when": version.when, "what": version.what}
    return json.dumps({**values, "page": page_json(version.page)}, ensure_ascii=False).encode("utf-8", "replace")


def _load(data: bytes) -> Version:
    values = json.loads(data)
    page = page_from_json(values["page"])
    return Version(values["version"], page, values["who"], values["when"], values["what"])
