"""What `./build.sh test` runs: formatter, linter, type checker, pytest; then one closing line that counts all parts.

With pytest arguments (paths, -k …) only pytest runs, with those.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
CODE = ["service", "tests", "locks", "image", "provisioning"]
QUICK = ["-m", "not slow", "tests/unit"]


def options(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="./build.sh test", description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a minute's worth: checks and unit tests")
    parser.add_argument("--engine", action="store_true", help="real vLLM on the CPU (not built yet)")
    parser.add_argument("--vm", action="store_true", help="the cpu edition, built and booted in QEMU (as root)")
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


def static_checks() -> list[bool]:
    return [
        check("format (ruff)", "ruff", "format", "--check", *CODE),
        check("lint (ruff)", "ruff", "check", *CODE),
        check("types (mypy, strict)", "mypy"),
    ]


def pytest(*arguments: str) -> tuple[int, dict[str, int]]:
    """Run pytest, pass its output on, and return its exit status and the counts of its closing line."""
    command = [str(BIN / "python"), "-m", "pytest", "--durations=8", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line if re.search(r"\d+ (passed|failed|skipped|error)", line) else last
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    return process.wait(), counts


def corpora(folders: list[str]) -> int:
    command = [str(BIN / "python"), "-m", "corpora.run", *(str(Path(folder).resolve()) for folder in folders)]
    return subprocess.run(command, cwd=ROOT / "tests").returncode


def main(arguments: list[str]) -> int:
    chosen, rest = options(arguments)
    if chosen.corpora:
        return corpora(chosen.corpora)
    if chosen.engine:
        print("./build.sh test: --engine is not built yet; CHANGELOG.md says what there is", file=sys.stderr)
        return 2
    if chosen.vm:
        rest = ["-s", "tests/vm", *rest]
    started = time.monotonic()
    whole = not rest
    checks = static_checks() if whole else []
    parallel = ["-n", "2", "--dist", "loadgroup"] if whole else []
    status, counts = pytest(*parallel, *(QUICK if chosen.quick else []), *rest)
    failed = counts.get("failed", 0) + counts.get("error", 0) + checks.count(False)
    if status and not failed:
        failed = 1  # pytest itself ended badly: no tests, or an internal error
    passed, skipped = counts.get("passed", 0) + checks.count(True), counts.get("skipped", 0)
    print(f"\nall parts ({time.monotonic() - started:.0f} s):")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
