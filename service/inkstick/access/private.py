"""Small files in state/ that only the service's user can read, replaced whole and durably."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inkstick import durable
from inkstick.errors import DiskFull, Unavailable, no_room


def save(path: Path, value: Any) -> None:
    """Write JSON to `path`: mode 0600, owned by the owner of its folder, on the disk when this returns.

    Raises DiskFull, or Unavailable where the folder cannot be written."""
    data = (json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n").encode()
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            own(file.fileno(), path.parent)
            file.write(data)
        durable.publish(part, path)
    except OSError as error:
        raise translated(error) from error


def load(path: Path) -> Any:
    """What was saved; None if there is nothing, or nothing that can be understood."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def own(handle: int, folder: Path) -> None:
    """A command that root runs at the console must not leave a file that the service cannot open."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)


def translated(error: OSError) -> DiskFull | Unavailable:
    if no_room(error):
        return DiskFull()
    return Unavailable(f"{error.filename or 'A file'} cannot be written: {error.strerror}.")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`: one process, and one thread of it, at a time."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise translated(error) from error
    try:
        own(handle, path.parent)
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
