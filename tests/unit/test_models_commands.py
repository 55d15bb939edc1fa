"""``inkstick models`` from its functions: what is printed, what is left on disk, and the exit status."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from inkstick.clock import ManualClock
from inkstick.errors import UsageError
from inkstick.models import commands
from inkstick.models import licence as licences
from inkstick.models.manifest import load
from support.model_mirror import LICENCE, hub_paths, manifest_text, model_files, serving, write_manifest, write_model


@dataclass
class Desk:
    """Somebody at a terminal, with a tiny model's manifest."""

    folder: Path
    console: Console

    @property
    def manifests(self) -> Path:
        return self.folder / "manifests"

    @property
    def records(self) -> Path:
        return self.folder / "state/licences"

    @property
    def model(self) -> Path:
        return self.folder / "models/tiny"

    def fetch(self, mirror: str, *, accept: bool = False, extras: tuple[str, ...] = ()) -> int:
        return commands.fetch(
            self.console, "tiny", manifests=self.manifests, folder=self.model, records=self.records, who="Ada",
            clock=ManualClock(), accept=accept, mirror=mirror, extras=extras,
        )  # fmt: skip

    def licence(self, mirror: str | None = None, *, accept: bool = False) -> int:
        return commands.licence(
            self.console, "tiny", manifests=self.manifests, folder=self.model, records=self.records, who="Ada",
            clock=ManualClock(), accept=accept, mirror=mirror,
        )  # fmt: skip

    def verify(self, model: str | None = "tiny", weights: Path | None = None) -> int:
        return commands.verify(self.console, model, manifests=self.manifests, folder=self.model, weights=weights)

    def told(self) -> str:
        """What was printed since the last call."""
        stream = self.console.file
        assert isinstance(stream, io.StringIO)
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return text


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    write_manifest(tmp_path / "manifests", manifest_text(accept=True))
    return Desk(tmp_path, Console(file=io.StringIO(), width=200))


def test_without_acceptance_only_the_licence_is_fetched_and_the_way_on_is_named(desk: Desk) -> None:
    with serving(hub_paths(model_files())) as mirror:
        assert desk.fetch(mirror.url) == 1
    assert [path.name for path in desk.model.iterdir() if not path.name.startswith(".")] == ["LICENSE"]
    told = desk.told()
    assert "inkstick models licence tiny --accept" in told
    assert "Not to be used in the European Union, the United Kingdom and South Korea; nor what it reads." in told
    assert "Only for tests." in told


def test_read_accept_fetch_verify(desk: Desk) -> None:
    with serving(hub_paths(model_files())) as mirror:
        assert desk.licence(mirror.url) == 0
        told = desk.told()
        assert LICENCE.strip() in told and "Not accepted yet" in told
        assert desk.licence(accept=True) == 0
        assert "Accepted by Ada on 1970-01-01T00:00:00+00:00." in desk.told()
        assert desk.fetch(mirror.url) == 0
        assert "4 files" not in desk.told()
    assert desk.verify() == 0
    assert "4 files" in desk.told()


def test_one_command_accepts_and_fetches(desk: Desk) -> None:
    with serving(hub_paths(model_files())) as mirror:
        assert desk.fetch(mirror.url, accept=True) == 0
    record = json.loads((desk.records / "tiny.json").read_text(encoding="utf-8"))
    assert (record["who"], record["when"], record["excluded"]) == (
        "Ada",
        "1970-01-01T00:00:00+00:00",
        ["EU", "GB", "KR"],
    )
    assert {path.name for path in desk.model.iterdir()} == {*model_files(), ".fetch.lock"}


def test_an_acceptance_does_not_hold_for_another_text(desk: Desk) -> None:
    manifest = load(desk.manifests / "tiny.toml")
    write_model(desk.model)
    licences.accept(manifest, desk.model, desk.records, who="Ada", clock=ManualClock())
    licences.require(manifest, desk.model, desk.records)
    (desk.model / "LICENSE").write_text("Everything is forbidden.")
    with pytest.raises(UsageError, match="has not been accepted") as caught:
        licences.require(manifest, desk.model, desk.records)
    assert caught.value.code == "licence"
    assert "inkstick models licence tiny --accept" in caught.value.hint


@pytest.mark.parametrize("record", ["", "{", "[]", '{"model": "tiny"}', '{"model": 1, "excluded": 3}'])
def test_a_damaged_record_is_no_acceptance(desk: Desk, record: str) -> None:
    write_model(desk.model)
    desk.records.mkdir(parents=True)
    (desk.records / "tiny.json").write_text(record)
    assert licences.accepted(load(desk.manifests / "tiny.toml"), desk.model, desk.records) is None


def test_a_text_that_the_disk_does_not_give_is_fetched_anew(desk: Desk) -> None:
    text = desk.model / "LICENSE"
    with serving(hub_paths(model_files())) as mirror:
        desk.licence(mirror.url, accept=True)
        text.unlink()
        text.symlink_to("/proc/self/mem")  # opens, and fails to read
        assert licences.accepted(load(desk.manifests / "tiny.toml"), desk.model, desk.records) is None
        assert desk.licence(mirror.url) == 0
    assert text.read_text() == LICENCE


def test_only_the_text_that_the_manifest_names_is_shown_and_accepted(desk: Desk) -> None:
    write_model(desk.model)
    (desk.model / "LICENSE").write_text("Everything is allowed.")
    with serving(hub_paths(model_files())) as mirror:
        assert desk.licence(mirror.url, accept=True) == 0
    assert (desk.model / "LICENSE").read_text() == LICENCE
    with serving({}) as mirror:
        (desk.model / "LICENSE").write_text("Everything is allowed.")
        assert desk.licence(mirror.url, accept=True) == 1
    assert "Everything is allowed" not in desk.told()


def test_a_text_that_is_not_there_cannot_be_accepted(desk: Desk) -> None:
    with pytest.raises(UsageError, match="is not in"):
        licences.accept(load(desk.manifests / "tiny.toml"), desk.model, desk.records, who="Ada", clock=ManualClock())


def test_verify_names_what_is_wrong_and_how_to_mend_it_and_fetch_mends_it(desk: Desk) -> None:
    with serving(hub_paths(model_files())) as mirror:
        desk.fetch(mirror.url, accept=True)
        (desk.model / "model.safetensors").write_bytes(b"x" * len(model_files()["model.safetensors"]))
        desk.told()
        assert desk.verify() == 1
        told = desk.told()
        assert "model.safetensors is damaged" in told
        assert f"inkstick models fetch tiny --to {desk.model}" in told
        assert desk.fetch(mirror.url) == 0
    assert desk.verify() == 0


def test_verify_of_weights_given_by_hand_recognises_the_model(desk: Desk) -> None:
    folder = write_model(desk.folder / "stick")
    assert desk.verify(None, weights=folder) == 0
    assert "Tiny: 4 files" in desk.told()
    (folder / "evil.py").write_text("import os")
    assert desk.verify(None, weights=folder) == 1
    assert "evil.py is program code that the manifest does not list" in desk.told()


def test_a_fetch_into_a_folder_with_strange_company_says_so(desk: Desk) -> None:
    desk.model.mkdir(parents=True)
    (desk.model / "weights.bin").write_bytes(b"\x80")
    with serving(hub_paths(model_files())) as mirror:
        assert desk.fetch(mirror.url, accept=True) == 1
    assert "weights.bin" in desk.told()


def test_list_shows_each_model_and_whether_it_is_here(desk: Desk) -> None:
    shown = desk.folder / "models"
    for expected in ("no", "part of it", "yes"):
        assert commands.show(desk.console, manifests=desk.manifests, root=shown) == 0
        line = next(line for line in desk.told().splitlines() if "tiny" in line)
        assert expected in line
        write_model(desk.model, model_files() if expected == "part of it" else {"LICENSE": LICENCE.encode()})


def test_list_of_the_repository_names_every_model_and_excluded_territory(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=250)
    assert commands.show(console, manifests=None, root=tmp_path) == 0
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    for word in ("hunyuanocr-1.5", "hunyuanocr-1.0", "paddleocr-vl-1.6", "pp-ocrv6-small", "glm-ocr", "EU, GB, KR"):
        assert word in told


@pytest.mark.parametrize(
    ("model", "extras", "message"),
    [("huge", (), "There is no model 'huge'"), ("tiny", ("wings",), "has no extra 'wings'")],
)
def test_a_wrong_command_is_status_2(desk: Desk, model: str, extras: tuple[str, ...], message: str) -> None:
    status = commands.fetch(
        desk.console, model, manifests=desk.manifests, folder=desk.model, records=desk.records, who="Ada",
        clock=ManualClock(), mirror="http://127.0.0.1:9", extras=extras,
    )  # fmt: skip
    assert status == 2
    assert message in desk.told()


def test_an_unreachable_mirror_is_status_1_with_advice(desk: Desk) -> None:
    with serving({}) as mirror:
        assert desk.fetch(mirror.url) == 1
    told = desk.told()
    assert "does not have LICENSE" in told and "--mirror" in told


def test_verify_of_a_model_that_was_never_fetched_says_so_in_one_sentence(desk: Desk) -> None:
    assert desk.verify() == 1
    assert desk.told().splitlines() == [f"Tiny is not in {desk.model}.", "Get it: inkstick models fetch tiny"]


def test_what_is_wrong_is_listed_with_one_mend_for_all(desk: Desk) -> None:
    write_model(desk.model, {"LICENSE": LICENCE.encode()})
    assert desk.verify() == 1
    told = desk.told()
    assert told.count("is missing") == 3
    assert told.count("inkstick models fetch tiny") == 1


def test_verify_of_a_folder_that_is_not_there_is_status_2(desk: Desk) -> None:
    assert desk.verify(None, weights=desk.folder / "nowhere") == 2
    assert "There is no folder" in desk.told()


def test_the_embedded_model_needs_no_fetch_but_can_be_checked(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    assert commands.verify(console, "pp-ocrv6-small", manifests=None, folder=tmp_path) == 0
    status = commands.fetch(
        console, "pp-ocrv6-small", manifests=None, folder=tmp_path, records=tmp_path, who="Ada", clock=ManualClock()
    )
    assert status == 2
    assert isinstance(console.file, io.StringIO)
    assert "there is nothing to fetch" in console.file.getvalue()
