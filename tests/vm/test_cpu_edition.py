"""The cpu edition boots, says what it is, and reads documents; nothing is left unverified or failed.

One boot under BIOS serves several tests. QEMU emulates every instruction: a page that a laptop reads in a second takes
minutes here, so the scan is a small one. Limits are against hangs only.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from vm.machine import OVMF_CODE, Machine

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
BOOT_SECONDS = 1200
READ_SECONDS = 1500
DATA = "/var/lib/inkstick"
UNITS = ("inkstick-serve", "inkstick-watch", "inkstick-console", "inkstick-layers")

pytestmark = pytest.mark.timeout(BOOT_SECONDS + READ_SECONDS + 600)


@pytest.fixture(scope="module")
def machine(iso: Path) -> Iterator[Machine]:
    with Machine(iso) as machine:
        print(f"BIOS: agent after {machine.wait(BOOT_SECONDS):.0f} s")
        wait_for_services(machine)
        print(f"BIOS: services after {machine.seconds:.0f} s")
        yield machine


def wait_for_services(machine: Machine) -> None:
    """Until every unit of ours is up. Fails with the journal."""
    end = time.monotonic() + BOOT_SECONDS
    while True:
        shown = machine.text("systemctl", "show", "--property=ActiveState", "--value", *UNITS)
        if shown.split() == ["active"] * len(UNITS):
            return
        if time.monotonic() > end:
            pytest.fail(f"{shown!r}\n{journal(machine)}")
        time.sleep(3)


def journal(machine: Machine) -> str:
    return machine.text("journalctl", "-b", "--no-pager", "-n", "80")


def drop(machine: Machine, name: str, content: bytes) -> None:
    """As a person would: the document appears in the inbox whole."""
    part = f"{DATA}/inbox/.part"
    machine.run("sh", "-c", f"cat > {part} && chown inkstick: {part} && mv {part} {DATA}/inbox/{name}", data=content)


def read(machine: Machine, name: str) -> str:
    """All text of the document `name`, once it is read. Fails with the journal."""
    stem, end = name.rpartition(".")[0], time.monotonic() + READ_SECONDS
    while True:
        status, out, _ = machine.run("cat", f"{DATA}/results/{stem}/{stem}.json")
        if status == 0:
            record: dict[str, Any] = json.loads(out)
            return " ".join(block["text"] for page in record["pages"] for block in page["blocks"])
        if time.monotonic() > end:
            pytest.fail(f"not read: {machine.text('find', DATA, '-type', 'f')}\n{journal(machine)}")
        time.sleep(5)


def scan(words: str) -> bytes:
    """A small scanned line, as PNG."""
    page = Image.new("L", (640, 200), 255)
    font = ImageFont.load_default(40)
    ImageDraw.Draw(page).text((40, 70), words, fill=0, font=font)
    out = io.BytesIO()
    page.save(out, "PNG", dpi=(150, 150))
    return out.getvalue()


def layers(machine: Machine, *options: str) -> dict[str, Any]:
    """What the check after boot says."""
    said = machine.text("/usr/bin/python3", "/usr/lib/inkstick/layers.py", *options, seconds=BOOT_SECONDS)
    answer: dict[str, Any] = json.loads(said)
    return answer


def test_every_layer_is_verified_by_the_kernel_and_the_state_file_says_so(machine: Machine) -> None:
    targets = machine.text("dmsetup", "table").splitlines()
    assert len([line for line in targets if " verity " in line]) == 3, targets
    state = json.loads(machine.text("cat", "/run/inkstick/layers.json"))
    assert state["state"] == "verified" and len(state["layers"]) == 3, state


def test_nothing_failed_and_there_is_no_network(machine: Machine) -> None:
    assert machine.text("systemctl", "--failed", "--no-legend", "--plain") == ""
    assert machine.text("ls", "/sys/class/net").split() == ["lo"]


def test_the_bill_of_materials_lies_inside(machine: Machine) -> None:
    folder = "/usr/share/inkstick/sbom"
    names = {part["name"] for part in json.loads(machine.text("cat", f"{folder}/inkstick.cdx.json"))["components"]}
    assert {"systemd", "numpy", "inkstick", "shim-signed"} <= names
    assert "GNU AFFERO" in machine.text("cat", f"{folder}/LICENSE")


def test_a_document_with_text_comes_out_as_text(machine: Machine) -> None:
    drop(machine, "letter.pdf", (SAMPLES / "english-letter.pdf").read_bytes())
    truth = (SAMPLES / "truth/english-letter.txt").read_text(encoding="utf-8")
    words = [word for word in truth.split() if len(word) > 4]
    found = read(machine, "letter.pdf")
    print(f"BIOS: a PDF read after {machine.seconds:.0f} s")
    assert sum(word in found for word in words) > 0.9 * len(words), found


def test_a_scan_comes_out_as_text(machine: Machine) -> None:
    drop(machine, "scan.png", scan("Invoice 4711 is paid"))
    found = read(machine, "scan.png")
    print(f"BIOS: a scan read after {machine.seconds:.0f} s")
    assert "4711" in found and "Invoice" in found, found
    assert machine.run("test", "-e", f"{DATA}/done/scan.png")[0] == 0


@pytest.mark.skipif(not Path(OVMF_CODE).exists(), reason="no UEFI firmware for QEMU here: install ovmf")
def test_it_starts_under_uefi_with_secure_boot(iso: Path) -> None:
    with Machine(iso, "uefi") as machine:
        print(f"UEFI: agent after {machine.wait(BOOT_SECONDS):.0f} s")
        assert "Secure boot enabled" in machine.text("dmesg")
        assert len([line for line in machine.text("dmsetup", "table").splitlines() if " verity " in line]) == 3
