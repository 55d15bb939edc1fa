"""Everything that can go wrong, as one exception tree with stable codes.

    InkstickError
    ├── DocumentError            the document is at fault: it goes to failed/ with its code
    │   ├── Encrypted            encrypted        a password is needed
    │   ├── Damaged              damaged          the bytes are not a readable file of their type
    │   ├── Empty                empty            no pages, or pages without any area
    │   ├── TooLarge             too_large        beyond a limit on bytes, pages or pixels
    │   ├── TooComplex           too_complex      the parser ran out of its memory or time on one construct
    │   ├── Unsupported          unsupported      a type that Inkstick does not read, or a task no engine offers
    │   ├── Incomplete           incomplete       still being written, or cut off, after a long wait
    │   ├── Timeout              timeout          a page took longer than its deadline
    │   ├── ArchiveUnsafe        archive_unsafe   a ZIP or mail whose members break a safety limit
    │   ├── PageFailed           page_failed      no page of the document could be read
    │   └── Internal             internal         a fault of Inkstick itself on this document
    ├── Blocked                  nobody is at fault: the work waits, nothing moves, no attempt is counted
    │   ├── EngineDown           engine_down      the engine does not answer
    │   ├── DiskFull             disk_full        the disk is below its reserve
    │   └── Unavailable          unavailable      a folder or a device is gone
    └── UsageError               a wrong option, setting or request; carries `code` for the API

Each carries a sentence for the user (`message`) and what to do about it (`hint`). Raise with a message of your own
when you know more than the class does: ``raise Damaged("page tree is cyclic")``.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, ClassVar


class InkstickError(Exception):
    """Root of the tree. `code` is stable and part of the contract; `message` and `hint` are for people."""

    code: ClassVar[str] = "internal"
    default_message: ClassVar[str] = "Something went wrong inside Inkstick."
    default_hint: ClassVar[str] = "Try again. If it happens again, export the diagnostics and report it."

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or self.default_message
        self.hint = hint or self.default_hint
        super().__init__(self.message)

    def as_json(self) -> dict[str, Any]:
        """The shape of every error in the API and in ``<file>.error.json``: code, message, hint."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class DocumentError(InkstickError):
    """The document is at fault. It goes to failed/ with its code; dropping it again retries it."""


class Encrypted(DocumentError):
    code = "encrypted"
    default_message = "The document is protected by a password."
    default_hint = (
        "Save it without a password, or put the password into the folder's .inkstick.toml, and drop it again."
    )

    @classmethod
    def despite(cls, passwords: Sequence[str]) -> Encrypted:
        """What to raise when none of `passwords` opened it: whoever gave one must see that it was the wrong one."""
        wrong = "The document is protected by a password, and it is none of those that were tried."
        return cls(wrong if passwords else None)


class Damaged(DocumentError):
    code = "damaged"
    default_message = "The file is damaged: it cannot be opened as what it claims to be."
    default_hint = "Scan or export it again, or open it in the program that made it and save a fresh copy."


class Empty(DocumentError):
    code = "empty"
    default_message = "The document has no pages."
    default_hint = "Check that the scan or export really contains pages."


class TooLarge(DocumentError):
    code = "too_large"
    default_message = "The document is larger than this appliance accepts."
    default_hint = "Split it into smaller files and drop those."


class TooComplex(DocumentError):
    code = "too_complex"
    default_message = "The document needs more memory or time to open than any real document should."
    default_hint = "Print it to a new PDF, or export its pages as images, and drop those."


class Unsupported(DocumentError):
    code = "unsupported"
    default_message = "This type of file is not read by Inkstick."
    default_hint = "Convert it to PDF, TIFF, JPEG or PNG."


class Incomplete(DocumentError):
    code = "incomplete"
    default_message = "The file never became complete."
    default_hint = "The copy or scan was probably interrupted. Copy it again."


class Timeout(DocumentError):
    code = "timeout"
    default_message = "The document took longer than its deadline."
    default_hint = "Retry it. If it fails again, print it to a new PDF or export its pages as images."


class ArchiveUnsafe(DocumentError):
    code = "archive_unsafe"
    default_message = "The archive breaks a safety limit."
    default_hint = "Unpack it yourself on a computer that you trust and drop the documents inside it."


class PageFailed(DocumentError):
    code = "page_failed"
    default_message = "No page of the document could be read."
    default_hint = "Retry it, or retry it with another engine."


class Internal(DocumentError):
    code = "internal"


class Blocked(InkstickError):
    """Nobody's document is at fault. The work waits in place and goes on by itself; no attempt is counted."""

    code = "unavailable"


class EngineDown(Blocked):
    code = "engine_down"
    default_message = "The engine does not answer."
    default_hint = "Nothing is lost: documents wait, and are read when it is back."


class DiskFull(Blocked):
    code = "disk_full"
    default_message = "The disk is nearly full."
    default_hint = "Carry results away or delete what is no longer needed; work goes on by itself when there is room."


class Unavailable(Blocked):
    code = "unavailable"
    default_message = "A folder or device is not there."
    default_hint = "Plug it in or mount it again; nothing was treated as deleted."


class UsageError(InkstickError):
    """A wrong option, setting or request. `code` distinguishes them for programs."""

    code = "usage"
    default_message = "The request cannot be understood."
    default_hint = "See `inkstick --help` or /docs."

    def __init__(self, message: str | None = None, *, hint: str | None = None, code: str = "usage") -> None:
        super().__init__(message, hint=hint)
        self.code = code  # type: ignore[misc]


def no_room(error: OSError) -> bool:
    """Whether what the system says is that the disk, or somebody's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def refused_by(error: OSError) -> Blocked:
    """What the operating system refused, as what somebody waits for: without the path, which has a document's name."""
    if no_room(error):
        return DiskFull()
    return Unavailable(f"The disk says: {error.strerror or type(error).__name__}.")


def no_such_page() -> UsageError:
    """For a page number behind a document's last one."""
    return UsageError("There is no such page.", hint="The document has fewer pages.", code="not_found")


DOCUMENT_CODES: tuple[str, ...] = (
    "encrypted", "damaged", "empty", "too_large", "too_complex", "unsupported", "incomplete", "timeout",
    "archive_unsafe", "page_failed", "internal",
)  # fmt: skip
BLOCKED_CODES: tuple[str, ...] = ("engine_down", "disk_full", "unavailable")


def by_code(code: str, message: str | None = None, hint: str | None = None) -> InkstickError:
    """Rebuild an error from its stable code, as it comes back from a worker process or from disk."""
    classes: list[type[InkstickError]] = [*DocumentError.__subclasses__(), *Blocked.__subclasses__()]
    for cls in classes:
        if cls.code == code:
            return cls(message, hint=hint)
    return Internal(message or f"unknown error code {code!r}", hint=hint)
