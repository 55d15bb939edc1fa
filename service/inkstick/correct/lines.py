"""The printed lines behind a block, after somebody changed its text: the same places, the new words.

A block's text is not its lines put together: hyphens are joined, table cells have tags between them. So the old text is
first laid along the lines, and each change then goes to the line that the changed letters stand in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rapidfuzz.distance import Levenshtein

from inkstick.document import Line

LONGEST = 20_000
"""Characters of a block beyond which its lines are given up rather than compared: its box remains."""


def follow(old: str, new: str, lines: Sequence[Line]) -> tuple[Line, ...]:
    """`lines`, which carried `old`, so that they carry `new`. A line that was changed has no score any more; one that
    has nothing left goes."""
    joined = "\n".join(line.text.replace("\n", " ") for line in lines)
    if not lines or max(len(old), len(new), len(joined)) > LONGEST:
        return ()
    places = _places(old, joined)
    text = joined
    for i1, i2, replacement in reversed(_changes(old, new)):
        start = places[i1]
        end = places[i2 - 1] + 1 if i2 > i1 else start
        text = text[:start] + _within(text[start:end], replacement) + text[end:]
    return tuple(_changed(line, own) for line, own in zip(lines, text.split("\n"), strict=True) if own.strip())


def _changed(line: Line, text: str) -> Line:
    return line if text == line.text else replace(line, text=" ".join(text.split()), score=None)


def _changes(old: str, new: str) -> list[tuple[int, int, str]]:
    """What became of ``old[i1:i2]``, from the first to the last."""
    return [
        (op.src_start, op.src_end, new[op.dest_start : op.dest_end])
        for op in Levenshtein.opcodes(old, new) if op.tag != "equal"
    ]  # fmt: skip


def _places(old: str, joined: str) -> list[int]:
    """Where in `joined` each character of `old` stands (for one that is not there: where it would), and its end."""
    places = [0] * (len(old) + 1)
    for op in Levenshtein.opcodes(old, joined):
        for n in range(op.src_start, op.src_end):
            places[n] = min(op.dest_start + n - op.src_start, max(op.dest_end - 1, op.dest_start))
    places[-1] = len(joined)
    return [min(place, len(joined)) for place in places]


def _within(covered: str, replacement: str) -> str:
    """`replacement` on one line, and the line ends that the changed stretch had."""
    flat = " ".join(replacement.split("\n")) if "\n" in replacement else replacement
    return flat + "\n" * covered.count("\n")
