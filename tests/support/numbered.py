"""Real documents whose pages carry numbers, so that the fake engine's answer shows which page it was given."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from email.message import EmailMessage

from PIL import Image

from support import page_code


def image(code: int) -> Image.Image:
    return Image.fromarray(page_code.draw(code))


def pdf(codes: Iterable[int]) -> bytes:
    """Image-only pages, one for each number, at 72 dpi."""
    return _pages(codes, "PDF")


def tiff(codes: Iterable[int]) -> bytes:
    return _pages(codes, "TIFF")


def half(codes: Iterable[int]) -> bytes:
    """A TIFF whose copy broke off: it opens, and has fewer pages."""
    first, *others = map(image, codes)
    out = io.BytesIO()
    first.save(out, "TIFF", save_all=True, append_images=others, compression="tiff_lzw")
    return out.getvalue()[: len(out.getvalue()) * 6 // 10]


def png(code: int) -> bytes:
    out = io.BytesIO()
    image(code).save(out, "PNG")
    return out.getvalue()


def zipped(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data)
    return out.getvalue()


def mail(body: str, attachments: Mapping[str, bytes]) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Papers", "desk@archive.example", "reader@archive.example"
    message["Date"] = "Mon, 02 Mar 2026 09:00:00 +0000"
    message.set_content(body)
    for name, data in attachments.items():
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


def _pages(codes: Iterable[int], kind: str) -> bytes:
    first, *rest = [image(code) for code in codes]
    out = io.BytesIO()
    first.save(out, kind, save_all=True, append_images=rest)
    return out.getvalue()
