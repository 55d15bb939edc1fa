"""Several commands as one process tree, for a machine without systemd: `inkstick run` is serve and watch.

In the manner of uvicorn's multiprocess supervisor:
- A child that dies is started again, after a pause that doubles from half a second to thirty; a minute of health
  forgives. A child that refuses its options (exit status 2) would do so for ever: then the tree ends with that status.
  Not where it had taken them before: something that it needs is gone, a model say, and may come back.
- SIGTERM and SIGINT end the tree: terminate, wait, kill; within `GRACE_SECONDS` all are gone.
- A child never outlives its parent, however that died: the kernel kills it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

log = logging.getLogger("inkstick.supervise")

USAGE = 2
GRACE_SECONDS = 4.0
FIRST_PAUSE, LONGEST_PAUSE, FORGIVE_SECONDS = 0.5, 30.0, 60.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
"""Loaded before any fork: between fork and exec nothing may load or allocate much."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Command:
    """A child: its name for the log, its argument vector, and its environment (None: ours)."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long to wait before the next start, from how long the last life was. Pure."""

    pause: float = 0.0

    def after(self, life_seconds: float) -> BackOff:
        if life_seconds >= FORGIVE_SECONDS or self.pause == 0.0:
            return BackOff(FIRST_PAUSE)
        return BackOff(min(self.pause * 2, LONGEST_PAUSE))


class Child:
    """One command and its present process."""

    def __init__(self, command: Command, clock: Callable[[], float] = time.monotonic) -> None:
        self.command, self._clock = command, clock
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self._back_off = BackOff()
        self._started = self._due = 0.0

    def start(self) -> None:
        parent = os.getpid()
        self._started = self._clock()
        self.process = subprocess.Popen(
            list(self.command.arguments),
            env=None if self.command.environment is None else dict(self.command.environment),
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: die_with(parent),
        )

    def keep_alive(self) -> int | None:
        """Start it again if it died and its pause is over. The exit status if it must not be started again."""
        if self.process is None:
            if self._clock() >= self._due:
                self.restarts += 1
                self.start()
            return None
        status = self.process.poll()
        if status is None or (status == USAGE and not self.restarts):
            return status
        self._back_off = self._back_off.after(self._clock() - self._started)
        self._due = self._clock() + self._back_off.pause
        self.process = None
        log.error("%s ended (%s); starting it again in %.1f s", self.command.name, _cause(status), self._back_off.pause)
        return None

    def terminate(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def join(self, deadline: float) -> None:
        """Wait until `deadline` by the clock, then kill."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - self._clock()))
        except subprocess.TimeoutExpired:
            log.error("%s did not end in time: killed", self.command.name)
            self.process.kill()
            self.process.wait()


class Tree:
    """The children, kept alive until a signal or `stop`."""

    def __init__(self, commands: Sequence[Command], *, grace: float = GRACE_SECONDS) -> None:
        self.children = [Child(command) for command in commands]
        self._grace = grace
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def run(self, on_start: Callable[[], None] = lambda: None) -> int:
        """Until SIGTERM, SIGINT or `stop`: 0; or the status of a child that refused its options."""
        with self._signals():
            try:
                for child in self.children:
                    child.start()
                on_start()
                return self._watch()
            finally:
                self._end()

    def _watch(self) -> int:
        while not self._stop.wait(0.1):
            for child in self.children:
                status = child.keep_alive()
                if status is not None:
                    return status
        return 0

    def _end(self) -> None:
        deadline = time.monotonic() + self._grace
        for child in self.children:
            child.terminate()
        for child in self.children:
            child.join(deadline)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def note(_number: int, _frame: FrameType | None) -> None:
            self._stop.set()

        before = {number: signal.signal(number, note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _cause(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


def die_with(parent: int) -> None:
    """In the child, before exec: be killed when the parent dies, and start with a signal mask of our own.

    A terminal's Ctrl-C goes to the parent alone (a session of its own), which then ends the children in order."""
    os.setsid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before prctl
        os._exit(1)
