"""`inkstick` as a process that uses an engine's environment, ended when the block ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def inkstick(*arguments: str, python: Path, log: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python`: of the engine's environment. `more`: of its own environment."""
    environment = {**os.environ, "INKSTICK_ENGINE_PYTHON": str(python), **more}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "inkstick.cli", *arguments], env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
