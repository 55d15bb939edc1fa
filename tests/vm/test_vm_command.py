"""`./build.sh vm` as a new user types it in a terminal: the page answers at the address that the appliance's screen
shows, from this computer, over the cable that the command makes; and the cable goes with the terminal.

"This computer" is a network namespace, so that nothing else here uses these addresses.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import pytest

from vm.appliance import BOOT_SECONDS, UNATTENDED
from vm.cable import Cable
from vm.laptop import until

pytestmark = [pytest.mark.vm_full, pytest.mark.timeout(2 * BOOT_SECONDS)]
ROOT = Path(__file__).resolve().parents[2]
PAGE = "https://10.77.0.1/"
DOWN, ENTER = "\x1b[B", "\r"
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78M]|[\x00-\x09\x0b-\x1f]")


class Terminal:
    """A program in a terminal of 40 lines and 110 columns. `shown`: the letters that came since `redraw`, without
    spaces: a line is drawn piece by piece, as it appears on the machine's screen."""

    def __init__(self, command: list[str]) -> None:
        ours, theirs = pty.openpty()
        environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
        self._end, self.shown = ours, ""
        self._resize(110)
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs,
            env={**environment, "TERM": "linux"}, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)

    def _resize(self, columns: int) -> None:
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def redraw(self) -> None:
        """Another size: everything is drawn anew, so that no letter is left out because it stood there before."""
        self.shown = ""
        for columns in (111, 110):
            self._resize(columns)
            self.look(3)

    def look(self, seconds: float) -> None:
        """Take what is written within these seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and select.select([self._end], [], [], left)[0]:
            try:
                new = os.read(self._end, 1 << 16)
            except OSError:  # nobody has the other side open any more
                return
            self.shown += re.sub(r"\s", "", CONTROLS.sub("", new.decode("utf-8", "replace")))

    def wait(self, text: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while text.replace(" ", "") not in self.shown:
            assert self._process.poll() is None, self.shown
            assert time.monotonic() < end, self.shown[-3000:]
            self.look(1)

    def press(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def hang_up(self) -> int:
        """As a window that is closed. The program's status."""
        os.killpg(self._process.pid, signal.SIGHUP)
        return self._process.wait(120)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._end)


@pytest.fixture(scope="module")
def computer() -> Iterator[Cable]:
    with Cable() as computer:
        yield computer


@pytest.fixture(scope="module")
def terminal(iso: Path, computer: Cable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    settings = tmp_path_factory.mktemp("settings") / "inkstick.toml"
    settings.write_text(UNATTENDED["inkstick.toml"], encoding="utf-8")
    command = [*computer.within, str(ROOT / "build.sh"), "vm", str(iso), "--settings", str(settings)]
    with Terminal(command) as terminal:
        yield terminal


def answers(computer: Cable) -> bool:
    with computer.inside(), contextlib.suppress(httpx.HTTPError), httpx.Client(verify=False, timeout=30) as client:
        return client.get(f"{PAGE}healthz").status_code == 200
    return False


def test_the_page_answers_here_at_the_address_on_the_screen(terminal: Terminal, computer: Cable) -> None:
    terminal.wait("Enter starts it.", 120)
    assert PAGE in terminal.shown, "where the page will be is said beforehand"
    assert "Safegraphics" in terminal.shown
    terminal.press(ENTER)
    terminal.wait("Check this stick", BOOT_SECONDS)
    terminal.press(DOWN + DOWN + ENTER)
    started = time.monotonic()

    def answered() -> bool:
        terminal.look(5)  # QEMU stands still where nobody takes what it draws
        return answers(computer)

    def shown() -> bool:
        terminal.redraw()
        return PAGE in terminal.shown

    until(answered, lambda: terminal.shown[-3000:], BOOT_SECONDS)
    print(f"./build.sh vm: the page answers {time.monotonic() - started:.0f} s after the menu")
    until(shown, lambda: terminal.shown[-3000:], BOOT_SECONDS)


def test_the_cable_goes_with_the_terminal(terminal: Terminal, computer: Cable) -> None:
    def cables() -> str:
        return subprocess.run([*computer.within, "ip", "-o", "link"], capture_output=True, text=True).stdout

    assert "inkstick0" in cables()
    terminal.hang_up()
    assert "inkstick0" not in cables()
