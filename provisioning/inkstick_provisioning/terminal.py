"""The process on tty1: shows what the keeper says, hands keys and answers to it. It has no rights of its own.

What is Latin goes to the kernel's text console. Chinese is painted into the framebuffer, if there is one. Everything
is drawn again when the screen's size changes (a graphics driver that takes over) and at least every minute.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inkstick_provisioning import console, framebuffer, status
from inkstick_provisioning.console import View
from inkstick_provisioning.language import cut, say, width, wrap
from inkstick_provisioning.status import Status

TICK = 0.5
REDRAW_SECONDS = 60.0
QUESTION = status.RUN / "first-start.json"
REQUESTS = Path("/run/inkstick-console")
PAINT = "inkstick_provisioning.paint"
KDSETMODE, KD_TEXT, KD_GRAPHICS = 0x4B3A, 0, 1
LONGEST = 512
_SEQUENCE = re.compile(r"\x1b(?:\[\[.|\[[0-9;?]*[ -/]*[@-~]|O.)")
"""What arrows and function keys send: Escape, and then letters that nobody typed. (F1 to F5 begin with two.)"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is being typed as an answer. `number`: of the question that it answers."""

    number: int = -1
    text: str = ""


def keys(data: bytes) -> str:
    """The letters among what the keyboard sent. The arrow down ends in B, and F5 in E: those keys do something else."""
    return _SEQUENCE.sub("", data.decode(errors="ignore"))


def typed(entry: Entry, key: str) -> tuple[Entry, str | None]:
    """After one key: what is typed so far, and the whole line when Enter was pressed."""
    if key in ("\r", "\n"):
        return replace(entry, text=""), entry.text
    if key in ("\x7f", "\b"):
        return replace(entry, text=entry.text[:-1]), None
    if key == "\x15":
        return replace(entry, text=""), None
    return (replace(entry, text=entry.text + key) if key.isprintable() and len(entry.text) < LONGEST else entry), None


def dialogue(question: dict[str, Any], entry: Entry, now: Status, view: View) -> list[str]:
    """The first start's screen as lines. A secret is never shown, not even how long it is."""
    code, picture = str(question.get("language", "en")), console.code_of(str(question.get("code", "")), view)
    columns = view.columns - 4 - (width(picture[0]) + console.GAP if picture else 0)
    top = ["", f"  {question['title']}", f"  {'─' * min(columns, width(question['title']))}", ""]
    told = [f"  {line}" for text in question["lines"] for line in wrap(str(text), columns)]
    asked, more = [""], []
    for number, text in enumerate(question["choices"], 1):
        first, *rest = wrap(str(text), columns - 6)
        asked += [f"    {number}  {first}", *(f"       {line}" for line in rest)]
    if question["problem"]:
        asked += ["", *(f"  !! {line}" for line in wrap(str(question["problem"]), columns - 3))]
    if question["field"] != "nothing":
        shown = "" if question["field"] == "secret" else entry.text
        asked += ["", f"  {say(code, 'Your answer: {place}', place=shown)}_"]
    if question["back"]:
        more += ["", f"  {say(code, 'An empty line goes back.')}"]
    if now.addresses:
        place, pin = f"{now.addresses[0]}  {now.pin}".strip(), "" if now.pin else say(code, "Tab brings a PIN.")
        browser = wrap(f"{say(code, 'Or answer in a browser: {place}', place=place)}  {pin}", columns)
        more += ["", *(f"  {line}" for line in browser)]
    room = view.rows - 1 - len(top) - len(asked)
    if len(told) + len(more) > room:  # many disks that stay as they are, say: what can be answered is never cut off
        more = more if room - len(more) > 2 else []
        told = [*told[: max(0, room - len(more) - 1)], "  ..."]
    lines = [*top, *told, *asked, *more]
    lines = [cut(line, columns + 3) for line in lines[: view.rows - 1]]
    return console.beside(lines, picture, view.columns - width(picture[0]) - 1) if picture else lines


class Screen:
    """The text console, or the framebuffer over it."""

    def __init__(self, out: int, device: Path = framebuffer.DEVICE) -> None:
        self._out, self._framebuffer, self._painting = out, device, False

    def size(self) -> View:
        """Columns and rows of the text console; the painted one has always 80 × 30."""
        if self._painting:
            return View(80, 30)
        try:
            size = os.get_terminal_size(self._out)
        except OSError:
            return View()
        if size.columns == 0 or size.lines == 0:  # a serial line, say, knows no size
            return View()
        return View(max(40, size.columns), max(12, size.lines))

    def show(self, lines: list[str]) -> None:
        """Painted where a letter is Chinese (a question in both languages, a stick's name), else as text."""
        wide = any(width(letter) == 2 for line in lines for letter in line)
        frame = framebuffer.look(self._framebuffer) if wide else None
        if frame is not None:
            if PAINT not in sys.modules:  # it takes a while to load: until then, whatever letters there are
                self._write(lines)
            from inkstick_provisioning import paint

            self._switch(painting=True)
            view = self.size()
            data = paint.encode(paint.draw(lines, frame, view.columns, view.rows), frame)
            with contextlib.suppress(OSError), self._framebuffer.open("r+b", buffering=0) as file:
                file.write(data)
                return
        self._switch(painting=False)
        self._write(lines)

    def _write(self, lines: list[str]) -> None:
        text = "\r\n".join(lines).replace("…", ".")  # the kernel's letters have no ellipsis
        self._let_on()
        os.write(self._out, f"\x1b[?25l\x1b[0m\x1b[2J\x1b[H{text}".encode())

    def _let_on(self) -> None:
        """Scroll Lock and Ctrl-S hold a terminal up, and whoever writes on it, until they are pressed again, or Ctrl-Q:
        who knows that? To the kernel it is held up by us then, and we let it go."""
        if not select.select([], [self._out], [], 0)[1]:
            with contextlib.suppress(termios.error):
                termios.tcflow(self._out, termios.TCOOFF)
                termios.tcflow(self._out, termios.TCOON)

    def _switch(self, *, painting: bool) -> None:
        """In graphics mode the kernel leaves the picture alone."""
        if painting != self._painting:
            self._painting = painting
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._out, KDSETMODE, KD_GRAPHICS if painting else KD_TEXT)


_numbers = itertools.count()


def ask(folder: Path, request: dict[str, Any]) -> None:
    """Hand a request to the keeper: a file in a folder that only this process writes. It may hold a passphrase: it lies
    in memory, only root can read it, and the keeper removes it."""
    status.write(folder / f"{time.monotonic_ns():020}-{next(_numbers)}.json", request, 0o600)


def _question() -> dict[str, Any] | None:
    import json

    try:
        value = json.loads(QUESTION.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and value.get("step") not in (None, "done") else None


def _told() -> tuple[bytes, ...]:
    """What the keeper tells, unread."""
    told = []
    for path in (QUESTION, status.PATH):
        try:
            told.append(path.read_bytes())
        except OSError:
            told.append(b"")
    return tuple(told)


class Terminal:
    """The loop. `signals`: a size that changed."""

    def __init__(self, screen: Screen, requests: Path) -> None:
        self._screen, self._requests = screen, requests
        self._view, self._entry = View(), Entry()
        self._shown: list[str] = []
        self._state: tuple[object, ...] = ()
        self._at = 0.0

    def key(self, key: str) -> None:
        question, now = _question(), status.load(status.PATH)
        if question is None and now is None:
            return  # the keeper has said nothing yet: what is typed is an answer to its first question, and no wish
        if question is None:
            self._view, request = console.press(self._view, now or Status(), key)
            if request:
                ask(self._requests, {"what": request.what, "value": request.value})
            return
        if self._entry.number != question["number"]:
            self._entry = Entry(question["number"])
        if key == "\t":
            ask(self._requests, {"what": "pin", "value": ""})
        self._entry, line = typed(self._entry, key)
        if line is not None and question["field"] != "nothing":
            ask(self._requests, {"what": "answer", "number": question["number"], "value": line})

    def draw(self, *, anew: bool = False) -> None:
        size = self._screen.size()
        self._view = replace(self._view, columns=size.columns, rows=size.rows)
        state = (_told(), self._view, self._entry)
        old = time.monotonic() - self._at > REDRAW_SECONDS
        if not anew and not old and state == self._state:
            return  # looked at twice a second, all day long, on a processor that has pages to read
        self._state = state
        lines = self._lines()
        if anew or old or lines != self._shown:
            self._screen.show(lines)
            self._shown, self._at = lines, time.monotonic()

    def _lines(self) -> list[str]:
        question, now = _question(), status.load(status.PATH) or Status()
        if question is None:
            return console.screen(now, self._view)
        entry = self._entry if self._entry.number == question["number"] else Entry()
        return dialogue(question, entry, now, self._view)


@contextlib.contextmanager
def _raw(handle: int) -> Iterator[None]:
    """Keys one by one and unseen; as it was afterwards."""
    try:
        before = termios.tcgetattr(handle)
    except termios.error:
        yield
        return
    try:
        tty.setcbreak(handle)
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def main() -> int:
    resized: list[int] = []
    signal.signal(signal.SIGWINCH, lambda number, _: resized.append(number))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    terminal = Terminal(Screen(sys.stdout.fileno()), REQUESTS)
    handle = sys.stdin.fileno()
    with _raw(handle):
        while True:
            terminal.draw(anew=bool(resized))
            resized.clear()
            if select.select([handle], [], [], TICK)[0]:
                data = os.read(handle, 4096)
                if not data:
                    return 0
                for key in keys(data):
                    terminal.key(key)


if __name__ == "__main__":
    sys.exit(main())
