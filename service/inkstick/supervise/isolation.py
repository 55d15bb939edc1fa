"""Whether an engine's process can be given no network here: bubblewrap, found and tried."""

from __future__ import annotations

import shutil
import subprocess

from inkstick.supervise import serving


def isolation() -> str | None:
    """bubblewrap, if it can take the network away here, by trying it. On the appliance systemd does so as well."""
    path = shutil.which("bwrap")
    if path is None:
        return None
    try:
        done = subprocess.run([path, *serving.WALLS, "true"], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return path if done.returncode == 0 else None
