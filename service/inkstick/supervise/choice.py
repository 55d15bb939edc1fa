"""Whether there is an engine to be supervised."""

from __future__ import annotations

from inkstick.config import Settings
from inkstick.errors import UsageError
from inkstick.models import catalogue
from inkstick.profile import EngineChoice
from inkstick.supervise import machine, python, weights


def supervises(settings: Settings) -> bool:
    """Whether `inkstick engine` is to run beside the service: with engine vllm always (UsageError where it cannot),
    with auto where vLLM and the model are here, and a GPU or the model's name was given."""
    if settings.engine_url is not None:
        return False
    if settings.engine is EngineChoice.VLLM:
        python.require(settings)
        weights.chosen(settings)
        return True
    if settings.engine is not EngineChoice.AUTO or python.find(settings) is None:
        return False
    if settings.model is None and machine.look().card is None:
        return False  # a large model on a CPU takes minutes for a page: only when it is asked for
    try:
        weights.chosen(settings)
    except UsageError:
        return False
    return True


def named(settings: Settings) -> bool:
    """Whether engine auto was given a model, other than what the CPU engine reads with anyway."""
    if settings.model is None or settings.engine_url is not None or settings.engine is not EngineChoice.AUTO:
        return False
    known = None if weights.is_folder(settings.model) else catalogue.read().manifests.get(settings.model)
    return known is None or not known.embedded


def hindrance(settings: Settings) -> UsageError | None:
    """Why the model that was named does not read although engine auto was to take the best: it is not known, not here,
    its licence is not accepted, or there is no vLLM. None where nothing hinders it, or none was named."""
    if not named(settings):
        return None
    try:
        weights.chosen(settings)
        python.require(settings)
    except UsageError as error:
        return error
    return None
