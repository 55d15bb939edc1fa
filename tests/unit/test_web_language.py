"""The language of the pages: what is chosen, what is translated, and where a form may send people back to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from inkstick.access.roles import RULES
from inkstick.web import language, words
from inkstick.web.app import create_app
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
