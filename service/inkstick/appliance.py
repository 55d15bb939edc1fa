"""What the machine around the service offers to do: lock the data volume, switch the power off.

The service itself may do neither. Where provisioning runs, it listens on a unix socket (setting `appliance`, else
``state/appliance.sock``) and answers a line of JSON with one: ``{"ask": "offers"}`` with ``{"offers": ["lock",
"power-off"]}``, ``{"do": "lock"}`` with ``{"done": true}`` or ``{"error": "a sentence"}``. Without the socket nothing
is offered, and the page shows no buttons.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from inkstick.errors import Unavailable, UsageError

ACTIONS = ("lock", "power-off")
SECONDS = 3.0
_MOST = 64 << 10


async def offers(socket: Path) -> tuple[str, ...]:
    """What can be asked for now, of `ACTIONS`; nothing where nobody answers in time."""
    if not socket.is_socket():
        return ()
    try:
        answer = await _ask(socket, {"ask": "offers"})
    except Unavailable:
        return ()
    offered = answer.get("offers")
    return tuple(action for action in ACTIONS if isinstance(offered, list) and action in offered)


async def do(socket: Path, action: str) -> None:
    """Have it done. Raises UsageError if it is not offered, Unavailable if it failed."""
    if action not in await offers(socket):
        raise UsageError("This machine does not offer that.", hint="Use its own switch.", code="not_found")
    answer = await _ask(socket, {"do": action})
    if not answer.get("done"):
        raise Unavailable(str(answer.get("error") or "The machine did not do it."), hint="Try it at the console.")


async def _ask(socket: Path, question: dict[str, str]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=_MOST)
            try:
                writer.write(json.dumps(question).encode() + b"\n")
                await writer.drain()
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        raise Unavailable("The machine does not answer.", hint="Try it at the console.") from error
    return answer if isinstance(answer, dict) else {}
