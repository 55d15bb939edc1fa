"""Strict reading of a TOML table: every key is asked for by type, and one that nobody asked for is refused.

Pure. Each message names the file and the key, so that the author of a manifest finds the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from inkstick.errors import UsageError

Value = TypeVar("Value")

_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


class Table:
    """One table of a file. `where` is what messages start with, such as ``hunyuanocr-1.5.toml: licence``."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._values = dict(values)
        self._asked: set[str] = set()

    def fail(self, key: str, problem: str) -> UsageError:
        return UsageError(
            f"{self.where}: {key} {problem}", hint="models-manifest/README.md explains every key.", code="manifest"
        )

    def has(self, key: str) -> bool:
        """Whether the key is there; asking makes it a known one."""
        return self._take(key) is not None

    def text(self, key: str) -> str:
        value = str(self._need(key, str))
        if not value:
            raise self.fail(key, "is empty")
        return value

    def maybe_text(self, key: str, *, empty: bool = False) -> str | None:
        if empty and self._take(key) == "":
            return ""
        return self.text(key) if self.has(key) else None

    def whole(self, key: str, *, least: int = 0) -> int:
        value = int(self._need(key, int))
        if value < least:
            raise self.fail(key, f"is {value}, but must be at least {least}")
        return value

    def maybe_whole(self, key: str, *, least: int = 0) -> int | None:
        return self.whole(key, least=least) if self.has(key) else None

    def number(self, key: str, default: float, *, least: float, most: float) -> float:
        value = float(self._need(key, float)) if self.has(key) else default
        if not least <= value <= most:  # so is nan, which TOML has
            raise self.fail(key, f"is {value}, but must be from {least:g} to {most:g}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        return self._need(key, bool) if self.has(key) else default

    def words(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty if the key is absent."""
        values = self._need(key, list) if self.has(key) else []
        if not all(isinstance(value, str) and value for value in values):
            raise self.fail(key, "must be a list of texts")
        return tuple(values)

    def mapping(self, key: str) -> dict[str, str]:
        """A table of texts; empty if the key is absent."""
        values = self._need(key, dict) if self.has(key) else {}
        if not all(isinstance(value, str) and value for value in values.values()):
            raise self.fail(key, "must be a table of texts")
        return dict(values)

    def table(self, key: str) -> Table:
        return Table(self._need(key, dict), f"{self.where}: {key}")

    def maybe_table(self, key: str) -> Table | None:
        return self.table(key) if self.has(key) else None

    def tables(self, key: str) -> tuple[Table, ...]:
        """A list of tables; empty if the key is absent."""
        values = self._need(key, list) if self.has(key) else []
        if not all(isinstance(value, dict) for value in values):
            raise self.fail(key, "must be a list of tables")
        return tuple(Table(value, f"{self.where}: {key} {number}") for number, value in enumerate(values, start=1))

    def keys(self) -> tuple[str, ...]:
        """Every key of the table, which makes them all known."""
        self._asked.update(self._values)
        return tuple(self._values)

    def one_of(self, key: str, allowed: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in allowed:
            raise self.fail(key, f"is {value!r}, but must be one of: {', '.join(allowed)}")
        return value

    def done(self, result: Value) -> Value:
        """`result`, after refusing every key that was not asked for."""
        for key in self._values:
            if key not in self._asked:
                raise self.fail(key, f"is not a known key (known here: {', '.join(sorted(self._asked))})")
        return result

    def _take(self, key: str) -> Any:
        self._asked.add(key)
        return self._values.get(key)

    def _need(self, key: str, kind: type) -> Any:
        value = self._take(key)
        if value is None:
            raise self.fail(key, "is missing")
        right = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not right or (isinstance(value, bool) and kind is not bool):
            raise self.fail(key, f"must be {_NAMES[kind]}, not {value!r}")
        return value
