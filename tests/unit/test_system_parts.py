"""The log without documents' words, the door to the machine, and the archive that is made while it is sent."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from pathlib import Path

import pytest

from inkstick import selftest
from inkstick.errors import Damaged
from inkstick.logring import LogRing
from inkstick.web import bundle

ID = "06b2" + "0" * 22


@pytest.fixture
def ring() -> LogRing:
    return LogRing(3)


def told(ring: LogRing, *said: tuple[object, ...]) -> list[str]:
    log = logging.Logger("inkstick.test")
    log.addHandler(ring)
    for sentence in said:
        log.warning(*sentence)
    return [line.text for line in ring.lines()]


def test_a_line_shows_numbers_ids_and_codes_and_nothing_else(ring: LogRing) -> None:
    assert told(
        ring,
        ("document %s failed after %d pages in %.1f s", ID, 3, 2.5),
        ("%s cannot be opened: %s", "/inbox/Payroll.pdf", Damaged("page 'Payroll' is cyclic")),
        ("fault: %s", OSError("Payroll.pdf")),
    ) == [f"document {ID} failed after 3 pages in 2.5 s", "… cannot be opened: damaged", "fault: OSError"]


def test_of_an_exception_only_its_places_are_kept_and_old_lines_go(ring: LogRing) -> None:
    log = logging.Logger("inkstick.test")
    log.addHandler(ring)
    try:
        raise ValueError("Payroll")
    except ValueError:
        log.exception("it broke")
    (line,) = ring.lines()
    assert line.text.startswith("it broke [ValueError at test_system_parts.py:")
    assert "Payroll" not in line.text
    told(ring, *[(f"line {n}",) for n in range(5)])
    assert [line.text for line in ring.lines()] == ["line 2", "line 3", "line 4"]


@pytest.mark.parametrize(
    ("read", "good"),
    [("ABCDEF 12345\n1 / 678", True), ("ABCDEF12345 1/678", True), ("ABCDEF 12845\n1 / 678", False), ("", False)],
)
def test_the_self_test_forgives_blanks_but_no_digit(read: str, good: bool) -> None:
    assert selftest.same("ABCDEF 12345\n1 / 678", read) is good


def test_an_archive_is_whole_though_it_is_made_in_blocks(tmp_path: Path) -> None:
    big = bytes(range(256)) * 4096
    for name, data in {"a/big.pdf": big, "a/tables/墨.csv": b"1,2", "b/x.txt": b"text" * 9999}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "b/link").symlink_to("/etc/passwd")
    (tmp_path / os.fsdecode(b"b/of no encoding \xff.txt")).write_bytes(b"put there by somebody")
    blocks = list(bundle.stream([("a", tmp_path / "a"), ("sub/b", tmp_path / "b"), ("gone", tmp_path / "gone")]))
    assert max(map(len, blocks)) < 2 * bundle.BLOCK
    with zipfile.ZipFile(io.BytesIO(b"".join(blocks))) as archive:
        assert archive.testzip() is None
        names = ["a/big.pdf", "a/tables/墨.csv", "sub/b/of no encoding \ufffd.txt", "sub/b/x.txt"]
        assert sorted(archive.namelist()) == names
        assert archive.read("a/big.pdf") == big
