"""What the screen (tty1) shows once the machine is set up: status in, lines out, keys in, requests out. Pure.

Address and QR code, PIN, fingerprint, what is being read and how fast, engine and card, disk, warnings and what to do.
Never a document's text or name; whatever comes from outside (a stick's name, a card's) is stripped of control letters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from inkstick_provisioning import network, qr
from inkstick_provisioning.language import clean, cut, say, width, wrap
from inkstick_provisioning.network import Mode
from inkstick_provisioning.share import USER
from inkstick_provisioning.status import Line, Status, Stick
from inkstick_provisioning.volume import size

COLUMNS, ROWS = 80, 25
GAP = 2
WORK_LINES = 3
"""At most so many for the words of one part."""
WORDS = {
    "active": "working",
    "activating": "starting",
    "reloading": "working",
    "deactivating": "stopping",
    "inactive": "stopped",
    "failed": "stopped by a fault; it is started again",
}
PARTS = {"serve": "Service", "watch": "Inbox", "engine": "Engine", "share": "Network folders"}
READERS = ("serve", "watch")
_WATCHING = re.compile(r"Watching: (\d+) accepted, (\d+) in the inbox\.")


@dataclass(frozen=True, slots=True)
class Request:
    """What a key asks the keeper for. `what`: network pin share eject lock power wipe card stick decline. `value`: a
    network's mode, or a stick's id."""

    what: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """The console's own state. `asking`: the key that waits for an answer, or "". `typed`: for the wipe."""

    columns: int = COLUMNS
    rows: int = ROWS
    asking: str = ""
    typed: str = ""


# ---- keys

_CONFIRMED = {"p": "power", "l": "lock"}
_NETWORKS = {"1": Mode.DIRECT, "2": Mode.JOIN, "3": Mode.NONE}
"""As at the first start. Not one after the other: a cable's own addresses must not get into an office's network."""
_AT_ONCE = {"i": "pin", "s": "share", "e": "eject", "g": "card"}
WIPE_WORD = "WIPE"
_YES = ("y", "z")
"""The kernel takes every keyboard for an American one: on a German one Z is what comes from the key Y."""


def press(view: View, status: Status, key: str) -> tuple[View, Request | None]:
    """After one key. Power off and lock are asked once more, and so is what the network is for; a wipe only when its
    word was typed."""
    if view.asking == "w":
        return _wiping(view, key)
    letter = key.lower()
    if view.asking == "n":
        return replace(view, asking=""), Request("network", _NETWORKS[key].value) if key in _NETWORKS else None
    if view.asking:
        return replace(view, asking=""), Request(_CONFIRMED[view.asking]) if letter in _YES else None
    if letter in _CONFIRMED or letter in ("n", "w"):
        return replace(view, asking=letter, typed=""), None
    if letter in _AT_ONCE:
        return view, Request(_AT_ONCE[letter])
    return view, _about_stick(status, letter)


def _wiping(view: View, key: str) -> tuple[View, Request | None]:
    if key in ("\r", "\n"):
        done = view.typed == WIPE_WORD
        return replace(view, asking="", typed=""), Request("wipe") if done else None
    if key in ("\x7f", "\b"):
        return replace(view, typed=view.typed[:-1]), None
    if key == "\x1b" or not key.isprintable():
        return replace(view, asking="", typed=""), None
    return replace(view, typed=(view.typed + key)[: len(WIPE_WORD) + 4]), None


def _about_stick(status: Status, letter: str) -> Request | None:
    """Y reads the stick that is offered, X declines it, B brings its results back."""
    offered = next((stick for stick in status.sticks if stick.state == "offered"), None)
    if offered and letter in (*_YES, "x"):
        return Request("decline" if letter == "x" else "stick", offered.id)
    copied = next((stick for stick in status.sticks if stick.state in ("copied", "partly", "exported", "full")), None)
    return Request("export", copied.id) if copied and letter == "b" else None


# ---- the screen


def screen(status: Status, view: View | None = None) -> list[str]:
    """At most `view.rows` lines of at most `view.columns` columns."""
    view = view or View()
    code = status.language
    picture = code_of(status.addresses[0], view) if status.addresses else []
    side = view.columns - (width(picture[0]) + GAP if picture else 0)
    tail = [f" {line}" for line in wrap(_keys(view, status, code), view.columns - 2)]
    room = view.rows - len(tail) - 1
    told = _told(status, code, view.columns - 2)
    for most in (WORK_LINES, 1):  # long words of a part take more lines where nothing urgent is lost by that
        left = [*_title(status, code), *_access(status, code), "", *_work(status, code, side - 2, most)]
        lines = [*beside([cut(line, side - 1) for line in left], picture, side), *told]
        if len(lines) <= room:
            break
    return [*lines[:room], *[""] * (room - len(lines)), *tail]


def code_of(text: str, view: View) -> list[str]:
    """A QR code, if the screen has room for it beside the rest; no lines for no text."""
    if not text:
        return []
    picture = qr.half_blocks(text)
    return picture if len(picture) <= view.rows - 6 and width(picture[0]) <= view.columns - 44 else []


def beside(left: list[str], picture: list[str], side: int) -> list[str]:
    """Lines with a picture that begins at the column `side`."""
    height = max(len(left), len(picture))
    rows = []
    for index in range(height):
        text = left[index] if index < len(left) else ""
        block = picture[index] if index < len(picture) else ""
        rows.append(f"{text}{' ' * (side - width(text))}{block}".rstrip() if block else text)
    return rows


def _title(status: Status, code: str) -> list[str]:
    name = clean(status.name) or "Inkstick"
    state = "READY" if ready(status) else "Starting. This takes a minute or two."
    state = say(code, "Switching off." if status.boot == "leaving" else state)
    return [f" {name} · {state}", ""]


def ready(status: Status) -> bool:
    """Whether everything that reads is working."""
    states = [state for name, state, _ in status.parts if name in READERS]
    return bool(states) and all(state == "active" for state in states)


def _access(status: Status, code: str) -> list[str]:
    if not status.addresses and any(mode != Mode.NONE for _, mode in status.modes):
        return [f" {say(code, 'There is no address for the page yet. Is the cable in? N uses it otherwise.')}"]
    if not status.addresses:
        return [f" {say(code, 'No network cable is in use. Press N to change that.')}"]
    lines = [f" {say(code, 'Open in a browser:')}"]
    lines += [f"   {clean(address)}" for address in status.addresses[:3]]
    if status.pin:
        lines.append(f" {say(code, 'PIN: {place}', place=status.pin)}")
    else:
        lines.append(f" {say(code, 'Press I for a PIN.')}")
    if status.fingerprint:
        lines.append(f" {say(code, 'It warns once; check this fingerprint:')}")
        pairs = status.fingerprint.split(":")
        lines += [f"   {' '.join(pairs[at : at + 8])}" for at in range(0, len(pairs), 8)]
    return [*lines, *_share(status, code)]


def _share(status: Status, code: str) -> list[str]:
    """Where the folders are and what lets in there; nothing while they are not on the network."""
    if not status.share:
        return []
    place = "\\\\" + network.host(status.addresses[0])
    return [
        f" {say(code, 'Folders: {place}  User: {name}', place=place, name=USER)}",
        f" {say(code, 'Password: {place}', place=status.share)}",
    ]


def _work(status: Status, code: str, columns: int, most: int) -> list[str]:
    """What each part does, in `most` lines of so many columns, and the disk."""
    lines: list[str] = []
    for name, state, text in status.parts:
        if name == "share" and state == "active":
            continue  # its address and password are on the screen already
        told = WORDS.get(state, state) if state != "active" or not text else text
        rows = wrap(f"{say(code, PARTS.get(name, name))}: {_own(clean(told), code)}", columns)
        if len(rows) > most:
            rows = [*rows[: most - 1], cut(f"{rows[most - 1]}…", columns)]
        lines += [f" {row}" for row in rows]
    return [*lines, f" {_disk(status, code)}"]


def _own(told: str, code: str) -> str:
    """A unit's own words. The watcher speaks English; the service speaks the language of the screen by itself."""
    if counted := _WATCHING.fullmatch(told):
        return say(code, "{count} accepted, {place} waiting in the inbox", count=counted[1], place=counted[2])
    return say(code, told)


def _disk(status: Status, code: str) -> str:
    values = {"size": size(status.free), "place": size(status.total)}
    if status.kept:
        return say(code, "Data volume: {size} of {place} free, encrypted", **values)
    return say(code, "In memory: {size} of {place} free", **values)


def _told(status: Status, code: str, columns: int) -> list[str]:
    """Sticks, warnings, the card, each with what to do; the most urgent first."""
    lines: list[str] = []
    for stick in status.sticks:
        lines += [f" {line}" for line in wrap(_stick(stick, code), columns)]
    if not status.kept:
        warning = say(code, "WARNING: documents and results are in memory only. They are LOST at power-off.")
        lines += [f" {line}" for line in wrap(warning, columns)]
    for told in (*status.warnings, *([status.card] if status.card else [])):
        lines += [f" {line}" for line in wrap(_sentence(told, code), columns)]
    return lines


def _sentence(told: Line, code: str) -> str:
    values = dict(told.values)
    action = f" {say(code, told.action, **values)}" if told.action else ""
    return f"{say(code, told.sentence, **values)}{action}"


def _stick(stick: Stick, code: str) -> str:
    values = {"name": stick.name, "count": stick.count, "place": stick.done}
    empty = stick.state == "offered" and not stick.count
    sentence = "There is no document on {name}." if empty else {
        "looking": "Looking what is on {name}.",
        "offered": "Read {count} documents from {name}? Y yes, X no.",
        "copying": "Copying from {name}: {place} of {count}. Leave it in.",
        "copied": "{count} documents copied from {name}; it can be taken out. B brings the results back.",
        "partly": "{place} of {count} documents copied from {name}; others cannot be read. B brings the results back.",
        "stopped": "{name} was taken out: {place} of {count} documents were copied, nothing is lost. Put it in again.",
        "exporting": "Results are written to {name}. Leave it in.",
        "exported": "The results are on {name}, in inkstick-results. It can be taken out. B brings later ones.",
        "full": "{name} is full: not all results are on it. Make room on it and press B.",
        "locked": "Results cannot be written to {name}: is it write-protected? Take them in the browser.",
        "ejected": "{name} can be taken out.",
        "unreadable": "{name} cannot be read. Copy its files to another stick.",
        "no_volume": "Nothing can be written to the data volume: {place} of {count} documents of {name} were copied. "
                     "Start this computer again.",
        "no_room": "No room for all documents of {name}: {place} of {count} were copied. Make room, put it in again.",
    }.get(stick.state)  # fmt: skip
    return say(code, sentence, **values) if sentence else clean(stick.name)


def _keys(view: View, status: Status, code: str) -> str:
    if view.asking == "p":
        goes_on = "Power off? Y yes, any other key no. What is being read goes on at the next start."
        lost = "Power off? What is in memory only will be LOST. Y yes, any other key no."
        return say(code, goes_on if status.kept else lost)
    if view.asking == "n":
        ways = "Network: 1 a cable straight to one computer, 2 an existing network, 3 none. Any other key: as it is."
        return say(code, ways)
    if view.asking == "l" and status.kept:
        return say(code, "Lock? Reading stops until the passphrase is typed again. Y yes, any other key no.")
    if view.asking == "l":
        return say(code, "Choose anew where documents are kept? Nothing is lost by that. Y yes, any other key no.")
    if view.asking == "w":
        sentence = "WIPE destroys every document and result for ever. Type WIPE and press Enter: {place}"
        return say(code, sentence, place=view.typed)
    return say(code, "N network  I new PIN  S share  E eject sticks  L lock  P power off  W wipe")
