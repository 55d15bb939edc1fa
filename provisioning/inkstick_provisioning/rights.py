"""Work done by a child that is another user and has no rights of ours."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from inkstick.errors import InkstickError

Send = Callable[[dict[str, Any]], None]


def as_user(user: int, work: Callable[[Send], None]) -> Iterator[dict[str, Any]]:
    """Run `work` in a child that is `user` and nobody else; what it sends, one by one, then {"failed": CODE} if it
    failed. user 0: as it is (tests)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            if user:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            with os.fdopen(writing, "w", encoding="utf-8") as out:
                _work(work, lambda message: _send(out, message))
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):  # else it was killed in the middle of this one
                yield json.loads(line)
    if os.waitpid(child, 0)[1] != 0:
        yield {"failed": "stick_gone"}  # it broke in the middle of a word: a broken stick can do that


def _send(out: Any, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


def _work(work: Callable[[Send], None], send: Send) -> None:
    try:
        work(send)
    except InkstickError as error:
        send({"failed": error.code})
    except OSError as error:
        sys.stderr.write(f"{error.strerror}\n")  # (not which file: that may be a document's name)
        send({"failed": "unreadable"})
