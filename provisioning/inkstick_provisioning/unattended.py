"""`inkstick.toml`: everything that the first start asks, answered by a file on the stick. Pure: text in, wishes out.

Every mistake is told, each with its place, not only the first; a file with a mistake is not used at all.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from inkstick_provisioning.faults import UnattendedError
from inkstick_provisioning.language import LANGUAGES
from inkstick_provisioning.network import Mode, Port
from inkstick_provisioning.volume import Where

NAME = "inkstick.toml"
LARGEST = 64 << 10
SHORTEST = 8
"""Letters of a passphrase."""


class Usb(StrEnum):
    """What a stick that is plugged in starts: nothing without a click, its folder inkstick-inbox by itself, nothing at
    all: it is not even mounted."""

    ASK = "ask"
    INBOX = "inbox"
    NEVER = "never"


class Lid(StrEnum):
    """What closing the lid does."""

    KEEP = "keep"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person, or the file, chose. `passphrase` is never shown: repr leaves it out.

    `where` None: not said. `disk`: a path below /dev for where=disk, "" takes the only empty one. `key_file`: a name
    beside the file. `network_given`: it was said, and is not the one that a file without it means. `ports`: modes of
    single ports. `smb`: inbox and results as folders of the network.
    """

    language: str = "en"
    where: Where | None = None
    disk: str = ""
    passphrase: str = field(default="", repr=False)
    key_file: str = ""
    network: Mode = Mode.DIRECT
    ports: Mapping[str, Mode] = field(default_factory=dict)
    usb: Usb = Usb.ASK
    lid: Lid = Lid.KEEP
    name: str = ""
    smb: bool = False
    network_given: bool = field(default=False, compare=False)


Check = Callable[[Any], Any]


def parse(text: str) -> Wishes:
    """Raises UnattendedError with all that is wrong."""
    if len(text) > LARGEST:
        raise UnattendedError(("the file is larger than 64 KiB",))
    try:
        read = tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:  # (a number or brackets without end are ValueError and the other)
        raise UnattendedError((str(error),)) from error
    problems: list[str] = []
    values = _values(read, _SCHEMA, "", problems)
    wishes = replace(Wishes(), **{_FIELDS[key]: value for key, value in values.items()})
    wishes = replace(wishes, network_given="network.mode" in values)
    problems += _together(wishes)
    if problems:
        raise UnattendedError(tuple(problems))
    return wishes


def text(wishes: Wishes) -> str:
    """The same as a file, without passphrase and key: `parse` reads it back. No value can hold a quote."""
    ports = "".join(f'"{name}" = "{mode.value}"\n' for name, mode in wishes.ports.items())
    name = f'name = "{wishes.name}"\n' if wishes.name else ""
    where = f'[data]\nwhere = "{wishes.where.value}"\n' if wishes.where else ""
    return (
        f'language = "{wishes.language}"\n{name}{where}[network]\nmode = "{wishes.network.value}"\n'
        f'[network.ports]\n{ports}[usb]\nread = "{wishes.usb.value}"\n[power]\nlid = "{wishes.lid.value}"\n'
        f"[share]\nsmb = {'true' if wishes.smb else 'false'}\n"
    )


def _values(read: Mapping[str, Any], schema: Mapping[str, Any], at: str, problems: list[str]) -> dict[str, Any]:
    """Checked values by their dotted names; what is wrong goes into `problems`."""
    found: dict[str, Any] = {}
    for key, value in read.items():
        place = f"{at}{key}"
        rule = schema.get(key)
        if rule is None:
            problems.append(f"{place}: there is no such setting; known here: {', '.join(schema)}")
        elif isinstance(rule, dict):
            if isinstance(value, dict):
                found |= _values(value, rule, f"{place}.", problems)
            else:
                problems.append(f"{place}: is a section, write [{place}]")
        else:
            try:
                found[place] = rule(value)
            except (ValueError, TypeError) as error:
                problems.append(f"{place}: {error}")
    return found


def _together(wishes: Wishes) -> list[str]:
    """What only goes, or does not go, together."""
    problems = []
    if wishes.passphrase and wishes.key_file:
        problems.append("data: give a passphrase or a key_file, not both")
    if wishes.disk and wishes.where is not Where.DISK:
        problems.append('data.disk: goes with where = "disk" only')
    if wishes.where is Where.MEMORY and (wishes.passphrase or wishes.key_file):
        problems.append('data: where = "memory" has no key')
    return problems


def _one_of(choices: type[StrEnum]) -> Check:
    def check(value: Any) -> StrEnum:
        if value not in [choice.value for choice in choices]:
            raise ValueError(f"{value!r} is not one of {', '.join(choice.value for choice in choices)}")
        return choices(value)

    return check


def _language(value: Any) -> str:
    if value not in LANGUAGES:
        raise ValueError(f"{value!r} is not one of {', '.join(LANGUAGES)}")
    return str(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("must be a line of text in quotes")
    return value


def _passphrase(value: Any) -> str:
    if problem := weakness(_text(value)):
        raise ValueError(problem)
    return str(value)


def weakness(passphrase: str) -> str:
    """Why a passphrase is not taken, as a sentence; "" if it is."""
    if len(passphrase) < SHORTEST:
        return "A passphrase has at least 8 letters."
    if len(set(passphrase)) < 4:
        return "A passphrase has at least 4 different letters."
    return ""


def _disk(value: Any) -> str:
    text = _text(value)
    if not text.startswith("/dev/") or "/../" in f"{text}/":
        raise ValueError("must be a path below /dev")
    return text


def _file_name(value: Any) -> str:
    text = _text(value)
    if "/" in text or "\\" in text or text in (".", "..", ""):
        raise ValueError("must be the name of a file beside inkstick.toml, without a folder")
    return text


def _host(value: Any) -> str:
    text = _text(value)
    if not (0 < len(text) <= 63 and text.replace("-", "").isascii() and text.replace("-", "").isalnum()):
        raise ValueError("may hold letters, digits and hyphens only")
    return text.lower()


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is true or false, without quotes")
    return value


def _ports(value: Any) -> Mapping[str, Mode]:
    if not isinstance(value, dict):
        raise ValueError("is a section, write [network.ports]")
    return {Port(str(name)).name: Mode(_one_of(Mode)(mode)) for name, mode in value.items()}


_SCHEMA: Mapping[str, Any] = {
    "language": _language,
    "name": _host,
    "data": {"where": _one_of(Where), "disk": _disk, "passphrase": _passphrase, "key_file": _file_name},
    "network": {"mode": _one_of(Mode), "ports": _ports},
    "usb": {"read": _one_of(Usb)},
    "power": {"lid": _one_of(Lid)},
    "share": {"smb": _switch},
}
_FIELDS = {
    "language": "language",
    "name": "name",
    "data.where": "where",
    "data.disk": "disk",
    "data.passphrase": "passphrase",
    "data.key_file": "key_file",
    "network.mode": "network",
    "network.ports": "ports",
    "usb.read": "usb",
    "power.lid": "lid",
    "share.smb": "smb",
}
