"""The process of one plugged-in stick (`inkstick-usb@sdb1.service`): mounts it, counts, waits for a yes, copies,
carries results back. It mounts as root in a mount namespace of its own; whatever reads the stick's files is a child
without any right but the service's own user's.

`/run/inkstick/sticks/ID.json` tells the keeper what is going on; `ID.ask` is what a person wants: stick, decline,
export or eject.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from inkstick.config import DataFolder
from inkstick_provisioning import blocks, settings, status, sticks, usb
from inkstick_provisioning.rights import Send, as_user
from inkstick_provisioning.status import Stick
from inkstick_provisioning.sticks import Candidate
from inkstick_provisioning.unattended import Usb
from inkstick_provisioning.usb import Copied, Ingest

FOLDER = status.RUN / "sticks"
POINT = status.RUN / "stick"
DATA = Path("/var/lib/inkstick")
LINGER_SECONDS = 30.0
POLL = 1.0
SYS = Path("/sys/class/block")
CAN_GO = ("offered", "copied", "partly", "exported", "locked", "ejected")
"""What is said of a stick that may be taken out: when it is out, there is nothing left to say."""

FAILURES = {
    "stick_gone": "stopped",
    "stick_full": "full",
    "stick_locked": "locked",
    "disk_full": "no_room",
    "volume_failed": "no_volume",
}


class Visit:
    """One stick, from its being put in to its being gone. `tell` is called with each change."""

    def __init__(self, candidate: Candidate, top: Path, data: DataFolder, user: int, tell: Callable[[Stick], None]):
        self._identity = _identity(candidate)
        self._folder = f"{candidate.name} {self._identity[:4]}"
        self._top, self._data, self._user, self._tell = top, data, user, tell
        self.stick = Stick(candidate.id, candidate.name, "looking")
        self.copied: list[Copied] = []

    def say(self, **changes: Any) -> None:
        self.stick = replace(self.stick, **changes)
        self._tell(self.stick)

    def _follow(self, work: Callable[[Send], None]) -> Iterator[dict[str, Any]]:
        for message in as_user(self._user, work):
            if "failed" in message:
                self.say(state=FAILURES.get(message["failed"], "unreadable"))
            else:
                yield message

    def count(self) -> bool:
        """Whether it has a folder of its own for us. Where there is nothing on it that was not copied before, nothing
        is offered: it is here for its results."""
        inbox = False
        for message in self._follow(lambda send: self._count(send)):
            inbox = bool(message["inbox"])
            self.copied = [Copied(**entry) for entry in message["copied"]]
            count, known = message["count"], len(self.copied)
            state = "copied" if count and count == known else "offered"
            self.say(state=state, count=count, done=known)
        return inbox

    def _count(self, send: Send) -> None:
        found = self._ingest("").find()
        with usb.writing():
            known = usb.journal(self._data, self._identity).read()
        copied = [asdict(known[each.key]) for each in found if each.key in known]
        send({"count": len(found), "inbox": usb.has_inbox(self._top), "copied": copied})

    def _ingest(self, only: str) -> Ingest:
        figures = os.statvfs(self._data.root)
        reserve = settings.reserve(figures.f_blocks * figures.f_frsize)
        return Ingest(self._top, self._folder, self._data, reserve, only)

    def copy(self, only: str = "") -> None:
        """Everything, or one folder of it, into the inbox."""

        def work(send: Send) -> None:
            with usb.writing():
                self._data.create()  # at the first start a stick may be there sooner than the service
            ingest = self._ingest(only)
            wanted = ingest.find()
            send({"count": len(wanted)})
            kept = usb.journal(self._data, self._identity)
            copied = ingest.run(wanted, kept, lambda done: send({"done": done}))
            send({"copied": [asdict(entry) for entry in copied]})

        self.say(state="copying", done=0)
        for message in self._follow(work):
            if "copied" in message:
                self.copied = [Copied(**entry) for entry in message.pop("copied")]
                self.say(state="copied" if len(self.copied) == self.stick.count else "partly")
            else:
                self.say(**message)

    def finished(self) -> bool:
        """Whether every document that was copied has been read to its end."""
        return bool(self.copied) and len(usb.ended(self._data, self.copied)) == len(self.copied)

    def export(self) -> bool:
        """Whether all results were written. That they are on the stick is said when it is closed (`_export`)."""

        def work(send: Send) -> None:
            written = usb.export(self._data, self._folder, self._top, lambda done: send({"results": done}))
            send({"results": written})

        self.say(state="exporting")
        for message in self._follow(work):
            self.say(**message)
        return self.stick.state == "exporting"


def _identity(candidate: Candidate) -> str:
    """What stays the same for a stick: its file system's own number."""
    command = ["blkid", "--probe", "--match-tag", "UUID", "--output", "value", candidate.device]
    with contextlib.suppress(OSError):
        uuid = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        return uuid.replace("-", "").lower() or candidate.name
    return candidate.name


def taken(path: Path) -> str:
    """What a person asked for, once."""
    try:
        word = path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    path.unlink(missing_ok=True)
    return word


def main(arguments: list[str]) -> int:
    name, user = arguments[0], int(arguments[1])
    # Stopped in the middle and started again (the data folder changed), it may have been taken out meanwhile.
    (FOLDER / f"{name}.json").unlink(missing_ok=True)
    while _visit(name, user):
        pass  # put in again under the same name: systemd starts no second unit while this one is there
    return 0


def _visit(name: str, user: int) -> bool:
    """From a stick's being put in until the last words about it have been read. Whether it was put in again by then."""
    candidate = None if _setting() is Usb.NEVER else _candidate(name)
    if candidate is None:
        return False
    FOLDER.mkdir(parents=True, exist_ok=True)
    POINT.mkdir(exist_ok=True)
    told = FOLDER / f"{name}.json"
    visit = Visit(candidate, POINT, DataFolder(DATA), user, lambda stick: status.write(told, asdict(stick)))
    try:
        if candidate.system and _mounted(sticks.mount_command(candidate, str(POINT), user)):
            if _stay(visit, candidate, user):
                visit.say(state="ejected")
        else:
            visit.say(state="unreadable")
        return comes_again(visit.stick, LINGER_SECONDS)
    finally:
        told.unlink(missing_ok=True)


def _mounted(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def _candidate(name: str) -> Candidate | None:
    shown = subprocess.run(blocks.COMMAND, capture_output=True, text=True, errors="replace", check=True).stdout
    return next((found for found in sticks.candidates(blocks.parse(shown)) if found.id == name), None)


def _plugged(name: str) -> bool:
    return usb.is_there(SYS / name)


def _stay(visit: Visit, candidate: Candidate, user: int) -> bool:
    """Until the stick is gone, ejected or declined, and not mounted any more (the kernel keeps a mounted stick's name).
    Whether somebody wants to take it out."""
    try:
        return _attend(visit, candidate, user)
    finally:
        subprocess.run(["umount", "--lazy", str(POINT)], check=False)


def _attend(visit: Visit, candidate: Candidate, user: int) -> bool:
    asked, exported = FOLDER / f"{candidate.id}.ask", False
    taken(asked)  # that was about another stick
    own = sticks.starts(_setting(), visit.count())
    if own:
        visit.copy(sticks.INBOX)
    elif visit.stick.count == 0:
        return False
    while _plugged(candidate.id):
        word = taken(asked)
        if word in ("decline", "eject"):
            return True
        if word == "stick":
            visit.copy()
        elif word == "export" or (own and not exported and visit.stick.state == "copied" and visit.finished()):
            exported = True
            _export(visit, candidate, user)
        time.sleep(POLL)
    return False


def _export(visit: Visit, candidate: Candidate, user: int) -> None:
    """Writable for just as long as it takes; only then may it be taken out, and is that said."""
    subprocess.run(["umount", str(POINT)], check=True)
    opened = subprocess.run(sticks.mount_command(candidate, str(POINT), user, write=True)).returncode == 0
    written = closed = False
    try:
        if opened:
            written = visit.export()
        else:  # the driver of Windows' file system opens none that was not closed properly
            visit.say(state="locked")
    finally:
        closed = subprocess.run(["sync", "--file-system", str(POINT)]).returncode == 0
        subprocess.run(["umount", str(POINT)])
        subprocess.run(sticks.mount_command(candidate, str(POINT), user))
    if written:
        visit.say(state="exported" if closed else "stopped")


def _setting() -> Usb:
    try:
        return Usb(json.loads((status.RUN / "wishes.json").read_text(encoding="utf-8"))["usb"])
    except (OSError, ValueError, KeyError):
        return Usb.ASK


def comes_again(stick: Stick, seconds: float) -> bool:
    """The last words stay on the screen for a while, unless they have come true. Whether the stick was taken out and
    put in again meanwhile."""
    until, gone = time.monotonic() + seconds, False
    while time.monotonic() < until:
        there = _plugged(stick.id)
        if not there and stick.state in CAN_GO:
            return False
        if there and gone and _candidate(stick.id):
            return True
        gone = gone or not there
        time.sleep(POLL)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
