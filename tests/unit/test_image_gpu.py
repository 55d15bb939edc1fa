"""The gpu edition's decisions: the key, the signature, which files go where, which models may come in."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from inkstick_image import cards, debs, engine, layers, lock, nvidia, owners, recipe, signing, tools, trees, weights
from inkstick_image.__main__ import main
from inkstick_image.errors import ImageError
from inkstick_image.trees import Place
from support import small_weights

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "image/overlay/gpu"
CUDA13 = "engine-gpu-cuda13.txt"
MODULE = b"\x7fELF a module" * 100

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
needs_squashfs = pytest.mark.skipif(shutil.which("mksquashfs") is None, reason="squashfs-tools is not installed")


@needs_openssl
def test_a_key_is_made_once_and_then_kept(tmp_path: Path) -> None:
    first = signing.key(None, None, tmp_path / "keys")
    again = signing.key(None, None, tmp_path / "keys")
    assert (first.made, again.made) == (True, False)
    assert first.private.stat().st_mode & 0o077 == 0
    shown = subprocess.run(
        ["openssl", "x509", "-in", first.certificate, "-noout", "-text"], capture_output=True, text=True
    ).stdout
    assert "1.3.6.1.4.1.2312.16.1.2" in shown and "CA:FALSE" in shown


@needs_openssl
def test_half_a_key_and_halves_of_two_keys_are_refused(tmp_path: Path) -> None:
    one, other = (signing.key(None, None, tmp_path / name) for name in ("one", "other"))
    with pytest.raises(ImageError, match="both halves"):
        signing.key(one.private, None, tmp_path)
    with pytest.raises(ImageError, match="do not belong together"):
        signing.key(one.private, other.certificate, tmp_path)


@needs_openssl
def test_a_module_s_signature_fits_it_and_is_the_same_twice(tmp_path: Path) -> None:
    key = signing.key(None, None, tmp_path / "keys")
    signed = signing.signed(MODULE, key)
    assert signed.startswith(MODULE) and signed.endswith(signing.MARK)
    assert signing.signed(signed, key) == signed  # an older signature is replaced, and nothing depends on the time
    assert signing.unsigned(signed) == MODULE
    body = signed[: -len(signing.MARK)]
    size = int.from_bytes(body[-4:], "big")
    assert body[-12:-4] == bytes([0, 0, 2, 0, 0, 0, 0, 0])
    (tmp_path / "signature").write_bytes(body[-12 - size : -12])
    (tmp_path / "module").write_bytes(MODULE)
    pem = tmp_path / "signer.pem"
    subprocess.run(["openssl", "x509", "-in", key.certificate, "-out", pem], check=True)
    check: list[str | Path] = [
        "openssl",
        "cms",
        "-verify",
        "-binary",
        "-inform",
        "DER",
        "-in",
        tmp_path / "signature",
        "-noverify",
    ]
    check += ["-content", tmp_path / "module", "-certfile", pem, "-nointern", "-out", tmp_path / "out"]
    assert subprocess.run(check, capture_output=True).returncode == 0
    (tmp_path / "module").write_bytes(MODULE + b"!")
    assert subprocess.run(check, capture_output=True).returncode != 0


@needs_openssl
def test_a_layer_with_a_private_key_in_it_stops_the_build(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "usr/lib/reader.py").write_text('if "-----BEGIN PRIVATE KEY-----" in text:\n    pass\n')
    (tree / "usr/lib/library.so").write_bytes(b"\x00-----BEGIN RSA PRIVATE KEY-----\x00%s\n\x00")
    signing.check_no_key(tree, "60-app")
    shutil.copyfile(signing.key(None, None, tmp_path / "keys").private, tree / "usr/lib/mok.key")
    with pytest.raises(ImageError, match=r"60-app holds a private key: usr/lib/mok\.key"):
        signing.check_no_key(tree, "60-app")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "work").mkdir()
    return Place(ROOT, tmp_path, tmp_path / "work", tmp_path / "log", 0, 1)


@needs_squashfs
def test_a_layer_that_is_too_large_is_parted_and_nothing_is_lost(place: Place, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    names = {f"folder{n}/file{n}" for n in range(12)}
    for number, name in enumerate(sorted(names)):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_bytes(bytes((number * 7 + i * i) % 251 for i in range(60_000)))
    packing = ("-noI", "-noD", "-noF", "-noX", "-nopad")
    made = trees.squash(place, tree, tmp_path / "30-cuda.squashfs", packing, most=300_000)
    assert [path.name for path in made][:2] == ["30-cuda.squashfs", "30-cuda-2.squashfs"] and len(made) > 2
    found: list[str] = []
    for layer in made:
        assert layer.stat().st_size <= 300_000
        listed = subprocess.run(
            ["unsquashfs", "-l", "-d", "", layer], capture_output=True, text=True, check=True
        ).stdout
        found += [line.lstrip("/") for line in listed.splitlines() if "/file" in line]
    assert sorted(found) == sorted(names)
    assert {str(path.relative_to(tree)) for path in tree.rglob("file*")} == names
    with pytest.raises(ImageError, match="too large"):
        trees.squash(place, tree, tmp_path / "50-model.squashfs", packing, most=50_000)


def test_a_layer_may_hide_nothing_of_those_below(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    trees.without_holes(tmp_path)
    try:
        subprocess.run(["mknod", tmp_path / "gone", "c", "0", "0"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        pytest.skip("no device files may be made here")
    with pytest.raises(ImageError, match="gone of a lower layer"):
        trees.without_holes(tmp_path)


@pytest.mark.parametrize("suffix", ["-cu12", ""], ids=["CUDA 12", "CUDA 13"])
def test_nvidia_s_libraries_make_one_layer_and_all_else_the_other(suffix: str) -> None:
    known = {
        "/e/nvidia/cublas/lib/libcublas.so": f"nvidia-cublas{suffix}",
        "/e/nvidia/cublas/__init__.py": f"nvidia-cublas{suffix}",
        "/e/nvidia_cublas.dist-info/RECORD": f"nvidia-cublas{suffix}",
        "/e/nvidia_cutlass_dsl/__init__.py": "nvidia-cutlass-dsl",
        "/e/cudnn/__init__.py": "nvidia-cudnn-frontend",
        "/e/pynvml.py": "nvidia-ml-py",
        "/e/torch/__init__.py": "torch",
    }
    files = [*known, "/e/nvidia/cublas/__pycache__/__init__.cpython-313.pyc", "/e/torch/__pycache__/x.pyc"]
    assert engine.cuda_files(known, files, "/e") == [*list(known)[:3], files[7]]


def test_the_driver_s_branch_is_what_the_appliance_compares_cards_with(tmp_path: Path) -> None:
    rules = recipe.load(ROOT / "image/recipe.toml")
    assert nvidia.branch(rules, None) == "550\n"
    installer = tmp_path / "NVIDIA-Linux-x86_64-580.126.09.run"
    with pytest.raises(ImageError, match="no file"):
        nvidia.branch(rules, installer)
    installer.touch()
    assert nvidia.branch(rules, installer) == "580\n"
    with pytest.raises(ImageError, match="too old for CUDA 13"):
        nvidia.branch(rules, Path("NVIDIA-Linux-x86_64-550.163.01.run"))
    with pytest.raises(ImageError, match="not NVIDIA's installer"):
        nvidia.branch(rules, Path("driver.run"))


def test_of_an_installer_only_what_computes_is_taken() -> None:
    names = ["libcuda.so.580.1", "libGLX_nvidia.so.580.1", "nvidia-smi", "nvidia-settings", "firmware/gsp_ga10x.bin"]
    names += ["kernel-open/nvidia.ko", "32/libcuda.so.580.1", "libnvidia-ml.so.580.1", "libnvidia-nvvm70.so.4"]
    assert nvidia.open_files(names) == {
        "libcuda.so.580.1": "usr/lib/x86_64-linux-gnu/libcuda.so.580.1",
        "nvidia-smi": "usr/bin/nvidia-smi",
        "firmware/gsp_ga10x.bin": "usr/lib/firmware/nvidia/VERSION/gsp_ga10x.bin",
        "libnvidia-ml.so.580.1": "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.1",
        "libnvidia-nvvm70.so.4": "usr/lib/x86_64-linux-gnu/libnvidia-nvvm70.so.4",
    }


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The files that the image takes of an installer of 580.1, and one that it does not take."""
    folder = tmp_path / "run"
    names = ["libcuda.so.580.1", "libnvidia-ml.so.580.1", "libnvidia-nvvm.so.580.1", "libnvidia-nvvm70.so.4", "LICENSE"]
    names += [*nvidia.OPEN_PROGRAMS, *nvidia.FIRMWARE, "libGLX_nvidia.so.580.1"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_an_installer_s_files_are_found_by_their_names_and_their_licence_goes_with_them(
    unpacked: Path, tmp_path: Path
) -> None:
    tree, parts = tmp_path / "tree", nvidia.of_installer("580.1")
    known = nvidia.lay_open(unpacked, tree, "580.1", parts)
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    assert {path.name: path.resolve().name for path in libraries.iterdir() if path.is_symlink()} == {
        "libcuda.so": "libcuda.so.580.1",
        "libcuda.so.1": "libcuda.so.580.1",
        "libnvidia-ml.so": "libnvidia-ml.so.580.1",
        "libnvidia-ml.so.1": "libnvidia-ml.so.580.1",
        "libnvidia-nvvm.so": "libnvidia-nvvm.so.580.1",
        "libnvidia-nvvm.so.4": "libnvidia-nvvm.so.580.1",
    }
    assert (tree / "usr/lib/firmware/nvidia/580.1/gsp_ga10x.bin").is_file()
    assert (tree / "usr/bin/nvidia-smi").stat().st_mode & 0o777 == 0o755
    assert not list(tree.rglob("libGLX*"))
    assert set(known) == set(owners.files(tree)) and set(known.values()) == {parts[1].name}
    assert {text for part in parts for text in part.texts} == {f"/{nvidia.TEXT}"}
    assert (tree / nvidia.TEXT).read_text() == "LICENSE"


@pytest.mark.parametrize("lacking", ["LICENSE", "firmware/gsp_ga10x.bin", "libcuda.so.580.1", "nvidia-modprobe"])
def test_an_installer_without_what_the_card_or_the_licence_needs_is_refused(
    unpacked: Path, tmp_path: Path, lacking: str
) -> None:
    (unpacked / lacking).unlink()
    with pytest.raises(ImageError, match=lacking):
        nvidia.lay_open(unpacked, tmp_path / "tree", "580.1", nvidia.of_installer("580.1"))


def test_an_installer_that_holds_another_version_than_it_is_called_by_is_refused(
    unpacked: Path, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=r"libcuda\.so\.590\.2"):
        nvidia.lay_open(unpacked, tmp_path / "tree", "590.2", nvidia.of_installer("590.2"))


def test_the_cpu_edition_takes_no_installer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installer = tmp_path / "NVIDIA-Linux-x86_64-580.1.run"
    installer.touch()
    for command in ("image", "fetch"):
        assert main([command, "--edition", "cpu", "--nvidia-run", str(installer)]) == 1
        assert "--edition gpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("installer", "sets", "locks"),
    [
        (None, {"modules", "nvidia", "runtime"}, ("engine-gpu.txt", "engine-transformers.txt")),
        (Path("NVIDIA-Linux-x86_64-580.1.run"), {"open-modules", "open-runtime"}, ("engine-gpu-cuda13.txt",)),
    ],
)
def test_the_driver_decides_which_packages_are_fetched(
    installer: Path | None, sets: set[str], locks: tuple[str, ...]
) -> None:
    rules = recipe.load(ROOT / "image/recipe.toml")
    made = rules.sets(gpu=True, firmware=False, installer=installer is not None)
    assert set(made) == {"base", "builder"} | sets
    assert engine.kit(installer).locks == locks
    theirs = {name for names in made.values() for name in names if "nvidia" in name or name == "libcuda1"}
    assert bool(theirs) is (installer is None), "of Debian's driver and NVIDIA's own only one is in an image"


def test_the_engine_s_layers_have_a_key_for_each_driver_and_do_not_depend_on_its_version(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "builder_key", lambda *_: "a builder")
    rules = recipe.load(ROOT / "image/recipe.toml")
    kits = [engine.kit(file) for file in (None, Path("NVIDIA-580.run"), Path("NVIDIA-590.run"))]
    keys = [engine.key(place, rules, kit) for kit in kits]
    assert keys[0] != keys[1] == keys[2]


def test_a_build_of_modules_that_made_none_shows_its_log(tmp_path: Path) -> None:
    log = tmp_path / "var/lib/dkms/nvidia-current/550/make.log"
    log.parent.mkdir(parents=True)
    log.write_text("first\nfatal error: no such header\n")
    with pytest.raises(ImageError) as caught:
        nvidia.built(tmp_path, "6.12.1")
    assert "no modules for 6.12.1" in caught.value.message


def test_firmware_is_cut_to_what_the_kernel_s_modules_ask_for() -> None:
    modules = [b"\x00license=GPL\x00firmware=i915/dg2_guc_70.bin\x00", b"\x00firmware=rtl_nic/rtl8125*.fw\x00x"]
    files = ["i915/dg2_guc_70.bin.xz", "i915/other.bin", "rtl_nic/rtl8125b-2.fw", "nvidia/big.bin"]
    assert cards.kept(files, cards.asked(modules)) == {files[0], files[2]}


def test_weights_come_in_only_whole_known_and_with_their_licence_accepted(tmp_path: Path) -> None:
    folder, manifests = small_weights.write(tmp_path / "small")
    with pytest.raises(ImageError, match="European Union"):
        weights.find([], [folder], manifests, tmp_path, accepts=False, epoch=0)
    (model,) = weights.find([], [folder], manifests, tmp_path, accepts=True, epoch=0)
    assert (model.id, model.folder) == ("small-test", folder)
    assert '"who": "the builder of this image"' in model.licence and "1970-01-01" in model.licence
    before = weights.key([model], manifests)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ImageError, match=r"config\.json"):
        weights.find([], [folder], manifests, tmp_path, accepts=True, epoch=0)
    assert weights.key([model], manifests) != before
    with pytest.raises(ImageError, match="no model that is known"):
        weights.find([], [tmp_path], manifests, tmp_path, accepts=True, epoch=0)


def test_a_checkpoint_of_one_s_own_can_take_the_weights_place(tmp_path: Path) -> None:
    made = tmp_path / "checkpoint"
    made.mkdir()
    (made / "config.json").write_text('{"model_type": "hunyuan_vl"}')
    (made / "tokenizer.json").write_text("{}")
    (made / "model.safetensors").write_bytes(small_weights.safetensors())
    folder, manifests = small_weights.write(tmp_path / "small", checkpoint=made)
    (model,) = weights.find([], [folder], manifests, tmp_path, accepts=True, epoch=0)
    assert (model.folder / "config.json").read_bytes() == (made / "config.json").read_bytes()
    assert (model.folder / "tokenizer.json").exists()


def test_writing_one_edition_s_packages_leaves_the_other_s_lines_in_the_lock() -> None:
    old = "base a_1_amd64.deb aa\nnvidia n_1_amd64.deb bb\n"
    new = lock.updated(old, {"base": [debs.Deb("a_2_amd64.deb", 1, "cc")]})
    assert [line for line in new.splitlines() if not line.startswith("#")] == [
        "base a_2_amd64.deb cc",
        "nvidia n_1_amd64.deb bb",
    ]
    assert lock.differences(new, {"base": [debs.Deb("a_2_amd64.deb", 1, "cc")]}) == []


@pytest.mark.parametrize(
    ("name", "pinned"),
    [
        ("engine-gpu.txt", ("vllm==0.19.1 ", "torch==2.10.0 ", "transformers==4.57.6 ", "triton==3.6.0 ")),
        ("engine-gpu-cuda13.txt", ("vllm==0.27.1 ", "torch==2.13.0 ", "transformers==5.19.0 ", "triton==3.7.1 ")),
    ],
)
def test_the_engine_s_lock_is_vllm_s_pinned_set_with_one_file_each(name: str, pinned: tuple[str, ...]) -> None:
    text = (ROOT / "locks" / name).read_text(encoding="utf-8")
    for wanted in pinned:
        assert f"\n{wanted}" in text
    assert text.count("==") == text.count("--hash=sha256:")


def test_a_lock_holds_the_libraries_of_one_cuda_alone() -> None:
    """(nvidia-cutlass-dsl brings parts for both by its own dependencies.)"""
    texts = {name: (ROOT / "locks" / name).read_text(encoding="utf-8") for name in ("engine-gpu.txt", CUDA13)}
    found = {name: set(re.findall(r"(?m)^(nvidia-(?!cutlass)[a-z-]+?-cu1\d)==", text)) for name, text in texts.items()}
    assert {name[-2:] for name in found["engine-gpu.txt"]} == {"12"}
    assert {name[-2:] for name in found[CUDA13]} == {"13"}


def test_the_transformers_engine_has_the_same_transformers_with_each_driver() -> None:
    pins = [
        re.findall(r"(?m)^transformers==\S+", (ROOT / "locks" / kit.locks[-1]).read_text(encoding="utf-8"))
        for kit in (engine.CUDA12, engine.CUDA13)
    ]
    assert pins[0] == pins[1] != []


# ---- on the appliance


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inkstick_gpu_check", GPU / "usr/lib/inkstick/gpu.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("status", "said", "state"),
    [
        (0, "", "ready"),
        (1, "modprobe: ERROR: could not insert 'nvidia_current': No such device", "none"),
        (1, "modprobe: ERROR: could not insert 'nvidia_current': Key was rejected by service", "locked"),
        (1, "modprobe: ERROR: could not insert 'nvidia_current': Exec format error", "failed"),
    ],
)
def test_what_modprobe_says_is_put_in_words(gpu: ModuleType, status: int, said: str, state: str) -> None:
    found = gpu.verdict(status, said)
    assert found.state == state and found.sentence == gpu.SENTENCES[state]


NVIDIA_MODPROBE = """#!/usr/bin/python3 -I
# What NVIDIA's program makes (nvidia-modprobe.c of 570.133.07): with -u the files of nvidia-uvm and no others; else one
# file for each number, 255 being the control device.
import pathlib, sys
numbers = [word for word in sys.argv[1:] if word.isdigit()]
names = {"255": "nvidiactl"}
made = ["nvidia-uvm", "nvidia-uvm-tools"] if "-u" in sys.argv else [names.get(n, f"nvidia{n}") for n in numbers]
for name in made:
    (pathlib.Path(DEV) / name).touch()
"""
INFORMATION = "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   \t\t 96\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n"


@pytest.mark.parametrize("cards", [["0"], ["0", "1"], []])
def test_a_card_gets_all_the_device_files_without_which_no_program_finds_it(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cards: list[str]
) -> None:
    """They are made by nobody else: udev has no rule for it, and no program of the engine may."""
    dev, tools_of_driver = tmp_path / "dev", tmp_path / "bin"
    for folder in (dev, tools_of_driver):
        folder.mkdir()
    for minor in cards:
        (tmp_path / f"gpus/0000:0{minor}:00.0").mkdir(parents=True)
        (tmp_path / f"gpus/0000:0{minor}:00.0/information").write_text(INFORMATION.format(minor=minor))
    programs = {"modinfo": "#!/bin/sh\n", "modprobe": "#!/bin/sh\n"}
    programs["nvidia-modprobe"] = NVIDIA_MODPROBE.replace("DEV", repr(str(dev)))
    for name, text in programs.items():
        (tools_of_driver / name).write_text(text)
        (tools_of_driver / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools_of_driver}:/usr/bin:/bin")
    monkeypatch.setattr(gpu, "CARDS", tmp_path / "gpus")
    assert gpu.load().state == "ready"
    expected = {f"nvidia{minor}" for minor in cards or ["0"]} | {"nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"}
    assert {path.name for path in dev.iterdir()} == expected


def test_a_card_whose_device_files_cannot_be_made_is_told_as_such(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, status in (("modinfo", 0), ("modprobe", 0), ("nvidia-modprobe", 1)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = gpu.load()
    assert (found.state, "nvidia-modprobe" in found.detail) == ("failed", True)


def test_a_driver_that_holds_a_program_for_ever_is_given_up(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hangs in the kernel does not end when it is killed: here, because nobody kills it."""
    monkeypatch.setattr(gpu, "SECONDS", 0.2)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda _: None)
    fifo = tmp_path / "end"
    os.mkfifo(fifo)
    status, said = gpu._run("sh", "-c", f"cat {fifo}")
    fifo.write_text("")  # only now it ends; no reader would block this
    assert status == 1 and "timed out" in said


def test_a_driver_that_holds_each_program_is_told_before_its_unit_is_ended(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended sooner, the unit said nothing of the card, began anew, and was ended again."""
    asked: list[str] = []

    def hangs(*command: str) -> tuple[int, str]:
        asked.append(command[0])
        return (0 if command[0] in ("modinfo", "modprobe") else 1), "timed out"

    monkeypatch.setattr(gpu, "_run", hangs)
    assert gpu.load().state == "failed"
    unit = (GPU / "etc/systemd/system/inkstick-gpu.service").read_text(encoding="utf-8")
    most = re.search(r"(?m)^TimeoutStartSec=(\d+)$", unit)
    assert most and int(most[1]) > (len(asked) + 1) * gpu.SECONDS  # (nvidia-modprobe may hang in its second call)


def test_the_builder_s_acceptance_is_laid_out_but_replaces_nobody_s(gpu: ModuleType, tmp_path: Path) -> None:
    share, state = tmp_path / "share", tmp_path / "state"
    (share / "licences").mkdir(parents=True)
    (share / "licences/a.json").write_text("builder")
    (share / "licences/b.json").write_text("builder")
    (state / "licences").mkdir(parents=True)
    (state / "licences/b.json").write_text("somebody here")
    gpu.prepare(state, share)
    assert (state / "licences/a.json").read_text() == "builder"
    assert (state / "licences/b.json").read_text() == "somebody here"
    assert (state / "engine/cache").is_dir()


def test_the_engine_s_unit_waits_for_a_card_and_never_ends_in_failed() -> None:
    text = (GPU / "etc/systemd/system/inkstick-engine.service").read_text(encoding="utf-8")
    for line in ("ConditionPathExists=/run/inkstick/gpu.env", "Restart=always", "StartLimitIntervalSec=0"):
        assert f"\n{line}\n" in text
    for line in ("PrivateNetwork=yes", "DevicePolicy=closed", "DeviceAllow=char-nvidia-uvm rw", "User=inkstick"):
        assert f"\n{line}\n" in text
    cache = "/var/lib/inkstick/state/engine/cache"
    assert f"\nExecPaths={cache}\n" in text


def test_what_keeps_the_card_initialized_may_open_its_files() -> None:
    """nvidia-persistenced opens them as the user that it was told, without that user's other groups."""
    options = (GPU / "etc/modprobe.d/inkstick-nvidia.conf").read_text(encoding="utf-8")
    rules = recipe.load(ROOT / "image/recipe.toml")
    assert f"NVreg_DeviceFileGID={rules.data_uid} NVreg_DeviceFileMode=0660" in options
    drop_in = (GPU / "etc/systemd/system/nvidia-persistenced.service.d/inkstick.conf").read_text(encoding="utf-8")
    assert "\nExecStart=\nExecStart=/usr/bin/nvidia-persistenced --user inkstick\n" in drop_in


def test_every_link_of_the_overlays_leads_somewhere() -> None:
    folders = {GPU: 2, ROOT / nvidia.OVERLAY: 1}
    for folder, count in folders.items():
        links = [path for path in folder.rglob("*") if path.is_symlink()]
        assert len(links) == count and all(link.resolve().exists() for link in links)


def test_no_module_that_is_kept_from_loading_is_asked_for_at_the_start() -> None:
    """Debian's nvidia.conf asks for nvidia-drm: the file of the same name takes its place, and names none."""
    lines = (GPU / "etc/modules-load.d/nvidia.conf").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_a_key_whose_making_was_cut_short_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tools.run

    def cut(command: Sequence[str | Path], **_: object) -> str:
        words = [str(word) for word in command]
        Path(words[words.index("-keyout") + 1]).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(signing, "run", cut)
    with pytest.raises(KeyboardInterrupt):
        signing.key(None, None, tmp_path)
    monkeypatch.setattr(signing, "run", run)
    assert signing.key(None, None, tmp_path).made
    assert not signing.key(None, None, tmp_path).made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inkstick.cer", "inkstick.key"]
