"""What the screen (tty1) shows: who this is, what is going on, and that nothing is kept. Redrawn when it changes."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

UNITS = ("inkstick-serve.service", "inkstick-watch.service")
WORDS = {"active": "working", "activating": "starting", "failed": "stopped by a fault; it is started again"}
SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """One unit, as systemd tells it."""

    name: str
    state: str
    text: str


def parse(shown: str) -> list[Part]:
    """From `systemctl show`: blocks of KEY=VALUE, one per unit."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in shown.split("\n\n")]
    return [Part(b.get("Id", "?"), b.get("ActiveState", "unknown"), b.get("StatusText", "")) for b in blocks if b]


def screen(parts: list[Part]) -> str:
    """The whole screen in at most 12 lines of 78 letters."""
    lines = ["", "  Inkstick: documents in, text out, no network", ""]
    for part in parts:
        name = part.name.removeprefix("inkstick-").removesuffix(".service")
        text = part.text or WORDS.get(part.state, part.state)
        lines.append(f"  {name:<7}{text}"[:78])
    ready = bool(parts) and all(part.state == "active" for part in parts)
    lines += ["", "  READY" if ready else "  Starting. This takes a minute or two.", ""]
    lines += [
        "  WARNING: documents and results are in memory only. They are LOST",
        "  when this computer is switched off.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    shown = ""
    command = ["systemctl", "show", "--property=Id,ActiveState,StatusText", *UNITS]
    while True:
        now = screen(parse(subprocess.run(command, capture_output=True, text=True).stdout))
        if now != shown:
            sys.stdout.write(f"\x1b[2J\x1b[H{now}\n")
            sys.stdout.flush()
            shown = now
        time.sleep(SECONDS)


if __name__ == "__main__":
    sys.exit(main())
