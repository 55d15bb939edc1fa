"""Where this machine can be reached: its names and addresses, on which the page can be served, and which a request may
use."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Collection, Sequence
from pathlib import Path

from inkstick.errors import UsageError

_SIOCGIFADDR = 0x8915
_IF_INET6 = Path("/proc/net/if_inet6")


def addresses() -> list[str]:
    """The addresses of this machine's interfaces without the loopback's, IPv4 first. Link-local IPv6 is left out: a
    browser cannot write it down."""
    return [address for address in [*_four(), *_six()] if _useful(address)]


def names() -> list[str]:
    """What this machine calls itself: bare, and as multicast DNS would say it."""
    host = socket.gethostname().split(".")[0].lower()
    fine = host and all(c.isascii() and (c.isalnum() or c == "-") for c in host)
    return [host, f"{host}.local"] if fine else []


def configured(text: str) -> list[str]:
    """The names of the setting `names`, by comma, as browsers send them: in lower case, ``xn--bro-hoa`` for ``büro``.
    Raises UsageError for what is no name."""
    return [_as_sent(name.strip().lower()) for name in text.split(",") if name.strip()]


def _as_sent(name: str) -> str:
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        raise UsageError(
            f"The setting names has {name!r}, which is no name on a network.", hint="Separate names by commas."
        ) from None


def is_address(text: str) -> bool:
    return _address(text) is not None


def is_loopback(host: str) -> bool:
    """Does this name or address mean this very machine? Names other than localhost are never looked up."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_host(host: str) -> None:
    """Raises `UsageError` for what is neither an address nor localhost."""
    if is_loopback(host):
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(
            f"The page cannot be served on {host!r}: that is not an address.",
            hint="Give an address of this machine, 0.0.0.0 for all of them, or leave --host out.",
        ) from None


def is_own(host: str, local: str | None, known: Collection[str]) -> bool:
    """May a request call this machine `host`? Yes for the very address that it came to (`local`: this end of the
    connection), so that no list of addresses grows stale, for localhost on it, and for the `known` names."""
    name = host.strip("[]").rstrip(".").lower()
    if name in known:
        return True
    here = _address(local or "")
    if here is None:
        return False
    return _address(name) == here or (here.is_loopback and name == "localhost")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _useful(text: str) -> bool:
    found = ipaddress.ip_address(text)
    return not found.is_loopback and not (found.version == 6 and found.is_link_local)


def _four() -> list[str]:
    found = []
    try:
        interfaces = socket.if_nameindex()
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError:
        return []  # a process that may not ask: on the appliance the service has no network of its own
    with probe:
        for _, name in interfaces:
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # an interface without an address
            found.append(socket.inet_ntoa(answer[20:24]))
    return found


def _six() -> Sequence[str]:
    try:
        lines = _IF_INET6.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    return [str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))) for line in lines if line.split()]
