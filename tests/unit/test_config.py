"""Settings: options over the environment over the defaults, and nothing half-understood."""

from __future__ import annotations

import re
import stat
from dataclasses import fields
from pathlib import Path

import pytest

from inkstick.config import DataFolder, Settings, load
from inkstick.errors import UsageError
from inkstick.profile import EngineChoice

ROOT = Path(__file__).parent.parent.parent


def test_an_option_wins_over_the_environment_and_that_over_the_default(tmp_path: Path) -> None:
    environment = {"INKSTICK_PORT": "9000", "INKSTICK_DATA": str(tmp_path), "INKSTICK_ENGINE": "rapidocr"}
    settings = load({"port": 9001, "data": None}, environment)
    assert (settings.port, settings.data, settings.engine) == (9001, tmp_path, EngineChoice.RAPIDOCR)
    assert settings.host == "127.0.0.1"


@pytest.mark.parametrize(("name", "value"), [("port", "99999"), ("port", "x"), ("engine", "magic"), ("workers", "-1")])
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"setting {name} cannot be '{value}'"):
        load({name: value}, {})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_time_is_a_number_that_passes(value: str) -> None:
    with pytest.raises(UsageError, match="setting settle_seconds cannot be"):
        load({}, {"INKSTICK_SETTLE_SECONDS": value})


@pytest.mark.parametrize(
    "address", ["foo", "localhost:8000", "http://", "http://localhost:99999", "http://[::1", "unix://sock", "ftp://a"]
)
def test_an_engine_is_looked_for_only_where_one_can_be(address: str) -> None:
    with pytest.raises(UsageError, match="setting engine_url cannot be"):
        load({"engine_url": address}, {})


@pytest.mark.parametrize("address", ["http://10.0.0.2:8000", "https://gpu.example/", "http://[::1]:9", "unix:///run/a"])
def test_an_engines_address_is_kept_as_it_is(address: str) -> None:
    assert load({"engine_url": address}, {}).engine_url == address


def test_what_is_empty_is_not_given(tmp_path: Path) -> None:
    """As `INKSTICK_MODEL= inkstick run` and unit files write it; it had meant the folder that one stands in."""
    environment = {f"INKSTICK_{field.name.upper()}": "" for field in fields(Settings)}
    assert load({"data": tmp_path, "model": ""}, environment) == load({"data": tmp_path}, {})


def test_every_setting_is_described_for_people() -> None:
    described = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/settings.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert described == {field.name for field in fields(Settings)}


def test_the_state_folder_is_for_the_service_alone(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    folder.create()
    assert stat.S_IMODE(folder.state.stat().st_mode) == 0o700
    assert all(path.is_dir() for path in (folder.inbox, folder.results, folder.done, folder.failed, folder.spool))
