"""Fetching over a real HTTP server that drops connections, lies about lengths and sends wrong bytes."""

from __future__ import annotations

import errno
import fcntl
import os
import ssl
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest

from inkstick.errors import DiskFull, Unavailable, UsageError
from inkstick.models.fetch import ATTEMPTS, Fetcher
from inkstick.models.manifest import Manifest, ModelFile, Repository, load
from inkstick.models.source import Mirror
from support.model_mirror import Faults, hub_paths, manifest_text, model_files, serving, write_manifest, write_model

WEIGHTS = "model.safetensors"
NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody; nothing here speaks TLS, and loading the authorities takes long."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return load(write_manifest(tmp_path_factory.mktemp("manifests"), manifest_text()))


def fetcher(url: str, waits: list[float] | None = None) -> Fetcher:
    return Fetcher(mirror=Mirror(url), sleep=(waits if waits is not None else []).append, timeout_seconds=5, tls=NOBODY)


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".fetch.lock"}


def write_all_but_weights(folder: Path) -> None:
    write_model(folder, {name: data for name, data in model_files().items() if name != WEIGHTS})


def test_a_model_arrives_whole_and_leaves_nothing_else(tmp_path: Path, manifest: Manifest) -> None:
    with serving(hub_paths(model_files())) as mirror:
        fetched = fetcher(mirror.url).fetch(manifest, tmp_path / "tiny")
    assert [entry.to for entry in fetched] == list(model_files())
    assert stored(tmp_path / "tiny") == model_files()


def test_a_second_fetch_asks_for_nothing(tmp_path: Path, manifest: Manifest) -> None:
    with serving(hub_paths(model_files())) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path)
        before = len(mirror.asked)
        assert fetcher(mirror.url).fetch(manifest, tmp_path) == ()
    assert len(mirror.asked) == before


def test_a_damaged_file_is_replaced_and_the_others_are_kept(tmp_path: Path, manifest: Manifest) -> None:
    write_model(tmp_path)
    data = bytearray(model_files()[WEIGHTS])
    data[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(data)
    with serving(hub_paths(model_files())) as mirror:
        fetched = fetcher(mirror.url).fetch(manifest, tmp_path)
    assert [entry.to for entry in fetched] == [WEIGHTS]
    assert stored(tmp_path) == model_files()


def test_dropped_connections_are_resumed_where_they_broke(tmp_path: Path, manifest: Manifest) -> None:
    write_all_but_weights(tmp_path)
    with serving(hub_paths(model_files()), Faults(drops=[100_000, 50_000, 0])) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert [asked[1] for asked in mirror.asked] == [None, "bytes=100000-", "bytes=150000-", "bytes=150000-"]
    assert all(asked[2] == '"one"' for asked in mirror.asked[1:])
    assert stored(tmp_path) == model_files()


def test_an_interrupted_fetch_goes_on_in_the_next_run(tmp_path: Path, manifest: Manifest) -> None:
    write_all_but_weights(tmp_path)
    with serving(hub_paths(model_files()), Faults(drops=[200_000] + [0] * ATTEMPTS)) as mirror:
        with pytest.raises(Unavailable, match="could not be fetched") as caught:
            fetcher(mirror.url).fetch(manifest, tmp_path)
        assert "Run the same command again" in caught.value.hint
        assert (tmp_path / f"{WEIGHTS}.part").stat().st_size == 200_000
        assert not (tmp_path / WEIGHTS).exists()
        mirror.asked.clear()
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert mirror.asked[0][1] == "bytes=200000-"
    assert stored(tmp_path) == model_files()


def test_a_fetch_that_was_killed_goes_on_where_it_was(tmp_path: Path, manifest: Manifest) -> None:
    folder = tmp_path / "tiny"
    write_all_but_weights(folder)
    write_manifest(tmp_path / "m", manifest_text())
    program = (
        "import sys, pathlib; from inkstick.models.fetch import Fetcher; from inkstick.models.source import Mirror;"
        "from inkstick.models.manifest import load;"
        "Fetcher(Mirror(sys.argv[1])).fetch(load(pathlib.Path(sys.argv[2])), pathlib.Path(sys.argv[3]))"
    )
    part = folder / f"{WEIGHTS}.part"
    with serving(hub_paths(model_files()), Faults(stalls=[100_000])) as mirror:
        command = [sys.executable, "-c", program, mirror.url, str(tmp_path / "m/tiny.toml"), str(folder)]
        with subprocess.Popen(command) as process:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not (part.exists() and part.stat().st_size):
                time.sleep(0.02)
            process.kill()
        mirror.faults.moved.set()
        kept = part.stat().st_size
        assert 0 < kept <= 100_000 and not (folder / WEIGHTS).exists()
        fetcher(mirror.url).fetch(manifest, folder)
    assert mirror.asked[-1][1] == f"bytes={kept}-"
    assert stored(folder) == model_files()


def test_another_version_on_the_server_is_not_joined_to_the_first(tmp_path: Path, manifest: Manifest) -> None:
    write_all_but_weights(tmp_path)
    with serving(hub_paths(model_files()), Faults(drops=[100_000], etags=['"one"', '"two"'])) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert mirror.asked[1][1:] == ("bytes=100000-", '"one"')
    assert len(mirror.asked) == 2
    assert stored(tmp_path) == model_files()


def test_wrong_bytes_left_by_an_earlier_run_cost_one_more_download(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / f"{WEIGHTS}.part").write_bytes(b"x" * 1000)
    with serving(hub_paths(model_files())) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    ranges = [asked[1] for asked in mirror.asked if asked[0].endswith(WEIGHTS)]
    assert ranges == ["bytes=1000-", None]
    assert stored(tmp_path) == model_files()


@pytest.mark.parametrize("size", [len(model_files()[WEIGHTS]), len(model_files()[WEIGHTS]) + 5])
def test_a_part_that_is_full_but_wrong_starts_again(tmp_path: Path, manifest: Manifest, size: int) -> None:
    (tmp_path / f"{WEIGHTS}.part").write_bytes(b"x" * size)
    with serving(hub_paths(model_files())) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert [asked[1] for asked in mirror.asked if asked[0].endswith(WEIGHTS)] == [None]
    assert stored(tmp_path) == model_files()


def test_a_full_part_of_a_file_of_unknown_size_is_asked_for_again(tmp_path: Path) -> None:
    manifest = load(write_manifest(tmp_path / "m", manifest_text(changes={"config.json": {"size": None}})))
    folder = write_model(tmp_path / "tiny", {"config.json.part": model_files()["config.json"]})
    with serving(hub_paths(model_files())) as mirror:
        fetcher(mirror.url).fetch(manifest, folder)
    ranges = [asked[1] for asked in mirror.asked if asked[0].endswith("config.json")]
    assert ranges == ["bytes=22-", None]
    assert stored(folder) == model_files()


def test_a_server_without_ranges_starts_again_and_succeeds(tmp_path: Path, manifest: Manifest) -> None:
    with serving(hub_paths(model_files()), Faults(drops=[5, 5], ignore_range=True)) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert stored(tmp_path) == model_files()


def test_a_range_that_starts_elsewhere_is_not_joined(tmp_path: Path, manifest: Manifest) -> None:
    with serving(hub_paths(model_files()), Faults(drops=[5], wrong_start=True)) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert [asked[1] for asked in mirror.asked if asked[0].endswith("LICENSE")] == [None, "bytes=5-", None]
    assert stored(tmp_path) == model_files()


def test_an_answer_that_ends_early_without_saying_so_is_resumed(tmp_path: Path, manifest: Manifest) -> None:
    write_all_but_weights(tmp_path)
    with serving(hub_paths(model_files()), Faults(chunked_short=True)) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert len(mirror.asked) == 2
    assert stored(tmp_path) == model_files()


def test_wrong_bytes_are_refused_and_not_kept(tmp_path: Path, manifest: Manifest) -> None:
    wrong = model_files() | {WEIGHTS: model_files()[WEIGHTS][:-1] + b"?"}
    with serving(hub_paths(wrong)) as mirror, pytest.raises(UsageError, match="the sha256 differs") as caught:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert caught.value.code == "model_damaged"
    assert WEIGHTS in caught.value.message
    assert "--mirror" in caught.value.hint
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(WEIGHTS)]


@pytest.mark.parametrize("wrong", [model_files()[WEIGHTS][:-10], model_files()[WEIGHTS] + b"more"])
def test_a_file_of_another_length_is_refused(tmp_path: Path, manifest: Manifest, wrong: bytes) -> None:
    files = hub_paths(model_files() | {WEIGHTS: wrong})
    with serving(files) as mirror, pytest.raises(UsageError, match="bytes instead of") as caught:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert caught.value.code == "model_damaged"


def test_a_length_that_is_a_lie_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    with serving(hub_paths(model_files()), Faults(length=10**9)) as mirror, pytest.raises(UsageError, match="instead"):
        fetcher(mirror.url).fetch(manifest, tmp_path)


def test_a_file_of_unknown_size_is_fetched_by_its_hash(tmp_path: Path) -> None:
    text = manifest_text(changes={"config.json": {"size": None}})
    with serving(hub_paths(model_files())) as mirror:
        fetcher(mirror.url).fetch(load(write_manifest(tmp_path / "manifests", text)), tmp_path / "tiny")
    assert stored(tmp_path / "tiny") == model_files()


def test_a_file_of_unknown_size_is_bounded(tmp_path: Path) -> None:
    text = manifest_text(changes={"LICENSE": {"size": None}})
    manifest = load(write_manifest(tmp_path / "manifests", text))
    faults = Faults(length=10**10)
    with serving(hub_paths(model_files()), faults) as mirror, pytest.raises(UsageError, match="far more than a file"):
        fetcher(mirror.url).fetch_licence(manifest, tmp_path)


def test_the_licence_can_be_fetched_alone(tmp_path: Path, manifest: Manifest) -> None:
    with serving(hub_paths(model_files())) as mirror:
        path = fetcher(mirror.url).fetch_licence(manifest, tmp_path)
    assert path == tmp_path / "LICENSE"
    assert stored(tmp_path) == {"LICENSE": model_files()["LICENSE"]}


def test_a_busy_server_is_given_the_time_it_asks_for(tmp_path: Path, manifest: Manifest) -> None:
    waits: list[float] = []
    with serving(hub_paths(model_files()), Faults(busy=2)) as mirror:
        fetcher(mirror.url, waits).fetch(manifest, tmp_path)
    assert waits == [7.0, 7.0]


def test_a_file_that_is_not_there_names_the_address_and_what_to_do(tmp_path: Path, manifest: Manifest) -> None:
    with serving({}) as mirror, pytest.raises(Unavailable, match="does not have LICENSE") as caught:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert mirror.url in caught.value.message
    assert "--mirror" in caught.value.hint
    assert len(mirror.asked) == 1


def test_nobody_listening_is_unavailable_after_a_few_tries(tmp_path: Path, manifest: Manifest) -> None:
    with serving({}) as mirror:
        pass
    waits: list[float] = []
    with pytest.raises(Unavailable, match="could not be fetched"):
        fetcher(mirror.url, waits).fetch(manifest, tmp_path)
    assert len(waits) == ATTEMPTS - 1


def test_redirects_are_followed(tmp_path: Path, manifest: Manifest) -> None:
    with serving(hub_paths(model_files()), Faults(redirect=True, drops=[3])) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert stored(tmp_path) == model_files()


def test_a_template_names_the_other_hubs_repository(tmp_path: Path, manifest: Manifest) -> None:
    files = {f"/m/Else/Tiny/{name}": data for name, data in model_files().items()}
    with serving(files) as mirror:
        fetcher(f"{mirror.url}/m/{{other}}/{{path}}").fetch(manifest, tmp_path)
    assert stored(tmp_path) == model_files()


def test_a_template_with_an_unknown_name_says_which_there_are(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(UsageError, match="asks for modelscope") as caught:
        fetcher("https://hub.invalid/{modelscope}/{path}").fetch(manifest, tmp_path)
    assert "other, path" in caught.value.hint


def test_a_folder_serves_as_a_mirror(tmp_path: Path, manifest: Manifest) -> None:
    source = write_model(tmp_path / "a stick")
    fetcher(f"file://{urllib.parse.quote(str(source))}").fetch(manifest, tmp_path / "tiny")
    assert stored(tmp_path / "tiny") == model_files()


def test_a_wrong_or_missing_file_in_a_folder_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    source = write_model(tmp_path / "stick")
    (source / WEIGHTS).write_bytes(b"?" * len(model_files()[WEIGHTS]))
    with pytest.raises(UsageError, match="the sha256 differs"):
        fetcher(f"file://{source}").fetch(manifest, tmp_path / "tiny")
    (source / WEIGHTS).unlink()
    with pytest.raises(Unavailable, match="No such file"):
        fetcher(f"file://{source}").fetch(manifest, tmp_path / "tiny")


def test_a_disk_that_is_too_small_is_found_before_anything_is_fetched(tmp_path: Path, manifest: Manifest) -> None:
    with serving(hub_paths(model_files())) as mirror:
        small = Fetcher(mirror=Mirror(mirror.url), tls=NOBODY, free_bytes=lambda _: 1000)
        with pytest.raises(DiskFull, match="needs") as caught:
            small.fetch(manifest, tmp_path)
    assert mirror.asked == []
    assert "--to DIR" in caught.value.hint


def test_a_disk_that_fills_while_a_folder_is_copied_is_not_the_folders_fault(
    tmp_path: Path, manifest: Manifest
) -> None:
    def full(entry: ModelFile, done: int, total: int | None) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    given = write_model(tmp_path / "stick")
    with pytest.raises(DiskFull, match=r"disk with .*/tiny is full"):
        Fetcher(mirror=Mirror(f"file://{given}"), progress=full).fetch(manifest, tmp_path / "tiny")


@pytest.mark.parametrize("mark", [b"", b"\0\0\0\0", b"\xff\xfe", b'W/"one"'])
def test_a_mark_that_a_power_cut_garbled_keeps_nobody_from_going_on(
    tmp_path: Path, manifest: Manifest, mark: bytes
) -> None:
    write_all_but_weights(tmp_path)
    (tmp_path / f"{WEIGHTS}.part").write_bytes(model_files()[WEIGHTS][:1000])
    (tmp_path / f"{WEIGHTS}.part.etag").write_bytes(mark)
    with serving(hub_paths(model_files())) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert [asked[1:] for asked in mirror.asked] == [("bytes=1000-", None)]
    assert stored(tmp_path) == model_files()


def test_a_disk_without_locks_is_fetched_to_all_the_same(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network shares; nobody else is fetching there."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with serving(hub_paths(model_files())) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path)
    assert stored(tmp_path) == model_files()


@pytest.mark.parametrize("name", [WEIGHTS, "modeling_tiny.py"])
def test_weights_and_code_without_a_hash_are_not_fetched(tmp_path: Path, name: str) -> None:
    manifest = load(write_manifest(tmp_path, manifest_text(changes={name: {"sha256": None}})))
    with serving(hub_paths(model_files())) as mirror, pytest.raises(UsageError, match="unpinned") as caught:
        fetcher(mirror.url).fetch(manifest, tmp_path / "tiny")
    assert caught.value.code == "model_unpinned"
    assert mirror.asked == []


def test_two_fetches_into_one_folder_do_not_mix(tmp_path: Path, manifest: Manifest) -> None:
    refused: list[str] = []

    def second(entry: ModelFile, done: int, total: int | None) -> None:
        if not refused:
            with pytest.raises(UsageError, match="Another fetch") as caught:
                fetcher(mirror.url).fetch(manifest, tmp_path)
            refused.append(caught.value.hint)

    with serving(hub_paths(model_files())) as mirror:
        Fetcher(mirror=Mirror(mirror.url), tls=NOBODY, progress=second).fetch(manifest, tmp_path)
    assert refused == ["Wait until it has finished."]


def test_progress_grows_to_the_size_of_each_file(tmp_path: Path, manifest: Manifest) -> None:
    last: dict[str, tuple[int, int | None]] = {}

    def note(entry: ModelFile, done: int, total: int | None) -> None:
        last[entry.to] = (done, total)

    with serving(hub_paths(model_files()), Faults(drops=[5])) as mirror:
        Fetcher(mirror=Mirror(mirror.url), tls=NOBODY, progress=note, sleep=lambda _: None).fetch(manifest, tmp_path)
    assert last == {name: (len(data), len(data)) for name, data in model_files().items()}


def test_a_mirror_that_is_no_url_says_what_one_looks_like(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(UsageError, match="is not a URL") as caught:
        fetcher("ftp://somewhere").fetch(manifest, tmp_path)
    assert "file:///" in caught.value.hint


def test_an_extra_is_fetched_only_when_asked_for(tmp_path: Path) -> None:
    manifest = load(write_manifest(tmp_path, manifest_text(changes={"modeling_tiny.py": {"extra": "draft"}})))
    with serving(hub_paths(model_files())) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path / "tiny")
        assert "modeling_tiny.py" not in stored(tmp_path / "tiny")
        fetcher(mirror.url).fetch(manifest, tmp_path / "tiny", ("draft",))
    assert stored(tmp_path / "tiny") == model_files()


def test_an_entry_may_come_from_another_revision_and_place(tmp_path: Path) -> None:
    changes: dict[str, object] = {"revision": "f" * 40, "to": "transformers/config.json"}
    manifest = load(write_manifest(tmp_path, manifest_text(changes={"config.json": changes})))
    files = hub_paths(model_files())
    files[f"/somebody/Tiny/resolve/{'f' * 40}/config.json"] = files.pop(
        f"/somebody/Tiny/resolve/{_revision(manifest)}/config.json"
    )
    with serving(files) as mirror:
        fetcher(mirror.url).fetch(manifest, tmp_path / "tiny")
    assert (tmp_path / "tiny/transformers/config.json").read_bytes() == model_files()["config.json"]


def _revision(manifest: Manifest) -> str:
    repository: Repository = manifest.repositories[0]
    return repository.revision
