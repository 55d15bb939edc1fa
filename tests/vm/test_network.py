"""From another computer on a cable: it gets an address from the appliance, pairs by the PIN on the screen, uploads a
document and takes its text away; and of all that was on the cable meanwhile, from power-on on, every frame was allowed.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import time
from ipaddress import IPv4Address, IPv4Network

import httpx
import pytest

from vm.appliance import BOOT_SECONDS, READ_SECONDS, journal, scan, status, text_of
from vm.cable import MAC, Cable
from vm.frames import Frame, stray
from vm.machine import Machine

pytestmark = pytest.mark.timeout(BOOT_SECONDS + READ_SECONDS + 600)
HOST, NETWORK = IPv4Address("10.77.0.1"), IPv4Network("10.77.0.0/24")
TALK = """
import socket
def udp(host, port):
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    out.sendto(b"hello", (host, port))
def tcp(host, port):
    socket.create_connection((host, port), 3)
for send, host, port in (
    (udp, "{there}", 53), (udp, "10.77.0.255", 9999), (tcp, "{there}", 80),
    (udp, "1.1.1.1", 53), (udp, "255.255.255.255", 9999), (udp, "224.0.0.251", 5353), (tcp, "1.1.1.1", 443),
):
    try:
        send(host, port)
    except OSError as error:
        print(host, port, error)
"""


def told_by_screen(machine: Machine) -> dict[str, str]:
    """Address, PIN and fingerprint as the console has them. A PIN lives ten minutes: a fresh one is asked for, as its
    key does."""
    asked, end = 0.0, time.monotonic() + BOOT_SECONDS
    while True:
        now = status(machine)
        if now.get("addresses") and now.get("pin") and now.get("fingerprint"):
            return {"address": now["addresses"][0], "pin": now["pin"], "fingerprint": now["fingerprint"]}
        if time.monotonic() > end:
            pytest.fail(f"{now}\n{journal(machine)}")
        if time.monotonic() - asked > 120:
            asked = time.monotonic()
            request = "/run/inkstick-console/test.json"
            machine.run("sh", "-c", f"cat > {request}.part && mv {request}.part {request}", data=b'{"what": "pin"}')
        time.sleep(3)


def trust(fingerprint: str) -> ssl.SSLContext:
    """Trusts the certificate that has this fingerprint, for the names in it, and nothing else."""
    shown = ssl.get_server_certificate((str(HOST), 443), timeout=300)
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown)).hexdigest()
    assert digest == fingerprint.replace(":", "").replace(" ", "").lower()
    return ssl.create_default_context(cadata=shown)


def strays(cable: Cable) -> list[Frame]:
    return stray(cable.frames(), own=MAC, host=HOST, network=NETWORK)


def talk(machine: Machine, cable: Cable) -> list[str]:
    """Something inside that tries to reach seven others, first of all the computer on the cable; what it was told where
    it could not."""
    return machine.text("python3", "-c", TALK.format(there=cable.address)).splitlines()


def test_the_other_computer_gets_an_address_and_no_way_out(machine: Machine, cable: Cable) -> None:
    lease = cable.lease(BOOT_SECONDS)
    assert IPv4Address(lease["ip"]) in NETWORK and lease["mask"] == "24"
    assert lease["router"] == "" and lease["dns"] == ""


def test_the_page_answers_at_the_address_that_the_screen_shows(machine: Machine, cable: Cable) -> None:
    told = told_by_screen(machine)
    assert told["address"] == f"https://{HOST}/"
    screen = machine.run("cat", "/dev/vcs1")[1].decode("latin-1")
    assert told["address"] in screen, screen
    with (
        cable.inside(),
        httpx.Client(base_url=told["address"], verify=trust(told["fingerprint"]), timeout=300) as client,
    ):
        assert client.get("/readyz").status_code == 200
        assert client.get("/api/v1/documents").status_code == 401
        assert "/pair" in client.get("/", headers={"Accept": "text/html"}).headers["location"]


def test_a_document_sent_by_a_paired_browser_comes_back_as_text(machine: Machine, cable: Cable) -> None:
    told = told_by_screen(machine)
    with (
        cable.inside(),
        httpx.Client(base_url=told["address"], verify=trust(told["fingerprint"]), timeout=600) as client,
    ):
        paired = client.post("/pair", data={"pin": told["pin"].replace(" ", ""), "name": "a laptop", "back": "/"})
        assert paired.status_code == 303, paired.text
        file = ("receipt.png", scan("Receipt 2718 of Anna"), "image/png")
        sent = client.post("/api/v1/documents", files={"file": file})
        assert sent.status_code == 201, sent.text
        where, end = f"/api/v1/documents/{sent.json()['id']}", time.monotonic() + READ_SECONDS
        while (state := client.get(where).json()["state"]) not in ("done", "partial", "failed"):
            assert time.monotonic() < end, f"{state}\n{journal(machine)}"
            time.sleep(3)
        found = text_of(client.get(f"{where}/results/json").json())
    print(f"network: a scan read over HTTPS after {machine.seconds:.0f} s")
    assert state == "done"
    assert "2718" in found and "Receipt" in found, found


def test_every_frame_since_power_on_was_allowed(machine: Machine, cable: Cable) -> None:
    said = talk(machine, cable)
    assert len(said) == 7, f"something went out: {said}"
    time.sleep(5)
    sent = [frame for frame in cable.frames() if frame.source == MAC]
    assert any(frame.source_port == 443 for frame in sent), "the record is empty"
    print(f"network: {len(cable.frames())} frames on the cable, {len(sent)} from the appliance")
    assert not strays(cable), "\n".join(map(str, strays(cable)))


def test_the_same_look_finds_what_gets_out_without_the_firewall(machine: Machine, cable: Cable) -> None:
    """The test of the test: rules taken away, the same talk; then they are put back."""
    rules = machine.text("nft", "list", "ruleset")
    assert "policy drop" in rules
    before = len(strays(cable))
    try:
        assert machine.run("nft", "flush", "ruleset")[0] == 0
        assert len(talk(machine, cable)) < 7
        end = time.monotonic() + 120
        while len(strays(cable)) < before + 3 and time.monotonic() < end:
            time.sleep(1)
        assert {frame.target_port for frame in strays(cable)} >= {53, 80, 9999}
    finally:
        assert machine.run("nft", "-f", "-", data=rules.encode())[0] == 0
    with cable.inside(), contextlib.closing(httpx.Client(verify=False, timeout=300)) as client:
        assert client.get(f"https://{HOST}/healthz").status_code == 200
