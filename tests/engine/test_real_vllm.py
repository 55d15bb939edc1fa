"""The engine code that the appliance ships (vLLM 0.19.1, native HunYuanVL), on the CPU, with the real supervision.

A tiny checkpoint reads a handful of pages by heart (`tiny.py`). Everything else is real: `inkstick run --engine vllm`
as a process tree, documents in the inbox, the unix socket, the canary, the CPU engine that carries on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine import pages, setup
from engine.running import inkstick
from engine.test_real_transformers import pixels, reading
from inkstick.document import Task
from inkstick.engines import canary
from inkstick.engines.openai import OpenAiEngine
from inkstick.engines.protocol import Request
from inkstick.engines.spec import default_spec
from inkstick.supervise import statefile
from inkstick.supervise.process import descendants
from inkstick.supervise.statefile import EngineState, Stage

pytestmark = pytest.mark.timeout(1500)
START_SECONDS = 900.0
WAIT_SECONDS = 600.0
"""Against hangs only: a slow machine with two cores takes ten times as long as a quiet one."""
ASKED = Request(Task.TEXT)
TEXTS = {sample.name: sample.text for sample in pages.SAMPLES}
NUMBERS = {sample.name: next(word for word in sample.text.split() if word.isdigit()) for sample in pages.SAMPLES}


class Tree:
    """`inkstick run --engine vllm` on a data folder."""

    def __init__(self, engine: setup.Engine, data: Path, process: subprocess.Popen[bytes]) -> None:
        self.engine, self.data, self.process = engine, data, process

    def until(self, good: Callable[[], Any], seconds: float) -> Any:
        """What `good` gives, as soon as it gives something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := good():
                return found
            assert self.process.poll() is None, (self.data.parent / "run.log").read_text()
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds} s: {self.state()} {self.documents()}")

    def state(self) -> EngineState:
        return statefile.read(self.data / "state/engine" / statefile.STATE) or EngineState(Stage.STOPPED)

    def ready(self) -> EngineState:
        """The engine's state once it is ready and the office lets pages in: that comes a look after the other."""
        self.until(lambda: self.state().ready, START_SECONDS)
        self.until(self.admitted, WAIT_SECONDS)
        return self.state()

    def admitted(self) -> bool:
        try:
            engines = httpx.get(f"{self.address}/api/v1/status", timeout=60).json()["engines"]
        except (httpx.HTTPError, ValueError, OSError):
            return False
        return any(engine["ready"] for engine in engines if engine["role"] == "primary")

    @property
    def address(self) -> str:
        return (self.data / "state" / "address").read_text().strip().rstrip("/")

    def documents(self) -> list[dict[str, Any]]:
        try:
            listed = httpx.get(f"{self.address}/api/v1/documents", params={"limit": 1000}, timeout=60).json()
            return list(listed["documents"])
        except (httpx.HTTPError, ValueError, OSError):
            return []

    def drop(self, run: str, copies: int) -> list[str]:
        """Each sample page `copies` times, no two files with the same bytes; the stems of the files."""
        stems = []
        for copy in range(copies):
            for name in TEXTS:
                info = PngInfo()
                info.add_text("Comment", f"{run} {copy}")
                stem = f"{run}-{copy}-{name.split('.')[0]}"
                part = self.data / "inbox" / f".{stem}.part"
                with Image.open(self.engine.pages / name) as page:
                    page.save(part, "PNG", pnginfo=info)
                part.rename(self.data / "inbox" / f"{stem}.png")
                stems.append(stem)
        return stems

    def done(self, stems: list[str]) -> None:
        wanted = {f"{stem}.png" for stem in stems}
        self.until(lambda: wanted <= {path.name for path in (self.data / "done").iterdir()}, WAIT_SECONDS)
        self.until(lambda: wanted <= {document["name"] for document in self.documents()}, WAIT_SECONDS)

    def record(self, stem: str) -> dict[str, Any]:
        return dict(json.loads((self.data / "results" / stem / f"{stem}.json").read_text(encoding="utf-8")))

    def text(self, stem: str) -> str:
        return (self.data / "results" / stem / f"{stem}.txt").read_text(encoding="utf-8").strip()

    def engine_processes(self) -> list[int]:
        pid = self.state().pid
        return [pid, *descendants(pid)] if pid else []

    def core(self) -> int:
        """The process that computes."""
        (found,) = [p for p in self.engine_processes() if b"EngineCore" in Path(f"/proc/{p}/cmdline").read_bytes()]
        return found


@contextmanager
def running(engine: setup.Engine, data: Path) -> Iterator[Tree]:
    command = ("run", "--data", str(data), "--port", "0", "--engine", "vllm", "--model", str(engine.model))
    wishes = {"INKSTICK_SETTLE_SECONDS": "0.5", "INKSTICK_RESERVE_BYTES": "0"}
    with inkstick(*command, python=engine.python, log=data.parent / "run.log", **wishes) as process:
        yield Tree(engine, data, process)


@pytest.fixture(scope="module")
def tree(engine: setup.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    with running(engine, tmp_path_factory.mktemp("vllm") / "data") as tree:
        yield tree


def expect_nothing_lost_doubled_or_mixed(tree: Tree, stems: list[str]) -> list[str]:
    """Every document is done once, with its own text; the engines that read them."""
    listed = [document["name"] for document in tree.documents() if document["name"].removesuffix(".png") in stems]
    assert sorted(listed) == sorted(f"{stem}.png" for stem in stems)
    engines = []
    for stem in stems:
        (page,) = tree.record(stem)["pages"]
        name = f"{stem.rsplit('-', 1)[1]}.png"
        engines.append(page["engine"])
        if page["engine"] == "vllm":
            assert tree.text(stem) == TEXTS[name], stem
        else:
            assert "fallback_cpu" in page["flags"]
        found = {number for number in NUMBERS.values() if number in tree.text(stem)}
        assert found == {NUMBERS[name]}, stem
        assert not (tree.data / "failed" / f"{stem}.png").exists()
    return engines


def test_dropped_pages_are_read_by_the_real_engine(tree: Tree) -> None:
    state = tree.ready()
    assert "equal the serial ones" in state.detail
    stems = tree.drop("first", 1)
    tree.done(stems)
    assert set(expect_nothing_lost_doubled_or_mixed(tree, stems)) == {"vllm"}
    (page,) = tree.record(stems[0])["pages"]
    assert page["model"] == tree.engine.model.name


def test_concurrent_answers_equal_serial_ones(tree: Tree) -> None:
    tree.ready()

    async def prove() -> canary.Verdict:
        engine = OpenAiEngine(f"unix://{tree.data / 'state/engine' / statefile.SOCKET}", in_flight=16)
        await engine.start()
        try:
            return await canary.prove(canary.asker(engine, default_spec()), 16)
        finally:
            await engine.close()

    verdict = asyncio.run(prove())
    assert (verdict.in_flight, verdict.wrong) == (16, 0), verdict
    assert verdict.asked == 32


def test_the_transformers_engine_gives_the_answers_of_vllm(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word for word, on every page that the tiny checkpoint knows, the canary's pages too."""
    tree.ready()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shots = [pixels(path) for path in sorted(tree.engine.pages.glob("*.png"))]

    async def answers() -> list[tuple[str | None, str | None]]:
        served = OpenAiEngine(f"unix://{tree.data / 'state/engine' / statefile.SOCKET}", in_flight=4)
        await served.start()
        async with reading(tree.engine, tmp_path) as plain:
            both = [(await served.read(shot, ASKED), await plain.read(shot, ASKED)) for shot in shots]
        await served.close()
        return [(first.raw, second.raw) for first, second in both]

    found = asyncio.run(answers())
    assert len(found) == len(TEXTS) + canary.DISTINCT
    assert [first for first, _ in found] == [second for _, second in found]
    assert len({first for first, _ in found}) == len(found)


def test_the_engine_has_no_network_and_no_secrets(tree: Tree) -> None:
    state = tree.ready()
    for pid in (tree.core(), *tree.engine_processes()[1:]):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert b"HF_HUB_OFFLINE=1" in environment
        assert not [entry for entry in environment if b"_proxy" in entry.lower() or entry.startswith(b"INKSTICK")]
        if state.isolated:
            lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
            assert [line.split(":")[0].strip() for line in lines] == ["lo"]
    if not state.isolated:
        pytest.skip("bubblewrap cannot take the network away on this machine")


CLIENT = """
import base64, json, sys
import openai
address, path = sys.argv[1:3]
client = openai.OpenAI(base_url=address + "/v1", api_key="none", max_retries=0)
url = "data:image/png;base64," + base64.b64encode(open(path, "rb").read()).decode()
messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
models = [model.id for model in client.models.list()]
answer = client.chat.completions.create(model="inkstick", messages=messages)
try:
    client.chat.completions.create(model="inkstick", messages=messages, temperature=0.7)
    refused = None
except openai.APIStatusError as error:
    refused = error.status_code
print(json.dumps({"models": models, "text": answer.choices[0].message.content, "refused": refused}))
"""


def test_the_openai_package_reads_a_page_and_fields_outside_the_schema_are_refused(tree: Tree) -> None:
    tree.ready()
    command = [str(tree.engine.python), "-c", CLIENT, tree.address, str(tree.engine.pages / "passport.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=True)
    answer = json.loads(done.stdout)
    assert answer["text"].split() == TEXTS["passport.png"].split()
    assert "inkstick" in answer["models"]
    assert 400 <= answer["refused"] < 500


def in_the_middle(tree: Tree, run: str) -> tuple[list[str], int, float]:
    """Drop pages, some of which are read and some on their way, and no further: the computing process is stopped.
    (their stems, that process, when it was stopped)"""
    stems = tree.drop(run, 1)
    tree.until(lambda: list((tree.data / "results").glob(f"{run}-*")), WAIT_SECONDS)
    core, stopped = tree.core(), time.monotonic()
    os.kill(core, signal.SIGSTOP)
    stems += tree.drop(f"{run}2", 2)
    places = tree.state().in_flight

    def on_the_way() -> bool:
        return len([document for document in tree.documents() if document["state"] == "reading"]) >= places

    tree.until(on_the_way, WAIT_SECONDS)
    return stems, core, stopped


def test_an_engine_killed_in_the_middle_loses_doubles_and_mixes_nothing(tree: Tree) -> None:
    before = tree.ready()
    stems, core, _ = in_the_middle(tree, "killed")
    killed = time.monotonic()
    with contextlib.suppress(ProcessLookupError):  # on a slow machine the watch may have been quicker
        os.kill(core, signal.SIGKILL)
    tree.until(lambda: not tree.state().ready, WAIT_SECONDS)
    print(f"the crash was seen after {time.monotonic() - killed:.1f} s")
    recovered(tree, before, stems, "recovered")


def test_a_frozen_engine_is_found_and_loses_doubles_and_mixes_nothing(tree: Tree) -> None:
    before = tree.ready()
    stems, core, stopped = in_the_middle(tree, "frozen")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(tree.data / "state/engine" / statefile.SOCKET))) as client:
        assert client.get("http://engine/health", timeout=60).status_code == 200  # the server itself sees nothing
    tree.until(lambda: not tree.state().ready, WAIT_SECONDS)
    print(f"the hang was seen after {time.monotonic() - stopped:.1f} s")
    recovered(tree, before, stems, "thawed")
    assert statefile.started_at(core) is None


def recovered(tree: Tree, before: EngineState, stems: list[str], run: str) -> None:
    """Every page has its own text, and the engine that was started anew reads again."""
    tree.done(stems)
    expect_nothing_lost_doubled_or_mixed(tree, stems)
    after = tree.ready()
    assert after.pid != before.pid
    assert after.restarts > before.restarts
    again = tree.drop(run, 1)
    tree.done(again)
    assert set(expect_nothing_lost_doubled_or_mixed(tree, again)) == {"vllm"}


def test_nothing_is_left_when_the_tree_ends(engine: setup.Engine, tmp_path: Path) -> None:
    """Even when it is killed: the engine's processes are ended by the kernel."""
    with running(engine, tmp_path / "data") as tree:
        tree.until(lambda: tree.state().pid, WAIT_SECONDS)
        family = tree.engine_processes()
        supervisor = next(
            pid for pid in descendants(tree.process.pid) if b"\0engine\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(supervisor, signal.SIGKILL)
        tree.process.kill()
    end = time.monotonic() + 60
    while any(statefile.started_at(pid) for pid in family) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in family if statefile.started_at(pid)]
