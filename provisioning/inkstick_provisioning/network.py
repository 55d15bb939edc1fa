"""What each network port does, and the files and rules that follow from it. Pure text: `keeper.py` puts it in place.

Three modes: none (the port is down), direct (this machine gives addresses to whoever is on the cable; no router, no
names), join (this machine takes an address of an existing network and nothing else of it). There is no default route in
any of them, and the rules let in only the page (TCP 443) and, where it is wished, the share (SMB, TCP 445); out only
their answers and what addresses need.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

PAGE_PORT = 443
SHARE_PORT = 445
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
"""Whom the page and the share answer, and so where they can be reached (IPAddressAllow= of their units)."""
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,15}")
_WIRELESS = ("wl", "ww", "ib")
_VIRTUAL = ("lo", "docker", "veth", "br-", "virbr", "sit", "ip6tnl", "dummy", "tun", "tap")


class Mode(StrEnum):
    """What a port is for."""

    NONE = "none"
    DIRECT = "direct"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Port:
    """A network port. `cable`: something is at the other end."""

    name: str
    cable: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"not a port's name: {self.name!r}")


def usable(ports: Sequence[Port]) -> tuple[Port, ...]:
    """Cables only, in order of their names: no radio, nothing made by software."""
    return tuple(sorted((p for p in ports if not p.name.startswith(_WIRELESS + _VIRTUAL)), key=lambda p: p.name))


def assign(ports: Sequence[Port], default: Mode, chosen: Mapping[str, Mode]) -> dict[str, Mode]:
    """The mode of every port: the chosen one, else the default; whatever is no cable stays off."""
    names = {port.name for port in usable(ports)}
    return {p.name: chosen.get(p.name, default) if p.name in names else Mode.NONE for p in ports if p.name != "lo"}


def direct_address(index: int) -> str:
    """Of the port number `index` (from 0) among those with a direct cable: each has a network of its own."""
    if not 0 <= index < 256:
        raise ValueError(f"no such port: {index}")
    return f"10.77.{index}.1"


def direct_addresses(modes: Mapping[str, Mode]) -> dict[str, str]:
    """Port → our address on it, for the direct cables, in the order of `modes`: a later one changes none."""
    direct = [name for name, mode in modes.items() if mode is Mode.DIRECT]
    return {name: direct_address(index) for index, name in enumerate(direct)}


# ---- systemd-networkd

_QUIET = """\
LLMNR=no
MulticastDNS=no
LLDP=no
EmitLLDP=no
IPv6AcceptRA=no
IPv6SendRA=no
"""
_DIRECT = """\
# Made by Inkstick. A direct cable: who is at its other end gets an address from here, and neither router nor names.
[Match]
Name={name}

[Network]
Address={address}/24
LinkLocalAddressing=ipv4
DHCPServer=yes
ConfigureWithoutCarrier=yes
{quiet}
[DHCPServer]
PoolOffset=50
PoolSize=100
EmitRouter=no
EmitDNS=no
EmitNTP=no
EmitTimezone=no
"""
_JOIN = """\
# Made by Inkstick. A network that is there: an address is taken, and no way out, no names, no time, no routes.
[Match]
Name={name}

[Network]
DHCP=ipv4
LinkLocalAddressing=ipv4
{quiet}
[DHCPv4]
UseGateway=no
UseRoutes=no
UseDNS=no
UseNTP=no
UseSIP=no
UseDomains=no
UseHostname=no
UseTimezone=no
UseMTU=no
SendHostname=no
SendRelease=no
ClientIdentifier=mac
"""
_NONE = """\
# Made by Inkstick. {what}
[Match]
{match}

[Link]
ActivationPolicy=always-down

[Network]
LinkLocalAddressing=no
DHCP=no
{quiet}"""


def files(modes: Mapping[str, Mode]) -> dict[str, str]:
    """The .network files by name; the last one keeps down whatever port comes up later and has no file."""
    addresses = direct_addresses(modes)
    made = {f"10-inkstick-{name}.network": _file(name, mode, addresses) for name, mode in sorted(modes.items())}
    rest = _NONE.format(what="Every other port: off.", match="Name=!lo", quiet=_QUIET)
    return {**made, "90-inkstick-off.network": rest}


def _file(name: str, mode: Mode, addresses: Mapping[str, str]) -> str:
    Port(name)  # nothing else may get into a file
    if mode is Mode.DIRECT:
        return _DIRECT.format(name=name, address=addresses[name], quiet=_QUIET)
    if mode is Mode.JOIN:
        return _JOIN.format(name=name, quiet=_QUIET)
    return _NONE.format(what="This port is off.", match=f"Name={name}", quiet=_QUIET)


# ---- nftables

_RULES = """\
# Made by Inkstick. Loaded as one transaction: there is no moment without rules.
table inet inkstick
delete table inet inkstick
table inet inkstick {{
\tcounter dropped_in {{ }}
\tcounter dropped_out {{ }}
\tcounter dropped_through {{ }}

\tchain input {{
\t\ttype filter hook input priority filter; policy drop;
\t\tiif lo accept
\t\tct state invalid counter name dropped_in drop
{input}\t\tcounter name dropped_in
\t}}

\tchain forward {{
\t\ttype filter hook forward priority filter; policy drop;
\t\tcounter name dropped_through
\t}}

\tchain output {{
\t\ttype filter hook output priority filter; policy drop;
\t\toif lo accept
{output}\t\tcounter name dropped_out
\t}}
}}
"""


def host(page: str) -> str:
    """Of a page's address, ``https://HOST/``."""
    return page.split("/")[2]


def is_private(address: str) -> bool:
    """Whether the page answers at an address of this machine: its neighbours there have private ones."""
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(some) for some in PRIVATE)


def ruleset(modes: Mapping[str, Mode], *, share: bool = False) -> str:
    """For `nft -f -`: policy drop everywhere, and only what the modes need. The counters tell of every attempt.
    `share`: inbox and results can be reached wherever the page can."""
    direct = [name for name, mode in sorted(modes.items()) if mode is Mode.DIRECT]
    join = [name for name, mode in sorted(modes.items()) if mode is Mode.JOIN]
    into, out = [], []
    if direct or join:
        ports = _set([*direct, *join])
        for served in (PAGE_PORT, SHARE_PORT) if share else (PAGE_PORT,):
            into.append(f"iifname {ports} tcp dport {served} ct state new,established accept")
            out.append(f"oifname {ports} tcp sport {served} ct state established accept")
    if direct:
        into.append(f"iifname {_set(direct)} udp sport 68 udp dport 67 accept")
        out.append(f"oifname {_set(direct)} udp sport 67 udp dport 68 accept")
    if join:
        into.append(f"iifname {_set(join)} udp sport 67 udp dport 68 accept")
        out.append(f"oifname {_set(join)} udp sport 68 udp dport 67 accept")
    return _RULES.format(input=_lines(into), output=_lines(out))


def _set(names: Sequence[str]) -> str:
    for name in names:
        Port(name)
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"


def _lines(rules: Sequence[str]) -> str:
    return "".join(f"\t\t{rule}\n" for rule in rules)


def dropped(listed: Mapping[str, object]) -> dict[str, int]:
    """From `nft --json list counters table inet inkstick`: packets dropped, by in, out and through."""
    found = {}
    entries = listed.get("nftables")
    for entry in entries if isinstance(entries, list) else ():
        counter = entry.get("counter") if isinstance(entry, dict) else None
        if isinstance(counter, dict) and str(counter.get("name", "")).startswith("dropped_"):
            found[str(counter["name"]).removeprefix("dropped_")] = int(counter.get("packets", 0))
    return found
