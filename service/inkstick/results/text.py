"""Plain text: blocks parted by a blank line, pages by a form feed, table cells by tabs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from inkstick.document import Block, Header, Kind, Page
from inkstick.results.tables import plain_text


def write(header: Header, pages: Iterable[Page], stem: Path) -> list[Path]:
    path = stem.with_name(stem.name + ".txt")
    with path.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        for index, page in enumerate(pages):
            file.write("\f" if index else "")
            file.write(page_text(page))
    return [path]


def page_text(page: Page) -> str:
    """The page's text, ending in a newline; one line in brackets for a page that could not be read."""
    if page.error is not None:
        return f"[Page {page.number} could not be read: {page.error.get('message', '')}]\n"
    texts = (block_text(block) for block in page.blocks)
    return "\n\n".join(text for text in texts if text) + "\n"


def block_text(block: Block) -> str:
    text = plain_text(block.text) if block.kind is Kind.TABLE else block.text
    return without_controls(text.strip())


def without_controls(text: str) -> str:
    """The text without control characters but line ends and tabs: a terminal would act on them (0x7f to 0x9f too)."""
    return "".join(char for char in text if char in "\n\t" or not (ord(char) < 32 or 127 <= ord(char) < 160))
