"""The parser process's own bookkeeping, without a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inkstick.pages import sandbox
from inkstick.pages.sheet import Sheet
from inkstick.pages.worker import Worker


class Stubborn:
    """A document that its library cannot put away."""

    pages = 1
    warnings: tuple[str, ...] = ()

    def sheet(self, number: int) -> Sheet:
        raise NotImplementedError

    def close(self) -> None:
        raise RuntimeError("it is still in use")


def test_a_document_that_cannot_be_closed_is_not_held_against_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "renew_cpu", lambda seconds: None)
    (tmp_path / "a.txt").write_text("Hello")
    before = len(os.listdir("/proc/self/fd"))
    worker = Worker(10)
    worker.open[1] = (Stubborn(), os.open(os.devnull, os.O_RDONLY))
    head = {"op": "open", "document": 2, "type": "text/plain", "passwords": [], "drop": [1], "seconds": 10}
    ((told, _),) = worker.answer(head, [os.open(tmp_path / "a.txt", os.O_RDONLY)])
    assert told["pages"] == 1
    assert list(worker.open) == [2]
    list(worker.answer({**head, "op": "open", "drop": [2]}, [os.open(tmp_path / "a.txt", os.O_RDONLY)]))
    worker._drop(2)
    assert len(os.listdir("/proc/self/fd")) == before
