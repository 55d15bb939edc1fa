"""`inkstick engine`: start the model's server and look after it, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from inkstick.config import Settings
from inkstick.errors import UsageError
from inkstick.models.verify import verify
from inkstick.supervise import ladder as steps
from inkstick.supervise import machine, python, serving, statefile, weights
from inkstick.supervise.engine import BEAT_SECONDS, Launch, Patience, Supervisor
from inkstick.supervise.guard import Guard, Limits
from inkstick.supervise.isolation import alone, isolation
from inkstick.supervise.ladder import Rung
from inkstick.supervise.machine import Card
from inkstick.supervise.statefile import EngineState, Stage
from inkstick.supervise.weights import Weights
from inkstick.supervise.xid import kernel_log

SILENT = (
    "The CPU engine reads. It is looked for again every ten minutes; if it stays silent, switch this machine off and on"
    " again."
)
CHECKING = "Checking every byte of the weights."
VERIFIED = Path("/opt/inkstick")
SMALL_BYTES = 500 << 20
"""Weights below this read a page on the CPU in seconds; larger ones are given more patience there."""


def engine(settings: Settings, say: Callable[[str], None]) -> int:
    """Until SIGTERM or SIGINT. Raises UsageError if nothing can be started: no vLLM, no model."""
    _end_when_told()
    settings.folder.create_engine()
    served, interpreter = weights.chosen(settings), python.require(settings)
    found = machine.look()
    while found.card is None and machine.driven():
        # Without its card this vLLM would not start, or start as on a CPU and stay so: it is looked for.
        found = machine.look(seconds=machine.PATIENT_SECONDS)
        if found.card is None:
            why = f"The graphics card does not answer its driver ({found.trouble or 'nvidia-smi lists none'}). {SILENT}"
            if asyncio.run(_said(settings, served, Stage.GIVEN_UP, why, say, seconds=steps.REST_SECONDS)):
                return 0
            _end_when_told()
    if found.trouble:
        say(f"{found.trouble}: starting without a GPU.")
    try:
        launch = launcher(settings, served, interpreter, found.card)
        _check_weights(settings, served, say)
    except UsageError as error:
        if error.code not in ("card", "engine_cache", "model_damaged"):
            raise
        # This machine's card will not do, or these weights, and never will.
        asyncio.run(_said(settings, served, Stage.REFUSED, f"{error.message} {error.hint}", say))
        return 0
    supervisor = Supervisor(
        settings.folder,
        served.spec,
        launch,
        patience=patience(served, found.card),
        say=say,
        guard=Guard(Limits(settings.engine_hours, settings.engine_pages), kernel_log()),
        reload=(str(settings.uvm_reload),) if settings.uvm_reload else (),
    )
    asyncio.run(_until_signal(supervisor))
    return 0


def _end_when_told() -> None:
    """SIGTERM ends this process from now on, also one that came while Python started: its unit has it blocked until
    here. The first process of a namespace would else not hear it, and be killed a minute later, as one that failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def launcher(
    settings: Settings, served: Weights, interpreter: Path, card: Card | None
) -> Callable[[Rung, int | None], Launch]:
    """How each start is done. Raises UsageError at once if the card will not do, or the cache."""
    cache = settings.engine_cache_folder
    socket = settings.folder.engine / statefile.SOCKET
    bwrap = isolation()
    isolated = bwrap is not None or alone()

    def plan(rung: Rung, cap: int | None) -> serving.Plan:
        return serving.plan(
            served.manifest,
            served.folder,
            socket,
            card,
            rung,
            cap=cap,
            context=served.context,
            template=served.template,
        )

    def launch(rung: Rung, cap: int | None) -> Launch:
        chosen = plan(rung, cap)
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = serving.command(interpreter, chosen.arguments, bwrap)
        environment = serving.environment(os.environ, cache, cpu=card is None, card=card)
        return Launch(command, environment, chosen.in_flight, isolated)

    plan(Rung("normal"), None)
    _check_socket(socket)
    if card is not None:
        _check_cache(cache)
    return launch


def patience(served: Weights, card: Card | None) -> Patience:
    """The usual; on a CPU, a large model may think about one page for minutes."""
    size = sum(path.stat().st_size for path in served.folder.glob("*.safetensors"))
    return Patience() if card is not None or size < SMALL_BYTES else Patience(idle=600.0, canary=300.0, busy=300.0)


def _check_socket(socket: Path) -> None:
    if len(os.fsencode(socket)) > 100:
        raise UsageError(
            f"The path {socket} is too long for a socket.", hint="Choose a data folder with a shorter path: --data DIR."
        )


def _check_cache(cache: Path) -> None:
    """What is compiled for a card (Triton's launchers, captured graphs) is loaded again from the cache as programs."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.statvfs(cache).f_flag & os.ST_NOEXEC:
        raise UsageError(
            f"{cache} is on a volume that runs no programs (noexec), and the engine keeps compiled ones there.",
            hint="Name a folder elsewhere by INKSTICK_ENGINE_CACHE.",
            code="engine_cache",
        )


def _check_weights(settings: Settings, served: Weights, say: Callable[[str], None]) -> None:
    """Read every byte, and look for foreign code, where nothing else vouches for the folder: not on the stick itself,
    whose layers the kernel verifies, and not where somebody named a folder of their own. What a disk has garbled since
    it was fetched would be read with. Raises UsageError; exits on SIGTERM."""
    own = settings.model is not None and weights.is_folder(settings.model)
    if own or served.folder.is_relative_to(VERIFIED):
        return
    say(CHECKING)
    since, told = statefile.uptime(), 0.0

    def tell(*_: object) -> None:
        nonlocal told
        if (now := statefile.uptime()) - told >= BEAT_SECONDS:
            told = now
            state = EngineState(Stage.STARTING, CHECKING, since=since, now=now, model=served.name)
            with contextlib.suppress(OSError):  # the disk may be full
                statefile.write(settings.folder.engine / statefile.STATE, state)

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        verify(served.manifest, served.folder, progress=tell).require()
    finally:
        signal.signal(signal.SIGTERM, before)


async def _said(
    settings: Settings,
    served: Weights,
    stage: Stage,
    why: str,
    say: Callable[[str], None],
    *,
    seconds: float = math.inf,
) -> bool:
    """Say why there is no engine for so many seconds; the CPU engine reads meanwhile. True if a signal came first."""
    say(why)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    since, end = statefile.uptime(), statefile.uptime() + seconds
    while not stopped.is_set() and (now := statefile.uptime()) < end:
        state = EngineState(stage, why, since=since, now=now, model=served.name)
        with contextlib.suppress(OSError):  # the disk may be full
            statefile.write(settings.folder.engine / statefile.STATE, state)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(BEAT_SECONDS, end - now)):
                await stopped.wait()
    return stopped.is_set()


async def _until_signal(supervisor: Supervisor) -> None:
    work = asyncio.ensure_future(supervisor.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work
