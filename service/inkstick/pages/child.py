"""A parser process that is a child of the service, behind bubblewrap where that works."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO

from inkstick.pages.sandbox import Sandbox

MODULE = "inkstick.pages.worker"


def arguments(module: str, memory_bytes: int, page_seconds: float) -> list[str]:
    """Of the interpreter that is to be a parser."""
    return ["-m", module, json.dumps({"memory": memory_bytes, "seconds": page_seconds})]


class Child:
    """Started, with a channel to it in `sock`. See `inkstick.pages.process.Life`."""

    def __init__(self, sandbox: Sandbox, arguments: Sequence[str]) -> None:
        self.sock, theirs = socket.socketpair()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until it has started
        with theirs:
            self.popen = sandbox.popen(arguments, theirs, self._errors.fileno())

    def end(self) -> None:
        """End it and everything it started, and reap it. The other side of the channel reads its end at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(10)

    def status(self) -> int | None:
        try:
            return self.popen.wait(2)
        except subprocess.TimeoutExpired:
            return None

    def said(self) -> str:
        return last_line(self._errors)

    def started(self) -> None:
        self._errors.close()

    def close(self) -> None:
        self.sock.close()
        self._errors.close()


def last_line(errors: IO[bytes]) -> str:
    """The last line that a process wrote into the file that was its standard error."""
    errors.seek(0)
    lines = errors.read(4000).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
