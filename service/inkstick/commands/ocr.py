"""`inkstick ocr`: read files without a server, show progress, end with a summary of every file."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import unicodedata
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from inkstick.config import Settings
from inkstick.errors import UsageError
from inkstick.profile import Priority, Profile, merge
from inkstick.web.office_port import OnProgress
from inkstick.web.words import flag, state

SHOWN_AT_ONCE = 8
INTERRUPTED = 130
JOINERS = "\u200c\u200d"
"""They belong to Persian and Indic words."""


class FileOutcome(Protocol):
    """What became of one file. `flags`: how many pages carry each. `error`: code, message, hint."""

    @property
    def path(self) -> Path: ...
    @property
    def state(self) -> str: ...
    @property
    def results(self) -> Path | None: ...
    @property
    def pages(self) -> int: ...
    @property
    def flags(self) -> Mapping[str, int]: ...
    @property
    def error(self) -> Mapping[str, str] | None: ...


class ReadFiles(Protocol):
    """`inkstick.standalone.read_files`."""

    def __call__(
        self, settings: Settings, profile: Profile, files: Sequence[Path], out: Path, on_progress: OnProgress
    ) -> Awaitable[Sequence[FileOutcome]]: ...


@dataclass(frozen=True, slots=True)
class Job:
    """A checked command line."""

    settings: Settings
    profile: Profile
    files: tuple[Path, ...]
    out: Path
    quiet: bool = False
    json: bool = False


def profile_from(options: Mapping[str, str | None], passwords: Sequence[str] = ()) -> Profile:
    """The wishes of the command line: task, engine, keys, to, formats. Raises `UsageError`."""
    lists = {name: [word.strip() for word in value.split(",") if word.strip()] for name, value in options.items()
             if value is not None and name in ("keys", "formats")}  # fmt: skip
    words = {name: value for name, value in options.items() if value is not None and name not in lists}
    return merge(Profile(priority=Priority.PERSON, passwords=tuple(passwords)), {**words, **lists}, where="options")


def passwords_in(name: str) -> tuple[str, ...]:
    """The lines of a file, or of standard input (-), to the letter; none of them is ever on the command line, which
    every process of the machine may read. Raises `UsageError`."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"{name} cannot be read: {error.strerror}.", hint="Name a file with a password a line."
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text.", hint="Save it as UTF-8, a line each.") from None
    return tuple(line for line in text.replace("\r\n", "\n").split("\n") if line)


def check_paths(files: Sequence[Path], out: Path) -> None:
    """Raises `UsageError` that names the first path that cannot be used."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder.", hint="Give -o a folder; it is made if it is missing.")
    for file in files:
        if not file.exists():
            raise UsageError(f"There is no file {file}.", hint="Check the name.")
        if file.is_dir():
            raise UsageError(f"{file} is a folder.", hint=f"Name the files in it: {file}/*")
        if not file.is_file():
            raise UsageError(f"{file} is a pipe or a device.", hint="Save it as a file first, and name that.")


async def run(job: Job, read: ReadFiles, out: Console, err: Console) -> int:
    """0 if every document was read whole, else 1. The summary goes to `out`, progress to `err`."""
    show = _Silent() if job.quiet or job.json else _Bars(err, job.files) if err.is_terminal else _Lines(err)
    with show:
        outcomes = await read(job.settings, job.profile, job.files, job.out, show)
    if job.json:
        out.file.write(
            json.dumps({"documents": [_as_json(outcome) for outcome in outcomes]}, ensure_ascii=False) + "\n"
        )
    else:
        whole = all(outcome.state == "done" for outcome in outcomes)
        if not job.quiet or not whole:
            _print_summary(out, [outcome for outcome in outcomes if not job.quiet or outcome.state != "done"])
        if not job.quiet:
            out.print(_closing(outcomes))
    return 0 if all(outcome.state == "done" for outcome in outcomes) else 1


async def heeding_signals(work: Coroutine[Any, Any, int]) -> int:
    """Its status; 130 where another signal than Ctrl-C's ends it (SIGTERM, or its terminal was closed), which would
    leave half-made folders beside the results. A signal that is to be ignored (nohup) stays so."""
    task, told = asyncio.ensure_future(work), list[int]()

    def end(number: int) -> None:
        told.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not told:
            raise
        return INTERRUPTED


def printable(path: Path | str) -> str:
    """A path in one line, without what a terminal acts upon: a name from somebody's stick may hold anything."""
    return "".join(
        char.encode("unicode_escape").decode()
        if char not in JOINERS and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else char
        for char in str(path)
    )


class _Silent:
    """No progress at all."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __call__(self, path: Path, done: int, total: int | None) -> None: ...


class _Lines(_Silent):
    """For a file or a pipe: one line when a document is through."""

    def __init__(self, err: Console) -> None:
        self._err = err

    def __call__(self, path: Path, done: int, total: int | None) -> None:
        if total and done >= total:
            self._err.print(Text(f"{printable(path)}: {_pages(total)} read"), soft_wrap=True)


class _Bars(_Silent):
    """A bar in total, and one for each of the few files that are being read."""

    def __init__(self, err: Console, files: Sequence[Path]) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[name]}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=err,
            transient=True,
        )
        self._all = self._progress.add_task("", name=f"all {len(files)} files", total=len(files))
        self._tasks: dict[Path, TaskID] = {}
        self._through: set[Path] = set()

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, path: Path, done: int, total: int | None) -> None:
        if path not in self._tasks and path not in self._through and len(self._tasks) < SHOWN_AT_ONCE:
            self._tasks[path] = self._progress.add_task("", name=printable(path.name)[-40:], total=total)
        if path in self._tasks:
            self._progress.update(self._tasks[path], completed=done, total=total)
        if total is not None and done >= total and path not in self._through:
            self._through.add(path)
            self._progress.advance(self._all)
            if path in self._tasks:
                self._progress.remove_task(self._tasks.pop(path))


def _print_summary(out: Console, outcomes: Sequence[FileOutcome]) -> None:
    """A table on a terminal; else a line a file, never folded, so that it can be searched and cut."""
    if out.is_terminal:
        out.print(_summary(outcomes))
        return
    for outcome in outcomes:
        what = "; ".join(_what(outcome).plain.split("\n"))
        pages = f"{_pages(outcome.pages)}: " if outcome.pages else ""
        out.print(Text(f"{state(outcome.state)}: {printable(outcome.path)}: {pages}{what}"), soft_wrap=True)


def _summary(outcomes: Sequence[FileOutcome]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("file", "state", "pages", "results, or what to do"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "pages" else "left")
    styles = {"done": "green", "partial": "yellow", "failed": "red"}
    for outcome in outcomes:
        word = Text(state(outcome.state), styles.get(outcome.state, ""))
        table.add_row(Text(printable(outcome.path)), word, str(outcome.pages or ""), _what(outcome))
    return table


def _what(outcome: FileOutcome) -> Text:
    lines = []
    if outcome.results is not None:
        lines.append(str(outcome.results))
    if outcome.error is not None:
        lines.append(f"{outcome.error['code']}: {outcome.error['message']} {outcome.error['hint']}")
    if outcome.flags:
        lines.append("look at: " + ", ".join(f"{_pages(n)} {flag(word)[0]}" for word, n in outcome.flags.items()))
    return Text("\n".join(lines))


def _closing(outcomes: Sequence[FileOutcome]) -> Text:
    states = [outcome.state for outcome in outcomes]
    counts = ", ".join(
        f"{states.count(word)} {state(word)}" for word in ("done", "partial", "failed") if word in states
    )
    return Text(f"{len(outcomes)} {'file' if len(outcomes) == 1 else 'files'}: {counts}")


def _pages(count: int) -> str:
    return f"{count} {'page' if count == 1 else 'pages'}"


def _as_json(outcome: FileOutcome) -> dict[str, Any]:
    return {
        "file": str(outcome.path),
        "state": outcome.state,
        "results": None if outcome.results is None else str(outcome.results),
        "pages": outcome.pages,
        "flags": dict(outcome.flags),
        "error": None if outcome.error is None else dict(outcome.error),
    }
