"""The PIN that pairs a browser: shown at the console, used once, short-lived, and slow to guess.

The file ``state/pin.json`` is shared by the service, which tries PINs, and the console (`inkstick pin`), which makes
and shows them; ``state/pin.lock`` keeps them apart. A PIN has eight digits, lives ten minutes of this boot, and is void
after five wrong tries; between wrong tries the wait doubles, to a minute. So whoever does not see the console has five
guesses in a hundred million for each PIN that a person asks for, however long they try.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inkstick.access import private
from inkstick.access.moment import Moment, moment_from
from inkstick.access.roles import Role, role_of

DIGITS = 8
LIFE_SECONDS = 600.0
TRIES = 5
LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Pin:
    """`role`: what the browser may do that is paired with it. `tries`: wrong ones that are left."""

    digits: str
    role: Role
    made: Moment
    tries: int = TRIES

    def left(self, now: Moment) -> float:
        """Seconds that it is still good for; 0 or less: void."""
        return LIFE_SECONDS - now.since(self.made) if self.tries > 0 else 0.0

    @property
    def spoken(self) -> str:
        """In two groups, for people."""
        return f"{self.digits[:4]} {self.digits[4:]}"


@dataclass(frozen=True, slots=True)
class Pairing:
    """The PIN, if there is one, and the wrong tries since the last good one or the last fresh PIN."""

    pin: Pin | None = None
    failures: int = 0
    failed: Moment | None = None

    def wait(self, now: Moment) -> float:
        """Seconds until a try is looked at again."""
        if self.failed is None:
            return 0.0
        return max(0.0, wait_after(self.failures) - now.since(self.failed))


def wait_after(failures: int) -> float:
    """1, 2, 4 … 60 seconds."""
    return min(LONGEST_WAIT, 2.0 ** min(failures - 1, 10)) if failures else 0.0


def fresh(now: Moment, role: Role, number: Callable[[int], int] = secrets.randbelow) -> Pin:
    return Pin(f"{number(10**DIGITS):0{DIGITS}d}", role, now)


def tried(pairing: Pairing, said: str, now: Moment) -> tuple[Pairing, Role | None]:
    """What a try leaves behind, and the role that it gained, if any. To be called when `wait` is over."""
    pin = pairing.pin
    digits = "".join(said.split())
    if pin and pin.left(now) > 0 and hmac.compare_digest(pin.digits.encode(), digits.encode()):
        return Pairing(), pin.role
    worse = replace(pin, tries=pin.tries - 1) if pin else None
    return Pairing(worse if worse and worse.left(now) > 0 else None, pairing.failures + 1, now), None


class PinFile:
    """The pairing of one data folder, on disk. Every method takes the lock and may block for a moment."""

    def __init__(self, state: Path) -> None:
        self._path, self._lock = state / "pin.json", state / "pin.lock"

    def new(self, role: Role, now: Moment) -> Pin:
        """Make a fresh PIN in place of the one before; wrong tries are forgiven: a person stands at the console."""
        pin = fresh(now, role)
        with private.locked(self._lock):
            private.save(self._path, _as_json(Pairing(pin)))
        return pin

    def show(self, now: Moment) -> Pin | None:
        """The PIN that would be taken now."""
        with private.locked(self._lock):
            pin = _from_json(private.load(self._path)).pin
        return pin if pin and pin.left(now) > 0 else None

    def attempt(self, said: str, now: Moment) -> Role | float | None:
        """Try a PIN: the role it gives, None if it is wrong, or the seconds to wait if it was not even looked at.

        What the try leaves behind is on the disk before the answer is given."""
        with private.locked(self._lock):
            pairing = _from_json(private.load(self._path))
            wait = pairing.wait(now)
            if wait > 0:
                return wait
            after, role = tried(pairing, said, now)
            private.save(self._path, _as_json(after))
        return role


def _as_json(pairing: Pairing) -> dict[str, Any]:
    pin = pairing.pin
    return {
        "pin": pin and {"digits": pin.digits, "role": pin.role.word, "made": pin.made.as_json(), "tries": pin.tries},
        "failures": pairing.failures,
        "failed": pairing.failed and pairing.failed.as_json(),
    }


def _from_json(value: Any) -> Pairing:
    """A file that cannot be understood holds no PIN."""
    try:
        pin, failed = value["pin"], value["failed"]
        return Pairing(
            pin and Pin(str(pin["digits"]), role_of(pin["role"]), moment_from(pin["made"]), int(pin["tries"])),
            int(value["failures"]),
            failed and moment_from(failed),
        )
    except (TypeError, KeyError, ValueError):
        return Pairing()
