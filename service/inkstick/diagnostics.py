"""What a person can send to those who repair Inkstick: figures, versions, the log; no text and no name of a document.

Documents are in it by their ids only. Settings that hold paths or addresses are left out.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from enum import Enum
from typing import Any

from inkstick.config import Settings
from inkstick.inventory import Inventory
from inkstick.logring import Line
from inkstick.store.ledger import Row
from inkstick.throughput import Series
from inkstick.web.office_port import Stats

DOCUMENTS = 5000
"""The newest ones are told of."""


def export(
    settings: Settings, inventory: Inventory, stats: Stats, series: Series, log: Sequence[Line], rows: Iterable[Row]
) -> bytes:
    """A ZIP archive."""
    files = {
        "about.json": _json({"packages": list(map(asdict, inventory.packages)), "gpu": inventory.gpu,
                             "models": list(map(asdict, inventory.models)), "machine": dict(inventory.machine)}),
        "settings.json": _json(_settings(settings)),
        "status.json": _json(_status(stats)),
        "pages-per-quarter-hour.json": _json(asdict(series)),
        "documents.json": _json([_document(row) for row in rows]),
        "log.txt": "".join(f"{line.at} {line.level} {line.text}\n" for line in log),
    }  # fmt: skip
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"inkstick-diagnostics/{name}", text)
    return out.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _settings(settings: Settings) -> dict[str, Any]:
    """Numbers and choices; of everything else only whether it is set."""
    out: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        plain = value is None or isinstance(value, int | float | Enum)
        out[field.name] = value if plain else "set"
    return out


def _status(stats: Stats) -> dict[str, Any]:
    out = asdict(stats)
    out["watch"] = {key: value for key, value in stats.watch.items() if isinstance(value, int | float)}
    out["blocked"] = stats.blocked[0] if stats.blocked else None
    out["engines"] = [
        {
            "name": engine.name,
            "model": engine.model.rsplit("/", 1)[-1],
            "role": engine.role,
            "ready": engine.ready,
            "state": engine.state,
        }
        for engine in stats.engines
    ]
    return out


def _document(row: Row) -> dict[str, Any]:
    names = ("id", "state", "code", "task", "type", "size", "pages", "pages_done", "flags", "attempts", "priority")
    return {name: getattr(row, name) for name in names}
