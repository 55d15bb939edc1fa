"""The command line: inkstick ocr | serve | watch | run | engine | models | doctor."""

from __future__ import annotations


def main() -> int:
    """Entry point; the exit status is 0, 1 (some documents failed) or 2 (usage)."""
    return 2
