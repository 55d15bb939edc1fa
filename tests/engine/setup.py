"""What the tests of the real engine need: its environment, the pages that they read, and the tiny checkpoints.

    python -m engine.setup [--tiny DIR | --tests]        from tests/; makes or checks them (`./build.sh engine`)

All of it lies in ~/.cache/inkstick (see `environment`). `.engine` in the checkout points to the environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from engine import environment, pages
from engine.environment import CACHE, HERE, PINNED, Failed, Missing, entry, key
from inkstick.supervise.python import NEWER

TRAIN_SECONDS = 1800.0
NO_ENGINE = 3
"""The exit status that says: it cannot be had on this machine."""


@dataclass(frozen=True)
class Engine:
    """`python`: of the engine's environment. `model`: the tiny checkpoint, `paddle`: the one of PaddleOCR-VL's kind.
    `pages`: the pages that both know, as PNG."""

    python: Path
    model: Path
    paddle: Path
    pages: Path


def ready() -> Engine:
    """Everything, made now where it is not there. Raises Missing."""
    python, shown = environment.linked(), drawn()
    with ThreadPoolExecutor(2) as pool:  # each trains on one core
        model, other = pool.submit(tiny, python, shown), pool.submit(paddle, python, shown)
        return Engine(python, model.result(), other.result(), shown)


def drawn() -> Path:
    """The pages, drawn by this environment's own libraries, in a folder named after what they show."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        pages.write(fresh)
        folder = CACHE / f"pages-{key(*(path.read_bytes() for path in sorted(fresh.iterdir())))}"
        with entry(folder) as part:
            if part is not None:
                shutil.copytree(fresh, part)
    return folder


def tiny(python: Path, shown: Path) -> Path:
    """The tiny HunYuanVL checkpoint that reads the pages in `shown`."""
    return _trained("tiny", python, shown, [HERE / "tiny.py"])


def paddle(python: Path, shown: Path) -> Path:
    """The tiny PaddleOCR-VL checkpoint that reads the pages in `shown`."""
    code = sorted((HERE / "paddle_code").glob("*.py"))
    return _trained("paddle", python, shown, [HERE / "paddle.py", HERE / "tiny.py", *code])


def _trained(name: str, python: Path, shown: Path, sources: list[Path]) -> Path:
    """What the first of `sources` trains, from the cache where it is there; else made now, in one to four minutes."""
    packages = PINNED.locks[1].read_bytes()
    folder = CACHE / f"{name}-{key(*(source.read_bytes() for source in sources), shown.name.encode(), packages)}"
    with entry(folder) as part:
        if part is not None:
            what = f"training the tiny checkpoint ({sources[0].name})"
            print(what, flush=True)
            closed = {"PATH": os.environ["PATH"], "HOME": str(part), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
            closed |= {
                "PYTHONPATH": str(python.parent.parent / NEWER),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "DO_NOT_TRACK": "1",
            }
            command = [str(python), str(sources[0]), str(shown), str(part)]
            environment.run(command, what, seconds=TRAIN_SECONDS, environment=closed)
    return folder


def _hand_out(folder: Path, python: Path) -> None:
    """The tiny checkpoint and the pages that it reads, for somebody who wants to try."""
    shown = drawn()
    with ExitStack() as undone:
        for name, source in (("model", tiny(python, shown)), ("pages", shown)):
            part = Path(undone.enter_context(tempfile.TemporaryDirectory(dir=folder))) / name
            shutil.copytree(source, part)
            shutil.rmtree(folder / name, ignore_errors=True)
            part.rename(folder / name)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./build.sh engine", description="Set up the engine's own environment.")
    parser.add_argument(
        "--tiny", type=Path, metavar="DIR", help="a tiny checkpoint too, as DIR/model, and the pages that it reads"
    )
    parser.add_argument("--tests", action="store_true", help="whatever the tests of the engine need")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.tests:
            ready()
        print(f"vLLM is in {environment.linked().parent.parent}")
        if chosen.tiny is not None:
            chosen.tiny.mkdir(parents=True, exist_ok=True)
            _hand_out(chosen.tiny.absolute(), environment.linked())
            print(
                f"try: ./build.sh run --engine vllm --model {chosen.tiny}/model   and drop files of {chosen.tiny}/pages"
            )
    except Missing as missing:
        print(f"no real vLLM here: {missing}", file=sys.stderr)
        return NO_ENGINE
    except Failed as failed:
        sys.exit(str(failed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
