"""The parser process: ``python -m inkstick.pages.worker``, with its channel as standard input.

It trusts nothing and is trusted by nobody: it limits itself before it imports a parser, then answers one request at a
time until the channel closes. Documents come as descriptors with the first request about them and stay open until the
service says otherwise, so that the pages of one document can be asked of several processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from inkstick.errors import Damaged, DocumentError, Internal, TooComplex, Unsupported
from inkstick.pages import sandbox, wire

if TYPE_CHECKING:
    from inkstick.pages.sheet import OpenFile, RawView

Answer = tuple[dict[str, Any], Sequence[wire.Buffer]]


class Worker:
    """State between requests: the open documents by the service's number for them."""

    def __init__(self, page_seconds: float) -> None:
        self.page_seconds = page_seconds
        self.open: dict[int, tuple[OpenFile, int]] = {}
        self._orientation: Any = None

    def answer(self, head: dict[str, Any], fds: Sequence[int]) -> Iterator[Answer]:
        """The answers to one request; more than one only for `expand`."""
        sandbox.renew_cpu(4 * float(head["seconds"]) + 10)
        for number in head.get("drop", ()):
            self._drop(number)
        operation = getattr(self, f"op_{head['op']}")
        yield from operation(head, list(fds))

    def op_open(self, head: dict[str, Any], fds: list[int]) -> Iterator[Answer]:
        document = self._document(head, fds)
        yield {"pages": document.pages, "warnings": list(document.warnings)}, ()

    def op_page(self, head: dict[str, Any], fds: list[int]) -> Iterator[Answer]:
        from inkstick.pages import sheet
        from inkstick.pages.view import Budget, TextLayerMode

        page = self._document(head, fds).sheet(head["page"])
        budget = Budget(**head["budget"])
        raw = sheet.view(page, budget, TextLayerMode(head["mode"]), head["orient"], self._turn)
        yield _view_answer(raw)

    def op_image(self, head: dict[str, Any], fds: list[int]) -> Iterator[Answer]:
        from inkstick.pages.preview import preview

        page = self._document(head, fds).sheet(head["page"])
        yield {}, [preview(page, head["max_side"], head["rotation"], head.get("box"))]

    def op_searchable_pdf(self, head: dict[str, Any], fds: list[int]) -> Iterator[Answer]:
        from inkstick.results.pdf import add_text_layer

        source, pages, out = (f"/proc/self/fd/{fd}" for fd in fds)
        try:
            add_text_layer(source, head["type"], pages, out, tuple(head["passwords"]))
        finally:
            _close(fds)
        yield {}, ()

    def op_expand(self, head: dict[str, Any], fds: list[int]) -> Iterator[Answer]:
        from inkstick.pages.unpack import unpack

        try:
            yield from unpack(fds[0], head["type"], tuple(head["passwords"]), head["members"], head["ratio"])
        finally:
            _close(fds)
        yield {"end": True}, ()

    def _document(self, head: dict[str, Any], fds: list[int]) -> OpenFile:
        """The open document; it is opened from the descriptor that comes along where it is not open here."""
        number = head["document"]
        if number in self.open:
            _close(fds)
            return self.open[number][0]
        try:
            self.open[number] = (_open(fds[0], head["type"], head["passwords"]), fds[0])
        except BaseException:
            _close(fds)
            raise
        return self.open[number][0]

    def _drop(self, number: int) -> None:
        if number in self.open:
            document, fd = self.open.pop(number)
            with contextlib.suppress(Exception):  # what it says at its end is no fault of the one that is asked for
                document.close()
            os.close(fd)

    def _turn(self, rgb: Any) -> int:
        if self._orientation is None:
            from inkstick.pages.orient import Orientation

            self._orientation = Orientation()
        return int(self._orientation.turn(rgb))


def _open(fd: int, media_type: str, passwords: Sequence[str]) -> OpenFile:
    if media_type in ("application/pdf", "text/plain"):
        from inkstick.pages.pdf import PdfFile

        return PdfFile(fd, passwords=passwords, kind="pdf" if media_type == "application/pdf" else "txt")
    from inkstick.pages.picture import FORMATS, PictureFile

    if media_type not in FORMATS:
        raise Unsupported()
    return PictureFile(fd, media_type)


def _view_answer(raw: RawView) -> Answer:
    height, width = raw.rgb.shape[:2]
    layer = raw.layer
    head = {
        "width": width, "height": height, "ink": raw.ink.value, "rotation": raw.rotation, "dpi": raw.dpi,
        "flags": [flag.value for flag in raw.flags],
        "tiles": [{"width": t.rgb.shape[1], "height": t.rgb.shape[0], "box": list(t.box)} for t in raw.tiles],
        "layer": layer and {
            "words": [[word.text, *word.box] for word in layer.words],
            "good": layer.good, "born_digital": layer.born_digital, "reason": layer.reason,
        },
    }  # fmt: skip
    return head, [rgb.reshape(-1).data for rgb in (raw.rgb, *(tile.rgb for tile in raw.tiles))]


def serve(sock: socket.socket, worker: Worker) -> None:
    """Answer requests until the channel closes."""
    while True:
        request = wire.receive(sock, fds=True)
        try:
            for head, blobs in worker.answer(request.head, request.fds):
                wire.send(sock, {**head, "rss": _rss(), "open": list(worker.open)}, blobs)
        except wire.WireError:
            raise
        except Exception as error:
            told = as_document_error(error)
            head = {"error": {"code": told.code, "message": told.message, "hint": told.hint}}
            wire.send(sock, {**head, "rss": _rss(), "open": list(worker.open)})


def as_document_error(error: Exception) -> DocumentError:
    """Whatever a parser raised: its document is at fault, except where the fault is plainly this program's."""
    if isinstance(error, DocumentError):
        return error
    if isinstance(error, MemoryError | RecursionError):
        return TooComplex()
    if isinstance(error, NameError | ImportError | NotImplementedError):
        return Internal(f"{type(error).__name__}: {error}")
    return Damaged()


def _rss() -> int:
    """Resident bytes of this process now (not its peak: one big page is no reason to replace it)."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def main() -> None:
    settings = json.loads(sys.argv[1])
    sandbox.confine(settings["memory"])
    sock = sandbox.channel()
    # PyMuPDF imports its layout package where it is installed, and that loads networks that nobody asks for here: two
    # thirds of the time to start. None: as if it were not installed.
    sys.modules["pymupdf.layout"] = None  # type: ignore[assignment]
    import inkstick.pages.pdf
    import inkstick.pages.picture  # noqa: F401 - loaded before the first document, so that its deadline is its own

    wire.send(sock, {"ready": True, "rss": _rss()})
    os.dup2(0, 2)
    try:
        serve(sock, Worker(settings["seconds"]))
    except wire.PeerGone:
        os._exit(0)


if __name__ == "__main__":
    main()
