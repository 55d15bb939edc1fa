"""Settings: read once at the start of a process, validated, passed down, printed by `inkstick doctor`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from inkstick.errors import UsageError
from inkstick.profile import EngineChoice


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where everything lives. The names are part of the contract."""

    root: Path

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def done(self) -> Path:
        return self.root / "done"

    @property
    def failed(self) -> Path:
        return self.root / "failed"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def models(self) -> Path:
        """One folder per fetched model, by its id."""
        return self.root / "models"

    @property
    def spool(self) -> Path:
        """One folder per accepted document, by its id."""
        return self.state / "spool"

    @property
    def edits(self) -> Path:
        """One folder per document that a person changed, by its id: every version of every page."""
        return self.state / "edits"

    @property
    def requests(self) -> Path:
        """What is asked of the machine around the service: see `inkstick.appliance`."""
        return self.state / "requests"

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.sqlite"

    @property
    def ballast(self) -> Path:
        """See `inkstick.store.ballast`."""
        return self.state / "ballast"

    @property
    def address(self) -> Path:
        """A file with the address of the page, while it is served."""
        return self.state / "address"

    @property
    def door(self) -> Path:
        """The service's socket for the other processes of this user."""
        return self.state / "service.sock"

    @property
    def engine(self) -> Path:
        """All that the engine and its supervisor write: on the appliance they see nothing else of the data."""
        return self.state / "engine"

    def create(self) -> None:
        """Make the folders that are missing; state/ is for the service alone. An inbox that is a link to a share which
        is not mounted yet is waited for."""
        for folder in (self.inbox, self.results, self.done, self.failed):
            if folder != self.inbox or not folder.is_symlink():
                folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.state, self.spool):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.create_engine()

    def create_engine(self) -> None:
        """Only what the engine's process needs: on the appliance it may make nothing else."""
        for folder in (self.state, self.engine):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, with its unit. Environment ``INKSTICK_<NAME>``, then command-line options, override.

    data: data folder. host, port: where the page is served. engine, engine_url, model: what reads. engine_python: the
    Python of the engine's own environment, with vLLM. engine_cache: where the engine keeps what it compiles and loads
    again as programs, so a place where programs may be run (state/engine/cache). models: where fetched models lie
    (data/models).
    workers: CPU OCR processes (0: one per core). parsers: sandboxed parser processes (0: as many as workers, 2 to 4).
    pages_socket: where systemd starts a unit for each parser; without it they are children, behind bubblewrap.
    settle_seconds: how long a dropped file must be still. scan_seconds: between scans of the inbox.
    incomplete_seconds: how long an incomplete file is waited for. page_seconds: a page's deadline in the parser;
    engine_seconds: in the engine. engine_hours, engine_pages: after so much the engine is started anew while nothing
    is in flight (0: never). uvm_reload: a program that loads the driver's nvidia_uvm anew; without it none is run.
    reserve_bytes: free space below which nothing is accepted.
    image_bytes: page images held in memory at once. max_bytes, max_pages: the largest document.
    appliance: folder in which the machine tells of sticks and of its first start (see `inkstick.appliance`;
    /run/inkstick).
    names: by comma, what else this machine is called on the network. session_idle_seconds, session_seconds: how long a
    paired browser stays so without use, and at the longest. uploads_at_once, upload_bytes_per_hour: of one session or
    token (0: no limit). All these count only where other computers can reach the page.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    engine: EngineChoice = EngineChoice.AUTO
    engine_url: str | None = None
    model: str | None = None
    engine_python: Path | None = None
    engine_cache: Path | None = None
    models: Path | None = None
    workers: int = 0
    parsers: int = 0
    pages_socket: Path | None = None
    settle_seconds: float = 2.0
    scan_seconds: float = 1.0
    incomplete_seconds: float = 600.0
    page_seconds: float = 60.0
    engine_seconds: float = 300.0
    engine_hours: float = 24.0
    engine_pages: int = 50_000
    uvm_reload: Path | None = None
    reserve_bytes: int = 2 << 30
    image_bytes: int = 512 << 20
    max_bytes: int = 20 << 30
    max_pages: int = 100_000
    appliance: Path | None = None
    names: str = ""
    session_idle_seconds: float = 7200.0
    session_seconds: float = 43_200.0
    uploads_at_once: int = 8
    upload_bytes_per_hour: int = 200 << 30

    @property
    def folder(self) -> DataFolder:
        return DataFolder(self.data)

    @property
    def models_folder(self) -> Path:
        return self.models or self.folder.models

    @property
    def appliance_folder(self) -> Path:
        return self.appliance or Path("/run/inkstick")

    @property
    def engine_cache_folder(self) -> Path:
        return self.engine_cache or self.folder.engine / "cache"

    @property
    def parser_processes(self) -> int:
        """Parsers beside the OCR workers: they wait for each other, so two per core would only crowd."""
        return self.parsers or min(4, max(2, self.cores // 2))

    @property
    def cores(self) -> int:
        return len(os.sched_getaffinity(0))


def load(options: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from options (None means: not given) over the environment over the defaults. What is empty is not given,
    as scripts and units write it. Raises UsageError."""
    values: dict[str, object] = {}
    for field in fields(Settings):
        raw = options.get(field.name)
        if raw is None:
            raw = environment.get(f"INKSTICK_{field.name.upper()}")
        if raw is None or str(raw) == "":
            continue
        values[field.name] = _convert(field.name, str(field.type), raw)
    values.setdefault("data", Path("inkstick-data").absolute())
    return Settings(**values)  # type: ignore[arg-type]


def _convert(name: str, kind: str, raw: object) -> object:
    try:
        if kind in ("Path", "Path | None"):
            return Path(str(raw)).expanduser().absolute()
        if kind == "EngineChoice":
            return EngineChoice(str(raw))
        if kind in ("int", "float"):
            number = int(str(raw)) if kind == "int" else float(str(raw))
            if not 0 <= number < math.inf or (name == "port" and number > 65535):
                raise ValueError("out of range")
            return number
        if name == "engine_url":
            _check_address(str(raw))
    except ValueError as error:
        raise UsageError(f"setting {name} cannot be {str(raw)!r}: {error}", hint="See docs/settings.md.") from error
    return str(raw)


def _check_address(text: str) -> None:
    """Raises ValueError for what no server can be at."""
    parts = urlsplit(text)
    of_host = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # (raises where it is none)
    if not of_host and not text.startswith("unix:///"):
        raise ValueError("an engine's address is http://host:port or unix:///path")
