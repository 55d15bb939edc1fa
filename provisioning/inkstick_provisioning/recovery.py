"""The recovery key of a data volume: a second way in, for whoever forgot the passphrase and kept the sheet of paper.

Two hundred random bits, in letters that cannot be taken for one another (no I, L, O, U). Pure; `luks.py` puts it into
a key slot of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
GROUPS, GROUP = 8, 5
_MEANT = str.maketrans("OIL", "011", " -\t_.")


def make(choice: Callable[[str], str] = secrets.choice) -> str:
    """As it is shown and as it opens the volume: eight groups of five, with hyphens."""
    return _grouped("".join(choice(LETTERS) for _ in range(GROUPS * GROUP)))


def read(typed: str) -> str:
    """What somebody typed as the key that was shown, whatever its case, spaces and hyphens; "" if it is no such key."""
    plain = typed.strip().upper().translate(_MEANT)
    return _grouped(plain) if len(plain) == GROUPS * GROUP and set(plain) <= set(LETTERS) else ""


def _grouped(plain: str) -> str:
    return "-".join(plain[at : at + GROUP] for at in range(0, len(plain), GROUP))
