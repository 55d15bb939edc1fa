"""How vLLM is started: its arguments for each machine and rung, its closed environment, the ladder, the progress."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from inkstick.clock import ManualClock
from inkstick.commands import engine as commands
from inkstick.commands.engine import launcher
from inkstick.config import Settings, load
from inkstick.document import Task
from inkstick.engines import canary
from inkstick.engines.protocol import Load
from inkstick.engines.spec import spec_of
from inkstick.errors import UsageError
from inkstick.models import catalogue
from inkstick.supervise import ladder as steps
from inkstick.supervise import machine, progress, python, serving, statefile, weights
from inkstick.supervise.choice import supervises
from inkstick.supervise.engine import Patience, Supervisor, Watch
from inkstick.supervise.isolation import isolation
from inkstick.supervise.ladder import RUNGS, Ladder
from inkstick.supervise.machine import Card
from inkstick.supervise.process import Log, clear_away
from inkstick.supervise.statefile import Stage
from support import small_weights

MODELS = catalogue.read()
HUNYUAN = MODELS.get("hunyuanocr-1.5")
RTX_4090 = Card("NVIDIA GeForce RTX 4090", 23.99, (8, 9), 550)
LAPTOP_16 = Card("NVIDIA GeForce RTX 4090 Laptop GPU", 15.99, (8, 9), 550)


def option(arguments: tuple[str, ...], name: str) -> str | None:
    return arguments[arguments.index(name) + 1] if name in arguments else None


def plan(card: Card | None, rung: int = 0, **more: int | None) -> serving.Plan:
    return serving.plan(HUNYUAN, Path("/w"), Path("/s.sock"), card, RUNGS[rung], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("card", "rung", "cap", "in_flight", "memory", "eager"),
    [
        (RTX_4090, 0, None, 32, "0.90", False),
        (RTX_4090, 1, None, 32, "0.90", False),
        (RTX_4090, 2, None, 16, "0.85", True),
        (RTX_4090, 3, None, 8, "0.80", True),
        (RTX_4090, 0, 6, 6, "0.90", False),
        (RTX_4090, 3, 6, 6, "0.80", True),
        (LAPTOP_16, 0, None, 8, "0.90", False),
        (Card("RTX 3060", 12.0, (8, 6), 535), 0, None, 4, "0.90", False),
        (Card("RTX 3060", 12.0, (8, 6), 535), 3, None, 1, "0.80", True),
        (Card("RTX 6000 Ada", 47.99, (8, 9), 550), 0, None, 64, "0.90", False),
        (None, 0, None, 4, None, True),
        (None, 3, None, 1, None, True),
    ],
)
def test_arguments_follow_the_card_and_the_rung(
    card: Card | None, rung: int, cap: int | None, in_flight: int, memory: str | None, eager: bool
) -> None:
    made = plan(card, rung, cap=cap)
    assert (made.in_flight, made.eager) == (in_flight, eager)
    assert option(made.arguments, "--max-num-seqs") == str(in_flight)
    assert option(made.arguments, "--gpu-memory-utilization") == memory
    assert ("--enforce-eager" in made.arguments) == eager
    assert option(made.arguments, "--dtype") == ("bfloat16" if card else "float32")


def test_what_is_unsafe_is_always_switched_off() -> None:
    for manifest in (entry for entry in MODELS.manifests.values() if entry.serve):
        arguments = serving.plan(manifest, Path("/w"), Path("/s.sock"), None, RUNGS[0]).arguments
        assert option(arguments, "--uds") == "/s.sock"
        assert option(arguments, "--load-format") == "safetensors"
        assert option(arguments, "--allowed-media-domains") == "nowhere.invalid"
        assert '"video":0' in str(option(arguments, "--limit-mm-per-prompt"))
        forbidden = {"--host", "--port", "--allowed-local-media-path", "--enable-prompt-embeds", "--api-key"}
        assert not forbidden & set(arguments)
        assert len([word for word in arguments if word.startswith("--")]) == len(
            {word for word in arguments if word.startswith("--")}
        )


@pytest.mark.parametrize(
    ("card", "why"),
    [
        (Card("GTX 1080 Ti", 11.0, (6, 1), 550), "compute capability 6.1"),
        (Card("RTX 4090", 23.99, (8, 9), 470), "driver is 470"),
        (Card("RTX 5090", 31.8, (12, 0), 570), "needs 575"),
        (Card("RTX 4060", 8.0, (8, 9), 550), "12 GB is needed"),
    ],
)
def test_a_card_that_will_not_do_is_refused_in_words(card: Card, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        plan(card)


def test_a_small_context_bounds_the_arguments() -> None:
    arguments = plan(RTX_4090, context=4096).arguments
    assert option(arguments, "--max-model-len") == "4096"
    assert option(plan(RTX_4090, context=131072).arguments, "--max-model-len") == "32768"


def test_the_environment_is_closed() -> None:
    outside = {
        "PATH": "/bin",
        "HF_TOKEN": "secret",
        "https_proxy": "x",
        "VLLM_SERVER_DEV_MODE": "1",
        "PYTHONPATH": "/x",
    }
    inside = serving.environment(outside, Path("/cache"))
    assert inside["PATH"] == "/bin"
    assert not {"HF_TOKEN", "https_proxy", "PYTHONPATH"} & set(inside)
    assert inside["VLLM_SERVER_DEV_MODE"] == "0"
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        assert inside[name] == "1"
    assert all(inside[name].startswith("/cache") for name in ("HOME", "HF_HOME", "VLLM_CACHE_ROOT", "XDG_CACHE_HOME"))


def test_the_command_has_no_network_where_bubblewrap_works() -> None:
    bare = serving.command(Path("/e/python"), ("--model", "/w"), None)
    assert bare == ["/e/python", "-m", "vllm.entrypoints.openai.api_server", "--model", "/w"]
    walled = serving.command(Path("/e/python"), ("--model", "/w"), "/usr/bin/bwrap")
    assert walled[0] == "/usr/bin/bwrap"
    assert {"--unshare-net", "--unshare-pid", "--die-with-parent"} <= set(walled)
    assert walled[-len(bare) :] == bare


# -- the machine


def test_cards_are_read_from_nvidia_smi_and_the_largest_is_taken() -> None:
    """A laptop's own card and a larger one in a case beside it."""
    output = "NVIDIA GeForce RTX 3060, 12288, 8.6, 550.163.01, 0\nNVIDIA GeForce RTX 4090, 24564, 8.9, 550.163.01, 1\n"
    found = machine.look(lambda command, seconds: output)
    assert [card.name for card in found.cards] == ["NVIDIA GeForce RTX 3060", "NVIDIA GeForce RTX 4090"]
    assert found.card == Card("NVIDIA GeForce RTX 4090", 24564 / 1024, (8, 9), 550, 1)
    inside = serving.environment({}, Path("/cache"), card=found.card)
    assert (inside["CUDA_DEVICE_ORDER"], inside["CUDA_VISIBLE_DEVICES"]) == ("PCI_BUS_ID", "1"), "and it is what reads"
    chosen = serving.environment({"CUDA_VISIBLE_DEVICES": "2"}, Path("/cache"), card=found.card)
    assert chosen["CUDA_VISIBLE_DEVICES"] == "2" and "CUDA_DEVICE_ORDER" not in chosen, "somebody's own choice"
    assert machine.parse("No devices were found\n") == ()
    assert machine.parse("Card, [N/A], 8.9, 550.1, 0\n") == ()


def test_a_hanging_or_failing_nvidia_smi_is_no_card_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexec sleep 300\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(machine, "SECONDS", 0.3)
    started = time.monotonic()
    found = machine.look()
    assert found.card is None
    assert found.trouble
    assert time.monotonic() - started < 100  # it was not waited for to its end
    monkeypatch.setenv("PATH", "/nowhere")
    assert machine.look() == machine.Machine()


def test_nvidia_smi_that_hangs_in_the_driver_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There SIGKILL ends nothing: here, because nobody sends it."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nexec cat {tmp_path}/end\n")
    tool.chmod(0o755)
    os.mkfifo(tmp_path / "end")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(machine, "SECONDS", 0.3)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda _: None)
    assert machine.look().trouble
    (tmp_path / "end").write_text("")  # only now it ends


# -- the ladder


def test_every_failure_is_a_step_down_until_the_cpu_reads() -> None:
    ladder, names = Ladder(), []
    for turn in range(6):
        ladder = steps.failed(ladder, float(turn))
        names.append(ladder.rung.name)
    assert names == ["again", "reduced", "minimal", "cpu", "cpu", "cpu"]
    assert ladder.given_up
    assert ladder.pause == 16.0
    assert not steps.rest_over(ladder, 604.9)
    assert steps.rest_over(ladder, 605.0)
    assert steps.tried_again(ladder).rung.name == "minimal"


def test_ten_good_minutes_are_a_step_up_and_a_failure_begins_them_anew() -> None:
    ladder = steps.started(Ladder(3, 3), 100.0)
    assert not steps.climb_due(ladder, 699.0)
    assert steps.climb_due(ladder, 700.0)
    up = steps.climbed(ladder)
    assert up.rung.name == "reduced"
    assert steps.restart_needed(ladder, up)
    assert not steps.climb_due(up, 10_000.0)  # not started yet
    top = steps.climbed(up)
    assert top == Ladder()
    assert not steps.climb_due(steps.started(top, 0.0), 10_000.0)
    assert not steps.restart_needed(Ladder(1), Ladder(0))


def test_a_machine_on_which_the_faster_settings_never_hold_tries_them_ever_more_seldom() -> None:
    ladder, waits = Ladder(), list[float]()
    for _ in range(8):
        while ladder.rung.name != "reduced":
            ladder = steps.failed(ladder, 0.0)
        ladder = steps.started(ladder, 0.0)
        waits.append(next(w for w in (600.0 * 2**n for n in range(10)) if steps.climb_due(ladder, w)))
        assert not steps.climb_due(ladder, waits[-1] - 1.0)
        ladder = steps.climbed(ladder)
        assert ladder.rung.name == "normal"
    assert waits == [600.0 * n for n in (1, 2, 4, 8, 16, 32, 32, 32)]


def test_the_ladder_survives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "ladder.json"
    assert steps.read(path) == Ladder()
    steps.write(path, Ladder(2, 2, 55.0))
    assert steps.read(path) == Ladder(2, 2)
    steps.write(path, Ladder(4, 4, 55.0))
    assert steps.read(path).rung.name == "minimal"
    path.write_text("[]")
    assert steps.read(path) == Ladder()


# -- starting and watching


def test_progress_follows_the_log_and_never_goes_back() -> None:
    lines = [
        ("INFO Starting to load model /w...", Stage.LOADING),
        ("INFO Loading safetensors checkpoint shards: 100%", Stage.LOADING),
        ("INFO Dynamo bytecode transform time: 4.2 s", Stage.COMPILING),
        ("INFO Loading weights took 0.3 s", Stage.COMPILING),
        ("Capturing CUDA graphs (mixed prefill-decode): 100%", Stage.CAPTURING),
        ("INFO something else", Stage.CAPTURING),
    ]
    now = progress.Progress()
    for line, stage in lines:
        now = progress.after(now, line)
        assert now.stage is stage, line


def test_the_estimate_is_from_the_last_start_and_never_negative() -> None:
    assert progress.seconds_left(Stage.LOADING, 20.0, 80.0) == 60.0
    assert progress.seconds_left(Stage.STARTING, 0.0, None) == progress.FIRST_GUESS
    assert progress.seconds_left(Stage.PROVING, 500.0, 80.0) >= 1.0


def test_a_busy_engine_must_move_its_counters() -> None:
    clock = ManualClock(1000.0)
    watch = Watch(clock, Patience())
    assert watch.saw(Load(running=0, generated_tokens=5))
    for tokens, second in ((6, 15), (7, 15), (7, 15)):
        clock.advance(second)
        assert not watch.saw(Load(running=3, generated_tokens=tokens))
        assert watch.problem() is None
    clock.advance(6)
    watch.saw(Load(running=3, generated_tokens=7))
    assert "no progress" in str(watch.problem())
    assert watch.saw(Load(running=0, generated_tokens=7))
    assert watch.problem() is None
    clock.advance(21)
    assert not watch.saw(None)
    assert "not answered" in str(watch.problem())


def test_a_hang_is_found_within_45_seconds_by_the_planned_times() -> None:
    times = Patience()
    assert times.idle + times.poll + times.canary + times.poll < 45
    assert times.busy + 2 * times.poll + 5 < 45  # (5: a look at the figures that gets no answer)


def test_the_log_is_bounded_and_remembers_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inkstick.supervise.process.LOG_BYTES", 1000)
    log = Log(tmp_path / "engine.log")
    for number in range(200):
        log.add(f"line {number}\n")
    log.add("ValueError: no card\n")
    log.add("goodbye\n")
    assert log.reason() == "ValueError: no card"
    log.begin()
    assert log.reason() == "", "what an earlier life said is no reason of this one's end"
    log.add("(APIServer pid=2) ERROR 11-21 04:47:16 [serving.py:1261] vllm.EngineDeadError: it died\n")
    assert log.reason() == "vllm.EngineDeadError: it died"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2200


def test_the_reason_is_the_cause_and_not_that_there_was_one(tmp_path: Path) -> None:
    """As vLLM 0.19.1 ends where the memory does not do: the cause, and some fifty lines later that there was one."""
    log = Log(tmp_path / "log")
    memory = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.99 GiB of which 9 MiB"
    log.add(f"(EngineCore pid=9) ERROR 11-27 18:00:01 [core.py:1100] torch.OutOfMemoryError: {memory} {'…' * 300}\n")
    for number in range(60):
        log.add(f"(APIServer pid=2)   File serving.py, line {number}\n")
    above = "Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    log.add(f"(APIServer pid=2) RuntimeError: {above}\n")
    assert log.reason().startswith("torch.OutOfMemoryError: CUDA out of memory.")


# -- the canary


async def test_the_canary_halves_until_answers_agree() -> None:
    inside = 0

    async def ask(number: int) -> str:
        nonlocal inside
        inside += 1
        crowd = inside
        await asyncio.sleep(0)
        crowd = max(crowd, inside)
        inside -= 1
        return f"page {number if crowd <= 4 else 99}"

    verdict = await canary.prove(ask, 16)
    assert verdict.in_flight == 4
    assert verdict.wrong > 0
    assert "no more than 4" in verdict.detail


async def test_the_canary_refuses_what_is_never_the_same_empty_or_blind() -> None:
    turn = 0

    async def drunk(number: int) -> str:
        nonlocal turn
        turn += 1
        return f"{number} {turn}"

    async def empty(number: int) -> str:
        return "text" if number else ""

    async def blind(_number: int) -> str:
        return "the same"

    for ask in (drunk, empty, blind):
        verdict = await canary.prove(ask, 4)
        assert verdict.refused
        assert verdict.detail


def test_canary_pages_differ_in_size_and_print() -> None:
    drawn = canary.pages()
    assert len({(page.pixels.width, page.pixels.height) for page in drawn}) == len(drawn)
    assert len({page.text for page in drawn}) == len(drawn)
    assert drawn == canary.pages.__wrapped__(canary.DISTINCT)


def test_the_canary_asks_greedily_for_a_short_answer() -> None:
    spec = canary.spec_for(spec_of(HUNYUAN))
    assert spec.sampled(1).temperature == 0.0
    assert spec.sampled(1).max_tokens <= canary.MOST_TOKENS
    assert canary.request_for(spec).task is Task.TEXT


# -- which model, which Python


def checkpoint(folder: Path, family: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(f'{{"model_type": "{family}", "max_position_embeddings": 4096}}')
    return folder


def test_the_context_is_found_with_the_text_part_too(tmp_path: Path) -> None:
    """transformers 5 writes it there; vLLM refuses to start with more than that."""
    folder = checkpoint(tmp_path / "tiny", "hunyuan_vl")
    (folder / "config.json").write_text(
        '{"model_type": "hunyuan_vl", "text_config": {"max_position_embeddings": 2048}}'
    )
    assert weights.chosen(Settings(tmp_path, model=str(folder))).context == 2048
    (folder / "config.json").write_text('{"model_type": "hunyuan_vl", "text_config": null}')
    assert weights.chosen(Settings(tmp_path, model=str(folder))).context is None


def test_a_folder_is_recognised_by_its_family(tmp_path: Path) -> None:
    settings = Settings(tmp_path, model=str(checkpoint(tmp_path / "tiny", "hunyuan_vl")))
    found = weights.chosen(settings)
    assert (found.manifest.id, found.name, found.context) == ("hunyuanocr-1.5", "tiny", 4096)
    assert found.spec.id == "tiny"
    assert found.spec.prompts == spec_of(HUNYUAN).prompts
    with pytest.raises(UsageError, match="family 'llama'"):
        weights.of_folder(checkpoint(tmp_path / "other", "llama"), MODELS)
    with pytest.raises(UsageError, match=r"config\.json"):
        weights.of_folder(tmp_path / "none", MODELS)


def test_a_model_that_is_not_here_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        weights.chosen(Settings(tmp_path))
    assert "inkstick models fetch hunyuanocr-1.5" in caught.value.hint


def test_vllm_needs_its_python_and_auto_does_without(tmp_path: Path) -> None:
    model = str(checkpoint(tmp_path / "tiny", "hunyuan_vl"))
    nowhere = load({"data": tmp_path, "engine": "vllm", "model": model, "engine_python": tmp_path / "python"}, {})
    with pytest.raises(UsageError, match="no Python with vLLM"):
        supervises(nowhere)
    assert not supervises(load({"data": tmp_path, "model": model, "engine_python": tmp_path / "python"}, {}))
    packages = tmp_path / "lib" / "python3.11" / "site-packages" / "vllm"
    packages.mkdir(parents=True)
    (packages / "__init__.py").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    here = {"INKSTICK_ENGINE_PYTHON": str(tmp_path / "bin" / "python")}
    assert python.find(load({"data": tmp_path}, here)) == tmp_path / "bin" / "python"
    assert supervises(load({"data": tmp_path, "model": model}, here))
    assert not supervises(load({"data": tmp_path, "engine": "rapidocr", "model": model}, here))
    assert not supervises(load({"data": tmp_path, "engine_url": "http://127.0.0.1:1", "model": model}, here))
    assert not supervises(load({"data": tmp_path}, here))  # no model was fetched


def test_a_process_is_known_by_its_number_and_its_beginning() -> None:
    assert statefile.started_at(os.getpid()) == statefile.started_at(os.getpid())
    assert statefile.started_at(2**22 + 1) is None


def test_a_cache_where_no_program_may_run_is_refused_with_the_setting_that_moves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data volume of the appliance is mounted noexec, and Triton loads what it compiled as a library."""
    volume = tmp_path / "data" / "state"

    def statvfs(path: Path) -> SimpleNamespace:
        return SimpleNamespace(f_flag=os.ST_NOEXEC if path.is_relative_to(volume) else 0)

    monkeypatch.setattr("inkstick.commands.engine.os.statvfs", statvfs)
    served = weights.chosen(Settings(tmp_path, model=str(checkpoint(tmp_path / "tiny", "hunyuan_vl"))))
    settings = load({"data": tmp_path / "data"}, {})
    settings.folder.create()
    with pytest.raises(UsageError, match="noexec") as caught:
        launcher(settings, served, Path("/e/python"), RTX_4090)
    assert "INKSTICK_ENGINE_CACHE" in caught.value.hint
    moved = load({"data": tmp_path / "data"}, {"INKSTICK_ENGINE_CACHE": str(tmp_path / "cache")})
    launch = launcher(moved, served, Path("/e/python"), RTX_4090)(RUNGS[0], None)
    for name in ("HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH"):
        assert Path(launch.environment[name]).is_relative_to(tmp_path / "cache")
    launcher(settings, served, Path("/e/python"), None)  # on a CPU nothing is compiled


def test_a_card_that_will_not_do_leaves_the_service_to_the_cpu(tmp_path: Path) -> None:
    """`inkstick engine` goes on and says why: it does not end the tree that it is part of."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GeForce GTX 1080, 8192, 6.1, 550.163.01, 0'\n")
    tool.chmod(0o755)
    packages = tmp_path / "lib" / "python3.11" / "site-packages" / "vllm"
    packages.mkdir(parents=True)
    (packages / "__init__.py").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    command = [sys.executable, "-m", "inkstick.cli", "engine", "--data", str(tmp_path / "data")]
    environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["INKSTICK_ENGINE_PYTHON"] = str(tmp_path / "bin" / "python")
    model = str(checkpoint(tmp_path / "tiny", "hunyuan_vl"))
    with subprocess.Popen([*command, "--model", model], env=environment, stderr=subprocess.PIPE) as process:
        path, end = tmp_path / "data" / "state/engine" / statefile.STATE, time.monotonic() + 60
        while (state := statefile.read(path)) is None and time.monotonic() < end:
            time.sleep(0.05)
        process.terminate()
        assert process.wait(5) == 0
    assert state is not None
    assert state.state is Stage.REFUSED
    assert "compute capability 6.1" in state.detail


GTX_1080 = Card("NVIDIA GeForce GTX 1080", 8.0, (6, 1), 550)


def test_a_card_that_does_not_answer_at_once_is_looked_for_again_and_not_taken_for_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nvidia-smi initializes the card first, and all of it comes from a stick."""
    silent = machine.Machine(trouble="nvidia-smi failed or gave no answer within 5 s")
    answers, patience, told = [silent, silent, machine.Machine((GTX_1080,))], list[float | None](), list[object]()

    def look(seconds: float | None = None) -> machine.Machine:
        patience.append(seconds)
        return answers.pop(0)

    async def said(*words: object, seconds: float = math.inf) -> bool:
        told.append((words[2], seconds))
        return False

    monkeypatch.setattr(machine, "look", look)
    monkeypatch.setattr(machine, "driven", lambda: True)
    monkeypatch.setattr(python, "require", lambda _: Path("/e/python"))
    monkeypatch.setattr(commands, "_said", said)
    model = str(checkpoint(tmp_path / "tiny", "hunyuan_vl"))
    assert commands.engine(Settings(tmp_path / "data", model=model), lambda _: None) == 0
    assert patience == [None, machine.PATIENT_SECONDS, machine.PATIENT_SECONDS]
    assert told == [(Stage.GIVEN_UP, steps.REST_SECONDS), (Stage.REFUSED, math.inf)]


@pytest.mark.parametrize("wrong", ["garbled", "foreign", "nothing"])
def test_weights_that_were_garbled_since_they_were_fetched_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """By name and size they are there, and vLLM would read with them."""
    given, manifests = small_weights.write(tmp_path / "small", accept=False)
    folder = tmp_path / "models" / "small-test"
    folder.parent.mkdir()
    given.replace(folder)
    if wrong == "garbled":
        data = bytearray((folder / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "model.safetensors").write_bytes(data)
    elif wrong == "foreign":
        (folder / "modeling.py").touch()
    refused, started = list[str](), list[str]()

    async def said(*words: object, seconds: float = math.inf) -> bool:
        refused.append(str(words[3]))
        return False

    async def starts(supervisor: Supervisor) -> None:
        started.append(supervisor.state.model)

    listed = catalogue.read(manifests)
    monkeypatch.setattr(catalogue, "read", lambda _=None: listed)
    monkeypatch.setattr(machine, "look", lambda **_: machine.Machine((RTX_4090,)))
    monkeypatch.setattr(python, "require", lambda _: Path("/e/python"))
    monkeypatch.setattr(commands, "_said", said)
    monkeypatch.setattr(commands, "_until_signal", starts)
    settings = Settings(tmp_path / "data", model="small-test", models=folder.parent)
    assert commands.engine(settings, lambda _: None) == 0
    assert started == (["small-test"] if wrong == "nothing" else [])
    words = {"garbled": "its sha256 differs", "foreign": "program code that the manifest does not list"}
    assert words.get(wrong, "") in "".join(refused) and bool(refused) is (wrong != "nothing")


async def test_why_there_is_no_engine_is_said_for_a_while(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "data", model=str(checkpoint(tmp_path / "tiny", "hunyuan_vl")))
    settings.folder.create_engine()
    said = list[str]()
    why = (Stage.GIVEN_UP, "It does not answer.", said.append)
    assert not await commands._said(settings, weights.chosen(settings), *why, seconds=0.1)
    state = statefile.read(settings.folder.engine / statefile.STATE)
    assert state is not None and (state.state, state.detail) == (Stage.GIVEN_UP, "It does not answer.")
    assert said == ["It does not answer."]


# -- its walls

SHARES = """
import os, signal
from multiprocessing import shared_memory
memory = shared_memory.SharedMemory(create=True, size=1 << 20)
memory.buf[:4] = b"page"
print(memory.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_engine_had_in_shared_memory_goes_with_it(tmp_path: Path) -> None:
    bwrap = isolation()
    if bwrap is None:
        pytest.skip("bubblewrap cannot take the network away here")
    program = tmp_path / "shares.py"
    program.write_text(SHARES)
    command = serving.script(Path(sys.executable), program, (), bwrap)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    name = done.stdout.strip()
    assert name.startswith("psm_"), done.stderr
    assert not Path("/dev/shm", name).exists()


FIRST = """
import os, subprocess, sys, time
from inkstick.supervise.process import clear_away
subprocess.run(["sh", "-c", "sleep 600 & sleep 0.1 &"])  # left to process 1
open("/dev/shm/psm_left", "w").close()
def children():
    return open(f"/proc/self/task/{os.getpid()}/children").read().split()
while not children():
    time.sleep(0.01)
time.sleep(0.5)
clear_away()
print(os.getpid(), children(), os.listdir("/dev/shm"))
"""


def test_the_first_process_of_a_unit_clears_up_after_an_engine() -> None:
    """As on the appliance, where systemd gives the unit its processes and its shared memory; here bubblewrap does."""
    bwrap = isolation()
    if bwrap is None:
        pytest.skip("bubblewrap cannot take the network away here")
    command = [bwrap, *serving.WALLS, "--as-pid-1", sys.executable, "-c", FIRST]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout == "1 [] []\n", done.stderr


def test_any_other_process_leaves_shared_memory_alone(tmp_path: Path) -> None:
    (tmp_path / "psm_somebody_s").touch()
    clear_away(tmp_path)
    assert (tmp_path / "psm_somebody_s").exists()


def test_a_process_knows_whether_it_has_a_network() -> None:
    bwrap = isolation()
    if bwrap is None:
        pytest.skip("bubblewrap cannot take the network away here")
    program = "from inkstick.supervise.isolation import alone; print(alone())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for walls in ((), (bwrap, *serving.WALLS)):
        command = [*walls, sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        inside = bool(walls) or {name for _, name in socket.if_nameindex()} == {"lo"}
        assert done.stdout.strip() == str(inside), done.stderr


def test_a_warning_that_speaks_of_errors_is_no_reason(tmp_path: Path) -> None:
    """As vLLM says it where open files are few; a computing process that is killed says nothing."""
    log = Log(tmp_path / "log")
    ulimit = "Found ulimit of 20000. This can cause fd limit errors like `OSError: [Errno 24] Too many open files`."
    log.add(f"(APIServer pid=587) WARNING 11-27 22:55:08 [system_utils.py:294] {ulimit}\n")
    assert log.reason() == ""
    log.add("(APIServer pid=587) ValueError: no card\n")
    assert log.reason() == "ValueError: no card"
