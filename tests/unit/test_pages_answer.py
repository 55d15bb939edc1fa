"""Nothing that a parser says is believed unchecked."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from inkstick.errors import Damaged, DocumentError
from inkstick.pages import answer, wire
from inkstick.pages.pool import OpenDocument, PagePool
from inkstick.pages.view import Budget
from inkstick.pages.wire import PeerGone, WireError


def page() -> dict[str, Any]:
    return {
        "width": 4, "height": 2, "ink": "printed", "rotation": 0, "dpi": 150.0, "flags": ["tiled"],
        "tiles": [{"width": 1, "height": 1, "box": [0, 0, 500, 1000]}],
        "layer": {"words": [["word", 1, 2, 3, 4]], "good": True, "born_digital": False, "reason": ""},
    }  # fmt: skip


BLOBS = (bytes(24), bytes(3))


def test_an_honest_answer_becomes_a_view() -> None:
    view = answer.page_view(7, page(), BLOBS, 24)
    assert (view.number, view.pixels.width, view.tiles[0].box) == (7, 4, (0, 0, 500, 1000))
    assert view.text_layer is not None
    assert view.text_layer.words[0].text == "word"


LIES: list[Callable[[dict[str, Any]], Any]] = [
    lambda p: p.update(width=5),
    lambda p: p.update(width=-4, height=-2),
    lambda p: p.update(width=True, height=8),
    lambda p: p.update(width="4"),
    lambda p: p.update(ink="maybe"),
    lambda p: p.update(ink=["printed"]),
    lambda p: p.update(rotation=45),
    lambda p: p.update(dpi=float("nan")),
    lambda p: p.update(dpi="150"),
    lambda p: p.update(flags=["edited"]),
    lambda p: p.update(flags="tiled"),
    lambda p: p.update(tiles=[]),
    lambda p: p.update(tiles=[{"width": 1, "height": 1, "box": [0, 0, 1001, 5]}]),
    lambda p: p.update(tiles=[{"width": 1, "height": 1, "box": [9, 0, 5, 5]}]),
    lambda p: p.update(tiles=[7]),
    lambda p: p.update(layer=[]),
    lambda p: p["layer"].update(words=[["word", 1, 2, 3]]),
    lambda p: p["layer"].update(words=[[1, 1, 2, 3, 4]]),
    lambda p: p["layer"].update(words=[["w", 1, 2, 3, 4]] * 60_001),
    lambda p: p["layer"].update(good="yes"),
    lambda p: p["layer"].update(reason="because"),
    lambda p: p.clear(),
]


@pytest.mark.parametrize("number", range(len(LIES)))
def test_a_lie_is_found(number: int) -> None:
    told = page()
    LIES[number](told)
    with pytest.raises(WireError):
        answer.page_view(1, told, BLOBS, 24)


def test_more_tiles_than_were_allowed_are_refused() -> None:
    with pytest.raises(WireError):
        answer.page_view(1, page(), BLOBS, 0)


def test_text_loses_what_cannot_be_seen() -> None:
    assert answer.clean("a\x00b\x1b[31m\ud800c\n") == "ab[31mc\n"
    assert answer.clean("é中") == "é中"


def test_what_to_do_about_an_error_comes_with_it() -> None:
    told = {"code": "too_large", "message": "Too large.", "hint": "Split the\x1b sheet."}
    found = answer.error({"error": told})
    assert found is not None and found.as_json() == {**told, "hint": "Split the sheet."}
    plain = answer.error({"error": {"code": "too_large", "message": "Too large."}})
    assert plain is not None and plain.hint == plain.default_hint


def test_an_error_must_be_one_of_ours() -> None:
    found = answer.error({"error": {"code": "damaged", "message": "x\x00" * 1000}})
    assert found is not None
    assert found.code == "damaged"
    assert len(found.message) <= 300
    for lie in ({"code": "disk_full", "message": ""}, {"code": "nonsense"}, "damaged", {"code": ["damaged"]}):
        with pytest.raises((WireError, TypeError)):
            answer.error({"error": lie})


def test_only_png_and_jpeg_are_shown_to_people() -> None:
    with pytest.raises(WireError):
        answer.picture([b"<svg onload=alert(1)>"])


# Frames -------------------------------------------------------------------------------------------------------------


def peers() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    return ours, theirs


def test_a_frame_arrives_with_its_blobs_and_descriptors() -> None:
    ours, theirs = peers()
    read_end, write_end = os.pipe()
    with ours, theirs:
        wire.send(theirs, {"a": 1}, [b"xyz", b""], [read_end])
        frame = wire.receive(ours, fds=True)
    assert (frame.head, frame.blobs) == ({"a": 1}, (b"xyz", b""))
    os.write(write_end, b"!")
    assert os.read(frame.fds[0], 1) == b"!"
    for fd in (read_end, write_end, *frame.fds):
        os.close(fd)


def raw(head: bytes) -> bytes:
    return struct.pack("!I", len(head)) + head


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!I", wire.MAX_JSON + 1),
        raw(b"not json"),
        raw(b"[1]"),
        raw(b"[" * 100_000),
        raw(json.dumps({"blobs": [wire.MAX_BLOB + 1]}).encode()),
        raw(json.dumps({"blobs": [-1]}).encode()),
        raw(json.dumps({"blobs": [1.5]}).encode()),
        raw(json.dumps({"blobs": [0] * 65}).encode()),
        raw(json.dumps({"blobs": [wire.MAX_BLOB, wire.MAX_BLOB]}).encode()),
        raw(json.dumps({"blobs": "x"}).encode()),
    ],
)
def test_a_frame_out_of_bounds_is_refused_before_it_is_read(data: bytes) -> None:
    ours, theirs = peers()
    with ours, theirs:
        theirs.sendall(data)
        with pytest.raises(WireError):
            wire.receive(ours)


@pytest.mark.parametrize("data", [b"", b"\0\0", raw(b'{"blobs": [9]}') + b"123"])
def test_a_peer_that_goes_away_is_noticed(data: bytes) -> None:
    ours, theirs = peers()
    with ours:
        theirs.sendall(data)
        theirs.close()
        with pytest.raises(PeerGone):
            wire.receive(ours)


class LyingPool(PagePool):
    """Its parser answers whatever it is asked with the same head."""

    def __init__(self, head: dict[str, Any]) -> None:
        self.head = head

    async def _document_call(self, number: int, head: dict[str, Any], fd: int, late: type[DocumentError]) -> wire.Frame:
        os.close(fd)
        return wire.Frame(self.head)

    def _forget(self, number: int) -> None: ...


@pytest.mark.parametrize("head", [{}, {"pages": 0}, {"pages": 1, "warnings": [[]]}, {"pages": 1, "warnings": ["x"]}])
async def test_nonsense_is_the_documents_fault_whatever_was_asked(head: dict[str, Any]) -> None:
    document = OpenDocument(LyingPool(head), 1, os.open(os.devnull, os.O_RDONLY), "application/pdf", ())
    for asked in (document._open(), document.page(1, budget=Budget()), document.image(1, max_side=100)):
        with pytest.raises(Damaged, match="nonsense"):
            await asked
    await document.close()
