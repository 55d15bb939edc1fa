"""What an ordinary user builds is what root builds, bit for bit: a small tree with owners, setuid programs, devices in
use, and a layer made on top of it. Real namespaces, real mounts, real squashfs; Debian itself is left out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support.ordinary import lacks, ordinary

CODE = Path(__file__).resolve().parents[2] / "image"
LACKS = lacks()
needs_namespaces = pytest.mark.skipif(bool(LACKS), reason=LACKS)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make an account of its own")
PROGRAMS = ("sh", "env", "chown", "chmod", "mkdir", "cat")
BUILD = """
import hashlib, json, os, shutil, sys
from pathlib import Path
from inkstick_image import namespace, trees
from inkstick_image.errors import ImageError

programs, files, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
place = trees.Place(folder, folder, folder / "work", folder / "log", 1_700_000_000, 1)
place.work.mkdir(exist_ok=True)
if os.geteuid() != 0:
    try:
        namespace.check(place.work, trees.OVERLAY)
    except ImageError as error:
        sys.exit(error.told())
    sys.exit(namespace.run([sys.executable, *sys.orig_argv[1:]]))
os.umask(0o022)
with trees.folder(place, "small") as tree:
    for name in ("bin", "etc", "dev", "proc", "sys", "tmp", "var/lib/mail"):
        (tree / name).mkdir(parents=True)
    for name, source in {**programs, **{file: file for file in files}}.items():
        target = tree / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755)
    with trees.mounted(tree):
        said = trees.inside(place, tree, "sh", "-c", '''set -e
            echo lost > /dev/null; : < /dev/urandom; [ -c /dev/zero ]; : > /dev/shm/x; [ -c /dev/ptmx ]
            [ -e /sys/kernel ]; cat /proc/self/comm; echo x > /var/lib/mail/box
            chown 8:12 /var/lib/mail /var/lib/mail/box; chmod 2775 /var/lib/mail
            echo x > /bin/su; chmod 4755 /bin/su; echo x > /etc/nobody; chown 65534:65534 /etc/nobody''')
    assert said == "cat\\n", said
    trees.tidy(tree)
    trees.squash(place, tree, folder / "low.squashfs")
with trees.above(place, "high", [folder / "low.squashfs"]) as (tree, new):
    with trees.mounted(tree):
        trees.inside(place, tree, "sh", "-c", "echo y >> /var/lib/mail/box; echo n > /etc/new; chown 42:42 /etc/new")
    trees.tidy(tree)
    trees.without_holes(new)
    trees.squash(place, new, folder / "high.squashfs", xattrs=False)
left = sorted(path.name for path in place.work.iterdir())
sums = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in ("low.squashfs", "high.squashfs")}
print(json.dumps([left, sums]))
"""


def libraries(program: str) -> set[str]:
    """The files that a program is loaded with."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"(/\S+\.so\S*)", said))


def built(output: str) -> tuple[list[str], dict[str, str]]:
    left, sums = json.loads(output.splitlines()[-1])
    return left, sums


@needs_namespaces
def test_an_ordinary_user_s_layers_are_root_s_and_belong_to_that_user() -> None:
    programs = {f"/bin/{name}": shutil.which(name) or name for name in PROGRAMS}
    files = sorted(set().union(*(libraries(path) for path in programs.values())))
    small = ("-c", BUILD, json.dumps(programs), json.dumps(files))
    with ordinary() as person:
        done = person.python(*small, person.folder, path=[CODE])
        assert done.returncode == 0, done.stderr
        left, sums = built(done.stdout)
        assert left == []
        assert {file.stat().st_uid for file in person.folder.iterdir()} == {person.folder.stat().st_uid}
        listed = subprocess.run(
            ["unsquashfs", "-lln", person.folder / "low.squashfs"], capture_output=True, text=True, check=True
        ).stdout
        assert re.search(r"^drwxrwsr-x 8/12 .*/var/lib/mail$", listed, re.MULTILINE)
        assert re.search(r"^-rwxr-xr-x 0/0 .*/bin/su$", listed, re.MULTILINE), "no program has its owner's rights"
        assert re.search(r"^-rw-r--r-- 65534/65534 .*/etc/nobody$", listed, re.MULTILINE)
        assert not re.search(r"^[bc]", listed, re.MULTILINE)
        if os.geteuid() == 0:
            with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
                words = [sys.executable, *small, name]
                same = subprocess.run(
                    words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(CODE)}
                )
                assert same.returncode == 0, same.stderr
                assert built(same.stdout) == ([], sums)


@needs_namespaces
@needs_root
def test_an_account_without_lent_ids_is_told_how_to_get_them() -> None:
    with ordinary("somebody:100000:65536\n") as person:
        done = person.python("-c", BUILD, "{}", "[]", person.folder, path=[CODE])
        assert done.returncode == 1
        assert "[no_ids]" in done.stderr
        assert "usermod --add-subuids 165536-231071 --add-subgids 165536-231071 builder" in done.stderr


@needs_namespaces
@needs_root
def test_a_folder_that_root_made_is_told_from_one_s_own() -> None:
    ours = """
import sys
from pathlib import Path
from inkstick_image.__main__ import ours
from inkstick_image.errors import ImageError
ours(Path(sys.argv[1]) / "cache")
try:
    ours(Path(sys.argv[2]))
except ImageError as error:
    sys.exit(error.told())
"""
    with ordinary() as person, tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        done = person.python("-c", ours, person.folder, name, path=[CODE])
        assert (person.folder / "cache").is_dir()
        assert done.returncode == 1
        assert "[not_yours]" in done.stderr
        assert f"sudo chown -R builder {name}" in done.stderr


@needs_namespaces
def test_a_build_that_is_ended_leaves_no_process() -> None:
    ended = """
import os, signal, sys, threading, time
from pathlib import Path
from inkstick_image import namespace
up = Path(sys.argv[1]) / "up"
def end():
    while not up.exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end, daemon=True).start()
sys.exit(namespace.run(["sh", "-c", 'sleep 3600 & echo > "$0"; wait', str(up)]))
"""
    with ordinary() as person:
        # (It ends with the last process that has its output.)
        done = person.python("-c", ended, person.folder, path=[CODE])
        assert done.returncode == 128 + 9, done.stderr
