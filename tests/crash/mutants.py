"""Is every step needed? Leave one out, and look for a life in which somebody notices.

A step is left out by its name, everywhere. `notice` tries lives in which it matters most: without a crash, with one
soon after the step, and, for steps that only a recovery takes, with one before it and one soon after.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from crash.model import KEEP_ALL, KEEP_FIRST, KEEP_NOTHING, KEEP_SOME, KILL
from crash.simulate import SCENARIOS, CrashPlan, live, noticed
from inkstick import store

SOON = (1, 2, 3, 4, 5, 7, 10, 14, 20, 30, 45)
LOOKS = ((KEEP_NOTHING, 1), (KEEP_SOME, 4), (KEEP_FIRST, 2), (KEEP_ALL, 1), (KILL, 1))

EXEMPT = {
    "amend.claim.write": "the password of a retry: lost in a crash, it is asked for again (test_office_screens)",
    "amend.claim.sync": "the password of a retry: lost in a crash, it is asked for again (test_office_screens)",
    "amend.claim.rename": "the password of a retry: lost in a crash, it is asked for again (test_office_screens)",
    "amend.claim.sync_folder": "the password of a retry: lost in a crash, it is asked for again (test_office_screens)",
    "accept.undo": "after an error; its absence is noticed when the disk is full (test_faults)",
    "accept.put_back": "only when a file is swapped for something else between two system calls (test_spool)",
    "checkpoint.torn": "only when the disk gives a page back damaged (test_office)",
    "reopen.give_up": "only when a person takes the original away during a retry (test_spool)",
    "reopen.done": "the end removes the same file once more (tidy.file)",
    "tidy.file": "rubbish in a folder of the spool",
    "tidy.folder": "rubbish in a folder of the spool, cleared again before it is used (stage.clear)",
    "stage.clear": "rubbish in a folder of the spool",
}

Found = tuple[str, str]  # scenario, what was noticed


PARTS = {
    "write_atomic": (".write", ".sync", ".rename", ".sync_folder"),
    "make_dirs": (".make", ".sync"),
    "sync_tree": ("_file", "_folder"),
}
"""What `store.steps` adds to the name that it is given."""


def names_in_code() -> set[str]:
    """Every step that the spool can take, read from its source."""
    folder = Path(store.__file__).parent
    names: set[str] = set()
    for module in ("spool", "conclusion", "recovery", "checkpoints"):
        text = (folder / f"{module}.py").read_text()
        for call, name in re.findall(r'(write_atomic|make_dirs|sync_tree|)\([^\n]*at="([a-z_.]+)"', text):
            names.update(name + part for part in PARTS.get(call, ("",)))
    return names


@functools.cache
def traces() -> dict[str, tuple[str, ...]]:
    found = {}
    for scenario in SCENARIOS:
        trace: list[str] = []
        live(SCENARIOS[scenario], trace=trace)
        found[scenario] = tuple(trace)
    return found


def notice(name: str) -> Found | None:
    """The first scenario found in which leaving `name` out is noticed, and how. None: it seems not to be needed."""
    for scenario, plan, seed in _lives(name):
        how = noticed(SCENARIOS[scenario], plan, seed, name)
        if how is not None:
            return scenario, how
    return None


def _lives(name: str) -> Iterator[tuple[str, CrashPlan, int]]:
    where = sorted((len(trace), scenario) for scenario, trace in traces().items() if name in trace)
    if name == "recover.sync_all":  # what a mere kill left unsynced, and a power cut then takes away
        for _, scenario in where:
            for first in range(len(traces()[scenario])):
                yield scenario, [(first, KILL), (6, KEEP_NOTHING)], 0
    for _, scenario in where:
        yield scenario, (), 0
    for _, scenario in where:
        for after in SOON:
            for image, seeds in LOOKS:
                for seed in range(seeds):
                    yield scenario, [(traces()[scenario].index(name) + after, image)], seed
    yield from _lives_in_recovery(name)
    for _, scenario in where:
        yield from _lives_with_two_crashes(scenario, traces()[scenario].index(name))


def _lives_with_two_crashes(scenario: str, at: int) -> Iterator[tuple[str, CrashPlan, int]]:
    """The first leaves something half durable, the recovery builds on it, the second takes it away."""
    for first in SOON[:7]:
        for image, seeds in ((KILL, 1), (KEEP_SOME, 6)):
            for seed in range(seeds):
                for second in SOON[:7]:
                    yield scenario, [(at + first, image), (second, KEEP_NOTHING)], seed


def _lives_in_recovery(name: str) -> Iterator[tuple[str, CrashPlan, int]]:
    for scenario, first, image, seed, at in _recoveries().get(name, ()):
        yield scenario, [(first, image)], seed
        for after in SOON:
            for second in (KEEP_NOTHING, KEEP_SOME, KEEP_FIRST):
                yield scenario, [(first, image), (at + after, second)], seed


@functools.cache
def _recoveries() -> dict[str, list[tuple[str, int, str, int, int]]]:
    """Crashes that lead to steps no other life takes: name → (scenario, crash, image, seed, how soon after it)."""
    usual = {name for trace in traces().values() for name in trace}
    found: dict[str, list[tuple[str, int, str, int, int]]] = {}
    for scenario, base in traces().items():
        if scenario == "everything":
            continue
        for first in range(len(base)):
            for image in (KEEP_NOTHING, KEEP_SOME, KILL):
                trace: list[str] = []
                live(SCENARIOS[scenario], [(first, image)], first, trace=trace)
                for name in set(trace) - usual:
                    at = trace.index(name) - first - 1
                    found.setdefault(name, []).append((scenario, first, image, first, at))
    return found


def all_names() -> set[str]:
    """Every step taken in some life, with a crash or without."""
    return {name for trace in traces().values() for name in trace} | set(_recoveries())
