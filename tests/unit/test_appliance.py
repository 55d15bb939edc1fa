"""What the machine around the service tells and takes: the files of the keeper, read and answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inkstick import appliance
from inkstick.appliance import Machine, Request, Share
from inkstick.config import Settings
from inkstick.errors import Unavailable, UsageError
from inkstick.office import Office
from inkstick_provisioning import requests, status
from inkstick_provisioning.requests import PAGE, Asked
from inkstick_provisioning.status import Status, Stick


def tell(folder: Path, told: Status) -> None:
    status.save(folder / "status.json", told)


def test_where_no_keeper_is_nothing_is_offered(tmp_path: Path) -> None:
    assert appliance.look(tmp_path) == Machine()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sticks": [{}]}', '{"sticks": 3}', '{"sticks": [3]}'])
def test_a_status_that_cannot_be_understood_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    assert appliance.look(tmp_path) == Machine()


def test_what_the_keeper_tells_is_understood(tmp_path: Path) -> None:
    tell(tmp_path, Status(kept=True, sticks=(Stick("sdb1", "KINGSTON", "copying", 214, 10),)))
    found = appliance.look(tmp_path)
    assert found.offers == ("lock", "power-off")
    assert [(stick.name, stick.state, stick.count, stick.done) for stick in found.sticks] == [
        ("KINGSTON", "copying", 214, 10)
    ]
    tell(tmp_path, Status(kept=False, language="zh"))
    assert appliance.look(tmp_path).language == "zh"
    assert appliance.look(tmp_path).offers == ("power-off",), "memory cannot be locked"


def test_the_share_is_told_where_there_is_one_and_its_password_is_in_no_repr(tmp_path: Path) -> None:
    tell(tmp_path, Status(addresses=("https://10.77.0.1/", "https://192.168.1.7/"), share="aaaa-bbbb"))
    found = appliance.look(tmp_path)
    assert found.share == Share(("10.77.0.1", "192.168.1.7"), "aaaa-bbbb")
    assert "aaaa" not in repr(found)
    tell(tmp_path, Status(addresses=("https://10.77.0.1/",)))
    assert appliance.look(tmp_path).share is None


def test_the_keeper_takes_what_is_asked_in_order_and_no_repr_shows_it(tmp_path: Path) -> None:
    folder = tmp_path / "requests"
    appliance.ask(folder, Request("answer", "four plain words", 7))
    appliance.ask(folder, Request("stick", "sdb1"))
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o600"}
    assert requests.take(folder, PAGE) == [Asked("answer", "four plain words", 7), Asked("stick", "sdb1")]
    assert list(folder.iterdir()) == []
    assert "plain" not in repr(Request("answer", "four plain words", 7))


def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too long"):
        appliance.ask(tmp_path, Request("answer", "x" * 5000))
    with pytest.raises(Unavailable):
        appliance.ask(tmp_path / "not" / "there", Request("pin"))


async def test_the_machine_is_asked_only_for_what_it_offers(tmp_path: Path) -> None:
    office = Office(Settings(data=tmp_path / "data", appliance=tmp_path))
    office.settings.folder.create()
    with pytest.raises(UsageError):
        await office.appliance("power-off")
    tell(tmp_path, Status(kept=False))
    with pytest.raises(UsageError):
        await office.appliance("lock")
    await office.appliance("power-off")
    (path,) = office.settings.folder.requests.iterdir()
    assert json.loads(path.read_text())["what"] == "power"
