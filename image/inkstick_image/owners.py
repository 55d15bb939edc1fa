"""Which component of the bill of materials every file of a layer belongs to. A file without one stops the build.

Debian's packages list their files, Python's packages record theirs. What Debian's installation scripts write at build
time is in `MADE` by name; what lies in image/overlay, service/ and provisioning/ is ours.
"""

from __future__ import annotations

import csv
import fnmatch
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from inkstick_image.errors import ImageError

OURS = "inkstick"
_MERGED = re.compile(r"^/(bin|sbin|lib|lib64)(?=/|$)")
_BYTECODE = re.compile(r"^(.*/)__pycache__/([^/]+)\.cpython-\d+(?:\.opt-\d)?\.pyc$")

# component → files that its installation makes (or, for `inkstick`, that the builder makes)
MADE: Mapping[str, tuple[str, ...]] = {
    "base-files": ("/etc/dpkg/origins/default", "/etc/motd", "/etc/profile", "/root/.*", "/usr/share/info/dir"),
    "base-passwd": ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/sub[ug]id", "/etc/.pwd.lock"),
    "dbus": ("/etc/rc?.d/S01dbus",),
    "debianutils": ("/usr/bin/which", "/etc/shells", "/var/lib/shells.state"),
    "dpkg": ("/var/lib/dpkg/*", "/etc/alternatives/*", "/var/lib/apt/extended_states"),
    "init-system-helpers": ("/var/lib/systemd/deb-systemd-helper-*",),
    "initramfs-tools-core": ("/etc/initramfs-tools/modules", "/initrd.img*"),
    "kmod": ("/usr/lib/modules/*/modules.*", "/etc/modules"),
    "libc-bin": ("/etc/ld.so.cache", "/etc/nsswitch.conf"),
    "libpam-modules": ("/etc/security/opasswd", "/etc/environment"),
    "libpam-runtime": ("/etc/pam.d/common-*", "/var/lib/pam/*"),
    "linux-base": ("/vmlinuz*", "/boot/initrd*"),
    "nvidia-persistenced": ("/etc/rc?.d/*nvidia-persistenced",),
    "netbase": ("/etc/networks",),
    "procps": ("/etc/rc?.d/S01procps",),
    "python3": ("/etc/python3/*", "/var/lib/python/*"),
    "readline-common": ("/etc/inputrc",),
    "samba": ("/etc/rc?.d/[KS]01[ns]mbd",),
    "samba-common": ("/etc/samba/smb.conf", "/var/lib/ucf/*"),
    "systemd": (
        "/etc/systemd/system/*.wants/*",
        "/var/lib/systemd/catalog/database",
        "/etc/default/locale",
        "/etc/vconsole.conf",
    ),
    "tzdata": ("/etc/localtime", "/etc/timezone"),
    "udev": ("/usr/lib/udev/hwdb.bin",),
    OURS: (
        "/etc/fstab",
        "/etc/host*",
        "/etc/machine-id",
        "/etc/mtab",
        "/etc/apt/*",
        "/usr/local/man",
        "/var/spool/mail",
    ),
}


def canonical(path: str) -> str:
    """/bin/sh and /usr/bin/sh are one file in Debian."""
    return _MERGED.sub(r"/usr/\1", path)


def of_debian(tree: Path) -> dict[str, str]:
    """File → package, from dpkg's lists in `tree`."""
    found = {}
    for listed in sorted((tree / "var/lib/dpkg/info").glob("*.list")):
        package = listed.name.removesuffix(".list").partition(":")[0]
        for line in listed.read_text(encoding="utf-8").splitlines():
            found[canonical(line)] = package
    return found


def of_python(tree: Path, packages: Path) -> dict[str, str]:
    """File → Python package, from the RECORD of each in `packages` (a site-packages folder below `tree`)."""
    found = {}
    for record in sorted(packages.glob("*.dist-info/RECORD")):
        name = normal(record.parent.name.partition("-")[0])
        with record.open(encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines):
                path = (packages / row[0]).resolve() if row[0].startswith("..") else packages / row[0]
                found[f"/{path.relative_to(tree)}"] = name
        found[f"/{record.relative_to(tree)}"] = name
    return found


def normal(name: str) -> str:
    """A Python package's name as the index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def assign(files: Mapping[str, str], known: Mapping[str, str], ours: Iterable[str] = ()) -> dict[str, str]:
    """`files`: path → link target ("" for what is no link). `ours`: files laid over. File → component.

    Raises ImageError where a file belongs to nothing."""
    mine, owners = {canonical(path) for path in ours}, {}
    for path, target in files.items():
        owner = OURS if canonical(path) in mine else _owner(path, target, known)
        if owner is None:
            raise ImageError(f"{path} belongs to no component.", "Say in owners.py which package makes it.")
        owners[path] = owner
    return owners


def _owner(path: str, target: str, known: Mapping[str, str]) -> str | None:
    clean = canonical(path)
    if clean in known:
        return known[clean]
    if (source := _BYTECODE.match(clean)) and (owner := known.get(f"{source[1]}{source[2]}.py")):
        return owner
    for component, patterns in MADE.items():
        if any(fnmatch.fnmatchcase(clean, pattern) for pattern in (canonical(each) for each in patterns)):
            return component
    if target.startswith("/etc/alternatives/"):
        return "dpkg"
    return known.get(canonical(target)) if target else None


def files(tree: Path) -> dict[str, str]:
    """Every file, link and device below `tree` → link target, or ""."""
    found = {}
    for path in tree.rglob("*"):  # (does not follow links)
        if path.is_symlink() or not path.is_dir():
            found[f"/{path.relative_to(tree)}"] = str(path.readlink()) if path.is_symlink() else ""
    return dict(sorted(found.items()))
