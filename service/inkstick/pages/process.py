"""One parser process, seen from the service: start, ask, kill. Every call here blocks; the pool runs it in a thread."""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any, Protocol

from inkstick.errors import Damaged, DocumentError, Internal, TooComplex, Unavailable
from inkstick.pages import wire
from inkstick.pages.child import MODULE, Child, arguments
from inkstick.pages.sandbox import Sandbox
from inkstick.pages.unit import AGAIN, Unit

START_SECONDS = 900.0  # an old laptop, a slow stick: against a hang only
_OUT_OF_BOUNDS = {signal.SIGKILL, signal.SIGABRT, signal.SIGXCPU, signal.SIGXFSZ}


class Life(Protocol):
    """How a worker came to be, and how it ends. `sock`: the channel to it."""

    sock: socket.socket

    def end(self) -> None:
        """End it and everything it started; return when that is so. Any thread may call it, more than once."""

    def status(self) -> int | None:
        """How it ended, as `subprocess` says it. Waits a moment; None where it runs on."""

    def said(self) -> str:
        """What it said last, if it ended before it had started."""

    def started(self) -> None:
        """It has; from now on it says nothing."""

    def close(self) -> None:
        """Forget it, ended or not."""


class Process:
    """A running worker. Used by one thread at a time, except `kill`, which any may call."""

    def __init__(self, sandbox: Sandbox, memory_bytes: int, page_seconds: float, module: str = MODULE) -> None:
        """Start it and wait until it has loaded its parsers. Raises Unavailable if it does not come up: no
        document is at fault, for it has seen none.

        `module`: what a child runs; a unit runs what it runs."""
        self.life: Life
        if sandbox.units is not None:
            self.life = Unit(sandbox.units, memory_bytes, page_seconds)
        else:
            self.life = Child(sandbox, arguments(module, memory_bytes, page_seconds))
        self.sock = self.life.sock
        try:
            self._await_ready()
        except (wire.WireError, TimeoutError) as error:
            self.kill()
            said = self.life.said()
            self.life.close()
            raise Unavailable(f"The parser process does not start: {said or error}", hint=AGAIN) from error
        self.life.started()
        self.dead = False
        self._since = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since it was ready."""
        return time.monotonic() - self._since

    @property
    def gone(self) -> bool:
        """Whether it died, or talks, while nothing is asked of it: then there is something to be read."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLRDHUP)
        return bool(poll.poll(0))

    def _await_ready(self) -> None:
        self.sock.settimeout(START_SECONDS)
        if wire.receive(self.sock).head.get("ready") is not True:
            raise wire.WireError("unexpected greeting")
        self.sock.settimeout(None)

    def send(self, head: dict[str, Any], fds: Sequence[int] = ()) -> None:
        wire.send(self.sock, head, fds=fds)

    def receive(self) -> wire.Frame:
        return wire.receive(self.sock)

    def ask(self, head: dict[str, Any], fds: Sequence[int] = ()) -> wire.Frame:
        """One request, one answer. Raises PeerGone when it died, WireError when it talks nonsense."""
        self.send(head, fds)
        return self.receive()

    def kill(self) -> None:
        """End it and everything it started. The other side of the channel reads its end at once."""
        self.dead = True
        self.life.end()

    def close(self) -> None:
        self.kill()
        self.life.close()

    def epitaph(self) -> DocumentError:
        """Why it died by itself, as the document's error. Waits for its end a moment."""
        status = self.life.status()
        if status is None:
            return Internal("The parser process closed its channel.")
        number = -status if status < 0 else status - 128  # bubblewrap reports a signal as 128 + its number
        if number in _OUT_OF_BOUNDS:
            return TooComplex()
        return Damaged("The file makes its reader crash.")
