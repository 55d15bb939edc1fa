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

import numpy as np
from PIL import Image

from engine import environment, pages
from engine.environment import CACHE, CUDA, HERE, PINNED, ROOT, Failed, Missing, entry, key
from inkstick.engines import doclayout
from inkstick.supervise import machine
from inkstick.supervise.python import NEWER

SHAPES = HERE.parent / "gpu"
"""Where the real model's configuration is written down, in hunyuan.py."""
SCRIPT_SECONDS = 3000.0
LEARNED = "learned.safetensors"
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
    python = environment.linked()
    with ThreadPoolExecutor(2) as pool:  # each trains on one core
        model, other = pool.submit(tiny, python), pool.submit(paddle, python)
        return Engine(python, model.result(), other.result(), drawn())


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


def tiny(python: Path) -> Path:
    """The tiny HunYuanVL checkpoint, as vLLM 0.19.1 wants it. `python`: of the pinned environment."""
    return _written("tiny", python, HERE / "tiny.py", _learned(python, HERE / "tiny.py"))


def native(python: Path, newer: Path) -> Path:
    """The same, as a newer vLLM wants it, whose Python is `newer`."""
    return _written("native", newer, HERE / "tiny.py", _learned(python, HERE / "tiny.py"), "native")


def paddle(python: Path) -> Path:
    """The tiny PaddleOCR-VL checkpoint."""
    return _written("paddle", python, HERE / "paddle.py", _learned(python, HERE / "paddle.py"))


@dataclass(frozen=True)
class LayoutModel:
    """A PP-DocLayoutV3 of random weights, `pages` (PNG), and beside it what transformers makes of them (layout.py)."""

    folder: Path
    pages: Path

    @property
    def onnx(self) -> Path:
        return self.folder / "inference.onnx"


def layout(python: Path, side: int) -> LayoutModel:
    """`python`: of the pinned environment. `side`: of the square that the model is given. Raises Missing."""
    script, shown = HERE / "layout.py", _layout_pages(side)
    code = (script, ROOT / "locks" / "engine-layout.txt", *PINNED.locks)
    folder = CACHE / f"layout-{key(*(path.read_bytes() for path in code), shown.name.encode())}"
    with entry(folder) as part:
        if part is not None:
            where = (str(shown / "pages"), str(shown / "squares"), str(part))
            _script(python, script, "write the layout model", *where, beside=(environment.exporter(python),))
    return LayoutModel(folder, shown / "pages")


def _layout_pages(side: int) -> Path:
    """Some pages, and the squares that our own code makes of them, in a folder named after what they show."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        for name in ("pages", "squares"):
            (fresh / name).mkdir()
        for sample in pages.SAMPLES[:3]:
            pages.draw(sample).save(fresh / "pages" / sample.name)
        pages.poster().save(fresh / "pages" / "poster.png")
        for path in (fresh / "pages").iterdir():
            given = doclayout.feed(np.asarray(Image.open(path)), side)["image"][0]
            square = np.rint(given.transpose(1, 2, 0) * 255).astype(np.uint8)
            Image.fromarray(square).save(fresh / "squares" / path.name)
        parts = (path.read_bytes() for path in sorted(fresh.rglob("*.png")))
        folder = CACHE / f"layoutpages-{key(*parts)}"
        with entry(folder) as part:
            if part is not None:
                shutil.copytree(fresh, part)
    return folder


def _learned(python: Path, script: Path) -> Path:
    """The weights that a script trains to read the drawn pages. Those of the scripts and pages as they are now lie in
    `learned/`; whoever changes one of them trains anew, some minutes on a quiet core, and may put the file there."""
    shown = drawn()
    name = f"{script.stem}-{_key(script, shown.name)}"
    kept = HERE / "learned" / f"{name}.safetensors"
    if kept.exists():
        return kept
    with entry(CACHE / f"learned-{name}") as part:
        if part is not None:
            part.mkdir()
            told = f"train the tiny checkpoint ({script.name})"
            _script(python, script, told, "train", str(shown), str(part / LEARNED))
    return CACHE / f"learned-{name}" / LEARNED


def _written(name: str, python: Path, script: Path, learned: Path, *options: str) -> Path:
    """A whole checkpoint of learned weights, in seconds."""
    folder = CACHE / f"{name}-{_key(script, key(learned.read_bytes()))}"
    with entry(folder) as part:
        if part is not None:
            told = f"write the tiny checkpoint ({script.name})"
            _script(python, script, told, "write", str(learned), str(part), *options)
    return folder


def _key(script: Path, of: str) -> str:
    """What a script makes depends on its own text, that of its parts, its packages, and on what it is made of."""
    code = [
        script,
        HERE / "tiny.py",
        *sorted((HERE / "paddle_code").glob("*.py")),
        SHAPES / "hunyuan.py",
        *PINNED.locks,
    ]
    return key(*(path.read_bytes() for path in code), of.encode())


def _script(python: Path, script: Path, told: str, *arguments: str, beside: tuple[Path, ...] = ()) -> None:
    """Run a script of ours with the engine's Python. `told`: what it is there to do. `beside`: folders with more
    packages."""
    print(f"to {told}", flush=True)
    closed = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    closed |= {"HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    closed |= {"PYTHONPATH": os.pathsep.join(map(str, (python.parent.parent / NEWER, SHAPES, *beside)))}
    with tempfile.TemporaryDirectory() as home:
        command = [str(python), str(script), *arguments]
        environment.run(command, told, seconds=SCRIPT_SECONDS, environment=closed | {"HOME": home})


def _hand_out(folder: Path, python: Path) -> None:
    """The tiny checkpoint and the pages that it reads, for somebody who wants to try."""
    shown = drawn()
    with ExitStack() as undone:
        for name, source in (("model", tiny(python)), ("pages", shown)):
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
        if chosen.tests or chosen.tiny is not None or machine.look().card is None:
            print(f"{PINNED.title} is in {environment.linked()}")
        else:
            print(f"{CUDA.title} is in {environment.linked(CUDA)}")
        if chosen.tiny is not None:
            chosen.tiny.mkdir(parents=True, exist_ok=True)
            _hand_out(chosen.tiny.absolute(), environment.linked())
            print(f"try: ./build.sh run --engine vllm --model {chosen.tiny}/model")
            print(f"and, once it says `engine ready`, drop files of {chosen.tiny}/pages into inkstick-data/inbox")
    except Missing as missing:
        print(f"no real vLLM here: {missing}", file=sys.stderr)
        return NO_ENGINE
    except Failed as failed:
        sys.exit(str(failed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
