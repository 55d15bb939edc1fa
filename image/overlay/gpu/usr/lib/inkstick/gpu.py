"""NVIDIA card at start: load the driver, make the device files, say in words what came of it.

    gpu.py                    as root: /run/inkstick/gpu.json {state, sentence, detail}; with a card also gpu.env
    gpu.py --prepare STATE    as the service's user: folders and accepted licences that the engine looks for

Whatever happens the exit status is 0: a computer without a card is no failure, its processor reads.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RUN = Path("/run/inkstick")
SHARE = Path("/usr/share/inkstick")
MODELS = Path("/opt/inkstick/models")
SECONDS = float(os.environ.get("INKSTICK_GPU_SECONDS", "60"))  # for each command: a card may hang for ever
MODULES = ("nvidia-current", "nvidia")  # Debian's name, the installer's name
CARDS = Path("/proc/driver/nvidia/gpus")
CONTROL = "255"  # nvidia-modprobe's number of /dev/nvidiactl, without which no program finds a card
SENTENCES = {
    "ready": "The graphics card's driver runs.",
    "none": "There is no NVIDIA graphics card that this driver knows. The processor reads the pages.",
    "locked": "Secure Boot locks the graphics card: the key of this stick is not enrolled. Start again and choose"
    " 'Secure Boot: enrol the key' in the boot menu.",
    "failed": "The graphics card's driver did not start. The processor reads the pages.",
}


@dataclass(frozen=True)
class Found:
    """`state`: ready none locked failed. `detail`: the tool's own words."""

    state: str
    sentence: str
    detail: str


def verdict(status: int, said: str) -> Found:
    """From what modprobe says."""
    words = said.strip()
    state = "ready" if status == 0 else "failed"
    if status and "Key was rejected" in words:
        state = "locked"
    elif status and "No such device" in words:
        state = "none"
    return Found(state, SENTENCES[state], words[-500:])


def environment(model: str) -> str:
    """Of the service and the engine, where a card answers."""
    return f"INKSTICK_MODELS={MODELS}\n" + (f"INKSTICK_MODEL={model}\n" if model else "")


def load() -> Found:
    """The first module that this image has."""
    for module in MODULES:
        if _run("modinfo", module)[0] == 0:
            status, said = _run("modprobe", "--verbose", module)
            if status == 0:
                _run("modprobe", f"{module}-uvm")
                status, said = files(CARDS)
            return verdict(status, said)
    return verdict(1, "This image has no NVIDIA driver.")


def files(cards: Path) -> tuple[int, str]:
    """Make /dev/nvidiactl, /dev/nvidia0 and on, and /dev/nvidia-uvm; status and words of what went wrong. Here nobody
    else makes them. Two calls: with -u nvidia-modprobe makes the files of nvidia-uvm alone, whatever -c says."""
    numbers = [word for number in (CONTROL, *minors(cards)) for word in ("-c", number)]
    for wanted in (numbers, ["-c", "0", "-u"]):
        status, said = _run("nvidia-modprobe", *wanted)
        if status:
            return status, said or f"nvidia-modprobe {' '.join(wanted)} failed (status {status})"
    return 0, ""


def minors(cards: Path) -> list[str]:
    """The numbers of the cards' device files, as the driver tells them; where it tells none, the first."""
    told = [path.read_text(encoding="ascii", errors="replace") for path in sorted(cards.glob("*/information"))]
    found = [match[1] for text in told if (match := re.search(r"(?m)^Device Minor:\s*(\d+)\s*$", text))]
    return found or ["0"]


def prepare(state: Path, share: Path = SHARE) -> None:
    """The builder's acceptance of a model's licence counts until somebody here decides otherwise."""
    for folder in (state, state / "engine", state / "engine/cache"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    licences = state / "licences"
    licences.mkdir(mode=0o700, exist_ok=True)
    for given in share.glob("licences/*.json"):
        if not (licences / given.name).exists():
            shutil.copyfile(given, licences / given.name)


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--prepare"]:
        prepare(Path(arguments[1]))
        return 0
    found = load()
    _write(RUN / "gpu.json", json.dumps(asdict(found)) + "\n")
    if found.state == "ready":
        model = SHARE / "model"
        _write(RUN / "gpu.env", environment(model.read_text(encoding="ascii").strip() if model.exists() else ""))
    else:
        (RUN / "gpu.env").unlink(missing_ok=True)
    sys.stdout.write(f"{found.sentence} ({found.detail})\n")
    return 0


def _write(path: Path, text: str) -> None:
    """The file changes whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.chmod(0o644)
    part.rename(path)


def _run(*command: str) -> tuple[int, str]:
    """Status and words. What hangs in the driver outlives SIGKILL: it is not waited for, as subprocess.run would."""
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        return 1, str(error)
    try:
        said, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        process.kill()
        return 1, str(error)
    return process.returncode, said


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
