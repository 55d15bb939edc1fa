"""What a parser that was taken over can do: it is replaced by probes, and each must fail inside the sandbox."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from inkstick.pages import sandbox

SANDBOX = sandbox.detect()

PROBES = {
    "socket": "import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
    "any interface": "import socket; assert [n for _, n in socket.if_nameindex() if n != 'lo']",
    "read data": "open({secret!r}).read()",
    "list data": "import os; assert os.listdir({folder!r})",
    "read passwords": "open('/etc/passwd').read()",
    "write data": "open({folder!r} + '/new', 'w').write('x')",
    "write home": "open('/root/new', 'w').write('x')",
    "write package": "import inkstick; open(inkstick.__file__, 'a').write('#')",
    "write usr": "open('/usr/new', 'w').write('x')",
    "write root": "open('/new', 'w').write('x')",
    "signal the service": "import os; os.kill({pid}, 0)",
    "see the service": "open('/proc/{pid}/cmdline').read()",
    "be root": "import os; os.chroot('/')",
    "mount": "import ctypes; assert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0",
    "unix sockets by path": "import os; assert os.path.exists('/run/systemd/private') or os.path.exists('/run/dbus')",
    "environment": "import os; assert 'INKSTICK_SECRET' in os.environ",
    "fill memory": "open('/tmp/x', 'wb').write(bytes(256 << 20))",
}


HARMLESS = {"socket", "read data", "list data", "write data", "signal the service", "see the service", "environment"}


@pytest.mark.skipif(SANDBOX.bwrap is None, reason="bubblewrap does not work here")
@pytest.mark.parametrize("name", PROBES)
def test_a_parser_that_was_taken_over_cannot(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setenv("INKSTICK_SECRET", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = PROBES[name].format(
            port=server.getsockname()[1], secret=str(tmp_path / "secret"), folder=str(tmp_path), pid=os.getpid()
        )
        command = SANDBOX.command(["-c", code])
        done = subprocess.run(command, env=sandbox.environment(), capture_output=True, timeout=30, cwd="/")
        assert not (tmp_path / "new").exists()
        if name in HARMLESS:
            (tmp_path / "new").unlink(missing_ok=True)
            free = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
            assert free.returncode == 0, free.stderr  # the probe does work outside
            (tmp_path / "new").unlink(missing_ok=True)
    assert done.returncode != 0, done.stdout


@pytest.mark.skipif(SANDBOX.bwrap is None, reason="bubblewrap does not work here")
def test_the_sandbox_itself_starts() -> None:
    command = SANDBOX.command(["-c", "import inkstick.pages.wire; open('/tmp/x', 'w').write('ok')"])
    assert subprocess.run(command, env=sandbox.environment(), timeout=30, cwd="/").returncode == 0
