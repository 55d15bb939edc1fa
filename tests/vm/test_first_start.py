"""A person without a manual: first start on the screen, a USB stick, power off, and the next start with the passphrase.

One stick goes through all of it, in the order of the tests: two boots of one machine. Keys are pressed on the emulated
keyboard, and what is looked at is the emulated screen and the emulated sticks.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from inkstick_provisioning.faults import WrongKey
from inkstick_provisioning.language import say
from vm.appliance import printed
from vm.laptop import DATA, PATIENCE, Laptop, listed, stick, until, usb_stick
from vm.screen import keep

PASSPHRASE = "Four plain words here!"
LETTER = printed("The letter of the archive")
SECTOR = 512
HEADER_BYTES = 16 << 20
"""Of LUKS2, as cryptsetup makes it."""
LETTER_HEIGHT = 16
"""Of the text console, in pixels."""
LANGUAGE = os.environ.get("INKSTICK_PICTURES_LANGUAGE", "en")
"""In which the person answers, and the pictures are; the second language of the first question is zh."""

pytestmark = [pytest.mark.vm_full, pytest.mark.timeout(4 * PATIENCE)]


@pytest.fixture(scope="module")
def medium(iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stick(iso, tmp_path_factory.mktemp("stick"))


@pytest.fixture(scope="module")
def kingston(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {"papers/letter.pdf": LETTER, "papers/broken.pdf": b"%PDF-1.7\n", "notes.exe": b"MZ"}
    return usb_stick(tmp_path_factory.mktemp("usb") / "kingston.img", files)


@pytest.fixture(scope="module")
def first(medium: Path) -> Iterator[Laptop]:
    """The first boot, until it has switched itself off."""
    with Laptop(medium) as laptop:
        print(f"first start: agent after {laptop.wait(PATIENCE):.0f} s")
        yield laptop


@pytest.fixture(scope="module")
def second(first: Laptop, medium: Path) -> Iterator[Laptop]:
    """The same stick, started again."""
    first.close()
    with Laptop(medium) as laptop:
        print(f"second start: agent after {laptop.wait(PATIENCE):.0f} s")
        yield laptop


def named(step: str) -> str:
    return step if LANGUAGE == "en" else f"{step}-{LANGUAGE}"


def kept(laptop: Laptop) -> str:
    """What is mounted at the data folder, and how."""
    return laptop.text("findmnt", "--noheadings", "--output", "SOURCE,FSTYPE,OPTIONS", DATA).strip().splitlines()[-1]


def test_the_dialogue_on_the_screen_makes_an_encrypted_volume_on_the_stick(first: Laptop) -> None:
    for step, typed in (
        ("language", "1" if LANGUAGE == "en" else "2"),
        ("network", "1"),
        ("where", "1"),
        ("passphrase", PASSPHRASE),
        ("again", PASSPHRASE),
        ("confirm", "1"),
        ("recovery", "1"),
    ):
        first.wait_for(step)
        first.show(named(step))
        first.type(f"{typed}\n")
    first.wait_for("done")
    assert kept(first).startswith("/dev/mapper/inkstick-data ext4"), kept(first)
    assert "noexec" in kept(first)
    assert PASSPHRASE not in first.text("sh", "-c", "cat /run/inkstick/*.json; journalctl -b")
    print(f"first start: volume after {first.seconds:.0f} s")


def test_the_screen_s_code_leads_to_the_page_at_the_address_that_the_port_has(first: Laptop) -> None:
    until(lambda: bool(first.status().get("addresses")), first.journal)
    until(first.working, first.journal)
    print(f"first start: the page answers after {first.seconds:.0f} s")
    until(lambda: code_on(first) != "", first.journal)
    first.type("i")  # that of the start is gone by now on a slow machine
    until(lambda: bool(first.status().get("pin")), first.journal)
    first.show(named("ready"))
    assert code_on(first) == first.status()["addresses"][0] == "https://10.77.0.1/"
    assert "10.77.0.1/24" in first.text("ip", "-4", "address")


def code_on(laptop: Laptop) -> str:
    """What the QR code on the screen says, "" where none can be read."""
    shown = np.asarray(laptop.picture().convert("L"))
    large = cv2.resize(shown, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    return str(cv2.QRCodeDetector().detectAndDecode(large)[0])


def test_a_stick_is_offered_and_on_a_yes_copied(first: Laptop, kingston: Path) -> None:
    first.plug(kingston)
    until(lambda: first.stick_state() == "offered", first.journal)
    offered = first.status()["sticks"][0]
    assert (offered["name"], offered["count"]) == ("KINGSTON", 2), "what is no document is not counted"
    first.show(named("usb-offered"))
    first.type("y")
    until(lambda: first.stick_state() == "copied", first.journal)
    until(lambda: first.accepted(LETTER), first.journal)
    first.show(named("usb-copied"))


def test_results_are_carried_back_onto_the_stick(first: Laptop, kingston: Path) -> None:
    for folder, name in (("results", "letter.md"), ("failed", "broken.pdf.error.json")):
        until(lambda: bool(first.text("find", f"{DATA}/{folder}", "-name", name)), first.journal)  # noqa: B023
    print(f"first start: read after {first.seconds:.0f} s")
    first.type("b")
    until(lambda: first.stick_state() == "exported", first.journal)
    first.show(named("usb-exported"))
    first.unplug()
    first.forget()
    names = listed(kingston)
    assert any(name.startswith("inkstick-results/") and name.endswith("/letter.md") for name in names), names
    assert any(name.endswith("broken.pdf.error.json") for name in names), names
    assert {"papers/letter.pdf", "papers/broken.pdf", "notes.exe"} <= set(names)


def test_it_switches_itself_off_in_good_order(first: Laptop) -> None:
    first.type("p")
    first.show(named("power-off"))
    first.type("y")
    first.wait_off()


def test_the_next_start_asks_for_the_passphrase_only_and_everything_is_there(second: Laptop) -> None:
    second.wait_for("unlock")
    second.show(named("unlock"))
    second.type("not this one\n")
    wrong = say(LANGUAGE, WrongKey.default_message)
    until(lambda: wrong in second.json("/run/inkstick/first-start.json")["problem"], second.journal)
    second.show(named("unlock-wrong"))
    second.type(f"{PASSPHRASE}\n")
    second.wait_for("done")
    assert kept(second).startswith("/dev/mapper/inkstick-data ext4")
    assert second.text("find", f"{DATA}/results", "-name", "letter.md")
    assert second.text("find", f"{DATA}/done", "-name", "letter.pdf")
    told = [line["sentence"] for line in second.json("/run/inkstick/status.json")["warnings"]]
    assert not [sentence for sentence in told if "repaired" in sentence], "it was closed properly"


def test_a_wipe_destroys_every_key_and_switches_off(second: Laptop, medium: Path) -> None:
    told = second.text("cryptsetup", "status", "inkstick-data").splitlines()
    part = next(line.split()[1].removeprefix("/dev/") for line in told if line.strip().startswith("device:"))
    start = int(second.text("cat", f"/sys/class/block/{part}/start")) * SECTOR
    assert keyslots(medium, start) != {}
    second.type("w")
    second.show(named("wipe"))
    second.type("WIPE\n")
    before = second.picture()
    until(lambda: keyslots(medium, start) == {})
    keep(last_words(second, before), named("wiped"))
    second.wait_off()
    print(f"second start: wiped and off after {second.seconds:.0f} s")


def last_words(laptop: Laptop, before: Image.Image) -> Image.Image:
    """The screen of the few seconds before it switches itself off: what is being done, its first line, has changed."""
    line = (0, 0, before.width, LETTER_HEIGHT)
    until(lambda: laptop.picture().crop(line).tobytes() != before.crop(line).tobytes())
    return laptop.picture()


def keyslots(medium: Path, start: int) -> dict[str, object]:
    """What opens the volume that begins at a byte of a stick, {} also where no header is left: it is noise then."""
    with medium.open("rb") as stick, tempfile.NamedTemporaryFile() as header:
        stick.seek(start)
        header.write(stick.read(HEADER_BYTES))
        header.flush()
        dump = ["cryptsetup", "luksDump", "--dump-json-metadata", header.name]
        done = subprocess.run(dump, capture_output=True)
    found: dict[str, object] = json.loads(done.stdout)["keyslots"] if done.returncode == 0 else {}
    return found
