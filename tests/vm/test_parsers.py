"""Parsers as units, at their limits: one that runs out of its unit's memory, and more of them than the socket lets in.

The first on the machine of test_cpu_edition.py, after it, since a container's kernel may not count memory; the others
natively (`container`).
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from vm import container
from vm.appliance import BOOT_SECONDS, DATA, READ_SECONDS, drop, journal, parser_units, printed, read
from vm.container import WITHOUT_A_MACHINE, Container
from vm.laptop import until
from vm.machine import Inside, Machine

CONNECTIONS = 16
"""MaxConnections= of inkstick-pages.socket."""
PAPERS = CONNECTIONS + 2
LITTLE = "256M"
"""Memory of a unit in which a parser starts, and in which 96 million dots do not become colours."""
HOLDER = f"""
import select, socket, time
held = []
while True:
    held = [link for link in held if not select.select([link], [], [], 0)[0]]  # systemd hangs up on one too many
    while len(held) < {CONNECTIONS}:
        held.append(socket.socket(socket.AF_UNIX))
        held[-1].connect("/run/inkstick-pages.sock")
    time.sleep(1)
"""
STATE = """
import sqlite3, sys
known = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
for row in known.execute("select state, code from documents where name = ?", [sys.argv[2]]):
    print(*row)
"""

pytestmark = pytest.mark.timeout(BOOT_SECONDS + 4 * READ_SECONDS)


def state(machine: Inside, name: str) -> str:
    """What the ledger says of a document: its state and the code of what it waits for or failed by."""
    return machine.text("python3", "-c", STATE, f"{DATA}/state/ledger.sqlite", name).strip()


def blank(width: int, height: int) -> bytes:
    """A sheet as PNG: a small file whose picture is large."""
    out = io.BytesIO()
    Image.new("L", (width, height), 255).save(out, "PNG", dpi=(600, 600))
    return out.getvalue()


@pytest.fixture(scope="module")
def native(iso: Path) -> Iterator[Container]:
    """Service, watcher and parsers of the image."""
    with container.started(iso, WITHOUT_A_MACHINE, {}) as native:
        until(lambda: native.run("systemctl", "start", "inkstick-watch", "inkstick-serve")[0] == 0, seconds=300)
        yield native


@pytest.mark.vm_full
def test_a_document_that_takes_all_the_memory_of_its_parser_s_unit_fails_alone(machine: Machine) -> None:
    drop(machine, "before.pdf", printed("Before the large one"))
    read(machine, "before.pdf")
    (parser,) = parser_units(machine)
    machine.run("systemctl", "set-property", "--runtime", parser, f"MemoryMax={LITTLE}")
    drop(machine, "large.png", blank(12_000, 8_000))
    error = f"{DATA}/failed/large.png.error.json"
    until(lambda: machine.run("test", "-e", error)[0] == 0, lambda: journal(machine), READ_SECONDS)
    assert json.loads(machine.text("cat", error))["code"] == "too_complex"
    killed = machine.text("journalctl", "--dmesg", "--no-pager", "--grep", "Memory cgroup out of memory")
    assert "python" in killed, killed
    drop(machine, "after.pdf", printed("After the large one"))
    assert "After the large one" in read(machine, "after.pdf")
    assert parser not in parser_units(machine)
    assert machine.text("systemctl", "--failed", "--no-legend", "--plain") == ""


def test_more_documents_at_once_than_connections_are_all_read(native: Container) -> None:
    names = [f"paper-{number}.pdf" for number in range(PAPERS)]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as packed:
        for number, name in enumerate(names):
            content = printed(f"This is paper {number}")
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    papers = f"{DATA}/.papers"
    script = f"mkdir {papers} && tar -x -C {papers} && chown -R inkstick: {papers} && mv {papers}/* {DATA}/inbox"
    assert native.run("sh", "-c", script, data=archive.getvalue())[0] == 0
    for number, name in enumerate(names):
        assert f"This is paper {number}" in read(native, name)
    assert native.text("systemctl", "--failed", "--no-legend", "--plain") == ""


@pytest.fixture
def holder(native: Container) -> Iterator[str]:
    """A unit that takes every connection that is to be had, and says nothing on any."""
    yield "test-holder"
    native.run("systemctl", "stop", "test-holder")


def test_a_document_for_which_there_is_no_connection_waits_and_is_read_when_there_is_one(
    native: Container, holder: str
) -> None:
    ours = parser_units(native)
    assert native.run("systemd-run", "--unit", holder, "--collect", "python3", "-c", HOLDER)[0] == 0
    until(lambda: len(parser_units(native)) == CONNECTIONS, lambda: journal(native), READ_SECONDS)
    native.run("systemctl", "stop", *ours)
    until(
        lambda: len(parser_units(native)) == CONNECTIONS and not set(ours) & set(parser_units(native)),
        lambda: journal(native),
        READ_SECONDS,
    )
    drop(native, "patient.pdf", printed("Patience is rewarded"))
    until(lambda: state(native, "patient.pdf") not in ("", "queued None", "reading None"), seconds=READ_SECONDS)
    assert state(native, "patient.pdf") == "blocked unavailable"
    assert native.run("test", "-e", f"{DATA}/failed/patient.pdf")[0] != 0
    native.run("systemctl", "stop", holder)
    assert "Patience is rewarded" in read(native, "patient.pdf")
    until(lambda: len(parser_units(native)) == len(ours), lambda: journal(native), READ_SECONDS)
    assert native.text("systemctl", "--failed", "--no-legend", "--plain") == ""
