"""Building without root: a user namespace in which whoever builds is root, over the ids that /etc/subuid lends them.

- Inside, id 0 is the person's own: what the build leaves in cache/ and dist/ is theirs. Ids 1 to 65,535 are lent ones.
- Mounts and processes are the namespace's own, and end with it, whatever ended it.
- No device can be made there; `trees.mounted` therefore mounts those of this machine one by one, for root as well.
- Where the kernel, AppArmor or /etc/subuid say no, that is found out by trying, before the long part.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inkstick_image.errors import NoIds, NoNamespace

PROGRAMS = {"unshare": "util-linux", "newuidmap": "uidmap", "newgidmap": "uidmap"}
IDS = 1 << 16  # of a whole Debian: nobody is the last but one
ENTER = (
    "unshare",
    "--user",
    "--map-root-user",
    "--map-auto",
    "--mount",
    "--mount-proc",
    "--pid",
    "--fork",
    "--kill-child",
)
# What a build will do, once: mount, and give a file of the cache to nobody. $1: a folder there; $2: overlays' options.
TRIAL = """set -e
try=$(mktemp -d "$1/trial.XXXXXX")
trap 'rm -rf "$try"' EXIT
cd "$try"
mkdir below new scratch tree
chown 65534:65534 below
mount -t tmpfs none tree
umount tree
[ "$2" != no ] || exit 0
mount -t overlay overlay -o "$2,lowerdir=below,upperdir=new,workdir=scratch" tree
umount tree
"""
_SYSTEM = Path("/proc/sys")
_AS_ROOT = "Or build as root: sudo ./build.sh image …"


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides whether `user` may have such a namespace here: the text of both lists of lent ids, and the kernel's
    settings ("" where it has none of that name)."""

    user: str
    uid: int
    subuid: str = ""
    subgid: str = ""
    clone: str = ""  # kernel.unprivileged_userns_clone
    most: str = ""  # user.max_user_namespaces
    apparmor: str = ""  # kernel.apparmor_restrict_unprivileged_userns


def facts() -> Facts:
    """Of this machine, for whoever runs this."""
    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Facts(
        user,
        uid,
        _text(Path("/etc/subuid")),
        _text(Path("/etc/subgid")),
        _text(_SYSTEM / "kernel/unprivileged_userns_clone").strip(),
        _text(_SYSTEM / "user/max_user_namespaces").strip(),
        _text(_SYSTEM / "kernel/apparmor_restrict_unprivileged_userns").strip(),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def lent(listed: str, user: str, uid: int) -> int:
    """How many ids a list (the text of /etc/subuid) lends `user`: unshare takes their first line alone."""
    for name, _, count in _lines(listed):
        if name in (user, str(uid)):
            return count
    return 0


def _lines(listed: str) -> list[tuple[str, int, int]]:
    found = []
    for line in listed.splitlines():
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if first.isdigit() and count.isdigit():
            found.append((name, int(first), int(count)))
    return found


def free(*lists: str) -> int:
    """The first id from which on none is lent."""
    return max([100_000, *(first + count for listed in lists for _, first, count in _lines(listed))])


def refusal(known: Facts, said: str) -> NoIds | NoNamespace:
    """Why the trial failed with these words, and what helps: the first reason that holds."""
    if min(lent(listed, known.user, known.uid) for listed in (known.subuid, known.subgid)) < IDS - 1:
        first = free(known.subuid, known.subgid)
        whole = f"{first}-{first + IDS - 1}"
        return NoIds(
            f"The account {known.user} is lent fewer than {IDS:,} ids in /etc/subuid and /etc/subgid.",
            f"sudo usermod --add-subuids {whole} --add-subgids {whole} {known.user}\n{_AS_ROOT}",
        )
    for value, name, good in (
        (known.clone == "0", "kernel.unprivileged_userns_clone", "1"),
        (known.most == "0", "user.max_user_namespaces", "15000"),
        (known.apparmor == "1", "kernel.apparmor_restrict_unprivileged_userns", "0"),
    ):
        if value:
            return NoNamespace(
                f"This machine does not let ordinary users make user namespaces ({name}).",
                f"Until its next start: sudo sysctl {name}={good}\n{_AS_ROOT}",
            )
    return NoNamespace(
        f"No user namespace can be made and used here: {said.strip() or 'no reason was given'}",
        f"In a container this is usual. A cache/ on a network drive may be the reason too.\n{_AS_ROOT}",
    )


def check(folder: Path, overlay: str) -> None:
    """Try it. `folder`: in the cache. `overlay`: the options of overlays ("no": none will be mounted).

    Raises NoIds or NoNamespace."""
    command = [*ENTER, "sh", "-c", TRIAL, "trial", str(folder), overlay]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise refusal(facts(), done.stderr)


def run(command: Sequence[str]) -> int:
    """The command as root of a namespace of its own; its exit status, as a shell counts. After SIGTERM nothing of it is
    left."""
    process = subprocess.Popen([*ENTER, *command])
    # unshare itself keeps SIGTERM waiting; killed, it takes all with it. Ctrl-C reaches the command directly.
    signal.signal(signal.SIGTERM, lambda *_: process.kill())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = process.wait()
    return status if status >= 0 else 128 - status
