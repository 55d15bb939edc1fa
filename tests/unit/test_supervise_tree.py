"""The process tree: children are kept alive, refused options end it, nobody outlives anybody. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from inkstick.supervise.tree import FORGIVE_SECONDS, BackOff, Command, Tree

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def python(name: str, code: str) -> Command:
    return Command(name, [sys.executable, "-S", "-c", code])


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """No such process, or only its corpse."""
    try:
        return (Path(f"/proc/{pid}/stat")).read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def supervised(*commands: Command, grace: str = "4") -> subprocess.Popen[str]:
    """A tree in a process of its own, which prints its children's pids."""
    code = f"""
        import sys
        from inkstick.supervise.tree import Command, Tree
        tree = Tree([{", ".join(f"Command({c.name!r}, {list(c.arguments)!r})" for c in commands)}], grace={grace})
        sys.exit(tree.run(on_start=lambda: print(*(child.process.pid for child in tree.children), flush=True)))
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)


def pids(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()]


def test_the_pause_doubles_to_a_limit_and_health_forgives() -> None:
    pauses, back_off = [], BackOff()
    for _ in range(9):
        back_off = back_off.after(1.0)
        pauses.append(back_off.pause)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert back_off.after(FORGIVE_SECONDS).pause == 0.5


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    log = tmp_path / "lives"
    tree = Tree([python("brief", f"open({str(log)!r}, 'a').write('x')"), python("long", SLEEP)])

    def stop_in_its_second_life() -> None:
        until(lambda: log.exists() and len(log.read_text()) >= 2)
        tree.stop()

    threading.Thread(target=stop_in_its_second_life).start()
    assert tree.run() == 0
    assert tree.children[0].restarts >= 1
    assert tree.children[1].restarts == 0


def test_a_child_that_refuses_its_options_ends_the_tree() -> None:
    tree = Tree([python("long", SLEEP), python("refuses", "raise SystemExit(2)")])
    assert tree.run() == 2
    process = tree.children[0].process
    assert process is not None
    assert process.returncode == -signal.SIGTERM


def test_a_child_that_took_its_options_once_and_refuses_them_later_does_not_take_the_others_with_it(
    tmp_path: Path,
) -> None:
    """An engine that was killed, and whose model was deleted meanwhile: service and watcher ended with it."""
    log = tmp_path / "lives"
    code = f"open({str(log)!r}, 'a').write('x'); raise SystemExit(2 if len(open({str(log)!r}).read()) > 1 else 1)"
    tree = Tree([python("engine", code), python("long", SLEEP)])

    def stop_in_its_third_life() -> None:
        until(lambda: tree.children[0].restarts >= 2)
        tree.stop()

    threading.Thread(target=stop_in_its_third_life, daemon=True).start()
    assert tree.run() == 0
    assert tree.children[1].restarts == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all(number: signal.Signals) -> None:
    process = supervised(python("a", SLEEP), python("b", SLEEP))
    children = pids(process)
    process.send_signal(number)
    assert process.wait(60) == 0
    assert all(gone(pid) for pid in children)


def test_a_child_that_will_not_end_is_killed() -> None:
    process = supervised(python("stubborn", STUBBORN), grace="0.3")
    (child,) = pids(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    assert process.wait(10) == 0
    assert gone(child)


def test_children_do_not_outlive_a_parent_that_was_killed() -> None:
    process = supervised(python("a", SLEEP), python("stubborn", STUBBORN))
    children = pids(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    until(lambda: all(gone(pid) for pid in children))
