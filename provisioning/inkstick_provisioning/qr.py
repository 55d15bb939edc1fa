"""QR codes as text and as modules. The encoder is segno (BSD, pure Python, 75 kB)."""

from __future__ import annotations

from functools import lru_cache

import segno

QUIET = 2
"""Light modules around the code. Four are the rule; two are enough on a screen, and the console has few rows."""


def modules(text: str, quiet: int = QUIET) -> list[list[bool]]:
    """Rows of modules, True where dark, the quiet zone included."""
    code = segno.make_qr(text, error="m")
    return [[bool(cell) for cell in row] for row in code.matrix_iter(scale=1, border=quiet)]


def half_blocks(text: str) -> list[str]:
    """For a dark screen: two rows of modules to a line of text, light ones as blocks of the text's own colour."""
    return list(_half_blocks(text))


@lru_cache(maxsize=8)
def _half_blocks(text: str) -> tuple[str, ...]:
    """Kept: the screen is put together twice a second, and a code takes longer than all the rest of it."""
    rows = modules(text)
    if len(rows) % 2:
        rows.append([True] * len(rows[0]))  # dark, like the screen beside it
    letters = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
    pairs = (rows[at : at + 2] for at in range(0, len(rows), 2))
    return tuple("".join(letters[pair] for pair in zip(*two, strict=True)) for two in pairs)
