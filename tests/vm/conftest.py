"""The cpu edition, built once per session (layers from cache/ where nothing changed)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def iso() -> Path:
    """INKSTICK_ISO names one that is built already; else it is built here."""
    if given := os.environ.get("INKSTICK_ISO"):
        return Path(given)
    done = subprocess.run([ROOT / "build.sh", "image", "--edition", "cpu", "--quick"], cwd=ROOT, stdout=None)
    assert done.returncode == 0, "the build failed: its output is above"
    return next((ROOT / "dist").glob("inkstick-cpu-*.iso"))
