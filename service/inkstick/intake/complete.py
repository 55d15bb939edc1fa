"""Whether a file's structure ends inside the file: the cheap test that tells a finished copy from half of one.

Only the skeleton is read (ends, headers, directories), never the file. Every number in the file may be a lie: reads go
through `Window`, which never leaves the file and stops at a budget; chains remember where they have been. A file that
exhausts the budget is called complete, because the sandboxed parser, not this test, is the judge of odd files.

What this cannot see: a writer that sets the final size first and has not filled the middle yet, in a format whose
skeleton is at the front and whose pixels are not packed (BMP, raw TIFF). `hollow_end` catches the usual form of that,
an end that was never written.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from inkstick.intake.identify import HEAD_BYTES, MediaType, identify_file
from inkstick.intake.settle import Finding

END_BYTES: Final = 2048
PADDING_BYTES: Final = 1 << 16
UNWRITTEN_BYTES: Final = 64
CHUNK: Final = 1 << 20
READ_LIMIT: Final = 256 << 20
STEP_LIMIT: Final = 200_000
ZIP_END_BYTES: Final = 22 + 65_535
IFD_ENTRY_LIMIT: Final = 4096
STRIP_BYTES_LIMIT: Final = 1 << 20


class BudgetSpent(Exception):
    """Internal to this module: the file asked for more reads than any honest skeleton needs."""


class Window:
    """Bounded reads of one open file. `at` beyond the end gives b"", never an error."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self._bytes = READ_LIMIT
        self._steps = STEP_LIMIT

    def read(self, at: int, length: int) -> bytes:
        """Up to `length` bytes from `at`. Raises BudgetSpent, OSError."""
        self._steps -= 1
        if at < 0 or at >= self.size or length <= 0:
            return b""
        self._bytes -= min(length, self.size - at)
        if self._bytes < 0 or self._steps < 0:
            raise BudgetSpent
        return os.pread(self.fd, min(length, self.size - at), at)

    def end(self, length: int) -> bytes:
        """The last `length` bytes before any padding of NULs (block-wise copies and tapes pad)."""
        tail = self.read(max(0, self.size - PADDING_BYTES - length), PADDING_BYTES + length)
        return tail.rstrip(b"\0")[-length:]

    def hollow_end(self) -> bool:
        """Whether the last byte lies in a hole: its size was set, but nobody has written it yet."""
        if self.size == 0:
            return False
        try:
            os.lseek(self.fd, self.size - 1, os.SEEK_DATA)
        except OSError as error:
            return error.errno == errno.ENXIO  # no data from there to the end
        return False


def complete(file: int | Path, media: MediaType) -> bool:
    """Whether the structure of `file`, which is of type `media`, ends inside it. Raises OSError."""
    if isinstance(file, Path):
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return complete(fd, media)
        finally:
            os.close(fd)
    return _finding(Window(file), media) is Finding.WHOLE


def examine(fd: int) -> tuple[Finding, MediaType | None]:
    """What a look into a still file finds, and its type. Raises OSError."""
    window = Window(fd)
    media = identify_file(fd)
    if media is not None:
        return _finding(window, media), media
    unwritten = not window.read(0, HEAD_BYTES).strip(b"\0")  # empty, or its size was set and its start not written
    return (Finding.CUT if unwritten else Finding.UNSUPPORTED), None


def _finding(window: Window, media: MediaType) -> Finding:
    try:
        finding = _CHECKS[media](window)
    except BudgetSpent:
        finding = Finding.WHOLE
    except struct.error:
        finding = Finding.CUT  # not even the header is all there
    if finding is Finding.WHOLE and window.hollow_end():
        return Finding.DOUBTFUL
    return finding


def _unwritten(window: Window, end: int) -> bool:
    """Whether the bytes before `end` are still zeros. Packed data never ends in that many."""
    return not window.read(max(0, end - UNWRITTEN_BYTES), min(UNWRITTEN_BYTES, end)).strip(b"\0")


def _verdict(whole: bool) -> Finding:
    return Finding.WHOLE if whole else Finding.CUT


def _pdf(window: Window) -> Finding:
    """`%%EOF` or `startxref N` near the end; a linearised file also says its own length, and has an early %%EOF."""
    length = re.search(rb"/Linearized\b[^>]{0,200}?/L\s+(\d{1,15})\b", window.read(0, HEAD_BYTES))
    if length and int(length[1]) > window.size:
        return Finding.CUT
    end = window.end(END_BYTES)
    return _verdict(b"%%EOF" in end or re.search(rb"startxref\s+\d+\s", end) is not None)


def _jpeg(window: Window) -> Finding:
    """An end-of-image marker after the start of the scan: the thumbnail inside the header has one of its own."""
    scan = _jpeg_scan(window)
    if scan is None:
        return Finding.CUT
    start = max(scan, window.size - PADDING_BYTES)
    if b"\xff\xd9" in window.read(start, PADDING_BYTES):
        return Finding.WHOLE
    return _verdict(_contains(window, b"\xff\xd9", scan))  # a phone's film may be appended behind the picture


def _jpeg_scan(window: Window) -> int | None:
    """Where the first scan's data begins; None when the file ends before."""
    at = 2
    while True:
        marker = window.read(at, 4)
        if len(marker) < 4:
            return None
        if marker[0] != 0xFF:
            return at  # not a marker: damaged, and for the parser to judge
        if marker[1] == 0xFF:
            at += 1
            continue
        length = 2 + int.from_bytes(marker[2:], "big")
        if marker[1] == 0xDA:
            return at + length
        at += length if 0xC0 <= marker[1] <= 0xFE and not 0xD0 <= marker[1] <= 0xD8 else 2


def _contains(window: Window, needle: bytes, start: int) -> bool:
    """Whether `needle` occurs from `start` on, reading in chunks that overlap."""
    at = start
    while at < window.size:
        if needle in window.read(at, CHUNK + len(needle) - 1):
            return True
        at += CHUNK
    return False


def _png(window: Window) -> Finding:
    if b"IEND\xaeB`\x82" in window.end(END_BYTES):
        return Finding.WHOLE
    at = 8
    while len(chunk := window.read(at, 8)) == 8:
        if chunk[4:] == b"IEND":
            return _verdict(at + 12 <= window.size)
        at += 12 + int.from_bytes(chunk[:4], "big")
    return Finding.CUT


def _bmp(window: Window) -> Finding:
    """Pixels of an uncompressed bitmap are counted; else the size that its header claims."""
    head = window.read(0, 54)
    claimed, start, header = struct.unpack_from("<I4xII", head, 2)
    if header >= 40 and len(head) == 54:
        width, height, _, depth, packing = struct.unpack_from("<iiHHI", head, 18)
        if packing in (0, 3) and width > 0 and depth in (1, 4, 8, 16, 24, 32):
            return _verdict(window.size >= start + (width * depth + 31) // 32 * 4 * abs(height))
    return _verdict(window.size >= max(claimed, start))


def _webp(window: Window) -> Finding:
    (length,) = struct.unpack_from("<I", window.read(0, 12), 4)
    return _verdict(length >= 4 and length + 8 <= window.size and not _unwritten(window, length + 8))


def _jp2(window: Window) -> Finding:
    """The codestream's end marker; a JP2 file's boxes must also end inside it."""
    boxed = window.read(4, 4) == b"jP  "
    if boxed and _boxes(window, b"jp2c") is Finding.CUT:
        return Finding.CUT
    return _verdict(b"\xff\xd9" in window.end(END_BYTES) or (boxed and window.size > 0 and _trailing_box(window)))


def _trailing_box(window: Window) -> bool:
    """Whether something (a UUID box, say) stands behind the codestream box, so that the marker is not at the end."""
    kinds = [kind for kind, _, _ in _walk_boxes(window)]
    return bool(kinds) and kinds[-1] != b"jp2c"


def _heic(window: Window) -> Finding:
    return _boxes(window, b"meta", b"mdat")


def _boxes(window: Window, *needed: bytes) -> Finding:
    """Every top-level box ends inside the file, and those that are needed are there."""
    seen: set[bytes] = set()
    for kind, start, length in _walk_boxes(window):
        if start + length > window.size or (kind == b"mdat" and _unwritten(window, start + length)):
            return Finding.CUT
        seen.add(kind)
    return _verdict(seen.issuperset(needed))


def _walk_boxes(window: Window) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, length) of each top-level box; stops at padding or at a length that cannot be."""
    at = 0
    while len(head := window.read(at, 16)) >= 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            length = window.size - at if kind.strip(b"\0") else 0
        if length < 8:
            return
        yield kind, at, length
        at += length


def _zip(window: Window) -> Finding:
    """An end record whose comment reaches to the file's end and whose directory lies before it."""
    start = max(0, window.size - ZIP_END_BYTES)
    tail = window.read(start, ZIP_END_BYTES)
    at = tail.rfind(b"PK\5\6")
    while at >= 0:
        if len(tail) - at >= 22:
            length, offset, comment = struct.unpack_from("<IIH", tail, at + 12)
            inside = 0xFFFFFFFF in (length, offset) or length <= start + at
            if inside and at + 22 + comment <= len(tail):
                return Finding.WHOLE
        at = tail.rfind(b"PK\5\6", 0, at)
    return Finding.CUT


def _mail(window: Window) -> Finding:
    """A multipart mail ends with its closing boundary; many programs cut it, so its lack is only a doubt."""
    head = window.read(0, PADDING_BYTES).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    unfolded = re.sub(rb"\n[ \t]+", b" ", head)
    kind = re.search(rb"(?im)^content-type:\s*multipart/[^\n]*?boundary=(?:\"([^\"\n]+)\"|([^\s;\"]+))", unfolded)
    if kind is None:
        return Finding.WHOLE
    closing = b"--" + (kind[1] or kind[2]) + b"--"
    return Finding.WHOLE if closing in window.end(PADDING_BYTES) else Finding.DOUBTFUL


# TIFF: field types by their size in bytes; the tags that say where the pixels are
_TIFF_SIZES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_TIFF_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_COMPRESSION: Final = 259
_OFFSETS: Final = frozenset({273, 324})
_LENGTHS: Final = frozenset({279, 325})


def _tiff(window: Window) -> Finding:
    """Every page's directory, its values and its pixel data end inside the file. Loops in the chain end the walk.

    Zeros behind everything that the pages refer to may be the place of a page that is still to come: a doubt.
    """
    order = "<" if window.read(0, 2) == b"II" else ">"
    big = window.read(2, 2) in (b"+\0", b"\0+")
    pointer, at_pointer = ("Q", 8) if big else ("I", 4)
    width = struct.calcsize(pointer)
    (at,) = struct.unpack(order + pointer, window.read(at_pointer, width).ljust(width, b"\0"))
    end = 0
    seen: set[int] = set()
    while at and at not in seen:
        seen.add(at)
        page = _tiff_page(window, at, order, big)
        if page is None:
            return Finding.CUT
        at, end = page[0], max(end, page[1])
    if not seen:
        return Finding.CUT
    return (
        Finding.DOUBTFUL if end <= window.size - UNWRITTEN_BYTES and _unwritten(window, window.size) else Finding.WHOLE
    )


def _tiff_page(window: Window, at: int, order: str, big: bool) -> tuple[int, int] | None:
    """(offset of the next directory, where this page's bytes end); None when they end beyond the file."""
    counter, entry, pointer = ("Q", 20, "Q") if big else ("H", 12, "I")
    head = window.read(at, struct.calcsize(counter))
    if len(head) < struct.calcsize(counter):
        return None
    (count,) = struct.unpack(order + counter, head)
    if count > IFD_ENTRY_LIMIT:
        raise BudgetSpent
    body = window.read(at + len(head), count * entry + struct.calcsize(pointer))
    if len(body) < count * entry + struct.calcsize(pointer):
        return None
    end = _tiff_values_end(window, body[: count * entry], order, big)
    if end is None:
        return None
    return struct.unpack_from(order + pointer, body, count * entry)[0], max(end, at + len(head) + len(body))


def _tiff_values_end(window: Window, entries: bytes, order: str, big: bool) -> int | None:
    """Where the last value, strip or tile ends; None when that is beyond the file or was never written."""
    shape, entry, inline = ("HHQ", 20, 8) if big else ("HHI", 12, 4)
    offsets: list[int] = []
    lengths: list[int] = []
    packed, end = False, 0
    for at in range(0, len(entries), entry):
        tag, kind, count = struct.unpack_from(order + shape, entries, at)
        need = _TIFF_SIZES.get(kind, 1) * count
        value = entries[at + entry - inline : at + entry]
        if need > inline:
            (start,) = struct.unpack(order + ("Q" if big else "I"), value)
            end = max(end, start + need)
            value = window.read(start, min(need, STRIP_BYTES_LIMIT)) if tag in _OFFSETS | _LENGTHS else b""
        if tag == _COMPRESSION:
            packed = struct.unpack_from(order + "H", value)[0] > 1
        if tag in _OFFSETS | _LENGTHS and kind in _TIFF_INTEGERS:
            (offsets if tag in _OFFSETS else lengths).extend(_tiff_integers(value, count, order, kind))
    data = max((start + length for start, length in zip(offsets, lengths, strict=False)), default=0)
    if max(end, data) > window.size or (packed and data and _unwritten(window, data)):
        return None
    return max(end, data)


def _tiff_integers(value: bytes, count: int, order: str, kind: int) -> tuple[int, ...]:
    letter = _TIFF_INTEGERS[kind]
    return struct.unpack_from(f"{order}{min(count, len(value) // struct.calcsize(letter))}{letter}", value)


_CHECKS: Final[dict[MediaType, Callable[[Window], Finding]]] = {
    MediaType.PDF: _pdf,
    MediaType.TIFF: _tiff,
    MediaType.JPEG: _jpeg,
    MediaType.PNG: _png,
    MediaType.BMP: _bmp,
    MediaType.WEBP: _webp,
    MediaType.JP2: _jp2,
    MediaType.HEIC: _heic,
    MediaType.ZIP: _zip,
    MediaType.EML: _mail,
}
