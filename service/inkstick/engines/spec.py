"""What is particular to a model: its name on the server, prompts, sampling, limits. Plain data, from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from inkstick.document import Task
from inkstick.engines.protocol import Request
from inkstick.errors import Unsupported
from inkstick.models import catalogue, manifest
from inkstick.models.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Sampling:
    """As vLLM names them. `max_tokens` bounds the answer."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = -1
    repetition_penalty: float = 1.0
    max_tokens: int = 16384


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """`prompts`: by task; ``{keys}`` (extract) is filled in. `prompts_to`: translate, by language. `sampling` is for
    the first attempt, `retries` for the following ones (the last one stays). `system`: sent as it is, even empty.
    `order`: of "image" and "text" in the question.
    `priority`: the server schedules by priority (``--scheduling-policy priority``). `forms`: by task, the form of its
    answers (`models.manifest.Answer`). `marked`: tasks whose special tokens must not be dropped from the answer.
    `most_pixels`: by task, of an image, as the server is told (none: it takes what its own configuration says).
    `doubled`: by task, an image is sent twice as large where both its sides are shorter."""

    id: str
    served: str
    prompts: Mapping[Task, str]
    prompts_to: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    sampling: Sampling = Sampling()
    retries: tuple[Sampling, ...] = ()
    system: str | None = ""
    order: tuple[str, ...] = ("image", "text")
    seed: int | None = None
    priority: bool = False
    forms: Mapping[Task, str] = field(default_factory=lambda: MappingProxyType({}))
    marked: frozenset[Task] = frozenset()
    most_pixels: Mapping[Task, int] = field(default_factory=lambda: MappingProxyType({}))
    doubled: Mapping[Task, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def tasks(self) -> frozenset[Task]:
        return frozenset(self.prompts) | ({Task.TRANSLATE} if self.prompts_to else set())

    def prompt(self, request: Request) -> str:
        """The text sent with the image. Raises Unsupported, naming models that do, where this one has no prompt."""
        if request.prompt is not None:
            return request.prompt
        if request.task is Task.TRANSLATE:
            language = request.to or "en"
            text, what = self.prompts_to.get(language), f"translation to {language!r}"
        else:
            language, text, what = None, self.prompts.get(request.task), f"the task {request.task}"
        if text is None:
            hint = catalogue.read().instead(request.task, language)
            raise Unsupported(f"{self.id} does not offer {what}.", hint=hint)
        return text.replace("{keys}", str(list(request.keys))) if request.task is Task.EXTRACT else text

    def sampled(self, attempt: int) -> Sampling:
        """Sampling of the n-th attempt (from 1)."""
        ladder = (self.sampling, *self.retries)
        return ladder[min(attempt, len(ladder)) - 1]


def spec_of(model: Manifest, name: str | None = None) -> ModelSpec:
    """What a client of the served model needs, from its manifest. `name`: what pages say read them, instead of the
    model's id. Raises UsageError for a model that is not served."""
    values = model.spec()
    return ModelSpec(
        id=name or values["id"],
        served=values["served"],
        prompts=MappingProxyType(values["prompts"]),
        prompts_to=MappingProxyType(values["prompts_to"]),
        sampling=_sampling(values["sampling"]),
        retries=tuple(_sampling(later) for later in values["retries"]),
        system=values["system"],
        order=values["order"],
        seed=values["seed"],
        forms=MappingProxyType({task: str(offer.answer) for task, offer in model.offers.items()}),
        marked=frozenset(task for task, offer in model.offers.items() if offer.skip_special_tokens is False),
        most_pixels=MappingProxyType(
            {task: offer.maximum_pixels for task, offer in model.offers.items() if offer.maximum_pixels}
        ),
        doubled=MappingProxyType(
            {task: offer.double_below for task, offer in model.offers.items() if offer.double_below}
        ),
    )


def _sampling(given: manifest.Sampling) -> Sampling:
    return Sampling(given.temperature, given.top_p, given.top_k, given.repetition_penalty, given.max_tokens)


@cache
def default_spec() -> ModelSpec:
    """The catalogue's default model, HunyuanOCR 1.5."""
    return spec_of(catalogue.read().default)
