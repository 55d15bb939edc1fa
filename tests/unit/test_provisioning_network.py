"""Network modes, their files, and rules that really block: tried with sockets between two network namespaces."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from inkstick_provisioning import identity, moment, network
from inkstick_provisioning.network import Mode, Port
from support.wire import Wire, laid


def test_a_direct_cable_gives_addresses_and_no_way_on() -> None:
    made = network.files({"enp3s0": Mode.DIRECT})
    text = made["10-inkstick-enp3s0.network"]
    for line in (
        "Name=enp3s0", "Address=10.77.0.1/24", "DHCPServer=yes", "LinkLocalAddressing=ipv4", "EmitRouter=no",
        "EmitDNS=no", "EmitNTP=no", "LLMNR=no", "MulticastDNS=no", "IPv6AcceptRA=no",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert "Gateway=" not in text


def test_joining_takes_an_address_and_nothing_else() -> None:
    text = network.files({"eth0": Mode.JOIN})["10-inkstick-eth0.network"]
    for what in ("Gateway", "Routes", "DNS", "NTP", "Domains", "Hostname", "Timezone"):
        assert f"Use{what}=no" in text.splitlines()
    assert "DHCP=ipv4" in text.splitlines()
    assert "SendHostname=no" in text.splitlines()
    assert "DHCPServer" not in text


def test_a_port_without_a_mode_is_down_and_so_is_one_that_comes_later() -> None:
    made = network.files({"eth0": Mode.NONE})
    assert all("ActivationPolicy=always-down" in text for text in made.values())
    assert "Name=!lo" in made["90-inkstick-off.network"]


def test_each_direct_port_has_a_network_of_its_own() -> None:
    modes = {"enp3s0": Mode.DIRECT, "enp4s0": Mode.JOIN, "enp5s0": Mode.DIRECT}
    assert network.direct_addresses(modes) == {"enp3s0": "10.77.0.1", "enp5s0": "10.77.1.1"}


def test_radios_and_software_ports_stay_off_whatever_was_chosen() -> None:
    ports = [Port(name) for name in ("lo", "wlp2s0", "eth0", "wwan0", "docker0", "enx001122334455")]
    assert [port.name for port in network.usable(ports)] == ["enx001122334455", "eth0"]
    modes = network.assign(ports, Mode.DIRECT, {"eth0": Mode.JOIN, "wlp2s0": Mode.JOIN})
    assert modes == {
        "wlp2s0": Mode.NONE, "eth0": Mode.JOIN, "wwan0": Mode.NONE, "docker0": Mode.NONE,
        "enx001122334455": Mode.DIRECT,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["", "eth0\n[Network]", 'a" accept', "{", "a b", "x" * 16])
def test_a_strange_name_gets_into_no_file(name: str) -> None:
    with pytest.raises(ValueError):
        network.files({name: Mode.DIRECT})
    with pytest.raises(ValueError):
        network.ruleset({name: Mode.JOIN})


def test_the_rules_are_these() -> None:
    lines = [line.strip() for line in network.ruleset({"a": Mode.DIRECT, "b": Mode.JOIN, "c": Mode.NONE}).splitlines()]
    assert [line for line in lines if line.endswith("accept")] == [
        "iif lo accept",
        'iifname { "a", "b" } tcp dport 443 ct state new,established accept',
        'iifname { "a" } udp sport 68 udp dport 67 accept',
        'iifname { "b" } udp sport 67 udp dport 68 accept',
        "oif lo accept",
        'oifname { "a", "b" } tcp sport 443 ct state established accept',
        'oifname { "a" } udp sport 67 udp dport 68 accept',
        'oifname { "b" } udp sport 68 udp dport 67 accept',
    ]
    assert sum("policy drop" in line for line in lines) == 3


def test_the_share_is_let_in_where_the_page_is_and_nowhere_else() -> None:
    modes = {"a": Mode.DIRECT, "b": Mode.JOIN, "c": Mode.NONE}
    without, shared = network.ruleset(modes).splitlines(), network.ruleset(modes, share=True).splitlines()
    assert [line.strip() for line in shared if line not in without] == [
        'iifname { "a", "b" } tcp dport 445 ct state new,established accept',
        'oifname { "a", "b" } tcp sport 445 ct state established accept',
    ]
    assert [line for line in shared if line in without] == without
    assert network.ruleset({"c": Mode.NONE}, share=True) == network.ruleset({"c": Mode.NONE})


def test_without_a_port_nothing_but_the_machine_itself_may_speak() -> None:
    text = network.ruleset({})
    assert [line.strip() for line in text.splitlines() if "accept" in line] == ["iif lo accept", "oif lo accept"]


# ---- real packets


@pytest.fixture
def wire() -> Iterator[Wire]:
    with laid() as cable:
        yield cable


def test_only_the_page_can_be_reached_and_nothing_gets_out(wire: Wire) -> None:
    def probes(other: bool) -> dict[str, bool]:
        return {
            "page": wire.reaches(wire.here, wire.there, "10.77.0.1", 443, True),
            "other port": wire.reaches(wire.here, wire.there, "10.77.0.1", 8080, other),
            "outwards": wire.reaches(wire.there, wire.here, "10.77.0.50", 443, other),
        }

    open_wire = probes(True)
    assert open_wire == {"page": True, "other port": True, "outwards": True}, "without the rules the probes pass"
    wire.rules(network.ruleset({"cable0": Mode.DIRECT}))
    assert probes(False) == {"page": True, "other port": False, "outwards": False}
    told = wire.dropped()
    assert told["in"] > 0 and told["out"] > 0, "and every attempt is counted"
    wire.rules(network.ruleset({"cable0": Mode.NONE}))
    assert not wire.reaches(wire.here, wire.there, "10.77.0.1", 443, False), "a port that is off has no page either"


def test_addresses_are_given_and_names_are_not_asked_for(wire: Wire) -> None:
    """A datagram from `there` arrives on the DHCP port only, one from here leaves for DHCP clients only."""

    def arrives(server: str, client: str, address: str, source: int, port: int, expected: bool) -> bool:
        patience = 50 if expected else 1.5
        code = f"import socket; s=socket.socket(2,2); s.bind(('',{port})); print('up',flush=True)\n"
        code += f"s.settimeout({patience})\n"
        code += "print(s.recv(9))"
        listen = ["ip", "netns", "exec", server, sys.executable, "-c", code]
        with subprocess.Popen(listen, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout and process.stdout.readline() == "up\n"
            send = f"import socket; s=socket.socket(2,2); s.bind(('',{source})); s.sendto(b'!',('{address}',{port}))"
            wire.inside(client, sys.executable, "-c", send)
            return "b'!'" in process.stdout.read()

    wire.rules(network.ruleset({"cable0": Mode.DIRECT}))
    assert arrives(wire.here, wire.there, "10.77.0.1", 68, 67, True)
    assert not arrives(wire.here, wire.there, "10.77.0.1", 5000, 53, False)
    assert arrives(wire.there, wire.here, "10.77.0.50", 67, 68, True)
    assert not arrives(wire.there, wire.here, "10.77.0.50", 5000, 53, False)


# ---- name and clock


def test_the_name_stays_and_is_a_host_name() -> None:
    assert identity.hostname("E0D55EA574") == identity.hostname(" E0D55EA574\n")
    names = {identity.hostname(str(number)) for number in range(2000)}
    assert len(names) > 1500
    assert all(len(name) <= 63 and name.replace("-", "").isalnum() and name.islower() for name in names)
    assert len(set(identity.WORDS)) == len(identity.WORDS)


def test_the_fingerprint_is_written_as_browsers_write_it() -> None:
    assert identity.fingerprint(b"").startswith("E3:B0:C4:42:98:FC:1C:14")
    assert len(identity.fingerprint(b"x").split(":")) == 32


@pytest.mark.parametrize(
    ("now", "seen", "right", "best"),
    [
        (2000.0, None, True, 2000.0),
        (500.0, None, False, 1000.0),  # before the build
        (1500.0, 1800.0, False, 1800.0),  # before what the volume has seen
        (1900.0, 1800.0, True, 1900.0),
        (1000.0 + moment.CEILING + 1, None, False, 1000.0),  # a battery that came back in another century
        (2000.0, 1000.0 + 10 * moment.CEILING, True, 2000.0),  # a volume that has seen nonsense
    ],
)
def test_a_clock_before_the_floor_is_wrong(now: float, seen: float | None, right: bool, best: float) -> None:
    clock = moment.judge(now, 1000.0, seen)
    assert (clock.right, clock.best) == (right, best)


@pytest.mark.parametrize(
    "typed",
    [
        " 2026/11/20  14.05 ",
        "2026-11-20T14:05",
        "2026/11/20 14>05",  # 2026-11-20 14:05 on a German keyboard that counts as an American one
        "2026 11 20 14 05",  # a French one has no hyphen there but among the digits
        "2026年11月20日 14：05",
        "２０２６-１１-２０ １４：０５",
        "2026年11月20日 14时05分",
    ],
)
def test_dates_as_people_type_them(typed: str) -> None:
    assert moment.parse_typed(typed) == moment.parse_typed("2026-11-20 14:05") is not None
    assert moment.shown(moment.parse_typed(typed) or 0) == "2026-11-20 14:05"


@pytest.mark.parametrize(
    "wrong", ["", "yesterday", "2026-13-01 10:00", "2026-11-20", "2026-11-20 25:00", "202611201405", "20-11-2026 14:05"]
)
def test_what_is_no_date_is_none(wrong: str) -> None:
    assert moment.parse_typed(wrong) is None


def test_the_moment_that_the_volume_has_seen_is_read_from_its_file() -> None:
    assert moment.parse_seen("12.5\n") == 12.5
    assert moment.parse_seen("") is None


def test_loopback_is_never_a_port() -> None:
    assert socket.if_nametoindex("lo") >= 1
    assert "lo" not in network.assign([Port("lo")], Mode.DIRECT, {"lo": Mode.JOIN})
