"""Documents become page views; processes die and are replaced; one document never hurts another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pymupdf
import pytest
import pytest_asyncio
from PIL import Image, ImageDraw

from corpora import hostile
from inkstick.document import Block, Flag, Kind, Line, Page, page_json
from inkstick.errors import Damaged, DocumentError, Encrypted, Internal, Unsupported
from inkstick.pages.child import MODULE, Child
from inkstick.pages.pool import PagePool
from inkstick.pages.sandbox import Sandbox
from inkstick.pages.view import Budget, Ink, PageView, TextLayerMode
from inkstick.supervise.process import descendants
from support.units import Units
from support.until import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("parsers")]
PROSE = [
    "The committee met on Tuesday to consider the report of the auditors.",
    "It was agreed that the accounts for the year were complete and correct.",
    "Members thanked the treasurer for her patience with the missing receipts.",
] * 9


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["child", "unit"])
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[PagePool]:
    """Parsers as children of this process, and as systemd would start them."""
    with contextlib.ExitStack() as stack:
        units = stack.enter_context(Units()).path if request.param == "unit" else None
        pool = PagePool(processes=2, page_seconds=20, units=units)
        await pool.start()
        yield pool
        await pool.close()


def prose(pages: int = 1, rotation: int = 0) -> bytes:
    document = pymupdf.open()
    for number in range(pages):
        page = document.new_page()
        page.insert_text((72, 60), f"Page {number + 1}", fontsize=16)
        for i, line in enumerate(PROSE):
            page.insert_text((72, 100 + 24 * i), line, fontsize=12)
        page.set_rotation(rotation)
    return bytes(document.tobytes())


def scanned(turn: int = 0, kind: str = "PNG") -> bytes:
    """A page of prose as an image, turned clockwise."""
    pixmap = pymupdf.open(stream=prose(), filetype="pdf")[0].get_pixmap(dpi=150)
    image = Image.open(BytesIO(pixmap.tobytes("png"))).rotate(-turn, expand=True)
    out = BytesIO()
    image.save(out, kind, dpi=(150, 150))
    return out.getvalue()


async def view(pool: PagePool, path: Path, media_type: str = "application/pdf", **options: object) -> PageView:
    document = await pool.open(path, media_type)
    try:
        return await document.page(1, budget=Budget(), **options)  # type: ignore[arg-type]
    finally:
        await document.close()


def kill_parsers(pool: PagePool) -> None:
    """As documents would. A unit's parser is the child of a warden, which is one of ours."""
    lives = [seat.process.life for seat in pool._seats if seat.process]
    assert len(lives) == 2
    if all(isinstance(life, Child) for life in lives):
        for life in lives:
            assert isinstance(life, Child)
            os.killpg(life.popen.pid, signal.SIGKILL)
    else:
        below = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(os.getpid())}
        parsers = [pid for pid, command in below.items() if MODULE.encode() in command]
        assert len(parsers) == 2
        for parser in parsers:
            os.kill(parser, signal.SIGKILL)


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    path = tmp_path / "prose.pdf"
    path.write_bytes(prose(6))
    return path


async def test_a_born_digital_page_comes_with_its_words(pool: PagePool, pdf: Path) -> None:
    page = await view(pool, pdf)
    assert page.ink is Ink.PRINTED
    assert page.rotation == 0
    assert 0.9 < page.pixels.width * page.pixels.height / Budget().pixels <= 1.01
    layer = page.text_layer
    assert layer is not None
    assert layer.good
    assert layer.born_digital
    assert layer.words[2].text == "The"
    x0, y0, _, y1 = layer.words[2].box
    assert x0 == pytest.approx(72 / 595 * 1000, abs=2)
    assert y0 < 100 / 842 * 1000 < y1


async def test_the_text_layer_can_be_left_out(pool: PagePool, pdf: Path) -> None:
    assert (await view(pool, pdf, mode=TextLayerMode.SKIP)).text_layer is None


@pytest.mark.parametrize("rotation", [90, 180, 270])
async def test_a_page_that_its_pdf_turns_sideways_is_made_upright(
    pool: PagePool, tmp_path: Path, rotation: int
) -> None:
    path = tmp_path / "turned.pdf"
    path.write_bytes(prose(rotation=rotation))
    page = await view(pool, path)
    assert page.rotation == 360 - rotation
    assert Flag.ROTATED in page.flags
    assert page.text_layer is not None
    x0, y0, _, y1 = page.text_layer.words[2].box
    assert x0 == pytest.approx(72 / 595 * 1000, abs=3)
    assert y0 < 100 / 842 * 1000 < y1


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
async def test_a_scan_is_turned_upright(pool: PagePool, tmp_path: Path, turn: int) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(scanned(turn))
    page = await view(pool, path, "image/png")
    assert page.rotation == (360 - turn) % 360
    assert page.pixels.height > page.pixels.width
    assert page.dpi == pytest.approx(150, abs=1)


async def test_a_blank_page_is_said_and_never_turned(pool: PagePool, tmp_path: Path) -> None:
    path = tmp_path / "blank.tif"
    Image.new("L", (1240, 1754), 250).save(path, dpi=(150, 150))
    page = await view(pool, path, "image/tiff")
    assert page.ink is Ink.BLANK
    assert page.flags == (Flag.BLANK,)


async def test_exif_orientation_is_applied(pool: PagePool, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    image = Image.open(BytesIO(scanned())).convert("RGB").rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to see it upright
    image.save(path, exif=exif, dpi=(150, 150))
    page = await view(pool, path, "image/jpeg")
    assert page.pixels.height > page.pixels.width
    assert page.rotation == 0


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "I;16"])
async def test_every_mode_becomes_rgb_on_white(pool: PagePool, tmp_path: Path, mode: str) -> None:
    image = Image.new("L", (900, 1200), 255)
    ImageDraw.Draw(image).rectangle((100, 100, 400, 400), fill=0)
    path = tmp_path / "image.tif"
    if mode == "I;16":
        Image.fromarray(np.asarray(image).astype(np.uint16) * 257).save(path)
    else:
        image.convert(mode).save(path)
    pixels = (await view(pool, path, "image/tiff", orient=False)).pixels
    assert (pixels.width, pixels.height) == (900, 1200)
    assert pixels.data[:3] == b"\xff\xff\xff"
    middle = (250 * 900 + 250) * 3
    assert max(pixels.data[middle : middle + 3]) < 40


async def test_every_page_of_a_tiff_is_its_own(pool: PagePool, tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    frames = [Image.new("L", (600, 800), shade) for shade in (0, 120, 255)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    document = await pool.open(path, "image/tiff")
    assert document.probe.pages == 3
    shades = [(await document.page(n, budget=Budget(), orient=False)).pixels.data[0] for n in (3, 1, 2, 3)]
    assert shades == [255, 0, 120, 255]
    await document.close()


async def test_pages_of_one_document_are_rendered_side_by_side(pool: PagePool, pdf: Path) -> None:
    document = await pool.open(pdf, "application/pdf")
    pages = await asyncio.gather(*(document.page(n, budget=Budget()) for n in range(1, 7)))
    await document.close()
    words = [page.text_layer.words[1].text for page in pages if page.text_layer]
    assert words == ["1", "2", "3", "4", "5", "6"]


async def test_a_document_may_be_moved_while_it_is_open(pool: PagePool, pdf: Path) -> None:
    document = await pool.open(pdf, "application/pdf")
    pdf.rename(pdf.with_name("moved.pdf"))
    pages = await asyncio.gather(*(document.page(n, budget=Budget()) for n in range(1, 5)))
    assert len(pages) == 4
    await document.close()


async def test_processes_that_were_killed_while_idle_are_replaced_and_the_document_goes_on(
    pool: PagePool, pdf: Path
) -> None:
    document = await pool.open(pdf, "application/pdf")
    processes = [seat.process for seat in pool._seats]
    kill_parsers(pool)
    await until(lambda: all(process is not None and process.gone for process in processes))
    again = await asyncio.gather(*(document.page(n, budget=Budget()) for n in (1, 2, 3)))
    assert [page.number for page in again] == [1, 2, 3]
    await document.close()


async def test_a_cancelled_call_tears_nothing(pool: PagePool, pdf: Path) -> None:
    document = await pool.open(pdf, "application/pdf")
    calls = [asyncio.create_task(document.page(n % 6 + 1, budget=Budget())) for n in range(12)]
    await asyncio.sleep(0.1)
    for call in calls[::2]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, PageView) for result in results[1::2])
    await document.close()
    assert (await view(pool, pdf)).number == 1


async def test_many_documents_open_at_once(pool: PagePool, tmp_path: Path) -> None:
    documents = []
    for n in range(7):
        path = tmp_path / f"{n}.pdf"
        path.write_bytes(prose(n + 1))
        documents.append(await pool.open(path, "application/pdf"))
    assert [document.probe.pages for document in documents] == list(range(1, 8))
    pages = await asyncio.gather(*(d.page(d.probe.pages, budget=Budget()) for d in documents))
    assert [p.text_layer.words[1].text for p in pages if p.text_layer] == [str(n) for n in range(1, 8)]
    for document in documents:
        await document.close()


async def test_a_password_opens_what_is_locked(pool: PagePool, tmp_path: Path) -> None:
    path = tmp_path / "locked.pdf"
    path.write_bytes(hostile.encrypted())
    with pytest.raises(Encrypted, match=r"password\.$"):
        await pool.open(path, "application/pdf")
    with pytest.raises(Encrypted, match="none of those that were tried"):
        await pool.open(path, "application/pdf", passwords=["wrong"])
    document = await pool.open(path, "application/pdf", passwords=["wrong", "secret"])
    assert document.probe.pages == 1
    await document.close()


async def test_a_page_is_shown_to_people(pool: PagePool, pdf: Path) -> None:
    document = await pool.open(pdf, "application/pdf")
    image = Image.open(BytesIO(await document.image(1, max_side=500)))
    sideways = Image.open(BytesIO(await document.image(1, max_side=500, rotation=90)))
    assert max(image.size) == 500
    assert image.size == sideways.size[::-1]
    await document.close()


async def test_what_is_not_a_document_is_refused(pool: PagePool, tmp_path: Path) -> None:
    with pytest.raises(Damaged):
        await pool.open(tmp_path / "missing.pdf", "application/pdf")
    with pytest.raises(Unsupported):
        await pool.open(tmp_path, "application/pdf")
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(Unsupported):
        await pool.open(tmp_path / "x", "image/svg+xml")


async def test_a_page_that_is_not_there_is_an_error_of_its_own(pool: PagePool, pdf: Path) -> None:
    document = await pool.open(pdf, "application/pdf")
    with pytest.raises(DocumentError):
        await document.page(99, budget=Budget())
    assert (await document.page(1, budget=Budget())).number == 1
    await document.close()
    with pytest.raises(Internal):
        await document.page(1, budget=Budget())


async def test_it_works_without_bubblewrap_too(pdf: Path) -> None:
    pool = PagePool(processes=1, page_seconds=20, sandbox=Sandbox(None, "left out for this test"))
    await pool.start()
    try:
        assert (await view(pool, pdf)).ink is Ink.PRINTED
        assert "left out" in pool.describe()["outer"]
    finally:
        await pool.close()


async def test_no_process_is_left_behind(pdf: Path) -> None:
    pool = PagePool(processes=2, page_seconds=20)
    await pool.start()
    lives = [seat.process.life for seat in pool._seats if seat.process]
    await pool.close()
    assert len(lives) == 2
    assert all(isinstance(life, Child) and life.popen.poll() is not None for life in lives)


async def test_a_searchable_copy_has_the_text_behind_the_scan(pool: PagePool, tmp_path: Path) -> None:
    scan, records, out = tmp_path / "scan.pdf", tmp_path / "pages.jsonl", tmp_path / "out.pdf"
    document = pymupdf.open()
    document.new_page().insert_image((0, 0, 595, 842), stream=scanned())
    scan.write_bytes(document.tobytes())
    line = Line("The committee met", (100, 100, 900, 130))
    block = Block(1, Kind.PARAGRAPH, line.text, line.box, lines=(line,))
    records.write_text(json.dumps(page_json(Page(1, 1550, 2190, "rapidocr", blocks=(block,)))) + "\n")
    await pool.searchable_pdf(scan, "application/pdf", records, out)
    assert "The committee met" in pymupdf.open(out)[0].get_text()


async def test_a_searchable_copy_that_fails_leaves_no_file(pool: PagePool, tmp_path: Path) -> None:
    broken, records, out = tmp_path / "broken.pdf", tmp_path / "pages.jsonl", tmp_path / "out.pdf"
    broken.write_bytes(b"%PDF-1.7\nnothing")
    records.write_text("")
    with pytest.raises(DocumentError):
        await pool.searchable_pdf(broken, "application/pdf", records, out)
    assert not out.exists()
