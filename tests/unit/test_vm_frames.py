"""The look at a cable: frames are read as they were sent, and whatever an appliance may not send is found."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv4Network

import pytest

from vm.frames import frame, frames_of, stray

OWN, OTHER = "52:54:00:49:4e:4b", "02:00:00:00:00:01"
HOST, NETWORK = IPv4Address("10.77.0.1"), IPv4Network("10.77.0.0/24")


def ethernet(kind: int, payload: bytes, source: str = OWN) -> bytes:
    return b"\xff" * 6 + bytes.fromhex(source.replace(":", "")) + kind.to_bytes(2, "big") + payload


def ip(protocol: int, sender: str, receiver: str, ports: tuple[int, int]) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x46, 0, 28, 0, 0, 64, protocol, 0)
    return head + socket.inet_aton(sender) + socket.inet_aton(receiver) + b"opts" + struct.pack("!HH", *ports)


def arp(sender: str, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return head + b"\0" * 6 + socket.inet_aton(sender) + b"\0" * 6 + socket.inet_aton(target)


ALLOWED = {
    "page": (0x0800, ip(6, "10.77.0.1", "10.77.0.50", (443, 40000))),
    "dhcp": (0x0800, ip(17, "10.77.0.1", "10.77.0.50", (67, 68))),
    "dhcp-broadcast": (0x0800, ip(17, "10.77.0.1", "255.255.255.255", (67, 68))),
    "arp": (0x0806, arp("10.77.0.1", "10.77.0.50")),
    "arp-probe": (0x0806, arp("0.0.0.0", "169.254.3.4")),
}
FORBIDDEN = {
    "dns": (0x0800, ip(17, "10.77.0.1", "10.77.0.2", (40000, 53))),
    "dhcp-client": (0x0800, ip(17, "0.0.0.0", "255.255.255.255", (68, 67))),
    "call-out": (0x0800, ip(6, "10.77.0.1", "10.77.0.2", (40000, 443))),
    "page-to-elsewhere": (0x0800, ip(6, "10.77.0.1", "1.1.1.1", (443, 40000))),
    "other-port": (0x0800, ip(6, "10.77.0.1", "10.77.0.2", (8080, 40000))),
    "igmp": (0x0800, ip(2, "10.77.0.1", "224.0.0.22", (0, 0))),
    "ping": (0x0800, ip(1, "10.77.0.1", "10.77.0.2", (0, 0))),
    "mdns": (0x0800, ip(17, "10.77.0.1", "224.0.0.251", (5353, 5353))),
    "arp-for-elsewhere": (0x0806, arp("10.77.0.1", "1.1.1.1")),
    "ipv6": (0x86DD, b"\x60" + b"\0" * 39),
    "lldp": (0x88CC, b"\0" * 30),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_page_and_addresses_need_is_allowed(name: str) -> None:
    assert stray([frame(ethernet(*ALLOWED[name]))], own=OWN, host=HOST, network=NETWORK) == []


@pytest.mark.parametrize("name", FORBIDDEN)
def test_everything_else_is_found(name: str) -> None:
    sent = [frame(ethernet(*FORBIDDEN[name]))]
    assert stray(sent, own=OWN, host=HOST, network=NETWORK) == sent
    assert stray([frame(ethernet(*FORBIDDEN[name], source=OTHER))], own=OWN, host=HOST, network=NETWORK) == []


def test_a_record_is_read_frame_by_frame_and_its_unfinished_end_left_out() -> None:
    data = [ethernet(*value) for value in (*ALLOWED.values(), *FORBIDDEN.values())]
    record = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    record += b"".join(struct.pack("<IIII", 1, 0, len(one), len(one)) + one for one in data)
    assert frames_of(record) == [frame(one) for one in data]
    assert frames_of(record[:-3]) == [frame(one) for one in data[:-1]]
    assert frames_of(b"") == []
