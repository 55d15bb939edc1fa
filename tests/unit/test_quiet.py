"""Nothing phones home, and nothing prepares to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_importing_everything_leaves_no_identifier_behind(tmp_path: Path) -> None:
    """`import pymupdf` alone makes a device id under ~/.cache where the telemetry of ONNX Runtime is on."""
    script = "import inkstick.results.pdf, inkstick.pages.worker, inkstick.engines.ocr_worker, pymupdf, onnxruntime"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "ORT_"))}
    subprocess.run([sys.executable, "-c", script], env={**environment, "HOME": str(tmp_path)}, check=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_service_process_starts_without_the_parsers() -> None:
    """PyMuPDF costs 0.4 s and 136 MB, and belongs into the sandbox."""
    script = (
        "import sys, inkstick.office; print([m for m in ('pymupdf', 'onnxruntime', 'rapidocr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_locks_pin_every_package_by_hash() -> None:
    for lock in (ROOT / "locks").glob("*.txt"):
        text = lock.read_text(encoding="utf-8")
        for entry in re.split(r"\n(?=\S)", text.strip()):
            if not entry.startswith("#"):
                assert "==" in entry.splitlines()[0] and "--hash=sha256:" in entry, (lock.name, entry.splitlines()[0])
