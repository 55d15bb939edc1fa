"""Folders: which there are in the inbox, what each asks for, as a form and as TOML side by side, and a try on a file.

Form and text say the same. Whichever side was changed counts; both at once, differently, is refused. Nothing is saved
that the watcher could not read.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from inkstick import atonce
from inkstick.atonce import Asked
from inkstick.document import Task
from inkstick.errors import InkstickError, UsageError
from inkstick.intake.folders import Folders, changed_meanwhile, checked, digest
from inkstick.intake.ignore import SETTINGS_NAME
from inkstick.intake.names import display
from inkstick.intake.settings_text import CHOICES, LISTS, alike, changed, values
from inkstick.pages.view import TextLayerMode
from inkstick.profile import EngineChoice, Format, Originals, Priority, Profile, SecondMode
from inkstick.web import language
from inkstick.web.documents import content_length, file_name
from inkstick.web.multipart import Parts, read_all
from inkstick.web.office_port import OfficePort
from inkstick.web.problems import status_of
from inkstick.web.screens.ask import FILE_BYTES, PICTURE, QUESTIONS
from inkstick.web.shelf import Shelf
from inkstick.web.state import Answers, Office, Templates, kept

LISTED = 1000
MEANINGS: Mapping[str, Mapping[str, str]] = {
    "task": {task.value: QUESTIONS[task.value] for task in Task},
    "to": {"en": "English", "zh": "Chinese"},
    "engine": {choice.value: choice.value for choice in EngineChoice},
    "originals": {
        Originals.MOVE.value: "moved to done",
        Originals.KEEP.value: "stay where they are",
        Originals.DELETE.value: "deleted once read whole",
    },
    "text_layer": {
        TextLayerMode.AUTO.value: "taken where it is good",
        TextLayerMode.FORCE.value: "always taken",
        TextLayerMode.SKIP.value: "never looked at",
    },
    "second_reader": {
        SecondMode.IDLE.value: "while it has nothing else to do",
        SecondMode.ON.value: "every page",
        SecondMode.OFF.value: "never",
    },
    "priority": {"person": "first", "watched": "in turn", "bulk": "last"},
}
TITLES: Mapping[str, str] = {
    "task": "What to do",
    "to": "Translate to",
    "engine": "Engine",
    "originals": "Originals that were read",
    "text_layer": "Text that a PDF already has",
    "second_reader": "Check by the second reader",
    "priority": "Turn",
}

At = Annotated[str, Query(max_length=20_000)]
Inbox = Annotated[Folders, kept("folders")]


def key_of(raw: bytes) -> str:
    """A folder's path in an address: as it is where that is readable text, else ``~`` and base64."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "~"
    if not text.startswith("~") and text.isprintable():
        return text
    return "~" + base64.urlsafe_b64encode(raw).decode()


def raw_of(key: str) -> bytes:
    """The inverse of `key_of`. Raises `UsageError`."""
    try:
        return base64.b64decode(key[1:], altchars=b"-_", validate=True) if key.startswith("~") else key.encode()
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise UsageError("There is no such folder in the inbox.", hint="See the list.", code="not_found") from None


async def _list(folders: Folders) -> dict[str, Any]:
    found = await asyncio.to_thread(folders.listed)
    return {
        "folders": found[:LISTED],
        "more": max(0, len(found) - LISTED),
        "meanings": MEANINGS,
        "name": "",
        "above": "",
    }


@dataclass(frozen=True, slots=True)
class _Asked:
    """A sent form: plain fields, repeated ones in order, and the file to try on."""

    fields: Mapping[str, list[str]]
    file: bytes | None = None
    file_name: str = ""

    @classmethod
    async def of(cls, parts: Parts) -> _Asked:
        fields: dict[str, list[str]] = {}
        file, name = None, ""
        while (part := await parts.next()) is not None:
            if part.filename is None:
                fields.setdefault(part.name, []).append((await part.text()).replace("\r\n", "\n"))
            elif part.filename:
                file, name = await read_all(part.source, FILE_BYTES, "the file"), file_name(part.filename)
        return cls(fields, file, name)

    def first(self, name: str) -> str:
        return self.fields.get(name, [""])[0]

    def form(self) -> dict[str, Any]:
        """The form's side, as `settings_text.values` gives it for a text."""
        found: dict[str, Any] = {key: self.first(key).strip() or None for key in CHOICES}
        for key in LISTS:
            items = self.fields.get(key, []) if key == "formats" else self.first(key).splitlines()
            found[key] = [item.strip() for item in items if item.strip()] or None
        return found


class _Desk:
    """What the edit page does."""

    def __init__(self, office: OfficePort, folders: Folders, shelf: Shelf) -> None:
        self._office, self._folders, self._shelf = office, folders, shelf

    async def do(self, raw: bytes, asked: _Asked) -> str:
        """Save, remove or try; the address to go to. Raises what is wrong, with nothing changed."""
        action, known = asked.first("action"), asked.first("known")
        back = f"/folders/edit?at={_quote(raw)}"
        if action == "remove":
            await asyncio.to_thread(self._folders.remove, raw, known)
            return f"{back}&saved=true"
        stored, _ = await self._stored(raw)
        if known != digest(stored):
            raise changed_meanwhile()
        text = wanted(stored, asked)
        if action == "try":
            return await self._try(raw, text, asked)
        await asyncio.to_thread(self._folders.save, raw, text, known)
        return f"{back}&saved=true"

    async def _try(self, raw: bytes, text: str, asked: _Asked) -> str:
        """Start reading a page with the settings as they stand in the form, saved or not; the answer's address."""
        if not asked.file:
            raise UsageError("There is no file to try on.", hint="Choose a picture or a document.")
        number = asked.first("page").strip() or "1"
        if not (number.isascii() and number.isdigit() and len(number) < 8 and int(number) > 0):
            raise UsageError(f"page cannot be {number[:20]!r}", hint="A number from 1.")
        profile = checked(text, await asyncio.to_thread(self._folders.above, raw))
        atonce.check(profile, (await self._office.stats()).engines)
        wished = Asked(replace(profile, priority=Priority.PERSON), int(number), PICTURE)
        about = {
            "file": asked.file_name,
            "question": QUESTIONS[profile.task],
            "number": wished.number,
            "back": f"/folders/edit?at={_quote(raw)}",
            "folder": display(raw) or "inbox",
            "formats": ", ".join(profile.formats),
            "here": "folders",
        }
        data = asked.file
        return f"/ask/{self._shelf.begin(lambda told: self._office.read_page(data, wished, told), about)}"

    async def _stored(self, raw: bytes) -> tuple[str | None, InkstickError | None]:
        """The settings as they stand (None: there are none that can be read), and what is wrong with their file."""
        try:
            return await asyncio.to_thread(self._folders.text, raw), None
        except UsageError as error:
            if error.code == "not_found":
                raise
            return None, error

    async def shown(self, raw: bytes, asked: _Asked | None = None) -> dict[str, Any]:
        """What the edit page holds: what is on the disk, or what was just typed."""
        stored, problem = await self._stored(raw)
        inherited = Profile()
        try:
            inherited = await asyncio.to_thread(self._folders.above, raw)
        except InkstickError as error:
            problem = error
        text = (asked.first("text") if asked else stored) or ""
        profile, mistake = _read(text, inherited)
        form = asked.form() if asked else _form(text)
        return {
            "raw": raw,
            "at": key_of(raw),
            "folder": display(raw),
            "text": text,
            "form": form,
            "above": inherited.as_json(),
            "own": stored is not None,
            "known": asked.first("known") if asked else digest(stored),
            "problem": found.as_json() if (found := mistake or problem) else None,
            "warning": await self._warning(profile),
            "meanings": MEANINGS,
            "titles": TITLES,
            "formats": list(Format),
            "settings_name": SETTINGS_NAME,
        }

    async def checked(self, raw: bytes, asked: _Asked) -> dict[str, Any]:
        """Both sides after a change on the side `side`, and what is wrong with it, for the page's script."""
        text = asked.first("text")
        try:
            inherited = await asyncio.to_thread(self._folders.above, raw)
            if asked.first("side") == "form":
                text = _changed(text, asked.form())
            profile: Profile | None = checked(text, inherited)
            problem = None
        except InkstickError as error:
            profile, problem = None, error.as_json()
        warning = await self._warning(profile)
        return {"text": text, "form": _form(text), "problem": problem, "warning": warning}

    async def _warning(self, profile: Profile | None) -> dict[str, str] | None:
        """That no engine here does what the folder asks for: its documents would fail."""
        if profile is None:
            return None
        try:
            atonce.check(profile, (await self._office.stats()).engines)
        except InkstickError as error:
            return error.as_json()
        return None


async def _desk(office: Office, folders: Inbox, shelf: Answers) -> _Desk:
    return _Desk(office, folders, shelf)


Desk = Annotated[_Desk, Depends(_desk)]
router = APIRouter(prefix="/folders", include_in_schema=False)


@router.get("")
async def listed(request: Request, templates: Templates, folders: Inbox) -> Response:
    return templates.TemplateResponse(request, "folders.html", await _list(folders))


@router.post("/new")
async def make(
    request: Request,
    templates: Templates,
    folders: Inbox,
    name: Annotated[str, Form(max_length=1000)] = "",
    above: Annotated[str, Form(max_length=20_000)] = "",
) -> Response:
    try:
        raw = await asyncio.to_thread(folders.create, raw_of(above), name)
    except InkstickError as error:
        shown = await _list(folders) | {"problem": error.as_json(), "name": name, "above": above}
        return templates.TemplateResponse(request, "folders.html", shown, status_of(error))
    return RedirectResponse(f"/folders/edit?at={_quote(raw)}", 303)


@router.get("/edit")
async def edit(request: Request, templates: Templates, desk: Desk, at: At = "", saved: bool = False) -> Response:
    shown = await desk.shown(raw_of(at)) | {"saved": saved}
    return templates.TemplateResponse(request, "folder.html", shown)


@router.post("/edit")
async def change(request: Request, office: Office, templates: Templates, desk: Desk) -> Response:
    await office.admit(content_length(request))
    asked = await _Asked.of(Parts(request))
    raw = raw_of(asked.first("at"))
    try:
        address = await desk.do(raw, asked)
    except InkstickError as error:
        shown = await desk.shown(raw, asked) | {"problem": error.as_json()}
        return templates.TemplateResponse(request, "folder.html", shown, status_of(error))
    return RedirectResponse(address, 303)


@router.post("/check")
async def check(request: Request, desk: Desk) -> Response:
    asked = await _Asked.of(Parts(request))
    found = await desk.checked(raw_of(asked.first("at")), asked)
    translate = language.translator(language.of(request))
    for name in ("problem", "warning"):
        if found[name] is not None:
            found[name] |= {key: translate(found[name][key]) for key in ("message", "hint")}
    return JSONResponse(found)


def wanted(stored: str | None, asked: _Asked) -> str:
    """The text to be saved or tried: the side that was changed counts. Raises `UsageError` if both were, differently,
    or if the form was changed while the text has a mistake."""
    before, text, form = stored or "", asked.first("text"), asked.form()
    if text.strip() == before.strip():
        return _changed(before, form)
    if alike(form, _form(before)) or alike(form, _form(text)):
        return text
    raise UsageError(
        "Both the form and the text were changed, differently.",
        hint="Change one side, save it, and then the other.",
    )


def _changed(text: str, form: Mapping[str, Any]) -> str:
    try:
        return changed(text, form)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{SETTINGS_NAME}: not valid TOML: {error}", hint="Correct the text first; then the form can change it."
        ) from error


def _form(text: str) -> dict[str, Any]:
    """The form's side of a text; empty for a text that cannot be understood. Values that no form can hold (a number, a
    list where a word belongs) are shown as text: the mistake is said beside."""
    try:
        found = values(text)
    except tomllib.TOMLDecodeError:
        return dict.fromkeys((*CHOICES, *LISTS))
    for key, value in found.items():
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value) if key in LISTS else True
        if value is not None and (not fits or (key in CHOICES and not isinstance(value, str))):
            found[key] = [json.dumps(value, default=str)] if key in LISTS else json.dumps(value, default=str)
    return found


def _read(text: str, inherited: Profile) -> tuple[Profile | None, InkstickError | None]:
    try:
        return checked(text, inherited), None
    except UsageError as error:
        return None, error


def _quote(raw: bytes) -> str:
    return quote(key_of(raw), safe="")
