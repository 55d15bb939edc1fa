"""What the document screen and its API need: a page as it is now, changes to it, other readings of it.

Errors are `InkstickError`; of `UsageError` the codes ``not_found``, ``not_ready`` (the document is still being read, or
has no results), ``conflict`` (409: somebody else saved meanwhile) and ``unplaced`` (422: where a doubtful text stands
is not certain) have a meaning of their own. No method blocks the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inkstick.correct.change import Change
from inkstick.document import Page, Task
from inkstick.profile import EngineChoice


@dataclass(frozen=True, slots=True)
class PageNow:
    """`version`: 0 until somebody changes the page, then counts up. `exported`: the results hold all that was saved.
    `editable`: False while the document is being read."""

    page: Page
    version: int = 0
    exported: bool = True
    editable: bool = True


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """`what`: text, checked, reread or restored. `when`: ISO 8601. Number 0 is the page as it was read."""

    number: int
    who: str
    when: str
    what: str


@dataclass(frozen=True, slots=True)
class Wish:
    """How a page is to be read once more."""

    engine: EngineChoice = EngineChoice.AUTO
    task: Task = Task.PARSE
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """Another reading of a page, kept in memory until it is accepted, or pushed out by later ones."""

    key: str
    page: Page


class CorrectionsPort(Protocol):
    async def page(self, id: str, number: int) -> PageNow | None:
        """The page as it is now; None while it is not read."""

    async def version(self, id: str, number: int, version: int) -> Page:
        """The page as it was in that version."""

    async def versions(self, id: str, number: int) -> Sequence[VersionInfo]:
        """Oldest first; empty for a page that nobody changed."""

    async def change(self, id: str, number: int, version: int, changes: Sequence[Change], *, who: str) -> PageNow:
        """Save changes made to `version`: durable, and found by the search, when it returns; results follow."""

    async def restore(self, id: str, number: int, version: int, to: int, *, who: str) -> PageNow:
        """Make the page what it was in version `to`, as a new version."""

    async def reread(self, id: str, number: int, wish: Wish) -> Proposal:
        """Read the page once more, at a person's priority. Nothing is changed."""

    async def proposal(self, id: str, number: int, key: str) -> Proposal: ...

    async def accept(self, id: str, number: int, version: int, key: str, *, who: str) -> PageNow:
        """Take a proposal for the page."""

    async def doubtful(self, id: str, number: int, *, back: bool = False) -> int | None:
        """The next page after `number` (`back`: before it) with a doubtful place."""

    async def engines(self) -> Sequence[tuple[str, Sequence[Task]]]:
        """Who can read a page once more, and for which tasks."""

    async def exported(self, id: str) -> None:
        """Returns when the results hold all that was saved. Raises not_ready after a while."""
