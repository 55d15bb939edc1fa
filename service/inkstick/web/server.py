"""Serve an office: the page and the API on a port, the watch daemon's door on a unix socket, until stopped.

On a loopback address in plain HTTP, nothing asked; on any other with TLS and for paired browsers: `inkstick.access`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import resource
import signal
import socket
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from inkstick.access import keys, place
from inkstick.access.keys import Key
from inkstick.access.reception import Reception
from inkstick.config import Settings
from inkstick.errors import UsageError
from inkstick.supervise.notify import Notifier
from inkstick.web import language, words
from inkstick.web.app import create_app, create_internal_app
from inkstick.web.events import Streams
from inkstick.web.office_port import OfficePort

GRACE_SECONDS = 1
HEAD_SECONDS = 20.0
"""So long may a request's head take. Whoever says nothing for longer is hung up on: each connection is a descriptor."""
HANDSHAKE_SECONDS = 60.0
"""So long does asyncio wait for a handshake; it tells nobody when one has failed sooner."""
MOST_CONNECTIONS = 1000


class _Server(uvicorn.Server):
    """uvicorn, but the signals are ours: two servers share one loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(H11Protocol):
    """uvicorn's, but nobody holds one for ever without asking for anything, and half of the process's descriptors stay
    free for its own files, however many connect."""

    _hang_up: asyncio.TimerHandle | None = None
    _unmet: ClassVar[weakref.WeakSet[_Connection]] = weakref.WeakSet()
    """Accepted, but their handshake for TLS is not over. One that failed stays here until nothing refers to it, which
    may be long after, and for `HANDSHAKE_SECONDS` at most."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self._crowded(len(self._unmet) + 1):
            raise ConnectionRefusedError  # asyncio closes it without a word
        self._unmet.add(self)
        self.loop.call_later(HANDSHAKE_SECONDS, _forget, self._unmet, weakref.ref(self))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._unmet.discard(self)
        super().connection_made(transport)
        if self._crowded():
            transport.abort()
        else:
            self._wait_for_head()

    def _crowded(self, more: int = 0) -> bool:
        most = min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        return len(self.connections) + more > most

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._head_is_here()
        elif self._hang_up is None and self.timeout_keep_alive_task is None:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._hang_up = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_is_here(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None


def _forget(known: weakref.WeakSet[_Connection], one: weakref.ref[_Connection]) -> None:
    if (connection := one()) is not None:
        known.discard(connection)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `UsageError` if the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise _no_port(host, port, error) from error
    return listener


def inherited(host: str, port: int) -> socket.socket | None:
    """The listening socket for this address that systemd opened for this process; None where there is none."""
    if "LISTEN_FDS" not in os.environ:
        return None
    from systemd import daemon

    for fd in daemon.listen_fds():
        listener = socket.socket(fileno=os.dup(fd))
        if listener.getsockname()[:2] == (host, port):
            return listener
        listener.close()
    return None


def _no_port(host: str, port: int, error: OSError) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"Port {port} is in use by another program, perhaps another Inkstick.",
            hint=f"Stop that program, or choose another port: --port {port + 1 if port < 65535 else 8080}",
        )
    if error.errno == errno.EACCES:
        return UsageError(f"Port {port} is reserved for the system.", hint="Choose one above 1023: --port 8080")
    return UsageError(f"Cannot serve on {host} port {port}: {error.strerror}.", hint="Leave --host and --port out.")


def listen_unix(path: Path) -> socket.socket:
    """A listening unix socket that only this user can open. Call it only while holding the data folder: it takes the
    place of a socket that a killed service left."""
    if len(os.fsencode(path)) > 107:
        raise UsageError(f"The path {path} is too long for a socket.", hint="Choose a data folder with a shorter path.")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(64)
    return listener


def address_of(listener: socket.socket, scheme: str = "http", names: Sequence[str] = ()) -> str:
    """Where the page is. For a listener on all addresses: the first that others can use. `names` (the setting) tell it
    where this process sees no interface."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = next(iter([*place.addresses(), *filter(place.is_address, names)]), host)
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}/" if (scheme, port) == ("https", 443) else f"{scheme}://{shown}:{port}/"


async def serve(
    office: OfficePort,
    say: Callable[[str], None],
    *,
    notifier: Notifier | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT (or `stop`), then end within about two seconds, also while it is still starting.

    `say` is told the address once requests are answered. Raises `UsageError` for a bad address, a taken port, or where
    there is no key for TLS."""
    settings = office.settings
    notifier = notifier or Notifier()
    stop = stop or asyncio.Event()
    place.check_host(settings.host)
    listener = inherited(settings.host, settings.port) or listen(settings.host, settings.port)
    with contextlib.closing(listener), _stops_on_signals(stop):
        if not await _started(office, stop):
            return
        try:
            await _serve(office, listener, await _key(settings), say, notifier, stop)
        finally:
            notifier.stopping()
            await office.close()


async def _started(office: OfficePort, stop: asyncio.Event) -> bool:
    """False where `stop` came first: a start may take minutes on a slow machine, and whoever switches it off waits."""
    starting, told = asyncio.create_task(office.start()), asyncio.create_task(stop.wait())
    await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
    if starting.cancelled():
        return False
    await starting
    return True


async def _key(settings: Settings) -> Key | None:
    """The appliance's own key, where others can reach the page."""
    if place.is_loopback(settings.host):
        return None
    known = [*place.names(), *place.configured(settings.names), *place.addresses(), "localhost", "127.0.0.1", "::1"]
    return await asyncio.to_thread(keys.ensure, settings.folder.state, known)


async def _serve(
    office: OfficePort,
    listener: socket.socket,
    key: Key | None,
    say: Callable[[str], None],
    notifier: Notifier,
    stop: asyncio.Event,
) -> None:
    folder = office.settings.folder
    streams = Streams(office)
    app = create_app(office, streams=streams, reception=Reception(office.settings, lan=key is not None))
    servers = [_server(app, key), _server(create_internal_app(office))]
    address = address_of(listener, "https" if key else "http", place.configured(office.settings.names))
    with contextlib.closing(listen_unix(folder.door)) as door:
        running = [
            asyncio.create_task(server.serve(sockets=[listening]))
            for server, listening in zip(servers, (listener, door), strict=True)
        ]
        helpers = [asyncio.create_task(_feed(notifier, office)), asyncio.create_task(stop.wait())]
        try:
            await _until_started(servers, running)
            folder.address.write_text(address, encoding="utf-8")
            notifier.ready(await _summary(office))
            say(address)
            await asyncio.wait([helpers[1], *running], return_when=asyncio.FIRST_COMPLETED)
        finally:
            streams.close()
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*running, return_exceptions=True)
            for helper in helpers:
                helper.cancel()
            for path in (folder.door, folder.address):
                path.unlink(missing_ok=True)


async def _until_started(servers: list[_Server], running: list[asyncio.Task[None]]) -> None:
    while not all(server.started for server in servers):
        if any(task.done() for task in running):
            raise RuntimeError("the web server ended while starting")
        await asyncio.sleep(0.01)


async def _feed(notifier: Notifier, office: OfficePort) -> None:
    async def alive() -> bool:
        return (await office.health()).live

    await notifier.feed(alive, lambda: _summary(office))


async def _summary(office: OfficePort) -> str:
    """In the language of the machine's screen, which shows it."""
    machine = await office.machine()
    return words.summary(await office.stats(), language.translator(machine.language))


def _server(app: ASGIApp, key: Key | None = None) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ssl_context_factory=(lambda _config, _default: key.context()) if key else None,
        )
    )


@contextlib.contextmanager
def _stops_on_signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
