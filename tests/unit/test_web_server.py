"""Serving for real: a port, a private unix socket, plain words for a taken port, and a quick end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from inkstick.access import place
from inkstick.config import Settings
from inkstick.errors import UsageError
from inkstick.web.server import address_of, inherited, listen_unix, serve
from support.office import MemoryOffice
from support.served import served

SERVE = """
import asyncio, sys
from pathlib import Path
from inkstick.config import Settings
from inkstick.web.server import serve
from support.office import MemoryOffice
data = Path(sys.argv[1])
asyncio.run(serve(MemoryOffice(data, settings=Settings(data=data, port=0)), lambda address: print(address, flush=True)))
print("ended well", flush=True)
"""


async def test_a_document_goes_in_and_out_over_a_real_port(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, address), httpx.AsyncClient(base_url=address) as client:
        assert (tmp_path / "state" / "address").read_text() == address
        big = b"x" * (8 << 20)
        answer = await client.put("/api/v1/documents/a.txt", content=big)
        assert answer.json()["size"] == len(big)
        assert "server" not in answer.headers
    assert not (tmp_path / "state" / "address").exists()
    assert not (tmp_path / "state" / "service.sock").exists()


async def test_a_taken_port_is_said_in_plain_words(tmp_path: Path) -> None:
    async with served(tmp_path / "a") as (_, address):
        port = httpx.URL(address).port
        assert port is not None
        with pytest.raises(UsageError, match="in use") as raised:
            async with served(tmp_path / "b", port):
                pass
        assert f"--port {port + 1}" in raised.value.hint


ACTIVATED = """
import asyncio, fcntl, os, sys
from pathlib import Path
from inkstick.config import Settings
from inkstick.web import server
from support.office import MemoryOffice

def refused(*_):
    raise OSError("this process may not open one")

for fd, aside in enumerate([fcntl.fcntl(int(given), fcntl.F_DUPFD, 20) for given in sys.argv[3:]], 3):
    os.dup2(aside, fd)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
server.listen = refused
data, port = Path(sys.argv[1]), int(sys.argv[2])
asyncio.run(server.serve(MemoryOffice(data, settings=Settings(data=data, port=port)), lambda a: print(a, flush=True)))
"""


def test_a_service_answers_on_the_one_of_systemds_sockets_that_is_its_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        given = (other.fileno(), ours.fileno())
        command = [sys.executable, "-c", ACTIVATED, str(tmp_path), str(port), *map(str, given)]
        here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=given, env=here) as process:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            try:
                assert address == f"http://127.0.0.1:{port}/"
                assert httpx.get(f"{address}healthz").status_code == 200
            finally:
                process.send_signal(signal.SIGTERM)
        assert process.returncode == 0


def test_sockets_that_were_meant_for_another_process_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert inherited("127.0.0.1", port) is None
        monkeypatch.setenv("LISTEN_PID", "1")
        monkeypatch.setenv("LISTEN_FDS", "1")
        assert inherited("127.0.0.1", port) is None


def test_a_service_that_sees_no_interface_says_the_address_that_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> list[tuple[int, str]]:
        raise OSError("address family not supported")

    monkeypatch.setattr(socket, "if_nameindex", refused)
    monkeypatch.setattr(place, "_six", list)
    assert place.addresses() == []
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener, "https", ["inkstick-4711", "10.77.0.1"]) == f"https://10.77.0.1:{port}/"


async def test_the_watchers_door_is_private_and_takes_over_from_a_dead_service(tmp_path: Path) -> None:
    door = tmp_path / "state" / "service.sock"
    door.parent.mkdir()
    listen_unix(door).close()  # what a killed service leaves
    async with served(tmp_path) as (office, _):
        assert stat.S_IMODE(door.stat().st_mode) == 0o600
        transport = httpx.AsyncHTTPTransport(uds=str(door))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            said = {"claims": ["x"], "status": {"seen": 1}}
            assert (await client.post("/internal/watch", json=said)).status_code == 204
        assert office.last_watch == (("x",), {"seen": 1})


async def test_the_port_does_not_open_the_watchers_door(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, address), httpx.AsyncClient(base_url=address) as client:
        assert (await client.post("/internal/watch", json={})).status_code == 404


async def test_a_full_disk_is_said_before_the_body_is_sent(tmp_path: Path) -> None:
    async with served(tmp_path) as (office, address):
        office.full = True
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(address).port)
        writer.write(b"PUT /api/v1/documents/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 60)
        assert answer.startswith(b"HTTP/1.1 507")
        writer.close()


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, address):
        _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(address).port)
        writer.write(b"PUT /api/v1/documents/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf")
        await writer.drain()
        writer.close()
        await asyncio.sleep(0.1)
        async with httpx.AsyncClient(base_url=address) as client:
            assert (await client.get("/api/v1/documents")).json()["documents"] == []


def test_sigterm_ends_it_even_with_a_page_open(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        port = httpx.URL(process.stdout.readline().strip()).port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port)) as follower:
            follower.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert follower.recv(100).startswith(b"HTTP/1.1 200")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert process.stdout.read() == "ended well\n"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


class SlowOffice(MemoryOffice):
    """Its start ends only by being given up."""

    given_up = False

    async def start(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up = True


async def test_told_to_stop_while_it_starts_it_gives_up_the_start(tmp_path: Path) -> None:
    office, stop = SlowOffice(tmp_path, settings=Settings(data=tmp_path, port=0)), asyncio.Event()
    serving = asyncio.create_task(serve(office, pytest.fail, stop=stop))
    await asyncio.sleep(0.1)
    assert not serving.done()
    stop.set()
    await asyncio.wait_for(serving, 60)
    assert office.given_up
    assert not (tmp_path / "state" / "address").exists()
