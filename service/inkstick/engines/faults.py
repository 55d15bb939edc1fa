"""How a remote engine can be unavailable, more finely than `EngineDown` says. None of these counts as an attempt."""

from __future__ import annotations

from inkstick.errors import EngineDown


class EngineBusy(EngineDown):
    """Alive but full (HTTP 429 or 503): send less, and this page again."""

    default_message = "The engine is busy."


class EngineLost(EngineDown):
    """The connection broke after the page was handed over: the engine, or this page, may be the cause."""

    default_message = "The connection to the engine broke while it read a page."
