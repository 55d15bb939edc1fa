"""The engine's process: started in a group of its own, its log read line by line, ended whole.

Its main process is not all of it: the part that computes is a child. `lost` notices the end of either within a second,
long before the server itself does. It never outlives its supervisor: the kernel kills the main process
(PR_SET_PDEATHSIG), and `clear_up` ends what an earlier supervisor may have left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from inkstick.supervise.statefile import started_at
from inkstick.supervise.tree import die_with

LOG_BYTES = 2 << 20
"""The log is kept in two files of at most this size."""
LINE_CHARACTERS = 64 << 10
"""A longer line of the log is taken in pieces: what never ends must not be waited for, nor kept."""
TERMINATE_SECONDS = 2.0
KILL_SECONDS = 10.0
"""What is not gone so long after it was killed hangs in the kernel, in the card's driver: nothing ends it."""
COLLECT_SECONDS = 5.0
CORE = "EngineCore"
SHARED = Path("/dev/shm")  # noqa: S108
_ABOVE = re.compile(r"root cause|EngineDeadError")
"""What vLLM's server says when its computing process has ended, last of all and many lines after the cause."""
_WHO = r"^(?:\(\w+ pid=\d+\) )?"
_HARMLESS = re.compile(_WHO + "(?:WARNING|INFO|DEBUG) ")
"""Of a lower level, though it may speak of errors, as vLLM does where few files may be open."""
_PREFIX = re.compile(_WHO + r"(?:[A-Z]+ [\d-]+ [\d:]+ \[[^]]*\] ?)?")
"""What vLLM writes before each line: which process, when, where."""


class Log:
    """Lines appended to a file that is turned over when it is full; the last errors are remembered."""

    def __init__(self, path: Path) -> None:
        self.path, self._errors = path, deque[str](maxlen=30)

    def begin(self) -> None:
        """Another life of the engine: what the one before said is no reason of this one's end."""
        self._errors.clear()

    def add(self, line: str) -> None:
        if ("Error" in line or "error:" in line) and not _HARMLESS.match(line):
            self._errors.append(line.rstrip()[:1000])
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            full = file.tell() > LOG_BYTES
        if full:
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))

    def reason(self) -> str:
        """The last line that looks like an error, for people: not one that only says that there was one above."""
        causes = [line for line in self._errors if not _ABOVE.search(line)]
        return _PREFIX.sub("", (causes or [*self._errors] or [""])[-1])[:300]


class EngineProcess:
    """One life of the engine. `on_line` is called in the event loop for each line of its log."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Log, on_line: Callable[[str], None]
    ) -> None:
        parent, loop = os.getpid(), asyncio.get_running_loop()
        log.begin()
        self._popen = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=lambda: die_with(parent),
        )
        self.pid = self._popen.pid
        self.started = started_at(self.pid)
        self._cores: dict[int, str] = {}
        self._reader = threading.Thread(target=self._read, args=(log, on_line, loop), daemon=True)
        self._reader.start()

    def _read(self, log: Log, on_line: Callable[[str], None], loop: asyncio.AbstractEventLoop) -> None:
        assert self._popen.stdout is not None
        while line := self._popen.stdout.readline(LINE_CHARACTERS):
            with contextlib.suppress(OSError):  # the disk is full: the line counts all the same
                log.add(line)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(on_line, line)

    @property
    def status(self) -> int | None:
        """Its exit status (negative: the signal), None while it runs."""
        return self._popen.poll()

    def remember(self) -> None:
        """Note which processes compute, once it is ready."""
        self._cores = _identified(pid for pid in descendants(self.pid) if CORE in _title(pid))

    def lost(self) -> str | None:
        """What of it has ended, in words; None while all is there."""
        if (status := self.status) is not None:
            return f"It ended with {'signal' if status < 0 else 'status'} {abs(status)}."
        if len(still_there(self._cores)) < len(self._cores):
            return "Its computing process was killed."
        return None

    async def end(self) -> dict[int, str]:
        """Terminate, wait, kill: the whole group and everything below it. What could not be ended, by number and start;
        it is not waited for any longer."""
        family = _identified([self.pid, *descendants(self.pid)])
        _signal(family, signal.SIGTERM)
        if self.status is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._popen.wait, TERMINATE_SECONDS)
        family |= _identified(descendants(self.pid))
        _signal(family, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        end = time.monotonic() + KILL_SECONDS
        while (left := still_there(family)) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        self._popen.poll()  # so that it is collected
        await asyncio.to_thread(clear_away)
        return left


def clear_away(shared: Path = SHARED) -> None:
    """After the engine's end, as process 1 of a unit that has processes and shared memory of its own: end and collect
    the processes that were left to it, and remove what they left in memory. Elsewhere bubblewrap's end does both."""
    if os.getpid() != 1:
        return
    end = time.monotonic() + COLLECT_SECONDS
    while (left := descendants(1)) and time.monotonic() < end:
        _signal(left, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)
    for path in shared.iterdir():
        with contextlib.suppress(OSError):
            path.unlink()


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, from /proc."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text(encoding="ascii").split():
                found += [int(child), *descendants(int(child))]
    return found


def still_there(processes: Mapping[int, str]) -> dict[int, str]:
    """Those of `processes`, number and start of each, that have not ended."""
    return {pid: at for pid, at in processes.items() if started_at(pid) == at}


def _identified(pids: Iterable[int]) -> dict[int, str]:
    return {pid: at for pid in pids if (at := started_at(pid)) is not None}


def answer_of(command: Sequence[str], seconds: float) -> tuple[int, str] | None:
    """Status and output of a command that may hang in the kernel, where SIGKILL does not end it: after so many seconds
    it is killed and not waited for, as subprocess.run would. None then, and where it cannot be started."""
    try:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return None
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return None
    return process.returncode, output.decode("utf-8", "replace")


def clear_up(pid: int | None, started: str | None) -> None:
    """End an engine that an earlier supervisor left behind, if it still is that process."""
    if pid is None or started is None or started_at(pid) != started:
        return
    family = [pid, *descendants(pid)]
    _signal(family, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
