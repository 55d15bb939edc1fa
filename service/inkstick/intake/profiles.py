"""What each folder asks for: its `.inkstick.toml` over those of the folders above it.

A settings file that cannot be understood loses nothing: the files of its folder, and below, wait, and the status says
which file is wrong and how. So do they while the file is being written. It must be a regular file: a link could make
the watcher read, and quote in a message, a file that its maker may not see.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inkstick.errors import UsageError
from inkstick.intake.ignore import SETTINGS_NAME
from inkstick.intake.names import chain, display, escaped
from inkstick.intake.scan import OPEN_FILE
from inkstick.intake.settle import Candidate, Phase, Rules, Sighting, observe
from inkstick.profile import Profile, parse_toml

SETTINGS_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class BadProfile:
    """Why the files of a folder wait. `folder` is for display; "" is the inbox itself. `moving`: still being saved."""

    folder: str
    message: str
    hint: str
    moving: bool = False


Resolved = Profile | BadProfile


class Profiles:
    """The profile of each folder, re-read only when a settings file's identity changes."""

    def __init__(self, root: Path, base: Profile | None = None) -> None:
        self._root = root
        self._base = base or Profile()
        self._seen: dict[bytes, Candidate | None] = {}
        self._texts: dict[bytes, str | BadProfile] = {}
        self._resolved: dict[bytes, Resolved] = {}
        self._refused: set[bytes] = set()  # what the disk or share would not give: asked for again

    def update(self, settings: Mapping[bytes, Sighting | None], now: float, rules: Rules) -> None:
        """Take over what a scan saw: settings files by folder (None: there, but not a regular file)."""
        seen: dict[bytes, Candidate | None] = {}
        for folder, sighting in settings.items():
            seen[folder] = None if sighting is None else observe(self._seen.get(folder), sighting, now, rules)
        if seen == self._seen and not self._refused:
            return
        changed = {folder for folder, new in seen.items() if folder not in self._seen or new != self._seen[folder]}
        changed |= self._refused
        self._refused.clear()
        self._texts = {f: text for f, text in self._texts.items() if f in seen and f not in changed}
        self._seen = seen
        self._resolved.clear()

    def profile(self, folder: bytes) -> Resolved:
        """What the files directly in `folder` (relative, raw bytes) ask for, or why they must wait."""
        if folder not in self._resolved:
            self._resolved[folder] = self._resolve(folder)
        return self._resolved[folder]

    def problems(self) -> tuple[BadProfile, ...]:
        """The settings files that cannot be used, each once, by folder; not those that are still being saved."""
        found = {bad.folder: bad for f in self._seen if isinstance(bad := self.profile(f), BadProfile)}
        return tuple(bad for _, bad in sorted(found.items()) if not bad.moving)

    def _resolve(self, folder: bytes) -> Resolved:
        profile = self._base
        for step in chain(folder):
            if step not in self._seen:
                continue
            text = self._text(step)
            if isinstance(text, BadProfile):
                return text
            try:
                profile = parse_toml(text, profile, where=_where(step))
            except UsageError as error:
                return BadProfile(display(step), error.message, error.hint)
        return profile

    def _text(self, folder: bytes) -> str | BadProfile:
        candidate = self._seen[folder]
        if candidate is not None and candidate.phase is Phase.MOVING:
            return BadProfile(display(folder), f"{_where(folder)} is still being saved.", "Nothing to do.", moving=True)
        if folder not in self._texts:
            self._texts[folder] = self._read(folder)
        return self._texts[folder]

    def _read(self, folder: bytes) -> str | BadProfile:
        path = os.path.join(escaped(os.fsencode(self._root)), escaped(folder), SETTINGS_NAME)  # noqa: PTH118
        try:
            return read_regular(path)
        except UnicodeDecodeError:
            reason = "it is not UTF-8 text"
        except OSError as error:
            self._refused.add(folder)
            reason = error.strerror or str(error)
        return BadProfile(
            display(folder),
            f"{_where(folder)} cannot be used: {reason}.",
            "It must be an ordinary text file, not a link, of at most 64 KB. See docs/folders.md for an example.",
        )


def read_regular(path: str, folder: int | None = None) -> str:
    """A settings file's text; `path` is below the open `folder` if one is given. Raises OSError for one that is not
    there, a link, not a regular file or too long, and UnicodeDecodeError."""
    fd = os.open(path, OPEN_FILE, dir_fd=folder)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is not an ordinary file")
        if status.st_size > SETTINGS_BYTES:
            raise OSError(0, "it is too long")
        return os.read(fd, SETTINGS_BYTES).decode("utf-8-sig")
    finally:
        os.close(fd)


def _where(folder: bytes) -> str:
    return f"{display(folder)}/{SETTINGS_NAME}" if folder else SETTINGS_NAME
