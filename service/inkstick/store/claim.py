"""What the spool writes down about a document: the claim when it arrives, the outcome when it ends."""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from inkstick.errors import UsageError
from inkstick.profile import Originals
from inkstick.store.disk import Identity

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: sorts like the number, no i l o u
_NAME_MAX = 255


@dataclass(frozen=True, slots=True)
class Claim:
    """An accepted (or about to be accepted) document.

    `id` sorts by arrival. `name` is for display (NFC). `relpath` is the place below inbox, UTF-8 for certain; `raw` the
    same as base64 of the bytes that the file system had. `root` is the inbox if it is not the data folder's own.
    `source` is inbox or upload, `method` rename, copy or upload. `identity` is the dropped file's, None for an upload.
    `received` is wall time in ISO form, for people only. `verdict` is {code, message, hint} when it was clear on
    arrival that the document cannot be read: it is to end as failed with that, unread.
    """

    id: str
    name: str
    relpath: str
    raw: str
    source: str
    method: str
    profile: Mapping[str, Any]
    received: str
    identity: Identity | None = None
    size: int | None = None
    sha256: str | None = None
    root: str | None = None
    verdict: Mapping[str, str] | None = None

    @property
    def originals(self) -> Originals:
        """What becomes of the original. An upload has no inbox to be kept in: it moves."""
        wish = Originals(self.profile.get("originals", Originals.MOVE))
        return Originals.MOVE if wish is Originals.KEEP and self.source == "upload" else wish

    def as_bytes(self) -> bytes:
        return _dump(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a document ended: as a wish (`results`, `original`, `explained` None) and, filled in, as written down.

    `results` is below results/; `original` (``done/…`` or ``failed/…``; None: kept in the inbox, or deleted) and
    `explained` (``failed/….error.json``) are below the data folder. `error` is {code, message, hint}.
    """

    state: str
    results: str | None = None
    original: str | None = None
    error: Mapping[str, str] | None = None
    pages: int = 0
    attempts: int = 1
    sha256: str | None = None
    size: int | None = None
    type: str | None = None
    explained: str | None = None
    failed_pages: tuple[int, ...] = ()

    def as_bytes(self) -> bytes:
        return _dump(self)

    @property
    def places(self) -> set[str]:
        """Names below the data folder that are this document's, also while what had them is carried away."""
        results = f"results/{self.results}" if self.results is not None else None
        return {place for place in (results, self.original, self.explained) if place is not None}


def claim_from_bytes(data: bytes) -> Claim:
    """Inverse of `Claim.as_bytes`. Raises ValueError, KeyError or TypeError on anything else."""
    values = json.loads(data)
    if values["identity"] is not None:
        values["identity"] = Identity(**values["identity"])
    return Claim(**values)


def outcome_from_bytes(data: bytes) -> Outcome:
    """Inverse of `Outcome.as_bytes`. Raises ValueError, KeyError or TypeError on anything else."""
    values = json.loads(data)
    return Outcome(**{**values, "failed_pages": tuple(values["failed_pages"])})


def _dump(record: Claim | Outcome) -> bytes:
    return json.dumps(record, default=_values, separators=(",", ":")).encode("ascii")


def _values(record: Any) -> dict[str, Any]:
    """A record's fields, for json to go on with: `dataclasses.asdict` would copy all that is in them, too."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


@dataclass(slots=True)
class Ids:
    """Document ids: 26 characters, 50 bits of time and 80 of chance. Later ids sort later even if the clock steps
    back: `last` is the time in the newest id so far."""

    entropy: Callable[[int], bytes]
    last: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def saw(self, identifier: str) -> None:
        """An id made by an earlier run."""
        time = 0
        for letter in identifier[:10]:
            time = time << 5 | max(0, _ALPHABET.find(letter))
        self.last = max(self.last, time)

    def next(self, wall_seconds: float) -> str:
        with self._lock:
            self.last = max(int(wall_seconds * 1000), self.last + 1, 1)
            number = self.last << 80 | int.from_bytes(self.entropy(10), "big")
        return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -5, -5))


def clean_relpath(relpath: str) -> tuple[str, str]:
    """A dropped file's relative path as UTF-8 text (bytes that are not become ``_``) and as base64 of its bytes.

    Raises UsageError for a path that leaves its folder.
    """
    parts = relpath.split("/")
    if not all(part not in ("", ".", "..") and "\0" not in part for part in parts):
        raise UsageError(f"not a path below the inbox: {relpath!r}", hint="Use a relative path without '..'.")
    raw = relpath.encode("utf-8", "surrogateescape")
    text = "".join("_" if "\udc80" <= letter <= "\udcff" else letter for letter in relpath)
    return text.encode("utf-8", "replace").decode(), base64.b64encode(raw).decode()


def raw_relpath(claim: Claim) -> PurePosixPath:
    """Where the file was dropped, byte for byte."""
    return PurePosixPath(base64.b64decode(claim.raw).decode("utf-8", "surrogateescape"))


def display_name(relpath: str) -> str:
    return unicodedata.normalize("NFC", relpath.rsplit("/", 1)[-1])


def numbered(name: str, number: int, *, suffix: str = "", room: int = 0) -> str:
    """``name``, then ``name (2)``, …: with `suffix` behind the number and cut so that `room` more bytes would fit."""
    tail = (f" ({number})" if number > 1 else "") + suffix
    space = _NAME_MAX - room - len(tail.encode())
    return name.encode()[:space].decode(errors="ignore") + tail


def plain_result_name(name: str) -> str:
    """A folder name for the results of `name`: its stem, nothing that a path or Windows could stumble over."""
    stem = name.rsplit(".", 1)[0] if "." in name.strip(".") else name
    safe = "".join("_" if letter in '<>:"/\\|?*' or ord(letter) < 32 else letter for letter in stem)
    return safe.strip(" .").encode()[:180].decode(errors="ignore") or "document"
