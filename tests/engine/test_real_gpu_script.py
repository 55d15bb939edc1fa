"""tests/gpu/run from end to end, as somebody with a GPU runs it, but on the CPU and with a small model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine import setup

pytestmark = pytest.mark.timeout(1500)
SCRIPT = setup.SHAPES / "run"


def test_vllm_its_own_bench_and_transformers_are_measured_and_reported(engine: setup.Engine, tmp_path: Path) -> None:
    wishes = ("--in-flight", "1,2", "--pixels", "300000", "--pages", "2", "--plain-pages", "1", "--tokens", "8")
    model = ("--random-weights", "--cpu", "--small", "--engine-python", str(engine.python))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *model, *wishes, "-o", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "vllm.log").read_text()[-4000:]
    print(done.stdout)
    report = json.loads((tmp_path / "report.json").read_text())
    assert [run["in_flight"] for run in report["runs"]] == [1, 2]
    for run in report["runs"]:
        assert (run["pages"], run["failed"]) == (2, 0)
        assert run["bench"]["pages"] == 2, run["bench"]
    assert [run["pixels"] for run in report["transformers"]["runs"]] == [300_000]
    assert (tmp_path / "report.md").read_text().startswith("# ")
