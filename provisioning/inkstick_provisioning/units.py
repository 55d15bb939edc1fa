"""systemd's units, as the keeper stops and starts them, and the programs that it runs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inkstick_provisioning.faults import StillWriting

SHARE = "inkstick-share.service"
SERVICES = ("inkstick-watch.service", "inkstick-serve.service")
WRITERS = (*SERVICES, "inkstick-serve.socket", "inkstick-pages@*.service", "inkstick-engine.service", SHARE)
"""Whoever has a file of the data folder open, and the socket by which a browser would start the service again."""


def run(command: Sequence[str], text: str = "", user: int | None = None) -> str:
    """Its output, "" where it failed: a broken part must not take the keeper with it; nor must a byte that is no letter
    (lsblk hands a stick's label on as it lies there). `user`: as whom."""
    done = _done(command, text, user)
    return str(done.stdout) if done else ""


def succeeds(command: Sequence[str], text: str = "") -> bool:
    """The same, for what says nothing where all is well."""
    done = _done(command, text, None)
    return done is not None and done.returncode == 0


def _done(command: Sequence[str], text: str, user: int | None) -> subprocess.CompletedProcess[str] | None:
    who: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            list(command), input=text, capture_output=True, text=True, errors="replace", timeout=120, **who
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{command[0]}: {error}\n")
        return None
    if done.returncode != 0:
        sys.stderr.write(f"{' '.join(command[:3])}: {done.stderr.strip()[:300]}\n")
    return done


def systemctl(*arguments: str) -> str:
    return run(["systemctl", *arguments])


def visits() -> list[str]:
    """The units of the sticks that are plugged in; each may be copying documents."""
    states = "--state=active,activating"
    shown = systemctl("list-units", "--plain", "--no-legend", "--full", states, "inkstick-usb@*.service")
    return [line.split()[0] for line in shown.splitlines() if line.strip()]


def stop_writers(guests: Sequence[str] = ()) -> None:
    """Raises StillWriting where one of them runs on, or nobody says that none does: what it wrote into memory that is
    carried away would be lost."""
    systemctl("stop", *WRITERS, *guests)
    states = systemctl("show", "--property=ActiveState", "--value", *WRITERS, *guests).split()
    if not states or {"active", "activating", "deactivating", "reloading"} & set(states):
        raise StillWriting


def freeze(units: Sequence[str], root: Path = Path("/sys/fs/cgroup/system.slice")) -> None:
    """Stopped in the middle of whatever they do, at once and without starting any program. Units of a template lie in a
    slice of their own below `root`."""
    for unit in units:
        for switch in root.glob(f"**/{unit}/cgroup.freeze"):
            with contextlib.suppress(OSError):
                switch.write_text("1", encoding="ascii")


def states(shown: str) -> tuple[tuple[str, str, str], ...]:
    """From `systemctl show`: (part, state, its own words), one block per unit."""
    blocks = [dict(line.split("=", 1) for line in b.splitlines() if "=" in line) for b in shown.split("\n\n")]
    names = [(b, b["Id"].removeprefix("inkstick-").removesuffix(".service")) for b in blocks if b.get("Id")]
    return tuple((name, b.get("ActiveState", ""), b.get("StatusText", "")) for b, name in names)
