"""What a second reader saw of a page, and when its opinion makes the page doubtful."""

from __future__ import annotations

from dataclasses import dataclass

from inkstick.document import Kind, Line
from inkstick.engines.protocol import Reading


@dataclass(frozen=True, slots=True)
class Limits:
    """When a page is doubtful. Calibrated on drawn pages, see docs/second-reader.md and tests/bench/second_reader.py.

    `agreement`: below it. `sure`: from this score on a line of the second reader is believed against the first.
    `invented`, `dropped`: weight of text (see `comparable.weight`) that only one reader has. `clear`: a page whose
    lines score less on average is not judged (handwriting, bad copies). `edge`: thousandths of the page, at top and
    bottom, where lines that stand apart are taken for running headers and footers. `enough`: weight from which
    agreement says something.
    """

    agreement: float = 0.90
    sure: float = 0.80
    invented: int = 8
    dropped: int = 4
    clear: float = 0.75
    edge: int = 100
    enough: int = 40


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Seen:
    """A line as the second reader saw it, and the kind of block that it put it in."""

    line: Line
    kind: Kind = Kind.PARAGRAPH

    @property
    def score(self) -> float:
        return 1.0 if self.line.score is None else self.line.score


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the second reader saw, line by line in its reading order."""

    engine: str
    lines: tuple[Seen, ...]


def opinion_of(engine: str, reading: Reading) -> Opinion | None:
    """The lines of a reading; None for a reader that saw text but tells no places."""
    lines = tuple(Seen(line, block.kind) for block in reading.blocks for line in block.lines)
    if not lines and any(block.text.strip() for block in reading.blocks):
        return None
    return Opinion(engine, lines)
