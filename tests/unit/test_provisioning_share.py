"""What Samba is told, when the share is offered, and its password. With real smbd: tests/integration/test_share.py."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest

from inkstick_provisioning import share
from inkstick_provisioning.network import Mode
from inkstick_provisioning.share import Place, Share, configuration, password, reached
from inkstick_provisioning.unattended import Wishes, parse, text

OFFERED = Share("inkstick-saffron-42", ("10.77.0.1", "192.168.1.7"), "aaaa-bbbb-cccc-dddd")
PLACE = Place(Path("/var/lib/inkstick"), Path("/run/inkstick-share"))


def sections(offered: Share = OFFERED) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    found.read_string(configuration(offered, PLACE))
    return found


def test_it_is_off_unless_it_is_wished() -> None:
    assert not Wishes().smb and not parse("").smb
    assert parse("[share]\nsmb = true\n").smb
    assert parse(text(Wishes(smb=True))) == Wishes(smb=True)


@pytest.mark.parametrize("line", ['smb = "true"', "smb = 1", "smb = []", "nfs = true"])
def test_a_mistake_in_the_setting_is_told(line: str) -> None:
    with pytest.raises(Exception, match=r"share\."):
        parse(f"[share]\n{line}\n")


@pytest.mark.parametrize(
    ("modes", "wished", "settled", "expected"),
    [
        ({"a": Mode.DIRECT}, True, True, ("10.77.0.1", "192.168.1.7")),
        ({"a": Mode.JOIN, "b": Mode.NONE}, True, True, ("10.77.0.1", "192.168.1.7")),
        ({"a": Mode.DIRECT}, False, True, ()),
        ({"a": Mode.DIRECT}, True, False, ()),  # the first start is not done: another data folder may come
        ({"a": Mode.NONE}, True, True, ()),
        ({}, True, True, ()),
    ],
)
def test_it_answers_where_the_page_does_and_only_then(
    modes: dict[str, Mode], wished: bool, settled: bool, expected: tuple[str, ...]
) -> None:
    pages = ("https://10.77.0.1/", "https://192.168.1.7/")
    assert reached(pages, modes, wished=wished, settled=settled) == expected
    assert reached((), modes, wished=wished, settled=settled) == ()


def test_samba_is_told_this() -> None:
    found = sections()
    assert found.sections() == ["global", "inbox", "results"]
    for line in (
        "server role = standalone server", "server min protocol = SMB3", "server signing = mandatory",
        "server smb encrypt = required", "ntlm auth = ntlmv2-only", "map to guest = never", "restrict anonymous = 2",
        "disable netbios = yes", "bind interfaces only = yes", "interfaces = 10.77.0.1 192.168.1.7", "smb ports = 445",
        "load printers = no", "disable spoolss = yes", "usershare max shares = 0", "valid users = inkstick",
        "guest ok = no", "follow symlinks = no", "wide links = no", "oplocks = no", "log level = 0",
        "create mask = 0600", "directory mask = 0700", "netbios name = INKSTICK-SAFFRO",
    ):  # fmt: skip
        name, _, value = line.partition(" = ")
        assert found["global"][name] == value, line
    assert dict(found["inbox"]) | {"comment": ""} == {
        "path": "/var/lib/inkstick/inbox", "read only": "no", "comment": "",
    }  # fmt: skip
    assert dict(found["results"]) | {"comment": ""} == {
        "path": "/var/lib/inkstick/results", "read only": "yes", "comment": "",
    }  # fmt: skip


def test_whatever_samba_writes_is_in_memory() -> None:
    found = sections()["global"]
    for name in ("private dir", "lock directory", "state directory", "cache directory", "pid directory", "log file"):
        assert found[name].startswith("/run/inkstick-share"), name
    assert found["passdb backend"] == "tdbsam:/run/inkstick-share/passdb.tdb"


def test_the_password_is_in_no_file_and_in_no_repr() -> None:
    assert "aaaa" not in configuration(OFFERED, PLACE) + repr(OFFERED)
    assert not any("aaaa" in word for word in share.password_command(Path("x"), "inkstick"))


@pytest.mark.parametrize(
    "strange",
    [
        Share("a\n[c]", ("10.77.0.1",), ""),
        Share("", ("10.77.0.1",), ""),
        Share("inkstick", ("10.77.0.1\nguest ok = yes",), ""),
        Share("inkstick", ("0.0.0.0/0",), ""),
        Share("inkstick", (), ""),
    ],
)
def test_nothing_strange_gets_into_the_file(strange: Share) -> None:
    with pytest.raises(ValueError):
        configuration(strange, PLACE)


def test_a_name_is_cut_to_what_netbios_knows() -> None:
    assert sections(Share("archive-2", ("10.77.0.1",), ""))["global"]["netbios name"] == "ARCHIVE-2"
    assert sections(Share("inkstick-oliver-7", ("10.77.0.1",), ""))["global"]["netbios name"] == "INKSTICK-OLIVER"


def test_passwords_are_long_differ_and_can_be_typed() -> None:
    made = {password() for _ in range(200)}
    assert len(made) == 200
    for one in made:
        assert [len(group) for group in one.split("-")] == [4, 4, 4, 4]
        assert set(one) <= set("0123456789abcdefghjkmnpqrstvwxyz-")


def test_what_the_keeper_told_reads_back() -> None:
    assert share.read(json.dumps(share.told(OFFERED))) == OFFERED
    for broken in ("", "[]", "{}", '{"name": "x", "addresses": 3, "password": "y"}'):
        assert share.read(broken) is None
