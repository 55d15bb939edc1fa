"""What a file is, by its content. The name's extension is only a hint for people and decides nothing.

The two ends of a file are enough: `identify` is a pure function over `HEAD_BYTES` from the start and `TAIL_BYTES` from
the end. `identify_file` reads them. Office documents, e-books and Java archives are ZIP files inside, but not archives
of documents: they are recognised by their members' names and are not read (None, which is "unsupported").
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

HEAD_BYTES: Final = 4096
TAIL_BYTES: Final = 1 << 16
PDF_JUNK_BYTES: Final = 1024  # readers of PDF look for the header in the first 1,024 bytes, not only at byte 0


class MediaType(StrEnum):
    """The types that Inkstick reads. Closed set, by their registered names."""

    PDF = "application/pdf"
    TIFF = "image/tiff"
    JPEG = "image/jpeg"
    PNG = "image/png"
    BMP = "image/bmp"
    WEBP = "image/webp"
    JP2 = "image/jp2"
    HEIC = "image/heic"
    ZIP = "application/zip"
    EML = "message/rfc822"


SUFFIXES: Final[dict[MediaType, str]] = {
    MediaType.PDF: ".pdf", MediaType.TIFF: ".tif", MediaType.JPEG: ".jpg", MediaType.PNG: ".png",
    MediaType.BMP: ".bmp", MediaType.WEBP: ".webp", MediaType.JP2: ".jp2", MediaType.HEIC: ".heic",
    MediaType.ZIP: ".zip", MediaType.EML: ".eml",
}  # fmt: skip

_MAGIC: Final[tuple[tuple[bytes, MediaType], ...]] = (
    (b"%PDF-", MediaType.PDF),
    (b"II*\0", MediaType.TIFF),
    (b"MM\0*", MediaType.TIFF),
    (b"II+\0", MediaType.TIFF),  # BigTIFF
    (b"MM\0+", MediaType.TIFF),
    (b"\xff\xd8\xff", MediaType.JPEG),
    (b"\x89PNG\r\n\x1a\n", MediaType.PNG),
    (b"\0\0\0\x0cjP  \r\n\x87\n", MediaType.JP2),
    (b"\xff\x4f\xff\x51", MediaType.JP2),  # a bare codestream
)
_ZIP_STARTS: Final = (b"PK\3\4", b"PK\5\6", b"PK\7\x08PK\3\4", b"PK00PK\3\4")
_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIF_BRANDS: Final = frozenset({b"mif1", b"msf1", b"mif2"})
_OFFICE_NAMES: Final = frozenset(
    {b"[Content_Types].xml", b"mimetype", b"META-INF/MANIFEST.MF", b"META-INF/container.xml", b"AndroidManifest.xml"}
)
_HEADER: Final = re.compile(rb"([!-9;-~]+):")
_MAIL_ORIGIN: Final = frozenset({b"from", b"received", b"return-path", b"delivered-to", b"x-mozilla-status"})
_MAIL_OTHER: Final = frozenset({b"date", b"to", b"subject", b"message-id", b"mime-version", b"cc", b"bcc", b"reply-to"})


def identify(head: bytes, tail: bytes, size: int) -> MediaType | None:
    """The type by content, or None for anything that is not read.

    `head`: the first `HEAD_BYTES` (or all) of the file; `tail`: the last `TAIL_BYTES` (or all); `size` in bytes.
    Both may be shorter; what cannot be seen is not guessed.
    """
    for magic, media in _MAGIC:
        if head.startswith(magic):
            return media
    if head.startswith(_ZIP_STARTS):
        return None if _is_office(head, tail, size) else MediaType.ZIP
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return MediaType.WEBP
    if _is_bmp(head):
        return MediaType.BMP
    if head[4:8] == b"ftyp":
        return MediaType.HEIC if _is_heic(head) else None
    if _is_mail(head):
        return MediaType.EML
    if b"%PDF-" in head[:PDF_JUNK_BYTES]:
        return MediaType.PDF
    return None


def identify_file(file: int | Path) -> MediaType | None:
    """`identify` over an open descriptor or a path. Reads at most 68 KiB. Raises OSError."""
    if isinstance(file, Path):
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return identify_file(fd)
        finally:
            os.close(fd)
    size = os.fstat(file).st_size
    head = os.pread(file, HEAD_BYTES, 0)
    # Only a ZIP needs its end looked at to be named.
    tail = os.pread(file, TAIL_BYTES, max(0, size - TAIL_BYTES)) if head.startswith(_ZIP_STARTS) else b""
    return identify(head, tail, size)


def _is_bmp(head: bytes) -> bool:
    """Two letters prove little: the size of the second header must be one that exists."""
    return head[:2] == b"BM" and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADERS


def _is_heic(head: bytes) -> bool:
    """HEVC inside, by its brands. AVIF uses the same boxes and is not read."""
    length = min(struct.unpack_from(">I", head)[0], len(head), 512)
    major = head[8:12]
    compatible = {head[at : at + 4] for at in range(16, length - 3, 4)}
    if major in _HEIC_BRANDS:
        return True
    return major in _HEIF_BRANDS and (bool(compatible & _HEIC_BRANDS) or b"avif" not in compatible)


def _is_mail(head: bytes) -> bool:
    """Lines that are all header fields up to the first empty one, and among them those that every mail has."""
    text = head.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    block, ended, _ = text.partition(b"\n\n")
    lines = block.split(b"\n")
    if not ended and len(head) >= HEAD_BYTES:
        lines = lines[:-1]  # the last line is cut by the window, not by its writer
    fields: set[bytes] = set()
    for line in lines:
        match = _HEADER.match(line)
        if match:
            fields.add(match[1].lower())
        elif line and not (fields and line[:1] in b" \t"):
            return False
    if b"snapshot-content-location" in fields:
        return False  # a saved web page (MHTML), which only looks like a mail
    return bool(fields & _MAIL_ORIGIN) and len(fields & (_MAIL_ORIGIN | _MAIL_OTHER)) >= 2


def _is_office(head: bytes, tail: bytes, size: int) -> bool:
    names = [*_local_names(head), *_central_names(tail, size)]
    return any(name in _OFFICE_NAMES for name in names)


def _local_names(head: bytes) -> Iterator[bytes]:
    """Names of the members whose local headers can be walked to inside `head`."""
    at = head.find(b"PK\3\4")
    while 0 <= at <= len(head) - 30 and head[at : at + 4] == b"PK\3\4":
        flags, packed, name_length, extra_length = struct.unpack_from("<6xH10xI4xHH", head, at)
        yield head[at + 30 : at + 30 + name_length]
        if flags & 8:  # the size stands behind the data: the next header cannot be found from here
            return
        at += 30 + name_length + extra_length + packed


def _central_names(tail: bytes, size: int) -> Iterator[bytes]:
    """Names in the part of the central directory that lies in `tail`."""
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) - end < 22:
        return
    start = struct.unpack_from("<I", tail, end + 16)[0] - (size - len(tail))
    if start >= end:
        return
    at = start if start >= 0 else tail.find(b"PK\1\2", 0, end)
    while 0 <= at <= end - 46 and tail[at : at + 4] == b"PK\1\2":
        name_length, extra_length, comment_length = struct.unpack_from("<28xHHH", tail, at)
        yield tail[at + 46 : at + 46 + name_length]
        at += 46 + name_length + extra_length + comment_length
