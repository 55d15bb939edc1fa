"""Whether an engine has no network here: by bubblewrap, found and tried, or because this process has none itself."""

from __future__ import annotations

import shutil
import socket
import subprocess

from inkstick.supervise import serving


def isolation() -> str | None:
    """bubblewrap, if it can take the network away here, by trying it. Not on the appliance: there the engine's unit
    may make no namespaces, and has all its walls already."""
    path = shutil.which("bwrap")
    if path is None:
        return None
    try:
        done = subprocess.run([path, *serving.WALLS, "true"], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return path if done.returncode == 0 else None


def alone() -> bool:
    """Whether this process, and so whatever it starts, has no network but a loopback of its own."""
    try:
        return {name for _, name in socket.if_nameindex()} <= {"lo"}
    except OSError:
        return False
