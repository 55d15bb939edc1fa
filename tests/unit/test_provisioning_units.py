"""The units: none ends in `failed` for good, each is as hardened as was measured, the first rules are ours."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from inkstick.config import Settings
from inkstick.pages.pool import RECYCLE_SECONDS
from inkstick_provisioning import keeper, network, sticks, units, volume

ROOT = Path(__file__).resolve().parents[2]
ETC = ROOT / "image/overlay/app/etc"
UNITS = sorted((ETC / "systemd/system").glob("*.service"))
GPU = sorted((ROOT / "image/overlay/gpu/etc/systemd/system").glob("*.service"))
ONE_CONNECTION = "inkstick-pages@"
HIGHEST = {
    "inkstick-console": 1.0,
    "inkstick-firewall": 2.0,
    "inkstick-gpu": 4.7,
    "inkstick-keeper": 6.5,
    "inkstick-layers": 1.8,
    "inkstick-engine": 0.8,
    "inkstick-engine-folder": 0.5,
    "inkstick-pages@": 0.2,
    "inkstick-serve": 0.3,
    "inkstick-settings": 1.0,
    "inkstick-share": 1.3,
    "inkstick-usb@": 2.2,
    "inkstick-watch": 0.5,
}
"""What `systemd-analyze security` may say at most (0 is best). For parsers, page, watcher and engine: DESIGN's
goals. The keeper has the rights that everybody else lacks."""


def unit(path: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("path", [*UNITS, *GPU], ids=lambda path: path.stem)
def test_no_unit_ends_in_failed_for_good(path: Path) -> None:
    found = unit(path)
    if path.stem == ONE_CONNECTION:  # gone when its connection is, however it ended
        assert found["Unit"]["CollectMode"] == "inactive-or-failed"
        assert "Restart" not in found["Service"]
        return
    assert found["Service"]["Restart"] in ("always", "on-failure")
    assert float(found["Service"]["RestartSec"]) > 0
    assert found["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_whatever_is_started_is_there(path: Path) -> None:
    command = unit(path)["Service"]["ExecStart"]
    if match := re.search(r"-m ((inkstick\w*)[.\w]+)", command):
        folder = {"inkstick": "service", "inkstick_provisioning": "provisioning"}[match[2]]
        module = ROOT / folder / f"{match[1].replace('.', '/')}.py"
        assert "def main(" in module.read_text(encoding="utf-8")


def test_a_socket_never_fails_for_being_asked_too_often() -> None:
    sockets = sorted((ETC / "systemd/system").glob("*.socket"))
    assert [path.stem for path in sockets] == ["inkstick-pages", "inkstick-serve"]
    assert all(unit(path)["Socket"]["TriggerLimitIntervalSec"] == "0" for path in sockets)


def test_the_service_asks_where_parsers_are_started() -> None:
    asked = unit(ETC / "systemd/system/inkstick-pages.socket")["Socket"]["ListenStream"]
    assert f"Environment=INKSTICK_PAGES_SOCKET={asked}\n" in (ETC / "systemd/system/inkstick-serve.service").read_text()


def test_the_page_has_a_socket_for_both_of_its_addresses() -> None:
    """Else the service would have to open one, which it cannot."""
    text = (ETC / "systemd/system/inkstick-serve.socket").read_text(encoding="utf-8")
    default = Settings(Path("/"))
    assert f"ListenStream={default.host}:{default.port}\n" in text
    lan = dict(line.split("=", 1) for line in keeper.LAN.splitlines())
    assert f"ListenStream={lan['INKSTICK_HOST']}:{lan['INKSTICK_PORT']}\n" in text
    assert {"inkstick-serve.socket", "inkstick-serve.service"} <= set(units.WRITERS)


def test_the_page_and_the_share_answer_the_addresses_that_the_keeper_takes_them_to() -> None:
    for name in ("inkstick-serve.socket", "inkstick-share.service"):
        text = (ETC / "systemd/system" / name).read_text(encoding="utf-8")
        assert f"\nIPAddressAllow=localhost {' '.join(network.PRIVATE)}\n" in text


def test_a_parser_is_replaced_before_its_unit_ends_it() -> None:
    assert unit(ETC / "systemd/system/inkstick-pages@.service")["Service"]["RuntimeMaxSec"] == "1d"
    assert RECYCLE_SECONDS + 3600 < 24 * 3600


def test_a_keeper_that_makes_or_checks_a_volume_by_itself_is_waited_for_and_the_screen_is_not_dark() -> None:
    keeper, console = (unit(ETC / f"systemd/system/inkstick-{name}.service") for name in ("keeper", "console"))
    assert keeper["Service"]["TimeoutStartSec"] == "infinity"
    assert "inkstick-keeper" not in console["Unit"]["After"]
    assert "inkstick-keeper.service" in unit(ETC / "systemd/system/inkstick-usb@.service")["Unit"]["After"]


def test_every_link_of_the_overlay_leads_somewhere() -> None:
    links = [path for path in (ETC / "systemd").rglob("*") if path.is_symlink()]
    assert len(links) >= 5
    assert all(link.resolve().exists() for link in links)


def test_a_disk_in_a_usb_case_is_looked_at_as_a_stick_is() -> None:
    """udev's own rules say ID_BUS=ata of it (60-persistent-storage.rules: ata_id before usb_id)."""
    rules = (ETC / "udev/rules.d/90-inkstick-usb.rules").read_text().splitlines()
    usb = [line for line in rules if '=="usb"' in line]
    assert usb and all('SUBSYSTEMS=="usb"' in rule and "ID_BUS" not in rule for rule in usb)


def test_a_card_without_partitions_is_looked_at_when_it_is_put_into_its_reader() -> None:
    """Its disk is the reader's, which was added when the reader was plugged in, without a card."""
    rules = (ETC / "udev/rules.d/90-inkstick-usb.rules").read_text().splitlines()
    (added,) = [rule for rule in rules if rule.startswith('ACTION=="add"') and '=="usb"' in rule]
    (changed,) = [rule for rule in rules if rule.startswith('ACTION=="change"')]
    assert changed.replace('ACTION=="change", ENV{DISK_MEDIA_CHANGE}=="1"', 'ACTION=="add"') == added


def test_the_data_volume_on_the_boot_stick_is_no_stick_that_was_plugged_in() -> None:
    """It started a process that looked for it among the sticks, and found nothing, at each start."""
    rules = (ETC / "udev/rules.d/90-inkstick-usb.rules").read_text()
    assert rules.count(f'ENV{{ID_PART_ENTRY_TYPE}}!="{volume.PARTITION_TYPE}"') == rules.count("ACTION==") > 0


def test_a_small_laptop_s_own_disk_is_no_memory_card() -> None:
    """eMMC is called mmcblk0 as a card is, and lsblk says mmc of both."""
    rules = (ETC / "udev/rules.d/90-inkstick-usb.rules").read_text().splitlines()
    assert all('ATTRS{type}=="SD"' in line for line in rules if "mmcblk*" in line)


def test_every_file_system_that_is_mounted_or_told_of_is_looked_at() -> None:
    rules = (ETC / "udev/rules.d/90-inkstick-usb.rules").read_text()
    known = re.findall(r'ENV\{ID_FS_TYPE\}=="([^"]+)"', rules)
    assert len(known) == rules.count("ACTION==") and {*known} == {"|".join((*sticks.SYSTEMS, *sticks.OTHERS))}


def test_the_rules_before_the_keeper_runs_let_nothing_through() -> None:
    assert (ETC / "inkstick/closed.nft").read_text(encoding="ascii") == network.ruleset({})
    settings = (ETC / "sysctl.d/90-inkstick.conf").read_text(encoding="ascii").splitlines()
    assert {"net.ipv4.ip_forward=0", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv4.conf.all.rp_filter=1"} <= {*settings}
    off = network.files({})["90-inkstick-off.network"]
    assert (ETC / "systemd/network/90-inkstick-off.network").read_text(encoding="ascii") == off


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
@pytest.mark.parametrize("path", [*UNITS, *GPU], ids=lambda path: path.stem)
def test_how_exposed_a_unit_is(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name.replace("@.", "@x.")
    text = path.read_text(encoding="utf-8")
    copy.write_text(re.sub(r"(?m)^(ExecStart\w*)=.*", r"\1=/bin/true", text), encoding="utf-8")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    if match is None:
        pytest.skip(f"it cannot look at files: {done.stderr.strip()[:200]}")
    print(path.stem, match[1])
    assert float(match[1]) <= HIGHEST[path.stem]
