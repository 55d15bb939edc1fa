"""An ordinary user, for tests of what must work without root: whoever runs the tests, or, when that is root, an account
that exists for one command only (lists of accounts and of lent ids of its own, in a mount namespace of its own)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

UID = 54321
LENT = "builder:200000:65536\n"
LISTS = ("passwd", "group", "subuid", "subgid")
# $1: a folder with lists in place of /etc's and, in `at`, places to see other folders at. The rest: the command.
ENTER = """set -e
given=$1; shift
for name in passwd group subuid subgid; do mount --bind "$given/$name" "/etc/$name"; done
while [ "$1" != -- ]; do mount --bind "$1" "$given/at/$2"; shift 2; done
shift
exec "$@"
"""


@dataclass(frozen=True)
class Ordinary:
    """`folder`: theirs, to write into. `lists`: what an account that is made here has in place of /etc's lists."""

    folder: Path
    lists: Path | None

    def run(self, command: Sequence[str | Path], *see: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of theirs, to its end. `see`: folders that they may not reach, shown to them at `at(folder)`."""
        words = [str(word) for word in command]
        if self.lists is not None:
            hidden = [folder for folder in see if self.at(folder) != folder]
            for folder in hidden:
                self.at(folder).mkdir(exist_ok=True)
            seen = [word for folder in hidden for word in (str(folder), self.at(folder).name)]
            become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
            words = ["unshare", "--mount", "sh", "-c", ENTER, "sh", str(self.lists), *seen, "--", *become, *words]
        given = {**os.environ, "HOME": str(self.folder), **environment}
        return subprocess.run(words, capture_output=True, text=True, cwd="/", env=given)

    def at(self, folder: Path) -> Path:
        """Where they see a folder that `run` is given; one of theirs is where it is."""
        if self.lists is None or folder.is_relative_to(self.folder):
            return folder
        return self.lists / "at" / str(folder).strip("/").replace("/", "-")

    def python(
        self, *arguments: str | Path, path: Sequence[Path], **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """The interpreter of the tests with these folders of modules, and without the tests' own."""
        home = Path(sys.base_prefix)
        program = self.at(home) / Path(os.path.realpath(sys.executable)).relative_to(home)
        modules = {
            "PYTHONHOME": str(self.at(home)),
            "PYTHONPATH": ":".join(str(self.at(folder)) for folder in path),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return self.run([program, *arguments], home, *path, **modules, **environment)


def lacks() -> str:
    """Why no ordinary user can build a namespace with ids of its own here; "" if one can, as far as can be seen."""
    for program in ("newuidmap", "newgidmap", "setpriv", "mksquashfs"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if os.geteuid() == 0 and not all((Path("/etc") / name).exists() for name in LISTS):
        return "/etc has no subuid and subgid to put others over"
    try:
        with ordinary() as person:
            done = person.run(
                ["unshare", "--user", "--map-root-user", "--mount", "--mount-proc", "--pid", "--fork", "true"]
            )
    except OSError as error:
        return str(error)
    return f"no user namespaces here: {done.stderr.strip()}" if done.returncode else ""


@contextmanager
def ordinary(lent: str = LENT) -> Iterator[Ordinary]:
    """`lent`: their line of /etc/subuid, for an account that is made here."""
    with tempfile.TemporaryDirectory(prefix="inkstick-ordinary-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        home = folder / "home"
        home.mkdir()
        if os.geteuid() != 0:
            yield Ordinary(home, None)
            return
        (folder / "at").mkdir()
        account = {"passwd": f"builder:x:{UID}:{UID}::{home}:/bin/sh\n", "group": f"builder:x:{UID}:\n"}
        for listed, own in {**account, "subuid": lent, "subgid": lent}.items():
            before = (Path("/etc") / listed).read_text(encoding="utf-8") if listed in account else ""
            (folder / listed).write_text(before + own, encoding="utf-8")
        os.chown(home, UID, UID)
        yield Ordinary(home, folder)
