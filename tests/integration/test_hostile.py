"""Hostile files end with their code, within their deadline, and hurt nobody else."""

from __future__ import annotations

import asyncio
import base64
import functools
import random
import struct
import time
import zipfile
import zlib
from collections.abc import AsyncIterator, Sequence
from io import BytesIO
from pathlib import Path

import pytest
import pytest_asyncio

from corpora import hostile
from corpora.hostile import CASES, zipped
from inkstick.document import Flag
from inkstick.errors import ArchiveUnsafe, Damaged, DocumentError, Empty, Encrypted
from inkstick.pages.expand import Limits, Member
from inkstick.pages.pool import PagePool
from inkstick.pages.view import Budget, PageView
from support import numbered

PAGE_SECONDS = 4.0
MEMORY = 3 << 30

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("parsers")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[PagePool]:
    pool = PagePool(processes=2, page_seconds=PAGE_SECONDS, memory_bytes=MEMORY)
    await pool.start()
    yield pool
    await pool.close()


async def outcome(pool: PagePool, path: Path, media_type: str) -> tuple[str, PageView | None]:
    try:
        document = await pool.open(path, media_type)
        try:
            return "ok", await document.page(1, budget=Budget())
        finally:
            await document.close()
    except DocumentError as error:
        return error.code, None


@pytest.mark.parametrize("name", CASES)
async def test_a_hostile_file_ends_with_its_code_in_time(pool: PagePool, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    path = tmp_path / name
    path.write_bytes(case.make())
    started = time.monotonic()
    ended, page = await outcome(pool, path, case.type)
    assert ended in case.ends
    assert time.monotonic() - started < 4 * PAGE_SECONDS + 60
    if page is not None:
        assert len(page.pixels.data) == page.pixels.width * page.pixels.height * 3


async def test_after_all_of_that_an_ordinary_page_is_read(pool: PagePool, tmp_path: Path) -> None:
    path = tmp_path / "hello.pdf"
    path.write_bytes(hostile.one_page(hostile.HELLO))
    ended, page = await outcome(pool, path, "application/pdf")
    assert ended == "ok"
    assert page is not None
    assert page.text_layer is not None
    assert [word.text for word in page.text_layer.words] == ["Hello,", "ordinary", "world"]


async def test_a_bomb_does_not_disturb_the_page_beside_it(pool: PagePool, tmp_path: Path) -> None:
    bomb, plain = tmp_path / "bomb.pdf", tmp_path / "plain.pdf"
    bomb.write_bytes(hostile.form_bomb(40))
    plain.write_bytes(hostile.one_page(hostile.HELLO))
    bad, good = await pool.open(bomb, "application/pdf"), await pool.open(plain, "application/pdf")
    results = await asyncio.gather(
        bad.page(1, budget=Budget()), *(good.page(1, budget=Budget()) for _ in range(6)), return_exceptions=True
    )
    await bad.close()
    await good.close()
    assert isinstance(results[0], DocumentError)
    assert results[0].code == "timeout"
    assert all(isinstance(result, PageView) for result in results[1:])


async def test_a_lying_page_count_is_corrected_and_said(pool: PagePool, tmp_path: Path) -> None:
    path = tmp_path / "lying.pdf"
    path.write_bytes(hostile.counted(50))
    try:
        document = await pool.open(path, "application/pdf")
    except Damaged:
        return
    assert document.probe.pages == 1 or "page_count" in document.probe.warnings
    await document.close()


async def test_a_form_that_needs_another_program_is_said(pool: PagePool, tmp_path: Path) -> None:
    path = tmp_path / "xfa.pdf"
    path.write_bytes(hostile.xfa_stub())
    document = await pool.open(path, "application/pdf")
    assert "xfa" in document.probe.warnings
    await document.close()


async def test_all_frames_of_a_long_tiff_are_counted_and_the_last_is_readable(pool: PagePool, tmp_path: Path) -> None:
    path = tmp_path / "frames.tif"
    path.write_bytes(hostile.tiff(10_000, width=16, length=16))
    document = await pool.open(path, "image/tiff")
    assert document.probe.pages == 10_000
    await document.close()


async def test_a_looping_tiff_has_each_page_once(pool: PagePool, tmp_path: Path) -> None:
    path = tmp_path / "loop.tif"
    path.write_bytes(hostile.tiff(3, loop=True, width=16, length=16))
    document = await pool.open(path, "image/tiff")
    assert document.probe.pages == 3
    await document.close()


async def test_a_very_long_image_is_tiled_from_top_to_bottom(pool: PagePool, tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    path.write_bytes(hostile.picture("1", size=(300, 20_000)))
    ended, page = await outcome(pool, path, "image/png")
    assert ended == "ok"
    assert page is not None
    assert Flag.TILED in page.flags
    tops = [tile.box[1] for tile in page.tiles]
    assert tops == sorted(tops)
    assert page.tiles[0].box[1] == 0
    assert page.tiles[-1].box[3] == 1000
    assert all(later.box[1] < earlier.box[3] for earlier, later in zip(page.tiles, page.tiles[1:], strict=False))


# Archives -----------------------------------------------------------------------------------------------------------

HELLO_PDF = hostile.one_page(hostile.HELLO)


async def unpack(
    pool: PagePool, tmp_path: Path, data: bytes, limits: Limits | None = None, passwords: Sequence[str] = ()
) -> list[Member]:
    path = tmp_path / "archive.zip"
    path.write_bytes(data)
    return await pool.expand(path, "application/zip", tmp_path / "parts", limits=limits, passwords=passwords)


def locked(name: str, data: bytes, password: bytes) -> bytes:
    """A ZIP of one member, encrypted as PKWARE's APPNOTE 6.1 says (zipfile itself only decrypts)."""
    table = [functools.reduce(lambda c, _: c >> 1 ^ (c & 1) * 0xEDB88320, range(8), n) for n in range(256)]
    keys = [0x12345678, 0x23456789, 0x34567890]

    def turn(byte: int) -> None:
        keys[0] = keys[0] >> 8 ^ table[(keys[0] ^ byte) & 255]
        keys[1] = ((keys[1] + (keys[0] & 255)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = keys[2] >> 8 ^ table[(keys[2] ^ keys[1] >> 24) & 255]

    def sealed(byte: int) -> int:
        mix = keys[2] | 2
        turn(byte)
        return byte ^ (mix * (mix ^ 1) >> 8 & 255)

    for byte in password:
        turn(byte)
    crc = zlib.crc32(data)
    secret = bytes(sealed(byte) for byte in bytes(11) + bytes([crc >> 24]) + data)
    archive = bytearray(numbered.zipped({name: secret}))
    for mark, flags, sums in ((b"PK\3\4", 6, 14), (b"PK\1\2", 8, 16)):
        at = archive.index(mark)
        archive[at + flags] |= 1
        archive[at + sums : at + sums + 12] = struct.pack("<III", crc, len(secret), len(data))
    return bytes(archive)


def inside(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_names_in_a_zip_never_become_paths(pool: PagePool, tmp_path: Path) -> None:
    names = [
        "../../up.pdf", "/etc/absolute.pdf", "C:\\drive.pdf", "a\\..\\..\\back.pdf", "nul\0cut.pdf", "x" * 300 + ".pdf",
        "CON.pdf", "Caf\u00e9.pdf", "Cafe\u0301.pdf",
    ]  # fmt: skip
    members = await unpack(pool, tmp_path, zipped(dict.fromkeys(names, HELLO_PDF)))
    assert len(members) == len(names)
    assert inside(tmp_path) == {"archive.zip", *(f"parts/{n:04d}.pdf" for n in range(1, len(names) + 1))}
    assert not any(".." in m.name or m.name.startswith("/") or "\\" in m.name or "\0" in m.name for m in members)
    assert members[0].name == "up.pdf"


async def test_links_in_a_zip_are_not_followed(pool: PagePool, tmp_path: Path) -> None:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("passwd.pdf")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.pdf", HELLO_PDF)
    members = await unpack(pool, tmp_path, out.getvalue())
    assert [(m.name, m.error and m.error["code"]) for m in members] == [
        ("passwd.pdf", "archive_unsafe"),
        ("good.pdf", None),
    ]


async def test_litter_in_a_zip_is_left_out_and_unknown_types_are_listed(pool: PagePool, tmp_path: Path) -> None:
    litter = {"__MACOSX/._a.pdf": b"x", ".DS_Store": b"x", "Thumbs.db": b"x", "folder/": b""}
    members = await unpack(pool, tmp_path, zipped({**litter, "a.pdf": HELLO_PDF, "b.exe": b"MZ" + bytes(90)}))
    assert [(m.name, m.error and m.error["code"]) for m in members] == [("a.pdf", None), ("b.exe", "unsupported")]


async def test_names_in_old_encodings_are_guessed(pool: PagePool, tmp_path: Path) -> None:
    for text, encoding in (("发票2024.pdf", "gb18030"), ("請求書のコピー.pdf", "cp932")):
        raw = text.encode(encoding)
        data = zipped({"x" * len(raw): HELLO_PDF}).replace(b"x" * len(raw), raw)
        folder = tmp_path / encoding
        folder.mkdir()
        members = await unpack(pool, folder, data)
        assert members[0].name == text


async def test_a_zip_bomb_is_refused_and_leaves_little_behind(pool: PagePool, tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnsafe):
        await unpack(pool, tmp_path, zipped({"bomb.pdf": b"%PDF-1.7" + bytes(64 << 20)}))


async def test_a_nested_zip_bomb_is_refused(pool: PagePool, tmp_path: Path) -> None:
    inner = zipped({"bomb.pdf": b"%PDF-1.7" + bytes(64 << 20)})
    with pytest.raises(ArchiveUnsafe):
        await unpack(pool, tmp_path, zipped({"inner.zip": inner}))


async def test_the_total_is_counted_over_all_members(pool: PagePool, tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(300_000)
    with pytest.raises(ArchiveUnsafe):
        await unpack(
            pool, tmp_path, zipped({f"{n}.pdf": b"%PDF-" + noise for n in range(4)}), Limits(total_bytes=1_000_000)
        )


async def test_too_many_members_are_refused(pool: PagePool, tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnsafe):
        await unpack(pool, tmp_path, zipped({f"{n}.pdf": b"x" for n in range(30)}), Limits(members=20))


async def test_archives_nest_once_and_no_deeper(pool: PagePool, tmp_path: Path) -> None:
    one = zipped({"deep.pdf": HELLO_PDF})
    two = zipped({"one.zip": one, "mid.pdf": HELLO_PDF})
    members = await unpack(pool, tmp_path, zipped({"two.zip": two, "top.pdf": HELLO_PDF}))
    told = {m.name: m.error and m.error["code"] for m in members}
    assert told == {"two.zip/one.zip": "archive_unsafe", "two.zip/mid.pdf": None, "top.pdf": None}
    assert inside(tmp_path / "parts") == {m.path.name for m in members if m.path}


async def test_unpacking_again_starts_afresh(pool: PagePool, tmp_path: Path) -> None:
    data = zipped({"a.pdf": HELLO_PDF, "b.pdf": HELLO_PDF})
    first = await unpack(pool, tmp_path, data)
    (tmp_path / "parts" / "0003.part").write_bytes(b"of an attempt that was cut off")
    assert await unpack(pool, tmp_path, data) == first
    assert inside(tmp_path / "parts") == {"0001.pdf", "0002.pdf"}


async def test_overlapping_entries_are_refused(pool: PagePool, tmp_path: Path) -> None:
    data = bytearray(zipped({"a.pdf": HELLO_PDF, "b.pdf": HELLO_PDF}))
    second = data.rindex(b"PK\1\2")
    data[second + 42 : second + 46] = (0).to_bytes(4, "little")  # both entries start at 0
    with pytest.raises(ArchiveUnsafe):
        await unpack(pool, tmp_path, bytes(data))


async def test_a_cut_or_damaged_archive_is_said_to_be_damaged(pool: PagePool, tmp_path: Path) -> None:
    with pytest.raises(Damaged):
        await unpack(pool, tmp_path, zipped({"a.pdf": HELLO_PDF})[:-30])
    data = bytearray(zipped({"a.pdf": HELLO_PDF, "b.pdf": HELLO_PDF}))
    data[60:90] = bytes(30)
    members = await unpack(pool, tmp_path, bytes(data))
    assert [m.error and m.error["code"] for m in members] == ["damaged", None]


async def test_an_encrypted_zip_says_so_and_opens_with_its_password(pool: PagePool, tmp_path: Path) -> None:
    data = locked("a.pdf", HELLO_PDF, b"sesame")
    with pytest.raises(Encrypted, match=r"password\.$"):
        await unpack(pool, tmp_path, data)
    with pytest.raises(Encrypted, match="none of those that were tried"):
        await unpack(pool, tmp_path, data, passwords=("wrong",))
    (member,) = await unpack(pool, tmp_path, data, passwords=("wrong", "sesame"))
    assert member.path is not None and member.path.read_bytes() == HELLO_PDF


async def test_an_archive_without_documents_is_empty(pool: PagePool, tmp_path: Path) -> None:
    with pytest.raises(Empty):
        await unpack(pool, tmp_path, zipped({}))


MAIL = b"""From: A <a@example.org>
To: b@example.org
Subject: =?utf-8?b?5Y+R56Wo?=
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=X

--X
Content-Type: text/html; charset=utf-8

<html><head><style>p {}</style></head><p>Dear <b>B</b>,</p><p>see the bill.</p><script>alert(1)</script></html>
--X
Content-Type: application/octet-stream; name="../../bill.pdf"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="../../bill.pdf"

%s
--X
Content-Type: message/rfc822

From: c@example.org
Subject: inner
Content-Type: text/plain

inner body
--X--
"""


async def test_a_mail_gives_its_text_its_attachments_and_the_mail_inside(pool: PagePool, tmp_path: Path) -> None:
    path = tmp_path / "mail.eml"
    path.write_bytes(MAIL % base64.encodebytes(HELLO_PDF))
    members = await pool.expand(path, "message/rfc822", tmp_path / "parts")
    assert [(m.name.split("/")[-1], m.type) for m in members] == [
        ("message.txt", "text/plain"), ("bill.pdf", "application/pdf"), ("message.txt", "text/plain"),
    ]  # fmt: skip
    assert members[0].path is not None
    text = members[0].path.read_text()
    assert "Subject: 发票" in text
    assert "Dear B," in text
    assert "alert" not in text
    page = (await outcome(pool, members[0].path, "text/plain"))[1]
    assert page is not None
    assert page.text_layer is not None
    assert page.text_layer.born_digital


async def test_the_parsers_stayed_within_their_memory(pool: PagePool) -> None:
    assert 0 < pool.peak_bytes < MEMORY
