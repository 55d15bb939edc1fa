"""One parser process, seen from the service: start, ask, kill. Every call here blocks; the pool runs it in a thread."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

from inkstick.errors import Damaged, DocumentError, Internal, TooComplex
from inkstick.pages import wire
from inkstick.pages.sandbox import Sandbox

START_SECONDS = 300.0  # an old laptop, a slow stick: against a hang only
MODULE = "inkstick.pages.worker"
_OUT_OF_BOUNDS = {signal.SIGKILL, signal.SIGABRT, signal.SIGXCPU, signal.SIGXFSZ}


class Process:
    """A running worker. Used by one thread at a time, except `kill`, which any may call."""

    def __init__(self, sandbox: Sandbox, memory_bytes: int, page_seconds: float, module: str = MODULE) -> None:
        """Start it and wait until it has loaded its parsers. Raises Internal if it does not come up."""
        ours, theirs = socket.socketpair()
        self.sock = ours
        with theirs, tempfile.TemporaryFile() as errors:
            limits = json.dumps({"memory": memory_bytes, "seconds": page_seconds})
            self.child = sandbox.popen(["-m", module, limits], theirs, errors.fileno())
            theirs.close()
            try:
                self._await_ready()
            except (wire.WireError, TimeoutError) as error:
                self.kill()
                errors.seek(0)
                said = errors.read(4000).decode("utf-8", "replace").strip().splitlines()
                raise Internal(f"The parser process does not start: {said[-1] if said else error}") from error
        self.dead = False

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
        """End it and everything it started, and reap it. The other side of the channel reads its end at once."""
        self.dead = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(10)

    def close(self) -> None:
        self.kill()
        self.sock.close()

    def epitaph(self) -> DocumentError:
        """Why it died by itself, as the document's error. Waits for its end a moment."""
        try:
            status = self.child.wait(2)
        except subprocess.TimeoutExpired:
            return Internal("The parser process closed its channel.")
        number = -status if status < 0 else status - 128  # bubblewrap reports a signal as 128 + its number
        if number in _OUT_OF_BOUNDS:
            return TooComplex()
        return Damaged("The file makes its reader crash.")
