"""Root trees: Debian unpacked by mmdebstrap from the local archive, our files laid over, squashed into a layer.

Work on trees runs as root. No step has the network: everything was fetched before.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from inkstick_image import debs
from inkstick_image.tools import run

_DROP = (
    "usr/share/doc/*/*",
    "usr/share/man",
    "usr/share/locale/*",
    "var/cache/*",
    "var/lib/apt/lists/*",
    "var/log/*",
    "tmp/*",
)
_BUILDERS = ("etc/apt/sources.list", "etc/apt/apt.conf.d/99mmdebstrap")  # they name folders of the build machine


@dataclass(frozen=True, slots=True)
class Place:
    """`cache`: kept between builds; `work`: this build's folder; `log`: what the tools said; `level`: zstd's."""

    repository: Path
    cache: Path
    work: Path
    log: Path
    epoch: int
    level: int = 9

    @property
    def dates(self) -> dict[str, str]:
        return {"SOURCE_DATE_EPOCH": str(self.epoch), "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"}


def unpack(place: Place, name: str, tree: Path) -> None:
    """The packages recorded under `name`, installed into the new folder `tree`."""
    archive = place.work / f"{name}-archive"
    source = debs.local_archive(place.cache / "debs", name, archive)
    packages = re.findall(r"^Package: (\S+)$", (archive / "Packages").read_text(encoding="utf-8"), re.MULTILINE)
    options = ['APT::Install-Recommends "0"', 'APT::Sandbox::User "root"']
    command = ["mmdebstrap", "--mode=root", "--variant=essential", "--architectures=amd64", "--skip=check/qemu"]
    command += [f"--aptopt={option}" for option in options]
    command += [f"--include={','.join(packages)}", "", str(tree), source]
    # The first root file system is made once, at the end, and not by every package that has a say in it.
    run(command, env={**place.dates, "INITRD": "No"}, log=place.log)
    shutil.rmtree(archive)


def lay(source: Path, tree: Path) -> None:
    """Our own files over the tree, owned by root, with the modes that git knows."""
    for path in sorted(source.rglob("*")):
        if "__pycache__" in path.parts:
            continue
        target = tree / path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
        if not path.is_symlink():
            target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        os.chown(target, 0, 0, follow_symlinks=False)


@contextlib.contextmanager
def mounted(tree: Path) -> Iterator[None]:
    """/proc, /sys and /dev inside the tree while a command runs there."""
    points = [("proc", "proc", "proc"), ("sysfs", "sys", "sysfs")]
    done = []
    try:
        for what, where, kind in points:
            run(["mount", "-t", kind, what, tree / where])
            done.append(tree / where)
        run(["mount", "--bind", "/dev", tree / "dev"])
        done.append(tree / "dev")
        yield
    finally:
        for point in reversed(done):
            run(["umount", "--lazy", point])


def inside(place: Place, tree: Path, *command: str, env: Mapping[str, str] | None = None) -> str:
    """Run a command with the tree as its root."""
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
    clear = [f"{key}={value}" for key, value in {**place.dates, **path, **(env or {})}.items()]
    return run(["chroot", tree, "env", "-i", *clear, *command], log=place.log)


def tidy(tree: Path) -> None:
    """Take out what differs from build to build or is of no use on a stick (licence texts stay)."""
    for pattern in _DROP:
        for path in tree.glob(pattern):
            if path.name == "copyright":
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (tree / "etc/machine-id").write_text("", encoding="ascii")
    for name in (
        "etc/resolv.conf",
        "var/lib/dbus/machine-id",
        "var/lib/systemd/random-seed",
        "etc/hostname-",
        *_BUILDERS,
    ):
        (tree / name).unlink(missing_ok=True)
    for backup in (tree / "etc").glob("*-"):
        backup.unlink()


def squash(place: Place, tree: Path, out: Path) -> None:
    """One layer: zstd, every date the epoch, files in a fixed order."""
    out.unlink(missing_ok=True)
    dates = ["-all-time", str(place.epoch), "-mkfs-time", str(place.epoch)]
    quiet = ["-noappend", "-quiet", "-no-progress"]
    form = ["-comp", "zstd", "-Xcompression-level", str(place.level), "-b", "256K"]
    run(["mksquashfs", tree, out, *quiet, *form, *dates], env={"TZ": "UTC"}, log=place.log)
