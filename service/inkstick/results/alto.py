"""ALTO 4 XML, the archive standard: blocks, lines and words with boxes in pixels of the page as read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from inkstick.document import Box, Header, Kind, Page
from inkstick.results.layout import Area, TextLine, areas, pixels, xml_attribute, xml_text

_SCHEMA = "http://www.loc.gov/standards/alto/ns-v4#"
_LOCATION = f"{_SCHEMA} http://www.loc.gov/standards/alto/v4/alto-4-2.xsd"


def write(header: Header, pages: Iterable[Page], stem: Path) -> list[Path]:
    path = stem.with_name(stem.name + ".alto.xml")
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(_head(header))
        for page in pages:
            file.writelines(_page(page))
        file.write("</Layout>\n</alto>\n")
    return [path]


def _head(header: Header) -> str:
    version = header.versions.get("inkstick", "")
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<alto xmlns="{_SCHEMA}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="{_LOCATION}">
<Description>
<MeasurementUnit>pixel</MeasurementUnit>
<sourceImageInformation><fileName>{xml_text(header.name)}</fileName></sourceImageInformation>
<Processing ID="processing_1"><processingSoftware><softwareName>Inkstick</softwareName>\
<softwareVersion>{xml_text(version)}</softwareVersion></processingSoftware></Processing>
</Description>
<Layout>
"""


def _page(page: Page) -> Iterator[str]:
    # A page that could not be opened has no size; the standard wants some print space all the same
    width, height = max(page.width, 1), max(page.height, 1)
    score = f' PC="{_score(page.score)}"' if page.score is not None else ""
    yield (
        f'<Page ID="page_{page.number}" PHYSICAL_IMG_NR="{page.number}" WIDTH="{width}" HEIGHT="{height}"{score}>\n'
        f"<PrintSpace {_box((0, 0, width, height))}>\n"
    )
    for number, area in enumerate(areas(page), 1):
        yield from _block(area, f"page_{page.number}_block_{number}")
    pictures = [block for block in page.blocks if block.kind is Kind.FIGURE and block.box and not block.text.strip()]
    for number, block in enumerate(pictures, 1):
        assert block.box
        yield f'<Illustration ID="page_{page.number}_figure_{number}" {_box(pixels(block.box, page))}/>\n'
    yield "</PrintSpace>\n</Page>\n"


def _block(area: Area, name: str) -> Iterator[str]:
    yield f'<TextBlock ID="{name}" {_box(area.box)}>\n'
    for number, line in enumerate(area.lines, 1):
        yield f'<TextLine ID="{name}_line_{number}" {_box(line.box)}>{_words(line)}</TextLine>\n'
    yield "</TextBlock>\n"


def _words(line: TextLine) -> str:
    strings = (
        f"<String CONTENT={xml_attribute(word.text)} {_box(word.box)}"
        + (f' WC="{_score(word.score)}"' if word.score is not None else "")
        + "/>"
        for word in line.words
    )
    return "<SP/>".join(strings)


def _box(box: Box) -> str:
    return f'HPOS="{box[0]}" VPOS="{box[1]}" WIDTH="{box[2] - box[0]}" HEIGHT="{box[3] - box[1]}"'


def _score(score: float) -> str:
    return f"{min(max(score, 0.0), 1.0):.3f}"
