"""`inkstick pin new|show` and `inkstick audit verify`: what a person does at the machine itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inkstick.access import moment
from inkstick.access.audit import Audit
from inkstick.access.keys import Key
from inkstick.access.pin import PinFile
from inkstick.access.roles import Role
from inkstick.clock import Clock
from inkstick.config import DataFolder
from inkstick.errors import UsageError
from inkstick.store.ballast import BYTES, Ballast


def new_pin(state: Path, role: Role, clock: Clock) -> None:
    """Make a fresh PIN; the service takes it at once, whether it runs already or not. Also on a disk that somebody has
    filled to the last byte: whoever is let in by it can make room."""
    _check(state)
    Ballast(DataFolder(state.parent).ballast, BYTES).spend()
    PinFile(state).new(role, moment.now(clock))


def shown(state: Path, clock: Clock, *, as_json: bool) -> tuple[str, bool]:
    """The PIN that is good now, the page's address and the key's fingerprint; is there a PIN?"""
    _check(state)
    now = moment.now(clock)
    pin = PinFile(state).show(now)
    facts: dict[str, Any] = {
        "pin": pin.digits if pin else None,
        "role": pin.role.word if pin else None,
        "seconds": int(pin.left(now)) if pin else 0,
        "address": _address(state),
        "fingerprint": Key(state / "tls").fingerprint if Key(state / "tls").certificate.exists() else None,
    }
    return (json.dumps(facts) if as_json else _words(facts, pin.spoken if pin else "")), pin is not None


def verified(state: Path, *, as_json: bool) -> tuple[str, bool]:
    """Is the audit log whole? In words, and as a truth value."""
    _check(state)
    count, problem = Audit(state).verify()
    if as_json:
        return json.dumps({"entries": count, "problem": problem}), problem is None
    return (f"{count} entries, all of them fit." if problem is None else f"Not whole: {problem}."), problem is None


def _words(facts: dict[str, Any], spoken: str) -> str:
    lines = [
        f"PIN           {spoken}  ({facts['role']}, good once, for {facts['seconds']} more seconds)"
        if spoken
        else "PIN           none is good now; make one: inkstick pin new"
    ]
    if facts["address"]:
        lines.append(f"address       {facts['address']}")
    if facts["fingerprint"]:
        digits = facts["fingerprint"]
        lines.append(f"fingerprint   {digits[:48]}\n              {digits[48:]}")
    return "\n".join(lines)


def _address(state: Path) -> str | None:
    try:
        return (state / "address").read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def _check(state: Path) -> None:
    if not state.is_dir():
        raise UsageError(f"There is no data folder at {state.parent}.", hint="Give it with --data DIR.")
