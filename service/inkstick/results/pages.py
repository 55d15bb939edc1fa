"""Single pages out of a published record, quickly: where each page's line begins is looked up once for each file.

A record has a page on each line (`document.record_chunks`). Finding the lines reads the file once; after that a page
costs its own bytes, whether it is the first or the five-thousandth.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

from inkstick.document import Page, page_from_json

_LINE = re.compile(rb'\s*\{"number": ?(\d+)')
KEPT = 16
"""Records whose places are remembered, those used last."""

Key = tuple[str, int, int, int]


class RecordPages:
    """Places of pages in records, kept while the file stays what it is (inode, size, time of change). Thread-safe.

    `bytes_read`: in all, for tests."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, dict[int, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes_read = 0

    def page(self, record: Path, number: int) -> Page | None:
        """None if the record has no such page. Raises FileNotFoundError."""
        with record.open("rb") as file:
            stat = os.fstat(file.fileno())  # of what is open: a new record may take its name at any moment
            key = (str(record), stat.st_ino, stat.st_size, stat.st_mtime_ns)
            places = self._places(key, file)
            if number not in places:
                return None
            file.seek(places[number])
            line = file.readline()
        self.bytes_read += len(line)
        text = line.decode("utf-8", "replace").strip()
        return page_from_json(json.JSONDecoder().raw_decode(text)[0])

    def _places(self, key: Key, file: BinaryIO) -> dict[int, int]:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        places = self._look(file)
        with self._lock:
            self._known[key] = places
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return places

    def _look(self, file: BinaryIO) -> dict[int, int]:
        places: dict[int, int] = {}
        at = 0
        for line in file:
            found = _LINE.match(line)
            if found:
                places[int(found[1])] = at
            at += len(line)
        self.bytes_read += at
        return places
