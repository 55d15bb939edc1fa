"""The units: none ends in `failed` for good, each is as hardened as was measured, the first rules are ours."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from inkstick_provisioning import network

ETC = Path(__file__).resolve().parents[2] / "image/overlay/app/etc"
UNITS = sorted((ETC / "systemd/system").glob("*.service"))
HIGHEST = {
    "inkstick-console": 1.0,
    "inkstick-firewall": 2.0,
    "inkstick-keeper": 6.5,
    "inkstick-serve": 3.5,
    "inkstick-settings": 1.0,
    "inkstick-share": 1.3,
    "inkstick-usb@": 2.2,
    "inkstick-watch": 0.5,
}
"""What `systemd-analyze security` may say at most (0 is best). The keeper has the rights that everybody else lacks."""


def unit(path: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_no_unit_ends_in_failed_for_good(path: Path) -> None:
    found = unit(path)
    assert found["Service"]["Restart"] in ("always", "on-failure")
    assert float(found["Service"]["RestartSec"]) > 0
    assert found["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_whatever_is_started_is_there(path: Path) -> None:
    command = unit(path)["Service"]["ExecStart"]
    if match := re.search(r"-m (inkstick_provisioning)\.(\w+)", command):
        root = Path(__file__).resolve().parents[2] / "provisioning" / match[1]
        assert "def main(" in (root / f"{match[2]}.py").read_text(encoding="utf-8")


def test_a_keeper_that_makes_or_checks_a_volume_by_itself_is_waited_for_and_the_screen_is_not_dark() -> None:
    keeper, console = (unit(ETC / f"systemd/system/inkstick-{name}.service") for name in ("keeper", "console"))
    assert keeper["Service"]["TimeoutStartSec"] == "infinity"
    assert "inkstick-keeper" not in console["Unit"]["After"]
    assert "inkstick-keeper.service" in unit(ETC / "systemd/system/inkstick-usb@.service")["Unit"]["After"]


def test_every_link_of_the_overlay_leads_somewhere() -> None:
    links = [path for path in (ETC / "systemd").rglob("*") if path.is_symlink()]
    assert len(links) >= 5
    assert all(link.resolve().exists() for link in links)


def test_the_rules_before_the_keeper_runs_let_nothing_through() -> None:
    assert (ETC / "inkstick/closed.nft").read_text(encoding="ascii") == network.ruleset({})
    assert (ETC / "sysctl.d/90-inkstick.conf").read_text(encoding="ascii").startswith(network.SYSCTL)
    off = network.files({})["90-inkstick-off.network"]
    assert (ETC / "systemd/network/90-inkstick-off.network").read_text(encoding="ascii") == off


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_how_exposed_a_unit_is(path: Path, tmp_path: Path) -> None:
    if path.stem not in HIGHEST:
        pytest.skip("somebody else's unit")
    copy = tmp_path / path.name.replace("@.", "@x.")
    text = path.read_text(encoding="utf-8")
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text), encoding="utf-8")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    if match is None:
        pytest.skip(f"it cannot look at files: {done.stderr.strip()[:200]}")
    print(path.stem, match[1])
    assert float(match[1]) <= HIGHEST[path.stem]
