"""Which engines there are, and which of them read: the one place where an engine is named."""

from __future__ import annotations

import os

from inkstick.config import Settings
from inkstick.engines.openai import OpenAiEngine
from inkstick.engines.rapidocr import RapidOcrEngine
from inkstick.errors import UsageError
from inkstick.profile import EngineChoice
from inkstick.reading.reader import Engines


def engines_for(settings: Settings) -> Engines:
    """The engines that the settings ask for; none of them is started yet. Raises UsageError."""
    cpu = RapidOcrEngine(settings.workers, deadline_seconds=settings.engine_seconds)
    if settings.engine is EngineChoice.RAPIDOCR:
        return Engines(cpu)
    if settings.engine_url is not None:
        client = OpenAiEngine(
            settings.engine_url,
            settings.model,
            deadline_seconds=settings.engine_seconds,
            api_key=os.environ.get("INKSTICK_ENGINE_KEY"),
        )
        return Engines(client, fallback=cpu)
    if settings.engine is EngineChoice.AUTO:
        return Engines(cpu)
    raise UsageError(
        f"The engine {settings.engine} cannot be started by Inkstick yet.",
        hint="Give the address of a running server with --engine-url, or choose --engine rapidocr.",
    )
