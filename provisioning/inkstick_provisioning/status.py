"""What the appliance tells about itself: `/run/inkstick/status.json`, written by the keeper, read by console and page.

No name and no text of any document is ever in it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

RUN = Path("/run/inkstick")
PATH = RUN / "status.json"


@dataclass(frozen=True, slots=True)
class Stick:
    """A stick that was plugged in. `state`: looking unreadable offered copying copied partly stopped no_room
    no_volume exporting exported full locked ejected. `count`: documents on it; `done`: copied so far. `results`: files
    that were carried back."""

    id: str
    name: str
    state: str = "offered"
    count: int = 0
    done: int = 0
    results: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """An English sentence, with what fills its placeholders; `action`: what to do, or ""."""

    sentence: str
    action: str = ""
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """`boot`: setup running leaving. `addresses`: of the page. `modes`: by port. `fingerprint`: of the TLS
    certificate, SHA-256. `pin`: the pairing PIN while there is one. `parts`: unit → its state and own words: the
    service's tell what is read, how fast and by whom. `free`, `total`: bytes of the data folder; `kept`: False in
    memory. `dropped`: packets that the firewall stopped. `question`: the first start waits for an answer. `share`:
    the password of the folders on the network, "" while there are none."""

    boot: str = "setup"
    language: str = "en"
    name: str = ""
    addresses: tuple[str, ...] = ()
    modes: tuple[tuple[str, str], ...] = ()
    pin: str = ""
    fingerprint: str = ""
    parts: tuple[tuple[str, str, str], ...] = ()
    card: Line | None = None
    free: int = 0
    total: int = 0
    kept: bool = False
    warnings: tuple[Line, ...] = ()
    sticks: tuple[Stick, ...] = ()
    dropped: tuple[tuple[str, int], ...] = ()
    question: bool = False
    share: str = ""


def write(path: Path, value: Any, mode: int = 0o644) -> None:
    """JSON, whole or not at all; never through a link that somebody put there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False)
        os.fchmod(file.fileno(), mode)
    part.replace(path)


def save(path: Path, status: Status) -> None:
    write(path, asdict(status))


def load(path: Path) -> Status | None:
    """None where there is no such file, or none that can be read."""
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def parse(value: Any) -> Status:
    """From JSON. Raises TypeError or ValueError for something else."""
    if not isinstance(value, dict):
        raise TypeError("not a status")
    known = {field.name: value[field.name] for field in fields(Status) if field.name in value}
    for name in ("addresses", "modes", "parts", "dropped"):
        if name in known:
            known[name] = tuple(tuple(row) if isinstance(row, list) else row for row in known[name])
    if known.get("card"):
        known["card"] = _line(known["card"])
    known["warnings"] = tuple(_line(line) for line in known.get("warnings", ()))
    known["sticks"] = tuple(Stick(**stick) for stick in known.get("sticks", ()))
    return Status(**known)


def _line(value: dict[str, Any]) -> Line:
    return Line(str(value["sentence"]), str(value["action"]), tuple((str(a), str(b)) for a, b in value["values"]))
