"""The long run: ``python -m crash.campaign --simulated 1000000 --sigkill 10000 --seed 1`` (from tests/).

Simulated lives are numbered from the seed on, each life's crashes follow from its number alone: a violation names its
life, and ``--life NUMBER`` lives it again. SIGTERM ends a run early, with its figures; ``--first`` goes on at a later
life.
"""

from __future__ import annotations

import argparse
import functools
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from crash import sigkill
from crash.simulate import SCENARIOS, Life, live, random_plan
from crash.world import Violation

STEPS = {name: live(scenario).steps for name, scenario in SCENARIOS.items()}
_NAMES = sorted(SCENARIOS)


def one_life(number: int) -> Life:
    """Life `number`: its scenario and up to ten crashes. Raises Violation."""
    chance = random.Random(number)
    name = chance.choice(_NAMES)
    plan = random_plan(chance, STEPS[name], chance.randint(2, 10))
    return live(SCENARIOS[name], plan, number)


def simulate(crashes: int, seed: int, first: int, say: Callable[[str], None]) -> Counter[str]:
    """Lives until so many crashes were injected. Counts crashes, lives, and violations by kind."""
    counts: Counter[str] = Counter()
    number, began, spoke = seed * 10_000_000 + first, time.monotonic(), time.monotonic()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    while counts["crashes"] < crashes and not stopped:
        try:
            life = one_life(number)
        except Violation as violation:
            counts[violation.kind] += 1
            say(f"life {number}: {violation}")
        else:
            counts["crashes"] += life.crashes
            counts.update({f"image {image}": count for image, count in life.images.items()})
        counts["lives"] += 1
        number += 1
        if time.monotonic() - spoke > 30:
            spoke = time.monotonic()
            say(f"{counts['crashes']:,} crashes, {counts['crashes'] / (spoke - began):,.0f} a second, at life {number}")
    return counts


def main() -> int:
    options = argparse.ArgumentParser(prog="crash.campaign", description=__doc__)
    options.add_argument("--simulated", type=int, default=0, help="how many simulated crashes")
    options.add_argument("--sigkill", type=int, default=0, help="how many real SIGKILLs")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--first", type=int, default=0, help="go on at this life of the seed")
    options.add_argument("--life", type=int, help="only live this one again")
    options.add_argument("--folder", help="where the SIGKILLs' data folders are made (default: /dev/shm)")
    chosen = options.parse_args()

    def say(text: str) -> None:
        print(text, flush=True)

    if chosen.life is not None:
        say(str(one_life(chosen.life)))
        return 0
    bad = 0
    for kind, run in (("simulated", simulate), ("sigkill", _sigkill(chosen.folder))):
        wanted = getattr(chosen, kind)
        if not wanted:
            continue
        began = time.monotonic()
        counts = run(wanted, chosen.seed, chosen.first, say)
        seconds = time.monotonic() - began
        say(_summary(kind, counts, seconds, chosen.seed))
        bad += sum(counts[name] for name in Violation.KINDS)
    return 1 if bad else 0


def _sigkill(folder: str | None) -> Callable[[int, int, int, Callable[[str], None]], Counter[str]]:
    return functools.partial(sigkill.campaign, folder=Path(folder or "/dev/shm"))


def _summary(kind: str, counts: Counter[str], seconds: float, seed: int) -> str:
    verdict = ", ".join(f"{name} {counts[name]}" for name in Violation.KINDS)
    others = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if name not in Violation.KINDS)
    rate = counts["crashes"] / seconds if seconds else 0.0
    return f"{kind}, seed {seed}: {others}; {seconds:,.0f} s, {rate:,.0f} crashes a second\n  {verdict}"


if __name__ == "__main__":
    sys.exit(main())
