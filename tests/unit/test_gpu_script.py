"""tests/gpu/run: the parts that need no GPU."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import xml.etree.ElementTree as ET
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from support.engine_faults import Rule
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
        assert fake.seen.finished == 1 + 16  # one to warm up
    report = json.loads((out / "report.json").read_text())
    assert [(r["in_flight"], r["pixels"]) for r in report["runs"]] == [(1, 20000), (4, 20000), (1, 40000), (4, 40000)]
    assert all(r["pages"] == 4 and r["failed"] == 0 and r["pages_per_second"] > 0 for r in report["runs"])
    assert report["gpu"] is None
    told = (out / "report.md").read_text()
    assert "not measured" in told
    assert len([line for line in told.splitlines() if line.startswith("| 4 |")]) == 2
    for name in ("pages_per_second.svg", "tokens_per_second.svg"):
        assert len(ET.fromstring((out / name).read_text()).findall("{*}polyline")) == 2


async def test_where_no_page_is_answered_it_says_why_at_once(tmp_path: Path) -> None:
    async with FakeEngine(rules=[Rule("500", times=99)]) as fake:
        wishes = ("--in-flight", "1", "--pixels", "20000", "--pages", "4", "--tokens", "8")
        status, errors = await run("--url", fake.url, *wishes, "-o", str(tmp_path), path=str(tmp_path))
        assert sum(fake.seen.struck.values()) == 1
    assert (status, "Not even one page was answered: status 500" in errors) == (1, True), errors


async def test_a_server_that_an_earlier_run_left_behind_is_not_measured_in_its_place(tmp_path: Path) -> None:
    """It answers at once: a start-up of no seconds, and the figures of another model."""
    async with FakeEngine(speed=20) as fake:
        port = fake.url.rpartition(":")[2]
        wishes = ("--in-flight", "1", "--pixels", "20000", "--pages", "1", "--tokens", "8", "--no-transformers")
        taken = ("--cpu", "--model", str(tmp_path), "--engine-python", "/bin/true", "--port", port)
        status, errors = await run(*taken, *wishes, "-o", str(tmp_path / "out"), path=str(tmp_path))
        assert (status, fake.seen.finished) == (1, 0)
    assert f"answers at port {port} already" in errors


# -- its parts


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("gpu_run", SCRIPT, loader=SourceFileLoader("gpu_run", str(SCRIPT)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WORKER = """
import json, mmap, os, sys
model, pixels = sys.argv[1], int(sys.argv[2])
print(json.dumps({"ready": {}}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    size = asked["width"] * asked["height"] * 3
    assert os.fstat(pixels).st_size == size and asked["prompt"]
    with mmap.mmap(pixels, size, access=mmap.ACCESS_READ) as page:
        assert 0 in page[:] and 255 in page[:]
    print(json.dumps({"id": asked["id"], "piece": "x"}), flush=True)
    print(json.dumps({"id": asked["id"], "tokens": asked["sampling"]["max_tokens"]}), flush=True)
"""


def test_the_transformers_engine_is_asked_page_by_page(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for its process keeps to the same protocol."""
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(script, "WORKER", tmp_path / "worker.py")
    wishes = ["--random-weights", "--pixels", "2000,3000", "--plain-pages", "2", "--tokens", "5", "-o", str(tmp_path)]
    options = script.options_of(wishes)
    options.model = tmp_path
    told = script.plainly(options)
    assert "error" not in told
    assert [(run["pixels"], run["pages"]) for run in told["runs"]] == [(2000, 2), (3000, 2)]
    assert all(run["tokens_per_second"] == pytest.approx(5 * run["pages_per_second"]) for run in told["runs"])


def test_the_transformers_engine_alone_is_measured(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(script, "WORKER", tmp_path / "worker.py")
    wishes = ["--model", str(tmp_path), "--cpu", "--no-vllm", "--pixels", "2000", "--plain-pages", "1", "--tokens", "5"]
    out = tmp_path / "out"
    assert script.main([*wishes, "-o", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert (report["runs"], len(report["transformers"]["runs"])) == ([], 1)
    told = (out / "report.md").read_text()
    assert "| 2000 | " in told
    assert ".svg" not in told


def test_few_in_flight_read_fewer_pages(script: ModuleType, tmp_path: Path) -> None:
    options = script.options_of(["--random-weights", "-o", str(tmp_path)])
    assert [script.pages_of(options, count) for count in (1, 4, 8, 64)] == [16, 64, 128, 128]


def test_a_process_that_ends_is_told_in_the_report(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker.py").write_text("raise SystemExit(7)")
    monkeypatch.setattr(script, "WORKER", tmp_path / "worker.py")
    options = script.options_of(["--random-weights", "-o", str(tmp_path)])
    options.model = tmp_path
    assert script.plainly(options) == {"runs": [], "error": "the process ended with status 7"}


def test_the_report_sets_our_figures_beside_those_of_vllm_bench_serve(script: ModuleType) -> None:
    figures: dict[str, object] = {
        "in_flight": 8,
        "pixels": 10,
        "pages_per_second": 3.0,
        "tokens_per_second": 30.0,
        "failed": 0,
    }
    figures |= {"median_seconds": 0.5, "memory_used_mib": None}
    plain = {"start_seconds": 4.0, "runs": [{"pixels": 10, **dict.fromkeys(script.PLAIN, 1.5)}]}
    report = {
        "model": "m", "gpu": None, "weights": "as given", "start_seconds": 2.0, "transformers": plain,
        "runs": [figures | {"bench": {"pages_per_second": 2.0}}, figures | {"bench": {"error": "no tokenizer"}}],
    }  # fmt: skip
    lines = script.markdown(report).splitlines()
    assert "| 8 | 10 | 3.00 | 30.00 | 0.50 | not measured | 0 | 2.00 | 1.50 |" in lines
    assert "| 8 | 10 | 3.00 | 30.00 | 0.50 | not measured | 0 | not measured | not measured |" in lines
    assert "`vllm bench serve` gave no figure: no tokenizer" in lines
    assert "| 10 | 1.50 | 1.50 | 1.50 |" in lines


def test_an_engine_without_vllm_bench_gives_its_reason(script: ModuleType, tmp_path: Path) -> None:
    wishes = ["--url", "http://127.0.0.1:9", "--tokenizer", str(tmp_path), "--engine-python", sys.executable]
    options = script.options_of([*wishes, "-o", str(tmp_path)])
    told = script.bench(options, "http://127.0.0.1:9", "m", in_flight=1, pixels=100)
    assert "vllm" in told["error"]
