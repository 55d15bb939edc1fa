"""Uploads that break off and go on: at any step, after a power cut, over the tus protocol."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from inkstick.clock import ManualClock
from inkstick.config import DataFolder, Settings
from inkstick.errors import Incomplete, UsageError
from inkstick.office import Office
from inkstick.reading.reader import Engines
from inkstick.store.disk import Disk
from inkstick.store.spool import Spool
from inkstick.uploads import MOST, Uploads
from inkstick.web.app import create_app
from support.hostile_reader import HostileReader
from support.office import MemoryOffice

SAMPLES = Path(__file__).parents[1] / "samples"
CONTENT = bytes(range(256)) * 40
TUS = {"Tus-Resumable": "1.0.0"}


class Crash(BaseException):
    """The process ends here: nothing after it reaches the disk."""


class CrashingDisk(Disk):
    """Ends before its step number `at`, and stays ended."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def step(self, at: str) -> bool:
        self.left -= 1
        if self.left < 0:
            raise Crash(at)
        return super().step(at)


async def pieces(data: bytes, size: int = 3000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def uploads(folder: DataFolder, disk: Disk) -> tuple[Uploads, Spool]:
    spool = Spool(folder, disk, ManualClock(1000))

    async def accepted(_id: str) -> None:
        return

    return Uploads(spool, 1 << 30, accepted), spool


async def send(service: Uploads, known: str | None) -> str:
    """What a client does: go on if it can, else begin; a request per 4,000 bytes."""
    info = None
    if known is not None:
        try:
            info = await service.look(known)
        except UsageError as error:
            assert error.code == "not_found"
    if info is None:
        digest = hashlib.sha256(CONTENT).hexdigest()
        info = await service.begin("a.pdf", len(CONTENT), sha256=digest)
        Client.told = info.id
    while info.document is None:
        info = await service.append(info.id, info.offset, pieces(CONTENT[info.offset : info.offset + 4000]))
    return info.id


class Client:
    """What the sender knows when the service ends."""

    told: str | None = None


async def test_a_crash_at_any_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    at, ended = 0, False
    while not ended:
        folder = DataFolder(tmp_path / str(at))
        folder.create()
        Client.told = None
        service, _ = uploads(folder, CrashingDisk(at))
        try:
            await send(service, None)
            ended = True
        except Crash:
            pass
        service, spool = uploads(folder, Disk())
        spool.recover()
        await service.resume()
        id = await send(service, Client.told)
        spool.recover()
        claims = list(spool.claims())
        assert [claim.id for claim in claims] == [id], f"after a crash at step {at}"
        assert spool.original(id).read_bytes() == CONTENT
        assert claims[0].sha256 == hashlib.sha256(CONTENT).hexdigest()
        at += 1
    assert at > 30


async def test_what_a_power_cut_left_beyond_the_saved_offset_is_sent_again(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.create()
    service, spool = uploads(folder, Disk())
    info = await service.begin("a", len(CONTENT))
    info = await service.append(info.id, 0, pieces(CONTENT[:5000]))
    part = spool.folder(info.id) / "original.part"
    part.write_bytes(part.read_bytes() + b"\0" * 9999)
    service, spool = uploads(folder, Disk())
    assert (await service.look(info.id)).offset == 5000
    await service.append(info.id, 5000, pieces(CONTENT[5000:]))
    assert spool.original(info.id).read_bytes() == CONTENT
    part.write_bytes(b"")
    info = await service.begin("b", 10)
    await service.append(info.id, 0, pieces(b"01234"))
    (spool.folder(info.id) / "original.part").write_bytes(b"01")  # the disk lost what it had promised to keep
    with pytest.raises(UsageError, match="at byte 0"):
        await service.append(info.id, 5, pieces(b"56789"))


async def test_a_start_accepts_what_came_whole_though_another_upload_is_not_what_was_announced(tmp_path: Path) -> None:
    """The service was killed between the last byte and the comparison: it had not started any more."""
    folder = DataFolder(tmp_path)
    folder.create()
    service, spool = uploads(folder, Disk())
    wrong = await service.begin("wrong", 5, sha256="0" * 64)
    right = await service.begin("right", 5)
    for info in (wrong, right):
        (spool.folder(info.id) / "original.part").write_bytes(b"01234")
        (spool.folder(info.id) / "offset.json").write_text('{"offset": 5}')
    service, spool = uploads(folder, Disk())
    await service.resume()
    assert [claim.id for claim in spool.claims()] == [right.id]
    with pytest.raises(UsageError, match="no such upload"):
        await service.look(wrong.id)


async def test_a_sender_that_goes_away_has_sent_what_came(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.create()
    service, _ = uploads(folder, Disk())
    info = await service.begin("a", 100)

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 40
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await service.append(info.id, 0, broken())
    assert (await service.look(info.id)).offset == 40


async def test_wrong_bytes_are_refused_and_forgotten(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.create()
    service, spool = uploads(folder, Disk())
    info = await service.begin("a", 4, sha256=hashlib.sha256(b"good").hexdigest())
    with pytest.raises(UsageError) as refused:
        await service.append(info.id, 0, pieces(b"evil"))
    assert refused.value.code == "checksum"
    with pytest.raises(UsageError, match="no such upload"):
        await service.look(info.id)
    assert list(spool.claims()) == []
    info = await service.begin("a", 4)
    with pytest.raises(UsageError, match="More bytes"):
        await service.append(info.id, 0, pieces(b"12345"))


async def test_a_beginning_does_not_look_at_every_document_that_there_is(tmp_path: Path) -> None:
    """A person drops a thousand files on the page of a machine that has read twenty thousand."""

    class Counting(Disk):
        looks = 0

        def exists(self, path: Path) -> bool:
            self.looks += 1
            return super().exists(path)

    folder, disk = DataFolder(tmp_path / "data"), Counting()
    folder.create()
    service, spool = uploads(folder, disk)
    for _ in range(20):
        await send(service, None)
    disk.looks = 0
    await service.begin("a", 1)
    assert disk.looks < 10
    assert len(list(spool.claims())) == 20


async def test_only_so_many_unfinished_uploads_are_kept(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.create()
    service, _ = uploads(folder, Disk())
    ids = [(await service.begin("a", 1)).id for _ in range(MOST + 1)]
    with pytest.raises(UsageError):
        await service.look(ids[0])
    assert (await service.look(ids[1])).offset == 0


# ---- the protocol


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    office = MemoryOffice(tmp_path)
    await office.start()
    transport = httpx.ASGITransport(create_app(office))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", headers=TUS) as client:
        yield client
    await office.close()


def metadata(**pairs: str) -> dict[str, str]:
    return {"Upload-Metadata": ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())}


async def begin(client: httpx.AsyncClient, length: int, **pairs: str) -> httpx.Response:
    return await client.post("/api/v1/uploads", headers={"Upload-Length": str(length), **metadata(**pairs)})


async def patch(client: httpx.AsyncClient, where: str, offset: int, data: bytes, **more: str) -> httpx.Response:
    headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream", **more}
    return await client.patch(where, headers=headers, content=data)


async def test_an_upload_goes_on_by_the_protocol_and_becomes_a_document(client: httpx.AsyncClient) -> None:
    made = await begin(
        client, 11, filename="报告 a.txt", task="text", sha256=hashlib.sha256(b"hello world").hexdigest()
    )
    where = made.headers["location"]
    assert (made.status_code, made.headers["tus-resumable"], made.headers["upload-offset"]) == (201, "1.0.0", "0")
    first = await patch(client, where, 0, b"hello ")
    assert (first.status_code, first.headers["upload-offset"]) == (204, "6")
    for wrong in (0, 5, 7, 11):
        assert (await patch(client, where, wrong, b"world")).status_code == 409, wrong
    looked = await client.head(where)
    assert (looked.status_code, looked.headers["upload-offset"], looked.headers["upload-length"]) == (200, "6", "11")
    assert looked.headers["cache-control"] == "no-store"
    last = await patch(client, where, 6, b"world")
    assert (last.status_code, last.headers["upload-offset"]) == (204, "11")
    document = (await client.get(last.headers["content-location"])).json()
    assert (document["name"], document["size"], document["task"]) == ("报告 a.txt", 11, "text")
    assert (await client.head(where)).headers["content-location"] == last.headers["content-location"]
    assert (await patch(client, where, 11, b"")).status_code == 204, "a repeated last piece is no error"
    assert (await client.delete(where)).status_code == 404
    assert len((await client.get("/api/v1/documents")).json()["documents"]) == 1


async def test_what_common_clients_say_of_a_file_is_passed_over_and_a_mistyped_option_is_not(
    client: httpx.AsyncClient,
) -> None:
    uppy = {"filename": "a.txt", "name": "a.txt", "type": "text/plain", "filetype": "text/plain", "relativePath": "x"}
    assert (await begin(client, 5, **uppy)).status_code == 201
    assert (await begin(client, 5, filename="a.txt", taks="text")).status_code == 422


async def test_an_upload_is_dropped_on_request(client: httpx.AsyncClient) -> None:
    where = (await begin(client, 5)).headers["location"]
    assert (await client.delete(where)).status_code == 204
    assert (await client.head(where)).status_code == 404


async def test_an_empty_file_is_whole_at_once(client: httpx.AsyncClient) -> None:
    assert "content-location" in (await begin(client, 0, filename="empty.txt")).headers


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"Upload-Length": "5", "Tus-Resumable": "0.9"}, 412),
        ("POST", {}, 422),
        ("POST", {"Upload-Length": "-1"}, 422),
        ("POST", {"Upload-Length": "5", "Upload-Metadata": "filename ###"}, 422),
        ("POST", {"Upload-Length": "5", **metadata(colour="red")}, 422),
        ("POST", {"Upload-Length": "5", **metadata(sha256="12")}, 422),
        ("POST", {"Upload-Length": str(1 << 50)}, 413),
        ("OPTIONS", {}, 204),
    ],
)
async def test_requests_that_are_not_of_the_protocol_are_refused(
    client: httpx.AsyncClient, method: str, headers: dict[str, str], status: int
) -> None:
    answer = await client.request(method, "/api/v1/uploads", headers=headers)
    assert answer.status_code == status
    if status == 204:
        assert (answer.headers["tus-version"], answer.headers["tus-extension"]) == (
            "1.0.0",
            "creation,termination,checksum",
        )


async def test_a_piece_must_be_called_one(client: httpx.AsyncClient) -> None:
    where = (await begin(client, 5)).headers["location"]
    assert (await client.patch(where, headers={"Upload-Offset": "0"}, content=b"12345")).status_code == 415


async def test_a_short_disk_is_said_before_a_byte_is_sent(tmp_path: Path) -> None:
    office = MemoryOffice(tmp_path)
    await office.start()
    office.full = True
    transport = httpx.ASGITransport(create_app(office))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=TUS) as client:
        assert (await begin(client, 5)).status_code == 507
    await office.close()


async def test_passwords_of_an_upload_are_taken_to_the_letter(client: httpx.AsyncClient) -> None:
    asked: dict[str, list[str]] = {"passwords": ["a, b ", "second"]}
    answer = await client.put("/api/v1/documents/x.txt", params=asked, content=b"x")
    assert answer.status_code == 201
    assert "a, b" not in answer.text
    from inkstick.web.wishes import gather

    assert gather([("passwords", each) for each in asked["passwords"]]) == {"passwords": ["a, b ", "second"]}


async def test_a_file_that_was_cut_short_on_its_way_is_incomplete(tmp_path: Path) -> None:
    whole = (SAMPLES / "english-letter.pdf").read_bytes()
    office = Office(Settings(data=tmp_path, reserve_bytes=0), engines=Engines(HostileReader()))
    await office.start()
    try:
        torn = await office.accept_upload("torn.pdf", pieces(whole[: len(whole) // 3]))
        info = await office.uploads.begin("torn too.pdf", 5000)
        await office.uploads.append(info.id, 0, pieces(whole[:5000]))
        for id in (torn.id, info.id):
            async with asyncio.timeout(60):
                while (await office.document(id)).state != "failed":
                    await office.wait_event(after=await office.last_event(), timeout=0.1)
            ended = await office.document(id)
            assert (ended.code, ended.message) == ("incomplete", Incomplete.default_message)
            assert ended.hint == Incomplete.default_hint
    finally:
        await office.close()


async def test_an_upload_keeps_the_folder_that_it_lay_in(client: httpx.AsyncClient) -> None:
    where = (await begin(client, 1, filename="a.txt", folder="trip/day 1")).headers["location"]
    await patch(client, where, 0, b"x")
    listed = (await client.get("/api/v1/documents")).json()["documents"]
    assert [row["path"] for row in listed] == ["trip/day 1/a.txt"]


def checksum(data: bytes, algorithm: str = "sha256") -> dict[str, str]:
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(hashlib.sha256(data).digest()).decode()}"}


async def test_a_piece_with_its_checksum_counts_whole_or_not_at_all(client: httpx.AsyncClient) -> None:
    where = (await begin(client, 6)).headers["location"]
    bad = await patch(client, where, 0, b"abX", **checksum(b"abc"))
    assert (bad.status_code, bad.json()["code"]) == (460, "checksum")
    assert (await client.head(where)).headers["upload-offset"] == "0"
    assert (await patch(client, where, 0, b"abc", **checksum(b"abc", "md5"))).status_code == 422
    assert (await patch(client, where, 0, b"abc", **checksum(b"abc"))).headers["upload-offset"] == "3"
    assert (await client.options("/api/v1/uploads")).headers["tus-checksum-algorithm"] == "sha256"


async def test_what_came_in_pieces_has_the_hash_of_the_whole(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.create()
    service, spool = uploads(folder, Disk())
    id = await send(service, None)
    assert spool.claim(id).sha256 == spool.digest(spool.original(id))
