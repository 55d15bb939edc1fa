"""The inbox's folders as people set them up: which there are, what each asks for, new ones, and changed settings.

A folder is named by its path below the inbox in raw bytes, as a scan gives it. Each is opened component by component
without following a link, so that no name, and no link that somebody puts in the way meanwhile, leads out of the inbox.
Settings are replaced whole: written beside, synced, renamed, the folder synced; the watcher sees the old text or the
new one. Whoever saves says which text was changed (`known`): what somebody else saved meanwhile is not overwritten.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from inkstick.config import DataFolder
from inkstick.errors import DiskFull, InkstickError, Unavailable, UsageError, no_room
from inkstick.intake.ignore import SETTINGS_NAME, ignored_folder
from inkstick.intake.names import chain, display, escaped, natural_key, parent
from inkstick.intake.profiles import SETTINGS_BYTES, read_regular
from inkstick.intake.root import reserved_folders
from inkstick.intake.scan import MAX_DEPTH, OPEN_FOLDER, Survey, scan
from inkstick.profile import Profile, parse_toml
from inkstick.store.disk import Disk

NAME_BYTES: Final = 200
FORBIDDEN: Final = '\\/:*?"<>|'
"""What a new folder's name may not hold: other systems, from which the inbox may be reached, cannot have it."""
_DEVICES: Final = frozenset({"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))})


@dataclass(frozen=True, slots=True)
class Folder:
    """`raw`: path below the inbox, b"" for the inbox itself. `files`: documents directly in it now. `own`: it has
    settings of its own. `profile`: what its documents are read with, None where `problem` says why they wait."""

    raw: bytes
    files: int
    own: bool
    profile: Profile | None
    problem: InkstickError | None = None

    @property
    def name(self) -> str:
        return display(self.raw)


def digest(text: str | None) -> str:
    """What `known` must be to replace this text; "" for a folder without settings."""
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()


def changed_meanwhile() -> UsageError:
    """The refusal to overwrite what somebody else saved."""
    return UsageError(
        "The settings were changed meanwhile, by somebody else or in the folder itself.",
        hint="Load the page again, and make your change to what is there now.",
        code="not_ready",
    )


def checked(text: str, base: Profile) -> Profile:
    """What the text asks for over `base`. Raises `UsageError` that says where the mistake is and what may be there."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(
            f"{SETTINGS_NAME}: a character cannot be written as UTF-8", hint="Type the line again."
        ) from None
    if size > SETTINGS_BYTES:
        raise UsageError(f"{SETTINGS_NAME}: it is too long", hint=f"At most {SETTINGS_BYTES >> 10} KB.")
    return parse_toml(text, base, where=SETTINGS_NAME)


def new_name(given: str) -> str:
    """A folder name as it will be on the disk (NFC). Raises `UsageError` that says what is wrong with it."""
    name = unicodedata.normalize("NFC", given.strip())
    if not name or name in (".", ".."):
        raise UsageError("The folder needs a name.", hint="For example: bills 2026.")
    bad = next((char for char in name if char in FORBIDDEN or unicodedata.category(char)[0] == "C"), None)
    if bad is not None:
        shown = bad if bad.isprintable() else f"U+{ord(bad):04X}"
        raise UsageError(f"The folder's name cannot hold {shown}.", hint=f"Leave out {FORBIDDEN} and invisible signs.")
    if ignored_folder(name) or name.startswith("~$") or name.split(".")[0].casefold() in _DEVICES:
        raise UsageError(f"A folder called {name} would not be searched.", hint="Choose a name without a dot in front.")
    if name.endswith("."):
        raise UsageError("The folder's name cannot end with a dot.", hint="Leave the dot out.")
    if len(name.encode()) > NAME_BYTES:
        raise UsageError("The folder's name is too long.", hint=f"At most {NAME_BYTES} bytes.")
    return name


class Folders:
    """See the module's docstring. All methods block and may be called from any thread."""

    def __init__(self, folder: DataFolder, disk: Disk | None = None, base: Profile | None = None) -> None:
        self._folder, self._disk, self._base = folder, disk or Disk(), base or Profile()
        self._lock = threading.Lock()

    # -- looking

    def listed(self) -> list[Folder]:
        """Every folder that is searched, in natural order. Raises Unavailable where the inbox is not there."""
        survey = scan(self._folder.inbox, reserved_folders(self._folder))
        counts = _counts(survey)
        known: dict[bytes, Profile | InkstickError] = {}
        found = []
        for raw in sorted(survey.folders, key=natural_key):
            known[raw] = self._over(raw, known[parent(raw)] if raw else self._base, raw in survey.settings)
            found.append(_folder(raw, counts.get(raw, 0), raw in survey.settings, known[raw]))
        return found

    def text(self, raw: bytes) -> str | None:
        """The folder's own settings as they stand, with plain line ends; None without any. Raises `UsageError`."""
        with self._open(raw) as fd:
            return self._read(fd, raw)

    def above(self, raw: bytes) -> Profile:
        """What the folder inherits. Raises `UsageError` that names the file above it that has a mistake."""
        profile: Profile | InkstickError = self._base
        for step in chain(raw)[:-1]:
            profile = self._over(step, profile, True)
        if isinstance(profile, InkstickError):
            raise profile
        return profile

    def _over(self, raw: bytes, base: Profile | InkstickError, own: bool) -> Profile | InkstickError:
        if isinstance(base, InkstickError) or not own:
            return base
        try:
            text = self.text(raw)
            where = f"{display(raw)}/{SETTINGS_NAME}".lstrip("/")
            return base if text is None else parse_toml(text, base, where=where)
        except InkstickError as error:
            return error

    # -- changing

    def save(self, raw: bytes, text: str, known: str) -> None:
        """Replace the folder's settings, durably. Raises `UsageError` for a text with a mistake, and with code
        not_ready if the settings are no longer those of `known`."""
        checked(text, self.above(raw))
        with self._lock, self._open(raw) as fd:
            self._compare(fd, raw, known)
            self._replace(fd, text.encode())

    def remove(self, raw: bytes, known: str) -> None:
        """Remove the folder's own settings, durably: it asks for what the folder above asks for."""
        with self._lock, self._open(raw) as fd:
            self._compare(fd, raw, known)
            self._disk.step("folders.remove")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(SETTINGS_NAME, dir_fd=fd)
            self._sync(fd, "folders.sync_folder")

    def create(self, above: bytes, name: str) -> bytes:
        """Make a folder, durably; its path. Raises `UsageError` for a name that will not do, or that is taken."""
        new = os.fsencode(new_name(name))
        if above.count(b"/") + 2 > MAX_DEPTH:
            raise UsageError("The folder would lie too deep to be searched.", hint="Make it further up.")
        with self._lock, self._open(above) as fd:
            self._disk.step("folders.make")
            try:
                os.mkdir(new, dir_fd=fd)
            except FileExistsError:
                raise UsageError(f"There is a {display(new)} already.", hint="Choose another name.") from None
            self._sync(fd, "folders.sync_folder")
        return above + b"/" + new if above else new

    def _compare(self, fd: int, raw: bytes, known: str) -> None:
        try:
            now = digest(self._read(fd, raw))
        except UsageError:
            now = "unreadable"  # a link, or no text: it may be replaced by whoever saw that
        if now not in (known, "unreadable"):
            raise changed_meanwhile()

    def _replace(self, fd: int, data: bytes) -> None:
        beside = f"{SETTINGS_NAME}.{secrets.token_hex(8)}.tmp"
        self._disk.step("folders.write")
        try:
            file = os.open(
                beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=fd
            )
            try:
                _write_all(file, data)
                self._sync(file, "folders.sync")
            finally:
                os.close(file)
            os.rename(beside, SETTINGS_NAME, src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=fd)
            raise
        self._sync(fd, "folders.sync_folder")

    def _sync(self, fd: int, at: str) -> None:
        """The inbox may be a share, or have a stick in it: what fails there says nothing of our own disk."""
        self._disk.fsync(fd, at, ours=os.fstat(fd).st_dev == self._folder.state.stat().st_dev)

    # -- opening

    @contextlib.contextmanager
    def _open(self, raw: bytes) -> Iterator[int]:
        """The folder's descriptor. Raises `UsageError` (not_found) for what is no folder that is searched."""
        with _said(raw):
            fd = self._walk(raw)
            try:
                yield fd
            finally:
                os.close(fd)

    def _walk(self, raw: bytes) -> int:
        closed = reserved_folders(self._folder)
        fd = os.open(self._folder.inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for step in raw.split(b"/") if raw else []:
            try:
                below = _step(fd, step, closed)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _read(self, fd: int, raw: bytes) -> str | None:
        try:
            return read_regular(SETTINGS_NAME, fd).replace("\r\n", "\n")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            reason = "it is not UTF-8 text"
        except OSError as error:
            reason = "it is a link" if error.errno == errno.ELOOP else error.strerror or str(error)
        raise UsageError(
            f"{display(raw)}/{SETTINGS_NAME} cannot be used: {reason}.".lstrip("/"),
            hint="It must be an ordinary text file. Saving here replaces it.",
        )


def _step(fd: int, name: bytes, closed: frozenset[tuple[int, int]]) -> int:
    """Open one folder below an open one. Raises FileNotFoundError for what a scan would not enter either."""
    if name in (b"", b".", b"..") or b"\0" in name or ignored_folder(escaped(name)):
        raise FileNotFoundError(errno.ENOENT, "no such folder")
    below = os.open(name, OPEN_FOLDER, dir_fd=fd)
    status = os.fstat(below)
    if (status.st_dev, status.st_ino) in closed:
        os.close(below)
        raise FileNotFoundError(errno.ENOENT, "no such folder")
    return below


@contextlib.contextmanager
def _said(raw: bytes) -> Iterator[None]:
    """What the operating system refuses, in words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise UsageError(
                "There is no such folder in the inbox.", hint="The list shows them all.", code="not_found"
            ) from error
        if no_room(error):
            raise DiskFull from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR):
            raise UsageError(
                f"{display(raw) or 'The inbox'} cannot be changed: {os.strerror(error.errno)}.",
                hint="Change it where the folder comes from (a share, a stick with write protection).",
            ) from error
        raise Unavailable(f"The folder cannot be used: {error.strerror}.") from error


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _counts(survey: Survey) -> dict[bytes, int]:
    counts: dict[bytes, int] = {}
    for path in survey.files:
        counts[parent(path)] = counts.get(parent(path), 0) + 1
    return counts


def _folder(raw: bytes, files: int, own: bool, found: Profile | InkstickError) -> Folder:
    if isinstance(found, InkstickError):
        return Folder(raw, files, own, None, found)
    return Folder(raw, files, own, found)
