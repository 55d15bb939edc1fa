"""Markdown (CommonMark with tables as HTML and formulas as ``$$…$$``).

The text of a page is whatever somebody printed: it must never become markup. Every character that could start a link,
raw HTML, an image or a construct that we did not mean is escaped; tables are rebuilt from their cells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from inkstick.document import Block, Header, Kind, Page
from inkstick.results.notes import page_notes
from inkstick.results.tables import clean_html
from inkstick.results.text import without_controls

_INLINE = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_LINK = re.compile(r"(?i)\b(?:(https?|ftp|mailto|xmpp|javascript|data|file)(:)|(www)(\.))")
_LINE_START = re.compile(r"(?m)^([#>+=:-]|\d{1,9}(?=[.)]))")
_BULLET = re.compile(r"^[•‣▪■●○◦·∙*–—-]\s+")
_NUMBER = re.compile(r"^(\d{1,9})[.)、](?!\d)\s*")  # not the 3 of 3.5
_LATEX_DANGER = re.compile(r"\\+(?=(?:href|url|html\w*|include\w*|input|require|write|read|open\w*|def|catcode)\b)")


def write(header: Header, pages: Iterable[Page], stem: Path) -> list[Path]:
    path = stem.with_name(stem.name + ".md")
    with path.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.writelines(without_controls(chunk) for chunk in _chunks(header, pages))
    return [path]


def _chunks(header: Header, pages: Iterable[Page]) -> Iterator[str]:
    notes = page_notes(header, pages)
    if notes:
        yield "> **Please check**\n" + "".join(f">\n> - {escape(note)}\n" for note in notes) + "\n"
    part = None
    for page in pages:
        if page.part != part:
            part = page.part
            yield f"<!-- from: {_comment(part or '')} -->\n"
        yield f"<!-- page {page.number} -->\n\n"
        if page.error is not None:
            yield f"*This page could not be read: {escape(page.error.get('message', ''))}*\n\n"
        before = None
        for block in page.blocks:
            if before is block.kind is Kind.LIST:  # two lists in a row would be one, and numbered as one
                yield "<!-- list -->\n\n"
            before = block.kind
            yield from (f"{text}\n\n" for text in (block_markdown(block),) if text)


def block_markdown(block: Block) -> str:
    """One block as Markdown, without a blank line after it; empty for a block without text."""
    text = block.text.strip()
    if not text:
        return "<!-- figure -->" if block.kind is Kind.FIGURE else ""
    match block.kind:
        case Kind.TITLE:
            return f"# {_one_line(text)}"
        case Kind.HEADING:
            return f"{'#' * min(max(block.level or 2, 1), 6)} {_one_line(text)}"
        case Kind.LIST:
            return "\n".join(_items(text.splitlines()))
        case Kind.TABLE:
            return clean_html(text)
        case Kind.FORMULA:
            return f"$$\n{_latex(text)}\n$$"
        case Kind.CODE:
            return _code(text)
        case Kind.CAPTION:
            return f"*{_one_line(text)}*"
        case Kind.HEADER | Kind.FOOTER | Kind.FIGURE:
            return f"<!-- {block.kind} -->\n\n{escape(text)}"
        case _:
            return escape(text)


def escape(text: str) -> str:
    """`text` so that Markdown shows it as it is, line for line."""
    lines = (line.strip() for line in text.splitlines())
    text = "\n".join(line for line in lines if line)
    text = _INLINE.sub(lambda match: "\\" + match[0], text)
    text = _ENTITY.sub("&amp;", text).replace("<", "&lt;")
    text = _LINK.sub(lambda m: f"{m[1] or m[3]}\\{m[2] or m[4]}", text)
    return _LINE_START.sub(_escape_start, text)


def _escape_start(match: re.Match[str]) -> str:
    start = match[1]
    if start[0].isdigit():  # "1." becomes "1\.": the mark to be escaped follows the number
        return f"{start}\\"
    return f"\\{start}"


def _one_line(text: str) -> str:
    return escape(" ".join(text.split()))


def _items(lines: Iterable[str]) -> Iterator[str]:
    """A viewer counts on from a list's first number, so that the printed ones are part of the text where they do not
    follow one another."""
    last: int | None = None
    for line in map(str.strip, lines):
        found = _NUMBER.match(line)
        number = int(found[1]) if found and str(int(found[1])) == found[1] else None
        if found is None:
            yield f"- {escape(_BULLET.sub('', line))}"
        elif number is not None and last in (None, number - 1):
            yield f"{number}. {escape(line[found.end() :])}"
        else:
            yield f"- {escape(line)}"
            number = None
        last = number


def _latex(text: str) -> str:
    """LaTeX that stays inside its dollars and can neither link nor load, also where a viewer takes it for text."""
    text = "\n".join(line for line in text.splitlines() if line.strip())
    text = _LATEX_DANGER.sub("", text.replace("$", ""))
    text = re.sub(r"\](?=[(\[:])", "] ", text)  # no link or image; a blank means nothing in LaTeX
    return text.replace("<", "\\lt ").replace(">", "\\gt ")


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _comment(text: str) -> str:
    return re.sub(r"[<>\s]+|-{2,}", " ", text).strip(" -")
