"""Images in the parser itself: odd depths and odd EXIF, and the same for the searchable PDF."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inkstick.pages.ink import ink
from inkstick.pages.picture import PictureFile
from inkstick.pages.sheet import RGB
from inkstick.pages.view import Ink
from inkstick.results.imagepdf import pictures
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
    (copy,) = pictures(path, "image/tiff")
    assert "/BitsPerComponent 8" in copy.dictionary
    assert copy.data != b""


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
