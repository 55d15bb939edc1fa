"""Names that are never documents: other programs' temporary files, the litter of file managers, and rubbish bins.

Compared without regard to case. A name that is only *maybe* a document is not here: what is ignored is not even listed.
"""

from __future__ import annotations

from typing import Final

SETTINGS_NAME: Final = ".inkstick.toml"

_STARTS: Final = (".", "~$")
_ENDS: Final = (
    "~", ".tmp", ".part", ".partial", ".crdownload", ".filepart", ".download", ".swp", ".lock", ".!ut", ".opdownload",
)  # fmt: skip
_FILES: Final = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_FOLDERS: Final = frozenset(
    {"@eadir", "#recycle", "$recycle.bin", "system volume information", "__macosx", "lost+found"}
)


def ignored_file(name: str) -> bool:
    """Whether a file of this name is left alone: hidden, half-copied, or made by a file manager."""
    folded = name.casefold()
    return folded.startswith(_STARTS) or folded.endswith(_ENDS) or folded in _FILES


def ignored_folder(name: str) -> bool:
    """Whether a folder of this name is not entered: hidden, a rubbish bin, or a file server's own."""
    folded = name.casefold()
    return folded.startswith(".") or folded in _FOLDERS
