"""What somebody typed whose keyboard is not an American one, for which the kernel takes every keyboard. Pure.

Nothing appears while a passphrase is typed, and it may be chosen in a browser and typed at the console at the next
start, or the other way round: the same keys are other letters then. So what was typed is read in these ways too.
"""

from __future__ import annotations

from collections.abc import Iterator

_AMERICAN = "`1234567890-=qwertyuiop[]\\asdfghjkl;'zxcvbnm,./" + '~!@#$%^&*()_+QWERTYUIOP{}|ASDFGHJKL:"ZXCVBNM<>?'
_OTHERS = (
    "^1234567890ß´qwertzuiopü+#asdfghjklöäyxcvbnm,.-" + "°!\"§$%&/()=?`QWERTZUIOPÜ*'ASDFGHJKLÖÄYXCVBNM;:_",
    "²&é\"'(-è_çà)=azertyuiop^$*qsdfghjklmùwxcvbn,;:!" + "~1234567890°+AZERTYUIOP¨£µQSDFGHJKLM%WXCVBN?./§",
)
"""The letters of the same keys, without and with Shift: German, French."""


def readings(typed: str) -> Iterator[str]:
    """What else it may be, each once: first what the keys say that were pressed at the console, then what the console
    would have made of the letters that a browser sent."""
    seen = {typed}
    for source, target in [(_AMERICAN, other) for other in _OTHERS] + [(other, _AMERICAN) for other in _OTHERS]:
        meant = typed.translate(str.maketrans(source, target))
        if meant not in seen:
            seen.add(meant)
            yield meant
