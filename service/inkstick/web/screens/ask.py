"""Ask: one page, one question, one answer; nothing is stored.

The form's page goes to the reader at once. Its answer lies on the shelf (`web.shelf`) under an address of its own, so
that picture, text and downloads work without JavaScript too. What the engines here cannot do is refused, with the name
of a model that can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from inkstick import atonce
from inkstick.atonce import Asked, PageOf
from inkstick.document import Task
from inkstick.errors import InkstickError, UsageError
from inkstick.pages.view import TextLayerMode
from inkstick.profile import Priority, Profile, merge
from inkstick.web import answers, words
from inkstick.web.documents import content_length, file_name
from inkstick.web.multipart import Parts, read_all
from inkstick.web.office_port import OfficePort, Stats
from inkstick.web.problems import status_of
from inkstick.web.shelf import Shelf, Slip
from inkstick.web.state import Answers, Office, Templates

FILE_BYTES = 64 << 20
PICTURE = 1600
FREE = "prompt"
"""The choice that stands for words of one's own."""
QUESTIONS: Mapping[str, str] = {**words.TASKS, FREE: "In words of your own"}
WAITS: Mapping[str, str] = {
    "reading": "The page is being read.",
    "blocked": "The page waits: the engine does not answer. It goes on by itself.",
}

Name = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{10,40}$")]


router = APIRouter(prefix="/ask", include_in_schema=False)


@router.get("")
async def form(
    request: Request,
    office: Office,
    templates: Templates,
    document: Annotated[str, Query(pattern="^[0-9a-z]{0,64}$")] = "",
    page: Annotated[int, Query(ge=1, le=10_000_000)] = 1,
) -> Response:
    if document:
        await office.document(document)
    asked = {"task": "parse", "document": document, "page": str(page)}
    return templates.TemplateResponse(request, "ask.html", await _form(office, asked))


@router.post("")
async def ask(request: Request, office: Office, templates: Templates, shelf: Answers) -> Response:
    asked: dict[str, str] = {}
    try:
        await office.admit(content_length(request))
        name = await _begin(office, shelf, Parts(request), asked)
    except InkstickError as error:
        if _program(request):
            raise
        shown = await _form(office, asked) | {"problem": error.as_json()}
        return templates.TemplateResponse(request, "ask.html", shown, status_of(error))
    address = f"/ask/{name}"
    return JSONResponse({"address": address}, 201) if _program(request) else RedirectResponse(address, 303)


@router.get("/{name}")
async def answer(request: Request, templates: Templates, shelf: Answers, name: Name) -> Response:
    slip = shelf.get(name)
    return templates.TemplateResponse(request, "answer.html", _answer(name, slip, shelf.waited(slip)))


@router.get("/{name}/state")
async def state(shelf: Answers, name: Name) -> dict[str, Any]:
    slip = shelf.get(name)
    return {"state": slip.state, "seconds": round(shelf.waited(slip), 1)}


@router.get("/{name}/picture")
async def picture(shelf: Answers, name: Name) -> Response:
    slip = shelf.get(name)
    if slip.read is None or not slip.read.picture:
        raise UsageError("There is no picture of this page.", hint="Ask again.", code="not_found")
    data = slip.read.picture
    return Response(data, media_type="image/png" if data.startswith(b"\x89PNG") else "image/jpeg")


@router.get("/{name}/page.{format}")
async def download(shelf: Answers, name: Name, format: Annotated[str, Path(pattern="^[a-z]{2,4}$")]) -> Response:
    read = shelf.get(name).read
    if read is None or format not in answers.formats(read.page):
        raise UsageError("There is no such file.", hint="See the answer's page.", code="not_found")
    headers = {"Content-Disposition": f'attachment; filename="page.{format}"'}
    media = f"{answers.DOWNLOADS[format]}; charset=utf-8"
    return Response(answers.file(read.page, format), media_type=media, headers=headers)


@router.post("/{name}/forget")
async def forget(shelf: Answers, name: Name) -> Response:
    back = str(shelf.get(name).about["back"])
    shelf.drop(name)
    return RedirectResponse(back, 303)


def _program(request: Request) -> bool:
    """Our own script asks for JSON; a form without it wants a page."""
    return "text/html" not in request.headers.get("accept", "")


async def _form(office: OfficePort, asked: Mapping[str, str]) -> dict[str, Any]:
    stats = await office.stats()
    return {"offers": offered(stats), "engines": stats.engines, "questions": QUESTIONS, "asked": asked}


def offered(stats: Stats) -> list[tuple[str, atonce.Offer]]:
    """Each question by its word, with who answers it here and which models would."""
    return [(offer.task.value if offer.task else FREE, offer) for offer in atonce.offers(stats.engines)]


def _answer(name: str, slip: Slip, seconds: float) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": name, "slip": slip, "seconds": seconds, "waits": WAITS, "about": slip.about}
    if slip.error is not None:
        shown["problem"] = slip.error.as_json()
    if slip.read is not None:
        page = slip.read.page
        shown |= {
            "page": page,
            "pieces": answers.shown(page),
            "fields": answers.fields(page),
            "marks": answers.marks(page),
            "formats": answers.formats(page),
            "source": answers.file(page, "md").decode("utf-8"),
        }
    return shown


async def _begin(office: OfficePort, shelf: Shelf, parts: Parts, asked: dict[str, str]) -> str:
    """Take the form apart into `asked` and the file, and start reading; the answer's name. Raises what is wrong with
    it, and `Unsupported` for what no engine here does, before anything is read."""
    data, file = await take_page(parts, asked)
    profile = _profile(asked)
    atonce.check(profile, (await office.stats()).engines)
    source = data or PageOf(asked.get("document", ""), _number(asked))
    if isinstance(source, PageOf):
        file = (await office.document(source.document)).name
    wanted = Asked(profile, _number(asked), PICTURE)
    about = {"file": file, "question": QUESTIONS[_question(asked)], "number": wanted.number, "back": "/ask"}
    return shelf.begin(lambda told: office.read_page(source, wanted, told), about)


async def take_page(parts: Parts, asked: dict[str, str]) -> tuple[bytes | None, str]:
    """The form's plain fields into `asked`; its one file's bytes and name, None where it was left out (then `asked`
    must name a document). Raises `UsageError`."""
    data, name = None, ""
    while (part := await parts.next()) is not None:
        if part.filename is None:
            asked[part.name] = await part.text()
        elif part.filename and part.name == "file" and data is None:
            data, name = await read_all(part.source, FILE_BYTES, "the file"), file_name(part.filename)
        elif part.filename:
            raise UsageError("Only one file can be asked about at a time.", hint="Choose one file.")
    if not data and not asked.get("document"):
        raise UsageError("There is no file in the form.", hint="Choose a picture or a document.")
    return data or None, name


def _question(asked: Mapping[str, str]) -> str:
    question = asked.get("task", "parse")
    if question not in QUESTIONS:
        raise UsageError(f"task cannot be {question!r}", hint=f"One of: {', '.join(QUESTIONS)}.")
    return question


def _profile(asked: Mapping[str, str]) -> Profile:
    """What is asked for. Raises `UsageError` that says what is missing."""
    question = _question(asked)
    wishes: dict[str, Any] = {"task": Task.PARSE.value if question == FREE else question}
    if question == FREE:
        wishes["prompt"] = asked.get("prompt", "").strip()
        if not wishes["prompt"]:
            raise UsageError("There is no question.", hint="Write what you want to know of the page.")
    if question == Task.EXTRACT:
        wishes["keys"] = [key.strip() for key in asked.get("keys", "").replace("\n", ",").split(",") if key.strip()]
    if question == Task.TRANSLATE:
        wishes["to"] = asked.get("to") or "en"
    if asked.get("engine"):
        wishes["engine"] = asked["engine"]
    base = Profile(priority=Priority.PERSON, text_layer=TextLayerMode.SKIP)
    return merge(base, wishes, where="question")


def _number(asked: Mapping[str, str]) -> int:
    text = asked.get("page", "").strip() or "1"
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0 and len(text) < 9):
        raise UsageError(f"page cannot be {text[:20]!r}", hint="A number from 1.")
    return int(text)
