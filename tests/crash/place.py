"""A path for the file system in memory: what pathlib does for the spool, with every child made only once.

pathlib's own paths are three quarters of a simulated crash's time.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import cast


class Place:
    """Stands in for an absolute `Path`. Equal places are the same object."""

    __slots__ = ("_children", "name", "parent", "parts")

    def __init__(self, parent: Place | None, name: str) -> None:
        self.parent: Place = parent if parent is not None else self
        self.name = name
        self.parts: tuple[str, ...] = (*parent.parts, name) if parent is not None else ("/",)
        self._children: dict[str, Place] = {}

    def __truediv__(self, other: str | PurePosixPath) -> Place:
        text = other if isinstance(other, str) else str(other)
        found = self._children.get(text)
        if found is None:
            found = self
            for part in text.split("/"):
                if part and part != ".":
                    found = found._child(part)
            self._children[text] = found
        return found

    def _child(self, name: str) -> Place:
        found = self._children.get(name)
        if found is None:
            found = self._children[name] = Place(self, name)
        return found

    def with_name(self, name: str) -> Place:
        return self.parent / name

    @property
    def parents(self) -> list[Place]:
        found, place = [], self
        while place.parent is not place:
            place = place.parent
            found.append(place)
        return found

    def relative_to(self, root: Place) -> PurePosixPath:
        return PurePosixPath(*self.parts[len(root.parts) :])

    def __str__(self) -> str:
        return "/" + "/".join(self.parts[1:])

    __repr__ = __str__


def place(path: str) -> Path:
    """A place, in the clothes of a Path."""
    return cast(Path, Place(None, "") / path)
