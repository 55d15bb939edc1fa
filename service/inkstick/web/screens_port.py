"""What the screens Inbox, Documents, Failures and System ask of an office, beside what `OfficePort` itself says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from inkstick.appliance import Machine
from inkstick.appliance import Request as MachineRequest
from inkstick.inventory import Inventory
from inkstick.logring import Line
from inkstick.selftest import SelfTest
from inkstick.store.listing import Filter
from inkstick.store.strips import Strip
from inkstick.throughput import Series

if TYPE_CHECKING:
    from inkstick.web.office_port import DocumentInfo


@dataclass(frozen=True, slots=True)
class Remaining:
    """`pages`: still to be read of opened documents. `unopened`: documents nobody has opened yet. `mean_pages`: of the
    last ended documents, 0 if there are none."""

    pages: int = 0
    unopened: int = 0
    mean_pages: float = 0.0

    def seconds(self, pages_per_second: float) -> float | None:
        """About how long it will take, as the last documents went; None while that cannot be said."""
        if not pages_per_second or (self.unopened and not self.mean_pages):
            return None
        return (self.pages + self.unopened * self.mean_pages) / pages_per_second


@dataclass(frozen=True, slots=True)
class SystemInfo:
    """`series`: pages read in the last day. `log`: the last lines of our log. `offers`: see `inkstick.appliance`."""

    inventory: Inventory
    series: Series
    log: tuple[Line, ...] = ()
    offers: tuple[str, ...] = ()


class ScreensPort(Protocol):
    async def listed(self, wanted: Filter, *, after: int | None = None, limit: int = 50) -> Sequence[DocumentInfo]:
        """Newest first; `after`: only those with a smaller `seq` (the cursor)."""

    async def folders(self) -> Sequence[str]:
        """Folders below inbox/ that documents came from; the first 200."""

    async def strips(self, ids: Sequence[str]) -> Mapping[str, Strip]:
        """The strips of documents that have been opened."""

    async def remaining(self) -> Remaining: ...

    async def failures(self) -> Mapping[str, int]:
        """How many failed and partial documents there are by error code, the most frequent first."""

    async def remove(self, id: str) -> None:
        """Delete an ended document with its results and its original; returns when it is durably gone. Raises
        `UsageError` (not_ready) while it is worked on, or while its original lies in the inbox."""

    async def original_file(self, id: str) -> Path:
        """Where its bytes are now. Raises `UsageError` (not_found) if they are not kept here."""

    async def result_folder(self, id: str) -> Path:
        """Its folder below results/. Raises `UsageError` (not_ready) before there is one."""

    async def system(self) -> SystemInfo: ...

    async def self_test(self) -> SelfTest:
        """Read pages of known print with the primary engine, at a person's priority; nothing is stored."""

    async def diagnostics(self) -> bytes:
        """A ZIP archive without any text or name of a document."""

    async def appliance(self, action: str) -> None:
        """One of the offers of `system()`. Raises `UsageError` if it is not offered, `Unavailable` if it failed."""

    async def machine(self) -> Machine:
        """What the machine around the service tells now: sticks, and what its first start asks."""

    async def ask_machine(self, request: MachineRequest) -> None:
        """Leave a request for the machine. Raises `UsageError`, `Unavailable`."""
