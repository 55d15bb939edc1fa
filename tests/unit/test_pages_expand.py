"""Archives and mails member by member, without a parser process: what is streamed, and what is left behind."""

from __future__ import annotations

import asyncio
import base64
import errno
import io
import os
import re
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from inkstick.errors import Damaged, TooComplex, Unavailable
from inkstick.pages import expand, wire
from inkstick.pages.expand import Expansion, Limits
from inkstick.pages.pdf import PdfFile
from inkstick.pages.pool import open_regular
from inkstick.pages.unpack import html_text, unpack
from support import numbered

MAIL = b"""From: a@example.org
To: b@example.org
Subject: bill
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="B"

--B
Content-Type: multipart/alternative; boundary="C"

--C
Content-Type: text/plain; charset=utf-8

See the picture.
--C
Content-Type: text/html; charset=utf-8

<p>See the picture.</p>
--C--
--B
Content-Type: image/png; name="p.png"
Content-Disposition: inline; filename="p.png"
Content-Transfer-Encoding: base64

iVBORw0KGgo=
--B
Content-Type: text/plain; charset=utf-8

Please pay 500 by Friday.
--B
Content-Type: text/plain; charset=utf-8
Content-Disposition: attachment; filename="notes.txt"

These are notes.
--B--
"""


def streamed(path: Path, media_type: str) -> list[tuple[dict[str, object], bytes]]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return [(head, b"".join(blobs)) for head, blobs in unpack(fd, media_type, (), 100, 200)]
    finally:
        os.close(fd)


def test_a_member_whose_packing_is_broken_costs_no_other(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("broken.png", os.urandom(5000))
    with zipfile.ZipFile(raw, "a") as archive:
        archive.writestr("good.png", numbered.png(1))
    data = bytearray(raw.getvalue())
    data[500:520] = data[1000:1020] = b"\xff" * 20
    (tmp_path / "a.zip").write_bytes(data)
    told = streamed(tmp_path / "a.zip", "application/zip")
    assert [head.get("member") for head, _ in told if "member" in head] == ["broken.png", "good.png"]
    assert [head for head, _ in told if "bad" in head]
    assert told[-1][1] == numbered.png(1)


def test_a_mail_has_the_text_above_a_picture_and_the_text_below_it(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(MAIL)
    text = streamed(tmp_path / "a.eml", "message/rfc822")[1][1].decode()
    assert text.endswith("See the picture.\n\nPlease pay 500 by Friday.")
    assert text.count("See the picture.") == 1


@pytest.mark.parametrize("full", [False, True])
async def test_an_archive_that_is_cut_off_leaves_no_file_open_and_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    def refused(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def killed(*arguments: object) -> None:
        take = arguments[4]
        assert callable(take)
        take(wire.Frame({"member": "a.pdf"}))
        take(wire.Frame({"chunk": True}, (b"%PDF",)))
        raise TooComplex

    if full:
        monkeypatch.setattr(expand, "_write", refused)
    (tmp_path / "a.zip").write_bytes(b"PK")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises((TooComplex, OSError)):
            await Expansion(killed, tmp_path / "into", Limits(), ()).run(tmp_path / "a.zip", "application/zip")
    assert len(os.listdir("/proc/self/fd")) == before
    assert list((tmp_path / "into").iterdir()) == []


def test_a_file_that_cannot_be_opened_for_want_of_descriptors_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(Unavailable):
            open_regular(tmp_path / "a.pdf")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


HEAD = b"From: a@example.org\nTo: b@example.org\nMIME-Version: 1.0\n"


@pytest.mark.parametrize(
    ("charset", "encoding", "text"),
    [
        ("undefined", "utf-8", "Grüße"),  # what programs write that forgot to set it
        ("undefined", "cp1252", "Grüße"),
        ("gb2312", "gbk", "朱镕基 签字"),  # the second character is not in GB 2312
        ("ks_c_5601-1987", "cp949", "똠방각하"),
        ("iso-8859-8-i", "iso-8859-8", "שלום עולם"),
        ("iso-8859-1", "cp1252", "\u201cfünf\u201d – 5 €"),
        ("x-unheard-of", "gbk", "中华人民共和国"),
    ],
)
def test_a_mail_says_what_it_said_though_its_encoding_is_named_loosely(
    tmp_path: Path, charset: str, encoding: str, text: str
) -> None:
    kind = f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: 8bit\n\n".encode()
    (tmp_path / "a.eml").write_bytes(HEAD + kind + text.encode(encoding))
    assert streamed(tmp_path / "a.eml", "message/rfc822")[1][1].decode().endswith(f"\n\n{text}")


def test_a_name_in_a_header_keeps_a_character_that_its_encoding_lacks(tmp_path: Path) -> None:
    word = base64.b64encode("朱镕基".encode("gbk")).decode()
    (tmp_path / "a.eml").write_bytes(HEAD + f"Subject: =?gb2312?B?{word}?=\n\nhi".encode())
    assert "Subject: 朱镕基\n" in streamed(tmp_path / "a.eml", "message/rfc822")[1][1].decode()


def test_an_empty_plain_text_does_not_hide_the_html_beside_it(tmp_path: Path) -> None:
    parts = b"Content-Type: multipart/alternative; boundary=B\n\n--B\nContent-Type: text/plain\n\n \n--B\n"
    (tmp_path / "a.eml").write_bytes(HEAD + parts + b"Content-Type: text/html\n\n<p>Pay 500.</p>\n--B--\n")
    told = streamed(tmp_path / "a.eml", "message/rfc822")
    assert told[1][1].decode().endswith("Pay 500.")
    assert len(told) == 2


def test_a_mail_whose_parts_cannot_be_told_apart_says_so_and_shows_what_there_is(tmp_path: Path) -> None:
    for kind in (b"multipart/mixed", b"multipart/mixed; boundary=WRONG"):
        (tmp_path / "a.eml").write_bytes(HEAD + b"Content-Type: " + kind + b"\n\n--B\n\nPay 500.\n--B--\n")
        told = streamed(tmp_path / "a.eml", "message/rfc822")
        assert "Pay 500." in told[1][1].decode()
        assert [head["bad"]["code"] for head, _ in told if "bad" in head] == ["damaged"]  # type: ignore[index]


def test_texts_without_a_name_are_in_the_mail_whatever_they_are(tmp_path: Path) -> None:
    parts = (
        b"Content-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: text/plain\n\nbody\n--B\n"
        b"Content-Type: text/html\nContent-Disposition: attachment\n\n<p>attached</p>\n--B\n"
        b"Content-Type: text/csv\n\na,7\n--B--\n"
    )
    (tmp_path / "a.eml").write_bytes(HEAD + parts)
    told = streamed(tmp_path / "a.eml", "message/rfc822")
    assert told[1][1].decode().endswith("body\n\nattached\n\na,7")


def test_a_word_wider_than_the_paper_is_whole_on_it(tmp_path: Path) -> None:
    word, address = "a1" * 200, "https://example.org/" + "b2" * 100 + "?c=" + "d3" * 100
    (tmp_path / "a.eml").write_bytes(HEAD + f"Content-Type: text/plain\n\n{word} {address} end\n".encode())
    (tmp_path / "a.txt").write_bytes(streamed(tmp_path / "a.eml", "message/rfc822")[1][1])
    document = PdfFile(os.open(tmp_path / "a.txt", os.O_RDONLY), kind="txt")
    layer = document.sheet(1).layer()
    document.close()
    assert layer is not None
    assert f"{word}{address}end" in "".join(found.text for found in layer.words)


def test_what_is_packed_in_a_way_that_is_not_read_is_not_called_locked_or_damaged(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("a.pdf", b"%PDF-1.7")
        archive.writestr("b.pdf", b"%PDF-1.7")
    data = bytearray(raw.getvalue())
    for mark, flags, method in ((b"PK\3\4", 6, 8), (b"PK\1\2", 8, 10)):
        aes, deflate64 = (at.start() for at in re.finditer(re.escape(mark), data))
        data[aes + flags], data[aes + method], data[deflate64 + method] = 1, 99, 9
    (tmp_path / "a.zip").write_bytes(data)
    told = streamed(tmp_path / "a.zip", "application/zip")
    assert [head["bad"]["code"] for head, _ in told if "bad" in head] == ["unsupported"] * 2  # type: ignore[index]


def test_a_folder_as_some_programs_of_windows_write_it_is_no_empty_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("scans\\", b"")
        archive.writestr("scans\\a.pdf", b"%PDF-1.7")
    told = streamed(tmp_path / "a.zip", "application/zip")
    assert [head["member"] for head, _ in told if "member" in head] == ["scans/a.pdf"]


async def test_who_is_called_away_from_an_archive_leaves_nothing_that_goes_on_writing(tmp_path: Path) -> None:
    """The reader of the archive goes on until it is told: the folder may be another's by then."""
    kept: list[Callable[[wire.Frame], None]] = []
    begun = asyncio.Event()

    async def endless(*arguments: object) -> None:
        take = arguments[4]
        assert callable(take)
        kept.append(take)
        begun.set()
        take(wire.Frame({"member": "a.pdf"}))
        await asyncio.Event().wait()

    (tmp_path / "a.zip").write_bytes(b"PK")
    whole = Expansion(endless, tmp_path / "into", Limits(), ())
    task = asyncio.create_task(whole.run(tmp_path / "a.zip", "application/zip"))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(Damaged):
        kept[0](wire.Frame({"member": "b.pdf"}))
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Total 5<div>3 pieces</div>", "Total 5\n3 pieces"),
        ("<p>1<p>2<P class=x>3", "1\n2\n3"),
        ("<table><tr><td>1<td><b>2</b><tr><td>3</table>", "1\t2\n3"),
        ("<ul><li>10<li>20</ul>", "10\n20"),
        ("<p>a</p>\n<p>b</p>\n\n<p>c <b>d</b>e</p>", "a\n\nb\n\nc de"),
        ("<tr><td>1</td>\n<td>2</td></tr>", "1\t\n2"),
    ],
)
def test_what_stands_apart_in_an_html_mail_is_not_one_word(source: str, text: str) -> None:
    assert html_text(source) == text
