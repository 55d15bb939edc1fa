"""The command line: inkstick ocr | serve | watch | run | engine | models | doctor | pin | audit.

Exit statuses: 0 all well, 1 some documents failed (ocr) or something is bad (doctor), 2 a wrong option or setting,
130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import getpass
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from inkstick import __version__
from inkstick.clock import SystemClock
from inkstick.config import Settings, load
from inkstick.document import Task
from inkstick.errors import DiskFull, InkstickError, Unavailable, UsageError, no_room
from inkstick.profile import EngineChoice, Format


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see the module's docstring for the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser().parse_args(given)
    _write_any_name()
    logging.basicConfig(level=logging.WARNING, format="inkstick: %(message)s")
    for handler in logging.getLogger().handlers:  # what is less goes to the ring that the System page shows
        handler.setLevel(logging.WARNING)
    try:
        return _COMMANDS[options.command](options, given)
    except UsageError as error:
        return _fail(error, 2)
    except InkstickError as error:
        return _fail(error, 1)
    except OSError as error:  # a folder that cannot be made, a disk that is full
        return _fail(_refused(error), 1)
    except KeyboardInterrupt:
        return 130


def _refused(error: OSError) -> InkstickError:
    if no_room(error):
        return DiskFull("The disk is full.", hint="Make room there, and run the command again.")
    return Unavailable(f"The system says: {error}.", hint="Look whether that path is there, and who may write to it.")


def _write_any_name() -> None:
    """A file may have a name that is no UTF-8: what cannot be written of it is written as Python and JSON would."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(error: InkstickError, status: int) -> int:
    print(f"inkstick: {error.message}\n          {error.hint}", file=sys.stderr)
    return status


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="inkstick", description="Documents in, text out, no network.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"inkstick {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _ocr_parser(commands.add_parser("ocr", help="read files without a server", allow_abbrev=False))
    serve = commands.add_parser("serve", help="serve the page and the API, read what is accepted", allow_abbrev=False)
    watch = commands.add_parser("watch", help="watch the inbox", allow_abbrev=False)
    run = commands.add_parser("run", help="serve and watch", allow_abbrev=False)
    doctor = commands.add_parser("doctor", help="print the settings and check this machine", allow_abbrev=False)
    engine = commands.add_parser("engine", help="start the model's server and look after it", allow_abbrev=False)
    for command in (serve, watch, run, doctor, engine):
        _service_options(command)
    serve.add_argument("--quiet", action="store_true", help="do not print the address")
    run.add_argument("--samples", type=Path, metavar="DIR", help="read the files in DIR first, once per data folder")
    _access_parsers(
        commands.add_parser("pin", help="let a browser in", allow_abbrev=False),
        commands.add_parser("audit", help="check the audit log", allow_abbrev=False),
    )
    _models_parser(commands.add_parser("models", help="list, fetch and check models", allow_abbrev=False))
    return top


def _ocr_parser(ocr: argparse.ArgumentParser) -> None:
    ocr.add_argument("files", nargs="+", type=Path, metavar="FILE")
    ocr.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="each document gets a folder in it")
    ocr.add_argument("--task", choices=[task.value for task in Task], help="what is asked of each page (parse)")
    ocr.add_argument("--keys", metavar="K,K…", help="for task extract: what to extract")
    ocr.add_argument("--to", metavar="LANG", help="for task translate: en or zh")
    ocr.add_argument("--formats", metavar="LIST", help=f"by comma: {' '.join(Format)}")
    ocr.add_argument("--passwords", metavar="FILE", help="tried on locked documents, a line each (-: standard input)")
    _engine_options(ocr)
    ocr.add_argument("--quiet", action="store_true", help="no progress; print only what went wrong")
    ocr.add_argument("--json", action="store_true", help="no progress; print the outcome as JSON")


def _models_parser(models: argparse.ArgumentParser) -> None:
    actions = models.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every model, and whether its files are here", allow_abbrev=False)
    fetch = actions.add_parser("fetch", help="download a model; goes on where it stopped", allow_abbrev=False)
    verify = actions.add_parser("verify", help="check every byte of a model's files", allow_abbrev=False)
    licence = actions.add_parser("licence", help="show a model's licence, or accept it", allow_abbrev=False)
    for action in (listing, fetch, verify, licence):
        action.add_argument("--data", type=Path, metavar="DIR", help="the data folder (inkstick-data)")
        action.add_argument("--manifests", type=Path, metavar="DIR", help="the folder of model manifests")
    for action in (fetch, verify, licence):
        action.add_argument("id", nargs="?", metavar="MODEL", help="which model (the default one)")
        action.add_argument("--to", type=Path, metavar="DIR", help="the model's folder (MODEL among all models)")
    verify.add_argument("--weights", type=Path, metavar="DIR", help="a folder of weights given by hand")
    for action in (fetch, licence):
        action.add_argument("--accept", action="store_true", help="accept the licence")
        action.add_argument("--mirror", metavar="URL", help="where to download from instead")
    fetch.add_argument("--with", action="append", default=[], metavar="PART", dest="extras", help="optional parts")


def _access_parsers(pin: argparse.ArgumentParser, audit: argparse.ArgumentParser) -> None:
    pins = pin.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = pins.add_parser("new", help="make a fresh PIN; it takes the place of the one before", allow_abbrev=False)
    show = pins.add_parser("show", help="the PIN that is good now, the address and the fingerprint", allow_abbrev=False)
    new.add_argument("--role", choices=["reader", "operator", "admin"], default="admin", help="what it gives (admin)")
    audits = audit.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = audits.add_parser("verify", help="is the log whole and unchanged", allow_abbrev=False)
    for action in (new, show, verify):
        action.add_argument("--data", type=Path, metavar="DIR", help="the data folder (inkstick-data)")
        action.add_argument("--json", action="store_true", help="print as JSON")


def _service_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, metavar="DIR", help="the data folder (inkstick-data)")
    command.add_argument("--host", metavar="ADDRESS", help="where to serve (127.0.0.1: this machine only)")
    command.add_argument("--port", metavar="N", help="port of the page (8080)")
    _engine_options(command)


def _engine_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--engine", choices=[choice.value for choice in EngineChoice], help="who reads (auto)")
    command.add_argument("--engine-url", metavar="URL", help="an OpenAI-compatible server: http://… or unix:///path")
    command.add_argument("--model", metavar="ID", help="a model (inkstick models list), or a folder with its files")


def _settings(options: argparse.Namespace) -> Settings:
    return load(vars(options))


def _ocr(options: argparse.Namespace, _given: Sequence[str]) -> int:
    from inkstick.commands import ocr

    ocr.check_paths(options.files, options.out)
    wishes = {name: getattr(options, name) for name in ("task", "engine", "keys", "to", "formats")}
    profile = ocr.profile_from(wishes, ocr.passwords_in(options.passwords) if options.passwords is not None else ())
    job = ocr.Job(_settings(options), profile, tuple(options.files), options.out, options.quiet, options.json)
    from inkstick.standalone import read_files

    work = ocr.run(job, read_files, Console(highlight=False), Console(stderr=True, highlight=False))
    return asyncio.run(ocr.heeding_signals(work))


def _serve(options: argparse.Namespace, _given: Sequence[str]) -> int:
    from inkstick.access.place import check_host
    from inkstick.web.server import serve

    settings = _settings(options)
    check_host(settings.host)
    from inkstick.office import Office

    def say(address: str) -> None:
        if not options.quiet:
            print(f"The page is at {address}", flush=True)

    settings.folder.create()
    asyncio.run(serve(Office(settings), say))
    return 0


def _watch(options: argparse.Namespace, _given: Sequence[str]) -> int:
    from inkstick.intake.daemon import watch_main

    return asyncio.run(watch_main(_settings(options)))


def _run(options: argparse.Namespace, given: Sequence[str]) -> int:
    from inkstick.access.place import check_host
    from inkstick.commands.run import run

    settings = _settings(options)
    check_host(settings.host)
    if options.samples is not None and not options.samples.is_dir():
        raise UsageError(f"There is no folder {options.samples}.", hint="Leave --samples out.")
    return run(settings, _passed_on(options), options.samples, lambda text: print(text, flush=True))


def _passed_on(options: argparse.Namespace) -> list[str]:
    """The options that serve and watch share, as they were given."""
    names = ("data", "host", "port", "engine", "engine_url", "model")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]


def _engine(options: argparse.Namespace, _given: Sequence[str]) -> int:
    from inkstick.commands.engine import engine

    return engine(_settings(options), lambda text: print(f"engine {text}", file=sys.stderr, flush=True))


def _doctor(options: argparse.Namespace, _given: Sequence[str]) -> int:
    from inkstick.doctor import Level, examine

    console = Console(highlight=False, soft_wrap=True)
    marks = {Level.OK: ("ok  ", "green"), Level.WARN: ("warn", "yellow"), Level.BAD: ("bad ", "bold red")}
    worst = 0
    for finding in examine(_settings(options)):
        mark, style = marks[finding.level]
        console.print(Text(mark, style), Text(f"{finding.name}: {finding.text}"))
        if finding.hint:
            console.print(Text(f"     → {finding.hint}", "dim" if finding.level is Level.OK else ""))
        worst = max(worst, 1 if finding.level is Level.BAD else 0)
    return worst


def _models(options: argparse.Namespace, _given: Sequence[str]) -> int:
    from inkstick.models import catalogue, commands

    settings = load({"data": options.data})
    console, manifests, root = Console(highlight=False), options.manifests, settings.models_folder
    if options.action == "list":
        return commands.show(console, manifests=manifests, root=root)
    chosen = catalogue.read(manifests)
    folder = options.to or commands.folder_of(root, options.id or chosen.default.id)
    if options.action == "verify":
        return commands.verify(console, options.id, manifests=manifests, folder=folder, weights=options.weights)
    if options.action == "licence":
        act = commands.licence
    else:
        act = functools.partial(commands.fetch, extras=tuple(options.extras))
    return act(
        console,
        options.id,
        manifests=manifests,
        folder=folder,
        records=settings.folder.state / "licences",
        who=_who(),
        clock=SystemClock(),
        accept=options.accept,
        mirror=options.mirror,
    )


def _who() -> str:
    """Who sits here; a number where the system knows no name for it, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _pin(options: argparse.Namespace, _given: Sequence[str]) -> int:
    from inkstick.access.roles import role_of
    from inkstick.commands import access

    state = load({"data": options.data}).folder.state
    if options.action == "new":
        access.new_pin(state, role_of(options.role), SystemClock())
    text, found = access.shown(state, SystemClock(), as_json=options.json)
    print(text)
    return 0 if found else 1


def _audit(options: argparse.Namespace, _given: Sequence[str]) -> int:
    from inkstick.commands import access

    text, whole = access.verified(load({"data": options.data}).folder.state, as_json=options.json)
    print(text)
    return 0 if whole else 1


_COMMANDS = {
    "ocr": _ocr,
    "serve": _serve,
    "watch": _watch,
    "run": _run,
    "doctor": _doctor,
    "engine": _engine,
    "models": _models,
    "pin": _pin,
    "audit": _audit,
}


if __name__ == "__main__":
    sys.exit(main())
