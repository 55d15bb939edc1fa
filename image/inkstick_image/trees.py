"""Root trees: Debian unpacked by mmdebstrap from the local archive, our files laid over, squashed into a layer.

Work on trees runs as root, or as root of a user namespace (`namespace`), and makes the same bits as either: layers hold
no devices, which the kernel of the started stick makes. No step needs the network: everything was fetched before.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inkstick_image import debs
from inkstick_image.errors import ImageError
from inkstick_image.tools import run

_DROP = (
    "usr/share/doc/*/*",
    "usr/share/man",
    "usr/share/locale/*",
    "var/cache/*",
    "var/lib/apt/lists/*",
    "var/log/*",
    "run/adduser",
    "usr/share/python3/debpython/__pycache__",  # written while installing: with dates or not, as mmdebstrap is
    "dev/*",
    "tmp/*",
)
# The first three: else the kernel would write marks of its own, which differ from build to build, into the new files.
# The last: marks that are needed all the same have a name that a user namespace may write; no layer takes them over.
OVERLAY = "redirect_dir=nofollow,metacopy=off,index=off,userxattr"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
LARGEST = (4 << 30) - (1 << 20)  # FAT holds no larger file: a stick made by unpacking the ISO must work too
_BUILDERS = ("etc/apt/sources.list", "etc/apt/apt.conf.d/99mmdebstrap")  # they name folders of the build machine


@dataclass(frozen=True, slots=True)
class Place:
    """`cache`: kept between builds; `work`: this build's folder; `log`: what the tools said; `level`: zstd's. `packer`:
    the tree whose programs pack, so that every machine packs alike; None: this machine's own do."""

    repository: Path
    cache: Path
    work: Path
    log: Path
    epoch: int
    level: int = 9
    packer: Path | None = None

    def packing(self, program: str) -> list[str | Path]:
        """The start of a command that packs. (By the tree's own loader and libraries: nothing need be mounted.)"""
        if self.packer is None:
            return [program]
        libraries = self.packer / "usr/lib/x86_64-linux-gnu"
        loader = libraries / "ld-linux-x86-64.so.2"
        return [loader, "--library-path", libraries, self.packer / "usr/bin" / program]

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


def release(tree: Path) -> None:
    """Unmount whatever a build that was killed left below `tree`: deleting the tree would reach through it."""
    listed = os.fsdecode(Path("/proc/self/mounts").read_bytes()).splitlines()
    # (the kernel writes a space in a path as \040)
    found = [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[1]) for line in listed]
    for point in reversed(found):
        if Path(point).is_relative_to(tree.resolve()):
            run(["umount", "--lazy", point])


@contextlib.contextmanager
def folder(place: Place, name: str) -> Iterator[Path]:
    """A work folder that goes away afterwards, whatever happened."""
    tree = place.work / name
    release(tree)
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    tree.chmod(0o755)
    try:
        yield tree
    finally:
        release(tree)
        shutil.rmtree(tree, ignore_errors=True)


@contextlib.contextmanager
def above(place: Place, name: str, layers: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """The tree that `layers` (the lowest first) make together, writable, and the folder where all that is new in it
    lands: what a next layer is made of. Of the mount nothing is left afterwards, of the folder neither."""
    with folder(place, f"{name}-over") as over:
        new, tree, scratch = (over / part for part in ("new", "tree", "scratch"))
        for part in (new, tree, scratch):
            part.mkdir(mode=0o755)
        below: list[Path] = []
        for number, layer in enumerate(layers):
            below.insert(0, over / f"below{number}")
            run(["unsquashfs", "-quiet", "-no-progress", "-dest", below[0], layer], log=place.log)
        stack = f"lowerdir={':'.join(map(str, below))},upperdir={new},workdir={scratch},{OVERLAY}"
        run(["mount", "-t", "overlay", "overlay", "-o", stack, tree])
        try:
            yield tree, new
        finally:
            run(["umount", tree])


def add(place: Place, tree: Path, packages: Sequence[debs.Deb]) -> None:
    """Install these packages (from cache/debs) in a tree that has dpkg and all that they need."""
    archive = tree / "inkstick-archive"
    archive.mkdir()
    names = []
    for deb in packages:
        shutil.copyfile(debs.whole(place.cache / "debs", deb), archive / f"{deb.sha256}.deb")
        names.append(f"/{archive.name}/{deb.sha256}.deb")
    quiet = {"INITRD": "No"}
    with mounted(tree):
        # All are unpacked before any is set up, so that the order among them does not matter.
        inside(place, tree, "dpkg", "--force-depends", "--unpack", *names, env=quiet)
        inside(place, tree, "dpkg", "--configure", "--pending", env=quiet)
        inside(place, tree, "ldconfig")
    shutil.rmtree(archive)


def without_holes(new: Path) -> None:
    """Raises ImageError if a folder of new files hides one of a layer below: our layers only ever add."""
    for path in new.rglob("*"):
        if path.is_char_device() and not path.is_symlink() and path.stat().st_rdev == 0:
            raise ImageError(f"{path.relative_to(new)} of a lower layer was removed.", "Layers only add files.")


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
    """/proc, /sys and a small /dev inside the tree while a command runs there."""
    with contextlib.ExitStack() as mounts:

        def mount(where: str, *words: str | Path) -> None:
            run(["mount", *words, tree / where])
            mounts.callback(run, ["umount", "--lazy", tree / where])

        mount("proc", "-t", "proc", "proc")
        try:
            mount("sys", "-t", "sysfs", "sysfs")
        except ImageError:  # the network's owner alone may: a namespace borrows this machine's, with all below it
            mount("sys", "--rbind", "--make-rslave", "/sys")
        # (In a sticky folder, which a tmpfs is by itself, nobody may write to the devices of another user namespace.)
        mount("dev", "-t", "tmpfs", "-o", "mode=755", "dev")
        for name in DEVICES:
            (tree / "dev" / name).touch()
            mount(f"dev/{name}", "--bind", f"/dev/{name}")
        (tree / "dev/pts").mkdir()
        mount("dev/pts", "-t", "devpts", "-o", "newinstance,ptmxmode=666,mode=620", "devpts")
        (tree / "dev/shm").mkdir()
        (tree / "dev/shm").chmod(0o1777)
        for name, target in LINKS.items():
            (tree / "dev" / name).symlink_to(target)
        yield


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
    without_borrowed_rights(tree)


def without_borrowed_rights(tree: Path) -> None:
    """No program runs with its owner's or group's rights: nobody logs in; what needs rights is a unit that has them."""
    for path in tree.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))


def squash(
    place: Place, tree: Path, out: Path, packing: Sequence[str] = (), *, most: int = LARGEST, xattrs: bool = True
) -> list[Path]:
    """A layer: zstd (or as `packing` says), every date the epoch, files in a fixed order. What would make more than
    `most` bytes is parted among NAME.squashfs, NAME-2.squashfs …: the layers. Raises ImageError if that does not help.
    """
    dates = ["-all-time", str(place.epoch), "-mkfs-time", str(place.epoch)]
    form = [*(packing or ["-comp", "zstd", "-Xcompression-level", str(place.level), "-b", "256K"]), *dates]
    form += ["-noappend", "-quiet", "-no-progress", *([] if xattrs else ["-no-xattrs"])]

    def pack(source: Path, target: Path) -> int:
        target.unlink(missing_ok=True)
        run([*place.packing("mksquashfs"), source, target, *form], env={"TZ": "UTC"}, log=place.log)
        return target.stat().st_size

    size = pack(tree, out)
    if size <= most:
        return [out]
    files = {path: path.stat().st_size for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()}
    for count in range(size // most + 1, 2 * (size // most) + 4):
        made, fits = [], True
        for number, group in enumerate(parted(files, count)):
            made.append(out if number == 0 else out.with_name(f"{out.stem}-{number + 1}.squashfs"))
            with _without(place, tree, files.keys() - set(group)):
                fits = pack(tree, made[-1]) <= most and fits
        if fits:
            return made
    raise ImageError(f"{out.name} cannot be parted: a file in it is too large.", "No file may be larger than 4 GiB.")


def parted(files: Mapping[Path, int], count: int) -> list[list[Path]]:
    """The files (→ bytes) in `count` groups of about the same size, in their order."""
    whole, done = sum(files.values()) or 1, 0
    groups: list[list[Path]] = [[] for _ in range(count)]
    for path, size in files.items():
        groups[min(count - 1, done * count // whole)].append(path)
        done += size
    return groups


@contextlib.contextmanager
def _without(place: Place, tree: Path, others: Iterable[Path]) -> Iterator[None]:
    """While these files are out of the tree."""
    with folder(place, f"{tree.name}-aside") as aside:
        moved = [(path, aside / str(number)) for number, path in enumerate(others)]
        for path, away in moved:
            path.rename(away)
        try:
            yield
        finally:
            for path, away in moved:
                away.rename(path)
