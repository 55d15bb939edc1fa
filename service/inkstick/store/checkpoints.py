"""Pages that were read, one small file each, so that a 5,000-page document goes on at the page where it was cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from inkstick.config import DataFolder
from inkstick.document import Page, page_from_json, page_json
from inkstick.errors import Unavailable
from inkstick.store.disk import Disk
from inkstick.store.steps import make_dirs, write_atomic


def folder(data: DataFolder, work: str) -> Path:
    return data.state / "pages" / work


def path(data: DataFolder, work: str, number: int) -> Path:
    return folder(data, work) / f"{number}.json"


def write(disk: Disk, data: DataFolder, work: str, page: Page) -> None:
    """Durable when it returns: a page that was reported as read is not read again after a crash."""
    make_dirs(disk, folder(data, work), at="checkpoint.folder")
    text = json.dumps(page_json(page), ensure_ascii=False, separators=(",", ":"))
    write_atomic(disk, path(data, work, page.number), text.encode(), at="checkpoint")


def numbers(disk: Disk, data: DataFolder, work: str) -> frozenset[int]:
    try:
        names = disk.list(folder(data, work))
    except FileNotFoundError:
        return frozenset()
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return frozenset(int(stem) for stem in stems if stem.isdecimal())


def read_one(disk: Disk, data: DataFolder, work: str, number: int) -> Page | None:
    """None for a page that is not there or cannot be read: it is damaged, or on a bad sector."""
    try:
        return page_from_json(json.loads(disk.read(path(data, work, number))))
    except (ValueError, KeyError, TypeError, FileNotFoundError, Unavailable):
        return None


def drop_torn(disk: Disk, data: DataFolder, work: str) -> int:
    """Remove those that cannot be read, so that their pages count as unread; how many there were."""
    torn = [number for number in numbers(disk, data, work) if read_one(disk, data, work, number) is None]
    for number in torn:
        disk.unlink(path(data, work, number), at="checkpoint.torn")
    return len(torn)


def works(disk: Disk, data: DataFolder) -> list[str]:
    try:
        return disk.list(data.state / "pages")
    except FileNotFoundError:
        return []


def read(disk: Disk, data: DataFolder, work: str) -> Iterator[Page]:
    for number in sorted(numbers(disk, data, work)):
        page = read_one(disk, data, work, number)
        if page is not None:
            yield page
