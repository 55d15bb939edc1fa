"""The one failure of the builder: a sentence for the person at the build machine, and what to do."""

from __future__ import annotations


class ImageError(Exception):
    """`message` says what is wrong, `hint` what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint
