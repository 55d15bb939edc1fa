"""The screen: what it shows, how it fits, what its keys ask for; and its QR code, read back by another program."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inkstick.intake.status import WatchStatus
from inkstick_provisioning import console, framebuffer, paint, qr, recovery, status, terminal
from inkstick_provisioning.console import Request, View, press, screen
from inkstick_provisioning.framebuffer import Frame
from inkstick_provisioning.language import width
from inkstick_provisioning.status import Line, Status, Stick
from inkstick_provisioning.terminal import Entry

FULL = Status(
    boot="running",
    name="inkstick-otter-42",
    addresses=("https://10.77.0.1/", "https://192.168.1.77/"),
    modes=(("eth0", "direct"),),
    pin="1234 5678",
    fingerprint=":".join(f"{number:02X}" for number in range(32)),
    parts=(
        ("serve", "active", "3 reading; 73 pages a minute"),
        ("watch", "active", WatchStatus(accepted=211, files=3).line()),
        ("engine", "activating", ""),
    ),
    card=Line("The graphics card reads the pages: {card}, {memory}.", "", (("card", "RTX 4090"), ("memory", "24 GB"))),
    free=41 * 10**9,
    total=58 * 10**9,
    kept=True,
    sticks=(Stick("sdb1", "KINGSTON", "offered", 214),),
)


def decode(lines: list[str]) -> str:
    """What a phone reads from half blocks, drawn as a terminal draws them: light text on a dark screen."""
    size = 8
    picture = np.zeros((len(lines) * 2 * size, max(map(len, lines)) * size), np.uint8)
    for row, line in enumerate(lines):
        for column, letter in enumerate(line):
            for half, light in enumerate((letter in "█▀", letter in "█▄")):
                top = (2 * row + half) * size
                picture[top : top + size, column * size : (column + 1) * size] = 255 if light else 0
    return str(
        cv2.QRCodeDetector().detectAndDecode(cv2.copyMakeBorder(picture, 40, 40, 40, 40, cv2.BORDER_CONSTANT))[0]
    )


@pytest.mark.parametrize(
    "address", ["https://10.77.0.1/", "https://192.168.178.234/", "https://10.77.0.1/#t=4fk3-99ab"]
)
def test_the_code_reads_as_the_address(address: str) -> None:
    assert decode(qr.half_blocks(address)) == address


@pytest.mark.parametrize(
    ("language", "mode", "said"),
    [
        ("en", "join", "no address for the page yet"),
        ("zh", "join", "还没有可以打开网页的地址"),
        ("en", "none", "No network cable is in use"),
    ],
)
def test_a_network_that_gave_no_address_yet_is_not_called_unused(language: str, mode: str, said: str) -> None:
    """A cable into a network was waited for, and the screen said that none is in use and N would change that."""
    waiting = replace(FULL, language=language, addresses=(), pin="", fingerprint="", modes=(("eth0", mode),))
    assert said in "\n".join(screen(waiting))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_code_on_the_whole_screen_reads_as_the_address(language: str) -> None:
    rows = [line[-(width(line) - 40) :] if "█" in line else "" for line in screen(replace(FULL, language=language))]
    blocks = ["".join(letter if letter in "█▀▄" else " " for letter in row) for row in rows]
    wide = max(map(len, blocks))
    assert decode([block.rjust(wide) for block in blocks if block]) == "https://10.77.0.1/"


def test_everything_that_a_person_needs_is_on_it() -> None:
    text = "\n".join(screen(FULL))
    for part in (
        "inkstick-otter-42", "READY", "https://10.77.0.1/", "https://192.168.1.77/", "1234 5678", "00 01 02 03",
        "18 19 1A 1B 1C 1D 1E 1F", "3 reading; 73 pages a minute", "211 accepted, 3 waiting in the inbox",
        "Engine: starting", "41 GB of 58 GB free", "RTX 4090, 24 GB", "Read 214 documents from KINGSTON?",
        "P power off",
    ):  # fmt: skip
        assert part in text, part


def test_a_part_s_long_words_are_whole_unless_something_urgent_needs_their_lines() -> None:
    long = "3 reading, 208 done; 73 pages a minute; hunyuan-ocr ready (HunyuanOCR on vLLM)"
    parts = (("serve", "active", long), *FULL.parts[1:])
    beside_the_code = [re.split("[█▀▄]", line)[0].strip() for line in screen(replace(FULL, parts=parts))]
    assert f"Service: {long}" in " ".join(beside_the_code)
    sticks = tuple(Stick(f"sd{at}", f"KINGSTON-{at}", "offered", 214) for at in range(6))
    crowded = "\n".join(screen(replace(FULL, parts=parts, sticks=sticks)))
    assert "KINGSTON-5" in crowded and "ready (HunyuanOCR on vLLM)" not in crowded and "…" in crowded


def test_in_chinese_the_watcher_is_told_in_chinese() -> None:
    assert "收件夹: 已接收 211 个，收件夹中还有 3 个" in "\n".join(screen(replace(FULL, language="zh")))


def test_the_folders_on_the_network_are_told_with_what_lets_in() -> None:
    parts = (*FULL.parts, ("share", "active", "ready"))
    lines = screen(replace(FULL, share="aj0y-r86r-7eja-c7bc", parts=parts))
    text = "\n".join(lines)
    assert "Folders: \\\\10.77.0.1  User: inkstick" in text and "Password: aj0y-r86r-7eja-c7bc" in text
    assert "READY" in text and "Read 214 documents" in text and "Network folders" not in text
    assert "Password" not in "\n".join(screen(FULL))
    stopped = screen(replace(FULL, share="aj0y-r86r-7eja-c7bc", parts=(*FULL.parts, ("share", "failed", ""))))
    assert "Network folders: stopped by a fault" in "\n".join(stopped) and "READY" in "\n".join(stopped)


def test_ready_is_said_only_when_every_part_works() -> None:
    assert "READY" not in "\n".join(screen(replace(FULL, parts=(("serve", "active", ""), ("watch", "failed", "")))))
    assert "started again" in "\n".join(screen(replace(FULL, parts=(("watch", "failed", ""),))))
    assert not console.ready(Status())


def test_memory_only_is_a_warning_that_stays() -> None:
    assert "LOST" in "\n".join(screen(Status()))
    assert "LOST" in "\n".join(screen(replace(FULL, kept=False)))
    assert "LOST" not in "\n".join(screen(FULL))


@pytest.mark.parametrize(("columns", "rows"), [(80, 25), (80, 24), (128, 48), (240, 67), (40, 12), (60, 30)])
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("asking", ["", "p", "w", "n"])
def test_it_fits_every_screen(columns: int, rows: int, language: str, asking: str) -> None:
    shared = replace(FULL, share="aj0y-r86r-7eja-c7bc")
    lines = screen(replace(shared, language=language, kept=False), View(columns, rows, asking, "WIPE"))
    assert len(lines) == rows - 1
    assert all(width(line) < columns for line in lines)


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_from_outside_controls_the_terminal(name: str, card: str) -> None:
    stick = Stick("x", f"\x1b[2J{name}", "offered", 3)
    told = Line("The graphics card reads the pages: {card}, {memory}.", "", (("card", f"\x9b{card}"), ("memory", "1")))
    parts = (("serve", "active", f"{name}\x1b]0;x\x07"),)
    shown = screen(replace(FULL, sticks=(stick,), card=told, name=card, parts=parts))
    assert all(letter.isprintable() or letter == "\u3000" for line in shown for letter in line)


def keys(status: Status, typed: str) -> list[Request | None]:
    view, asked = View(), []
    for key in typed:
        view, request = press(view, status, key)
        asked.append(request)
    return [request for request in asked if request]


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("n", []),
        ("n1", [Request("network", "direct")]),
        ("N2", [Request("network", "join")]),
        ("n3", [Request("network", "none")]),
        ("nn1", []),
        ("1", []),
        ("i", [Request("pin")]),
        ("e", [Request("eject")]),
        ("g", [Request("card")]),
        ("s", [Request("share")]),
        ("p", []),
        ("pn2", []),
        ("ppp", []),  # a key that is held down
        ("p\r", []),
        ("l\r", []),
        ("py", [Request("power")]),
        ("ly", [Request("lock")]),
        ("lx", []),
        ("pz", [Request("power")]),  # Y on a German keyboard
        ("lZ", [Request("lock")]),
        ("w\r", []),
        ("wwipe\r", []),
        ("wWIPE\r", [Request("wipe")]),
        ("wWIPEX\r", []),
        ("wWIPX\x7fE\r", [Request("wipe")]),
        ("wWI\x1bPE\r", []),  # escaped: P asks, and E is no yes
        ("y", [Request("stick", "sdb1")]),
        ("z", [Request("stick", "sdb1")]),
        ("x", [Request("decline", "sdb1")]),
        ("b", []),
        ("\x1b[A?!", []),
    ],
)
def test_keys(typed: str, asked: list[Request]) -> None:
    assert keys(FULL, typed) == asked


@pytest.mark.parametrize(
    ("language", "kept", "said"),
    [("en", True, "goes on"), ("en", False, "will be LOST. Y yes"), ("zh", False, "将全部丢失。Y 是")],
)
def test_a_power_off_promises_nothing_of_what_is_in_memory_only(language: str, kept: bool, said: str) -> None:
    question = asked(replace(FULL, language=language, kept=kept), "p")
    assert said in question and (kept or "goes on" not in question)


def asked(told: Status, key: str, typed: str = "") -> str:
    """The question at the screen's foot, on a screen of 80 columns."""
    lines = screen(told, View(asking=key, typed=typed))
    assert len(lines) < 25
    return " ".join(line.strip() for line in lines[-2:])


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_question_is_whole_and_so_is_what_is_typed(language: str, kept: bool) -> None:
    """Of the word that starts a wipe nothing was to be seen: the line ended before it."""
    told = replace(FULL, language=language, kept=kept)
    assert asked(told, "w", "WIPX").endswith("WIPX")
    assert not [key for key in "plwn" if "…" in asked(told, key)]


@pytest.mark.parametrize(
    ("language", "kept", "said"),
    [
        ("en", True, "Lock?"),
        ("en", False, "Choose anew where documents are kept?"),
        ("zh", False, "重新选择文件的保存位置"),
    ],
)
def test_without_a_volume_there_is_no_passphrase_to_lock_it_with(language: str, kept: bool, said: str) -> None:
    """L is the way from memory onto a volume, and the screen threatened to stop reading until a passphrase that there
    is none is typed."""
    question = asked(replace(FULL, language=language, kept=kept), "l")
    assert said in question and ("passphrase" in question) is kept


@pytest.mark.parametrize("state", ["copied", "exported", "full"])
def test_results_come_back_to_a_stick_that_was_copied(state: str) -> None:
    copied = replace(FULL, sticks=(Stick("sdb1", "KINGSTON", state, 3, 3),))
    assert keys(copied, "b") == [Request("export", "sdb1")]


@pytest.mark.parametrize(
    ("state", "count", "said"),
    [("looking", 0, "Looking"), ("offered", 0, "no document on K"), ("ejected", 3, "K can be taken out")],
)
def test_a_stick_without_a_question_asks_none(state: str, count: int, said: str) -> None:
    shown = "\n".join(screen(replace(FULL, sticks=(Stick("sdb1", "K", state, count),))))
    assert said in shown
    assert "Y yes" not in shown


def test_going_off_is_said() -> None:
    assert "Switching off" in screen(replace(FULL, boot="leaving"))[0]


def test_the_status_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    told = replace(FULL, warnings=(Line("a", "b", (("c", "d"),)),), dropped=(("in", 3),))
    status.save(path, told)
    assert status.load(path) == told
    assert path.stat().st_mode & 0o777 == 0o644
    path.write_text(json.dumps({**asdict(FULL), "later": 1}))
    assert status.load(path) == FULL, "a newer keeper's field does not trouble an older console"
    for broken in ("", "[]", '{"sticks": [1]}', '{"parts": 3}'):
        path.write_text(broken)
        assert status.load(path) is None


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("kept")
    (tmp_path / "status.json").symlink_to(tmp_path / "secret")
    status.save(tmp_path / "status.json", FULL)
    assert (tmp_path / "secret").read_text() == "kept"
    assert not (tmp_path / "status.json").is_symlink()


# ---- the painted screen and the first start on it


@pytest.mark.parametrize("frame", [Frame(1024, 768, 4096, 32), Frame(1920, 1080, 7680, 32), Frame(800, 600, 1664, 16)])
def test_a_phone_reads_the_code_off_the_painted_screen(frame: Frame) -> None:
    lines = screen(replace(FULL, language="zh"), View(80, 30))
    picture = paint.draw(lines, frame, 80, 30)
    assert picture.size == (frame.width, frame.height)
    assert cv2.QRCodeDetector().detectAndDecode(np.asarray(picture.convert("L")))[0] == "https://10.77.0.1/"
    assert len(paint.encode(picture, frame)) == frame.stride * frame.height


def test_painted_colours_lie_as_the_framebuffer_wants_them() -> None:
    picture = Image.new("RGB", (2, 1), (255, 128, 0))
    assert paint.encode(picture, Frame(2, 1, 8, 32))[:3] == bytes([0, 128, 255])
    assert int.from_bytes(paint.encode(picture, Frame(2, 1, 6, 16))[:2], "little") >> 11 == 31
    assert len(paint.encode(picture, Frame(2, 1, 6, 16))) == 6
    with pytest.raises(ValueError):
        paint.encode(picture, Frame(2, 1, 6, 24))


def test_chinese_is_painted_without_the_library_of_the_parsers() -> None:
    """Its import takes minutes where every instruction is emulated, and seconds on a weak laptop."""
    frame = Frame(160, 32, 640, 32)
    shown = {paint.draw([letter], frame, 10, 1).tobytes() for letter in "语言网络硬盘"}
    assert len(shown) == 6, "each letter has a form of its own, none is the box of a letter that is not there"
    script = (
        "import sys; from inkstick_provisioning import paint; from inkstick_provisioning.framebuffer import Frame; "
    )
    script += "paint.draw(['语'], Frame(160, 32, 640, 32), 10, 1); sys.exit('pymupdf' in sys.modules)"
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=paths).returncode == 0


QUESTION = {
    "number": 4, "step": "where", "language": "en", "title": "Where shall documents be kept?", "lines": ["x " * 100],
    "choices": ["On this stick", "In memory only"], "field": "choice", "problem": "Type one of the numbers.",
    "back": True,
}  # fmt: skip


@pytest.mark.parametrize(("columns", "rows"), [(80, 25), (40, 12), (128, 48)])
def test_the_first_start_fits_every_screen(columns: int, rows: int) -> None:
    lines = terminal.dialogue(QUESTION, Entry(4, "1"), FULL, View(columns, rows))
    assert len(lines) < rows
    assert all(width(line) < columns for line in lines)
    if rows > 20:
        text = "\n".join(lines)
        assert "1  On this stick" in text and "Type one of the numbers." in text and "https://10.77.0.1/" in text


@pytest.mark.parametrize("disks", [0, 4, 6, 12])
def test_however_many_disks_stay_as_they_are_the_places_and_the_answer_are_on_the_screen(disks: int) -> None:
    """In a computer with six disks the choices were below the screen's end, and so was what was typed."""
    name = "Samsung SSD 970 EVO Plus 1TB, 1 TB: It is in use or not empty and stays as it is."
    question = {**QUESTION, "lines": ["Documents and results are kept encrypted.", *[name] * disks]}
    lines = terminal.dialogue(question, Entry(4, "12"), FULL, View())
    text = "\n".join(lines)
    assert len(lines) < 25
    for part in (
        "kept encrypted",
        "1  On this stick",
        "2  In memory only",
        "!! Type one",
        "Your answer: 12_",
        "goes back",
    ):
        assert part in text, part
    assert ("  ..." in lines) is (disks > 4)


@pytest.mark.parametrize("view", [View(), View(128, 48)])
def test_the_recovery_key_is_shown_whole_and_as_a_code_beside_it(view: View) -> None:
    key = recovery.make()
    question = {**QUESTION, "lines": [key[:23], key[24:]], "choices": ["I have it: go on"], "code": key, "problem": ""}
    lines = terminal.dialogue(question, Entry(4), FULL, view)
    assert len(lines) < view.rows and all(width(line) < view.columns for line in lines)
    assert key[:23] in "\n".join(lines) and key[24:] in "\n".join(lines)
    code = qr.half_blocks(key)
    assert all(line.endswith(part.rstrip()) for line, part in zip(lines, code, strict=False))
    assert len(lines) >= len(code)


def test_a_passphrase_is_not_shown_while_it_is_typed() -> None:
    entry, line = Entry(4), None
    for key in "my secrex\x7ft":
        entry, line = terminal.typed(entry, key)
    assert (entry.text, line) == ("my secret", None)
    shown = terminal.dialogue({**QUESTION, "field": "secret", "choices": []}, entry, FULL, View())
    assert "secret" not in "\n".join(shown)
    assert shown == terminal.dialogue({**QUESTION, "field": "secret", "choices": []}, Entry(4), FULL, View())
    assert terminal.typed(entry, "\r") == (Entry(4), "my secret")
    assert terminal.typed(Entry(4, "a"), "\x1b") == (Entry(4, "a"), None)


def test_a_request_is_a_whole_file_for_root_only(tmp_path: Path) -> None:
    terminal.ask(tmp_path, {"what": "answer", "value": "geheim", "number": 1})
    terminal.ask(tmp_path, {"what": "power", "value": ""})
    files = sorted(tmp_path.iterdir())
    assert [json.loads(path.read_text())["what"] for path in files] == ["answer", "power"], "in the order of asking"
    assert all(path.stat().st_mode & 0o777 == 0o600 and not path.name.startswith(".") for path in files)


def test_what_is_typed_before_there_is_a_question_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passphrase that somebody began too early had switched the network and the share over, before anybody asked."""
    monkeypatch.setattr(status, "PATH", tmp_path / "status.json")
    monkeypatch.setattr(terminal, "QUESTION", tmp_path / "first-start.json")
    shown = terminal.Terminal(terminal.Screen(1), tmp_path)
    for key in "snowy pines\r":
        shown.key(key)
    assert not list(tmp_path.iterdir())
    status.save(status.PATH, FULL)
    shown.key("i")
    assert json.loads(next(tmp_path.glob("*-*.json")).read_text())["what"] == "pin"


def test_a_pin_can_be_had_while_a_question_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes after the start there was none any more, I was a letter of the answer, and the browser, in which
    alone some passphrases can be typed, could not be paired."""
    monkeypatch.setattr(status, "PATH", tmp_path / "status.json")
    monkeypatch.setattr(terminal, "QUESTION", tmp_path / "first-start.json")
    (tmp_path / "first-start.json").write_text(json.dumps({**QUESTION, "field": "secret", "choices": []}))
    status.save(status.PATH, replace(FULL, pin=""))
    shown = terminal.Terminal(terminal.Screen(1), tmp_path)
    assert "https://10.77.0.1/  Tab brings a PIN." in "\n".join(shown._lines())
    for key in "four\t words\r":
        shown.key(key)
    asked = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*-*[0-9].json"))]
    assert [(one["what"], one["value"]) for one in asked] == [("pin", ""), ("answer", "four words")]
    status.save(status.PATH, FULL)
    assert "Tab" not in "\n".join(shown._lines())


def test_a_machine_without_a_framebuffer_is_not_painted(tmp_path: Path) -> None:
    assert framebuffer.look(tmp_path / "fb0", tmp_path) is None
    for name, text in (("virtual_size", "1024,768\n"), ("stride", "4096\n"), ("bits_per_pixel", "32\n")):
        (tmp_path / name).write_text(text)
    assert framebuffer.look(tmp_path / "fb0", tmp_path) is None
    (tmp_path / "fb0").touch()
    assert framebuffer.look(tmp_path / "fb0", tmp_path) == Frame(1024, 768, 4096, 32)


@contextlib.contextmanager
def on_a_terminal(folder: Path) -> Iterator[int]:
    """The process on a pseudo-terminal, FULL on its screen and its requests in `folder`; the other end. It ends when it
    is told to."""
    status.save(folder / "status.json", FULL)
    code = (
        "import sys; from pathlib import Path; from inkstick_provisioning import status, terminal\n"
        f"status.PATH = Path({str(folder / 'status.json')!r}); terminal.QUESTION = Path('/nonexistent')\n"
        f"terminal.REQUESTS = Path({str(folder)!r}); sys.exit(terminal.main())"
    )
    child, handle = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": ":".join(sys.path)})
    try:
        yield handle
    finally:
        os.kill(child, signal.SIGTERM)
        with contextlib.suppress(OSError):  # EIO: its end of the terminal is closed
            while os.read(handle, 65536):
                pass
        ended = os.waitpid(child, 0)[1]
        os.close(handle)
        assert ended == 0


def shows(handle: int, words: bytes, seconds: float = 60.0) -> bool:
    seen, until = b"", time.monotonic() + seconds
    while words not in seen and select.select([handle], [], [], max(0.0, until - time.monotonic()))[0]:
        seen += os.read(handle, 65536)
    return words in seen


def test_the_process_on_a_real_terminal_shows_and_asks(tmp_path: Path) -> None:
    with on_a_terminal(tmp_path) as handle:
        assert shows(handle, b"W wipe")
        os.write(handle, b"n2")
        until = time.monotonic() + 60
        while not (asked := list(tmp_path.glob("*-0.json"))) and time.monotonic() < until:
            time.sleep(0.05)
        assert json.loads(asked[0].read_text()) == {"what": "network", "value": "join"}


def test_scroll_lock_and_ctrl_s_do_not_hold_the_screen_up(tmp_path: Path) -> None:
    """It stood still, and no key did anything. (To the kernel both are one; a pseudo-terminal has the second alone.)"""
    with on_a_terminal(tmp_path) as handle:
        assert shows(handle, b"W wipe")
        os.write(handle, b"\x13p")
        said = shows(handle, b"Power off?", 10.0)
        os.write(handle, b"\x11")  # (else what held it up would hold up its end as well)
        assert said


@pytest.mark.parametrize(
    ("sent", "typed"),
    [
        (b"\x1b[B", ""),  # the arrow down: not B, which writes onto a stick
        (b"\x1b[[E", ""),  # F5: not E
        (b"four\x1b[D\x1b[3~ words\x1b[1;5C\x1bOP\x1b[24~", "four words"),
        (b"\x1b", "\x1b"),
        ("口令\r".encode(), "口令\r"),
        (b"[B", "[B"),
    ],
)
def test_arrows_and_function_keys_type_nothing(sent: bytes, typed: str) -> None:
    """A letter more in a passphrase that nobody sees, typed twice so, locks its owner out."""
    assert terminal.keys(sent) == typed
