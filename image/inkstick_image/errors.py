"""What can go wrong with the builder: a sentence for the person at the build machine, and what to do.

    ImageError
    ├── Missing        missing         programs or keys that one apt line installs
    ├── NotYours       not_yours       cache/ or dist/ belongs to somebody else
    ├── NoIds          no_ids          the account is lent too few ids to build without root
    └── NoNamespace    no_namespace    the machine allows no user namespace to build in

The four that say how a machine must be prepared carry a code, which is stable.
"""

from __future__ import annotations

from typing import ClassVar


class ImageError(Exception):
    """`message` says what is wrong, `hint` what to do about it."""

    code: ClassVar[str] = ""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint

    def told(self) -> str:
        """As the command line says it."""
        lines = [f"{self.message} [{self.code}]" if self.code else self.message, *self.hint.splitlines()]
        return "build.sh: " + "\n          ".join(lines)


class Missing(ImageError):
    code = "missing"


class NotYours(ImageError):
    code = "not_yours"


class NoIds(ImageError):
    code = "no_ids"


class NoNamespace(ImageError):
    code = "no_namespace"
