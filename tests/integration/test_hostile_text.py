"""Five hundred payloads as recognised text, in every result format: none acts, and no file lies where it should not.

The formats are opened with other people's readers (csv, zipfile, an XML and an HTML parser, a Markdown renderer,
MuPDF), not with our own.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pymupdf
import pytest
from markdown_it import MarkdownIt
from PIL import Image, ImageDraw

from inkstick.config import Settings
from inkstick.office import Office
from inkstick.profile import Format
from inkstick.reading.reader import Engines
from inkstick.web.app import create_app
from support import hostile_reader, numbered, payloads
from support.pages import font

ENDED = ("done", "partial", "failed")
NUMBER = re.compile(r"[+-]?(\d[\d.,'’\u00a0\u202f ]*)?%?")
"""What a cell may be that begins with a sign."""


@asynccontextmanager
async def office(data: Path, engines: Engines | None) -> AsyncIterator[tuple[Office, httpx.AsyncClient]]:
    settings = Settings(data=data, reserve_bytes=0, parsers=2, workers=1)
    office = Office(settings, engines=engines)
    await office.start()
    transport = httpx.ASGITransport(create_app(office))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", timeout=60) as client:
            yield office, client
    finally:
        await office.close()


async def read(
    office: Office, client: httpx.AsyncClient, name: str, data: bytes, formats: str = ",".join(Format)
) -> Path:
    """The result folder of a document that was uploaded under `name`."""
    answer = await client.post("/api/v1/documents", params={"formats": formats}, files={"file": (name, data)})
    assert answer.status_code == 201, answer.text
    info = await office.document(answer.json()["id"])
    while info.state not in ENDED:
        await office.wait_event(after=await office.last_event(), timeout=0.2)
        info = await office.document(info.id)
    assert info.results, (info.code, info.message)
    return office.settings.folder.results / info.results


# What a file may not hold


class Markup(HTMLParser):
    """Tags and attributes of some HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}


def markup(text: str) -> Markup:
    found = Markup()
    found.feed(text)
    found.close()
    return found


def no_markdown_acts(text: str) -> None:
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    found = markup(html)
    passive = {"h1", "h2", "h3", "h4", "h5", "h6", "p", "em", "strong", "ul", "ol", "li", "table", "thead", "tbody",
               "tr", "th", "td", "br", "hr", "pre", "code", "blockquote"}  # fmt: skip
    assert found.tags <= passive, found.tags - passive
    assert {name for name, _ in found.attributes} <= {"rowspan", "colspan", "start", "class"}, found.attributes


def no_cell_is_a_formula(path: Path) -> None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.reader(file):
            for cell in row:
                visible = "".join(char for char in cell if unicodedata.category(char) not in ("Cf", "Cc", "Zs"))
                assert visible[:1] not in tuple("=+-@＝＋－＠") or NUMBER.fullmatch(cell), repr(cell)
                assert not any(unicodedata.category(char) == "Cc" for char in cell), repr(cell)


def no_part_of_the_docx_acts(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            assert not re.search(r"vba|macro|embeddings|activeX|externalLink", name, re.IGNORECASE), name
            if not name.endswith((".xml", ".rels")):
                continue
            text = archive.read(name).decode("utf-8")
            ElementTree.fromstring(text)
            assert not re.search(r"<w:(fldSimple|instrText|hyperlink|altChunk|object|pict)\b|<o:OLE", text), name
            assert 'TargetMode="External"' not in text, name


def no_object_of_the_pdf_acts(path: Path) -> None:
    with pymupdf.open(path) as pdf:
        for xref in range(1, pdf.xref_length()):
            text = pdf.xref_object(xref, compressed=True)
            assert not re.search(r"/(JavaScript|JS|Launch|URI|SubmitForm|OpenAction|AA|EmbeddedFile|GoToR)\b", text)
        assert [link for page in pdf for link in page.get_links()] == []


PASSIVE = {"class", "id", "title", "lang", "xml:lang", "xmlns", "name", "content", "http-equiv", "charset", "dir"}


def no_hocr_acts(text: str) -> None:
    found = markup(text)
    assert found.tags <= {"html", "head", "title", "meta", "body", "div", "p", "span", "h1", "h2", "h3"}, found.tags
    assert {name for name, _ in found.attributes} <= PASSIVE, found.attributes
    directives = {value.lower() for name, value in found.attributes if name == "http-equiv"}
    assert directives <= {"content-type", "content-security-policy"}, "a page of its own accord goes elsewhere"


def no_terminal_acts(text: str) -> None:
    bad = {char for char in text if unicodedata.category(char) == "Cc" and char not in "\n\t\f"}
    assert bad == set(), bad


def nothing_acts(folder: Path) -> str:
    """Look at every file of a result folder; its plain text."""
    (text,) = folder.glob("*.txt")
    (markdown,) = folder.glob("*.md")
    (hocr,) = folder.glob("*.hocr.html")
    (alto,) = folder.glob("*.alto.xml")
    (docx,) = folder.glob("*.docx")
    (record,) = folder.glob("*.json")
    no_terminal_acts(text.read_text(encoding="utf-8"))
    no_markdown_acts(markdown.read_text(encoding="utf-8"))
    no_terminal_acts(markdown.read_text(encoding="utf-8"))
    no_hocr_acts(hocr.read_text(encoding="utf-8"))
    assert "<!ENTITY" not in alto.read_text(encoding="utf-8").split("<Layout")[0]
    ElementTree.parse(alto)
    no_part_of_the_docx_acts(docx.read_bytes())
    assert json.loads(record.read_text(encoding="utf-8"))["inkstick"] == 1
    no_terminal_acts(record.read_text(encoding="utf-8"))
    for path in folder.glob("*.pdf"):
        no_object_of_the_pdf_acts(path)
    for path in folder.glob("tables/*.csv"):
        no_cell_is_a_formula(path)
    return text.read_text(encoding="utf-8")


def strangers(data: Path, before: set[Path]) -> Iterator[Path]:
    """What lies where nothing should, or is no plain file or folder, or has a name that acts. (An original keeps the
    name that it came with, but for control characters.)"""
    yield from set(data.parent.iterdir()) - before
    for path in data.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            yield path
        bad = ("Cc",) if path.parent.name == "done" else ("Cc", "Cf")
        if any(unicodedata.category(char) in bad and char not in "\u200c\u200d" for char in path.name):
            yield path


# The tests


async def test_five_hundred_payloads_act_in_no_result_format(tmp_path: Path) -> None:
    data, before = tmp_path / "data", set(tmp_path.iterdir()) | {tmp_path / "data"}
    async with office(data, Engines(hostile_reader.HostileReader())) as (desk, client):
        folder = await read(desk, client, "five hundred.pdf", numbered.pdf(range(hostile_reader.PAGES)))
        text = nothing_acts(folder)
    missing = [n for n in range(payloads.COUNT) if f"P{n:04d}" not in text]
    assert missing == [], "payloads that never arrived prove nothing"
    assert len(list(folder.glob("tables/*.csv"))) >= hostile_reader.PAGES
    assert list(strangers(data, before)) == []


async def test_no_name_leads_out_of_the_results_or_acts(tmp_path: Path) -> None:
    data, before = tmp_path / "data", set(tmp_path.iterdir()) | {tmp_path / "data"}
    picture = numbered.png(0)
    async with office(data, Engines(hostile_reader.HostileReader())) as (desk, client):
        for name in payloads.NAMES:
            folder = await read(desk, client, name, picture, "md")
            assert folder.parent == data / "results", name
            assert folder.resolve() == folder, name
            assert all(path.resolve().is_relative_to(folder) for path in folder.rglob("*")), name
    assert len(list((data / "done").iterdir())) == len(payloads.NAMES)
    assert list(strangers(data, before)) == []
    assert not list(tmp_path.rglob("pwned"))


PRINTED = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)>",
    "=HYPERLINK(\"http://pwned.test\",\"x\")",
    "@SUM(1+1)*cmd|'/C calc'!A0",
    "![x](http://pwned.test/p.png)",
    "[click](javascript:alert(1))",
    "<iframe src=//pwned.test></iframe>",
    "../../../../etc/passwd",
    "{{ 7*7 }} ${7*7} {% raw %}",
    "<a href=http://pwned.test>here</a>",
)  # fmt: skip


def printed() -> bytes:
    page = Image.new("RGB", (1654, 2339), "white")
    draw = ImageDraw.Draw(page)
    for n, line in enumerate(PRINTED):
        draw.text((120, 160 + 110 * n), line, fill="black", font=font("helv", 44))
    out = io.BytesIO()
    page.save(out, "PNG")
    return out.getvalue()


@pytest.mark.slow
async def test_payloads_printed_on_paper_and_read_by_the_real_engine_act_nowhere(tmp_path: Path) -> None:
    async with office(tmp_path / "data", None) as (desk, client):
        text = nothing_acts(await read(desk, client, "printed.png", printed()))
    for word in ("script", "onerror", "HYPERLINK", "javascript", "passwd", "pwned"):
        assert word.lower() in text.lower(), f"{word} was not read: the test would prove nothing"
