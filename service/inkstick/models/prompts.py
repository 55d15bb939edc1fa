"""From a task to the words that are sent with the image, and what to expect back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from inkstick.document import Task
from inkstick.errors import Unsupported, UsageError
from inkstick.models.catalogue import Catalogue
from inkstick.models.manifest import Answer, Manifest, Offer, Pixels, Sampling

KEYS = "{keys}"
DEFAULT_LANGUAGE = "en"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked and how: `text` byte for byte, None for an engine that takes no words (its answer: lines).

    `layout`: the page is to be cut into regions first, each with the prompt of its class. `pixels`: the image's size.
    `enlarge_below`: images with a shorter side are enlarged first. `sampling`: of the first attempt.
    """

    task: Task
    text: str | None
    answer: Answer
    layout: bool = False
    pixels: Pixels | None = None
    enlarge_below: int | None = None
    sampling: Sampling | None = None


def prompt(
    manifest: Manifest, task: Task, catalogue: Catalogue, *, keys: Sequence[str] = (), to: str | None = None
) -> Prompt:
    """The prompt of a model for a task. Raises Unsupported, naming models that offer what this one does not, and
    UsageError for extract without keys."""
    offer = manifest.offers.get(task)
    if offer is None:
        raise _unsupported(manifest, f"the task {task}", catalogue.offering(task))
    return Prompt(
        task=task,
        text=_text(manifest, offer, catalogue, keys, to),
        answer=offer.answer,
        layout=offer.layout,
        pixels=_pixels(manifest, offer),
        enlarge_below=offer.enlarge_below,
        sampling=_sampling(manifest, offer),
    )


def body(manifest: Manifest, asked: Prompt, image_url: str, attempt: int = 1) -> dict[str, Any]:
    """The request to an OpenAI-compatible server that reads one image (a data URL) with a prompt: the manifest's name,
    chat shape and sampling; later attempts (from 2) take the retries, the last of which stays. Raises UsageError for a
    model that is not served."""
    if manifest.serve is None or manifest.chat is None or asked.sampling is None or asked.text is None:
        raise UsageError(f"{manifest.id} is not a model that a server offers.", hint="See `inkstick models list`.")
    parts = {
        "image": {"type": "image_url", "image_url": {"url": image_url}},
        "text": {"type": "text", "text": asked.text},
    }
    system = [] if manifest.chat.system is None else [{"role": "system", "content": manifest.chat.system}]
    user = {"role": "user", "content": [parts[name] for name in manifest.chat.order]}
    return {"model": manifest.serve.served, "messages": [*system, user], **_sampled(manifest, asked.sampling, attempt)}


def _sampled(manifest: Manifest, first: Sampling, attempt: int) -> dict[str, Any]:
    ladder = (first, *manifest.retries)
    chosen = replace(ladder[min(attempt, len(ladder)) - 1], skip_special_tokens=first.skip_special_tokens)
    return asdict(chosen) | ({} if manifest.seed is None else {"seed": manifest.seed})


def render_keys(keys: Sequence[str]) -> str:
    """The list of keys as HunyuanOCR's authors write it: ``['key1', 'key2']``."""
    return str(list(keys))


def _text(manifest: Manifest, offer: Offer, catalogue: Catalogue, keys: Sequence[str], to: str | None) -> str | None:
    if offer.to:
        language = to or DEFAULT_LANGUAGE
        if language not in offer.to:
            what = f"translation to {language!r}"
            raise _unsupported(manifest, what, catalogue.offering(offer.task, language))
        return manifest.prompts[offer.to[language]]
    if offer.prompt is None:
        return None
    text = manifest.prompts[offer.prompt]
    if offer.task is not Task.EXTRACT:
        return text
    if not keys:
        raise UsageError("The task extract needs keys.", hint="Say what to extract: --keys 'invoice number,date'.")
    return text.replace(KEYS, render_keys(keys))


def _unsupported(manifest: Manifest, what: str, others: tuple[Manifest, ...]) -> Unsupported:
    names = " or ".join(f"{other.title} (--model {other.id})" for other in others if other.id != manifest.id)
    hint = f"Use a model that does: {names}." if names else "No model that Inkstick knows offers it."
    return Unsupported(f"{manifest.title} does not offer {what}.", hint=hint)


def _pixels(manifest: Manifest, offer: Offer) -> Pixels | None:
    if manifest.pixels is None or offer.maximum_pixels is None:
        return manifest.pixels
    return Pixels(manifest.pixels.minimum, offer.maximum_pixels, manifest.pixels.factor)


def _sampling(manifest: Manifest, offer: Offer) -> Sampling | None:
    first = manifest.sampling
    if first is None or offer.skip_special_tokens is None:
        return first
    return replace(first, skip_special_tokens=offer.skip_special_tokens)
