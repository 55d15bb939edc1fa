"""A model's manifest: everything that is particular to a model, read from one TOML file and checked strictly.

Pure apart from `load`. models-manifest/README.md explains the keys. A manifest that is not right raises `UsageError`
(code ``manifest``) with the file and the key in its message; an unknown key is not right.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from inkstick.document import Task
from inkstick.errors import UsageError
from inkstick.models.table import Table

SCHEMA = 1
ENGINES = ("vllm", "transformers", "rapidocr")
CARD_MARGIN = 0.93
"""Cards report less than their name says: those of 24 GB 22.5 to 24 GiB."""

_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = (".safetensors", ".onnx")


class Status(StrEnum):
    """How a model is meant. At most one manifest of a catalogue is the default."""

    DEFAULT = "default"
    OFFERED = "offered"
    EMBEDDED = "embedded"
    EXAMPLE = "example, not run"


class Role(StrEnum):
    """What a file is for; weights and code must have a known hash."""

    WEIGHTS = "weights"
    CONFIG = "config"
    TOKENIZER = "tokenizer"
    CODE = "code"
    LICENCE = "licence"


class Answer(StrEnum):
    """The form in which a model answers: which parser reads it.

    chart: Mermaid for flowcharts, else Markdown. boxes_json: a JSON array of ``{"box": [x0, y0, x1, y1], "text"}``.
    boxes_hunyuan: ``text(x1,y1),(x2,y2)``. boxes_loc: text followed by eight ``<|LOC_n|>`` of a quadrangle.
    otsl: PaddleOCR-VL's table tokens. fields_json: a JSON object. lines: an engine's own lines, no text to parse.
    """

    MARKDOWN = "markdown"
    TEXT = "text"
    HTML = "html"
    LATEX = "latex"
    CHART = "chart"
    BOXES_JSON = "boxes_json"
    BOXES_HUNYUAN = "boxes_hunyuan"
    BOXES_LOC = "boxes_loc"
    OTSL = "otsl"
    FIELDS_JSON = "fields_json"
    LINES = "lines"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file. `path`: in the repository. `to`: below the model's folder, with ``/``. `size` in bytes and `sha256`:
    None where they are not known. `revision`: where it differs from the repository's. `extra`: fetched only with it."""

    path: str
    to: str
    role: Role
    size: int | None = None
    sha256: str | None = None
    revision: str | None = None
    extra: str | None = None

    @property
    def pinned(self) -> bool:
        return self.sha256 is not None


@dataclass(frozen=True, slots=True)
class Repository:
    """Where files come from: `name` on a hub at `endpoint`, or an installed Python `package` (then nothing is fetched).
    `mirrors`: the repository's name on other hubs, for ``--mirror``."""

    revision: str
    purpose: str
    files: tuple[ModelFile, ...]
    name: str | None = None
    package: str | None = None
    endpoint: str | None = None
    mirrors: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Licence:
    """`text`: the file below the model's folder that holds it; None where it came with the package.
    `excluded`: territories (EU, or ISO country codes) in which the model and its output may not be used."""

    name: str
    reference: str
    accept: bool
    text: str | None = None
    conditions: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """`driver`: NVIDIA driver branch, at least. `capability`: compute capability, at least. `native`: capabilities for
    which the pinned engine carries machine code; other cards need `driver_otherwise`. `memory_gb`: the smallest card.
    """

    driver: int
    capability: tuple[int, int]
    native: tuple[tuple[int, int], ...]
    driver_otherwise: int
    memory_gb: int

    def lacks(self, driver: int, capability: tuple[int, int], gib: float) -> str | None:
        """Why a card with this driver branch, compute capability and memory will not do; None if it will."""
        name = ".".join(map(str, capability))
        if capability < self.capability:
            return f"The card has compute capability {name}, but {'.'.join(map(str, self.capability))} is needed."
        needed = self.driver if capability in self.native else self.driver_otherwise
        if driver < needed:
            return f"The NVIDIA driver is {driver}, but a card of compute capability {name} needs {needed} or later."
        if gib < self.memory_gb * CARD_MARGIN:
            return f"The card has {gib:.1f} GiB of memory, but {self.memory_gb} GB is needed."
        return None


@dataclass(frozen=True, slots=True)
class MemoryClass:
    """What a card of at least `gb` GB is given. `in_flight`: pages at once. `basis`: reported, measured or planned."""

    gb: int
    in_flight: int
    arguments: tuple[str, ...]
    basis: str


@dataclass(frozen=True, slots=True)
class Serve:
    """How `runtime` serves the model: `served` is its name in requests; `arguments` go to every card."""

    runtime: str
    served: str
    arguments: tuple[str, ...]
    memory: tuple[MemoryClass, ...]

    def for_memory(self, gib: float) -> MemoryClass | None:
        """The largest class that fits a card with `gib` GiB; None if the card is too small for all."""
        fitting = [entry for entry in self.memory if entry.gb * CARD_MARGIN <= gib]
        return max(fitting, key=lambda entry: entry.gb, default=None)


@dataclass(frozen=True, slots=True)
class Chat:
    """The shape of a request: `system` (None: no such message; often the empty text must be sent) and the order of the
    user's parts."""

    system: str | None
    order: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """As vLLM names them. `max_tokens` bounds the answer."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    max_tokens: int
    skip_special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class Pixels:
    """The pixel count of an image that the model takes; sides are rounded to multiples of `factor` pixels."""

    minimum: int
    maximum: int
    factor: int


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Places in answers run from 0 to `scale` over the page, or over the image that was sent (`of`)."""

    scale: int
    of: str


@dataclass(frozen=True, slots=True)
class Repetition:
    """When a growing answer counts as going round in circles: from `start` characters on, every `every`, look at the
    last `window`: a unit of at most `largest_unit` characters `repeats` times at the end. Afterwards, in answers of at
    least `clean_start` characters, an end repeated `clean_repeats` times is cut down to one."""

    start: int
    every: int
    window: int
    largest_unit: int
    repeats: int
    clean_start: int
    clean_repeats: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A task that the model offers. `prompt` and `to` (by language, for translate) name entries of the prompts.
    `layout`: the page must be cut into regions first. `maximum_pixels`: told to the server with each request.
    `double_below`: an image whose sides are both shorter is sent twice as large. `skip_special_tokens` overrides the
    model's own."""

    task: Task
    answer: Answer
    prompt: str | None = None
    to: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    layout: bool = False
    maximum_pixels: int | None = None
    double_below: int | None = None
    skip_special_tokens: bool | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The stage that cuts a page into regions: an ONNX `model` that takes `side`×`side` pixels and returns rows of
    `columns`. Each class is read with its prompt in `prompts`, else with `otherwise`, or not at all (`skip`)."""

    repository: str
    model: str
    side: int
    columns: tuple[str, ...]
    threshold: float
    classes: tuple[str, ...]
    otherwise: str
    skip: tuple[str, ...]
    prompts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole manifest. Sections that a model does not need (a CPU engine is not served) are None."""

    id: str
    title: str
    family: str
    version: str
    status: Status
    engines: tuple[str, ...]
    evidence: str
    repositories: tuple[Repository, ...]
    licence: Licence
    offers: Mapping[Task, Offer]
    prompts: Mapping[str, str]
    hardware: Hardware | None = None
    serve: Serve | None = None
    chat: Chat | None = None
    sampling: Sampling | None = None
    retries: tuple[Sampling, ...] = ()
    seed: int | None = None
    pixels: Pixels | None = None
    coordinates: Coordinates | None = None
    repetition: Repetition | None = None
    layout: Layout | None = None

    @property
    def embedded(self) -> bool:
        """Its files came with installed packages: nothing to fetch."""
        return all(repository.package for repository in self.repositories)

    @property
    def trusts_code(self) -> bool:
        """Whether the engine is told to run program code that lies beside the weights."""
        return self.serve is not None and "--trust-remote-code" in self.serve.arguments

    def files(self, extras: tuple[str, ...] = ()) -> tuple[ModelFile, ...]:
        """Every file that the model needs, and those of the named extras."""
        return tuple(
            entry
            for repository in self.repositories
            for entry in repository.files
            if entry.extra is None or entry.extra in extras
        )

    def all_files(self) -> tuple[ModelFile, ...]:
        return self.files(self.extras)

    @property
    def extras(self) -> tuple[str, ...]:
        named = (entry.extra for repository in self.repositories for entry in repository.files)
        return tuple(dict.fromkeys(name for name in named if name))

    def bytes(self, extras: tuple[str, ...] = ()) -> int:
        """The size of the files, as far as it is known."""
        return sum(entry.size or 0 for entry in self.files(extras))

    def spec(self) -> dict[str, Any]:
        """What a client of the served model needs, under the names of the client's own model specification: id, served,
        prompts (by task), prompts_to (by language), sampling, retries, system, order, seed. Raises UsageError if not
        served."""
        if self.serve is None or self.chat is None or self.sampling is None:
            raise UsageError(f"{self.id} is not a model that a server offers.", hint="See `inkstick models list`.")
        translate = self.offers.get(Task.TRANSLATE)
        return {
            "id": self.id,
            "served": self.serve.served,
            "prompts": {task: self.prompts[offer.prompt] for task, offer in self.offers.items() if offer.prompt},
            "prompts_to": {to: self.prompts[name] for to, name in translate.to.items()} if translate else {},
            "sampling": self.sampling,
            "retries": self.retries,
            "system": self.chat.system,
            "order": self.chat.order,
            "seed": self.seed,
        }


def load(path: Path) -> Manifest:
    """The manifest in a file. Raises UsageError (code manifest) that names the file and the key."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path.name}: cannot be read as TOML: {error}", code="manifest") from error
    return parse(values, path.name)


def parse(values: Mapping[str, Any], where: str) -> Manifest:
    """The manifest in a parsed TOML document; `where` starts every message."""
    table = Table(values, where)
    if table.whole("schema") != SCHEMA:
        raise table.fail("schema", f"must be {SCHEMA}: this file is for another version of Inkstick")
    prompts = table.mapping("prompts")
    sampling, retries, seed = _sampling(table.maybe_table("sampling"))
    manifest = Manifest(
        id=_matching(table, "id", _ID, "small letters, digits, dots and dashes"),
        title=table.text("title"),
        family=table.text("family"),
        version=table.text("version"),
        status=Status(table.one_of("status", tuple(Status))),
        engines=_engines(table),
        evidence=table.text("evidence"),
        repositories=tuple(_repository(entry) for entry in table.tables("repository")),
        licence=_licence(table.table("licence")),
        offers=MappingProxyType(_offers(table.table("tasks"), prompts)),
        prompts=MappingProxyType(prompts),
        hardware=_hardware(table.maybe_table("hardware")),
        serve=_serve(table.maybe_table("serve")),
        chat=_chat(table.maybe_table("chat")),
        sampling=sampling,
        retries=retries,
        seed=seed,
        pixels=_pixels(table.maybe_table("pixels")),
        coordinates=_coordinates(table.maybe_table("coordinates")),
        repetition=_repetition(table.maybe_table("repetition")),
        layout=_layout(table.maybe_table("layout"), prompts),
    )
    _check(table, manifest)
    return table.done(manifest)


def _check(table: Table, manifest: Manifest) -> None:
    """Rules between sections."""
    if not manifest.repositories:
        raise table.fail("repository", "is missing")
    names = [entry.to.casefold() for entry in manifest.all_files()]
    for name in names:
        if names.count(name) > 1:
            raise table.fail("repository", f"has two files that would be stored as {name!r}")
    if manifest.licence.text and manifest.licence.text not in {entry.to for entry in manifest.files()}:
        raise table.fail("licence", f"names the text {manifest.licence.text!r}, which is not among the files")
    if manifest.licence.accept and not manifest.licence.text:
        raise table.fail("licence", "must be accepted, but names no text")
    if any(offer.prompt or offer.to for offer in manifest.offers.values()) and not manifest.serve:
        raise table.fail("serve", "is missing, although tasks have prompts")
    if manifest.serve and not (manifest.chat and manifest.sampling):
        raise table.fail("chat" if manifest.chat is None else "sampling", "is missing, although the model is served")
    if any(offer.layout for offer in manifest.offers.values()) and not manifest.layout:
        raise table.fail("layout", "is missing, although a task needs it")


def _engines(table: Table) -> tuple[str, ...]:
    engines = table.words("engines")
    if not engines or not set(engines) <= set(ENGINES):
        raise table.fail("engines", f"must name some of: {', '.join(ENGINES)}")
    return engines


def _repository(table: Table) -> Repository:
    package, name = table.maybe_text("package"), table.maybe_text("name")
    if (package is None) == (name is None):
        raise table.fail("name", "or package must be given, and not both")
    into = table.maybe_text("into")
    repository = Repository(
        revision=table.text("revision")
        if package
        else _matching(table, "revision", _REVISION, "40 hexadecimal digits"),
        purpose=table.text("purpose"),
        files=tuple(_file(entry, into) for entry in table.tables("file")),
        name=name,
        package=package,
        endpoint=None if package else table.text("endpoint"),
        mirrors=MappingProxyType(table.mapping("mirrors")),
    )
    if not repository.files:
        raise table.fail("file", "is missing")
    return table.done(repository)


def _file(table: Table, into: str | None) -> ModelFile:
    path = _relative(table, "path", table.text("path"))
    to = _relative(table, "to", table.maybe_text("to") or path)
    entry = ModelFile(
        path=path,
        to=f"{into}/{to}" if into else to,
        role=Role(table.one_of("role", tuple(Role))),
        size=table.maybe_whole("size", least=1),
        sha256=_matching(table, "sha256", _SHA256, "64 hexadecimal digits") if table.has("sha256") else None,
        revision=_matching(table, "revision", _REVISION, "40 hexadecimal digits") if table.has("revision") else None,
        extra=table.maybe_text("extra"),
    )
    if entry.role is Role.WEIGHTS and not entry.to.endswith(_WEIGHTS):
        raise table.fail("path", f"is {path!r}, but weights are taken only as {' or '.join(_WEIGHTS)}")
    if entry.to.endswith(".py") != (entry.role is Role.CODE):
        raise table.fail("role", f"of {path!r} is {entry.role}, but .py files, and only they, are code")
    return table.done(entry)


def _relative(table: Table, key: str, path: str) -> str:
    """A path that stays below the folder it is joined to."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or "\\" in path or ".." in parts or str(PurePosixPath(path)) != path:
        raise table.fail(key, f"is {path!r}, which is not a plain path below the model's folder")
    return path


def _matching(table: Table, key: str, pattern: re.Pattern[str], form: str) -> str:
    value = table.text(key)
    if not pattern.fullmatch(value):
        raise table.fail(key, f"is {value!r}, but must be {form}")
    return value


def _licence(table: Table) -> Licence:
    return table.done(
        Licence(
            name=table.text("name"),
            reference=table.text("reference"),
            accept=table.flag("accept", False),
            text=table.maybe_text("text"),
            conditions=table.words("conditions"),
            excluded=table.words("excluded"),
            notice=table.maybe_text("notice"),
        )
    )


def _capability(table: Table, key: str, text: str) -> tuple[int, int]:
    major, dot, minor = text.partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise table.fail(key, f"holds {text!r}, but a compute capability looks like 8.9")
    return int(major), int(minor)


def _hardware(table: Table | None) -> Hardware | None:
    if table is None:
        return None
    return table.done(
        Hardware(
            driver=table.whole("driver", least=1),
            capability=_capability(table, "capability", table.text("capability")),
            native=tuple(_capability(table, "native", text) for text in table.words("native")),
            driver_otherwise=table.whole("driver_otherwise", least=1),
            memory_gb=table.whole("memory_gb", least=1),
        )
    )


def _serve(table: Table | None) -> Serve | None:
    if table is None:
        return None
    serve = Serve(
        runtime=table.text("runtime"),
        served=table.text("served"),
        arguments=table.words("arguments"),
        memory=tuple(_memory_class(entry) for entry in table.tables("memory")),
    )
    sizes = [entry.gb for entry in serve.memory]
    if sizes != sorted(set(sizes)):
        raise table.fail("memory", "must be in rising order of gb, each once")
    return table.done(serve)


def _memory_class(table: Table) -> MemoryClass:
    return table.done(
        MemoryClass(
            gb=table.whole("gb", least=1),
            in_flight=table.whole("in_flight", least=1),
            arguments=table.words("arguments"),
            basis=table.one_of("basis", ("reported", "measured", "planned")),
        )
    )


def _chat(table: Table | None) -> Chat | None:
    if table is None:
        return None
    chat = Chat(system=table.maybe_text("system", empty=True), order=table.words("order"))
    if sorted(chat.order) != ["image", "text"]:
        raise table.fail("order", "must name image and text, each once")
    return table.done(chat)


def _sampling(table: Table | None) -> tuple[Sampling | None, tuple[Sampling, ...], int | None]:
    if table is None:
        return None, (), None
    first = Sampling(
        temperature=table.number("temperature", 0.0, least=0.0, most=2.0),
        top_p=table.number("top_p", 1.0, least=0.01, most=1.0),
        top_k=table.whole("top_k", least=-1) if table.has("top_k") else -1,
        repetition_penalty=table.number("repetition_penalty", 1.0, least=0.1, most=2.0),
        max_tokens=table.whole("max_tokens", least=1),
        skip_special_tokens=table.flag("skip_special_tokens", True),
    )
    retries = tuple(_retry(entry, first) for entry in table.tables("retry"))
    return table.done((first, retries, table.maybe_whole("seed")))


def _retry(table: Table, first: Sampling) -> Sampling:
    """A later attempt's sampling: what it does not name is as in the first."""
    return table.done(
        Sampling(
            temperature=table.number("temperature", first.temperature, least=0.0, most=2.0),
            top_p=table.number("top_p", first.top_p, least=0.01, most=1.0),
            top_k=table.whole("top_k", least=-1) if table.has("top_k") else first.top_k,
            repetition_penalty=table.number("repetition_penalty", first.repetition_penalty, least=0.1, most=2.0),
            max_tokens=table.maybe_whole("max_tokens", least=1) or first.max_tokens,
            skip_special_tokens=first.skip_special_tokens,
        )
    )


def _pixels(table: Table | None) -> Pixels | None:
    if table is None:
        return None
    pixels = Pixels(
        minimum=table.whole("minimum", least=1),
        maximum=table.whole("maximum", least=1),
        factor=table.whole("factor", least=1),
    )
    if pixels.minimum > pixels.maximum:
        raise table.fail("minimum", "is above maximum")
    return table.done(pixels)


def _coordinates(table: Table | None) -> Coordinates | None:
    if table is None:
        return None
    return table.done(Coordinates(scale=table.whole("scale", least=1), of=table.one_of("of", ("page", "image"))))


def _repetition(table: Table | None) -> Repetition | None:
    if table is None:
        return None
    clean = table.table("clean")
    return table.done(
        Repetition(
            start=table.whole("from"),
            every=table.whole("every", least=1),
            window=table.whole("window", least=1),
            largest_unit=table.whole("largest_unit", least=1),
            repeats=table.whole("repeats", least=2),
            clean_start=clean.whole("from"),
            clean_repeats=clean.done(clean.whole("repeats", least=2)),
        )
    )


def _layout(table: Table | None, prompts: Mapping[str, str]) -> Layout | None:
    if table is None:
        return None
    layout = Layout(
        repository=table.text("repository"),
        model=table.text("model"),
        side=table.whole("side", least=1),
        columns=table.words("columns"),
        threshold=table.number("threshold", 0.5, least=0.0, most=1.0),
        classes=table.words("classes"),
        otherwise=table.text("otherwise"),
        skip=table.words("skip"),
        prompts=MappingProxyType(table.mapping("prompts")),
    )
    for name in {*layout.skip, *layout.prompts} - set(layout.classes):
        raise table.fail("classes", f"lacks {name!r}, which is used")
    for name in {layout.otherwise, *layout.prompts.values()} - set(prompts):
        raise table.fail("prompts", f"names {name!r}, which is not among the prompts")
    return table.done(layout)


def _offers(table: Table, prompts: Mapping[str, str]) -> dict[Task, Offer]:
    offers: dict[Task, Offer] = {}
    for name in table.keys():  # noqa: SIM118 - not a dict: this marks every key as known
        if name not in tuple(Task):
            raise table.fail(name, f"is not a task; tasks are: {', '.join(Task)}")
        offers[Task(name)] = _offer(table.table(name), Task(name), prompts)
    if not offers:
        raise table.fail("tasks", "is empty")
    return offers


def _offer(table: Table, task: Task, prompts: Mapping[str, str]) -> Offer:
    offer = Offer(
        task=task,
        answer=Answer(table.one_of("answer", tuple(Answer))),
        prompt=table.maybe_text("prompt"),
        to=MappingProxyType(table.mapping("to")),
        layout=table.flag("layout", False),
        maximum_pixels=table.maybe_whole("maximum_pixels", least=1),
        double_below=table.maybe_whole("double_below", least=1),
        skip_special_tokens=table.flag("skip_special_tokens", True) if table.has("skip_special_tokens") else None,
    )
    _check_prompts(table, offer, prompts)
    return table.done(offer)


def _check_prompts(table: Table, offer: Offer, prompts: Mapping[str, str]) -> None:
    for name in [*([offer.prompt] if offer.prompt else []), *offer.to.values()]:
        if name not in prompts:
            raise table.fail("prompt", f"names {name!r}, which is not among the prompts")
    if offer.prompt is None and not offer.to and offer.answer is not Answer.LINES:
        raise table.fail("prompt", "is missing")
    if bool(offer.to) != (offer.task is Task.TRANSLATE):
        raise table.fail("to", "belongs to translate, and translate needs it")
    if offer.prompt and ("{keys}" in prompts[offer.prompt]) != (offer.task is Task.EXTRACT):
        raise table.fail("prompt", "must hold {keys} for extract, and for no other task")
