"""The main process of a parser's unit: ``python -m inkstick.pages.warden``, with its connection as standard input.

The first frame of the connection holds the parser's limits and the channel for the last words; then the parser is
started, as a child that talks on the same connection, and the warden only waits. When the service hangs up, however
that came about, the parser is killed: one that is stuck in a library does not read its connection. When the parser
dies, the service is told how. Either way the unit ends, and systemd ends whatever else the parser may have started.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile

from inkstick.pages import sandbox, wire
from inkstick.pages.child import MODULE, arguments, last_line


def keep(connection: socket.socket, module: str) -> None:
    """Start `module` on the connection and stay until one of them ends. Raises WireError for a wrong first frame."""
    hello = wire.receive(connection, fds=True)
    memory, seconds = hello.head.get("memory"), hello.head.get("seconds")
    if type(memory) is not int or not isinstance(seconds, int | float) or len(hello.fds) != 1:
        raise wire.WireError("unexpected greeting")
    sandbox.confine(memory)
    with socket.socket(fileno=hello.fds[0]) as last, tempfile.TemporaryFile() as errors:
        child = sandbox.Sandbox().popen(arguments(module, memory, seconds), connection, errors.fileno())
        wait(connection, child)
        with contextlib.suppress(wire.WireError):
            wire.send(last, {"status": child.returncode, "said": last_line(errors)})


def wait(connection: socket.socket, child: subprocess.Popen[bytes]) -> None:
    """Until the other side hangs up or the child ends; then there is no child any more."""
    pidfd = os.pidfd_open(child.pid)
    try:
        poll = select.poll()
        poll.register(connection, select.POLLRDHUP)  # and POLLHUP, always; what can be read is the child's
        poll.register(pidfd, select.POLLIN)
        poll.poll()
    finally:
        os.close(pidfd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def main() -> None:
    connection = sandbox.channel()
    connection.setblocking(True)
    with contextlib.suppress(wire.PeerGone):  # a service that was stopped before it said what it wants
        keep(connection, sys.argv[1] if len(sys.argv) > 1 else MODULE)


if __name__ == "__main__":
    main()
