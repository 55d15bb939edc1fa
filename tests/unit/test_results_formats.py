from __future__ import annotations

import csv
import html
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from markdown_it import MarkdownIt

from inkstick.document import Block, Flag, Header, Kind, Line, Page, Part, Task, header_json, page_from_json
from inkstick.profile import Format
from inkstick.results import docx as docx_module
from inkstick.results.csv import harmless
from inkstick.results.formats import FORMATS, result_path
from inkstick.results.markdown import block_markdown, escape
from inkstick.results.notes import page_notes, ranges
from inkstick.results.tables import clean_html, grid, parse_table

TABLE = (
    '<table><tr><th rowspan="2">Item</th><th colspan="2">Price</th></tr>'
    "<tr><td>net</td><td>gross</td></tr><tr><td>Tea &amp; milk</td><td>-1.50</td><td>=1+1</td></tr></table>"
)
HEADER = Header("Bericht <1>.pdf", "ab" * 32, 123, "application/pdf", Task.PARSE, {"inkstick": "0.1.0"})
PAGE = Page(
    1, 1654, 2339, "rapidocr", "pp-ocrv6-small@3.10.0", seconds=2.1, score=0.97,
    blocks=(
        Block(1, Kind.TITLE, "Annual & Report", (100, 50, 900, 90), 0.99),
        Block(2, Kind.PARAGRAPH, "First line\nsecond 价值", (100, 100, 900, 160), 0.9,
              (Line("First line", (100, 100, 500, 125), 0.95), Line("second 价值", (100, 130, 480, 158), 0.85))),
        Block(3, Kind.LIST, "• one\n2) two", (100, 200, 900, 260)),
        Block(4, Kind.TABLE, TABLE, (100, 300, 900, 500)),
        Block(5, Kind.FORMULA, r"\frac{a}{b} < c", None),
        Block(6, Kind.FIGURE, "", (100, 600, 500, 900)),
    ),
)  # fmt: skip
FAILED = Page(2, 1654, 2339, None, flags=(), error={"code": "timeout", "message": "Too slow.", "hint": "Retry."})
FLAGGED = Page(3, 1654, 2339, "vllm", flags=(Flag.LOW_AGREEMENT,), blocks=(Block(1, Kind.PARAGRAPH, "text"),))
PAGES = (PAGE, FAILED, FLAGGED)

EVIL = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[click](javascript:alert(1))", "![x](http://e.org/a)",
    "https://evil.example/", "www.evil.example", "<https://evil.example>", "&lt;b&gt;", "&#60;", "# not a heading",
    "- no item", "1. no item", "> no quote", "---", "===", "```", "$$x$$", "| a | b |", "[x]: http://e.org", "*a* _b_",
    '"><svg onload=alert(1)>', "]]>", "--><script>", "\x00\x08\ufffe\ud800", "</String>",
)  # fmt: skip


def written(tmp_path: Path, format: Format, pages: Any = PAGES, header: Header = HEADER) -> str:
    paths = FORMATS[format].write(header, pages, tmp_path / "report")
    assert paths == [result_path(tmp_path, "report", format)]
    return paths[0].read_text(encoding="utf-8")


@pytest.mark.parametrize("format", list(FORMATS))
def test_the_same_pages_give_the_same_bytes(tmp_path: Path, format: Format) -> None:
    def once(folder: Path) -> list[bytes]:
        folder.mkdir()
        paths = FORMATS[format].write(HEADER, PAGES, folder / "report")
        assert paths and all(path.is_relative_to(folder) for path in paths)
        return [path.read_bytes() for path in paths]

    assert once(tmp_path / "a") == once(tmp_path / "b")


@pytest.mark.parametrize("format", [f for f in FORMATS if f is not Format.DOCX])
def test_writers_hold_one_page_at_a_time(tmp_path: Path, format: Format) -> None:
    alive: list[int] = []

    class Source:
        def __iter__(self) -> Iterator[Page]:
            for n in range(1, 300):
                page = _Counted(n, 100, 100, "e", blocks=PAGE.blocks)
                alive.append(len(_Counted.living))
                yield page
                del page

    FORMATS[format].write(HEADER, Source(), tmp_path / "report")
    assert alive and max(alive) <= 3


class _Counted(Page):
    living: set[int] = set()  # noqa: RUF012

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        _Counted.living.add(id(self))

    def __del__(self) -> None:
        _Counted.living.discard(id(self))


def test_the_record_holds_every_field_and_the_notes(tmp_path: Path) -> None:
    from inkstick.results import record

    (path,) = record.write(HEADER, PAGES, tmp_path / "report", ["pdf was not written"])
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["document"] == header_json(HEADER) | {"notes": ["pdf was not written"]}
    assert tuple(page_from_json(page) for page in data["pages"]) == PAGES


def test_markdown_reads_well(tmp_path: Path) -> None:
    text = written(tmp_path, Format.MD)
    assert text.startswith("> **Please check**\n>\n> - Page 2 could not be read: Too slow. (timeout)\n>\n> - Page 3: ")
    assert "<!-- page 1 -->\n\n# Annual & Report\n\nFirst line\nsecond 价值\n\n- one\n2. two\n\n<table>\n" in text
    assert '<tr><th rowspan="2">Item</th><th colspan="2">Price</th></tr>' in text
    assert "<td>Tea &amp; milk</td>" in text
    assert "$$\n\\frac{a}{b} \\lt  c\n$$" in text
    assert "*This page could not be read: Too slow.*" in text


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("evil", EVIL)
def test_printed_text_never_becomes_markup(kind: Kind, evil: str) -> None:
    shown = block_markdown(Block(1, kind, evil))
    if kind is Kind.CODE:
        fence = shown.split("\n")[0]
        assert set(fence) == {"`"} and fence not in shown[len(fence) : -len(fence)]
        return
    rest = re.sub(r"</?(table|tr|td|th)>|<!-- (figure|header|footer) -->", "", shown)
    assert not re.search(r"<\s*[a-zA-Z/!]", rest), shown
    if kind is not Kind.FORMULA:
        if kind is not Kind.TABLE:
            assert not re.search(r"(?<!\\)[\[\]`$|]", rest), shown
            assert not re.search(r"(?i)(https?|javascript):|www\.", rest), shown
    else:
        assert "$" not in shown[3:-3]


_TAG = re.compile(r"<(/?[a-zA-Z][^\s>]*)([^>]*)>")
_RENDER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_SNIPPETS = ("*", "_", "`", "[", "](", ")", "<b>", "<!--", "&lt;", "\\", "\n", "\n\n", "# ", "- ", "1. ", "> ", "~~",
             "    ", "|", "---", "===", "a", "文", "http://x.y", "\t", "![", "$", "\r", "\x0b", "\u2028")  # fmt: skip


@given(st.lists(st.sampled_from(_SNIPPETS + EVIL), max_size=12).map("".join))
def test_a_renderer_shows_a_paragraph_as_one_paragraph_of_text(text: str) -> None:
    shown = _RENDER.render(escape(text))
    assert {name.strip("/") for name, _ in _TAG.findall(shown)} <= {"p"}
    words = html.unescape(_TAG.sub("", shown)).split()
    assert words == html_words(text)
    assert shown.count("<p>") <= 1


def html_words(text: str) -> list[str]:
    """The words that a reader should see: NUL is shown as U+FFFD, says CommonMark."""
    return text.replace("\x00", "\ufffd").split()


@given(st.sampled_from(list(Kind)), st.lists(st.sampled_from(_SNIPPETS + EVIL), max_size=12).map("".join))
def test_a_renderer_finds_no_link_image_or_foreign_tag_in_any_block(kind: Kind, text: str) -> None:
    shown = _RENDER.render(block_markdown(Block(1, kind, text)))
    tags = _TAG.findall(re.sub(r"<!-- (figure|header|footer) -->", "", shown))
    allowed = {"p", "h1", "h2", "ul", "ol", "li", "em", "pre", "code", "table", "tr", "td", "th", "br", "br/"}
    if kind is not Kind.FORMULA:  # between dollars, a viewer that knows no formulas sees Markdown: harmless if no link
        assert {name.strip("/") for name, _ in tags} <= allowed
    assert not [
        attributes for name, attributes in tags if "href" in attributes or "src" in attributes or name == "script"
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 5 < 6 & 7", "plain text, 5 &lt; 6 & 7"),
        ("snake_case and _emphasis_", r"snake_case and \_emphasis\_"),
        ("# x\n1. y\n- z\n2024 was", "\\# x\n1\\. y\n\\- z\n2024 was"),
        ("3) c", r"3\) c"),
        ("C:\\temp", "C:\\\\temp"),
        ("see https://a.org or www.b.org", r"see https\://a.org or www\.b.org"),
        ("AT&amp;T", "AT&amp;amp;T"),
    ],
)
def test_markdown_escapes_only_what_it_must(text: str, shown: str) -> None:
    assert escape(text) == shown


@given(st.text())
def test_latex_stays_within_its_dollars(text: str) -> None:
    shown = block_markdown(Block(1, Kind.FORMULA, text))
    assert shown == "" or (shown.startswith("$$\n") and shown.endswith("\n$$") and shown.count("$") == 4)
    assert "<" not in shown and "\\href" not in block_markdown(Block(1, Kind.FORMULA, text + "\\href{a}{b}"))


def test_plain_text_has_form_feeds_and_tabs(tmp_path: Path) -> None:
    pages = written(tmp_path, Format.TXT).split("\f")
    assert len(pages) == 3
    assert "Tea & milk\t-1.50\t=1+1" in pages[0]
    assert pages[1] == "[Page 2 could not be read: Too slow.]\n"


ALTO = "{http://www.loc.gov/standards/alto/ns-v4#}"


def test_alto_has_lines_and_words_in_pixels(tmp_path: Path) -> None:
    written(tmp_path, Format.ALTO)
    tree = etree.parse(str(tmp_path / "report.alto.xml"))
    assert [page.get("ID") for page in tree.iter(f"{ALTO}Page")] == ["page_1", "page_2", "page_3"]
    block = list(tree.iter(f"{ALTO}TextBlock"))[1]
    assert [block.get(k) for k in ("HPOS", "VPOS", "WIDTH", "HEIGHT")] == ["165", "233", "1324", "141"]
    lines = list(block.iter(f"{ALTO}TextLine"))
    words = [word for line in lines for word in line.iter(f"{ALTO}String")]
    assert [word.get("CONTENT") for word in words] == ["First", "line", "second", "价值"]
    assert [word.get("WC") for word in words] == ["0.950", "0.950", "0.850", "0.850"]
    first, second = (int(word.get("HPOS")) for word in words[:2])
    assert first == 165 and first + int(words[0].get("WIDTH")) < second
    assert second + int(words[1].get("WIDTH")) == pytest.approx(1654 * 0.5, abs=3)
    assert len(list(tree.iter(f"{ALTO}Illustration"))) == 1


def test_hocr_has_boxes_and_confidence(tmp_path: Path) -> None:
    text = written(tmp_path, Format.HOCR)
    tree = etree.fromstring(text.encode())
    found = {
        name: tree.xpath(f"//*[@class='{name}']")
        for name in ("ocr_page", "ocr_carea", "ocr_par", "ocr_line", "ocrx_word")
    }
    assert len(found["ocr_page"]) == 3
    assert found["ocr_page"][0].get("title") == 'image "Bericht <1>.pdf"; bbox 0 0 1654 2339; ppageno 0'
    word = next(word for word in found["ocrx_word"] if word.text == "价值")
    assert re.fullmatch(r"bbox \d+ 304 \d+ 370; x_wconf 85", word.get("title"))
    assert len(found["ocr_carea"]) == len(found["ocr_par"]) == 6


@pytest.mark.parametrize("format", [Format.ALTO, Format.HOCR])
def test_xml_stays_well_formed_whatever_is_printed(tmp_path: Path, format: Format) -> None:
    blocks = tuple(Block(n, Kind.PARAGRAPH, evil) for n, evil in enumerate(EVIL, 1))
    header = Header('a"<b>&\x01\ud800.pdf', "", 0, "application/pdf")
    written(tmp_path, format, [Page(1, 10, 10, "e", part='"x"><script>', blocks=blocks)], header)
    tree = etree.parse(str(result_path(tmp_path, "report", format)))
    allowed = {"alto", "Description", "MeasurementUnit", "sourceImageInformation", "fileName", "Processing", "Layout",
               "processingSoftware", "softwareName", "softwareVersion", "Page", "PrintSpace", "TextBlock", "TextLine",
               "String", "SP", "html", "head", "meta", "title", "body", "div", "p", "span"}  # fmt: skip
    assert {etree.QName(element).localname for element in tree.iter()} <= allowed
    assert {name for element in tree.iter() for name in element.attrib if name.startswith("on")} == set()


def test_each_table_has_its_csv_with_spans_filled(tmp_path: Path) -> None:
    two = Page(12, 10, 10, "e", blocks=(Block(1, Kind.TABLE, TABLE), Block(2, Kind.TABLE, TABLE)))
    paths = FORMATS[Format.CSV].write(HEADER, (PAGE, two), tmp_path / "report")
    names = ["page-001-table-01.csv", "page-012-table-01.csv", "page-012-table-02.csv"]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [f"tables/{name}" for name in names]
    assert paths[0].read_bytes().startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(paths[0].read_text(encoding="utf-8-sig"))))
    assert rows == [["Item", "Price", "Price"], ["Item", "net", "gross"], ["Tea & milk", "-1.50", "'=1+1"]]


def test_no_table_no_folder(tmp_path: Path) -> None:
    assert FORMATS[Format.CSV].write(HEADER, (FLAGGED,), tmp_path / "report") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"])
def test_formulas_are_disarmed(cell: str) -> None:
    assert harmless(cell).startswith("'")


@pytest.mark.parametrize("cell", ["-1.50", "+3", "-1,234.50", "-5 %".replace(" ", ""), "-", "12", "abc", "-1'000"])
def test_plain_numbers_stay_numbers(cell: str) -> None:
    assert harmless(cell) == cell


@given(st.text())
def test_no_cell_starts_as_a_formula(text: str) -> None:
    shown = harmless(text)
    assert shown[:1] not in ("=", "@", "\t", "\r") or not shown
    if shown[:1] in ("+", "-"):
        assert not re.search(r"[A-Za-z!|()]", shown)


def test_docx_has_headings_lists_tables_and_breaks(tmp_path: Path) -> None:
    import docx

    FORMATS[Format.DOCX].write(HEADER, PAGES, tmp_path / "report")
    document = docx.Document(str(tmp_path / "report.docx"))
    styles = {p.text: p.style.name for p in document.paragraphs}
    assert styles["Annual & Report"] == "Title"
    assert styles["• one"] == "List Paragraph"
    assert "[Page 2 could not be read: Too slow.]" in styles
    table = document.tables[0]
    assert [cell.text for cell in table.rows[1].cells] == ["Item", "net", "gross"]
    assert table.cell(0, 1)._tc is table.cell(0, 2)._tc
    assert document.element.body.xml.count('w:type="page"') == 2


def test_docx_holds_nothing_that_acts_or_reaches_out(tmp_path: Path) -> None:
    blocks = tuple(Block(n, kind, evil) for kind in Kind for n, evil in enumerate(EVIL, 1))
    FORMATS[Format.DOCX].write(HEADER, [Page(1, 10, 10, "e", blocks=blocks)], tmp_path / "report")
    with zipfile.ZipFile(tmp_path / "report.docx") as package:
        names = package.namelist()
        relations = b"".join(package.read(name) for name in names if name.endswith(".rels"))
        etree.fromstring(package.read("word/document.xml"))
    assert b"External" not in relations
    assert not [name for name in names if "vba" in name.lower() or name.endswith(".bin")]


def test_a_long_docx_continues_in_further_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docx_module, "PAGES", 2)
    paths = FORMATS[Format.DOCX].write(HEADER, PAGES, tmp_path / "report")
    assert [path.name for path in paths] == ["report.docx", "report.2.docx"]


def test_notes_name_what_failed_and_what_needs_a_look() -> None:
    header = Header("a.zip", "", 1, "application/zip", parts=(Part("x.pdf", "", error={"code": "encrypted"}),))
    notes = page_notes(header, PAGES)
    assert notes[0] == "Page 2 could not be read: Too slow. (timeout)"
    assert notes[1].startswith("x.pdf could not be read")
    assert notes[2].startswith("Page 3: two readings differ") and notes[2].endswith("(low_agreement)")
    assert page_notes(HEADER, [PAGE]) == []
    assert ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"


def test_tables_keep_nothing_but_their_cells() -> None:
    source = '<table onclick="x"><tr><td style="a"><script>f(1)</script><a href="javascript:x">A</a><br>B</td></table>'
    assert clean_html(source) == "<table>\n<tr><td>A<br>B</td></tr>\n</table>"
    assert clean_html("just <b>text</b>") == "<table>\n<tr><td>just text</td></tr>\n</table>"


@pytest.mark.parametrize(
    ("span", "rows"),
    [("99999999999", ["a b b", "c  ", "d e "]), ("50", ["a b b", "a c ", "a d e"]), ("-1", ["a b b", "c  ", "d e "])],
)
def test_spans_never_overlap_or_run_away(span: str, rows: list[str]) -> None:
    source = f'<table><tr><td rowspan="{span}">a<td colspan="900">b</tr><tr><td>c</td></tr><tr><td>d<td>e</table>'
    table = grid(parse_table(source))
    assert [len(row) for row in table] == [201, 201, 201]
    assert [" ".join(row[:3]) for row in table] == rows


_TAGS = (
    "<table>",
    "<tr>",
    "<td>",
    "</td>",
    "</tr>",
    "</table>",
    '<td rowspan="3">',
    "<td colspan=2>",
    "x",
    "<b",
    "&lt;",
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(_TAGS)).map("".join))
def test_broken_tables_give_a_rectangle_and_clean_html(source: str) -> None:
    rows = grid(parse_table(source))
    assert len({len(row) for row in rows}) <= 1
    assert parse_table(clean_html(source)) == parse_table(clean_html(clean_html(source)))
    etree.fromstring(clean_html(source).replace("<br>", "<br/>"))


@pytest.mark.parametrize("line", ["3.5 kg of rice", "1.000,00 EUR", "2024.05.01 opened", "12.75"])
def test_a_number_that_begins_a_line_of_a_list_stays_one_number(line: str) -> None:
    shown = _RENDER.render(block_markdown(Block(1, Kind.LIST, line)))
    assert re.sub(r"<[^>]*>", "", shown).strip() == line


@pytest.mark.parametrize(
    "lists", [["1. a\n2. b\n5. c\n6. d"], ["10. a\n20. b\n• x\n30. c"], ["007. a", "1. b"], ["3. a", "9. b"]]
)
def test_a_viewer_shows_the_numbers_of_a_list_that_are_printed(tmp_path: Path, lists: list[str]) -> None:
    page = Page(1, 100, 100, "vllm", blocks=tuple(Block(n, Kind.LIST, text) for n, text in enumerate(lists, 1)))
    shown = etree.fromstring(f"<x>{_RENDER.render(written(tmp_path, Format.MD, [page]))}</x>")
    seen = []
    for items in shown.iter("ul", "ol"):
        for n, item in enumerate(items.iter("li"), int(items.get("start", 1))):
            number = f"{n}. " if items.tag == "ol" else ""
            seen.append(number + " ".join("".join(item.itertext()).split()))
    assert seen == [line.removeprefix("• ") for text in lists for line in text.splitlines()]


NUMBERS = (
    ("<td><p>1</p><p>2</p></td>", "1\n2"),
    ("<td><ul><li>10<li>20</ul></td>", "10\n20"),
    ("<td>1,250<sup>2</sup></td>", "1,250²"),
    ("<td>4<sup>th</sup> of <b>1</b>2</td>", "4th of 12"),
    ("<td>1<table><tr><td>2</td><td>3</td></tr></table>4</td>", "1\n2\n3\n4"),
)


@pytest.mark.parametrize(("cell", "text"), NUMBERS)
def test_numbers_that_stand_apart_in_a_cell_are_not_one_number(cell: str, text: str) -> None:
    assert grid(parse_table(f"<table><tr>{cell}</tr></table>")) == [[text]]


def test_a_row_that_cells_above_fill_is_a_row() -> None:
    source = (
        '<table><tr></tr><tr><td rowspan="2">a</td><td rowspan="2">1</td></tr><tr></tr>'
        "<tr><td>b</td><td>2</td></tr><tr></tr></table>"
    )
    assert grid(parse_table(source)) == [["a", "1"], ["a", "1"], ["b", "2"]]
    assert grid(parse_table(clean_html(source))) == grid(parse_table(source))
