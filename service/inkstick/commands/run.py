"""`inkstick run`: serve and watch as one process tree, and (for `./build.sh run`) the samples read to the end once."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from inkstick.config import DataFolder, Settings
from inkstick.plain import NO_TLS
from inkstick.supervise.choice import supervises
from inkstick.supervise.notify import Notifier
from inkstick.supervise.tree import Command, Tree
from inkstick.web.words import state

SAMPLES = "samples"
MARKER = "samples-dropped"
ENDED = ("done", "partial", "failed")


def run(settings: Settings, options: Sequence[str], samples: Path | None, say: Callable[[str], None]) -> int:
    """The tree until a signal; the exit status. `options` are passed to both children as they are."""
    settings.folder.create()
    settings.folder.address.unlink(missing_ok=True)
    names = ("serve", "watch", "engine") if supervises(settings) else ("serve", "watch")
    tree = Tree([_command(name, options) for name in names])
    host = _Host(settings.folder, samples, say)
    try:
        return tree.run(on_start=host.start)
    finally:
        host.stop()


def _command(name: str, options: Sequence[str]) -> Command:
    """A child of the same interpreter. It must not talk to systemd in our place, nor repeat our own words."""
    environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    arguments = [sys.executable, "-m", "inkstick.cli", name, *options, *(["--quiet"] if name == "serve" else [])]
    return Command(name, arguments, environment)


def drop_samples(folder: DataFolder, samples: Path) -> list[str]:
    """Copy the samples into inbox/samples/, once per data folder: their paths below inbox/, none the second time."""
    marker = folder.state / MARKER
    if marker.exists():
        return []
    into = folder.inbox / SAMPLES
    into.mkdir(parents=True, exist_ok=True)
    dropped = []
    for file in sorted(path for path in samples.iterdir() if path.is_file() and _is_document(path)):
        part = into / f".{file.name}.part"
        shutil.copyfile(file, part)
        part.rename(into / file.name)
        dropped.append(f"{SAMPLES}/{file.name}")
    marker.write_text("".join(f"{path}\n" for path in dropped), encoding="utf-8")
    return dropped


def _is_document(path: Path) -> bool:
    return path.suffix.lower() not in (".md", ".toml", ".py", ".json") and not path.name.startswith(".")


class _Host:
    """Greets in a thread of its own: waits for the service, drops the samples, tells how they went and the address."""

    def __init__(self, folder: DataFolder, samples: Path | None, say: Callable[[str], None]) -> None:
        self._folder, self._samples, self._say = folder, samples, say
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._greet, name="greeting", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        Notifier().stopping()
        self._stopped.set()
        self._thread.join(2.0)

    def _greet(self) -> None:
        address = self._address()
        if address is None:
            return
        Notifier().ready(f"Serving on {address}")
        dropped = self._drop()
        if dropped:
            self._say(f"Reading {len(dropped)} sample documents; watch them at {address}")
            self._follow(dropped)
        self._say(f"Results are in {self._folder.results}")
        self._say(f"The page is at {address}")
        if address.startswith("https:"):
            self._say("Others pair their browser with a PIN: inkstick pin new")
        self._say(f"Drop documents into {self._folder.inbox}   (Ctrl-C stops)")

    def _drop(self) -> list[str]:
        try:
            return drop_samples(self._folder, self._samples) if self._samples is not None else []
        except OSError as error:  # no room, no permission: the page is there all the same, and to be told of
            self._say(f"The sample documents cannot be copied: {error.strerror or error}")
            return []

    def _address(self) -> str | None:
        file = self._folder.address
        while not self._stopped.wait(0.1):
            if file.exists() and (text := file.read_text(encoding="utf-8").strip()):
                return text
        return None

    def _follow(self, dropped: Sequence[str]) -> None:
        """Say one line per sample as it ends, until all have ended."""
        waiting = set(dropped)
        started = time.monotonic()
        door = httpx.HTTPTransport(uds=str(self._folder.door), verify=NO_TLS)
        with httpx.Client(transport=door, base_url="http://service", timeout=10) as client:
            while waiting and not self._stopped.wait(0.5):
                for document in self._ended(client):
                    if document["path"] in waiting:
                        waiting.discard(document["path"])
                        self._say(_line(document, time.monotonic() - started))

    def _ended(self, client: httpx.Client) -> list[dict[str, Any]]:
        try:
            listed = client.get("/internal/documents").json()["documents"]
        except (httpx.HTTPError, ValueError, KeyError):
            return []  # the service is being started again
        return [document for document in listed if document["state"] in ENDED]


def _line(document: dict[str, Any], seconds: float) -> str:
    where = f"results/{document['results']}" if document["results"] else ""
    if document["error"]:
        where = f"{where} {document['error']['code']}: {document['error']['message']}".strip()
    pages = document["pages"] or 0
    return (
        f"  {seconds:5.1f} s  {document['name']}: {state(document['state'])}, {pages} page{'s' * (pages != 1)}  {where}"
    )
