"""USB sticks on an appliance that was set up by inkstick.toml: the folder that starts by itself, a stick that is pulled
out in the middle, a full volume, and the boot stick itself pulled out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.appliance import printed
from vm.laptop import DATA, PATIENCE, Laptop, listed, stick, until, usb_stick
from vm.screen import keep

SECRET = "four plain words here"
# No network: the PIN, which is asked for again and again, takes a third of an emulated processor.
SETTINGS = f"""
language = "zh"
[data]
where = "stick"
passphrase = "{SECRET}"
[network]
mode = "none"
[usb]
read = "inbox"
"""
LETTER = printed("The letter of the archive")
LARGE = 2 << 20
SLOW = 1 << 20
"""Bytes in a second of a stick that is pulled out before all of it is copied."""

pytestmark = [pytest.mark.vm_full, pytest.mark.timeout(6 * PATIENCE)]


@pytest.fixture(scope="module")
def laptop(iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """Started from a real USB stick, as people do, and answered by nobody."""
    with Laptop(stick(iso, tmp_path_factory.mktemp("stick")), SETTINGS, bus="usb") as laptop:
        laptop.wait(PATIENCE)
        yield laptop


def documents(count: int) -> dict[str, bytes]:
    letter = LETTER
    return {f"{number}.pdf": letter + b"\n%" + os.urandom(LARGE).hex().encode() for number in range(count)}


def hashes(laptop: Laptop) -> str:
    """Of every document that the appliance holds, wherever it is."""
    folders = [f"{DATA}/{name}" for name in ("inbox", "done", "failed", "state/spool")]
    return laptop.text(
        "find", *folders, "-type", "f", "-size", "+1M", "-exec", "sha256sum", "{}", "+", seconds=PATIENCE
    )


def test_the_file_s_answers_make_the_volume_and_nothing_is_asked(laptop: Laptop) -> None:
    laptop.wait_for("done")
    assert "/dev/mapper/inkstick-data" in laptop.text("findmnt", "--noheadings", DATA)
    assert SECRET not in laptop.text("sh", "-c", "cat /run/inkstick/*; journalctl -b")
    laptop.show("ready-zh")


def test_a_folder_for_us_starts_by_itself_and_its_results_come_back(laptop: Laptop, tmp_path: Path) -> None:
    image = usb_stick(tmp_path / "usb.img", {"inkstick-inbox/a.pdf": LETTER, "not-for-us.pdf": b"%PDF-"})
    laptop.plug(image)
    until(lambda: laptop.stick_state() == "exported", laptop.journal)
    laptop.unplug()
    laptop.forget()
    names = listed(image)
    assert any(name.startswith("inkstick-results/") and name.endswith("/a.md") for name in names), names
    assert not any("not-for-us" in name for name in names if name.startswith("inkstick-results/"))


def test_pulled_out_in_the_middle_nothing_is_lost(laptop: Laptop, tmp_path: Path) -> None:
    until(lambda: laptop.stick_state() == "", laptop.journal)  # nothing is told of the stick before it any more
    papers = documents(12)
    image = usb_stick(tmp_path / "usb.img", {f"inkstick-inbox/{name}": data for name, data in papers.items()}, mib=128)
    laptop.plug(image, slow=SLOW)
    until(lambda: bool(laptop.status().get("sticks")) and laptop.status()["sticks"][0]["done"] >= 1, laptop.journal)
    laptop.unplug()
    until(lambda: laptop.stick_state() in ("stopped", ""), laptop.journal)
    laptop.forget()
    held = [name for name, data in papers.items() if hashlib.sha256(data).hexdigest() in hashes(laptop)]
    print(f"pulled out after {len(held)} of {len(papers)} documents")
    assert 1 <= len(held) < len(papers)
    laptop.plug(image, "again")
    until(lambda: laptop.stick_state() in ("copied", "exporting", "exported"), laptop.journal)
    found = hashes(laptop)
    assert all(hashlib.sha256(data).hexdigest() in found for data in papers.values())
    laptop.unplug("again")
    laptop.forget("again")


def test_a_full_volume_is_told_and_takes_nothing_and_goes_on_when_there_is_room(laptop: Laptop, tmp_path: Path) -> None:
    until(lambda: laptop.stick_state() == "", laptop.journal)
    free = laptop.status()["free"]
    filler = f"{DATA}/state/filler"
    assert laptop.run("fallocate", "--length", str(free - (8 << 20)), filler)[0] == 0
    until(lambda: any("full" in line["sentence"] for line in laptop.status().get("warnings", ())), laptop.journal)
    laptop.show("full-zh")
    papers = documents(1)
    image = usb_stick(tmp_path / "usb.img", {f"inkstick-inbox/{name}": data for name, data in papers.items()})
    laptop.plug(image)
    until(lambda: laptop.stick_state() == "no_room", laptop.journal)
    laptop.unplug()
    laptop.forget()
    laptop.run("rm", filler)
    until(lambda: laptop.stick_state() == "", laptop.journal)
    laptop.plug(image, "again")
    until(lambda: laptop.stick_state() in ("copied", "exporting", "exported"), laptop.journal)
    assert all(hashlib.sha256(data).hexdigest() in hashes(laptop) for data in papers.values())
    laptop.unplug("again")


def test_the_boot_stick_pulled_out_it_says_so_and_switches_itself_off(laptop: Laptop) -> None:
    laptop.unplug("bootstick")
    until(lambda: any("is gone" in line["sentence"] for line in laptop.status().get("warnings", ())), seconds=PATIENCE)
    keep(laptop.picture(), "stick-gone-zh")  # at once: it is about to switch off
    laptop.wait_off()
