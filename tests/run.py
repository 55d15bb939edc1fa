"""What `./build.sh test` runs: formatter, linter, type checker, pytest; then one closing line that counts all parts.

With pytest arguments (paths, -k …) only pytest runs, with those.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from inkstick.supervise.process import descendants

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
CODE = ["service", "tests", "locks", "image", "provisioning"]
NO_ENGINE = 3
ENGINE_SECONDS = 3600
"""No test of the engine may begin later than this after the first, and half as long again after it all is killed."""
QUICK = ["-m", "not slow", "tests/unit"]
VM = ["tests/vm", "tests/integration/test_share.py"]
"""The appliance itself, and what needs packages that only this part installs."""


@dataclass(frozen=True)
class Counts:
    """What passed, failed and was skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def options(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="./build.sh test", description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a minute's worth: checks and unit tests")
    parser.add_argument("--engine", action="store_true", help="real vLLM on the CPU: 8 GB of packages at first")
    parser.add_argument("--newer", action="store_true", help="with --engine: a newer vLLM too, 8 GB more")
    parser.add_argument("--vm", action="store_true", help="the cpu edition, built and booted in QEMU (as root)")
    parser.add_argument("--vm-full", action="store_true", help="that, and damaged sticks")
    parser.add_argument("--corpora", metavar="DIR", action="append", help="read every file below DIR as hostile input")
    return parser.parse_known_args(arguments)


def check(name: str, *command: str) -> bool:
    """Run one static check; its output is shown only if it fails."""
    started = time.monotonic()
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True)
    print(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {name} ({time.monotonic() - started:.0f} s)", flush=True)
    if done.returncode:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


def workers() -> int:
    """One more than there are cores (but not more than eight): many tests wait, for a browser, a process, a clock."""
    return min(len(os.sched_getaffinity(0)) + 1, 8)


def static_checks() -> list[bool]:
    return [
        check("format (ruff)", "ruff", "format", "--check", *CODE),
        check("lint (ruff)", "ruff", "check", *CODE),
        check("types (mypy, strict)", "mypy"),
    ]


def end(pid: int) -> None:
    """Kill a process and all below it: one that is left would keep our pipe open."""
    for number in (pid, *descendants(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def pytest(*arguments: str, seconds: float | None = None) -> Counts:
    """Run pytest, pass its output on, and count by its closing line. After `seconds` it is killed: a failure."""
    for folder in ("service", "tests/support"):
        compileall.compile_dir(ROOT / folder, quiet=2)  # the tests start hundreds of processes of these
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [str(BIN / "python"), "-m", "pytest", "--durations=25", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    guard = threading.Timer(seconds or threading.TIMEOUT_MAX, end, (process.pid,))
    guard.daemon = True
    guard.start()
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line if re.search(r"\d+ (passed|failed|skipped|error)", line) else last
    found = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    failed = found.get("failed", 0) + found.get("error", 0)
    guard.cancel()
    if process.wait() and not failed:
        failed = 1  # pytest itself ended badly: no tests, or an internal error
    return Counts(found.get("passed", 0), failed, found.get("skipped", 0))


def corpora(folders: list[str]) -> int:
    command = [str(BIN / "python"), "-m", "corpora.run", *(str(Path(folder).resolve()) for folder in folders)]
    return subprocess.run(command, cwd=ROOT / "tests").returncode


def real_engine(rest: list[str], *, newer: bool) -> Counts:
    """The tests through real vLLM; counted as skipped, with the reason, where it cannot be had."""
    setup = subprocess.run([str(BIN / "python"), "-m", "engine.setup", "--tests"], cwd=ROOT / "tests")
    if setup.returncode == NO_ENGINE:
        return Counts(skipped=1)
    if setup.returncode:
        return Counts(failed=1)
    limits = (f"--session-timeout={ENGINE_SECONDS}", "-rs", *(["--newer"] if newer else []))
    return pytest("tests/engine", *limits, *rest, seconds=ENGINE_SECONDS * 1.5)


def ordinary(*, quick: bool, rest: list[str]) -> dict[str, Counts]:
    """The checks and tests of any machine; with pytest arguments only the tests that they name."""
    if rest:
        return {"tests": pytest(*rest)}
    with ThreadPoolExecutor(1) as beside:  # the tests leave some of two cores' time: they wait for one another
        checking = beside.submit(static_checks)
        tests = pytest("-n", str(workers()), "--dist", "loadgroup", *(QUICK if quick else []))
        checks = checking.result()
    return {"checks": Counts(checks.count(True), checks.count(False)), "tests": tests}


def main(arguments: list[str]) -> int:
    chosen, rest = options(arguments)
    if chosen.corpora:
        return corpora(chosen.corpora)
    started = time.monotonic()
    parts: dict[str, Counts] = {}
    if chosen.engine:
        parts["engine"] = real_engine(rest, newer=chosen.newer)
    if chosen.vm or chosen.vm_full:
        parts["vm"] = pytest("-s", "-v", *VM, *([] if chosen.vm_full else ["-m", "not vm_full"]), *rest)
    if not parts:
        parts = ordinary(quick=chosen.quick, rest=rest)
    counts = functools.reduce(Counts.plus, parts.values())
    print(f"\nall parts ({time.monotonic() - started:.0f} s):")
    for name, part in parts.items():
        print(f"  {name}: {part}")
    print(counts)
    return 1 if counts.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
