"""What a folder (or a request) asks for: task, formats, engine, and what becomes of the originals.

A folder's wishes are in its ``.inkstick.toml``; sub-folders inherit, key by key. Every key is optional::

    task = "parse"              # parse text spotting table formula chart extract translate subtitles
    keys = ["invoice number"]   # for task extract
    to = "en"                   # for task translate: en or zh
    formats = ["md", "json"]    # md json txt pdf alto hocr csv docx
    engine = "auto"             # auto vllm transformers rapidocr
    originals = "move"          # move to done/, keep in the inbox, delete once read whole
    text_layer = "auto"         # auto force skip
    second_reader = "idle"      # off idle on: does the CPU engine check what the GPU engine reads
    priority = "watched"        # person watched bulk
    prompt = "…"                # replaces the task's own prompt, for engines that take one
    passwords = ["…"]           # tried on encrypted documents
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from inkstick.document import Task
from inkstick.errors import UsageError
from inkstick.pages.view import TextLayerMode


class Format(StrEnum):
    """An output format, by the word that options and the API use. `json` is always written: it is the record."""

    MD = "md"
    JSON = "json"
    TXT = "txt"
    PDF = "pdf"
    ALTO = "alto"
    HOCR = "hocr"
    CSV = "csv"
    DOCX = "docx"


class Originals(StrEnum):
    MOVE = "move"
    KEEP = "keep"
    DELETE = "delete"


class EngineChoice(StrEnum):
    AUTO = "auto"
    VLLM = "vllm"
    TRANSFORMERS = "transformers"
    RAPIDOCR = "rapidocr"


class SecondMode(StrEnum):
    """Is what one engine reads checked by the CPU engine: never, while that has nothing else to do, or always."""

    OFF = "off"
    IDLE = "idle"
    ON = "on"


class Priority(IntEnum):
    """Lower is sooner: a person waiting, the watched folder, bulk."""

    PERSON = 0
    WATCHED = 10
    BULK = 20


DEFAULT_FORMATS: tuple[Format, ...] = (Format.MD, Format.JSON, Format.TXT, Format.PDF, Format.ALTO, Format.CSV)


@dataclass(frozen=True, slots=True)
class Profile:
    """See the module's docstring for each field."""

    task: Task = Task.PARSE
    keys: tuple[str, ...] = ()
    to: str | None = None
    formats: tuple[Format, ...] = DEFAULT_FORMATS
    engine: EngineChoice = EngineChoice.AUTO
    originals: Originals = Originals.MOVE
    text_layer: TextLayerMode = TextLayerMode.AUTO
    priority: Priority = Priority.WATCHED
    second_reader: SecondMode = SecondMode.IDLE
    prompt: str | None = None
    passwords: tuple[str, ...] = ()

    def reading_key(self) -> str:
        """What of the profile changes the text: the same bytes with the same key need one computation. A second reader
        changes no text, so it is not part of it."""
        return json.dumps([self.task, self.keys, self.to, self.engine, self.text_layer, self.prompt])

    def as_json(self) -> dict[str, Any]:
        out = dataclasses.asdict(self)
        out["priority"] = self.priority.name.lower()
        return {key: list(value) if isinstance(value, tuple) else value for key, value in out.items()}


def merge(base: Profile, wishes: Mapping[str, Any], *, where: str = "profile") -> Profile:
    """`base` with the given keys replaced. Raises UsageError that names `where`, the key, and what it may be."""
    known = {f.name for f in dataclasses.fields(Profile)}
    changed: dict[str, Any] = {}
    for key, value in wishes.items():
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}", hint=f"Known keys: {', '.join(sorted(known))}.")
        changed[key] = _value(key, value, where)
    profile = dataclasses.replace(base, **changed)
    if profile.task is Task.EXTRACT and not profile.keys:
        raise UsageError(f"{where}: task extract needs keys", hint='Say what to extract: keys = ["invoice number"].')
    return profile


def parse_toml(text: str, base: Profile, *, where: str) -> Profile:
    """A folder's ``.inkstick.toml`` over what it inherits. Raises UsageError."""
    try:
        wishes = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not valid TOML: {error}", hint="See docs/folders.md for an example.") from error
    return merge(base, wishes, where=where)


_ENUMS: dict[str, type[StrEnum]] = {
    "task": Task,
    "engine": EngineChoice,
    "originals": Originals,
    "text_layer": TextLayerMode,
    "second_reader": SecondMode,
}


def _value(key: str, value: Any, where: str) -> Any:
    if key in _ENUMS:
        return _member(_ENUMS[key], value, f"{where}: {key}")
    if key == "priority":
        names = {p.name.lower(): p for p in Priority}
        if isinstance(value, str) and value in names:
            return names[value]
        raise UsageError(f"{where}: priority cannot be {value!r}", hint=f"One of: {', '.join(names)}.")
    if key == "formats":
        chosen = [_member(Format, item, f"{where}: formats") for item in _strings(key, value, where)]
        return tuple(dict.fromkeys([*chosen, Format.JSON]))
    if key == "prompt":
        if value is not None and not (isinstance(value, str) and 0 < len(value) <= 4000):
            raise UsageError(f"{where}: prompt must be a text of at most 4,000 characters", hint="Leave it out.")
        return value
    if key == "to":
        if value not in (None, "en", "zh"):
            raise UsageError(f"{where}: to cannot be {value!r}", hint="One of: en, zh.")
        return value
    return _strings(key, value, where)


def _member(enum: type[StrEnum], value: Any, where: str) -> StrEnum:
    try:
        return enum(value)
    except ValueError:
        raise UsageError(f"{where} cannot be {value!r}", hint=f"One of: {', '.join(enum)}.") from None


def _strings(key: str, value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    raise UsageError(f"{where}: {key} must be a list of words", hint=f'For example: {key} = ["a", "b"].')
