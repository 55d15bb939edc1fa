"""What systemd does for a parser's unit, without systemd: a socket, and a warden for each connection to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from inkstick.pages.sandbox import environment as _environment
from inkstick.supervise.process import descendants

_ANOTHER_PARSER = """
from inkstick.pages import sandbox, warden
from support import units
sandbox.environment = units.environment
warden.main()
"""


def environment() -> dict[str, str]:
    """A parser's, and the tests can be imported."""
    return {**_environment(), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Units:
    """Listens at `path` while entered. `module`: what the wardens start in place of the parser. `most`: so many live at
    a time, and whoever comes then is hung up on (MaxConnections=)."""

    def __init__(self, module: str = "", most: int = 1000) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="units"))  # short: a socket's path has 107 bytes
        self.path = self._folder / "socket"
        started = ["-c", _ANOTHER_PARSER, module] if module else ["-m", "inkstick.pages.warden"]
        self._most = most
        self._command = [sys.executable, *started]
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self.wardens: list[subprocess.Popen[bytes]] = []
        # One thread for all: a warden ends with the thread that started it.
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    if sum(warden.poll() is None for warden in self.wardens) >= self._most:
                        continue
                    fd = connection.fileno()
                    self.wardens.append(
                        subprocess.Popen(self._command, stdin=fd, env=environment(), cwd="/", start_new_session=True)
                    )

    def parsers(self) -> list[int]:
        """The living parsers' process ids."""
        return [pid for warden in self.wardens for pid in descendants(warden.pid)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for warden in self.wardens:
            warden.send_signal(signal.SIGKILL)
            warden.wait()
        shutil.rmtree(self._folder)
