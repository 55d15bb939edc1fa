"""A parser process that is a unit of systemd's: one is started for each connection to the units' socket.

What stands between it and the machine is written in its unit (inkstick-pages@.service), so the service needs no right
to build walls itself. Beside the connection the process's warden (`inkstick.pages.warden`) gets one end of a second
channel, on which it tells at the end how the process died. The parser never holds that end.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from pathlib import Path

from inkstick.errors import Unavailable
from inkstick.pages import wire

CONNECT_SECONDS = 60.0  # against a hang only
END_SECONDS = 10.0
AGAIN = "Nothing is lost: it is tried again and again. Restart Inkstick if it stays so."


class Unit:
    """Started, with a channel to it in `sock`. See `inkstick.pages.process.Life`."""

    def __init__(self, path: Path, memory_bytes: int, page_seconds: float) -> None:
        """Raises Unavailable when nobody listens."""
        self._end: wire.Frame | None = None
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._last, theirs = socket.socketpair()
        self._last.settimeout(END_SECONDS)
        try:
            with theirs:
                self.sock.settimeout(CONNECT_SECONDS)
                self.sock.connect(str(path))
                wire.send(self.sock, {"memory": memory_bytes, "seconds": page_seconds}, fds=[theirs.fileno()])
        except (OSError, wire.WireError) as error:
            self.close()
            raise Unavailable(f"The parser process does not start: {path}: {error}", hint=AGAIN) from error

    def end(self) -> None:
        """Hang up, and wait until the warden has ended the process. Whoever waits for an answer reads the end at once.

        The warden does not wait for a parser that is stuck: it kills it."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self._epitaph()

    def status(self) -> int | None:
        """As the warden tells it. It was ended along with the parser where it tells nothing: by the memory's limit, or
        by the last deadline of the unit."""
        told = self._epitaph()
        if told is None:
            return None
        status = told.head.get("status")
        return status if type(status) is int else -signal.SIGKILL

    def said(self) -> str:
        told = self._epitaph()
        return str(told.head.get("said", "")) if told else ""

    def started(self) -> None: ...

    def close(self) -> None:
        self.sock.close()
        self._last.close()

    def _epitaph(self) -> wire.Frame | None:
        """The warden's last words, empty where it died without them; None while it lives."""
        if self._end is None:
            try:
                self._end = wire.receive(self._last)
            except wire.WireError as error:
                if not isinstance(error.__cause__, TimeoutError):
                    self._end = wire.Frame({})
        return self._end
