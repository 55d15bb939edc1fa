"""The `inkstick.toml` by which everything is answered beforehand: where it can lie, and the files beside it.

As a systemd credential, or at the top of the medium or of a stick's FAT partition. What it says: `unattended.py`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from inkstick_provisioning import blocks, status, unattended, units, untrusted, volume
from inkstick_provisioning.faults import UnattendedError


class Given:
    """An `inkstick.toml` that was found, and the files beside it."""

    def __init__(self, text: str, folder: Path) -> None:
        self.text, self._folder = text, folder

    def key(self, name: str) -> str:
        """A key file's content, as a passphrase; "" where there is none. Raises UnattendedError."""
        return _text(self._folder / name).strip() if name else ""


def find() -> Given | None:
    """None where there is none. FAT partitions are looked into while they are mounted (`mount_fat`). Raises
    UnattendedError for one that is no text, or is called as Windows calls it where it hides the ends of names: ignored,
    nobody would know why it answers nothing."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    places = [Path(credentials)] if credentials else []
    folders = [*places, Path(volume.MEDIUM), *sorted((status.RUN / "fat").glob("*"))]
    for folder in folders:
        if text := _text(folder / unattended.NAME):
            return Given(text, folder)
    if any(_text(folder / f"{unattended.NAME}.txt") for folder in folders):
        raise UnattendedError((f"the file is called {unattended.NAME}.txt: take .txt away",))
    return None


def _text(path: Path) -> str:
    try:
        return untrusted.content(path, untrusted.LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnattendedError((f"{path.name} is not UTF-8 text: save it as UTF-8",)) from error
    except (OSError, ValueError):
        return ""


def mount_fat() -> None:
    """FAT partitions of removable media, read-only, to look for the file. (The keeper has no mount namespace of its
    own: the processes of sticks begin after it is ready.)"""
    for disk in blocks.parse(units.run(blocks.COMMAND) or '{"blockdevices": []}'):
        for part in disk.everything():
            if disk.transport in ("usb", "mmc") and part.filesystem == "vfat" and not part.mounts:
                folder = status.RUN / "fat" / part.path.rpartition("/")[2]
                folder.mkdir(parents=True, exist_ok=True)
                units.run(["mount", "-t", "vfat", "-o", "ro,nosuid,nodev,noexec,umask=0077", part.path, str(folder)])


def unmount_fat() -> None:
    """Whoever still looks into one keeps neither it nor the keeper."""
    for folder in (status.RUN / "fat").glob("*"):
        units.run(["umount", "--lazy", str(folder)])
        with contextlib.suppress(OSError):
            folder.rmdir()
