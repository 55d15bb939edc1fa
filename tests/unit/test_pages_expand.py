"""Archives and mails member by member, without a parser process: what is streamed, and what is left behind."""

from __future__ import annotations

import errno
import io
import os
import resource
import zipfile
from pathlib import Path

import pytest

from inkstick.errors import TooComplex, Unavailable
from inkstick.pages import expand, wire
from inkstick.pages.expand import Expansion, Limits
from inkstick.pages.pool import open_regular
from inkstick.pages.unpack import unpack
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
