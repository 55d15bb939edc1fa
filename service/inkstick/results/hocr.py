"""hOCR: a web page whose classes and titles say where each word stands, in pixels of the page as read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from inkstick.document import Box, Header, Page
from inkstick.results.layout import Area, Word, areas, plain


def write(header: Header, pages: Iterable[Page], stem: Path) -> list[Path]:
    path = stem.with_name(stem.name + ".hocr.html")
    with path.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(_head(header))
        for page in pages:
            file.writelines(_page(page, header))
        file.write("</body>\n</html>\n")
    return [path]


def _head(header: Header) -> str:
    # The policy keeps a browser from loading or running anything, whatever the text says
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'"/>
<meta name="ocr-system" content="inkstick {_text(header.versions.get("inkstick", ""))}"/>
<meta name="ocr-capabilities" content="ocr_page ocr_carea ocr_par ocr_line ocrx_word ocrp_wconf"/>
<title>{_text(header.name)}</title>
</head>
<body>
"""


def _page(page: Page, header: Header) -> Iterator[str]:
    name = (page.part or header.name).replace('"', "'")
    title = f'image "{name}"; {_bbox((0, 0, page.width, page.height))}; ppageno {page.number - 1}'
    yield f'<div class="ocr_page" id="page_{page.number}" title="{_text(title)}">\n'
    for number, area in enumerate(areas(page), 1):
        yield from _area(area, f"{page.number}_{number}")
    yield "</div>\n"


def _area(area: Area, name: str) -> Iterator[str]:
    title = _bbox(area.box)
    yield f'<div class="ocr_carea" id="block_{name}" title="{title}"><p class="ocr_par" title="{title}">\n'
    for number, line in enumerate(area.lines, 1):
        words = " ".join(map(_word, line.words))
        yield f'<span class="ocr_line" id="line_{name}_{number}" title="{_bbox(line.box)}">{words}</span>\n'
    yield "</p></div>\n"


def _word(word: Word) -> str:
    sure = f"; x_wconf {round(100 * min(max(word.score, 0.0), 1.0))}" if word.score is not None else ""
    return f'<span class="ocrx_word" title="{_bbox(word.box)}{sure}">{_text(word.text)}</span>'


def _bbox(box: Box) -> str:
    return "bbox {} {} {} {}".format(*box)


def _text(text: str) -> str:
    return escape(plain(text))
