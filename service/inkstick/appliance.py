"""What the machine around the service tells and takes: sticks, the questions of its first start, lock, power.

The service itself may do nothing of that. Where provisioning runs, its keeper writes `status.json` and
`first-start.json` (folder: setting `appliance`, else ``/run/inkstick``) and takes requests as small files in
``state/requests/``: see docs/provisioning.md, "Files for other parts". Elsewhere nothing is offered.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inkstick.errors import Unavailable, UsageError

RUN = Path("/run/inkstick")
ACTIONS: Mapping[str, str] = {"lock": "lock", "power-off": "power"}
"""What can be asked of the machine itself, and the keeper's word for it."""
STICK_ACTIONS = ("stick", "decline", "export", "eject")
"""Read its documents, leave it alone, bring results back onto it, let go of all sticks."""
LONGEST = 1000
"""Letters of an answer."""


@dataclass(frozen=True, slots=True)
class Stick:
    """A stick that was plugged in. `state`: as in words.STICKS.
    `count`: documents on it; `done`: copied so far; `results`: of so many the results were carried back."""

    id: str
    name: str
    state: str
    count: int
    done: int
    results: int


@dataclass(frozen=True, slots=True)
class Share:
    """Inbox and results as folders of the network. `hosts`: where. repr hides the password."""

    hosts: tuple[str, ...]
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Question:
    """What the first start, or a locked volume, asks now, in `language`. `field`: choice (the answer is a number from
    1), line, secret, nothing (please wait). `problem`: why the last answer was not taken, or ""."""

    number: int
    step: str
    title: str
    lines: tuple[str, ...]
    choices: tuple[str, ...]
    field: str
    problem: str
    back: bool
    language: str


@dataclass(frozen=True, slots=True)
class Machine:
    """`offers`: of `ACTIONS`. `question`: None when nothing is asked. `share`: None where there is none. `language`: of
    the machine's screen."""

    offers: tuple[str, ...] = ()
    sticks: tuple[Stick, ...] = ()
    question: Question | None = None
    share: Share | None = None
    language: str = "en"


def look(folder: Path) -> Machine:
    """What the keeper says now; an empty machine where there is none, or what it says cannot be understood."""
    status = _load(folder / "status.json")
    if status is None:
        return Machine()
    try:
        sticks = tuple(_stick(stick) for stick in status.get("sticks", ()))
        asked = _load(folder / "first-start.json")
        question = _question(asked) if asked and asked.get("step") != "done" else None
        share = _share(status)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Machine()
    offers = tuple(action for action in ACTIONS if action != "lock" or status.get("kept") is True)
    return Machine(offers, sticks, question, share, str(status.get("language", "en")))


@dataclass(frozen=True, slots=True)
class Request:
    """`what`: a word of the keeper. `value`: an answer (perhaps a passphrase: repr leaves it out), or a stick's id.
    `number`: of the question that is answered."""

    what: str
    value: str = field(default="", repr=False)
    number: int = -1


def ask(requests: Path, request: Request) -> None:
    """Leave a request for the keeper, who takes it within a second or two. Raises UsageError, Unavailable."""
    if len(request.value) > LONGEST:
        raise UsageError("The answer is too long.", hint=f"At most {LONGEST} letters.")
    asked = {"what": request.what, "value": request.value, "number": request.number}
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"  # names are taken in order
    part = requests / f".{name}"
    try:
        requests.mkdir(mode=0o700, exist_ok=True)
        # Not synced: a passphrase is asked while the data folder is in memory, and a request is taken at once or never.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            json.dump(asked, file)
        part.rename(requests / name)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise Unavailable(f"The machine cannot be asked: {error.strerror}.", hint="Do it at the console.") from error


def _load(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _stick(value: Mapping[str, Any]) -> Stick:
    figures = (int(value.get(name, 0)) for name in ("count", "done", "results"))
    return Stick(str(value["id"]), str(value["name"]), str(value["state"]), *figures)


def _share(status: Mapping[str, Any]) -> Share | None:
    hosts = tuple(str(address).split("/")[2] for address in status.get("addresses", ()))
    return Share(hosts, str(status["share"])) if hosts and status.get("share") else None


def _question(value: Mapping[str, Any]) -> Question:
    return Question(
        number=int(value["number"]),
        step=str(value["step"]),
        title=str(value["title"]),
        lines=tuple(map(str, value["lines"])),
        choices=tuple(map(str, value["choices"])),
        field=str(value["field"]),
        problem=str(value["problem"]),
        back=bool(value["back"]),
        language=str(value["language"]),
    )
