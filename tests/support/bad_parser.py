"""A parser that a document has taken over: what it does with a document is named by the document's media type."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import NoReturn

from inkstick.pages import sandbox, wire

HANG, CRASH, KILLED, ABORT, NONSENSE, HALF, QUIET, FAMILY, MEMORY = (
    f"bad/{what}" for what in ("hang", "crash", "killed", "abort", "nonsense", "half", "quiet", "family", "memory")
)
FINE = "bad/fine"


def die(number: signal.Signals) -> NoReturn:
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    raise AssertionError("still here")


def obey(sock: socket.socket, wish: str) -> None:
    if wish == HANG:  # as if in a library: it neither reads its channel nor minds a polite signal
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(3600)
    elif wish == CRASH:
        die(signal.SIGSEGV)
    elif wish == KILLED:
        die(signal.SIGKILL)
    elif wish == ABORT:
        die(signal.SIGABRT)
    elif wish == NONSENSE:
        sock.sendall(b"\xff" * 4096)
    elif wish == HALF:
        sock.sendall(b"\x00\x00\x10\x00{")
        die(signal.SIGSEGV)
    elif wish == QUIET:
        sock.close()
        os._exit(0)
    elif wish == FAMILY:  # a process of its own that would outlive it, and that holds the channel
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], pass_fds=[sock.fileno()])
        die(signal.SIGSEGV)
    elif wish == MEMORY:
        hoard = []
        while True:
            hoard.append(bytearray(64 << 20))
    wire.send(sock, {"pages": 1, "warnings": [], "rss": 1 << 20, "open": []})


def main() -> None:
    sock = sandbox.channel()
    sandbox.confine(1 << 30)
    wire.send(sock, {"ready": True, "rss": 1})
    while True:
        obey(sock, wire.receive(sock, fds=True).head["type"])


if __name__ == "__main__":
    main()
