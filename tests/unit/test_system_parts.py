"""The log without documents' words, the door to the machine, and the archive that is made while it is sent."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from inkstick import appliance, selftest
from inkstick.errors import Damaged, Unavailable, UsageError
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


@asynccontextmanager
async def machine(path: Path, answers: dict[str, object]) -> AsyncIterator[list[object]]:
    """Somebody who answers at the socket, and what was asked."""
    asked: list[object] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = json.loads(await reader.readline())
        asked.append(question)
        reply = answers["offers" if "ask" in question else "do"]
        writer.write((reply if isinstance(reply, str) else json.dumps(reply)).encode() + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(answer, str(path))
    try:
        yield asked
    finally:
        server.close()


async def test_the_machine_is_asked_only_for_what_it_offers(tmp_path: Path) -> None:
    door = tmp_path / "door"
    assert await appliance.offers(door) == ()
    answers = {"offers": {"offers": ["lock", "fly"]}, "do": {"done": True}}
    async with machine(door, answers) as asked:
        assert await appliance.offers(door) == ("lock",)
        await appliance.do(door, "lock")
        assert asked[-1] == {"do": "lock"}
        with pytest.raises(UsageError):
            await appliance.do(door, "power-off")


async def test_a_machine_that_fails_or_talks_nonsense_is_told_in_words(tmp_path: Path) -> None:
    door = tmp_path / "door"
    async with machine(door, {"offers": {"offers": ["lock"]}, "do": {"error": "The volume is busy."}}):
        with pytest.raises(Unavailable, match="The volume is busy"):
            await appliance.do(door, "lock")
    door.unlink(missing_ok=True)
    async with machine(door, {"offers": "nonsense", "do": "nonsense"}):
        assert await appliance.offers(door) == ()


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
    blocks = list(bundle.stream([("a", tmp_path / "a"), ("sub/b", tmp_path / "b"), ("gone", tmp_path / "gone")]))
    assert max(map(len, blocks)) < 2 * bundle.BLOCK
    with zipfile.ZipFile(io.BytesIO(b"".join(blocks))) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["a/big.pdf", "a/tables/墨.csv", "sub/b/x.txt"]
        assert archive.read("a/big.pdf") == big
