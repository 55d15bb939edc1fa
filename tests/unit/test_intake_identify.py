"""What a file is, and whether it ends where its structure says: on real files made here, whole and cut."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pymupdf
import pytest
from PIL import Image

from inkstick.intake import complete as completeness
from inkstick.intake.complete import complete, examine
from inkstick.intake.identify import HEAD_BYTES, TAIL_BYTES, MediaType, identify, identify_file
from inkstick.intake.settle import Finding


def picture(kind: str, **options: object) -> bytes:
    noise = random.Random(7).randbytes(64 * 48 * 3)
    out = io.BytesIO()
    Image.frombytes("RGB", (64, 48), noise).save(out, kind, **options)
    return out.getvalue()


def pdf(**options: object) -> bytes:
    document = pymupdf.open()
    document.new_page().insert_text((72, 72), "settled")
    return bytes(document.tobytes(**options))


def zipped(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def mail(*, attachment: bool) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", "Scans"
    message.set_content("See the scans.\n")
    if attachment:
        message.add_attachment(pdf(), maintype="application", subtype="pdf", filename="scan.pdf")
    return message.as_bytes()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def heic(brand: bytes = b"heic", *compatible: bytes) -> bytes:
    brands = brand + bytes(4) + b"".join(compatible)
    return box(b"ftyp", brands) + box(b"meta", bytes(120)) + box(b"mdat", b"\x26\x01" * 400)


def two_page_tiff(compression: str = "tiff_deflate") -> bytes:
    pages = [Image.effect_noise((200, 120), 60 + n).convert("L") for n in range(2)]
    out = io.BytesIO()
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:], compression=compression)
    return out.getvalue()


def big_tiff() -> bytes:
    out = io.BytesIO()
    Image.new("L", (40, 30), 200).save(out, "TIFF", big_tiff=True)
    return out.getvalue()


def big_endian_tiff() -> bytes:
    """One grey row of four pixels, written by hand in Motorola order."""
    tags = [(256, 3, 1, 4 << 16), (257, 3, 1, 1 << 16), (258, 3, 1, 8 << 16), (259, 3, 1, 1 << 16),
            (262, 3, 1, 1 << 16), (273, 4, 1, 8), (279, 4, 1, 4)]  # fmt: skip
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", *tag) for tag in tags) + bytes(4)
    return b"MM\0*" + struct.pack(">I", 12) + b"\x10\x80\xc0\xff" + directory


WHOLE: dict[str, tuple[MediaType, Callable[[], bytes]]] = {
    "pdf": (MediaType.PDF, pdf),
    "pdf behind junk": (MediaType.PDF, lambda: b"scanner banner\n" * 60 + pdf()),
    "pdf with padding": (MediaType.PDF, lambda: pdf() + bytes(4000)),
    "jpeg": (MediaType.JPEG, lambda: picture("JPEG")),
    "jpeg with a film behind it": (MediaType.JPEG, lambda: picture("JPEG") + b"\1film" * 40_000),
    "png": (MediaType.PNG, lambda: picture("PNG")),
    "png with a trailer": (MediaType.PNG, lambda: picture("PNG") + b"trailer" * 1000),
    "bmp": (MediaType.BMP, lambda: picture("BMP")),
    "webp": (MediaType.WEBP, lambda: picture("WEBP")),
    "jp2": (MediaType.JP2, lambda: picture("JPEG2000")),
    "jp2 codestream": (MediaType.JP2, lambda: picture("JPEG2000", no_jp2=True)),
    "tiff": (MediaType.TIFF, two_page_tiff),
    "tiff, raw": (MediaType.TIFF, lambda: two_page_tiff("raw")),
    "bigtiff": (MediaType.TIFF, big_tiff),
    "big-endian tiff": (MediaType.TIFF, big_endian_tiff),
    "heic": (MediaType.HEIC, heic),
    "heif, generic brand": (MediaType.HEIC, lambda: heic(b"mif1", b"heic")),
    "zip": (MediaType.ZIP, lambda: zipped(("a.pdf", pdf()), ("b/c.png", picture("PNG")))),
    "zip of an office document": (MediaType.ZIP, lambda: zipped(("x.docx", zipped(("[Content_Types].xml", b"<x/>"))))),
    "empty zip": (MediaType.ZIP, zipped),
    "mail": (MediaType.EML, lambda: mail(attachment=False)),
    "mail with attachment": (MediaType.EML, lambda: mail(attachment=True)),
}
UNREAD: dict[str, bytes] = {
    "text": b"From here on: nothing but text.\nIt goes on.\n",
    "text that begins with BM": b"BMW invoices of the year\n" * 10,
    "html": b"<!DOCTYPE html><p>x</p>",
    "docx": zipped(("[Content_Types].xml", b"<Types/>"), ("word/document.xml", b"<w/>")),
    "docx, types last": zipped(("word/document.xml", b"<w/>" * 5000), ("[Content_Types].xml", b"<Types/>")),
    "odt": zipped(("mimetype", b"application/vnd.oasis.opendocument.text"), ("content.xml", b"<x/>")),
    "epub": zipped(("mimetype", b"application/epub+zip"), ("META-INF/container.xml", b"<x/>")),
    "jar": zipped(("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0\n"), ("A.class", b"\xca\xfe")),
    "avif": heic(b"avif", b"mif1", b"miaf"),
    "mp4": heic(b"isom", b"mp42"),
    "saved web page": b"From: <Saved by Blink>\nSnapshot-Content-Location: file:///x\nSubject: x\n\n",
    "wave sound": b"RIFF\x24\0\0\0WAVEfmt ",
    "gzip": b"\x1f\x8b\x08\0" + bytes(range(40)),
    "one letter": b"x",
}


def look(path: Path) -> tuple[Finding, MediaType | None]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return examine(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_named_by_its_content_and_called_complete(tmp_path: Path, name: str) -> None:
    media, make = WHOLE[name]
    path = tmp_path / "misleading.xyz"
    path.write_bytes(make())
    assert identify_file(path) is media
    assert complete(path, media)
    assert look(path) == (Finding.WHOLE, media)


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_is_unsupported(tmp_path: Path, name: str) -> None:
    path = tmp_path / "claims-to-be.pdf"
    path.write_bytes(UNREAD[name])
    assert look(path) == (Finding.UNSUPPORTED, None)


@pytest.mark.parametrize("name", [n for n in WHOLE if "with" not in n and "mail" not in n and n != "empty zip"])
def test_no_cut_of_a_file_is_called_whole(tmp_path: Path, name: str) -> None:
    """Every cut that leaves enough to name the type: from there to the last bytes that matter."""
    media, make = WHOLE[name]
    content = make().rstrip(b"\0\r\n")
    path = tmp_path / "cut"
    first = 1100 if "junk" in name else 40
    for length in sorted({first, *range(first, len(content) - 6, max(1, len(content) // 97)), len(content) - 7}):
        path.write_bytes(content[:length])
        assert look(path)[0] is not Finding.WHOLE, length
        if identify_file(path) is media:
            assert not complete(path, media), length


@pytest.mark.parametrize("name", ["pdf", "jpeg", "png", "tiff", "webp", "heic", "zip", "jp2"])
def test_a_file_whose_size_was_set_first_is_not_whole_until_it_is_filled(tmp_path: Path, name: str) -> None:
    """Explorer over SMB sets the final size and then fills: the rest reads as zeros."""
    content = WHOLE[name][1]()
    path = tmp_path / "preallocated"
    for filled in range(0, len(content) - 64, max(1, len(content) // 31)):
        path.write_bytes(content[:filled] + bytes(len(content) - filled))
        assert look(path)[0] is not Finding.WHOLE, filled


def test_an_end_that_was_never_written_is_a_doubt_even_where_the_skeleton_is_at_the_front(tmp_path: Path) -> None:
    content = picture("BMP")
    path = tmp_path / "hole.bmp"
    with path.open("wb") as out:
        out.truncate(1 << 20)
        out.write(content)
    assert look(path) == (Finding.DOUBTFUL, MediaType.BMP)


def test_a_linearised_pdf_cut_behind_its_first_section_is_not_whole(tmp_path: Path) -> None:
    body = b"%PDF-1.7\n1 0 obj\n<</Linearized 1/L 90000/H[500 100]/O 3/E 800/N 1/T 88000>>\nendobj\n"
    path = tmp_path / "web.pdf"
    path.write_bytes(body + b"xref\n0 1\ntrailer<<>>\nstartxref\n0\n%%EOF\n")
    assert look(path) == (Finding.CUT, MediaType.PDF)


def test_a_mail_without_its_closing_boundary_is_a_doubt(tmp_path: Path) -> None:
    path = tmp_path / "cut.eml"
    path.write_bytes(mail(attachment=True)[:-60])
    assert look(path) == (Finding.DOUBTFUL, MediaType.EML)


def test_an_empty_file_is_cut_not_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert look(path) == (Finding.CUT, None)


def test_a_loop_of_tiff_directories_ends_where_it_closes(tmp_path: Path) -> None:
    path = tmp_path / "loop.tif"
    directory = struct.pack("<HHHII", 1, 256, 3, 1, 1) + struct.pack("<I", 8)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory)
    assert look(path) == (Finding.WHOLE, MediaType.TIFF)
    with path.open("rb") as file:
        window = completeness.Window(file.fileno())
        completeness._finding(window, MediaType.TIFF)
    assert completeness.STEP_LIMIT - window._steps < 12, "and not only when the budget of reads is spent"


def test_lying_structures_cost_bounded_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PNG of a million empty chunks stops at the step budget and is left to the parser."""
    monkeypatch.setattr(completeness, "STEP_LIMIT", 500)
    path = tmp_path / "chunks.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sI", 0, b"tEXt", 0) * 5000)
    assert look(path) == (Finding.WHOLE, MediaType.PNG)


def test_random_bytes_behind_every_magic_never_raise(tmp_path: Path) -> None:
    dice = random.Random(20)
    path = tmp_path / "noise"
    for media, make in WHOLE.values():
        content = bytearray(make()[:6000])
        for _ in range(25):
            for at in (dice.randrange(4, len(content)) for _ in range(12)):
                content[at] = dice.randrange(256)
            path.write_bytes(content)
            finding, _ = look(path)
            assert finding in set(Finding), media


def test_both_ends_suffice(tmp_path: Path) -> None:
    """The pure function decides alike whether it sees the file or only its two ends."""
    for media, make in WHOLE.values():
        content = make()
        assert identify(content[:HEAD_BYTES], content[-TAIL_BYTES:], len(content)) is media
