"""Which engines there are, and which of them read: the one place where an engine is named."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from inkstick.config import Settings
from inkstick.engines import regions, transformers
from inkstick.engines.doclayout import DocLayout
from inkstick.engines.protocol import Engine
from inkstick.engines.proved import ProvedEngine
from inkstick.engines.rapidocr import RapidOcrEngine
from inkstick.engines.spec import ModelSpec, spec_of
from inkstick.engines.supervised import SupervisedEngine
from inkstick.errors import UsageError
from inkstick.models import catalogue
from inkstick.profile import EngineChoice
from inkstick.reading.reader import Engines
from inkstick.supervise import python, serving, statefile, weights
from inkstick.supervise.choice import hindrance, named, supervises
from inkstick.supervise.isolation import isolation

log = logging.getLogger("inkstick.engine")


def engines_for(settings: Settings, *, beside: bool = True) -> Engines:
    """The engines that the settings ask for; none of them is started yet. `beside`: `inkstick engine` runs beside us,
    or soon will; else vllm is taken only where it runs already. Raises UsageError."""
    cpu = RapidOcrEngine(settings.workers, deadline_seconds=settings.engine_seconds)
    if settings.engine is EngineChoice.RAPIDOCR:
        return Engines(cpu)
    if settings.engine is EngineChoice.TRANSFORMERS:
        return Engines(_plain(settings), fallback=cpu)
    if settings.engine_url is not None:
        return Engines(_somebody_elses(settings, settings.engine_url), fallback=cpu)
    if supervises(settings) and (beside or runs(settings)):
        served = weights.chosen(settings)
        client = SupervisedEngine(settings.folder, served.spec, deadline_seconds=settings.engine_seconds)
        return Engines(_cut_up(client, served), fallback=cpu)
    asleep = UsageError(
        "The engine does not run.",
        hint="Start it first, with the same --data: inkstick engine; or give a server's address by --engine-url.",
    )
    if settings.engine is EngineChoice.AUTO:
        if named(settings):
            why = hindrance(settings) or asleep
            log.warning("the CPU engine reads, not the model %s. %s %s", settings.model, why.message, why.hint)
        return Engines(cpu)
    raise asleep


def runs(settings: Settings) -> bool:
    """Whether an engine process looks after this data folder now."""
    state = statefile.read(settings.folder.engine / statefile.STATE)
    return state is not None and state.state is not statefile.Stage.STOPPED


def _plain(settings: Settings) -> Engine:
    """The transformers engine. Raises UsageError where it or its model is not here."""
    served, (interpreter, newer) = weights.chosen(settings), python.require_transformers(settings)
    kept = settings.engine_cache is not None or settings.folder.state.is_dir()
    cache = settings.engine_cache_folder if kept else Path.home() / ".cache" / "inkstick" / "worker"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    bwrap = isolation()
    environment = serving.environment(os.environ, cache) | ({"PYTHONPATH": str(newer)} if newer else {})

    def command(pixels: int) -> list[str]:
        return serving.script(interpreter, transformers.WORKER, (str(served.folder), str(pixels)), bwrap)

    start = transformers.Start(command, environment)
    plain = transformers.TransformersEngine(start, served.spec, deadline_seconds=settings.engine_seconds)
    return _cut_up(plain, served)


def _cut_up(engine: Engine, served: weights.Weights) -> Engine:
    """The engine behind its model's layout stage, if it has one. A folder given by hand may lack the layout model: its
    pages are read whole, and the log says so."""
    cutting = regions.cutting_of(served.manifest)
    if cutting is None:
        return engine
    path = served.folder / cutting.layout.model
    if not path.is_file():
        log.warning("%s is not there: pages are read whole, which is worse for pages with several parts", path)
        return engine
    return regions.RegionEngine(engine, cutting, lambda: DocLayout(path, cutting.layout))


def _somebody_elses(settings: Settings, url: str) -> Engine:
    return ProvedEngine(
        url,
        settings.model if settings.model not in _served() else None,
        spec=_served().get(settings.model or ""),
        deadline_seconds=settings.engine_seconds,
        api_key=os.environ.get("INKSTICK_ENGINE_KEY"),
    )


def _served() -> dict[str, ModelSpec]:
    """What is known of models that a server offers, by id."""
    return {id: spec_of(manifest) for id, manifest in catalogue.read().manifests.items() if manifest.serve}
