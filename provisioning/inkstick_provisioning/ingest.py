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
from inkstick_provisioning import blocks, status, sticks, usb
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

FAILURES = {"stick_gone": "stopped", "stick_full": "full", "disk_full": "no_room"}


class Visit:
    """One stick, from its being put in to its being gone. `tell` is called with each change."""

    def __init__(self, candidate: Candidate, top: Path, data: DataFolder, user: int, tell: Callable[[Stick], None]):
        self._identity = _identity(candidate)
        self._folder = f"{candidate.name} {self._identity[:4]}"
        self._top, self._data, self._user, self._tell = top, data, user, tell
        self.stick = Stick(candidate.id, candidate.name, "looking")
        self.copied: list[Copied] = []

    def _say(self, **changes: Any) -> None:
        self.stick = replace(self.stick, **changes)
        self._tell(self.stick)

    def _follow(self, work: Callable[[Send], None]) -> Iterator[dict[str, Any]]:
        for message in as_user(self._user, work):
            if "failed" in message:
                self._say(state=FAILURES.get(message["failed"], "unreadable"))
            else:
                yield message

    def count(self) -> bool:
        """Whether there is anything to read; has it a folder of its own for us?"""
        inbox = False
        for message in self._follow(lambda send: self._count(send)):
            inbox = bool(message["inbox"])
            self._say(state="offered", count=message["count"])
        return inbox

    def _count(self, send: Send) -> None:
        found = self._ingest("").find()
        send({"count": len(found), "inbox": usb.has_inbox(self._top)})

    def _ingest(self, only: str) -> Ingest:
        figures = os.statvfs(self._data.root)
        return Ingest(self._top, self._folder, self._data, figures.f_blocks * figures.f_frsize // 20, only)

    def copy(self, only: str = "") -> None:
        """Everything, or one folder of it, into the inbox."""

        def work(send: Send) -> None:
            ingest = self._ingest(only)
            wanted = ingest.find()
            send({"count": len(wanted)})
            kept = usb.journal(self._data, self._identity)
            copied = ingest.run(wanted, kept, lambda done: send({"done": done}))
            send({"copied": [asdict(entry) for entry in copied]})

        self._say(state="copying", done=0)
        for message in self._follow(work):
            if "copied" in message:
                self.copied = [Copied(**entry) for entry in message.pop("copied")]
                self._say(state="copied")
            else:
                self._say(**message)

    def finished(self) -> bool:
        """Whether every document that was copied has been read to its end."""
        return bool(self.copied) and len(usb.ended(self._data, self.copied)) == len(self.copied)

    def export(self) -> None:
        def work(send: Send) -> None:
            written = usb.export(self._data, self._folder, self._top, lambda done: send({"results": done}))
            send({"results": written, "state": "exported"})

        self._say(state="exporting")
        for message in self._follow(work):
            self._say(**message)


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
    found = [c for c in sticks.candidates(blocks.parse(_lsblk())) if c.id == name]
    if not found:
        return 0
    candidate = found[0]
    FOLDER.mkdir(parents=True, exist_ok=True)
    POINT.mkdir(exist_ok=True)
    told = FOLDER / f"{name}.json"
    visit = Visit(candidate, POINT, DataFolder(DATA), user, lambda stick: status.write(told, asdict(stick)))
    mounted = subprocess.run(sticks.mount_command(candidate, str(POINT), user), capture_output=True)
    if mounted.returncode != 0:
        status.write(told, asdict(replace(visit.stick, state="unreadable")))
    try:
        if mounted.returncode == 0:
            _stay(visit, candidate, user)
        _until_gone(candidate.id, LINGER_SECONDS)
    finally:
        told.unlink(missing_ok=True)
    return 0


def _lsblk() -> str:
    return subprocess.run(blocks.COMMAND, capture_output=True, text=True, check=True).stdout


def _stay(visit: Visit, candidate: Candidate, user: int) -> None:
    """Until the stick is gone, ejected or declined."""
    own = sticks.starts(_setting(), visit.count())
    if own:
        visit.copy(sticks.INBOX)
    elif visit.stick.count == 0:
        return
    asked, exported = FOLDER / f"{candidate.id}.ask", False
    while (Path("/sys/class/block") / candidate.id).exists():
        word = taken(asked)
        if word in ("decline", "eject"):
            return
        if word == "stick":
            visit.copy()
        elif word == "export" or (own and not exported and visit.finished()):
            exported = True
            _export(visit, candidate, user)
        time.sleep(POLL)


def _export(visit: Visit, candidate: Candidate, user: int) -> None:
    """Writable for just as long as it takes."""
    subprocess.run(["umount", str(POINT)], check=True)
    subprocess.run(sticks.mount_command(candidate, str(POINT), user, write=True), check=True)
    try:
        visit.export()
    finally:
        subprocess.run(["sync", "--file-system", str(POINT)])
        subprocess.run(["umount", str(POINT)])
        subprocess.run(sticks.mount_command(candidate, str(POINT), user))


def _setting() -> Usb:
    try:
        return Usb(json.loads((status.RUN / "wishes.json").read_text(encoding="utf-8"))["usb"])
    except (OSError, ValueError, KeyError):
        return Usb.ASK


def _until_gone(name: str, seconds: float) -> None:
    """The last words stay on the screen for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(POLL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
