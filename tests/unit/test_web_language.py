"""The language of the pages: what is chosen, what is translated, and where a form may send people back to."""

from __future__ import annotations

import ast
import html
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from inkstick import errors
from inkstick.access.roles import RULES
from inkstick.appliance import Stick
from inkstick.web import language, words
from inkstick.web.app import create_app
from inkstick.web.office_port import Stats
from support.office import MemoryOffice

TEMPLATES = language.FOLDER.parent / "templates"


@pytest.mark.parametrize(
    ("cookie", "accepted", "code"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "fr-FR,de;q=0.7,zh;q=0.3", "zh"),
        ("en", "zh-CN", "en"),
        ("xx", "fr", "en"),
    ],
)
def test_the_choice_counts_before_the_browsers_wish(cookie: str | None, accepted: str, code: str) -> None:
    assert language.chosen(cookie, accepted) == code


def test_a_sentence_without_translation_stays_english_and_placeholders_are_filled() -> None:
    assert language.translator("zh")("Documents") == "文档"
    assert language.translator("zh")("Nobody wrote this {n} times", n=3) == "Nobody wrote this 3 times"


def test_a_name_that_is_a_word_of_ours_stays_as_it_is() -> None:
    """A stick that is labelled Documents was called 文档, which stands on none."""
    translate = language.translator("zh")
    assert translate(words.stick(Stick("sdb1", "Documents", "offered", 3, 0, 0))) == "读取 Documents 中的 3 份文档？"
    assert translate(words.engine(Stats())[1]) == "没有引擎就绪（没有设置任何引擎）。文档在等待，不会丢失。"


def test_every_event_of_the_audit_log_has_words_in_every_language() -> None:
    written = {rule.event for rule in RULES if rule.event}
    told_elsewhere = {"paired", "pair_failed", "refused", "forbidden", "mended"}
    assert set(words.ACTS) == written | told_elsewhere
    assert set(words.ACTS.values()) <= set(language.catalogue("zh"))


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.html")), ids=lambda path: path.name)
def test_no_word_of_ours_reaches_a_page_without_being_translated(template: Path) -> None:
    word, sentence = (
        r"words\.(?:flag|format|task|state|role|act)\(",
        r"[a-z_.]*(?:problem|warning|error)\.(?:message|hint)",
    )
    bare = re.findall(rf"\{{\{{ *(?:{word}|{sentence}).*?\}}\}}", template.read_text(encoding="utf-8"))
    assert not bare


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return TestClient(create_app(MemoryOffice(tmp_path)), base_url="http://127.0.0.1")


def test_the_page_follows_the_choice(client: TestClient) -> None:
    assert '<html lang="en">' in client.get("/").text
    answer = client.post("/language", data={"code": "zh", "back": "/docs"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
    assert '<html lang="zh-Hans">' in client.get("/").text


@pytest.mark.parametrize(
    "back", ["//elsewhere.example/", "https://elsewhere.example/", "/\\elsewhere.example", "elsewhere"]
)
def test_nobody_is_sent_to_another_machine(client: TestClient, back: str) -> None:
    assert client.post("/language", data={"code": "zh", "back": back}, follow_redirects=False).status_code == 422


@pytest.mark.parametrize(
    ("path", "form", "back"),
    [
        ("/system/self-test", {}, "/system"),
        ("/documents/bulk", {"action": "delete", "id": "{id}"}, "/documents"),
        ("/documents/{id}/pages/1/text", {"block": "1", "version": "7", "text": "x"}, "/documents/{id}?page=1"),
        ("/access/tokens", {"name": "script"}, "/access"),
        ("/folders/edit", {"at": "bills", "action": "try", "known": "x"}, "/folders/edit?at=bills"),
        ("/failures/retry", {}, "/"),
    ],
)
def test_the_choice_leads_back_to_a_page_that_is_there(
    tmp_path: Path, path: str, form: dict[str, str], back: str
) -> None:
    """Also from the answer to a form, whose address nobody can go to."""
    office = MemoryOffice(tmp_path)
    office.settings.folder.create()
    with TestClient(create_app(office), base_url="http://127.0.0.1") as client:
        client.post("/folders/new", data={"name": "bills"})
        id = client.put("/api/v1/documents/a.txt", content=b"alpha").json()["id"]
        while client.get(f"/api/v1/documents/{id}").json()["state"] != "done":
            time.sleep(0.01)
        data: dict[str, Any] = {name: value.format(id=id) for name, value in form.items()}
        sent = {"files": {name: (None, value) for name, value in data.items()}} if "folders" in path else {"data": data}
        page = client.post(path.format(id=id), **sent, headers={"Accept": "text/html"}).text
        found = re.search(r'name="back" value="([^"]*)"', page)
        assert found
        assert found[1] == back.format(id=id)
        chosen = client.post("/language", data={"code": "zh", "back": html.unescape(found[1])})
        assert chosen.status_code == 200
        assert '<html lang="zh-Hans">' in chosen.text


# Told at the command line before there is a page, or to programs that send what no page of ours does.
ELSEWHERE = re.compile(
    r"(models|commands|supervise)/|(cli|doctor|standalone|config)\.py|access/(keys|place)\.py"
    r"|engines/(doclayout|encode|registry)\.py|web/(inference|resumable|multipart|documents|events|wishes|server)\.py"
    r"|web/corrections\.py|store/ledger\.py|pages/worker\.py"
)


WHOLE = {"You are here as 7; this is for 7.", "7 They need a GPU; see `inkstick models list`."}
"""Only as a few whole sentences, which are translated as such."""
OURS = {"7 is not 7 below an inbox"}
"""A mistake in our own code."""


def sentences_of_errors(path: Path) -> Iterator[str]:
    """What errors raised in a module say and advise; the values in it as a 7."""
    known = {name for name, value in vars(errors).items() if isinstance(value, type)} | {"StorageSuspect"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)
             and isinstance(node.targets[0], ast.Name)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in known:
            told = [*node.args[:1], *(word.value for word in node.keywords if word.arg in ("message", "hint"))]
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("default_message", "default_hint"):
            told = [node.value]
        else:
            continue
        for part in told:
            said = named.get(part.id, part) if isinstance(part, ast.Name) else part
            pieces = said.values if isinstance(said, ast.JoinedStr) else [said]
            if all(isinstance(piece, ast.Constant | ast.FormattedValue) for piece in pieces):
                text = "".join(str(piece.value) if isinstance(piece, ast.Constant) else "7" for piece in pieces)
                if re.search(r"[a-z]{3}", text):  # (not what is put together of sentences that stand elsewhere)
                    yield text


def test_what_an_error_says_to_people_is_said_in_every_language() -> None:
    service = language.FOLDER.parents[1]
    modules = [
        path for path in sorted(service.rglob("*.py")) if not ELSEWHERE.search(path.relative_to(service).as_posix())
    ]
    told = {text: path.name for path in modules for text in sentences_of_errors(path)}
    translate = language.translator("zh")
    assert len(told) > 200
    assert {text: name for text, name in told.items() if translate(text) == text and text not in WHOLE | OURS} == {}


def test_an_error_that_was_stored_with_its_values_is_translated_with_them() -> None:
    translate = language.translator("zh")
    assert translate("It claims to have 70,000 pages.") == "它自称有 70,000 页。"
    assert translate(".inkstick.toml: unknown key 'a}{0}'") == ".inkstick.toml：未知的键 'a}{0}'"
    assert translate("The file cannot be opened: {why}.") == "文件无法打开：{why}。"
