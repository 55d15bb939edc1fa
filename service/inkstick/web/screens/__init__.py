"""The screens, one module each: a router and its templates. All work without JavaScript."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the navigation. `name` marks the current page; `title` is an English sentence, translated."""

    name: str
    address: str
    title: str


NAVIGATION: tuple[Entry, ...] = (
    Entry("inbox", "/", "Inbox"),
    Entry("documents", "/documents", "Documents"),
    Entry("failures", "/failures", "Failures"),
    Entry("folders", "/folders", "Folders"),
    Entry("ask", "/ask", "Ask"),
    Entry("system", "/system", "System"),
    Entry("docs", "/docs", "For programs"),
)
