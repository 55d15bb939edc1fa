"""tests/gpu/run: the parts that need no GPU."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from support.fake_engine import FakeEngine, Timing

SCRIPT = Path(__file__).parent.parent / "gpu" / "run"


async def run(*arguments: str, path: str) -> tuple[int | None, str]:
    environment = {**os.environ, "PATH": path}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), *arguments, env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    return process.returncode, errors.decode()


async def test_without_a_gpu_it_refuses_and_says_so(tmp_path: Path) -> None:
    status, errors = await run("--model", str(tmp_path), "-o", str(tmp_path / "out"), path=str(tmp_path))
    assert status == 3
    assert "no NVIDIA GPU" in errors
    assert not (tmp_path / "out").exists()


async def test_a_model_or_a_server_must_be_named(tmp_path: Path) -> None:
    status, errors = await run("-o", str(tmp_path), path="")
    assert status == 2
    assert "--model" in errors


async def test_a_server_is_measured_and_reported(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with FakeEngine(speed=20, timing=Timing(tokens=20)) as fake:
        wishes = ("--in-flight", "1,4", "--pixels", "20000,40000", "--pages", "4", "--tokens", "8")
        status, errors = await run("--url", fake.url, *wishes, "-o", str(out), path=str(tmp_path))
        assert (status, errors) == (0, "")
        assert fake.seen.finished == 16
    report = json.loads((out / "report.json").read_text())
    assert [(r["in_flight"], r["pixels"]) for r in report["runs"]] == [(1, 20000), (4, 20000), (1, 40000), (4, 40000)]
    assert all(r["pages"] == 4 and r["failed"] == 0 and r["pages_per_second"] > 0 for r in report["runs"])
    assert report["gpu"] is None
    told = (out / "report.md").read_text()
    assert "not measured" in told
    assert len([line for line in told.splitlines() if line.startswith("| 4 |")]) == 2
    for name in ("pages_per_second.svg", "tokens_per_second.svg"):
        assert len(ET.fromstring((out / name).read_text()).findall("{*}polyline")) == 2
