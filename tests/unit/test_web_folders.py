"""The folders' screen: form and TOML say the same, mistakes are said and not saved, a try stores nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest

from inkstick.intake.folders import digest
from inkstick.web.screens.folders import key_of, raw_of
from support.office import MemoryOffice, png

SETTINGS = ".inkstick.toml"
EMPTY = {"known": digest(None), "text": ""}


def form(**fields: str | list[str]) -> list[tuple[str, tuple[None, str]]]:
    """A multipart form without a file."""
    return [
        (name, (None, item))
        for name, value in fields.items()
        for item in ([value] if isinstance(value, str) else value)
    ]


async def test_a_new_folder_is_made_and_shown(client: httpx.AsyncClient, tmp_path: Path) -> None:
    made = await client.post("/folders/new", data={"name": "审计 2026", "above": ""})
    assert made.status_code == 303
    page = await client.get(made.headers["location"])
    assert "<bdi>审计 2026</bdi>" in page.text
    assert (tmp_path / "inbox" / "审计 2026").is_dir()
    assert "审计 2026" in (await client.get("/folders")).text


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".x"])
async def test_a_bad_name_is_refused_with_what_was_typed(client: httpx.AsyncClient, tmp_path: Path, name: str) -> None:
    answer = await client.post("/folders/new", data={"name": name, "above": ""})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert list((tmp_path / "inbox").iterdir()) == []


async def test_the_form_is_saved_as_a_text(client: httpx.AsyncClient, tmp_path: Path) -> None:
    sent = form(**EMPTY, at="", action="save", task="extract", keys="number\r\ntotal", formats=["json", "csv"])
    assert (await client.post("/folders/edit", files=sent)).status_code == 303
    text = (tmp_path / "inbox" / SETTINGS).read_text()
    assert text == 'task = "extract"\nkeys = ["number", "total"]\nformats = ["json", "csv"]\n'
    page = (await client.get("/folders/edit?at=&saved=true")).text
    assert '<option value="extract" selected>' in page
    assert "Saved." in page


async def test_the_text_is_saved_as_it_is(client: httpx.AsyncClient, tmp_path: Path) -> None:
    text = '# mine\r\noriginals = "keep"\r\n'
    answer = await client.post("/folders/edit", files=form(at="", action="save", known=digest(None), text=text))
    assert answer.status_code == 303, answer.text
    assert (tmp_path / "inbox" / SETTINGS).read_text() == '# mine\noriginals = "keep"\n'


async def test_both_sides_changed_differently_is_refused_and_nothing_lost(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    sent = form(at="", action="save", known=digest(None), text='task = "text"', task="table")
    answer = await client.post("/folders/edit", files=sent)
    assert answer.status_code == 422
    assert "Both the form and the text were changed" in answer.text
    assert "task = &#34;text&#34;" in answer.text
    assert '<option value="table" selected>' in answer.text
    assert not (tmp_path / "inbox" / SETTINGS).exists()


async def test_a_mistake_is_said_with_its_place_and_not_saved(client: httpx.AsyncClient, tmp_path: Path) -> None:
    sent = form(at="", action="save", known=digest(None), text='task = "text"\nformats = [1 2]')
    answer = await client.post("/folders/edit", files=sent)
    assert answer.status_code == 422
    assert "not valid TOML" in answer.text
    assert "line 2" in answer.text
    assert not (tmp_path / "inbox" / SETTINGS).exists()


async def test_two_people_at_once_do_not_overwrite_each_other(client: httpx.AsyncClient, tmp_path: Path) -> None:
    first = form(at="", action="save", known=digest(None), text='task = "text"\n')
    assert (await client.post("/folders/edit", files=first)).status_code == 303
    second = form(at="", action="save", known=digest(None), text='task = "table"\n')
    answer = await client.post("/folders/edit", files=second)
    assert answer.status_code == 409
    assert "changed meanwhile" in answer.text
    assert (tmp_path / "inbox" / SETTINGS).read_text() == 'task = "text"\n'
    remove = form(at="", action="remove", known=digest('task = "text"\n'), text="")
    assert (await client.post("/folders/edit", files=remove)).status_code == 303
    assert not (tmp_path / "inbox" / SETTINGS).exists()


async def test_each_side_follows_the_other(client: httpx.AsyncClient) -> None:
    sent = form(at="", side="form", text="# kept\n", task="text")
    said = (await client.post("/folders/check", files=sent)).json()
    assert said["text"] == '# kept\ntask = "text"\n'
    said = (await client.post("/folders/check", files=form(at="", side="text", text='formats = ["pdf"]'))).json()
    assert said["form"]["formats"] == ["pdf"]
    assert said["problem"] is None
    said = (await client.post("/folders/check", files=form(at="", side="text", text='task = "sing"'))).json()
    assert "task cannot be" in said["problem"]["message"]
    said = (await client.post("/folders/check", files=form(at="", side="text", text="task = 3\nkeys = 4"))).json()
    assert said["problem"] is not None


async def test_a_task_that_no_engine_here_has_is_warned_of(client: httpx.AsyncClient) -> None:
    said = (await client.post("/folders/check", files=form(at="", side="text", text='task = "chart"'))).json()
    assert "does not offer the task chart" in said["warning"]["message"]
    assert "HunyuanOCR" in said["warning"]["hint"]
    chinese = {"Accept-Language": "zh-CN"}
    sent = form(at="", side="text", text='task = "chart"')
    said = (await client.post("/folders/check", files=sent, headers=chinese)).json()
    assert "不提供任务 chart" in said["warning"]["message"]
    said = (await client.post("/folders/check", files=form(at="", side="text", text="a = 1"), headers=chinese)).json()
    assert "未知的键" in said["problem"]["message"]


async def test_a_try_reads_a_page_with_unsaved_settings_and_stores_nothing(
    client: httpx.AsyncClient, office: MemoryOffice, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    sent = [
        *form(at="", action="try", known=digest(None), text='task = "text"\npasswords = ["x"]', page="2"),
        ("file", ("a.png", png(4, 4))),
    ]
    answer = await client.post("/folders/edit", files=sent)  # type: ignore[arg-type]
    assert answer.status_code == 303, answer.text
    address = answer.headers["location"]
    async with asyncio.timeout(60):
        while "Invoice" not in (text := (await client.get(address)).text):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert "A document in this folder would get: md, json, txt, pdf, alto, csv." in text
    assert (office.page_asked[-1].profile.task, office.page_asked[-1].number) == ("text", 2)
    assert office.page_asked[-1].profile.passwords == ("x",)
    assert sorted(tmp_path.rglob("*")) == before
    without = await client.post("/folders/edit", files=form(at="", action="try", known=digest(None), text=""))
    assert "no file to try on" in without.text


@pytest.mark.parametrize("at", ["..", "../state", "/etc", "a/../..", "~", "~!!", "~Li4=", "\x00", "none"])
async def test_no_address_leads_out_of_the_inbox(client: httpx.AsyncClient, tmp_path: Path, at: str) -> None:
    expected = 200 if at == "~" else 404  # "~" is the inbox itself, written in base64
    assert (await client.get("/folders/edit", params={"at": at})).status_code == expected
    if expected == 404:
        sent = form(at=at, action="save", known=digest(None), text='task = "text"')
        assert (await client.post("/folders/edit", files=sent)).status_code == 404
        assert (await client.post("/folders/new", data={"name": "new", "above": at})).status_code == 404
    assert not list(tmp_path.rglob(SETTINGS))


@pytest.mark.parametrize("raw", [b"", b"a", "审计/b c".encode(), b"caf\xe9", b"~home", b"a\nb", b"100% &at=x#"])
def test_every_folder_has_an_address_of_its_own(raw: bytes) -> None:
    assert raw_of(key_of(raw)) == raw
    assert key_of(raw).isprintable()


async def test_odd_names_are_shown_and_reached(client: httpx.AsyncClient, tmp_path: Path) -> None:
    for raw in (b"caf\xe9", b'<img src=x onerror=alert(1)> & "q"', "\u202egnp".encode(), b"100% #at=x"):
        os.mkdir(os.fsencode(tmp_path / "inbox") + b"/" + raw)
        answer = await client.get("/folders/edit", params={"at": key_of(raw)})
        assert answer.status_code == 200
        assert "<img src=x" not in answer.text
    assert "<img src=x" not in (await client.get("/folders")).text


async def test_settings_that_are_a_link_are_said_and_can_be_replaced(client: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("token = 12345")
    (tmp_path / "inbox" / SETTINGS).symlink_to(tmp_path / "secret")
    page = (await client.get("/folders/edit?at=")).text
    assert "it is a link" in page
    assert "12345" not in page
    sent = form(at="", action="save", known=digest(None), text='task = "text"\n')
    assert (await client.post("/folders/edit", files=sent)).status_code == 303
    assert (tmp_path / "secret").read_text() == "token = 12345"
    assert (tmp_path / "inbox" / SETTINGS).read_text() == 'task = "text"\n'
