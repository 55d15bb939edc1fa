"""What tests do with an appliance in a `Machine`, or in a container: wait for it, drop documents, take their text."""

from __future__ import annotations

import io
import json
import re
import time
from typing import Any

import pymupdf
import pytest
from PIL import Image, ImageDraw, ImageFont

from vm.machine import Inside, Machine

BOOT_SECONDS = 1800
READ_SECONDS = 1800
"""Limits against hangs only: QEMU emulates every instruction, and a page that a laptop reads in a second takes minutes
here, on a busy machine still more."""
DATA = "/var/lib/inkstick"
STATUS = "/run/inkstick/status.json"
UNATTENDED = {"inkstick.toml": '[data]\nwhere = "memory"\n[network]\nmode = "direct"\n'}
"""Credentials with which it asks nothing: documents in memory, the cable gives addresses."""


def wait_for_services(machine: Machine, seconds: float = BOOT_SECONDS) -> None:
    """Until the appliance says that it is ready (inkstick.target). Fails with the journal."""
    end = time.monotonic() + seconds
    while machine.text("systemctl", "is-active", "inkstick.target").strip() != "active":
        if time.monotonic() > end:
            pytest.fail(f"{machine.text('systemctl', 'list-jobs')}\n{journal(machine)}")
        time.sleep(10)  # (each question is work for the one emulated processor, which is to get ready)


def journal(machine: Inside) -> str:
    return machine.text("journalctl", "-b", "--no-pager", "-n", "80")


def status(machine: Machine) -> dict[str, Any]:
    """What the keeper tells console and page."""
    told: dict[str, Any] = json.loads(machine.text("cat", STATUS))
    return told


def drop(machine: Inside, name: str, content: bytes) -> None:
    """As a person would: the document appears in the inbox whole."""
    part = f"{DATA}/inbox/.part"
    machine.run("sh", "-c", f"cat > {part} && chown inkstick: {part} && mv {part} {DATA}/inbox/{name}", data=content)


def read(machine: Inside, name: str) -> str:
    """All text of the document `name`, once it is read. Fails with the journal."""
    stem, end = name.rpartition(".")[0], time.monotonic() + READ_SECONDS
    while True:
        status, out, _ = machine.run("cat", f"{DATA}/results/{stem}/{stem}.json")
        if status == 0:
            return text_of(json.loads(out))
        if time.monotonic() > end:
            pytest.fail(f"not read: {machine.text('find', DATA, '-type', 'f')}\n{journal(machine)}")
        time.sleep(5)


def text_of(record: dict[str, Any]) -> str:
    return " ".join(block["text"] for page in record["pages"] for block in page["blocks"])


def scan(words: str) -> bytes:
    """A scanned strip with one line, as PNG: the reader's work grows with the area that it looks at."""
    page = Image.new("L", (640, 80), 255)
    ImageDraw.Draw(page).text((20, 18), words, fill=0, font=ImageFont.load_default(40))
    out = io.BytesIO()
    page.save(out, "PNG", dpi=(150, 150))
    return out.getvalue()


def printed(words: str) -> bytes:
    """A strip with one line, as PDF with its text."""
    document = pymupdf.open()
    document.new_page(width=400, height=50).insert_text((12, 33), words, fontsize=24)
    out: bytes = document.tobytes()
    return out


def scanned(words: str) -> bytes:
    """The scanned strip as a PDF without text: a parser opens it, and an engine has to read it."""
    document = pymupdf.open()
    page = document.new_page(width=307, height=38)
    page.insert_image(page.rect, stream=scan(words))
    out: bytes = document.tobytes()
    return out


def exposure(machine: Inside, unit: str) -> float:
    """Its score, as the systemd of the image counts."""
    said = machine.text("systemd-analyze", "security", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    print(unit, found[1])
    return float(found[1])


def parser_units(machine: Inside) -> list[str]:
    """The units that run and open documents."""
    listed = machine.text("systemctl", "list-units", "--plain", "--no-legend", "inkstick-pages@*.service")
    return [line.split()[0] for line in listed.splitlines()]


def read_layers(machine: Machine) -> dict[str, Any]:
    """What the check after boot says when it has read every layer from end to end."""
    said = machine.text("/usr/bin/python3", "/usr/lib/inkstick/layers.py", "--read", seconds=BOOT_SECONDS)
    answer: dict[str, Any] = json.loads(said)
    return answer


def verity_targets(machine: Machine) -> list[str]:
    """The kernel's dm-verity devices, one line each."""
    return [line for line in machine.text("dmsetup", "table").splitlines() if " verity " in line]
