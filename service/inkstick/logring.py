"""The last lines of our own log, kept in memory for the System page: without names, paths or text of documents.

A line is the sentence as the code has it; of the values in it only numbers, document ids and error codes are shown,
everything else is ``…``. Of an exception only its type and the places in the code it went through are kept.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from inkstick.errors import BLOCKED_CODES, DOCUMENT_CODES, InkstickError

LINES = 500
_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")
_WORDS = frozenset((*DOCUMENT_CODES, *BLOCKED_CODES, "serve", "watch", "engine", "GET", "POST", "PUT", "DELETE"))


@dataclass(frozen=True, slots=True)
class Line:
    """`at`: wall time in ISO form, for people. `level`: of logging."""

    at: str
    level: str
    text: str


class LogRing(logging.Handler):
    """Keeps the last `LINES` records of the loggers that it is added to."""

    def __init__(self, lines: int = LINES) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[Line] = deque(maxlen=lines)

    def emit(self, record: logging.LogRecord) -> None:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds")
        self._lines.append(Line(at, record.levelname.lower(), scrubbed(record)))

    def lines(self) -> tuple[Line, ...]:
        return tuple(self._lines)


def scrubbed(record: logging.LogRecord) -> str:
    """The record's sentence without anything that may come from a document."""
    values = record.args if isinstance(record.args, tuple) else ()
    text = str(record.msg)
    shown = iter(map(_shown, values))
    text = re.sub(r"%[-0-9.]*[sdifr]", lambda _: next(shown, "…"), text)
    if record.exc_info and record.exc_info[1] is not None:
        text += f" [{_places(record.exc_info[1])}]"
    return text


def _shown(value: object) -> str:
    if isinstance(value, bool | int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, InkstickError):
        return value.code
    if isinstance(value, BaseException):
        return type(value).__name__
    return value if isinstance(value, str) and (value in _WORDS or _ID.fullmatch(value)) else "…"


def _places(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {places}" if places else type(error).__name__
