"""Bodies that break off, never end, or are larger than memory; and clients that go while they are read for."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from inkstick.web import bodies, inference, server
from support.office import MemoryOffice, png
from support.served import served

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = TUS | {"Content-Type": "application/offset+octet-stream"}


@contextlib.asynccontextmanager
async def reached(data: Path) -> AsyncIterator[tuple[MemoryOffice, httpx.AsyncClient]]:
    """Over a real port: only there does a client break off."""
    async with served(data) as (office, address), httpx.AsyncClient(base_url=address, timeout=60) as client:
        yield office, client


@contextlib.asynccontextmanager
async def begun(client: httpx.AsyncClient, head: str, body: bytes, length: int) -> AsyncIterator[asyncio.StreamReader]:
    """A request of which nothing comes after `body`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(f"{head}\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n".encode() + body)
    try:
        yield reader
    finally:
        writer.close()


async def test_an_upload_goes_on_although_its_first_sender_vanished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SILENT_SECONDS", 0.3)
    async with reached(tmp_path) as (_, client), asyncio.timeout(60):
        name = base64.b64encode(b"a.txt").decode()
        told = {"Upload-Length": "10", "Upload-Metadata": f"filename {name}"}
        at = (await client.post("/api/v1/uploads", headers=TUS | told)).headers["location"]
        head = "\r\n".join(f"{key}: {value}" for key, value in PIECE.items())
        async with begun(client, f"PATCH {at} HTTP/1.1\r\nUpload-Offset: 0\r\n{head}", b"hello", 10) as reader:
            answer = await reader.read(4000)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b'"code":"silent"' in answer
            here = (await client.head(at, headers=TUS)).headers["upload-offset"]
            assert here == "5"
            last = await client.patch(at, content=b" you.", headers=PIECE | {"Upload-Offset": here})
        assert last.status_code == 204
        assert last.headers["content-location"].startswith("/api/v1/documents/")


async def test_who_connects_and_says_nothing_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    async with reached(tmp_path) as (_, client), asyncio.timeout(60):
        silent, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        half, later = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        later.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await half.readuntil(b"}}")).startswith(b"HTTP/1.1 200")
        later.write(b"GET /healthz HTTP/1.1\r\n")  # and no end of this head
        for reader in (silent, half):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        later.close()


async def test_a_request_that_takes_long_is_not_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    async with reached(tmp_path) as (office, client), asyncio.timeout(60):
        office.gate = asyncio.Event()
        asked = asyncio.create_task(client.post("/v1/chat/completions", json=image_of()))
        await asyncio.sleep(0.6)
        office.gate.set()
        assert (await asked).status_code == 200


async def test_crowds_of_connections_leave_the_service_its_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    async with reached(tmp_path) as (_, client), asyncio.timeout(60):
        crowd = [await asyncio.open_connection("127.0.0.1", client.base_url.port) for _ in range(4)]
        with contextlib.suppress(ConnectionError):
            assert await crowd[-1][0].read() == b""
        for _, writer in crowd[:-1]:
            writer.close()
        while True:
            with contextlib.suppress(httpx.TransportError):  # until those have gone
                assert (await client.get("/healthz")).status_code == 200
                break
        crowd[-1][1].close()


def image_of() -> dict[str, object]:
    url = f"data:image/png;base64,{base64.b64encode(png(8, 8)).decode()}"
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


async def test_slow_senders_do_not_keep_the_places_of_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "BODY_SECONDS", 0.5)
    async with reached(tmp_path) as (_, client), contextlib.AsyncExitStack() as slow, asyncio.timeout(60):
        for _ in range(inference.AT_ONCE):
            await slow.enter_async_context(begun(client, "POST /v1/chat/completions HTTP/1.1", b"{", 1000))
        assert (await client.post("/v1/chat/completions", json=image_of())).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models/inkstick/inference"])
async def test_a_page_is_not_read_on_for_clients_that_have_gone(path: str, tmp_path: Path) -> None:
    async with reached(tmp_path) as (office, client), asyncio.timeout(60):
        office.gate = asyncio.Event()  # the engine is away
        image = {"json": image_of()} if path.endswith("completions") else {"files": {"file": ("a.png", png(8, 8))}}
        asked = [asyncio.create_task(client.post(path, **image)) for _ in range(inference.AT_ONCE)]
        while len(office.requests) < inference.AT_ONCE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        last = asyncio.create_task(client.post("/v1/chat/completions", json=image_of()))
        while len(office.requests) == inference.AT_ONCE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        office.gate.set()
        assert (await last).status_code == 200


async def test_a_body_that_is_read_whole_may_not_be_larger_than_memory(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 20
            yield b"x" * (1 << 20)

    answer = await client.post("/api/v1/bulk", content=endless(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.json()["hint"]
    assert sent <= bodies.WHOLE_BYTES + (2 << 20)


@pytest.mark.parametrize(
    ("method", "path", "files"),
    [
        ("POST", "/api/v1/documents", True),
        ("PUT", "/api/v1/documents/a.pdf", True),
        ("PATCH", "/api/v1/uploads/01", True),
        ("POST", "/folders/edit", True),
        ("POST", "/upload", True),
        ("POST", "/api/v1/bulk", False),
        ("PATCH", "/api/v1/documents/01/pages/1", False),
        ("POST", "/nowhere", False),
    ],
)
def test_only_files_may_be_as_large_as_files(method: str, path: str, files: bool) -> None:
    assert bodies.takes_files(method, path) is files
