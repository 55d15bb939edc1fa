"""The engine's supervisor: starts vLLM, proves it, watches it, and starts it again when it fails. `inkstick engine`.

    start      the log tells the progress; a start has a deadline, and so has silence
    prove      the canary: concurrent answers equal serial ones, else fewer pages in flight, else refused
    watch      its processes every second: a crash is seen at once
               idle: one canary page end to end every 20 s, whose answer must be the one it gave when it was proved
               busy: its token counters must move within 20 s
               the card (kernel log), a machine that slept, its age and memory (`supervise.guard`)
    fail       down the ladder (`supervise.ladder`), up again after good minutes

/health is never asked: a server whose computing part hangs still says 200. What is known is told in a file:
`supervise.statefile`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from inkstick.clock import Clock, SystemClock
from inkstick.config import DataFolder
from inkstick.engines import canary
from inkstick.engines.openai import Deadlines, OpenAiEngine
from inkstick.engines.protocol import Load
from inkstick.engines.spec import ModelSpec
from inkstick.errors import InkstickError
from inkstick.supervise import ladder as steps
from inkstick.supervise import progress as starts
from inkstick.supervise import statefile
from inkstick.supervise.guard import Guard, Trouble, reload_driver
from inkstick.supervise.ladder import Ladder, Rung
from inkstick.supervise.process import EngineProcess, Log, clear_up, still_there
from inkstick.supervise.statefile import EngineState, Stage
from inkstick.supervise.xid import Meaning

log = logging.getLogger("inkstick.engine")

T = TypeVar("T")
HELD = (
    "It does not end even when it is killed: the graphics card's driver holds it. Restart this machine. The CPU engine"
    " reads meanwhile."
)
BEAT_SECONDS = 3.0
"""How often the state is written even when nothing changed, so that a dead supervisor is noticed."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. `start`: from the process's start until it answers; `quiet`: without a line in its log meanwhile.
    `prove`: for the whole start-up canary. `idle`: between canary pages; `canary`: for one page; `busy`: without a new
    token while pages are in flight. `poll`: between looks. `good`, `rest`: of the ladder, whose pauses are
    `pause` times as long."""

    start: float = 900.0
    quiet: float = 300.0
    prove: float = 600.0
    idle: float = 20.0
    canary: float = 15.0
    busy: float = 20.0
    poll: float = 1.0
    good: float = steps.GOOD_SECONDS
    rest: float = steps.REST_SECONDS
    pause: float = 1.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start once: the command, its environment, the pages in flight planned, whether it has no network."""

    command: Sequence[str]
    environment: dict[str, str]
    in_flight: int
    isolated: bool = False


class Failed(Exception):
    """This life of the engine is over; the message says why."""


class Hit(Exception):
    """It is over through no fault of the engine's own."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.detail)
        self.trouble = trouble


class Supervisor:
    """See the module's docstring. `launch` gives the command for a rung and the canary's cap on pages in flight.
    `reload`: a privileged helper that loads nvidia_uvm anew; none is run unless it is named."""

    def __init__(
        self,
        folder: DataFolder,
        spec: ModelSpec,
        launch: Callable[[Rung, int | None], Launch],
        *,
        clock: Clock | None = None,
        patience: Patience | None = None,
        say: Callable[[str], None] = lambda _: None,
        guard: Guard | None = None,
        reload: Sequence[str] = (),
    ) -> None:
        self._guard, self._reload = guard or Guard(), reload
        self._spec, self._launch, self._say = spec, launch, say
        self._clock, self._patience = clock or SystemClock(), patience or Patience()
        self._state_file = folder.engine / statefile.STATE
        self._ladder_file = folder.engine / statefile.LADDER
        self.socket = folder.engine / statefile.SOCKET
        self._log = Log(folder.engine / statefile.LOG)
        self._ladder = Ladder()
        self._cap: int | None = None
        self.state = EngineState(Stage.STARTING, model=spec.id)
        self._reference: str | None = None
        self._held: dict[int, str] = {}
        """Processes of an earlier life that nothing ends: the card's driver holds them, and the card."""

    # -- life

    async def run(self) -> None:
        """Until cancelled, or refused for good: then the state says so, and it stays that way."""
        self._take_over()
        beat = asyncio.create_task(self._beat())
        try:
            while self.state.state is not Stage.REFUSED:
                await self._once()
            await asyncio.Event().wait()
        finally:
            beat.cancel()
            self._tell(Stage.STOPPED, "The engine was stopped.", pid=None, started=None)

    def _take_over(self) -> None:
        """What an earlier supervisor left: an engine that still runs is ended, the rest is remembered."""
        self._ladder = steps.read(self._ladder_file)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            value = json.loads(self._state_file.read_text(encoding="utf-8"))
            clear_up(value["pid"], value["started"])
            self.state = replace(self.state, start_seconds=value["start_seconds"])

    async def _once(self) -> None:
        """One life of the engine, or one rest."""
        if self._ladder.given_up:
            await self._rest()
            return
        await asyncio.sleep(self._ladder.pause * self._patience.pause)
        try:
            await self._life()
        except Failed as failure:
            self._fail(str(failure))
        except Hit as hit:
            await self._struck(hit.trouble)

    async def _struck(self, trouble: Trouble) -> None:
        """The card or the machine: wait for the card where a new start cannot help, else start again."""
        if trouble.meaning is Meaning.RESTART:
            self._fail(trouble.detail)  # it may come again with each start, or with each page
            return
        done = ""
        if trouble.reload and self._reload:
            done = " " + await asyncio.to_thread(reload_driver, self._reload)
        if trouble.meaning in (Meaning.GONE, Meaning.RESET) or self._held:
            self._ladder = steps.given_up(self._ladder, self._clock.monotonic())
            self._remember()
        stage = Stage.GIVEN_UP if self._ladder.given_up else Stage.RESTARTING
        detail = f"{HELD} {trouble.detail}{done}" if self._held else trouble.detail + done
        log.error("engine: %s", detail)
        self._tell(stage, detail, pid=None, started=None, restarts=self.state.restarts + 1)

    async def _rest(self) -> None:
        while not self._rested():  # noqa: ASYNC110
            await asyncio.sleep(self._patience.poll)  # (the clock may be a test's)
        self._ladder = steps.tried_again(self._ladder)

    def _rested(self) -> bool:
        """Not while the driver holds an earlier life: another one would hang beside it."""
        self._held = still_there(self._held)
        return not self._held and steps.rest_over(self._ladder, self._clock.monotonic(), self._patience.rest)

    def _remember(self) -> None:
        """Keep the ladder for the next supervisor. Where the disk is full this one goes on by what it knows."""
        try:
            steps.write(self._ladder_file, self._ladder)
        except OSError as error:
            log.warning("the engine's ladder cannot be written: %s", error)

    def _fail(self, why: str) -> None:
        reason = self._log.reason()
        step = steps.given_up if self._held else steps.failed
        self._ladder = step(self._ladder, self._clock.monotonic())
        self._remember()
        detail = f"{why} {reason}".strip()
        log.error("engine: %s", detail)
        if self._held:
            self._tell(Stage.GIVEN_UP, f"{HELD} {detail}", pid=None, started=None, restarts=self.state.restarts + 1)
        elif self._ladder.given_up:
            minutes = self._patience.rest / 60
            again = f"Next try in {minutes:.0f} min."
            text = f"It failed {self._ladder.failures} times; the CPU engine reads. {again} {detail}"
            self._tell(Stage.GIVEN_UP, text, pid=None, started=None, restarts=self.state.restarts + 1)
        else:
            self._tell(Stage.RESTARTING, detail, pid=None, started=None, restarts=self.state.restarts + 1)

    async def _life(self) -> None:
        """Start, prove, watch. Raises Failed when it is over; returns to be started anew on another rung."""
        launch = self._launch(self._ladder.rung, self._cap)
        self.socket.unlink(missing_ok=True)
        begun, self._progress, self._heard = self._clock.monotonic(), starts.Progress(), self._clock.monotonic()
        process = EngineProcess(launch.command, launch.environment, self._log, self._line)
        self._tell(Stage.STARTING, starts.Progress().detail, pid=process.pid, started=process.started, in_flight=0)
        self.state = replace(self.state, isolated=launch.isolated)
        client = self._client(launch.in_flight)
        try:
            await self._ready(process, client, begun)
            in_flight = await self._prove(process, client, launch.in_flight)
            if in_flight == 0:
                return
            process.remember()
            took = self._clock.monotonic() - begun
            self._ladder = steps.started(self._ladder, self._clock.monotonic())
            self._guard.begin(process.pid, self._clock.monotonic())
            self._tell(Stage.READY, self._proved, in_flight=in_flight, start_seconds=took)
            await self._watch(process, client)
        except (Failed, Hit) as over:
            if self.state.ready:  # no page may go to it any more, however long its end takes
                self._tell(Stage.RESTARTING, str(over))
            raise
        finally:
            await client.close()
            self._held |= await process.end()
            self.socket.unlink(missing_ok=True)

    def _client(self, in_flight: int) -> OpenAiEngine:
        patience = self._patience
        deadlines = Deadlines(first=patience.prove, idle=patience.prove, total=patience.prove, figures=5.0)
        return OpenAiEngine(
            f"unix://{self.socket}", spec=self._spec, deadlines=deadlines, in_flight=in_flight, threads=1
        )

    # -- starting

    def _line(self, line: str) -> None:
        self._heard = self._clock.monotonic()
        progress = starts.after(self._progress, line)
        if progress != self._progress and self.state.state not in (Stage.READY, Stage.PROVING):
            self._progress = progress
            self._tell(progress.stage, progress.detail)

    async def _ready(self, process: EngineProcess, client: OpenAiEngine, begun: float) -> None:
        """Wait until it lists its model."""
        patience, last = self._patience, self.state.start_seconds
        while True:
            self._alive(process)
            with contextlib.suppress(InkstickError):
                await client.start()
                return
            now = self._clock.monotonic()
            if now - begun > patience.start:
                raise Failed(f"It was not ready after {patience.start:.0f} s.")
            if now - max(self._heard, begun) > patience.quiet:
                raise Failed(f"It said nothing for {patience.quiet:.0f} s while starting.")
            left = starts.seconds_left(self._progress.stage, now - begun, last)
            self.state = replace(self.state, seconds_left=left)
            await asyncio.sleep(min(0.5, patience.poll))

    def _alive(self, process: EngineProcess) -> None:
        if trouble := self._guard.trouble():
            raise Hit(trouble)
        if lost := process.lost():
            raise Failed(lost)

    async def _prove(self, process: EngineProcess, client: OpenAiEngine, planned: int) -> int:
        """The start-up canary: pages that may be in flight. 0: to be started anew with fewer, or refused."""
        self._tell(Stage.PROVING, f"Comparing {planned} answers at once with single ones.")
        ask = canary.asker(client, self._spec)
        try:
            verdict = await self._guarded(process, canary.prove(ask, planned), self._patience.prove)
            self._reference = await self._guarded(process, ask(0), self._patience.prove)
        except InkstickError as error:
            raise Failed(f"It broke off while it was tested: {error.message}") from error
        self._proved = verdict.detail
        if verdict.refused:
            self._tell(Stage.REFUSED, f"The engine is not used. {verdict.detail}")
            return 0
        if verdict.in_flight < planned:
            self._cap = verdict.in_flight
            self._tell(Stage.RESTARTING, verdict.detail)
            return 0  # started anew, so that the engine itself takes no more at once
        if self._cap is not None:
            self._proved = f"No more than {self._cap} pages at once: with more it mixed pages up. {self._proved}"
        return verdict.in_flight

    async def _guarded(self, process: EngineProcess, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """The result of `work`, unless the engine ends or time runs out first (Failed)."""
        task = asyncio.ensure_future(work)
        end = self._clock.monotonic() + seconds
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=min(0.5, self._patience.poll))
                if not task.done():
                    self._alive(process)
                    if self._clock.monotonic() > end:
                        raise Failed(f"It gave no answer to a test page within {seconds:.0f} s.")
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- watching

    async def _watch(self, process: EngineProcess, client: OpenAiEngine) -> None:
        """Until it fails (Failed), or a climb wants another start (returns)."""
        watch = Watch(self._clock, self._patience)
        while True:
            await asyncio.sleep(self._patience.poll)
            self._alive(process)
            load = await client.load()
            idle = watch.saw(load)
            if problem := watch.problem():
                raise Failed(problem)
            if idle and watch.canary_due():
                await self._canary(process, client, watch)
                watch.canary_sang()
            if self._climb(idle) or (idle and load and self._renewed(load)):
                return

    def _renewed(self, load: Load) -> bool:
        """Whether it is to be started anew before it fails."""
        why = self._guard.renewal(self._clock.monotonic(), load.finished)
        if why:
            self._tell(Stage.RESTARTING, why)
        return why is not None

    def _climb(self, idle: bool) -> bool:
        """Go up a step if it is time; True if that needs another start, for which it must be idle."""
        now = self._clock.monotonic()
        if not steps.climb_due(self._ladder, now, self._patience.good):
            return False
        after = steps.climbed(self._ladder)
        anew = steps.restart_needed(self._ladder, after)
        if anew and not idle:
            return False
        self._ladder = after if anew else steps.started(after, now)
        self._remember()
        if anew:
            self._tell(Stage.RESTARTING, "It ran well for a while: trying the faster settings again.")
        else:
            self._tell(self.state.state, self.state.detail)
        return anew

    async def _canary(self, process: EngineProcess, client: OpenAiEngine, watch: Watch) -> None:
        """One page end to end. Silence is a hang, unless other pages came in meanwhile and get on."""
        ask = canary.asker(client, self._spec)
        try:
            answer = await self._guarded(process, ask(0), self._patience.canary)
        except InkstickError as error:
            raise Failed(f"The test page was not read: {error.message}") from error
        except Failed:
            self._alive(process)
            if watch.gets_on(await client.load()):
                return
            raise
        if self._reference is None or not canary.still(self._reference, answer):
            raise Failed("It answered the test page otherwise than at its start.")

    # -- telling

    def _tell(self, stage: Stage, detail: str, **changes: Any) -> None:
        """Write the state, and say it when it changed."""
        if stage not in (Stage.STARTING, Stage.LOADING, Stage.COMPILING, Stage.CAPTURING, Stage.PROVING):
            changes.setdefault("seconds_left", None)
        if stage is not Stage.READY:
            changes.setdefault("in_flight", 0)
        if (stage, detail) != (self.state.state, self.state.detail):
            changes.setdefault("since", self._clock.monotonic())
            self._say(f"{stage.value.replace('_', ' ')}: {detail}")
        self.state = replace(self.state, state=stage, detail=detail, rung=self._ladder.rung.name, **changes)
        self._write()

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # the disk may be full: the engine reads all the same
            statefile.write(self._state_file, replace(self.state, now=statefile.uptime()))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._write()


class Watch:
    """What the engine's own figures say, over time: does it get on, is it idle. The clock is passed in."""

    def __init__(self, clock: Clock, patience: Patience) -> None:
        self._clock, self._patience = clock, patience
        self._tokens = -1
        self._answers = True
        self._moved = self._sang = clock.monotonic()

    def saw(self, load: Load | None) -> bool:
        """Note the figures (None: it did not give any). True if no page is in flight."""
        self._answers = load is not None
        if load is None:
            return False
        busy = load.running + load.waiting > 0
        if not busy or load.generated_tokens != self._tokens:
            self._moved = self._clock.monotonic()
        self._tokens = load.generated_tokens
        return not busy

    def problem(self) -> str | None:
        """Why it counts as hanging; None while it gets on."""
        if self._clock.monotonic() - self._moved <= self._patience.busy:
            return None
        if not self._answers:
            return f"It has not answered for {self._patience.busy:.0f} s."
        return f"It has made no progress for {self._patience.busy:.0f} s, with pages in flight."

    def gets_on(self, load: Load | None) -> bool:
        """Whether tokens have come since the last look."""
        return load is not None and load.generated_tokens != self._tokens

    def canary_due(self) -> bool:
        return self._clock.monotonic() - self._sang >= self._patience.idle

    def canary_sang(self) -> None:
        self._sang = self._clock.monotonic()
