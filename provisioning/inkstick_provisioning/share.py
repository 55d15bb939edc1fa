"""Inbox and results as folders of the network (SMB), off by default: `[share] smb = true`, or S on the console.

What is told to Samba is pure text; `main` is what `inkstick-share.service` starts: the password into a database in
memory, then smbd itself, as the user `inkstick` and without any right of root's (the unit shows it these two folders
and no other of the data). There is one user and one password, made anew at each start of the machine.

The threat: whoever is on the cable. The handshake of the login goes over it in clear, so that the password must
withstand guessing without end: eighty random bits. Everything behind the login is encrypted and signed. What remains:
whoever has the password may fill the volume, and nothing that is done by it is in the audit log.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inkstick.config import DataFolder
from inkstick_provisioning import network
from inkstick_provisioning.network import SHARE_PORT, Mode
from inkstick_provisioning.recovery import LETTERS

USER = "inkstick"
GROUPS, GROUP = 4, 4
DATA = Path("/var/lib/inkstick")
TOLD = "share.json"
_NAME = re.compile(r"[a-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True)
class Share:
    """What is offered. `name`: of the machine. `addresses`: its own, where the share answers. repr hides `password`."""

    name: str
    addresses: tuple[str, ...]
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """`data`: the folder with inbox and results. `run`: where Samba keeps what it needs while it runs, in memory."""

    data: Path
    run: Path


def password(choice: Callable[[str], str] = secrets.choice) -> str:
    """Four groups of four small letters and digits that cannot be taken for one another: 80 bits. The hyphens count."""
    letters = LETTERS.lower()
    return "-".join("".join(choice(letters) for _ in range(GROUP)) for _ in range(GROUPS))


def reached(pages: Sequence[str], modes: Mapping[str, Mode], *, wished: bool, settled: bool) -> tuple[str, ...]:
    """The addresses where the share answers: those of the page (`https://ADDRESS/`), none where it is not wished, where
    no port is in use, or before the first start is `settled` (the data folder may still be exchanged under it). Always
    in one order, whichever cable is in: in another one the share would start anew."""
    if not (wished and settled and any(mode is not Mode.NONE for mode in modes.values())):
        return ()
    return tuple(sorted(map(network.host, pages)))


def read(text: str) -> Share | None:
    """From `TOLD`, None for anything else."""
    try:
        value = json.loads(text)
        return Share(str(value["name"]), tuple(map(str, value["addresses"])), str(value["password"]))
    except (ValueError, KeyError, TypeError):
        return None


def told(share: Share) -> dict[str, Any]:
    """For `TOLD`."""
    return asdict(share)


def configuration(share: Share, place: Place, user: str = USER) -> str:
    """smb.conf. Raises ValueError for a name or an address that could be anything else."""
    if not _NAME.fullmatch(share.name):
        raise ValueError(f"not a machine's name: {share.name!r}")
    own = " ".join(str(ipaddress.IPv4Address(address)) for address in share.addresses)
    if not own:
        raise ValueError("a share needs an address")
    netbios = share.name[:15].strip("-").upper() or "INKSTICK"
    folder = DataFolder(place.data)
    places = {"run": place.run, "inbox": folder.inbox, "results": folder.results}
    return _CONFIGURATION.format(name=netbios, addresses=own, port=SHARE_PORT, user=user, **places)


_CONFIGURATION = """\
# Made by Inkstick.
[global]
server role = standalone server
netbios name = {name}
server string = Inkstick
interfaces = {addresses}
bind interfaces only = yes
smb ports = {port}
disable netbios = yes
multicast dns register = no

# Nothing older than SMB 3.1.1, nothing in clear, nobody without the password.
server min protocol = SMB3
server signing = mandatory
server smb encrypt = required
ntlm auth = ntlmv2-only
map to guest = never
restrict anonymous = 2
passdb backend = tdbsam:{run}/passdb.tdb
max smbd processes = 32
deadtime = 60

# No printers, no shares of users, no way of UNIX to make links.
load printers = no
printing = bsd
printcap name = /dev/null
disable spoolss = yes
usershare max shares = 0
unix extensions = no
smb3 unix extensions = no

# Everything that Samba writes is in memory. Level 0: errors, without the names of files that are opened.
private dir = {run}
lock directory = {run}
state directory = {run}
cache directory = {run}
pid directory = {run}
ncalrpc dir = {run}/ncalrpc
log level = 0
log file = {run}/log
max log size = 100
enable core files = no

# For both shares. No leases: what a client writes must not wait in its memory while the watcher sees a file at rest.
valid users = {user}
guest ok = no
follow symlinks = no
wide links = no
oplocks = no
level2 oplocks = no
nt acl support = no
ea support = no
store dos attributes = no
map archive = no
map readonly = no
create mask = 0600
directory mask = 0700

[inbox]
comment = Put documents here
path = {inbox}
read only = no

[results]
comment = What was read
path = {results}
read only = yes
"""


def password_command(configuration: Path, user: str) -> list[str]:
    """Takes the password twice, by standard input."""
    return ["pdbedit", "--configfile", str(configuration), "--create", "--password-from-stdin", "--user", user]


def serve_command(configuration: Path) -> list[str]:
    """It stays in the foreground, and says to systemd when it is ready."""
    return ["smbd", "--foreground", "--no-process-group", "--debug-stdout", "--configfile", str(configuration)]


def offer(share: Share, place: Place, user: str = USER) -> None:
    """Becomes smbd. Everything that it needs is made anew in `place.run`. Raises OSError, CalledProcessError."""
    os.umask(0o077)
    file = place.run / "smb.conf"
    (place.run / "passdb.tdb").unlink(missing_ok=True)
    file.write_text(configuration(share, place, user), encoding="utf-8")
    secret = f"{share.password}\n{share.password}\n"
    subprocess.run(password_command(file, user), input=secret, text=True, check=True, stdout=subprocess.DEVNULL)
    command = serve_command(file)
    os.execvp(command[0], command)  # noqa: S606


def main() -> int:
    """What the keeper told comes as a credential: the folder in which the keeper writes is not to be seen from here."""
    share = read((Path(os.environ["CREDENTIALS_DIRECTORY"]) / TOLD).read_text(encoding="utf-8"))
    if share is None:
        sys.stderr.write(f"{TOLD} is not what the keeper writes\n")
        return 1
    offer(share, Place(DATA, Path(os.environ["RUNTIME_DIRECTORY"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
