"""A data folder filled to its last byte by somebody else: the service starts, and room can be made on its page."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from inkstick import office as module
from inkstick.access.reception import Reception
from inkstick.access.roles import Role
from inkstick.clock import SystemClock
from inkstick.commands.access import new_pin
from inkstick.config import Settings
from inkstick.engines.openai import OpenAiEngine
from inkstick.errors import Blocked
from inkstick.office import Office
from inkstick.reading.reader import Engines
from support import numbered
from support.fake_engine import FakeEngine

SIZE, RESERVE = 160 << 20, 48 << 20
TESTS = Path(__file__).parents[1]


def test_of_a_disk_without_one_free_byte_documents_can_be_deleted(tmp_path: Path) -> None:
    in_small_disk("delete", tmp_path)


def test_on_a_disk_without_one_free_byte_the_service_starts(tmp_path: Path) -> None:
    in_small_disk("start", tmp_path)


@pytest.mark.parametrize("what", ["pin", "pair"])
def test_on_a_disk_without_one_free_byte_a_browser_is_paired_to_make_room(what: str, tmp_path: Path) -> None:
    """Filled through the share, say: no PIN could be made for whoever would delete, and none was taken."""
    in_small_disk(what, tmp_path)


def in_small_disk(what: str, folder: Path) -> None:
    """Run one of the scenarios below in a process of its own, with `folder` on a file system of SIZE bytes."""
    script = f'mount -t tmpfs -o size={SIZE} small "$0" && exec "$@"'
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--user", "--map-root-user"]
    if subprocess.run([*unshare, "sh", "-c", script, str(folder), "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    run = [sys.executable, __file__, what, str(folder)]
    subprocess.run(
        [*unshare, "sh", "-c", script, str(folder), *run],
        check=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )


@asynccontextmanager
async def office_in(folder: Path, fake: FakeEngine) -> AsyncIterator[Office]:
    settings = Settings(data=folder / "data", reserve_bytes=RESERVE, parsers=1, page_seconds=30)
    office = Office(settings, engines=Engines(OpenAiEngine(fake.url, in_flight=2)))
    await office.start()
    try:
        yield office
    finally:
        await office.close()


async def read_one(office: Office, name: str, number: int) -> str:
    async def data() -> AsyncIterator[bytes]:
        yield numbered.png(number)

    info = await office.accept_upload(name, data())
    async with asyncio.timeout(120):
        while (await office.document(info.id)).state != "done" or not office.settings.folder.ballast.exists():
            await office.wait_event(after=await office.last_event(), timeout=0.2)
    return info.id


def fill(folder: Path) -> None:
    """As somebody does who copies into the inbox what does not fit."""
    with (folder / "film.mp4").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass
    try:
        (folder / "nothing-more").write_bytes(b"x")
    except OSError:
        return
    raise AssertionError("the disk is not full")


async def delete(folder: Path, fake: FakeEngine) -> None:
    async with office_in(folder, fake) as office:
        ids = [await read_one(office, f"{number}.png", number) for number in (70, 71)]
        fill(folder)
        await office.remove(ids[0])
        assert [info.id for info in await office.documents()] == ids[1:]
        assert not (office.settings.folder.results / "70").exists()
        await expect_full(office)


async def start(folder: Path, fake: FakeEngine) -> None:
    async with office_in(folder, fake) as office:
        ids = [await read_one(office, f"{number}.png", number) for number in (72, 73)]
    # Not known to the ledger any more: the start has to write.
    for path in office.settings.folder.state.glob("ledger.sqlite*"):
        path.unlink()
    fill(folder)
    async with office_in(folder, fake) as office:
        assert {info.id for info in await office.documents()} == set(ids)
        await office.remove(ids[0])
        await expect_full(office)
        (folder / "film.mp4").unlink()
        await read_one(office, "74.png", 74)


async def pin(folder: Path, fake: FakeEngine) -> None:
    async with office_in(folder, fake) as office:
        await read_one(office, "75.png", 75)
        fill(folder)
        new_pin(office.settings.folder.state, Role.ADMIN, SystemClock())
        assert await Reception(office.settings, lan=True).pin()


async def pair(folder: Path, fake: FakeEngine) -> None:
    async with office_in(folder, fake) as office:
        reception = Reception(office.settings, lan=True)
        id = await read_one(office, "76.png", 76)
        digits = (await reception.new_pin(Role.ADMIN)).digits
        fill(folder)
        session, _ = await reception.pair(digits, "a browser", "192.0.2.1")
        assert session.role is Role.ADMIN
        await office.remove(id)


async def expect_full(office: Office) -> None:
    """Nothing new comes in, for all the room that was made."""
    try:
        await office.admit(1)
    except Blocked as error:
        assert error.code == "disk_full"
    else:
        raise AssertionError("a full disk takes documents in")


async def main(what: str, folder: Path) -> None:
    module.BALLAST_SECONDS = 0.2
    async with FakeEngine(speed=20) as fake:
        await {"delete": delete, "start": start, "pin": pin, "pair": pair}[what](folder, fake)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
