"""Fetching a model: resumable, every byte checked while it streams, nothing half-made under a final name.

A file grows as ``<name>.part`` beside its final name; ``<name>.part.etag`` remembers which version the server sent, so
that a resumed answer (Range, If-Range) never joins two versions. When all bytes are there and their sha256 is right,
the file is synced and renamed. A dropped connection is resumed; if the pieces do not make the right file, they are
thrown away and the file is asked for once more, from its first byte.

Failures: `Unavailable` (the source cannot be reached or lacks the file; what was received is kept), `DiskFull` (before
anything is fetched), `UsageError` code ``model_damaged`` (the source has other bytes) or ``model_unpinned``.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import re
import shutil
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from inkstick import durable
from inkstick.errors import DiskFull, Unavailable, UsageError
from inkstick.models.manifest import Manifest, ModelFile, Repository, Role
from inkstick.models.source import Mirror
from inkstick.models.verify import CHUNK, Progress, check

RESERVE_BYTES = 256 << 20
"""Free space that is left on the disk."""
UNKNOWN_BYTES = 64 << 20
"""The most that is accepted of a file whose size the manifest does not know."""
ATTEMPTS = 6
"""In a row without a single new byte, before a file is given up."""
MOST_ATTEMPTS = 200
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_TAG = re.compile(r'"[!#-~]*"')
"""A strong ETag."""


class _Dropped(Exception):
    """The connection ended early or the server is busy: try again. `wait`: seconds the server asked for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Unreadable(Exception):
    """A file of the folder that is copied from."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """How to fetch. `sleep` takes seconds; it and the free space are passed in: no test waits or fills a disk.
    `tls`: whom to trust; None: the authorities that httpx trusts."""

    mirror: Mirror = field(default_factory=Mirror)
    progress: Progress | None = None
    sleep: Callable[[float], None] = time.sleep
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free
    timeout_seconds: float = 60.0
    tls: ssl.SSLContext | None = None

    def fetch(self, manifest: Manifest, folder: Path, extras: tuple[str, ...] = ()) -> tuple[ModelFile, ...]:
        """Bring every file of a model into its folder; right ones that are there are kept. Returns those fetched."""
        refuse_unpinned(manifest, extras)
        wanted = [(repo, entry) for repo in manifest.repositories for entry in repo.files if _chosen(entry, extras)]
        return self._fetch(manifest, folder, wanted)

    def fetch_licence(self, manifest: Manifest, folder: Path) -> Path | None:
        """Bring the licence text alone; None if the model has none of its own."""
        name = manifest.licence.text
        wanted = [(repo, entry) for repo in manifest.repositories for entry in repo.files if entry.to == name]
        if not name or manifest.embedded:
            return None
        self._fetch(manifest, folder, wanted)
        return folder / name

    def _fetch(
        self, manifest: Manifest, folder: Path, wanted: list[tuple[Repository, ModelFile]]
    ) -> tuple[ModelFile, ...]:
        if manifest.embedded:
            raise UsageError(
                f"{manifest.id} is part of Inkstick: there is nothing to fetch.", hint=_verify_hint(manifest)
            )
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            missing = [(repo, entry) for repo, entry in wanted if not self._have(entry, folder)]
            self._check_space([entry for _, entry in missing], folder)
            if missing:
                self._download(missing, folder)
        return tuple(entry for _, entry in missing)

    def _download(self, missing: list[tuple[Repository, ModelFile]], folder: Path) -> None:
        addresses = [self.mirror.address(repository, entry) for repository, entry in missing]
        with self._client() as client:
            for address, (_, entry) in zip(addresses, missing, strict=True):
                with _disk_errors(folder):
                    _Download(self, client, address, entry, folder / entry.to).run()

    def _client(self) -> httpx.Client:
        return httpx.Client(follow_redirects=True, timeout=self.timeout_seconds, verify=self.tls or True)

    def _have(self, entry: ModelFile, folder: Path) -> bool:
        path = folder / entry.to
        if not path.exists():
            return False
        finding = check(entry, path, self.progress)
        return finding is None or not finding.fatal

    def _check_space(self, entries: list[ModelFile], folder: Path) -> None:
        """Raises DiskFull before anything is fetched."""
        need = sum(max(0, (entry.size or 0) - _part_size(folder / entry.to)) for entry in entries)
        free = self.free_bytes(folder)
        if entries and need + RESERVE_BYTES > free:
            raise DiskFull(
                f"The model needs {need / 1e9:.1f} GB more, but {folder} has {free / 1e9:.1f} GB free.",
                hint=f"Free {(need + RESERVE_BYTES - free) / 1e9:.1f} GB there, or choose another folder: --to DIR.",
            )


def refuse_unpinned(manifest: Manifest, extras: tuple[str, ...] = ()) -> None:
    """Raises UsageError (code model_unpinned) if weights or code have no known sha256: nothing could vouch for them."""
    for entry in manifest.files(extras):
        if entry.role in (Role.WEIGHTS, Role.CODE) and not entry.pinned:
            raise UsageError(
                f"{entry.to} is unpinned: the manifest of {manifest.id} holds no sha256 for it, so it is not fetched.",
                hint="Add the file's sha256, from a source that you trust, to the manifest.",
                code="model_unpinned",
            )


def _chosen(entry: ModelFile, extras: tuple[str, ...]) -> bool:
    return entry.extra is None or entry.extra in extras


def _verify_hint(manifest: Manifest) -> str:
    return f"Check its files: inkstick models verify {manifest.id}"


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _part_size(path: Path) -> int:
    return _part(path).stat().st_size if _part(path).exists() else 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One fetch per folder. Raises UsageError if another one is running."""
    with (folder / ".fetch.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"Another fetch is writing to {folder}.", hint="Wait until it has finished.") from error
        except OSError:
            pass  # a share that knows no locks: whoever fetches twice at once there fetches in vain, and is told so
        yield


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Faults of the disk and of the address, in words."""
    try:
        yield
    except httpx.InvalidURL as error:
        raise UsageError(f"The mirror's address cannot be used: {error}.", hint="See --mirror URL.") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(
                f"The disk with {folder} is full.", hint="Free space, and run the same command again."
            ) from error
        raise Unavailable(
            f"{folder} cannot be written to: {error.strerror}.", hint="Choose another: --to DIR."
        ) from error


class _Download:
    """One file on its way. `_done` bytes are in the part file, and in the running hash."""

    def __init__(self, fetcher: Fetcher, client: httpx.Client, address: str, entry: ModelFile, path: Path) -> None:
        self._fetcher = fetcher
        self._client = client
        self._address = address
        self._entry = entry
        self._path = path
        self._part = _part(path)
        self._mark = path.with_name(f"{path.name}.part.etag")
        self._hash = hashlib.sha256()
        self._done = 0
        self._joined = False

    def run(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._recall()
        self._receive()
        if self._joined and not self._right():
            self._restart()
            self._receive()
        if not self._right():
            self._restart()
            self._refuse("sends other bytes than the manifest asks for: the sha256 differs")
        durable.publish(self._part, self._path)
        self._mark.unlink(missing_ok=True)

    def _right(self) -> bool:
        return self._entry.sha256 is None or self._hash.hexdigest() == self._entry.sha256

    def _recall(self) -> None:
        """Take up what an earlier run left."""
        if not self._part.exists():
            return
        with self._part.open("rb") as stream:
            while piece := stream.read(CHUNK):
                self._count(piece)
        if self._entry.size is not None and self._done > self._entry.size:
            self._restart()
        self._joined = self._done > 0

    def _restart(self) -> None:
        self._part.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)
        self._hash = hashlib.sha256()
        self._done = 0
        self._joined = False

    def _count(self, piece: bytes) -> None:
        self._hash.update(piece)
        self._done += len(piece)
        if self._fetcher.progress:
            self._fetcher.progress(self._entry, self._done, self._entry.size)

    def _receive(self) -> None:
        """Until all bytes are there; resumes after each drop. Raises Unavailable when it gets nowhere."""
        idle = 0
        for _ in range(MOST_ATTEMPTS):
            before = self._done
            try:
                self._once()
                return
            except (_Dropped, httpx.RequestError) as error:
                idle = 0 if self._done > before else idle + 1
                if idle >= ATTEMPTS:
                    raise self._unreachable(error) from error
                asked = error.wait if isinstance(error, _Dropped) else 0.0
                self._fetcher.sleep(max(asked, min(30.0, 0.5 * 2**idle)))
        raise self._unreachable(_Dropped("the connection dropped too often"))

    def _unreachable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"{self._entry.to} could not be fetched from {_host(self._address)}: {error or type(error).__name__}.",
            hint="What was received is kept. Run the same command again when the network is back, or use --mirror URL.",
        )

    def _once(self) -> None:
        """One request's worth of bytes. Returns when the file is complete."""
        if self._entry.size is not None and self._done == self._entry.size:
            return
        if self._address.startswith("file:"):
            self._copy()
            return
        with self._client.stream("GET", self._address, headers=self._headers()) as answer:
            self._accept(answer)
            expected = self._expected(answer)
            self._write(
                answer.iter_raw(), expected
            )  # no chunk size: pieces held back would be lost with the connection

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if self._done:
            headers["Range"] = f"bytes={self._done}-"
            if tag := self._recalled_tag():
                headers["If-Range"] = tag
        return headers

    def _recalled_tag(self) -> str | None:
        """The part's ETag, if it is one: after a power cut the file may be empty, or full of zeros."""
        tag = self._mark.read_text(encoding="latin-1") if self._mark.exists() else ""
        return tag if _TAG.fullmatch(tag) else None

    def _accept(self, answer: httpx.Response) -> None:
        """Decide by the status whether the body continues the part, replaces it, or is no use."""
        if answer.status_code in BUSY:
            raise _Dropped(f"the server answered {answer.status_code}", _wait(answer))
        if answer.status_code == 416:
            self._restart()
            raise _Dropped("the server has no such range")
        if answer.status_code == 206:
            if not _continues(answer, self._done):
                self._restart()
                raise _Dropped("the server sent another range than asked for")
            self._joined = True
        elif answer.status_code == 200:
            self._restart()
            self._remember(answer)
        else:
            raise self._missing(answer.status_code)

    def _remember(self, answer: httpx.Response) -> None:
        """Keep the version's strong ETag; a weak one must not be used with If-Range."""
        tag = answer.headers.get("etag", "")
        if _TAG.fullmatch(tag):
            self._mark.write_text(tag, encoding="latin-1")

    def _missing(self, status: int) -> Unavailable:
        reasons = {
            401: "asks for a login",
            403: "refuses access",
            404: f"does not have {self._entry.path} at the pinned revision",
        }
        reason = reasons.get(status, f"answered with status {status}")
        return Unavailable(
            f"{_host(self._address)} {reason}: {self._address}",
            hint="Use another mirror (--mirror URL), or get the files yourself and check them: "
            "inkstick models verify --weights DIR.",
        )

    def _expected(self, answer: httpx.Response) -> int | None:
        """How long the whole file will be by the server's word; raises UsageError if that cannot be the right file."""
        total = _total(answer, self._done)
        if self._entry.size is not None and total is not None and total != self._entry.size:
            self._refuse(f"has a file of {total:,} bytes instead of {self._entry.size:,}")
        if self._entry.size is None and (total or 0) > UNKNOWN_BYTES:
            self._refuse(f"has a file of {total:,} bytes, far more than a file of this kind has")
        return self._entry.size if self._entry.size is not None else total

    def _write(self, pieces: Iterator[bytes], expected: int | None) -> None:
        limit = expected if self._entry.size is not None else UNKNOWN_BYTES
        with self._part.open("ab") as stream:
            for piece in pieces:
                if limit is not None and self._done + len(piece) > limit:
                    stream.close()
                    self._restart()
                    self._refuse("sends more bytes than the file has")
                stream.write(piece)
                self._count(piece)
        if expected is not None and self._done < expected:
            raise _Dropped("the connection ended early")

    def _copy(self) -> None:
        """From a folder: there is no connection to drop."""
        source = Path(urllib.parse.unquote(urllib.parse.urlsplit(self._address).path))
        self._restart()
        try:
            self._write(_pieces(source), self._entry.size)
        except (_Unreadable, _Dropped) as error:
            reason = error if isinstance(error, _Unreadable) else "it is too short"
            raise Unavailable(
                f"{source} could not be copied: {reason}.", hint="Check the folder that --mirror file:///… names."
            ) from error

    def _refuse(self, what: str) -> None:
        raise UsageError(
            f"{_host(self._address)} {what} ({self._entry.to}).",
            hint="The file was not kept. Use another mirror: --mirror URL.",
            code="model_damaged",
        )


def _pieces(source: Path) -> Iterator[bytes]:
    """A file's bytes. Raises _Unreadable: what goes wrong where they are written is another disk's fault."""
    try:
        with source.open("rb") as stream:
            while piece := stream.read(CHUNK):
                yield piece
    except OSError as error:
        raise _Unreadable(error.strerror or str(error)) from error


def _host(address: str) -> str:
    parts = urllib.parse.urlsplit(address)
    return parts.netloc or "The folder"


def _wait(answer: httpx.Response) -> float:
    """Seconds that the server asks to wait, at most a minute."""
    asked = answer.headers.get("retry-after", "")
    return min(60.0, float(_number(asked) or 0))


def _continues(answer: httpx.Response, done: int) -> bool:
    start = answer.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    return _number(start) == done


def _total(answer: httpx.Response, done: int) -> int | None:
    """The whole file's length by the server's word, if it gives one."""
    if answer.status_code == 206:
        return _number(answer.headers.get("content-range", "").rpartition("/")[2])
    return None if "content-encoding" in answer.headers else _number(answer.headers.get("content-length", ""))


def _number(text: str) -> int | None:
    """A plain decimal number of a sane length; None for anything else that a server may send."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None
