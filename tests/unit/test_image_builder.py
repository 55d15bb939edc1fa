"""The builder's decisions: mirrors, locks, keys of layers, disks that may be written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from inkstick_image import __main__ as builder
from inkstick_image import debs, esp, flash, hashes, layers, lock, manifest, medium, recipe, tools, trees, wheels
from inkstick_image.errors import ImageError
from inkstick_image.layers import cached
from inkstick_image.progress import Way
from inkstick_image.tools import run
from inkstick_image.trees import Place

ROOT = Path(__file__).resolve().parents[2]
OLD = "deb http://mirror.example/debian bookworm main\n"
OLD += "deb [arch=amd64] http://mirror.example/debian-security bookworm-security main\n"
NEW = "Types: deb\nURIs: http://mirror.example/debian/\nSuites: trixie\n\nURIs: http://mirror.example/debian-security\n"
STICK = {
    "path": "/dev/sdz",
    "type": "disk",
    "size": 8 << 30,
    "rm": True,
    "hotplug": True,
    "ro": False,
    "model": "Stick ",
}


@pytest.mark.parametrize("listed", [OLD, NEW])
def test_the_mirror_is_the_one_of_the_host(listed: str) -> None:
    assert debs.mirrors(listed) == ("http://mirror.example/debian", "http://mirror.example/debian-security")


def test_of_the_host_only_what_apt_reads_counts(tmp_path: Path) -> None:
    """Beside it lie keys, and copies of what held once."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.list.save").write_text("deb http://gone.example/debian buster main\n")
    (tmp_path / "sources.list.d/key.gpg").write_bytes(b"\x99\x01\xff\x80")
    (tmp_path / "sources.list.d/debian.sources").write_bytes(b"# f\xfcr uns\n" + NEW.encode())
    assert debs.mirrors(debs.host_sources(tmp_path))[0] == "http://mirror.example/debian"


def test_a_host_without_a_debian_archive_is_told_so() -> None:
    with pytest.raises(ImageError, match="no Debian archive"):
        debs.mirrors("deb http://mirror.example/ubuntu noble main\n")


class _Apt(debs.Archive):
    """An archive of one package. As apt does, it takes a file that it already has where its size is right."""

    data = b"a whole package"

    def _apt(self, program: str, *arguments: str) -> str:
        digest, name = hashlib.sha256(self.data).hexdigest(), "hello_1_amd64.deb"
        if "--download-only" in arguments:
            have = self._root / "cache/archives" / name
            if not have.exists() or have.stat().st_size != len(self.data):
                have.unlink(missing_ok=True)
                have.write_bytes(self.data)
        if program == "apt-cache":
            return f"Package: hello\nFilename: pool/{name}\nSHA256: {digest}\n"
        return f"'http://a.example/{name}' {name} {len(self.data)} SHA256:{digest}\n"


@pytest.mark.parametrize("damage", [b"cut", b"a wh0le package"])
@pytest.mark.parametrize("swept", [False, True], ids=["kept by apt", "apt's own swept"])
def test_a_damaged_package_in_the_cache_is_told_and_fetched_anew(tmp_path: Path, damage: bytes, swept: bool) -> None:
    kept, archive = tmp_path / "debs", _Apt(tmp_path / "apt", tmp_path / "debs")
    kept.mkdir()
    archive.update("")
    (deb,) = archive.fetch("base", ["hello"])
    debs.local_archive(kept, "base", tmp_path / "archive")  # by a build that was cut short
    (kept / deb.sha256).write_bytes(damage)  # (the same file as apt's)
    if swept:
        (tmp_path / "apt/cache/archives" / deb.name).unlink()
    with pytest.raises(ImageError, match=r"hello_1.* in the cache is damaged"):
        debs.local_archive(kept, "base", tmp_path / "archive")
    with contextlib.suppress(ImageError):  # "Run the command again."
        archive.fetch("base", ["hello"])
    archive.fetch("base", ["hello"])
    debs.local_archive(kept, "base", tmp_path / "archive")
    for file in (kept / deb.sha256, tmp_path / f"archive/{deb.sha256}.deb"):
        assert file.read_bytes() == archive.data


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="apt is not installed")
def test_what_the_host_s_apt_wishes_of_packages_is_none_of_the_image_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release to prefer, preferences, recommended packages: it stopped the build, or other packages came in."""
    host = tmp_path / "etc/apt.conf.d"
    host.mkdir(parents=True)
    (host / "99ours").write_text(
        'APT::Default-Release "bookworm"; APT::Install-Recommends "1"; Acquire::Retries "7";\n'
    )
    archive = debs.Archive(tmp_path / "apt", tmp_path)
    monkeypatch.setattr(debs.Archive, "_configuration", _with_parts(debs.Archive._configuration, host))
    with contextlib.suppress(ImageError):
        archive.update("")
    said = archive._apt("apt-config", "dump")
    assert 'Acquire::Retries "7";' in said
    for line in ('Default-Release ""', 'Install-Recommends "0"', 'Etc::preferences "/dev/null"'):
        assert f"{line};".lower() in said.lower()


def _with_parts(made: Callable[[debs.Archive], str], parts: Path) -> Callable[[debs.Archive], str]:
    """An archive's settings, as on a host whose own lie in `parts`."""
    return lambda archive: f'{made(archive)}Dir::Etc::Parts "{parts}";\n'


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not installed")
def test_the_cache_may_lie_in_a_folder_with_a_space(tmp_path: Path) -> None:
    """As apt itself reads the local archive."""
    kept = tmp_path / "my cache/debs"
    kept.mkdir(parents=True)
    archive = _Apt(tmp_path / "apt", kept)
    archive.update("")
    archive.fetch("base", ["hello"])
    line = debs.local_archive(kept, "base", tmp_path / "my cache/work/archive")
    debs.Archive(tmp_path / "my cache/apt", kept).update(f"{line}\n")


def test_a_list_of_packages_that_was_cut_short_is_told_and_fetch_replaces_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, archive = tmp_path / "debs", _Apt(tmp_path / "apt", tmp_path / "debs")
    kept.mkdir()
    archive.update("")
    fetched = archive.fetch("base", ["hello"])
    record = kept / "base.json"
    whole = record.read_text()
    record.write_text(whole[:50])
    with pytest.raises(ImageError, match=r"base\.json is damaged") as raised:
        debs.recorded(kept, "base", ["hello"])
    assert "build.sh fetch" in raised.value.hint
    archive.fetch("base", ["hello"])
    assert debs.recorded(kept, "base", ["hello"]) == fetched
    monkeypatch.setattr(json, "dumps", lambda *_, **__: "half\ud800")  # the disk is full in the middle
    with pytest.raises(ValueError):
        archive.fetch("base", ["hello"])
    assert record.read_text() == whole


def test_the_recipe_pins_the_kernel_and_is_read_whole() -> None:
    read = recipe.load(ROOT / "image/recipe.toml")
    assert f"linux-image-{read.kernel}" in read.base_packages
    listed = debs.sources(read, "http://a.example/debian", "http://s.example/debian-security")
    assert "trixie-security" in listed and "trixie-updates" in listed


def test_the_lock_is_cut_to_the_appliance_and_keeps_every_hash() -> None:
    lock = (
        "numpy==2.4 ; python_full_version < '3.12' \\\n    --hash=sha256:aa\n"
        "numpy==2.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        "colorama==1 ; sys_platform == 'win32' \\\n    --hash=sha256:dd\n"
    )
    kept = wheels.for_appliance(lock, "3.13")
    assert kept == "numpy==2.5 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"


def test_without_network_packages_of_another_lock_than_was_fetched_are_not_taken(tmp_path: Path) -> None:
    """The layer would have the new lock's name, and the manifest its hash."""
    old, new = b"vllm 1", b"vllm 2"
    locks = [
        f"vllm=={n} \\\n    --hash=sha256:{hashlib.sha256(data).hexdigest()}\n" for n, data in ((1, old), (2, new))
    ]
    (tmp_path / "vllm-1.whl").write_bytes(old)
    wheels.kept({"engine-gpu.txt": locks[0]}, tmp_path)
    with pytest.raises(ImageError, match=r"lacks 1 Python packages, vllm==2") as raised:
        wheels.kept({"engine-gpu.txt": locks[1]}, tmp_path)
    assert "build.sh fetch" in raised.value.hint
    assert (tmp_path / "engine-gpu.txt").read_text() == locks[0]
    (tmp_path / "vllm-2.whl").write_bytes(new)
    wheels.kept({"engine-gpu.txt": locks[1]}, tmp_path)
    assert (tmp_path / "engine-gpu.txt").read_text() == locks[1]


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build goes on to its own checks, as root's does, on any machine; this process's signals stay the tests'."""
    monkeypatch.setattr(builder, "check_host", lambda **_: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(("edition", "lacking"), [("cpu", "setuptools"), ("gpu", "agent-detector")])
def test_what_the_cache_lacks_without_network_is_said_before_anything_is_built(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    edition: str,
    lacking: str,
) -> None:
    monkeypatch.setenv("INKSTICK_CACHE", str(tmp_path))
    monkeypatch.setattr(builder, "_key", lambda *_: None)
    monkeypatch.setattr(builder, "_models", lambda *_, **__: ["one"])
    monkeypatch.setattr(debs, "recorded", lambda *_: [])
    if edition == "gpu":  # the service's are there, packed
        place = Place(ROOT, tmp_path, tmp_path / "work", tmp_path / "log", 0)
        key = layers.environment_key(place, recipe.load(ROOT / "image/recipe.toml"))
        monkeypatch.setattr(layers, "environment_key", lambda *_: key)
        layers.folder(place, "environment", key).mkdir(parents=True)
    out = tmp_path / "out"
    assert builder.main(["image", "--offline", "--edition", edition, "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert "Python packages, " + lacking in said.err and "builder tree" not in said.out


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("option", ["--sign", "--mok-cert"])
def test_a_key_that_is_not_there_is_said_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """Not after the half hour that the ISO takes."""
    monkeypatch.setenv("INKSTICK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(builder, "_build", lambda *_: 0)
    missing = tmp_path / "minisign.key"
    words = ["image", "--out", str(tmp_path), option, str(missing)]
    assert builder.main(words) == 1
    assert capsys.readouterr().err == f"build.sh: There is no file {missing}.\n"
    missing.touch()
    assert builder.main(words) == 0


def test_what_a_build_that_filled_the_disk_left_does_not_keep_the_next_one_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was counted as used for ever: no build deleted what lies under a name that it would not take itself."""
    half, whole, work = tmp_path / "layers/base-old.part/tree", tmp_path / "layers/base-old", tmp_path / "work/iso/live"
    for folder in (half, whole, work):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "work/esp.img").touch()
    os.link(whole / "file", work / "10-base.squashfs")  # nothing is gained by deleting this name
    monkeypatch.setattr(tools, "missing", lambda programs: [])
    monkeypatch.setattr(tools, "KEYRING", tmp_path)
    needed = builder.FREE_BYTES["cpu"]
    free = needed - 2 * (half / "file").stat().st_blocks * 512
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    builder.check_host(offline=True, edition="cpu", cache=tmp_path)
    builder.sweep(tmp_path)
    assert [path.name for path in (tmp_path / "layers").iterdir()] == ["base-old"]
    assert not list((tmp_path / "work").iterdir()) and (whole / "file").exists()
    with pytest.raises(ImageError, match="GiB are free"):
        builder.check_host(offline=True, edition="cpu", cache=tmp_path)


def test_a_layer_is_made_once_and_appears_whole(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path, tmp_path / "work", tmp_path / "log", 0)
    made: list[Path] = []

    def make(out: Path) -> None:
        made.append(out)
        (out / "file").write_text("x")

    def fail(out: Path) -> None:
        (out / "half").write_text("x")
        raise ImageError("no")

    first, again = cached(place, "app", "k" * 64, make), cached(place, "app", "k" * 64, make)
    assert first == again and len(made) == 1 and (first / "file").exists()
    with pytest.raises(ImageError):
        cached(place, "app", "f" * 64, fail)
    assert [path.name for path in (tmp_path / "layers").iterdir() if path.suffix != ".part"] == [first.name]


def test_a_layer_and_its_hashes_are_on_the_disk_before_they_get_the_name_by_which_they_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a name may be there whose file is empty, and the next build took that for a layer."""
    said = tmp_path / "said"
    for name, does in (("sync", f'ls "$2" >> {said}'), ("veritysetup", 'echo "Root hash: 12"; : > "$5"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n", encoding="ascii")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    place = Place(tmp_path, tmp_path, tmp_path / "work", tmp_path / "log", 0)
    layer = cached(place, "app", "k" * 64, lambda out: (out / "60-app.squashfs").touch()) / "60-app.squashfs"
    assert said.read_text() == "60-app.squashfs\n"
    assert medium.seal(place, layer).root == "12"
    assert said.read_text() == f"60-app.squashfs\n{layer.with_suffix('.part')}\n"


def test_a_layer_that_was_damaged_in_the_cache_gets_onto_no_medium(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ISO and the manifest of it agreed, so that `verify` said yes, and it did not start."""
    (tmp_path / "veritysetup").write_text('#!/bin/sh\necho "Root hash: 12"; echo tree > "$5"\n', encoding="ascii")
    (tmp_path / "veritysetup").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    place = Place(tmp_path, tmp_path, tmp_path / "work", tmp_path / "log", 0)
    layer = tmp_path / "layers/app-1/60-app.squashfs"
    layer.parent.mkdir(parents=True)
    layer.write_bytes(b"layer")
    good = medium.seal(place, layer)
    for damaged in (good.tree, layer.with_suffix(".seal")):  # these are only made anew
        damaged.write_bytes(b"")
        assert medium.seal(place, layer) == good
        assert good.tree.read_bytes() == b"tree\n"
    layer.write_bytes(b"lay3r")
    with pytest.raises(ImageError, match=r"60-app\.squashfs is damaged") as raised:
        medium.seal(place, layer)
    assert f"rm -r {layer.parent}" in raised.value.hint


def test_a_kernel_that_was_damaged_in_the_cache_gets_onto_no_medium(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"kernel")
    assert medium.unchanged(kernel) == medium.unchanged(kernel) == kernel
    kernel.write_bytes(b"k3rnel")
    with pytest.raises(ImageError, match="vmlinuz is damaged"):
        medium.unchanged(kernel)


def test_layers_are_packed_by_the_builder_tree_s_program_where_there_is_one(tmp_path: Path) -> None:
    """Each version packs otherwise, and machines have different ones."""
    packer, said, out = tmp_path / "packer", tmp_path / "said", tmp_path / "10-base.squashfs"
    loader = packer / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.write_text(f'#!/bin/sh\necho "$@" > {said}\necho packed > "$5"\n', encoding="ascii")
    loader.chmod(0o755)
    place = Place(tmp_path, tmp_path, tmp_path / "work", tmp_path / "log", 0, packer=packer)
    assert trees.squash(place, tmp_path / "tree", out) == [out]
    assert out.read_text(encoding="ascii") == "packed\n"
    words = said.read_text(encoding="utf-8").split()
    assert words[:3] == ["--library-path", str(loader.parent), str(packer / "usr/bin/mksquashfs")]


@pytest.mark.skipif(shutil.which("mksquashfs") is None, reason="squashfs-tools are not installed")
def test_a_date_for_builds_in_the_environment_neither_stops_a_layer_nor_gets_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, tmp_path, tmp_path / "work", tmp_path / "log", 1_763_683_200)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("x")
    packed = []
    for date in (None, "1000000000"):
        if date:
            monkeypatch.setenv("SOURCE_DATE_EPOCH", date)
        packed += trees.squash(place, tmp_path / "tree", tmp_path / f"{date}.squashfs")
    assert packed[0].read_bytes() == packed[1].read_bytes()


def test_what_a_tool_says_may_be_in_any_language_and_need_not_be_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.ISO-8859-1")
    with pytest.raises(ImageError, match=r"caf\ufffd C\.UTF-8"):
        run(["sh", "-c", r'printf "caf\351 $LC_ALL" >&2; exit 1'], log=tmp_path / "log")
    assert "caf\ufffd" in (tmp_path / "log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/c/layers/x"), 1, "/c/layers/x: No space left on device.\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "INKSTICK_CACHE for the cache"),
        (PermissionError(errno.EACCES, "Permission denied", "/c/build.log"), 1, "/c/build.log: Permission denied.\n"),
        (KeyboardInterrupt(), 130, "Stopped.\n          Nothing half-made is used"),
    ],
)
def test_whatever_ends_a_build_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    def fail(options: object) -> int:
        raise error

    monkeypatch.setitem(builder.COMMANDS, "image", fail)
    assert builder.main(["image"]) == status
    assert said in capsys.readouterr().err


def test_a_terminal_without_unicode_does_not_end_a_build(tmp_path: Path) -> None:
    """In German, say, with the older letters: the first line of a build ends in three dots that are one character."""
    code = "from inkstick_image import __main__ as b; b.COMMANDS['fetch'] = lambda o: b._say('fetch \u2026') or 0; "
    code += "raise SystemExit(b.main(['fetch']))"
    environment = {**os.environ, "PYTHONIOENCODING": "iso-8859-1", "PYTHONPATH": str(ROOT / "image")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fetch ?\n", "")


def test_two_builds_at_once_do_not_take_each_other_s_trees_away(tmp_path: Path) -> None:
    """One that was killed is no build: the cache is free again."""
    code = "from pathlib import Path; from inkstick_image import __main__ as b\n"
    code += f"with b.alone(Path({str(tmp_path)!r})): print('held', flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "image")}
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, text=True, env=environment, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(ImageError, match="Another build is using"), builder.alone(tmp_path):
            pass
        other.kill()
    with builder.alone(tmp_path):
        pass


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("command", ["image", "fetch"])
def test_whoever_fills_a_cache_or_builds_from_it_is_alone_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setenv("INKSTICK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    out = ["--out", str(tmp_path / "out")] if command == "image" else []
    with builder.alone(tmp_path / "cache"):
        assert builder.main([command, "--mirror", "http://127.0.0.1:9/debian", *out]) == 1
    assert "Another build is using" in capsys.readouterr().err


def test_a_tree_s_hash_sees_content_mode_and_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    before = hashes.of_tree(tmp_path)
    (tmp_path / "a").chmod(0o755)
    (tmp_path / "l").symlink_to("a")
    after = hashes.of_tree(tmp_path)
    assert before["a"] != after["a"] and after["l"] == "link a"


def disk(**changes: object) -> flash.Disk:
    device = {**STICK, "mountpoints": [None], "children": [{"mountpoints": [None]}], **changes}
    return flash.parse(json.dumps({"blockdevices": [device]}))


def test_an_unmounted_stick_may_be_written() -> None:
    flash.refuse(disk(), 1 << 30)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rm": False, "hotplug": False}, "not a removable"),
        ({"type": "part"}, "not a whole disk"),
        ({"ro": True}, "write-protected"),
        ({"size": 1 << 20}, "too small"),
        ({"children": [{"mountpoints": ["/home"]}]}, "in use: /home"),
        ({"children": [{"children": [{"children": [{"mountpoints": ["/home"]}]}]}]}, "in use: /home"),  # LUKS, LVM
    ],
)
def test_nothing_else_is_written(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ImageError, match=why):
        flash.refuse(disk(**changes), 1 << 30)


def test_a_stick_with_a_mounted_partition_is_not_written(tmp_path: Path) -> None:
    """As lsblk itself tells of it: asked without NAME it lists the partition beside the disk."""
    disk = tmp_path / "sys/devices/usb/block/sdb"
    for folder, number, size in ((disk, "8:16", 100_000), (disk / "sdb1", "8:17", 90_000)):
        for name in ("holders", "slaves"):
            (folder / name).mkdir(parents=True)
        for name, value in (("dev", number), ("size", size), ("ro", 0), ("removable", 1), ("start", 2048)):
            (folder / name).write_text(f"{value}\n")
        for link in (tmp_path / f"sys/dev/block/{number}", tmp_path / f"sys/class/block/{folder.name}"):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder)
    (disk / "sdb1/partition").write_text("1\n")
    (tmp_path / "sys/block").symlink_to(tmp_path / "sys/class/block")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("30 1 8:17 / /media/x rw - vfat /dev/sdb1 rw\n")
    (tmp_path / "proc/swaps").touch()
    asked = [*flash.COMMAND, "--sysroot", str(tmp_path)]
    found = flash.parse(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    assert (found.path, found.mounts) == ("/dev/sdb", ("/media/x",))


def test_what_goes_wrong_with_a_stick_while_it_is_written_is_told(tmp_path: Path) -> None:
    iso = tmp_path / "iso"
    iso.write_bytes(b"x" * 100_000)
    with pytest.raises(ImageError, match="No space left"):
        flash.write(iso, Path("/dev/full"), lambda _: None)


@pytest.mark.parametrize(
    ("now", "typed", "status", "said"),
    [
        ({}, "YES", 0, ""),
        ({}, "yes", 1, "Nothing was written."),
        ({"model": "Backup", "size": 4 << 40}, "YES", 1, "this is another disk now"),
        ({"children": [{"mountpoints": ["/media/x"]}]}, "YES", 1, "in use: /media/x"),
    ],
)
def test_the_disk_that_is_written_is_the_one_that_was_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    now: dict[str, object],
    typed: str,
    status: int,
    said: str,
) -> None:
    """A stick that is exchanged while the question waits has the same name."""
    iso, there, written = tmp_path / "inkstick.iso", [disk(), disk(**now)], list[Path]()
    iso.write_bytes(b"x")
    manifest.write(iso, {})
    monkeypatch.setattr(flash, "look", lambda _: there.pop(0))
    monkeypatch.setattr(flash, "write", lambda _, device, say: written.append(device))
    monkeypatch.setattr("builtins.input", lambda _: typed)
    assert builder.main(["flash", str(iso), "/dev/sdz"]) == status
    assert said in capsys.readouterr().err and bool(written) == (status == 0)


def test_a_regular_file_is_no_disk(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with pytest.raises(ImageError, match="not a disk"):
        flash.look(file)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    iso, stick, said = tmp_path / "iso", tmp_path / "stick", list[str]()
    iso.write_bytes(bytes(range(256)) * 40_000)
    stick.write_bytes(b"\xff" * 20_000_000)
    flash.write(iso, stick, said.append)
    assert stick.read_bytes()[: iso.stat().st_size] == iso.read_bytes()
    assert "exactly" in said[-1]
    tenths = [line.split(" of ")[0] for line in said if " % of " in line]
    assert tenths[-1] == "reading: 100 %" and "writing: 100 %" in tenths and "writing: 40 %" in tenths


def test_the_way_of_a_long_step_is_told_by_tenths() -> None:
    said, now = list[str](), [0.0]
    way = Way("writing", 3_000_000_000, said.append, lambda: now[0])
    for _ in range(300):
        now[0] += 0.5
        way.went(10_000_000)
    assert len(said) == 10 and said[0] == "writing: 10 % of 3.0 GB, 20 MB/s, 2 min left"
    assert said[-1] == "writing: 100 % of 3.0 GB, 20 MB/s"


def test_a_manifest_that_is_missing_or_cut_short_is_told(tmp_path: Path) -> None:
    iso = tmp_path / "inkstick.iso"
    with pytest.raises(ImageError, match="no file"):
        manifest.sums_of(iso)
    iso.write_bytes(b"a")
    manifest.write(iso, {"edition": "cpu", "sums": "ab12"})
    assert manifest.sums_of(iso) == "ab12"
    record = tmp_path / "inkstick.iso.json"
    record.write_text(record.read_text()[:30])
    for check in (manifest.sums_of, manifest.check):
        with pytest.raises(ImageError, match="no manifest"):
            check(iso)
    for other in ('{"iso": "inkstick.iso"}', '{"iso": {"name": "inkstick.iso"}}', "[]"):
        record.write_text(other)
        with pytest.raises(ImageError, match="no manifest"):
            manifest.check(iso)
    manifest.write(iso, {})
    (tmp_path / "inkstick.iso.sha256").write_text("ab12  inkstick.iso\n", encoding="utf-16")  # as PowerShell writes
    with pytest.raises(ImageError, match="is not what its"):
        manifest.check(iso)


def test_a_changed_or_shortened_iso_is_found_out(tmp_path: Path) -> None:
    iso = tmp_path / "inkstick.iso"
    iso.write_bytes(b"a" * 100_000)
    manifest.write(iso, {"edition": "cpu"})
    assert "as its .sha256" in manifest.check(iso)[0]
    iso.write_bytes(b"a" * 99_999 + b"b")
    with pytest.raises(ImageError, match="is not what"):
        manifest.check(iso)
    iso.write_bytes(b"a" * 99_999)
    with pytest.raises(ImageError, match="99999 bytes"):
        manifest.check(iso)


def test_the_lock_of_debian_packages_names_what_changed() -> None:
    old = {"base": [debs.Deb("a_1_amd64.deb", 3, "aa"), debs.Deb("b_1_all.deb", 4, "bb")]}
    new = {"base": [debs.Deb("a_2_amd64.deb", 3, "cc"), debs.Deb("b_1_all.deb", 4, "bb")]}
    assert lock.differences(lock.text(old), old) == []
    assert lock.differences(lock.text(old), new) == ["+ base a_2_amd64.deb cc", "- base a_1_amd64.deb aa"]


def test_a_build_from_the_lock_refuses_anything_else(tmp_path: Path) -> None:
    path, found = tmp_path / "debs.lock", {"base": [debs.Deb("a_1_amd64.deb", 3, "aa")]}
    with pytest.raises(ImageError, match=r"1 packages are not as debs\.lock says"):
        lock.check(path, found)
    path.write_text(lock.text(found))
    lock.check(path, found)


def test_the_lock_in_the_repository_has_the_kernel_of_the_recipe() -> None:
    kernel = recipe.load(ROOT / "image/recipe.toml").kernel
    assert f"base linux-image-{kernel}_" in (ROOT / "image/debs.lock").read_text(encoding="utf-8")


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """A medium as the builder makes it, with one layer and one loader."""
    if any(shutil.which(name, path="/usr/bin:/usr/sbin") is None for name in ("xorriso", "mkfs.vfat", "mcopy")):
        pytest.skip("xorriso, dosfstools or mtools are not installed")
    root, system, stick = tmp_path / "root", tmp_path / "esp.img", tmp_path / "stick"
    files = {"live/60-app.squashfs": b"layer" * 1000, "EFI/BOOT/BOOTX64.EFI": b"shim", "INKSTICK.CER": b"key"}
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    lines = [f"{hashlib.sha256(data).hexdigest()}  ./{name}\n" for name, data in files.items()]
    (root / "sha256sum.txt").write_text("".join(lines))
    with system.open("wb") as file:
        file.truncate(4 << 20)
    for command in (
        ["/usr/sbin/mkfs.vfat", system],
        ["mcopy", "-s", "-i", system, root / "EFI", root / "INKSTICK.CER", "::"],
        ["xorriso", "-as", "mkisofs", "-quiet", "-r", "-o", stick, "-append_partition", "2", esp.TYPE, system,
         "-appended_part_as_gpt", root],
    ):  # fmt: skip
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return stick


def test_a_stick_is_checked_file_by_file_and_the_damaged_one_is_named(stick: Path) -> None:
    sums = hashlib.sha256((stick.parent / "root/sha256sum.txt").read_bytes()).hexdigest()
    good = ["3 files, and those in the EFI partition, are as their sha256sum.txt says"]
    assert manifest.check_medium(stick, sums) == good
    with pytest.raises(ImageError, match="another build"):
        manifest.check_medium(stick, "0" * 64)
    stick.write_bytes(stick.read_bytes().replace(b"layerlayer", b"layerlay3r", 1))
    with pytest.raises(ImageError, match=r"Damaged: live/60-app\.squashfs\."):
        manifest.check_medium(stick, sums)


def test_a_stick_that_holds_only_the_beginning_is_told_in_a_sentence(stick: Path) -> None:
    """It was too small, or pulled out: what was said were twelve lines of another program's."""
    os.truncate(stick, stick.stat().st_size // 2)
    with pytest.raises(ImageError, match=r"stick is damaged, or cut short\.$"):
        manifest.check_medium(stick, None)


def test_what_starts_a_stick_by_uefi_is_checked_in_its_own_partition(stick: Path) -> None:
    at = f"{stick}@@{esp.offset(stick)}"

    def put(name: str, data: bytes) -> None:
        (stick.parent / "file").write_bytes(data)
        subprocess.run(["mcopy", "-o", "-i", at, stick.parent / "file", f"::{name}"], check=True)

    put("inkstick.toml", b"its owner may put this there")
    assert len(manifest.check_medium(stick, None)) == 1
    for name, good in (("EFI/BOOT/BOOTX64.EFI", b"shim"), ("INKSTICK.CER", b"key")):
        put(name, b"of somebody else")
        with pytest.raises(ImageError, match=rf"Damaged: {name.lower()} \(EFI partition\)\."):
            manifest.check_medium(stick, None)
        put(name, good)
    subprocess.run(["mmd", "-i", at, "::boot"], check=True)
    put("boot/grub.cfg", b"a menu that nobody wrote")
    with pytest.raises(ImageError, match=r"Damaged: boot/grub\.cfg \(EFI partition\)\."):
        manifest.check_medium(stick, None)


def test_what_differs_between_two_builds_is_named(tmp_path: Path) -> None:
    first, second = [tmp_path / name for name in ("first", "second")]
    for folder, kernel in ((first, b"a"), (second, b"b")):
        folder.mkdir()
        (folder / "10-base.squashfs").write_bytes(b"same")
        (folder / "vmlinuz").write_bytes(kernel)
    whole = [sorted(folder.iterdir()) for folder in (first, second)]
    builder.reproduced(whole[0], whole[0])
    with pytest.raises(ImageError, match=r"differ: vmlinuz$"):
        builder.reproduced(*whole)


def test_a_second_build_takes_the_packages_and_nothing_that_was_made_of_them(tmp_path: Path) -> None:
    for name in ("debs", "wheels", "layers/base-1", "again/layers/left"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "debs/one").touch()
    (tmp_path / "again/debs").symlink_to(tmp_path / "debs")  # of a build that was stopped
    again, folder = builder._elsewhere(Place(ROOT, tmp_path, tmp_path / "work", tmp_path / "log", 1))
    assert (again.cache / "debs/one").exists() and (tmp_path / "debs/one").exists()
    assert list((again.cache / "layers").iterdir()) == []
    assert again.cache == folder != tmp_path


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("name", ["my work", os.fsdecode(b"caf\xe9")], ids=["with a space", "of older letters"])
def test_mounts_that_a_killed_build_left_are_released_below_a_folder(tmp_path: Path, name: str) -> None:
    """Left mounted, the wheels of the cache would be deleted with the tree that they are bound into."""
    kept, bound = tmp_path / "kept", tmp_path / name / "tree/wheels"
    for folder in (kept, bound):
        folder.mkdir(parents=True)
    (kept / "a.whl").touch()
    if subprocess.run(["mount", "--bind", str(kept), str(bound)], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        trees.release(tmp_path / name / "tree")
        assert list(bound.iterdir()) == [] and (kept / "a.whl").exists()
    finally:
        subprocess.run(["umount", str(bound)], capture_output=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_killed_build_leaves_nothing_mounted_in_the_builder_s_tree(tmp_path: Path) -> None:
    """The folder `compile` there, still mounted, could not be removed by the next build, nor by any after it."""
    place = Place(tmp_path, tmp_path, tmp_path / "work", tmp_path / "log", 0)
    link = tmp_path / f"layers/builder-{'k' * 32}/tree/compile"
    link.mkdir(parents=True)
    if subprocess.run(["mount", "--bind", str(tmp_path), str(link)], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        cached(place, "builder", "k" * 64, lambda out: None)
        link.rmdir()
    finally:
        subprocess.run(["umount", str(link)], capture_output=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_killed_build_s_mounts_are_not_looked_through_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc in the builder's tree: processes end while they are looked at, and that ended the next build."""
    monkeypatch.setattr(tools, "missing", lambda programs: [])
    monkeypatch.setattr(tools, "KEYRING", tmp_path)
    points = [tmp_path / "layers/base-1.part/proc", tmp_path / "layers/builder-1/tree/proc"]
    try:
        for point in points:
            point.mkdir(parents=True)
            if subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], capture_output=True).returncode:
                pytest.skip("cannot mount here")
            (point / "10-base.squashfs").write_bytes(b"x" * 100_000)
        assert builder._size(tmp_path / "layers/base-1.part") == 0
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=builder.FREE_BYTES["cpu"] - 1))
        with pytest.raises(ImageError, match="GiB are free"):
            builder.check_host(offline=True, edition="cpu", cache=tmp_path)
    finally:
        for point in points:
            subprocess.run(["umount", str(point)], capture_output=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_build_that_is_ended_cleans_up(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """As when its terminal is closed: mounts in the builder's tree stayed."""
    code = """
import os, signal, time
from inkstick_image import __main__ as b
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have been started by nohup
def build(*_):
    try:
        print("builds", flush=True)
        time.sleep(60)
    finally:
        print("unmounted", flush=True)
b.check_host, os.geteuid, b._build = lambda **_: None, lambda: 0, build
raise SystemExit(b.main(["image", "--out", os.environ["INKSTICK_CACHE"]]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "image"), "INKSTICK_CACHE": str(tmp_path)}
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, text=True, env=environment, stdout=pipe, stderr=pipe) as building:
        assert building.stdout is not None and building.stdout.readline() == "builds\n"
        building.send_signal(number)
        assert building.communicate(timeout=30)[0] == "unmounted\n"
        assert building.returncode == status
