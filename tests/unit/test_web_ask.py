"""Ask: one page, one answer, nothing stored; what no engine here does is refused with the name of a model that does."""

from __future__ import annotations

import asyncio
import csv
import io
import weakref
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from inkstick import atonce
from inkstick.atonce import PageRead, Told
from inkstick.clock import ManualClock
from inkstick.document import Block, Kind, Line, Page, Task
from inkstick.engines.info import EngineInfo
from inkstick.errors import Unavailable, Unsupported, UsageError
from inkstick.profile import EngineChoice, Profile
from inkstick.web import answers
from inkstick.web.shelf import AT_ONCE, Shelf
from support.office import MemoryOffice, png

CPU = EngineInfo("rapidocr", "pp-ocrv6-small@3.10.0", "primary", True, "ready", "", ("parse", "text"), prompts=False)
GPU = EngineInfo("vllm", "hunyuanocr-1.5", "primary", True, "ready", "", ("parse", "translate"))
HTML = {"Accept": "text/html"}
PICTURE = {"file": ("seite 墨.png", png(4, 4))}


async def seen(client: httpx.AsyncClient, address: str, good: Callable[[str], bool]) -> str:
    """The page at `address`, once it is `good`."""
    async with asyncio.timeout(60):
        while True:
            text = (await client.get(address)).text
            if good(text):
                return text
            await asyncio.sleep(0.005)


async def asked(client: httpx.AsyncClient, **fields: str) -> str:
    """The address of the answer, once it is there."""
    answer = await client.post("/ask", data=fields, files=PICTURE)
    assert answer.status_code == 201, answer.text
    address = str(answer.json()["address"])
    await seen(client, f"{address}/state", lambda text: "done" in text)
    return address


# What can be asked


def test_what_nobody_here_does_is_refused_with_a_model_that_does() -> None:
    with pytest.raises(Unsupported) as raised:
        atonce.check(Profile(task=Task.EXTRACT, keys=("total",)), [CPU])
    assert "does not offer the task extract" in raised.value.message
    assert "HunyuanOCR 1.0" in raised.value.hint
    with pytest.raises(Unsupported, match="takes no prompt") as raised:
        atonce.check(Profile(prompt="Who signed?"), [CPU])
    assert "HunyuanOCR 1.5" in raised.value.hint


def test_words_of_ones_own_are_never_read_by_an_engine_that_would_leave_them_out() -> None:
    bound = atonce.check(Profile(prompt="Who signed?"), [GPU, CPU])
    assert bound.engine is EngineChoice.VLLM, "the CPU engine could take over and ignore the question"
    assert atonce.check(Profile(), [GPU, CPU]).engine is EngineChoice.AUTO


def test_an_engine_that_is_not_here_is_refused_and_not_waited_for() -> None:
    with pytest.raises(Unsupported, match="vllm is not set up here"):
        atonce.check(Profile(engine=EngineChoice.VLLM), [CPU])


def test_every_task_has_an_offer_and_names_who_could() -> None:
    offers = {offer.task: offer for offer in atonce.offers([CPU, GPU])}
    assert set(offers) == {*Task, None}
    assert offers[Task.PARSE].engines == ("rapidocr", "vllm")
    assert offers[Task.TRANSLATE].engines == ("vllm",)
    assert offers[None].engines == ("vllm",)
    assert all(offer.models for offer in offers.values()), "each task of the contract has a model in the catalogue"


# The screen


async def test_the_form_says_what_the_engine_offers_and_who_else_could(client: httpx.AsyncClient) -> None:
    text = (await client.get("/ask")).text
    assert "read by rapidocr" in text
    assert "not with the engine here; HunyuanOCR 1.0" in text


async def test_an_answer_shows_text_boxes_and_files_and_can_be_forgotten(
    client: httpx.AsyncClient, office: MemoryOffice
) -> None:
    office.engine_tasks = ("parse", "extract")
    address = await asked(client, task="extract", keys="number, total\ndate", page="2")
    assert office.page_asked[-1].profile.keys == ("number", "total", "date")
    assert office.page_asked[-1].number == 2
    page = (await client.get(address)).text
    assert "<th scope=\"row\">total</th><td>3</td>" in page  # fmt: skip
    assert '<rect data-n="1" x="80" y="50" width="520" height="70">' in page
    assert "of 3" in page
    assert (await client.get(f"{address}/picture")).content.startswith(b"\x89PNG")
    table = await client.get(f"{address}/page.csv")
    assert table.headers["content-disposition"] == 'attachment; filename="page.csv"'
    rows = list(csv.reader(io.StringIO(table.text.lstrip("\ufeff"))))
    assert rows == [["number", "2"], ["total", "3"], ["date", "4"]]
    assert (await client.get(f"{address}/page.json")).json()["blocks"][1]["kind"] == "field"
    assert "Invoice 墨" in (await client.get(f"{address}/page.txt")).text
    assert (await client.get(f"{address}/page.exe")).status_code == 404
    gone = await client.post(f"{address}/forget")
    assert (gone.status_code, gone.headers["location"]) == (303, "/ask")
    assert (await client.get(address)).json()["code"] == "not_found"


async def test_nothing_that_was_asked_is_stored(
    client: httpx.AsyncClient, office: MemoryOffice, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    await asked(client, task="text")
    assert sorted(tmp_path.rglob("*")) == before
    assert (await client.get("/api/v1/documents")).json()["documents"] == []
    assert await office.last_event() == 0


async def test_a_form_without_javascript_waits_on_a_page_that_looks_again(
    client: httpx.AsyncClient, office: MemoryOffice
) -> None:
    office.gate = asyncio.Event()
    answer = await client.post("/ask", data={"task": "text"}, files=PICTURE, headers=HTML)
    assert answer.status_code == 303
    address = answer.headers["location"]
    text = await seen(client, address, lambda text: 'data-state="blocked"' in text)
    assert "Stop" in text
    assert '<meta http-equiv="refresh"' in text
    assert (await client.get(f"{address}/picture")).status_code == 404
    office.gate.set()
    await seen(client, address, lambda text: "Invoice" in text)


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"task": "extract", "keys": " , "}, 415, "extract"),
        ({"task": "chart"}, 415, "does not offer the task chart"),
        ({"task": "prompt", "prompt": "Who?"}, 415, "takes no prompt"),
        ({"task": "prompt", "prompt": " "}, 422, "no question"),
        ({"task": "sing"}, 422, "task cannot be"),
        ({"task": "text", "page": "0"}, 422, "page cannot be"),
        ({"task": "text", "page": "1e9"}, 422, "page cannot be"),
        ({"task": "text", "engine": "vllm"}, 415, "vllm is not set up here"),
        ({"task": "text", "engine": "gpt"}, 422, "engine cannot be"),
    ],
)
async def test_what_cannot_be_asked_is_refused_on_the_form_with_what_was_typed(
    client: httpx.AsyncClient, office: MemoryOffice, fields: dict[str, str], code: int, says: str
) -> None:
    if fields.get("keys"):
        code, says, office.engine_tasks = 422, "task extract needs keys", ("extract", "parse")
    answer = await client.post("/ask", data=fields, files=PICTURE, headers=HTML)
    assert answer.status_code == code, answer.text
    assert says in answer.text
    assert f'value="{fields["task"]}" checked' in answer.text or fields["task"] == "sing"
    assert (await client.post("/ask", data=fields, files=PICTURE)).status_code == code


async def test_a_page_of_a_document_that_is_here_is_asked_about(
    client: httpx.AsyncClient, office: MemoryOffice
) -> None:
    document = (await client.put("/api/v1/documents/a.txt", content=b"one\ftwo")).json()
    text = (await client.get(f"/ask?document={document['id']}&page=2")).text
    assert f'name="document" value="{document["id"]}"' in text
    answer = await client.post(
        "/ask", files={"task": (None, "text"), "document": (None, document["id"]), "page": (None, "2")}
    )
    assert answer.status_code == 201, answer.text
    await seen(client, f"{answer.json()['address']}/state", lambda text: "done" in text)
    assert office.page_asked[-1].number == 2
    assert (await client.get("/ask?document=none")).status_code == 404


async def test_an_answer_has_a_name_that_nobody_can_guess(client: httpx.AsyncClient) -> None:
    first, second = await asked(client, task="text"), await asked(client, task="text")
    assert first != second
    assert len(first.removeprefix("/ask/")) >= 24


# The shelf


async def answered(told: Told) -> PageRead:
    return PageRead(Page(1, 1, 1, "rapidocr"), 1)


async def forever(told: Told) -> PageRead:
    await asyncio.Event().wait()
    raise AssertionError


async def test_an_answer_is_gone_after_its_time() -> None:
    hands = ManualClock()
    shelf = Shelf(hands, keep=600)
    name = shelf.begin(answered, {})
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert shelf.get(name).state == "done"
    hands.advance(601)
    with pytest.raises(UsageError, match="not kept any more"):
        shelf.get(name)


class About(dict[str, str]):
    """Something of an answer whose end can be seen."""


async def test_an_answer_that_nobody_asks_for_again_leaves_the_memory_all_the_same() -> None:
    shelf, about = Shelf(keep=0.05), About()
    shelf.begin(answered, about)
    left = weakref.ref(about)
    del about
    async with asyncio.timeout(60):
        while left() is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_dropping_an_answer_stops_the_reading() -> None:
    shelf = Shelf()
    name = shelf.begin(forever, {})
    slip = shelf.get(name)
    await asyncio.sleep(0)
    shelf.drop(name)
    assert slip.task is not None
    await asyncio.gather(slip.task, return_exceptions=True)
    assert slip.task.cancelled()


async def test_only_a_few_pages_are_read_for_people_at_a_time() -> None:
    shelf = Shelf()
    names = [shelf.begin(forever, {}) for _ in range(AT_ONCE)]
    with pytest.raises(Unavailable):
        shelf.begin(forever, {})
    for name in names:
        shelf.drop(name)


# Files to take away


def test_a_hostile_field_acts_in_no_file() -> None:
    page = Page(
        1, 1, 1, "vllm",
        blocks=(
            Block(1, Kind.FIELD, "=cmd|'/c calc'!A1: @SUM(1)"),
            Block(2, Kind.PARAGRAPH, "<script>x</script> ![p](http://evil/p.png)"),
            Block(3, Kind.TABLE, "<table><tr><td>+1+cmd</td><td onclick=x>ok</td></tr></table>"),
        ),
    )  # fmt: skip
    rows = list(csv.reader(io.StringIO(answers.file(page, "csv").decode("utf-8-sig"))))
    assert rows == [["'=cmd|'/c calc'!A1", "'@SUM(1)"], [], ["'+1+cmd", "ok"]]
    markdown = answers.file(page, "md").decode()
    assert "<script" not in markdown
    assert "![p](" not in markdown
    assert "onclick" not in markdown


def test_boxes_are_those_of_the_lines_where_there_are_lines() -> None:
    lines = (Line("a", (0, 0, 10, 10)), Line("b", (0, 20, 10, 20)))
    page = Page(1, 1, 1, "x", blocks=(Block(1, Kind.PARAGRAPH, "a\nb", (0, 0, 10, 30), lines=lines),))
    assert [(mark.number, mark.text, mark.height) for mark in answers.marks(page)] == [(1, "a", 10), (2, "b", 1)]
