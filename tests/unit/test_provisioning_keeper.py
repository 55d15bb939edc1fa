"""The keeper with real files and processes: the system's programs are scripts that write down how they are called."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import runpy
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from inkstick_provisioning import (
    firststart,
    given,
    ingest,
    keeper,
    language,
    luks,
    machine,
    power,
    requests,
    share,
    status,
    terminal,
    unattended,
    units,
    volume,
)
from inkstick_provisioning.faults import SetupError, StillWriting, WrongKey
from inkstick_provisioning.firststart import Step
from inkstick_provisioning.hardware import GIB, NVIDIA, Driven, Facts, Pci
from inkstick_provisioning.keeper import Keeper, addresses
from inkstick_provisioning.network import Mode, Port
from inkstick_provisioning.requests import EVERYTHING, PAGE, Asked, take
from inkstick_provisioning.status import Status
from inkstick_provisioning.unattended import Usb, Wishes
from inkstick_provisioning.volume import Checked, Offer, State, Survey, Where

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = """#!/bin/sh
{{ echo "{name} $*"; [ "$1" = -f ] && cat; }} >>"{log}"
{answer}
true
"""
ANSWERS = {
    "systemctl": "[ $1 = show ] && printf 'Id=inkstick-serve.service\\nActiveState=active\\nStatusText=2 reading\\n'",
    "ip": """echo '[{"ifname": "eth0", "addr_info": [{"local": "192.168.1.7", "scope": "global"}]}]'""",
    "nft": """echo '{"nftables": [{"counter": {"name": "dropped_in", "packets": 3}}]}'""",
    "inkstick": """echo '{"pin": "12345678", "fingerprint": "AA:BB"}'""",
    "lsblk": """echo '{"blockdevices": []}'""",
    "networkctl": "",
    "udevadm": "",
    "cryptsetup": "",
}


HALF = '{"what": "answer", "value": "\\ud800", "number": 0}'
"""Half a letter, as JSON can say it."""
CARD = Driven("RTX 4090 Laptop", 16 * GIB, (8, 9), 550)


class Place:
    """A machine of files. `log`: every call of a system's program."""

    def __init__(self, root: Path) -> None:
        self.root, self.log = root, root / "log"
        self.console, self.page = root / "console", root / "data/state/requests"
        for folder in (root / "bin", root / "run", self.console, self.page):
            folder.mkdir(parents=True)
        for name, answer in ANSWERS.items():
            path = root / "bin" / name
            path.write_text(SCRIPT.format(name=name, log=self.log, answer=answer))
            path.chmod(0o755)

    @property
    def calls(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def status(self) -> Status:
        found = status.load(self.root / "run/status.json")
        assert found is not None
        return found

    def question(self) -> dict[str, object]:
        value = json.loads((self.root / "run/first-start.json").read_text())
        assert isinstance(value, dict)
        return value


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for module, name, value in (
        (status, "RUN", tmp_path / "run"),
        (status, "PATH", tmp_path / "run/status.json"),
        (keeper, "DATA", tmp_path / "data"),
        (keeper, "CONSOLE", place.console),
        (keeper, "PAGE", place.page),
        (keeper, "NETWORK", tmp_path / "network"),
        (keeper, "LOGIND", tmp_path / "logind"),
        (keeper, "PIN", (str(tmp_path / "bin/inkstick"), "pin")),
        (keeper, "USER", 0),
        (keeper, "ports", lambda: [Port("eth0", True), Port("wlan0")]),
    ):
        monkeypatch.setattr(module, name, value)
    return place


def start() -> Keeper:
    found = Keeper()
    found.start()
    return found


def errand(found: Keeper) -> None:
    """Until the service's command, which nobody waits for otherwise, has ended."""
    if found.errand is not None:
        found.errand.wait(30)


def say(place: Place, found: Keeper, folder: Path, *lines: str) -> None:
    for line in lines:
        terminal.ask(folder, {"what": "answer", "value": line, "number": place.question()["number"]})
        found.tick()


def test_a_later_start_takes_the_settings_from_the_volume_s_header(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = Offer(Where.STICK, State.LOCKED, "/dev/sda3", 10**10, "KINGSTON")
    monkeypatch.setattr(luks, "look", lambda: Survey((offer,), (Offer(Where.MEMORY, State.FREE),), ()))
    settings = {"token": unattended.text(Wishes(language="zh", where=Where.STICK, network=Mode.DIRECT))}
    monkeypatch.setattr(luks, "recall", lambda device: settings["token"] if device == "/dev/sda3" else "")
    start()
    assert (place.question()["step"], place.question()["language"]) == ("unlock", "zh")
    assert "Address=10.77.0.1/24" in (place.root / "network/10-inkstick-eth0.network").read_text()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place.root))
    (place.root / "inkstick.toml").write_text("language = 'martian'")
    start().tick()
    assert (place.question()["step"], place.question()["language"]) == ("unlock", "zh"), "nor those of a file like that"
    assert "cannot be used" in place.status().warnings[0].sentence
    (place.root / "inkstick.toml").unlink()
    settings["token"] = 'language = "martian"'
    start()
    assert place.question()["step"] == "language", "what nobody of us can have written is not used"


def test_disks_are_looked_at_when_the_kernel_s_news_of_them_have_been_taken_in(place: Place) -> None:
    """A volume on a disk that is just being looked through has no type yet, and would not be asked for."""
    start()
    assert place.calls.index("udevadm settle") < place.calls.index("lsblk")


def test_a_stick_whose_label_is_in_letters_of_an_old_system_keeps_nobody_from_starting(place: Place) -> None:
    """lsblk hands on the bytes of the label, 0x9a for Ü as DOS wrote it: that is no UTF-8."""
    stick = b'{"path":"/dev/sdb","type":"disk","tran":"usb","fstype":"vfat","label":"M\x9aLLER","mountpoints":["/m"]}'
    (place.root / "blocks").write_bytes(b'{"blockdevices": [' + stick + b"]}")
    (place.root / "bin/lsblk").write_text(f"#!/bin/sh\ncat {place.root / 'blocks'}\n")
    given.mount_fat()
    start()
    assert place.question()["step"] == "language"
    (place.root / "blocks").write_bytes(b'{"blockdevices": [' + stick.replace(b'"/m"', b"null") + b"]}")
    candidate = ingest._candidate("sdb")
    assert candidate is not None and candidate.name == "M\ufffdLLER"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_stick_that_somebody_looks_into_keeps_the_keeper_from_nothing(place: Place) -> None:
    point = place.root / "run/fat/sdb1"
    point.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(point)]).returncode:
        pytest.skip("cannot mount here")
    (point / "open").touch()
    with (point / "open").open():
        given.unmount_fat()
        assert str(point) not in Path("/proc/self/mounts").read_text() and not point.exists()


def test_before_anybody_answered_no_port_is_open(place: Place) -> None:
    found = start()
    found.tick()
    assert place.question()["step"] == "language"
    assert "oifname" not in place.calls and "policy drop" in place.calls
    assert "always-down" in (place.root / "network/10-inkstick-eth0.network").read_text()
    assert place.status().question


def test_the_first_start_is_begun_on_the_console_and_finished_in_the_browser(place: Place) -> None:
    found = start()
    say(place, found, place.console, "2", "1")
    assert "DHCPServer=yes" in (place.root / "network/10-inkstick-eth0.network").read_text()
    assert "tcp dport 443" in place.calls
    assert "INKSTICK_HOST=0.0.0.0" in (place.root / "run/network.env").read_text()
    assert (place.question()["step"], place.question()["language"]) == ("where", "zh")
    say(place, found, place.page, "1", "1")
    assert found.dialogue.step is Step.DONE
    errand(found)
    found.tick()
    told = place.status()
    assert not told.question
    assert told.addresses[0] == "https://10.77.0.1/"
    assert (told.pin, told.fingerprint, told.dropped) == ("1234 5678", "AA:BB", (("in", 3),))
    assert told.parts == (("serve", "active", "2 reading"),)


def test_an_adapter_that_is_plugged_in_later_is_used_as_was_answered(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many laptops have no other port than one on a USB cable."""
    there = [Port("eth0")]
    monkeypatch.setattr(keeper, "ports", lambda: there)
    found = start()
    there.append(Port("enx001122334455"))
    found.slow_at = -1e9
    found.tick()
    assert set(found.modes.values()) == {Mode.NONE}, "not before anybody answered"
    say(place, found, place.console, "1", "1", "1", "1")
    there.append(Port("enx66"))
    found.slow_at = -1e9
    found.tick()
    assert "Address=10.77.2.1/24" in (place.root / "network/10-inkstick-enx66.network").read_text()
    assert '"eth0"' in place.calls and "https://10.77.2.1/" in place.status().addresses
    del there[1:]
    found.slow_at = -1e9
    found.tick()
    assert not (place.root / "network/10-inkstick-enx66.network").exists()
    assert "10.77.2.1" not in str(place.status().addresses)


def test_an_adapter_that_nobody_was_asked_about_stays_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[Port] = []
    monkeypatch.setattr(keeper, "ports", lambda: there)
    found = start()
    say(place, found, place.console, "1", "1", "1")
    assert found.dialogue.step is Step.DONE
    there.append(Port("eth0"))
    found.slow_at = -1e9
    found.tick()
    assert found.modes == {"eth0": Mode.NONE}
    found.handle(Asked("network", "join"))
    assert found.modes == {"eth0": Mode.JOIN}
    found.handle(Asked("network", "any"))
    assert found.modes == {"eth0": Mode.JOIN}


def test_a_keeper_that_is_started_again_asks_nothing_twice(place: Place) -> None:
    say(place, start(), place.console, "1", "2", "1", "1")
    again = start()
    assert again.dialogue.step is Step.DONE
    assert again.modes == {"eth0": Mode.JOIN, "wlan0": Mode.NONE}


def test_a_keeper_that_is_started_again_takes_nobody_off_the_network(place: Place) -> None:
    say(place, start(), place.console, "1", "1", "1", "1")
    before = len(place.calls)
    start()
    after = place.calls[before:]
    assert "dport 443" in after and after.count("policy drop") == 3, "the rules are loaded once, and are those in use"
    assert "inkstick-serve.service" not in after, "nor is it started anew, in the middle of a page"


def test_a_late_answer_is_no_answer_to_the_next_question(place: Place) -> None:
    found = start()
    for _ in range(2):  # Enter, pressed twice before the screen changed
        terminal.ask(place.console, {"what": "answer", "value": "1", "number": 0})
    found.tick()
    assert place.question()["step"] == "network"


def test_the_file_answers_everything(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = place.root / "credentials"
    credentials.mkdir()
    (credentials / unattended.NAME).write_text(
        '[data]\nwhere = "memory"\n[network]\nmode = "join"\n[usb]\nread = "inbox"\n'
    )
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    found = start()
    assert found.dialogue.step is Step.DONE
    assert found.modes["eth0"] is Mode.JOIN
    assert json.loads((place.root / "run/wishes.json").read_text())["usb"] == "inbox"


def test_a_disk_is_found_by_the_name_that_stays(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manual writes /dev/disk/by-id/…, a link: the kernel may call the same disk sdb today and sdc tomorrow."""
    disk, link = place.root / "sdb", place.root / "by-id"
    disk.touch()
    link.symlink_to(disk)
    offers = (Offer(Where.DISK, State.FREE, str(disk)), Offer(Where.DISK, State.FREE, f"{disk}b"))
    kept: list[Offer] = []
    monkeypatch.setattr(luks, "look", lambda: Survey(tuple(kept), (*offers, Offer(Where.MEMORY, State.FREE)), ()))
    monkeypatch.setitem(unattended._SCHEMA["data"], "disk", str)
    taken: list[Offer | None] = []
    monkeypatch.setattr(Keeper, "take_volume", lambda _, dialogue: taken.append(dialogue.offer))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place.root))
    (place.root / unattended.NAME).write_text(
        f'[data]\nwhere = "disk"\ndisk = "{link}"\npassphrase = "four plain words"\n'
    )
    start()
    (place.root / "run/keeper.json").unlink()  # the machine is started anew
    kept += [Offer(Where.DISK, State.LOCKED, f"{disk}{end}") for end in ("b1", "p3", "1x")]
    start()
    assert [offer.device if offer else "" for offer in taken] == [str(disk), f"{disk}p3"]


def test_a_file_with_a_mistake_is_told_and_a_person_is_asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.root / unattended.NAME).write_text("language = 'xx'\nfoo = 1")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place.root))
    found = start()
    found.tick()
    assert found.dialogue.step is Step.LANGUAGE
    assert "foo" in dict(place.status().warnings[0].values)["place"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_that_is_no_utf_8_is_told_and_not_passed_over(
    encoding: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an editor of Windows may save it: all that it answers would be asked, and nobody would know why."""
    text, good = (
        'name = "archive"\n[data]\npassphrase = "fünf wörter für uns"\n',
        '[data]\nkey_file = "key"\nwhere = "stick"\n',
    )
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place.root))
    for settings, key in ((text.encode(encoding), b""), (good.encode(), "schlüssel".encode(encoding))):
        (place.root / unattended.NAME).write_bytes(settings)
        (place.root / "key").write_bytes(key)
        found = start()
        found.tick()
        assert found.dialogue.step is Step.LANGUAGE
        assert "UTF-8" in dict(place.status().warnings[0].values)["place"]


def test_a_key_file_s_first_mark_is_no_letter_of_the_passphrase(tmp_path: Path) -> None:
    """Of a file that Windows' editor saved: typed by hand, the passphrase did not fit, and nobody can see why."""
    (tmp_path / "key").write_bytes("four plain words\r\n".encode("utf-8-sig"))
    assert given.Given("", tmp_path).key("key") == "four plain words"


def test_the_page_may_not_wipe_nor_open_the_network(place: Place) -> None:
    found = start()
    say(place, found, place.console, "1", "3", "1", "1")
    for what in ("wipe", "network", "card"):
        terminal.ask(place.page, {"what": what, "value": "direct"})
    found.tick()
    assert set(found.modes.values()) == {Mode.NONE}
    assert not found.leaving
    assert list(place.page.iterdir()) == []


def test_the_keys_of_the_console(place: Place) -> None:
    found = start()
    say(place, found, place.console, "1", "3", "1", "1")
    (place.root / "run/sticks").mkdir()
    (place.root / "run/sticks/sdb1.json").write_text('{"id": "sdb1", "name": "K", "state": "offered", "count": 3}')
    terminal.ask(place.console, {"what": "network", "value": "direct"})
    found.tick()
    assert found.modes["eth0"] is Mode.DIRECT
    errand(found)  # a second errand ends the first, which may not have got as far as its line in the log
    for what, value in (("stick", "sdb1"), ("stick", "../../x"), ("pin", "")):
        terminal.ask(place.console, {"what": what, "value": value})
    found.tick()
    assert (place.root / "run/sticks/sdb1.ask").read_text() == "stick"
    errand(found)
    assert place.calls.count("inkstick pin new") == 2, "with the network, and when it was asked for"
    assert place.status().sticks[0].count == 3
    terminal.ask(place.console, {"what": "power", "value": ""})
    found.tick()
    assert place.status().boot == "leaving"
    stopped, off = place.calls.rindex("systemctl stop"), place.calls.rindex("systemctl --no-block poweroff")
    assert stopped < off, "the writers end before the machine does"


def test_a_slow_answer_about_the_pin_is_not_asked_for_again_at_once(place: Place) -> None:
    found = start()
    found.modes = {"eth0": Mode.DIRECT}
    found.send_for_pin("show")
    errand(found)
    found.pin_at -= 2 * keeper.PIN_SECONDS  # so long did it take
    assert found.pair()["pin"] == "12345678"
    assert found.errand is None
    found.pin_at -= 2 * keeper.PIN_SECONDS
    found.pair()
    assert found.errand is not None
    errand(found)


def test_who_started_from_memory_in_vain_is_told_to_leave_the_stick_in(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The menu says that it can be taken out: pulled, the machine switched itself off."""
    monkeypatch.setattr(power, "needs_stick_after_all", lambda *_: True)
    found = start()
    found.tick()
    (line,) = [line for line in place.status().warnings if "leave the stick in" in line.sentence]
    assert line.sentence in language.catalogue("zh")


def test_a_data_volume_that_became_read_only_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error of its disk: the parts of the service fell over it, one after the other, and nobody said why."""
    found, look = start(), os.statvfs
    monkeypatch.setattr(keeper, "_is_volume", lambda _: True)
    monkeypatch.setattr(Keeper, "remember", lambda _: None)
    found.tick()
    assert not [line for line in place.status().warnings if "takes nothing more" in line.sentence]

    def read_only(path: Path) -> os.statvfs_result:
        figures = list(look(path))
        figures[8] |= os.ST_RDONLY
        return os.statvfs_result(figures)

    monkeypatch.setattr(os, "statvfs", read_only)
    found.tick()
    (line,) = [line for line in place.status().warnings if "takes nothing more" in line.sentence]
    assert line.sentence in language.catalogue("zh") and line.action in language.catalogue("zh")


def test_without_the_firewall_s_rules_no_port_is_opened_and_that_is_told(place: Place) -> None:
    """A module of the kernel that cannot be read from a damaged stick, say. The ports came up without any rules."""
    nft = place.root / "bin/nft"
    good = nft.read_text()
    nft.write_text(good.replace("\ntrue\n", '\n[ "$1" != -f ]\n'))
    found = start()
    say(place, found, place.console, "1", "1", "1", "1")
    found.slow_at = -1e9
    found.tick()
    sentence = "The firewall cannot be loaded: every network port stays down."
    assert sentence in [line.sentence for line in place.status().warnings]
    assert sentence in language.catalogue("zh")
    files = {path.name: path.read_text() for path in (place.root / "network").iterdir()}
    assert all("ActivationPolicy=always-down" in text for text in files.values()) and len(files) == 3
    assert place.status().addresses == () and not (place.root / "run/network.env").exists()
    nft.write_text(good)
    found.slow_at = -1e9
    found.tick()
    found.slow_at = -1e9
    found.tick()
    assert "Address=10.77.0.1/24" in (place.root / "network/10-inkstick-eth0.network").read_text()
    assert "https://10.77.0.1/" in place.status().addresses
    assert sentence not in [line.sentence for line in place.status().warnings]


def test_an_address_at_which_the_page_does_not_answer_is_not_shown_as_one(place: Place) -> None:
    """Some offices' and universities' networks have public addresses, which the units refuse: the screen showed one,
    with its code, and nothing answered there."""
    (place.root / "bin/ip").write_text((place.root / "bin/ip").read_text().replace("192.168.1.7", "134.60.1.7"))
    found = start()
    say(place, found, place.console, "1", "2", "1", "1")
    found.slow_at = -1e9
    found.tick()
    assert found.modes["eth0"] is Mode.JOIN and place.status().addresses == ()
    (line,) = [line for line in place.status().warnings if "does not answer" in line.sentence]
    assert dict(line.values) == {"place": "134.60.1.7"}
    assert line.sentence in language.catalogue("zh") and line.action in language.catalogue("zh")


def test_the_share_begins_when_all_is_settled_and_ends_with_the_network(place: Place) -> None:
    found = start()
    told = place.root / "run/share.json"
    terminal.ask(place.console, {"what": "share", "value": ""})
    say(place, found, place.console, "1", "1")
    assert found.wishes.smb and not told.exists() and "dport 445" not in place.calls, (
        "nothing before the first start is done"
    )
    say(place, found, place.page, "1", "1")
    found.slow_at = -1e9
    found.tick()
    offered = share.read(told.read_text())
    assert offered is not None and offered.addresses == ("10.77.0.1", "192.168.1.7")
    assert told.stat().st_mode & 0o777 == 0o600
    assert place.calls.index("dport 445") < place.calls.index("systemctl restart --no-block inkstick-share.service")
    assert (place.root / "data/inbox").is_dir() and (place.root / "data/results").is_dir()
    assert place.status().share == offered.password
    assert offered.password not in place.calls
    before = len(place.calls)
    found.slow_at = -1e9
    found.tick()
    assert "restart" not in place.calls[before:] and "445" not in place.calls[before:], "nothing is started twice"
    terminal.ask(place.page, {"what": "share", "value": ""})
    found.tick()
    assert told.exists(), "the page has no say in it"
    terminal.ask(place.console, {"what": "share", "value": ""})
    before = len(place.calls)
    found.tick()
    assert not told.exists() and place.status().share == ""
    after = place.calls[before:]
    assert "dport 443" in after and "dport 445" not in after
    assert after.index("policy drop") < after.index("systemctl stop inkstick-share.service"), "the port is closed first"
    terminal.ask(place.console, {"what": "share", "value": ""})
    found.tick()
    again = share.read(told.read_text())
    assert again is not None and again.password == offered.password, "one password for each start of the machine"


def test_the_share_ends_before_the_network_the_volume_or_the_machine_does(place: Place) -> None:
    for what, value in (("network", "none"), ("lock", ""), ("power", "")):
        found = start_shared(place)
        before = len(place.calls)
        terminal.ask(place.console, {"what": what, "value": value})
        found.handle(requests.take(place.console, EVERYTHING)[0])
        after = place.calls[before:]
        if what == "power":
            assert "inkstick-share.service" in after.split("systemctl stop")[1].split("\n")[0]
        else:
            assert not (place.root / "run/share.json").exists()
            assert after.index("systemctl stop inkstick-share.service") > after.index("policy drop")


def start_shared(place: Place) -> Keeper:
    """A keeper whose first start is done and whose share is offered."""
    wishes = unattended.text(Wishes(where=Where.MEMORY, network=Mode.DIRECT, smb=True))
    (place.root / "run/keeper.json").write_text(json.dumps({"done": True, "wishes": wishes}))
    found = start()
    found.slow_at = -1e9
    found.tick()
    assert (place.root / "run/share.json").exists()
    return found


def test_a_volume_whose_first_start_failed_after_it_was_made_gets_its_recovery_key(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service did not stop in time, say: the second answer opens a volume that is finished, and has one key."""
    offer, keys = Offer(Where.STICK, State.FREE, "/dev/sda", 10**10, "KINGSTON"), list[str]()
    found, memory = [list[Offer](), [offer]], Offer(Where.MEMORY, State.FREE)
    monkeypatch.setattr(luks, "look", lambda: Survey(tuple(found[0]), (*found[1], memory), ()))
    monkeypatch.setattr(luks, "slots", lambda _: 1 + len(keys))
    monkeypatch.setattr(luks, "add_recovery", lambda _, secret, key: keys.append(key))
    failures = [StillWriting()]

    def take(_: Keeper, dialogue: firststart.Dialogue) -> None:
        found[:] = [[replace(offer, state=State.LOCKED, device="/dev/sda3")], []]
        if failures:
            raise failures.pop()

    monkeypatch.setattr(Keeper, "take_volume", take)
    started = start()
    say(place, started, place.console, "1", "3", "1", "four plain words", "four plain words", "1")
    assert place.question()["step"] == "unlock" and "did not stop" in str(place.question()["problem"])
    say(place, started, place.console, "four plain words")
    assert place.question()["step"] == "recovery" and place.question()["code"] == keys[0]
    say(place, started, place.console, "1")
    terminal.ask(place.console, {"what": "lock", "value": ""})
    started.tick()
    say(place, started, place.console, "four plain words")
    assert started.dialogue.step is Step.DONE and len(keys) == 1


@pytest.fixture
def clock(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock was set to, the last is what it says; and a volume on which it was 2,000,000 s last."""
    offer = Offer(Where.STICK, State.LOCKED, "/dev/sda3", 10**10, "KINGSTON")
    monkeypatch.setattr(luks, "look", lambda: Survey((offer,), (Offer(Where.MEMORY, State.FREE),), ()))
    told = [1_500_000.0]
    monkeypatch.setattr("inkstick_provisioning.keeper.time.time", lambda: told[-1])
    monkeypatch.setattr(keeper, "_set_clock", told.append)
    monkeypatch.setattr(keeper, "_built", lambda: 1_000_000.0)

    def take(found: Keeper, _: object) -> None:
        (place.root / "data/state/last-seen").write_text("2000000")
        monkeypatch.setattr(keeper, "_is_volume", lambda folder: folder == keeper.DATA)

    monkeypatch.setattr(Keeper, "take_volume", take)
    return told


@pytest.mark.parametrize(("typed", "now"), [("1970-01-30 00:00", 2_505_600.0), ("", 2_000_000.0)])
def test_a_clock_that_is_behind_what_the_volume_has_seen_is_asked_for(
    place: Place, clock: list[float], typed: str, now: float
) -> None:
    """The volume's last moment can be read only when it is open; until then the clock may be right."""
    found = start()
    say(place, found, place.console, "1", "3", "four plain words")
    assert (place.question()["step"], clock[-1]) == ("clock", 2_000_000.0)
    found.tick()
    say(place, found, place.console, typed)
    assert found.dialogue.step is Step.DONE and clock[-1] == now
    found.seen_at = -1e9
    found.tick()
    assert float((place.root / "data/state/last-seen").read_text()) == now, "time never goes back by itself"


def test_a_recovery_key_that_was_made_is_shown_whatever_the_clock_says(
    place: Place, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(luks, "slots", lambda _: 1)
    monkeypatch.setattr(luks, "add_recovery", lambda *_: None)
    found = start()
    say(place, found, place.console, "1", "3", "four plain words")
    assert (place.question()["step"], clock[-1]) == ("recovery", 2_000_000.0)


def test_a_clock_that_is_behind_is_set_forward_where_nobody_is_asked(
    place: Place, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock[0] = 0.0
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place.root))
    (place.root / unattended.NAME).write_text('[data]\nwhere = "stick"\npassphrase = "four plain words"\n')
    found = start()
    found.tick()
    assert found.dialogue.step is Step.DONE and clock[1:] == [1_000_000.0, 2_000_000.0]
    assert str(place.status().warnings).count("clock is wrong") == 1


@pytest.mark.parametrize("file", ['[data]\nwhere = "memory"\n', '[data]\nwhere = "stick"\npassphrase = "four words"\n'])
def test_a_clock_that_is_wrong_is_told_where_nobody_is_asked_and_no_volume_knows_better(
    file: str, place: Place, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a new volume, or none, it was set to the day of the image, and nobody was told."""
    clock[0] = 0.0
    monkeypatch.setattr(Keeper, "take_volume", lambda *_: None)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place.root))
    (place.root / unattended.NAME).write_text(file)
    found = start()
    found.tick()
    assert found.dialogue.step is Step.DONE and clock[1:] == [1_000_000.0]
    assert "clock is wrong" in str(place.status().warnings)


def test_a_file_that_leaves_something_to_be_asked_does_not_answer_for_the_clock(
    place: Place, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock[0] = 0.0
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place.root))
    (place.root / unattended.NAME).write_text('language = "en"\n[network]\nmode = "none"\n')
    found = start()
    assert place.question()["step"] == "clock"
    say(place, found, place.console, "1970-01-15 00:00")
    assert (place.question()["step"], clock[-1]) == ("unlock", 1_209_600.0)


def test_a_clock_that_was_typed_is_set_at_once_once_and_holds(place: Place, clock: list[float]) -> None:
    clock[0] = 0.0
    found = start()
    say(place, found, place.console, "1", "3", "1970-01-15 00:00")
    assert clock[1:] == [1_000_000.0, 1_209_600.0], "to the image's date until somebody says better"
    clock[-1] += 600
    say(place, found, place.console, "four plain words")
    assert found.dialogue.step is Step.DONE and clock[-1] == 1_210_200.0


def test_a_wipe_destroys_the_keys_first_and_then_waits_for_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(luks, "wipe", done.append)
    monkeypatch.setattr(keeper, "ask_kernel", done.append)
    monkeypatch.setattr(power, "READ_SECONDS", 0.0)
    found = start()
    say(place, found, place.console, "1", "3", "1", "1")
    found.device, before = "/dev/sda3", place.calls
    found.handle(Asked("wipe"))
    assert done == ["/dev/sda3", "o"]
    assert place.calls == before, "a program that touches the volume would wait for ever, and so would the keeper"
    assert place.status().boot == "leaving"
    assert "destroyed" in place.status().warnings[0].sentence


def test_a_data_disk_that_is_taken_out_is_told_and_one_that_comes_later_is_found(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, volumes = ["sdb1"], list[Offer]()
    monkeypatch.setattr(luks, "look", lambda: Survey(tuple(volumes), (Offer(Where.MEMORY, State.FREE),), ()))
    monkeypatch.setattr(power, "is_gone", lambda device: device in gone)
    found = start()
    say(place, found, place.console, "1", "3")
    assert place.question()["step"] == "where"
    volumes.append(Offer(Where.DISK, State.LOCKED, "/dev/sdb1", 10**10, "T7"))
    say(place, found, place.console, "", "3")
    assert place.question()["step"] == "unlock", "back and on again: it was plugged in meanwhile"
    say(place, found, place.console, "", "1", "1")
    found.tick()
    assert not [line for line in place.status().warnings if "taken out" in line.sentence]
    found.device = "/dev/sdb1"
    found.tick()
    assert "taken out" in place.status().warnings[0].sentence


@pytest.mark.parametrize("state", ["verified", "damaged", "unverified"])
def test_a_damaged_stick_is_named_as_such_on_the_screen(place: Place, state: str) -> None:
    """What inkstick-layers.service writes, in its own words."""
    layers = runpy.run_path(str(REPOSITORY / "image/overlay/app/usr/lib/inkstick/layers.py"))
    found = start()
    (place.root / "run/layers.json").write_text(
        json.dumps(layers["report"]([layers["Layer"]("60-app.squashfs", state != "unverified", state == "damaged")]))
    )
    found.tick()
    told = [line.sentence for line in place.status().warnings]
    assert told == ([] if state == "verified" else [layers["SENTENCES"][state]])
    assert all(sentence in language.catalogue("zh") for sentence in told)


def test_a_wipe_destroys_a_volume_that_nobody_opened(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever must not be found with the documents may not have their passphrase at hand, nor the time to type it."""
    done: list[str] = []
    stick = Offer(Where.STICK, State.LOCKED, "/dev/sda3", 10**10, "KINGSTON")
    other = replace(stick, where=Where.DISK, device="/dev/sdb1")
    volumes = [(stick, other), (other,), (other, replace(other, device="/dev/sdc1")), ()]
    monkeypatch.setattr(luks, "look", lambda: Survey(volumes[0], (Offer(Where.MEMORY, State.FREE),), ()))
    monkeypatch.setattr(luks, "wipe", done.append)
    monkeypatch.setattr(keeper, "ask_kernel", done.append)
    monkeypatch.setattr(power, "READ_SECONDS", 0.0)
    found = start()
    say(place, found, place.console, "1", "3", "", "3", "1")
    assert found.dialogue.step is Step.DONE, "in memory"
    found.handle(Asked("wipe"))
    assert done == ["/dev/sda3", "o"], "the one beside it may be somebody else's"
    volumes.pop(0)
    found.handle(Asked("wipe"))
    assert done[2:] == ["/dev/sdb1", "o"]
    volumes.pop(0)
    with pytest.raises(SetupError, match="more than one"):
        found.handle(Asked("wipe"))
    volumes.pop(0)
    found.handle(Asked("wipe"))
    assert done[4:] == [] and "systemctl --no-block poweroff" in place.calls


def test_a_card_is_judged_again_when_its_driver_has_started_and_not_before(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs, facts = ["not tried"], Facts(displays=(Pci(NVIDIA, 0x2717),), tried="")
    looks: list[str] = []

    def look() -> Facts:
        looks.append(signs[0])
        return facts if signs == ["not tried"] else replace(facts, driven=(CARD,), tried="ready")

    monkeypatch.setattr(machine, "signs", lambda: tuple(signs))
    monkeypatch.setattr(machine, "look", look)
    found = start()
    for _ in range(3):
        found.slow_at = -1e9
        found.tick()
    assert "is being started" in str(place.status().card)
    assert looks == ["not tried"], "a driver that hangs is not asked again and again"
    signs[0] = "ready"
    found.slow_at = -1e9
    found.tick()
    assert "reads the pages" in str(place.status().card)


def test_what_is_to_be_known_of_the_computer_is_on_the_screen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "look", lambda: Facts(displays=(Pci(NVIDIA, 0x2717, removable=True),), memory=2 * GIB))
    found = start()
    found.tick()
    told = " ".join(line.sentence for line in place.status().warnings)
    assert "little memory" in told and "Do not unplug it" in told


def test_requests_are_taken_once_in_order_and_never_through_a_link(tmp_path: Path) -> None:
    folder, outside = tmp_path / "requests", tmp_path / "outside"
    for path in (folder, outside):
        path.mkdir()
    (outside / "precious.json").write_text('{"what": "lock"}')
    (folder / "2.json").write_text('{"what": "pin"}')
    (folder / "1.json").write_text('{"what": "answer", "value": "x", "number": 4}')
    (folder / "3.json").symlink_to(outside / "precious.json")
    (folder / "4.json").write_text("[]")
    (folder / "5.json").write_text("{" + " " * 10000 + '"what": "pin"}')
    (folder / "6.json").mkdir()
    os.mkfifo(folder / "7.json")
    for number, text in enumerate(('{"what": "pin", "number": 1e999}', '{"what": ' + "[" * 8000, HALF), 80):
        (folder / f"{number}.json").write_text(text)
    (folder / ".8.json.part").write_text('{"what": "pin"}')
    assert take(folder, EVERYTHING) == [Asked("answer", "x", 4), Asked("pin")]
    assert take(folder, EVERYTHING) == []
    assert (outside / "precious.json").exists()
    link = tmp_path / "link"
    link.symlink_to(outside)
    assert take(link, EVERYTHING) == []
    assert (outside / "precious.json").exists()
    assert take(tmp_path / "missing", PAGE) == []
    assert requests.PAGE < requests.EVERYTHING


def test_a_folder_whose_disk_is_gone_asks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: int) -> list[str]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("inkstick_provisioning.requests.os.listdir", gone)
    assert take(tmp_path, EVERYTHING) == []


@pytest.mark.parametrize(("kept", "said"), [(True, "is safe"), (False, "in memory only, and are lost")])
def test_the_boot_stick_gone_writers_stop_it_is_said_and_the_kernel_switches_off(
    place: Place, monkeypatch: pytest.MonkeyPatch, kept: bool, said: str
) -> None:
    """Whatever else there is to do may need a stick that is not there any more: it is not begun."""
    found, order = Keeper(), []
    monkeypatch.setattr(keeper, "_is_volume", lambda _: kept)
    monkeypatch.setattr(Keeper, "remember", lambda _: None)
    place.log.unlink(missing_ok=True)
    monkeypatch.setattr(power, "is_gone", lambda _: True)
    monkeypatch.setattr(units, "freeze", lambda names: order.append("freeze" if names == units.WRITERS else ""))
    monkeypatch.setattr("inkstick_provisioning.keeper.time.sleep", lambda _: order.append("time to read"))

    def ask_kernel(letters: str) -> None:
        order.append(letters)
        raise SystemExit

    monkeypatch.setattr(keeper, "ask_kernel", ask_kernel)
    monkeypatch.setattr(requests, "take", lambda *_: order.append("requests"))
    with pytest.raises(SystemExit):
        found.tick()
    assert order == ["freeze", "time to read", "suo"]
    (line,) = place.status().warnings
    assert "is gone" in line.sentence and said in line.sentence and place.status().boot == "leaving"
    assert line.sentence in language.catalogue("zh")
    assert place.calls == "", "no program is started"


def test_a_passphrase_is_in_no_repr() -> None:
    assert "geheim" not in repr(Asked("answer", "geheim"))


def test_what_is_kept_for_a_restart_reads_back() -> None:
    wishes = Wishes("zh", Where.STICK, "", "", "", Mode.JOIN, {"eth1": Mode.DIRECT}, Usb.INBOX, name="box-1")
    assert unattended.parse(unattended.text(wishes)) == wishes
    assert "geheim" not in unattended.text(Wishes(passphrase="geheim 123"))


def test_addresses_are_those_of_ports_in_use() -> None:
    listed = json.dumps([
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "scope": "host"}]},
        {"ifname": "a", "addr_info": [{"local": "10.77.0.1", "scope": "global"}]},
        {"ifname": "a", "addr_info": [{"local": "169.254.1.1", "scope": "link"}]},
        {"ifname": "b", "addr_info": [{"local": "192.168.1.9", "scope": "global"}]},
        {"ifname": "c", "addr_info": [{"local": "172.16.0.1", "scope": "global"}]},
    ])  # fmt: skip
    modes = {"a": Mode.DIRECT, "b": Mode.JOIN, "c": Mode.NONE}
    assert addresses(modes, listed) == ("https://10.77.0.1/", "https://192.168.1.9/")
    assert addresses({}, "") == ()


def test_a_network_that_gives_no_address_is_reached_at_the_one_that_the_port_took_itself() -> None:
    """The page answered at it, and the screen said that there is no address yet."""
    link = {"ifname": "b", "addr_info": [{"local": "169.254.7.9", "scope": "link"}]}
    given = {"ifname": "b", "addr_info": [{"local": "192.168.1.9", "scope": "global"}, *link["addr_info"]]}
    assert addresses({"b": Mode.JOIN}, json.dumps([link])) == ("https://169.254.7.9/",)
    assert addresses({"b": Mode.JOIN}, json.dumps([given])) == ("https://192.168.1.9/",)
    assert addresses({"b": Mode.NONE}, json.dumps([link])) == ()


def test_of_several_ports_the_one_with_a_cable_in_it_has_the_first_address_and_the_code() -> None:
    """Whoever typed the first one, or scanned it, waited for a port with nothing in it. The share stays as it is."""
    modes = {"a": Mode.DIRECT, "b": Mode.DIRECT}
    two = [
        {"ifname": name, "flags": flags, "addr_info": [{"local": f"10.77.{at}.1", "scope": "global"}]}
        for at, (name, flags) in enumerate((("a", ["NO-CARRIER", "UP"]), ("b", ["UP", "LOWER_UP"])))
    ]
    found = addresses(modes, json.dumps(two))
    assert found == ("https://10.77.1.1/", "https://10.77.0.1/")
    both = addresses(modes, "")
    assert both == ("https://10.77.0.1/", "https://10.77.1.1/")
    assert share.reached(found, modes, wished=True, settled=True) == share.reached(
        both, modes, wished=True, settled=True
    )


def test_what_systemd_says() -> None:
    shown = "Id=inkstick-serve.service\nActiveState=active\nStatusText=a=b\n\n"
    shown += "Id=inkstick-watch.service\nActiveState=failed\n"
    assert units.states(shown) == (("serve", "active", "a=b"), ("watch", "failed", ""))
    assert units.states("") == ()


def test_writers_are_frozen_without_starting_a_program(tmp_path: Path) -> None:
    switches = [tmp_path / path / "cgroup.freeze" for path in ("a.service", "system-b.slice/b@7.service")]
    for switch in switches:
        switch.parent.mkdir(parents=True)
        switch.write_text("0")
    units.freeze(["a.service", "missing.service", "b@*.service"], tmp_path)
    assert [switch.read_text() for switch in switches] == ["1", "1"]


def test_a_file_that_windows_gave_another_end_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notepad adds .txt, the Explorer hides it, and the first start asked everything as if there were no file."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place.root))
    (place.root / "inkstick.toml.txt").write_text("language = 'zh'")
    found = start()
    found.tick()
    assert found.dialogue.step is Step.LANGUAGE
    (line,) = [line for line in place.status().warnings if "inkstick.toml" in line.sentence]
    assert "is called inkstick.toml.txt" in dict(line.values)["place"]
    (place.root / "inkstick.toml").write_text("language = 'zh'")
    assert start().dialogue.wishes.language == "zh"


def test_a_key_file_lies_beside_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert given.find() is None
    (tmp_path / "inkstick.toml").write_text("language = 'en'")
    (tmp_path / "inkstick.key").write_text("0123456789abcdef\n")
    found = given.find()
    assert found and found.key("inkstick.key") == "0123456789abcdef"
    assert found.key("missing") == ""


@pytest.mark.parametrize(
    ("states", "ended"),
    [("inactive\nfailed\ninactive\n", True), ("inactive\nactive\n", False), ("", False)],  # (systemd answered nothing)
)
def test_memory_is_not_carried_away_while_a_writer_runs(
    monkeypatch: pytest.MonkeyPatch, states: str, ended: bool
) -> None:
    asked: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> str:
        asked.append(command)
        return states if "show" in command else ""

    monkeypatch.setattr(units, "run", run)
    with contextlib.nullcontext() if ended else pytest.raises(StillWriting):
        units.stop_writers(["inkstick-usb@sdb1.service"])
    assert asked[0] == ["systemctl", "stop", *units.WRITERS, "inkstick-usb@sdb1.service"]


def test_a_stick_that_is_being_copied_stops_while_the_data_folder_changes_and_goes_on_then(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it copied into memory after that was carried onto the volume would be lost, and its journal know it."""
    running, order = ["inkstick-usb@sdb1.service"], []

    def run(command: Sequence[str], *_: object) -> str:
        if command[:2] == ["systemctl", "list-units"]:
            return "".join(f"{unit} loaded active running Documents from the stick\n" for unit in running)
        order.append(" ".join(command))
        if command[:2] == ["systemctl", "stop"]:
            running.clear()
        return "inactive\n" if command[:2] == ["systemctl", "show"] else ""

    found = start()
    monkeypatch.setattr(units, "run", run)
    monkeypatch.setattr(keeper, "OPENED", place.root / "volume")
    monkeypatch.setattr(keeper, "USER", os.getuid())
    (place.root / "volume").mkdir()
    monkeypatch.setattr(luks, "prepare", lambda *_: Checked.CLEAN)
    monkeypatch.setattr(luks, "carry", lambda *_: order.append("carry"))
    monkeypatch.setattr(luks, "mount", lambda *_: order.append("mount"))
    monkeypatch.setattr(luks, "close", lambda: order.append("close"))
    monkeypatch.setattr(keeper, "_mount", lambda _: None)
    offer = Offer(Where.STICK, State.LOCKED, "/dev/sda3")
    found.take_volume(replace(found.dialogue, offer=offer, secret="four plain words"))
    stopped = next(line for line in order if line.startswith("systemctl stop"))
    assert "inkstick-usb@sdb1.service" in stopped and order.index(stopped) < order.index("carry")
    assert order[-1] == "systemctl start --no-block inkstick-watch.service inkstick-serve.service " + (
        "inkstick-usb@sdb1.service"
    )
    running.append("inkstick-usb@sdb1.service")
    found.close_volume()
    assert "inkstick-usb@sdb1.service" in order[-4] and order[-3] == "close"
    assert order[-2] == "systemctl restart --no-block inkstick-settings.service", "memory has room for another reserve"
    assert "inkstick-usb@sdb1.service" in order[-1] and "start" in order[-1]


def test_a_volume_that_somebody_still_uses_stays_open_is_told_and_reading_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its services were stopped for it, and nothing started them again."""
    found = start()
    say(place, found, place.console, "1", "1", "1", "1")
    found.device = "/dev/sda3"
    busy = subprocess.CalledProcessError(32, ["umount"])
    monkeypatch.setattr(keeper, "_is_volume", lambda folder: folder == keeper.DATA)
    monkeypatch.setattr(keeper, "_mount", lambda _: (_ for _ in ()).throw(busy))
    terminal.ask(place.console, {"what": "lock", "value": ""})
    before = len(place.calls)
    found.tick()
    after = place.calls[before:]
    assert after.index("systemctl stop") < after.index("systemctl start --no-block inkstick-watch.service")
    assert found.errand is None, "what the keeper itself started there is ended too"
    assert (found.device, found.dialogue.step) == ("/dev/sda3", Step.DONE)
    assert "could not be locked" in place.status().warnings[-1].sentence


def test_after_a_lock_the_network_stays_as_it_is_whatever_is_answered(place: Place) -> None:
    found = start()

    def modes() -> str:
        return found.modes["eth0"].value

    say(place, found, place.console, "1", "1", "1", "1")
    terminal.ask(place.console, {"what": "lock", "value": ""})
    found.tick()
    assert place.question()["step"] == "where" and modes() == "direct"
    say(place, found, place.console, "", "", "1")  # back to the language, and on
    assert (place.question()["step"], modes()) == ("network", "direct")
    say(place, found, place.console, "2", "1", "1")
    assert found.dialogue.step is Step.DONE and modes() == "join"


def test_a_wrong_passphrase_stops_nobody(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service was started anew after each: the page was gone for whoever typed it there, and what was being read.
    What came as far as an open volume is closed."""
    offer = Offer(Where.STICK, State.LOCKED, "/dev/sda3", 10**10, "KINGSTON")
    monkeypatch.setattr(luks, "look", lambda: Survey((offer,), (Offer(Where.MEMORY, State.FREE),), ()))
    monkeypatch.setattr(luks, "prepare", lambda *_: (_ for _ in ()).throw(WrongKey()))
    found = start()
    say(place, found, place.console, "1", "3")
    before = len(place.calls)
    say(place, found, place.page, "not these words")
    assert (place.question()["step"], "does not open" in str(place.question()["problem"])) == ("unlock", True)
    assert "systemctl stop" not in place.calls[before:]
    monkeypatch.setattr(volume, "MAPPER", str(place.root / "log"))
    monkeypatch.setattr(luks, "close", lambda: None)
    say(place, found, place.page, "four plain words")
    assert "systemctl stop" in place.calls[before:]


def test_with_another_data_folder_its_own_pin_and_fingerprint_are_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a minute after the passphrase was typed the screen showed PIN and fingerprint of the folder in memory: the
    one was refused, the other meant that somebody is in between. After a lock there was no PIN at all."""
    answers = place.root / "answers"
    (place.root / "bin/inkstick").write_text(SCRIPT.format(name="inkstick", log=place.log, answer=f'cat "{answers}"'))

    def serves(pin: str, fingerprint: str) -> None:
        answers.write_text(json.dumps({"pin": pin, "fingerprint": fingerprint}))

    def shown() -> tuple[str, str]:
        errand(found)
        found.tick()
        return place.status().pin, place.status().fingerprint

    serves("11111111", "AA:AA")
    offer = Offer(Where.STICK, State.LOCKED, "/dev/sda3", 10**10, "KINGSTON")
    monkeypatch.setattr(luks, "look", lambda: Survey((offer,), (Offer(Where.MEMORY, State.FREE),), ()))
    monkeypatch.setattr(luks, "prepare", lambda *_: Checked.CLEAN)
    monkeypatch.setattr(luks, "slots", lambda _: 2)
    monkeypatch.setattr(luks, "mount", lambda *_: None)
    monkeypatch.setattr(luks, "close", lambda: None)
    monkeypatch.setattr(keeper, "_mount", lambda _: None)
    monkeypatch.setattr(keeper, "OPENED", place.root / "volume")
    monkeypatch.setattr(os, "chown", lambda *_: None)
    monkeypatch.setattr(units, "stop_writers", lambda _: None)
    (place.root / "volume").mkdir()
    found = start()
    say(place, found, place.console, "1", "1")
    assert shown() == ("1111 1111", "AA:AA")
    serves("22222222", "BB:BB")
    say(place, found, place.console, "four plain words")
    assert place.status().pin != "1111 1111" and place.status().fingerprint != "AA:AA"
    assert found.dialogue.step is Step.DONE and shown() == ("2222 2222", "BB:BB")
    serves("33333333", "CC:CC")
    terminal.ask(place.console, {"what": "lock", "value": ""})
    found.tick()
    assert place.question()["step"] == "unlock" and (place.root / "data/state").is_dir()
    assert place.status().pin != "2222 2222" and place.status().fingerprint != "BB:BB"
    assert shown() == ("3333 3333", "CC:CC")


def test_a_volume_that_an_attempt_left_open_is_closed_before_another_is_opened(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file system would be checked while it is mounted, and called damaged; or be taken for the other one's."""
    order: list[str] = []

    def prepare(*_: object) -> Checked:
        order.append("prepare")
        raise StillWriting

    found = start()
    monkeypatch.setattr(volume, "MAPPER", str(place.root / "log"))
    monkeypatch.setattr(luks, "close", lambda: order.append("close"))
    monkeypatch.setattr(luks, "prepare", prepare)
    offer = Offer(Where.STICK, State.LOCKED, "/dev/sda3")
    with pytest.raises(StillWriting):
        found.take_volume(replace(found.dialogue, offer=offer, secret="four plain words"))
    assert order == ["close", "prepare"]


def test_no_document_s_name_is_on_the_screen_when_something_goes_wrong() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/var/lib/inkstick/inbox/Case 12 Smith.pdf")
    assert "Smith" not in repr(keeper._fault(full)) and "No space left" in repr(keeper._fault(full))


def test_what_the_service_laid_in_place_of_its_files_leads_the_keeper_nowhere(place: Place) -> None:
    """A pipe would hold the keeper up for good, a link would have it read what is not the service's."""
    tls, secret = place.root / "data/state/tls", place.root / "secret.pem"
    tls.mkdir()
    secret.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert keeper.fingerprint(place.root) != ""
    os.mkfifo(tls / "a.pem")
    (tls / "b.pem").symlink_to(secret)
    assert keeper.fingerprint(tls) == ""


def test_the_folder_for_the_pin_is_made_as_the_service_and_never_through_a_link(place: Place) -> None:
    state, elsewhere = place.root / "data/state", place.root / "elsewhere"
    shutil.rmtree(state)
    keeper.as_service(keeper._make_state)
    assert state.is_dir()
    state.rmdir()
    state.symlink_to(elsewhere)
    keeper.as_service(keeper._make_state)
    assert not elsewhere.exists()
