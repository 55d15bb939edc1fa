"""Which documents a list shows, as SQL: quick with 100,000 of them because the conditions meet one covering index.

Newest first, by cursor: no page of a list costs more than another, and none is counted or skipped over.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from inkstick.errors import UsageError

FOLDER = "rtrim(rtrim(relpath, replace(relpath, '/', '')), '/')"
"""SQL for the folder that a document came from, without a slash at its end; empty for inbox itself."""

INDEXES = f"""
CREATE INDEX IF NOT EXISTS listing ON documents (seq, state, flags, code, relpath, received);
CREATE INDEX IF NOT EXISTS by_code ON documents (code, seq) WHERE state IN ('failed', 'partial');
CREATE INDEX IF NOT EXISTS by_folder ON documents ({FOLDER});
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Every condition that is given must hold; None: any.

    `q`: in the name or the text. `state`: one of the ledger's. `flag`: of any page. `folder`: below inbox, with what
    lies below it. `since`, `until`: ISO dates (UTC) of the first and last day of arrival. `code`: of the error."""

    q: str | None = None
    state: str | None = None
    flag: str | None = None
    folder: str | None = None
    since: str | None = None
    until: str | None = None
    code: str | None = None

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            object.__setattr__(self, name, _date(name, getattr(self, name)))

    def given(self) -> dict[str, str]:
        """What was asked for, by name: for links to the next ones."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name))}

    def conditions(self, table: str = "documents") -> tuple[list[str], list[Any]]:
        """SQL conditions on `table` and their values, `q` left out."""
        where: list[str] = []
        values: list[Any] = []
        for condition, value in self._pairs(table):
            where.append(condition)
            values += value
        return where, values

    def _pairs(self, t: str) -> list[tuple[str, list[Any]]]:
        pairs: list[tuple[str, list[Any]]] = []
        if self.state:
            pairs.append((f"{t}.state = ?", [self.state]))
        if self.flag:
            pairs.append((f"{t}.flags <> '' AND ' ' || {t}.flags || ' ' LIKE ?", [f"% {_plain(self.flag)} %"]))
        if self.folder and (folder := self.folder.strip("/")):
            pairs.append((f"{t}.relpath >= ? AND {t}.relpath < ?", [f"{folder}/", f"{folder}0"]))  # 0 comes after /
        if self.since:
            pairs.append((f"substr({t}.received, 1, 10) >= ?", [self.since]))
        if self.until:
            pairs.append((f"substr({t}.received, 1, 10) <= ?", [self.until]))
        if self.code:
            pairs.append((f"{t}.code = ?", [self.code]))
        return pairs

    def select(self, after: int | None, limit: int) -> tuple[str, list[Any]]:
        """The numbers (`seq`) of the next `limit` documents before `after`, newest first; `q` left out."""
        where, values = self.conditions()
        narrow = bool(self.flag or self.folder or self.since or self.until or self.code)
        index = "INDEXED BY listing " if narrow else ""
        clause = " AND ".join(["documents.seq < ?", *where])
        sql = f"SELECT seq FROM documents {index}WHERE {clause} ORDER BY seq DESC LIMIT ?"  # noqa: S608
        return sql, [after if after is not None else 1 << 62, *values, limit]


def _plain(flag: str) -> str:
    """A flag is letters and underscores; an underscore is no wildcard here, for no two flags differ in just that."""
    return "".join(letter for letter in flag if letter.isalnum() or letter == "_")


def _date(name: str, value: str | None) -> str | None:
    """The date as it is compared: ISO 8601 has several ways to write one."""
    try:
        return datetime.date.fromisoformat(value).isoformat() if value else None
    except ValueError:
        raise UsageError(f"{name} cannot be {value!r}", hint="Give a date like 2026-11-21.") from None
