"""``/v1``: one image in, its text out, at once. A closed subset of OpenAI's chat completions, and a plain form.

Closed: a field that is not listed is refused, not ignored, so that nobody believes in an effect that there is not.
Images come inside the request only; an address is never fetched. At most eight requests are held at a time; one whose
body does not come in time, or whose client has gone, gives its place up.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from inkstick.atonce import Asked
from inkstick.document import Flag, Page, Task
from inkstick.engines import protocol
from inkstick.errors import TooLarge, UsageError
from inkstick.pages.view import TextLayerMode
from inkstick.profile import Priority, Profile, merge
from inkstick.web.bodies import while_here
from inkstick.web.documents import body
from inkstick.web.multipart import Parts, read_all
from inkstick.web.office_port import OfficePort
from inkstick.web.shapes import ERRORS
from inkstick.web.state import Office, kept
from inkstick.web.wishes import gather

ANY_MODEL = "inkstick"
IMAGE_BYTES = 32 << 20
BODY_BYTES = 48 << 20
AT_ONCE = 8
BODY_SECONDS = 120.0
"""So long may a request's body take: others wait for its place."""
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)


DATA_URL = "^data:image/[a-zA-Z0-9.+-]{1,40};base64,"


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ImageUrl(Closed):
    url: str = Field(
        description="data:image/…;base64,… (an address is refused: nothing is fetched)",
        json_schema_extra={"pattern": DATA_URL},
    )


class ImagePart(Closed):
    type: Literal["image_url"]
    image_url: ImageUrl


class TextPart(Closed):
    type: Literal["text"]
    text: str = Field(max_length=16_000)


class Message(Closed):
    role: Literal["user"]
    content: list[Annotated[ImagePart | TextPart, Field(discriminator="type")]] = Field(max_length=16)


class Completion(Closed):
    """What a request may hold: exactly one image, optional text, and whether to stream."""

    model: str = ANY_MODEL
    messages: list[Message] = Field(min_length=1, max_length=16)
    stream: bool = False


class Answer(BaseModel):
    text: str
    status: Literal["done", "partial"] = Field(description="partial: the end is missing or the text is in doubt.")


def _inlined(schema: Any, known: Mapping[str, Any]) -> Any:
    """The schema without references: it stands in the middle of a larger document."""
    if isinstance(schema, list):
        return [_inlined(item, known) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(known[schema["$ref"].rpartition("/")[2]], known)
    return {key: _inlined(value, known) for key, value in schema.items() if key not in ("$defs", "discriminator")}


_COMPLETION = Completion.model_json_schema()
_COMPLETION_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _inlined(_COMPLETION, _COMPLETION.get("$defs", {}))}},
    }
}
_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/json": {}, "text/event-stream": {"schema": {"type": "string"}}},
        "description": "The text, whole or (with stream) in pieces.",
    },
}
_FIELDS: dict[str, Any] = {
    "prompt": {"type": "string", "description": "Instead of a task, for engines that take one."},
    "task": {"type": "string", "enum": list(Task), "description": "What is asked of the page; parse if left out."},
    "keys": {"type": "string", "description": "For task extract: what to extract, by comma."},
    "to": {"type": "string", "enum": ["en", "zh"], "description": "For task translate."},
    "page": {"type": "string", "pattern": "^[1-9][0-9]{0,6}$", "description": "Which page of a document; 1."},
    "file": {"type": "string", "contentMediaType": "application/octet-stream"},
}
_FORM_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": _FIELDS,
                }
            }
        },
    }
}


Turns = Annotated[asyncio.Semaphore, kept("turns")]
router = APIRouter(prefix="/v1", tags=["at once"], responses=ERRORS)


@router.get("/models", summary="Who reads")
async def models(office: Office) -> dict[str, Any]:
    """`inkstick` stands for whichever engine is in charge; the other is that engine's own model."""
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": ANY_MODEL} for name in await _models(office)]
    return {"object": "list", "data": listed}


@router.post(
    "/chat/completions",
    openapi_extra=_COMPLETION_BODY,
    responses=_STREAMED,
    summary="Read one image (OpenAI-compatible)",
)
async def completions(request: Request, office: Office, turns: Turns) -> Response:
    """A closed subset: unknown fields are refused. With `stream` the text comes in pieces once it was checked."""
    async with turns:
        async with _in_time():
            asked = _parse(await read_all(body(request), BODY_BYTES, "the request"))
        await _check_model(office, asked.model)
        image, prompt = _content(asked)
        page = await while_here(request, office.read_image(image, protocol.Request(prompt=prompt)))
    answer = _Completion(page)
    if asked.stream:
        return StreamingResponse(answer.chunks(), media_type="text/event-stream")
    return JSONResponse(answer.whole())


@router.post(
    "/models/{id:path}/inference", response_model=Answer, openapi_extra=_FORM_BODY, summary="Read one image (form)"
)
async def inference(
    request: Request, office: Office, turns: Turns, id: Annotated[str, Path(description="A model, or inkstick.")]
) -> Answer:
    """A form with one file and, if you like, a task or a prompt; the answer is the page's text."""
    async with turns:
        await _check_model(office, id)
        async with _in_time():
            image, asked = await _form(Parts(request))
        page = (await while_here(request, office.read_page(image, asked))).page
    return Answer(text=page.text(), status="partial" if _doubtful(page) else "done")


@contextlib.asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            yield
    except TimeoutError:
        raise HTTPException(408) from None


async def _models(office: OfficePort) -> list[str]:
    primary = [engine.model for engine in (await office.stats()).engines if engine.role == "primary"]
    return list(dict.fromkeys([ANY_MODEL, *primary]))


async def _check_model(office: OfficePort, model: str) -> None:
    known = await _models(office)
    if model not in known:
        raise UsageError(f"There is no model {model!r}.", hint=f"One of: {', '.join(known)}.", code="not_found")


def _parse(data: bytes) -> Completion:
    try:
        return Completion.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "request"
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{where} is not supported.", hint="Leave it out; /docs lists what is.") from None
        raise UsageError(f"{where}: {first['msg']}", hint="See /docs for what a request may hold.") from None


def _content(asked: Completion) -> tuple[bytes, str | None]:
    """The one image and the text beside it. Raises `UsageError`."""
    parts = [part for message in asked.messages for part in message.content]
    urls = [part.image_url.url for part in parts if isinstance(part, ImagePart)]
    texts = [part.text for part in parts if isinstance(part, TextPart) and part.text.strip()]
    if len(urls) != 1:
        raise UsageError(
            f"A request holds exactly one image; this one has {len(urls)}.", hint="Send one page at a time."
        )
    return _decode(urls[0]), "\n".join(texts) or None


def _decode(url: str) -> bytes:
    head = _DATA_URL.match(url)
    if head is None:
        raise UsageError(
            "The image is not a data URL.", hint="Send data:image/png;base64,… : Inkstick never fetches an address."
        )
    try:
        image = base64.b64decode(url[head.end() :], validate=True)
    except ValueError as error:  # also for what is not ASCII
        raise UsageError("The image is not valid base64.", hint="Encode the file's bytes as base64.") from error
    if len(image) > IMAGE_BYTES:
        raise TooLarge(f"The image is larger than {IMAGE_BYTES >> 20} MiB.")
    return image


async def _form(parts: Parts) -> tuple[bytes, Asked]:
    """The file and what is asked of it. Raises `UsageError` for a field that is not known, or comes twice."""
    image, fields = None, dict[str, str]()
    while (part := await parts.next()) is not None:
        if part.filename is not None and part.name == "file" and image is None:
            image = await read_all(part.source, IMAGE_BYTES, "the image")
        elif part.filename is None and part.name in _FIELDS and part.name not in ("file", *fields):
            fields[part.name] = (await part.text()).strip()
        else:
            raise UsageError(
                f"field {part.name!r} is not expected", hint=f"Send one file, and each once: {', '.join(_FIELDS)}."
            )
    if not image:
        raise UsageError("There is no file in the form.", hint="Send the image as a field named file.")
    return image, _asked(fields)


def _asked(fields: Mapping[str, str]) -> Asked:
    page = fields.get("page") or "1"
    if not re.fullmatch(_FIELDS["page"]["pattern"], page):
        raise UsageError(f"page cannot be {page[:20]!r}", hint="A number from 1.")
    base = Profile(priority=Priority.PERSON, text_layer=TextLayerMode.SKIP)
    named = [(name, value) for name, value in fields.items() if name in ("task", "keys", "to")]
    wishes = gather(named) | ({"prompt": fields["prompt"]} if fields.get("prompt") else {})
    return Asked(merge(base, wishes, where="request"), int(page))


def _doubtful(page: Page) -> bool:
    return bool({Flag.TRUNCATED, Flag.REPETITION, Flag.SUSPECT} & set(page.flags)) or page.error is not None


class _Completion:
    """A page in OpenAI's words, whole or in pieces."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.base = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": page.model}
        self.reason = "length" if Flag.TRUNCATED in page.flags else "stop"
        self.found = {"engine": page.engine, "flags": [flag.value for flag in page.flags], "score": page.score}

    def whole(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.page.text()}
        choice = {"index": 0, "message": message, "finish_reason": self.reason}
        return {**self.base, "object": "chat.completion", "choices": [choice], "inkstick": self.found}

    async def chunks(self) -> AsyncIterator[str]:
        texts = [block.text for block in self.page.blocks if block.text]
        yield self._chunk({"role": "assistant", "content": ""})
        for i, text in enumerate(texts):
            yield self._chunk({"content": text if i == len(texts) - 1 else f"{text}\n\n"})
        yield self._chunk({}, self.reason)
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, str], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        out = {**self.base, "object": "chat.completion.chunk", "choices": [choice]}
        return f"data: {json.dumps(out | ({'inkstick': self.found} if reason else {}), ensure_ascii=False)}\n\n"
