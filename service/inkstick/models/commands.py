"""``inkstick models``: list, fetch, verify, licence. Each takes parsed values and a console; it returns an exit status.

Status: 0 all is well; 1 something is wrong with the model, the network or the disk; 2 the command was. Nothing here
reads arguments or the environment. A model's folder is `folder_of(root, id)` unless another one is given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table

from inkstick.clock import Clock
from inkstick.errors import InkstickError, UsageError
from inkstick.models import catalogue as catalogues
from inkstick.models import licence as licences
from inkstick.models import verify as checks
from inkstick.models.catalogue import Catalogue
from inkstick.models.fetch import Fetcher
from inkstick.models.manifest import Manifest, ModelFile
from inkstick.models.source import Mirror

OK, FAILED, USAGE = 0, 1, 2

Rest = ParamSpec("Rest")


def _told(command: Callable[Concatenate[Console, Rest], int]) -> Callable[Concatenate[Console, Rest], int]:
    """Errors become a message, what to do about it, and the exit status."""

    @functools.wraps(command)
    def wrapped(console: Console, /, *args: Rest.args, **kwargs: Rest.kwargs) -> int:
        try:
            return command(console, *args, **kwargs)
        except InkstickError as error:
            _say(console, error.message, style="bold red")
            _say(console, error.hint)
            return USAGE if isinstance(error, UsageError) and error.code in ("usage", "manifest") else FAILED

    return wrapped


def folder_of(root: Path, model_id: str) -> Path:
    """Where a model's files lie below the folder of all models."""
    return root / model_id


@_told
def show(console: Console, *, manifests: Path | None, root: Path) -> int:
    """``models list``: every model, whether its files are here, and what it can do."""
    catalogue = catalogues.read(manifests)
    table = Table(Column("model", no_wrap=True), "engines", "size", "card", "licence", "tasks", "here")
    for manifest in catalogue.manifests.values():
        table.add_row(*_row(manifest, folder_of(root, manifest.id)))
    console.print(table)
    return OK


def _row(manifest: Manifest, folder: Path) -> tuple[str, ...]:
    excluded = f"\nnot in {', '.join(manifest.licence.excluded)}" if manifest.licence.excluded else ""
    return (
        f"{manifest.id}\n({manifest.status})",
        "\n".join(manifest.engines),
        f"{manifest.bytes() / 1e9:.2f} GB",
        f"{manifest.hardware.memory_gb} GB" if manifest.hardware else "-",
        manifest.licence.name + excluded,
        " ".join(manifest.offers),
        presence(manifest, folder),
    )


def presence(manifest: Manifest, folder: Path) -> str:
    """Whether the files are there by name and size, which is quick and no proof: yes, part of it, no."""
    if manifest.embedded:
        return "yes"
    there = [_there(entry, folder / entry.to) for entry in manifest.files()]
    return "yes" if all(there) else "part of it" if any(there) else "no"


def _there(entry: ModelFile, path: Path) -> bool:
    return path.is_file() and (entry.size is None or path.stat().st_size == entry.size)


@_told
def fetch(
    console: Console,
    model_id: str | None,
    *,
    manifests: Path | None,
    folder: Path,
    records: Path,
    who: str,
    clock: Clock,
    accept: bool = False,
    mirror: str | None = None,
    extras: tuple[str, ...] = (),
) -> int:
    """``models fetch``: the licence first, then the rest. `folder`: the model's own. `records`: acceptances."""
    manifest = _chosen(catalogues.read(manifests), model_id)
    _check_extras(manifest, extras)
    with _Bars(console) as bars:
        fetcher = Fetcher(mirror=Mirror(mirror), progress=bars)
        fetcher.fetch_licence(manifest, folder)
        if not _licensed(console, manifest, folder, records, who=who, clock=clock, accept=accept):
            return FAILED
        fetched = fetcher.fetch(manifest, folder, extras)
    _say(console, f"{manifest.title} is complete in {folder}: {len(fetched)} files fetched, every byte checked.")
    return _tell_findings(console, tuple(checks.strays(manifest, folder)))


def _chosen(catalogue: Catalogue, model_id: str | None) -> Manifest:
    return catalogue.get(model_id) if model_id else catalogue.default


def _check_extras(manifest: Manifest, extras: tuple[str, ...]) -> None:
    unknown = [name for name in extras if name not in manifest.extras]
    if unknown:
        known = ", ".join(manifest.extras) or "none"
        raise UsageError(f"{manifest.id} has no extra {unknown[0]!r}.", hint=f"Its extras: {known}.")


def _licensed(
    console: Console, manifest: Manifest, folder: Path, records: Path, *, who: str, clock: Clock, accept: bool
) -> bool:
    """Whether the licence is accepted or need not be; shows what it says where it is not."""
    if not manifest.licence.accept or licences.accepted(manifest, folder, records):
        return True
    _summary(console, manifest)
    if not accept:
        command = f"inkstick models licence {manifest.id}"
        _say(console, f"The licence must be accepted first. Read it: {command}. Accept it: {command} --accept")
        return False
    _accepted(console, licences.accept(manifest, folder, records, who=who, clock=clock))
    return True


@_told
def verify(
    console: Console, model_id: str | None, *, manifests: Path | None, folder: Path | None, weights: Path | None = None
) -> int:
    """``models verify``: read every byte. `weights`: a folder given by hand, whose model is recognised if not named."""
    catalogue = catalogues.read(manifests)
    if weights is not None and not weights.is_dir():
        raise UsageError(f"There is no folder {weights}.", hint="Give the folder with the weights: --weights DIR.")
    if weights is not None and model_id is None:
        manifest = checks.recognise(weights, tuple(catalogue.manifests.values()))
    else:
        manifest = _chosen(catalogue, model_id)
    if weights is None and presence(manifest, folder or Path()) == "no":
        raise UsageError(
            f"{manifest.title} is not in {folder}.",
            hint=f"Get it: inkstick models fetch {manifest.id}",
            code="model_missing",
        )
    with _Bars(console) as bars:
        report = checks.verify(manifest, weights or folder or Path(), given=weights is not None, progress=bars)
    status = _tell_findings(console, report.findings)
    if status == OK:
        where = "the installed packages" if manifest.embedded else str(report.folder)
        _say(console, f"{manifest.title}: {report.files} files in {where} are as they should be.", style="green")
    return status


def _tell_findings(console: Console, findings: tuple[checks.Finding, ...]) -> int:
    for finding in findings:
        _say(console, finding.message, style="bold red" if finding.fatal else "yellow")
    for mend in dict.fromkeys(finding.mend for finding in findings):
        _say(console, mend)
    return FAILED if any(finding.fatal for finding in findings) else OK


@_told
def licence(
    console: Console,
    model_id: str | None,
    *,
    manifests: Path | None,
    folder: Path,
    records: Path,
    who: str,
    clock: Clock,
    accept: bool = False,
    mirror: str | None = None,
) -> int:
    """``models licence``: the text, in full, with what matters first; or its acceptance. Fetches the text if it is not
    here, or is another one than the manifest's."""
    manifest = _chosen(catalogues.read(manifests), model_id)
    if not _text_is_here(manifest, folder):
        Fetcher(mirror=Mirror(mirror)).fetch_licence(manifest, folder)
    text = licences.read_text(manifest, folder)
    if text and not accept:
        _say(console, text)
    _summary(console, manifest)
    if not manifest.licence.accept:
        _say(console, "This licence need not be accepted.")
    elif accept:
        _accepted(console, licences.accept(manifest, folder, records, who=who, clock=clock))
    else:
        _tell_state(console, manifest, licences.accepted(manifest, folder, records))
    return OK


def _text_is_here(manifest: Manifest, folder: Path) -> bool:
    """Whether the licence text, if there is one, is the very one that the manifest names."""
    wanted = [entry for entry in manifest.files() if entry.to == manifest.licence.text]
    found = [checks.check(entry, folder / entry.to) for entry in wanted]
    return not any(finding and finding.fatal for finding in found)


def _summary(console: Console, manifest: Manifest) -> None:
    for line in licences.summary(manifest):
        _say(console, line)


def _accepted(console: Console, acceptance: licences.Acceptance) -> None:
    _say(console, f"Accepted by {acceptance.who} on {acceptance.when}.", style="green")


def _tell_state(console: Console, manifest: Manifest, acceptance: licences.Acceptance | None) -> None:
    if acceptance:
        _accepted(console, acceptance)
    else:
        _say(console, f"Not accepted yet. To accept it: inkstick models licence {manifest.id} --accept")


def _say(console: Console, text: str, style: str | None = None) -> None:
    """Text as it is: no markup in it, no line broken, so that a command can be copied."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class _Bars:
    """A progress bar per file; small files are not worth one."""

    SMALL = 1 << 20

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, entry: ModelFile, done: int, total: int | None) -> None:
        if (total or 0) < self.SMALL:
            return
        if entry.to not in self._tasks:
            self._tasks[entry.to] = self._progress.add_task(entry.to, total=total)
        self._progress.update(self._tasks[entry.to], completed=done)
