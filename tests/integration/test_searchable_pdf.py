"""Text found in the searchable PDF lies where it is printed: the drawn page is the judge, poppler an outside check."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from inkstick.document import Block, Box, Flag, Kind, Line, Page, page_json
from inkstick.errors import Damaged, DiskFull, Empty, Encrypted
from inkstick.pages.pdf import to_display
from inkstick.results.imagepdf import pictures
from inkstick.results.pdf import add_text_layer

pymupdf = pytest.importorskip("pymupdf")

SIDE = 1000


def record(number: int, lines: Sequence[tuple[str, Box]], size: tuple[int, int], **more: Any) -> Page:
    made = tuple(Line(text, box) for text, box in lines)
    blocks = tuple(Block(n, Kind.PARAGRAPH, line.text, line.box, lines=(line,)) for n, line in enumerate(made, 1))
    return Page(number, *size, more.pop("engine", "rapidocr"), blocks=blocks, **more)


def searchable(tmp_path: Path, source: bytes, pages: Sequence[Page], media: str = "application/pdf") -> Any:
    (tmp_path / "in").write_bytes(source)
    (tmp_path / "pages.jsonl").write_text("".join(json.dumps(page_json(p)) + "\n" for p in pages), encoding="utf-8")
    add_text_layer(tmp_path / "in", media, tmp_path / "pages.jsonl", tmp_path / "out.pdf")
    document = pymupdf.open(tmp_path / "out.pdf")
    assert not document.is_repaired
    return document


def black_box(page: Any) -> Box:
    """Where the ink is on the page as displayed, in thousandths."""
    pixels = page.get_pixmap(dpi=72, colorspace="gray")
    image = Image.frombytes("L", (pixels.width, pixels.height), pixels.samples)
    found = image.point(lambda value: 255 if value < 128 else 0).getbbox()
    assert found
    w, h = image.size
    return (found[0] * 1000 // w, found[1] * 1000 // h, found[2] * 1000 // w, found[3] * 1000 // h)


def found_box(page: Any, text: str) -> Box:
    """Where searching finds `text` on the page as displayed, in thousandths."""
    hits = page.search_for(text)
    assert len(hits) == 1, (text, hits)
    rect = hits[0] * to_display(page)
    w, h = page.rect.width, page.rect.height
    return (round(rect.x0 * 1000 / w), round(rect.y0 * 1000 / h), round(rect.x1 * 1000 / w), round(rect.y1 * 1000 / h))


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / (_area(a) + _area(b) - both)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def turned(box: Box, rotation: int) -> Box:
    """`box` of a page after the page was turned clockwise."""
    x0, y0, x1, y1 = box
    for _ in range(rotation // 90):
        x0, y0, x1, y1 = 1000 - y1, x0, 1000 - y0, x1
    return (x0, y0, x1, y1)


def bar_page(rotate: int = 0, crop: bool = False, user_unit: float = 1.0) -> bytes:
    """One page with one black bar, lying off every axis of symmetry."""
    document = pymupdf.open()
    page = document.new_page(width=500, height=700)
    page.draw_rect((60, 420, 300, 450), fill=(0, 0, 0), color=None)
    if crop:
        page.set_cropbox((40, 100, 440, 650))
    if user_unit != 1:
        document.xref_set_key(page.xref, "UserUnit", str(user_unit))
    page.set_rotation(rotate)
    return bytes(document.tobytes())


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_text_lies_on_its_print_for_every_turn_of_page_and_reading(tmp_path: Path, rotate: int, rotation: int) -> None:
    source = bar_page(rotate, crop=True)
    bar = black_box(pymupdf.open("pdf", source)[0])
    as_read = turned(bar, rotation)
    page = record(1, [("Invoice 42", as_read)], (1000, 1400), rotation=rotation)
    down = (as_read[3] - as_read[1]) * 1400 > 2 * (as_read[2] - as_read[0]) * 1000
    out = searchable(tmp_path, source, [page])[0]
    assert overlap(found_box(out, "Invoice 42"), bar) > 0.9, down


@pytest.mark.parametrize("unit", [1.0, 2.5])
def test_a_page_with_its_own_user_unit_is_no_exception(tmp_path: Path, unit: float) -> None:
    source = bar_page(90, user_unit=unit)
    bar = black_box(pymupdf.open("pdf", source)[0])
    out = searchable(tmp_path, source, [record(1, [("Invoice 42", bar)], (1000, 1400))])[0]
    assert overlap(found_box(out, "Invoice 42"), bar) > 0.9


def drawn(size: tuple[int, int] = (800, 600), bar: Box = (80, 300, 400, 340), mode: str = "L") -> Image.Image:
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).rectangle((bar[0], bar[1], bar[2] - 1, bar[3] - 1), fill=0)
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


BAR: Box = (100, 500, 500, 567)  # of `drawn`, in thousandths


@pytest.mark.parametrize(
    ("kind", "media", "mode", "options"),
    [
        ("JPEG", "image/jpeg", "RGB", {"dpi": (300, 300)}),
        ("JPEG", "image/jpeg", "CMYK", {}),
        ("PNG", "image/png", "1", {}),
        ("PNG", "image/png", "P", {}),
        ("PNG", "image/png", "RGBA", {}),
        ("TIFF", "image/tiff", "1", {"compression": "group4"}),
        ("TIFF", "image/tiff", "I;16", {}),
        ("BMP", "image/bmp", "RGB", {"dpi": (200, 200)}),
        ("WEBP", "image/webp", "RGB", {}),
        ("JPEG2000", "image/jp2", "RGB", {}),
    ],
)
def test_an_image_becomes_a_page_that_looks_the_same(
    tmp_path: Path, kind: str, media: str, mode: str, options: dict[str, Any]
) -> None:
    image = drawn(mode="RGB").convert(mode) if mode != "I;16" else drawn(mode="I").point(lambda v: v * 257)
    source = encoded(image.convert("I;16") if mode == "I;16" else image, kind, **options)
    page = searchable(tmp_path, source, [record(1, [("Summe", BAR)], (800, 600))], media)[0]
    assert overlap(black_box(page), BAR) > 0.9
    assert overlap(found_box(page, "Summe"), BAR) > 0.9
    dpi = options["dpi"][0] if "dpi" in options else 200
    assert page.rect.width == pytest.approx(800 * 72 / dpi, abs=0.1)


def test_a_jpeg_is_not_compressed_again_and_one_bit_stays_one_bit(tmp_path: Path) -> None:
    jpeg = encoded(drawn(mode="RGB"), "JPEG", quality=70)
    out = searchable(tmp_path, jpeg, [], "image/jpeg")
    assert out.extract_image(out[0].get_images()[0][0])["image"] == jpeg
    bitonal = searchable(tmp_path, encoded(drawn(mode="1"), "TIFF", compression="group4"), [], "image/tiff")
    assert bitonal[0].get_images()[0][4] == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = encoded(drawn(mode="RGB"), "JPEG", exif=exif)
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(source)))
    found = upright.convert("L").point(lambda value: 255 if value < 128 else 0).getbbox()
    assert found
    w, h = upright.size
    bar = (found[0] * 1000 // w, found[1] * 1000 // h, found[2] * 1000 // w, found[3] * 1000 // h)
    page = searchable(tmp_path, source, [record(1, [("Foto", bar)], (w, h))], "image/jpeg")[0]
    assert overlap(black_box(page), bar) > 0.85
    assert overlap(found_box(page, "Foto"), bar) > 0.85


def test_every_frame_of_a_tiff_has_its_page_and_text(tmp_path: Path) -> None:
    frames = [drawn(mode="1") for _ in range(4)]
    source = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression="group4")
    pages = [record(n, [(f"Seite {n}", BAR)], (800, 600)) for n in (1, 2, 4)]
    out = searchable(tmp_path, source, pages, "image/tiff")
    assert [page.get_text().strip() for page in out] == ["Seite 1", "Seite 2", "", "Seite 4"]


def test_a_thumbnail_inside_a_tiff_is_no_page(tmp_path: Path) -> None:
    from PIL.TiffImagePlugin import AppendingTiffWriter, ImageFileDirectory_v2

    reduced = ImageFileDirectory_v2()
    reduced[254] = 1
    out = io.BytesIO()
    with AppendingTiffWriter(out) as tiff:
        for image, info in ((drawn(), None), (drawn().resize((80, 60)), reduced), (drawn(), None)):
            image.save(tiff, "TIFF", tiffinfo=info or ImageFileDirectory_v2())
            tiff.newFrame()
    pages = [record(n, [(f"Seite {n}", BAR)], (800, 600)) for n in (1, 2)]
    made = searchable(tmp_path, out.getvalue(), pages, "image/tiff")
    assert [page.get_text().strip() for page in made] == ["Seite 1", "Seite 2"]
    assert black_box(made[1]) == black_box(made[0])


@pytest.mark.parametrize(
    ("dpi", "size", "points"),
    [
        ((300, 300), (800, 600), 192),
        ((96, 96), (800, 600), 600),
        ((72, 72), (3000, 2000), 1080),
        (None, (800, 600), 288),
    ],
)
def test_pages_are_as_large_as_the_scan_says_if_it_can_be_believed(
    tmp_path: Path, dpi: tuple[int, int] | None, size: tuple[int, int], points: int
) -> None:
    source = encoded(drawn(size), "JPEG", **({"dpi": dpi} if dpi else {}))
    assert searchable(tmp_path, source, [], "image/jpeg")[0].rect.width == pytest.approx(points, abs=0.5)


SCRIPTS = ["使用价值", "façade Größe", "Ωμέγα", "Привет", "हिन्दी", "𠀀𠮷", "日本語テスト", "한국어"]


def test_every_script_can_be_searched_and_the_file_stays_small(tmp_path: Path) -> None:
    lines = [(text, (100, 100 * n, 600, 100 * n + 30)) for n, text in enumerate(SCRIPTS, 1)]
    source = bar_page()
    out = searchable(tmp_path, source, [record(1, lines, (1000, 1400))])
    for text, box in lines:
        assert overlap(found_box(out[0], text), box) > 0.9, text
    assert (tmp_path / "out.pdf").stat().st_size < len(source) + 4000
    assert out[0].get_text().split("\n")[: len(SCRIPTS)] == SCRIPTS


def test_a_word_within_a_line_is_found_where_it_is_printed(tmp_path: Path) -> None:
    text = "Will illicit WWW mammoths pay 使用价值 by Friday?"
    document = pymupdf.open()
    page = document.new_page(width=600, height=400)
    font = pymupdf.Font("cjk")
    writer = pymupdf.TextWriter(page.rect)
    writer.append((50, 200), text, font=font, fontsize=20)
    length = font.text_length(text, 20)
    box = (round(50 / 0.6), round(184 / 0.4), round((50 + length) / 0.6), round(204 / 0.4))
    page.draw_rect((0, 0, 10, 10))
    out = searchable(tmp_path, document.tobytes(), [record(1, [(text, box)], (600, 400))])[0]
    for word in ("mammoths", "使用价值", "Friday"):
        before = font.text_length(text[: text.index(word)], 20)
        centre = (50 + before + font.text_length(word, 20) / 2) / 0.6
        hit = found_box(out, word)
        assert abs((hit[0] + hit[2]) / 2 - centre) < 25, word


def test_text_without_lines_or_boxes_is_placed_in_reading_order(tmp_path: Path) -> None:
    long = "The quick brown fox jumps over the lazy dog. " * 6
    blocks = (
        Block(1, Kind.HEADING, "Annual report", None),
        Block(2, Kind.PARAGRAPH, long, (100, 300, 900, 500)),
        Block(3, Kind.TABLE, "<table><tr><td>Rent</td><td>1,200</td></tr></table>", (100, 550, 900, 600)),
        Block(4, Kind.PARAGRAPH, "Signed in Wien", None),
    )
    page = Page(1, 1000, 1400, "vllm", blocks=blocks)
    out = searchable(tmp_path, bar_page(), [page])[0]
    text = " ".join(out.get_text().split())
    assert text == f"Annual report {long}Rent 1,200 Signed in Wien"
    assert found_box(out, "Annual report")[3] <= 300
    assert found_box(out, "Signed in Wien")[1] >= 600
    inside = [hit * to_display(out) for hit in out.search_for("lazy dog")]
    assert inside and all(hit.y0 > 0.29 * 700 and hit.y1 < 0.51 * 700 for hit in inside)
    assert found_box(out, "Rent")[1] >= 540


def test_a_side_note_and_vertical_writing_run_down_their_box(tmp_path: Path) -> None:
    page = record(1, [("縦書きの文", (900, 100, 930, 400)), ("Aktenzeichen 7", (20, 300, 50, 800))], (1000, 1400))
    out = searchable(tmp_path, bar_page(), [page])[0]
    assert overlap(found_box(out, "縦書きの文"), (900, 100, 930, 400)) > 0.85
    assert overlap(found_box(out, "Aktenzeichen 7"), (20, 300, 50, 800)) > 0.85


def test_a_hyphenated_word_is_found_across_its_lines(tmp_path: Path) -> None:
    lines = [("This is a hyphen-", (100, 100, 400, 120)), ("ated word", (100, 125, 300, 145))]
    made = tuple(Line(text, box) for text, box in lines)
    block = Block(1, Kind.PARAGRAPH, "This is a hyphenated word", (100, 100, 400, 145), lines=made)
    out = searchable(tmp_path, bar_page(), [Page(1, 1000, 1400, "rapidocr", blocks=(block,))])[0]
    assert out.search_for("hyphenated")


def text_page(text: str, render_mode: int) -> bytes:
    document = pymupdf.open()
    page = document.new_page(width=500, height=700)
    page.draw_rect((60, 420, 300, 450), fill=(0, 0, 0), color=None)
    page.insert_text((60, 200), text, render_mode=render_mode)
    return bytes(document.tobytes())


@pytest.mark.parametrize("how", [{"engine": "textlayer"}, {"flags": (Flag.TEXT_LAYER,)}])
def test_a_page_whose_own_text_was_taken_gets_none_added(tmp_path: Path, how: dict[str, Any]) -> None:
    page = record(1, [("born digital", (120, 270, 400, 290))], (1000, 1400), **how)
    out = searchable(tmp_path, text_page("born digital", 0), [page])[0]
    assert len(out.search_for("born digital")) == 1


def test_an_older_invisible_layer_gives_way_to_the_new_one(tmp_path: Path) -> None:
    source = text_page("b0rn d1gital", 3)
    before = pymupdf.open("pdf", source)[0].get_pixmap().samples
    out = searchable(tmp_path, source, [record(1, [("born digital", (120, 270, 400, 290))], (1000, 1400))])[0]
    assert out.get_text().strip() == "born digital"
    assert out.get_pixmap().samples == before


def test_printed_text_is_not_doubled_but_what_it_lacks_is_added(tmp_path: Path) -> None:
    lines = [("EX-0001", (110, 260, 300, 292)), ("scanned words", (120, 600, 500, 640))]
    out = searchable(tmp_path, text_page("EX-0001", 0), [record(1, lines, (1000, 1400))])[0]
    assert len(out.search_for("EX-0001")) == 1
    assert len(out.search_for("scanned words")) == 1


def hostile_pdf() -> bytes:
    document = pymupdf.open("pdf", bar_page())
    page = document[0]
    page.insert_link({"kind": pymupdf.LINK_URI, "from": pymupdf.Rect(10, 10, 50, 50), "uri": "https://example.org/"})
    page.insert_link({"kind": pymupdf.LINK_GOTO, "from": pymupdf.Rect(60, 10, 90, 50), "page": 0})
    page.add_text_annot((300, 300), "a note")
    page.add_file_annot((350, 300), b"payload-in-annotation", "evil.exe")
    document.embfile_add("evil.js", b"payload-embedded")
    script = document.get_new_xref()
    document.update_object(script, "<</S/JavaScript/JS(app.alert\\(1\\))>>")
    launch = document.get_new_xref()
    document.update_object(launch, f"<</S/GoTo/D[{page.xref} 0 R/Fit]/Next<</S/Launch/F(calc.exe)>>>>")
    disguise = document.get_new_xref()
    document.update_object(disguise, "/Launch")
    indirect = document.get_new_xref()
    document.update_object(indirect, f"<</S {disguise} 0 R/F(calc.exe)>>")
    document.xref_set_key(page.annot_xrefs()[0][0], "A", f"{indirect} 0 R")
    catalog = document.pdf_catalog()
    document.xref_set_key(catalog, "OpenAction", f"{script} 0 R")
    document.xref_set_key(catalog, "AA", f"<</WC {script} 0 R>>")
    document.xref_set_key(page.xref, "AA", f"<</O {launch} 0 R>>")
    return bytes(document.tobytes())


def test_scripts_launches_and_attachments_stay_behind(tmp_path: Path) -> None:
    source = hostile_pdf()
    before = pymupdf.open("pdf", source)
    out = searchable(tmp_path, source, [record(1, [("text", (100, 100, 200, 120))], (1000, 1400))])
    objects = "".join(out.xref_object(xref) for xref in range(1, out.xref_length()))
    streams = b"".join(out.xref_stream(x) or b"" for x in range(1, out.xref_length()) if out.xref_is_stream(x))
    for word in ("JavaScript", "OpenAction", "Launch", "calc.exe", "app.alert", "/AA", "EmbeddedFile", "example.org"):
        assert word not in objects, word
    assert b"payload" not in streams
    assert out.embfile_count() == 0
    assert [link["kind"] for link in out[0].get_links()] == [pymupdf.LINK_GOTO]
    assert len(list(out[0].annots())) == len(list(before[0].annots()))
    assert out[0].get_pixmap().samples == before[0].get_pixmap().samples


def test_a_damaged_document_is_copied_or_named_damaged(tmp_path: Path) -> None:
    source = hostile_pdf()
    for at in range(200, len(source), len(source) // 25):
        broken = source[:at] + b"\x00<<" + source[at + 40 :]
        (tmp_path / "in").write_bytes(broken)
        (tmp_path / "p").write_text(json.dumps(page_json(record(1, [("text", (100, 100, 200, 120))], (10, 14)))))
        try:
            add_text_layer(tmp_path / "in", "application/pdf", tmp_path / "p", tmp_path / "out.pdf")
        except (Damaged, Empty):
            continue
        assert not pymupdf.open(tmp_path / "out.pdf").is_repaired, at


def test_a_page_that_stands_twice_in_the_document_gets_its_text_once(tmp_path: Path) -> None:
    document = pymupdf.open("pdf", bar_page())
    document.fullcopy_page(0)
    parent = int(document.xref_get_key(document.page_xref(0), "Parent")[1].split()[0])
    first = document.page_xref(0)
    document.xref_set_key(parent, "Kids", f"[{first} 0 R {first} 0 R]")
    pages = [record(n, [("same", (100, 100, 200, 120))], (10, 14)) for n in (1, 2)]
    made = searchable(tmp_path, document.tobytes(), pages)
    assert [len(page.search_for("same")) for page in made] == [1, 1]


def test_a_font_that_happens_to_be_called_aa_keeps_its_print(tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page()
    page.insert_font(fontname="AA", fontbuffer=pymupdf.Font("helv").buffer)
    page.insert_text((100, 100), "printed", fontname="AA")
    source = document.tobytes()
    before = pymupdf.open("pdf", source)[0].get_pixmap().samples
    assert searchable(tmp_path, source, [])[0].get_pixmap().samples == before


def test_inherited_resources_and_unbalanced_operators_do_not_move_the_text(tmp_path: Path) -> None:
    document = pymupdf.open("pdf", bar_page())
    page = document[0]
    xref = page.get_contents()[0]
    document.update_stream(xref, document.xref_stream(xref) + b"\nq 3 0 0 3 50 50 cm q")
    kind, value = document.xref_get_key(page.xref, "Resources")
    parent = int(document.xref_get_key(page.xref, "Parent")[1].split()[0])
    document.xref_set_key(parent, "Resources", value if kind != "null" else "<<>>")
    document.xref_set_key(page.xref, "Resources", "null")
    box: Box = (100, 100, 500, 130)
    out = searchable(tmp_path, document.tobytes(), [record(1, [("steady", box)], (1000, 1400))])[0]
    assert overlap(found_box(out, "steady"), box) > 0.9


def test_the_same_pages_give_the_same_bytes(tmp_path: Path) -> None:
    page = record(1, [("again", BAR)], (800, 600))
    for source, media in ((bar_page(), "application/pdf"), (encoded(drawn(), "PNG"), "image/png")):
        searchable(tmp_path, source, [page], media)
        first = (tmp_path / "out.pdf").read_bytes()
        searchable(tmp_path, source, [page], media)
        assert (tmp_path / "out.pdf").read_bytes() == first


def test_passwords_are_tried_and_their_lack_is_named(tmp_path: Path) -> None:
    document = pymupdf.open("pdf", bar_page())
    locked = document.tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="open", owner_pw="own")
    (tmp_path / "in").write_bytes(locked)
    (tmp_path / "pages.jsonl").write_text("")
    with pytest.raises(Encrypted):
        add_text_layer(tmp_path / "in", "application/pdf", tmp_path / "pages.jsonl", tmp_path / "out", ("no",))
    add_text_layer(tmp_path / "in", "application/pdf", tmp_path / "pages.jsonl", tmp_path / "out", ("no", "open"))
    assert not pymupdf.open(tmp_path / "out", filetype="pdf").needs_pass


@pytest.mark.parametrize("media", ["application/pdf", "image/png", "image/tiff"])
def test_bytes_that_are_no_document_are_an_error_not_a_crash(tmp_path: Path, media: str) -> None:
    with pytest.raises((Damaged, Empty)):
        searchable(tmp_path, b"not a document at all", [], media)


@pytest.mark.parametrize("media", ["application/pdf", "image/png"])
def test_a_full_disk_is_not_the_documents_fault(tmp_path: Path, media: str) -> None:
    noise = Image.effect_noise((700, 700), 90)  # larger than any buffer
    document = pymupdf.open("pdf", bar_page())
    document[0].insert_image((0, 0, 400, 400), stream=encoded(noise, "PNG"))
    (tmp_path / "in").write_bytes(document.tobytes() if media == "application/pdf" else encoded(noise, "PNG"))
    (tmp_path / "p").write_text("")
    with pytest.raises(DiskFull):
        add_text_layer(tmp_path / "in", media, tmp_path / "p", "/dev/full")


def test_it_works_on_file_descriptors(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bar_page())
    (tmp_path / "jsonl").write_text(json.dumps(page_json(record(1, [("fd", (100, 100, 200, 130))], (1000, 1400)))))
    with (tmp_path / "in").open("rb") as a, (tmp_path / "jsonl").open("rb") as b, (tmp_path / "out").open("wb") as c:
        source, pages, out = (f"/proc/self/fd/{file.fileno()}" for file in (a, b, c))
        add_text_layer(source, "application/pdf", pages, out)
    assert pymupdf.open(tmp_path / "out", filetype="pdf")[0].search_for("fd")


def test_poppler_finds_the_same_text_in_the_same_order(tmp_path: Path) -> None:
    tool = shutil.which("pdftotext")
    if tool is None:
        pytest.skip("poppler's pdftotext is not installed")
    lines = [(text, (100, 100 * n, 600, 100 * n + 30)) for n, text in enumerate(SCRIPTS, 1)]
    searchable(tmp_path, bar_page(), [record(1, lines, (1000, 1400))])
    done = subprocess.run([tool, str(tmp_path / "out.pdf"), "-"], capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line.strip("\f ")] == SCRIPTS
    assert "Error" not in done.stderr


async def test_the_sandbox_writes_it_on_a_descriptor(tmp_path: Path) -> None:
    from inkstick.pages.pool import PagePool

    (tmp_path / "in").write_bytes(bar_page())
    (tmp_path / "p.jsonl").write_text(json.dumps(page_json(record(1, [("价值", (100, 100, 200, 130))], (1000, 1400)))))
    pool = PagePool(processes=1, page_seconds=60)
    await pool.start()
    try:
        await pool.searchable_pdf(tmp_path / "in", "application/pdf", tmp_path / "p.jsonl", tmp_path / "out.pdf")
    finally:
        await pool.close()
    assert pymupdf.open(tmp_path / "out.pdf")[0].search_for("价值")


def test_a_fax_that_lies_on_its_side_has_the_proportions_of_its_sheet(tmp_path: Path) -> None:
    path = tmp_path / "fax.tif"
    Image.new("1", (1728, 1100), 1).save(path, dpi=(204, 98), tiffinfo={274: 6})
    (picture,) = pictures(path, "image/tiff")
    width, height = picture.points()
    assert abs(width - 1100 * 72 / 98) < 1
    assert abs(height - 1728 * 72 / 204) < 1
