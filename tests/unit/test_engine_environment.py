"""How the engine's environment and checkpoints come into the cache: whole, or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from engine import environment
from engine.environment import NEWEST, PINNED, Failed, Missing, entry, parts_of, run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environment, "CACHE", tmp_path)
    return tmp_path


def make(folder: Path, text: str = "whole") -> bool:
    """Whether it had to be made."""
    with entry(folder) as part:
        if part is not None:
            part.mkdir()
            (part / "file").write_text(text)
    return part is not None


def test_an_entry_is_made_once(cache: Path) -> None:
    assert make(cache / "thing-1")
    assert not make(cache / "thing-1", "other")
    assert (cache / "thing-1" / "file").read_text() == "whole"


def test_a_failure_leaves_nothing_behind(cache: Path) -> None:
    def fail() -> None:
        with entry(cache / "thing-1") as part:
            assert part is not None
            part.mkdir()
            (part / "file").write_text("half")
            raise Failed("full disk")

    with pytest.raises(Failed):
        fail()
    assert not list(cache.glob("thing-1*/"))
    assert make(cache / "thing-1")


def test_what_a_killed_process_left_is_not_taken_for_an_entry(cache: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from engine import environment as e\n"
        "e.CACHE = Path(sys.argv[1])\n"
        "with e.entry(e.CACHE / 'thing-1') as part:\n"
        "    part.mkdir(); (part / 'file').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(cache)], cwd=environment.HERE.parent)
    assert done.returncode == -9
    assert (cache / "thing-1.part" / "file").read_text() == "half"
    assert make(cache / "thing-1")
    assert (cache / "thing-1" / "file").read_text() == "whole"
    assert not (cache / "thing-1.part").exists()


def test_an_entry_that_is_no_longer_good_is_made_anew(cache: Path) -> None:
    make(cache / "thing-1")
    with entry(cache / "thing-1", good=lambda: False) as part:
        assert part is not None
        part.mkdir()
    assert not list((cache / "thing-1").iterdir())


def test_two_that_want_the_same_entry_make_it_once(cache: Path) -> None:
    inside, made = threading.Barrier(2), []

    def want() -> None:
        inside.wait()
        made.append(make(cache / "thing-1"))

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, True]


@pytest.mark.parametrize("kind", [PINNED, NEWEST], ids=lambda kind: kind.name)
def test_every_package_of_a_lock_is_fetched_in_some_part_with_its_hashes(kind: environment.Kind) -> None:
    for lock in kind.locks:
        text = lock.read_text(encoding="utf-8")
        parts = parts_of(text, 12)
        assert "".join(parts).replace("===", "==").strip() == text.strip()
        names = [line.split("===")[0] for part in parts for line in part.splitlines() if "===" in line]
        assert len(names) == len(set(names)) > 10
        assert all(part.count("===") <= 12 for part in parts)
        assert all("--hash=sha256:" in part for part in parts)


def wheel(folder: Path, version: str) -> str:
    """Make the wheel of a package `thing` that says its version; its sha256."""
    path = folder / f"thing-{version}-py3-none-any.whl"
    about = f"thing-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("thing.py", f"version = {version!r}")
        made.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n")
        made.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{about}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_local_build_that_pip_is_told_of_does_not_take_the_locks_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, lock, out = tmp_path / "own", tmp_path / "lock.txt", tmp_path / "out"
    own.mkdir()
    lock.write_text(f"thing==2.13.0 \\\n    --hash=sha256:{wheel(own, '2.13.0')}\n")
    wheel(own, "2.13.0+cpu")
    monkeypatch.setenv("PIP_FIND_LINKS", str(own))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment.packages(Path(sys.executable), lock, scratch, "thing", "--target", str(out))
    assert (out / "thing.py").read_text() == "version = '2.13.0'"


def test_what_fails_is_tried_again_and_then_told(tmp_path: Path) -> None:
    seen = tmp_path / "tries"
    command = ["sh", "-c", f"echo x >> {seen}; echo 'no route to host' >&2; exit 1"]
    with pytest.raises(Missing, match="fetching failed: no route to host"):
        run(command, "fetching", error=Missing, tries=3)
    assert seen.read_text().count("x") == 3


def test_a_package_that_is_not_the_locks_is_never_a_reason_to_skip() -> None:
    words = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."
    with pytest.raises(Failed):
        run(["sh", "-c", f"echo '{words}' >&2; exit 1"], "fetching", error=Missing, tries=3)
