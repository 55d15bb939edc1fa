"""What was on the cable, frame by frame, and which frames an appliance may send. Pure functions over bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

ARP, IPV4 = 0x0806, 0x0800
TCP, UDP = 6, 17
LINK_LOCAL = IPv4Network("169.254.0.0/16")
NOBODY = IPv4Address("0.0.0.0")


@dataclass(frozen=True, slots=True)
class Frame:
    """`source`: MAC address. For ARP, `receiver` is the address that it is about, `sender` the one it speaks for."""

    source: str
    kind: int
    protocol: int = 0
    sender: IPv4Address = NOBODY
    receiver: IPv4Address = NOBODY
    source_port: int = 0
    target_port: int = 0

    def __str__(self) -> str:
        ports = f"{self.sender}:{self.source_port} > {self.receiver}:{self.target_port}"
        return f"{self.source} type {self.kind:04x} protocol {self.protocol} {ports}"


def frames_of(record: bytes) -> list[Frame]:
    """From a file in pcap's format; a frame that is still being written is left out."""
    if len(record) < 24:
        return []
    order = "<" if record[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    found, at = [], 24
    while at + 16 <= len(record):
        held, whole = struct.unpack(f"{order}8x2I", record[at : at + 16])
        if at + 16 + held > len(record):
            break
        assert held == whole, "a frame was cut short"
        found.append(frame(record[at + 16 : at + 16 + held]))
        at += 16 + held
    return found


def frame(data: bytes) -> Frame:
    """One Ethernet frame."""
    source, kind, rest = data[6:12].hex(":"), int.from_bytes(data[12:14], "big"), data[14:]
    if kind == ARP and len(rest) >= 28:
        return Frame(source, kind, 0, IPv4Address(rest[14:18]), IPv4Address(rest[24:28]))
    if kind != IPV4 or len(rest) < 20:
        return Frame(source, kind)
    protocol, inner = rest[9], rest[(rest[0] & 15) * 4 :]
    ports = struct.unpack("!HH", inner[:4]) if protocol in (TCP, UDP) and len(inner) >= 4 else (0, 0)
    return Frame(source, kind, protocol, IPv4Address(rest[12:16]), IPv4Address(rest[16:20]), *ports)


def stray(sent: Sequence[Frame], *, own: str, host: IPv4Address, network: IPv4Network) -> list[Frame]:
    """Of what passed, the frames that the appliance with MAC address `own` may not send.

    It may: answer from `host`:443 into `network`; give addresses there by DHCP; ask and tell by ARP who has an address
    of `network`, or a link-local one that it tries for itself. Nothing else, of no protocol, to nobody."""
    return [one for one in sent if one.source == own and not _allowed(one, host, network)]


def _allowed(one: Frame, host: IPv4Address, network: IPv4Network) -> bool:
    if one.kind == ARP:
        ours = one.sender in (NOBODY, host) or one.sender in LINK_LOCAL
        return ours and (one.receiver in network or one.receiver in LINK_LOCAL)
    if one.kind != IPV4 or one.sender != host:
        return False
    if one.protocol == TCP:
        return one.source_port == 443 and one.receiver in network
    everybody = IPv4Address("255.255.255.255")
    given = one.receiver in network or one.receiver == everybody
    return one.protocol == UDP and (one.source_port, one.target_port) == (67, 68) and given
