"""Images in the parser itself: odd depths and odd EXIF, and the same for the searchable PDF."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.TiffImagePlugin import AppendingTiffWriter, ImageFileDirectory_v2

from inkstick.pages.ink import ink
from inkstick.pages.picture import PictureFile, tiff_pages
from inkstick.pages.sheet import RGB
from inkstick.pages.view import Ink
from inkstick.results.imagepdf import pictures
from inkstick.results.pdf import add_text_layer
from support.pages import font

TEXT = "The accounts for the year were complete and correct.\n" * 12


def sheet() -> Image.Image:
    image = Image.new("L", (1240, 1754), 250)
    ImageDraw.Draw(image).multiline_text((120, 150), TEXT, font=font("tiro", 40), fill=20, spacing=30)
    return image


def seen(path: Path, media_type: str) -> RGB:
    fd = os.open(path, os.O_RDONLY)
    document = PictureFile(fd, media_type)
    rgb = document.sheet(1).rgb
    document.close()
    os.close(fd)
    return rgb


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_paper_is_white_whatever_depth_a_scanner_packs_into_sixteen_bits(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.asarray(sheet()).astype(np.uint16) << (bits - 8)).save(path)
    rgb = seen(path, "image/tiff")
    assert np.median(rgb) > 200
    assert ink(rgb) is Ink.PRINTED
    assert np.abs(copied(path, rgb.shape) - rgb.astype(int)).mean() < 2


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5, 0.5), (0.0, 255.0), (-1.0, 2.0)])
def test_the_copy_of_an_image_of_real_numbers_looks_as_it_was_read(tmp_path: Path, scale: tuple[float, float]) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray((np.asarray(sheet()) / 255 * scale[1] + scale[0]).astype(np.float32)).save(path)
    rgb = seen(path, "image/tiff")
    assert ink(rgb) is Ink.PRINTED
    assert np.abs(copied(path, rgb.shape) - rgb.astype(int)).mean() < 2


def tiff(*kinds: int) -> bytes:
    """A frame for each of `kinds` (NewSubfileType: 1 is a thumbnail)."""
    out = io.BytesIO()
    with AppendingTiffWriter(out) as writer:
        for kind in kinds:
            told = ImageFileDirectory_v2()
            told[254] = kind
            sheet().resize((620, 877)).save(writer, "TIFF", tiffinfo=told)
            writer.newFrame()
    return out.getvalue()


def test_pages_that_are_all_called_thumbnails_are_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(1, 1, 1))
    with path.open("rb") as file:
        assert (tiff_pages(file), len(list(pictures(path, "image/tiff")))) == ([0, 1, 2], 3)
    path.write_bytes(tiff(0, 1, 0))
    with path.open("rb") as file:
        assert (tiff_pages(file), len(list(pictures(path, "image/tiff")))) == ([0, 2], 2)


def copied(path: Path, shape: tuple[int, ...]) -> NDArray[np.int_]:
    """What the searchable copy of an image shows, in as many pixels."""
    out = path.with_suffix(".pdf")
    path.with_suffix(".jsonl").write_text("")
    add_text_layer(path, "image/tiff", path.with_suffix(".jsonl"), out)
    with pymupdf.open(out) as document:
        page = document[0]
        drawn = page.get_pixmap(matrix=pymupdf.Matrix(shape[1] / page.rect.width, shape[0] / page.rect.height))
        return np.frombuffer(drawn.samples, np.uint8).reshape(drawn.h, drawn.w, 3)[: shape[0], : shape[1]].astype(int)


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0\0\0\0"


@pytest.mark.parametrize("turn", [1, 3, 5, 6, 8])
def test_a_photograph_with_nonsense_in_its_exif_is_read_and_stands_upright(tmp_path: Path, turn: int) -> None:
    tags = [(0x0112, 3, 1, struct.pack("<HH", turn, 0))]
    turned, wrong = tmp_path / "a.jpg", tmp_path / "b.jpg"
    sheet().convert("RGB").save(turned, exif=exif(*tags))
    sheet().convert("RGB").save(wrong, exif=exif(*tags, (0x0100, 2, 4, b"abc\0")))  # a width in letters
    assert np.array_equal(seen(wrong, "image/jpeg"), seen(turned, "image/jpeg"))
    assert next(pictures(wrong, "image/jpeg")).turn == next(pictures(turned, "image/jpeg")).turn
