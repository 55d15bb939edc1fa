"""The service's side of the parsers: documents in, page views out, whatever the documents do.

- N processes; each call takes a free one, preferably one that has the document open already.
- A call has a deadline. Past it, or when the process dies, the process is replaced, and only this call fails.
- A document is not tied to a process: its descriptor is handed to whichever process gets its next page.
- A cancelled caller leaves its process working to the end of the page, within the deadline; nothing is torn.
- Processes are replaced after `RECYCLE_DOCUMENTS` documents, `RECYCLE_PAGES` pages, or when they have grown, are old or
  died while they were idle. One that does not start is no document's fault: Unavailable, and the next call tries again.
Back-pressure is the caller's: at most N calls run, the others wait in order of arrival.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from inkstick.document import Box
from inkstick.errors import (
    Damaged,
    DocumentError,
    InkstickError,
    Internal,
    Timeout,
    TooComplex,
    Unavailable,
    Unsupported,
)
from inkstick.pages import answer, sandbox, wire
from inkstick.pages.child import MODULE
from inkstick.pages.expand import Expansion, Limits, Member
from inkstick.pages.process import Process
from inkstick.pages.sandbox import Sandbox
from inkstick.pages.view import Budget, PageView, Probe, TextLayerMode

RECYCLE_DOCUMENTS = 200
RECYCLE_PAGES = 3000
RECYCLE_BYTES = 1 << 30
RECYCLE_SECONDS = 12 * 3600.0
"""Well before the last deadline of a parser's unit (RuntimeMaxSec=), which would cost a document its reader."""
KEEP_OPEN = 4
WHOLE_DOCUMENT = 20.0
"""Deadline of a call that goes through a whole document (searchable PDF), in page deadlines."""

_NOT_ITS_FAULT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE}

T = TypeVar("T")


@dataclass(eq=False)
class _Seat:
    """A place for one process, and what its process has done."""

    process: Process | None = None
    known: OrderedDict[int, None] = field(default_factory=OrderedDict)
    documents: int = 0
    pages: int = 0
    rss: int = 0

    def note(self, numbers: Sequence[int]) -> None:
        """Which documents the process says it has open, in the order in which they were last used here."""
        self.known = OrderedDict.fromkeys([n for n in self.known if n in numbers] + list(numbers))

    def worn(self) -> bool:
        return self.documents >= RECYCLE_DOCUMENTS or self.pages >= RECYCLE_PAGES or self.rss > RECYCLE_BYTES

    def spent(self) -> bool:
        """Its process is too old, or died while it was idle: no document is given to it any more."""
        return self.process is not None and (self.process.age > RECYCLE_SECONDS or self.process.gone)

    def clear(self) -> None:
        if self.process is not None:
            self.process.close()
        self.process, self.documents, self.pages, self.rss = None, 0, 0, 0
        self.known.clear()


class OpenDocument:
    """A document that was opened once. Pages may be asked for in any order, several at a time. Close it."""

    def __init__(self, pool: PagePool, number: int, fd: int, media_type: str, passwords: tuple[str, ...]) -> None:
        self._pool = pool
        self._number = number
        self._fd: int | None = fd
        self._type = media_type
        self._passwords = passwords
        self.probe = Probe(media_type, 0)

    async def page(
        self, number: int, *, budget: Budget, mode: TextLayerMode = TextLayerMode.AUTO, orient: bool = True
    ) -> PageView:
        """Page `number` (from 1), upright and within the budget. Raises DocumentError for this page alone."""
        head = {"op": "page", "page": number, "budget": asdict(budget), "mode": mode.value, "orient": orient}
        frame = await self._ask(head)
        with _sense():
            return answer.page_view(number, frame.head, frame.blobs, budget.max_tiles)

    async def image(self, number: int, *, max_side: int, rotation: int = 0, box: Box | None = None) -> bytes:
        """Page `number` as PNG or JPEG for people, `rotation` degrees clockwise, at most `max_side` pixels a side.
        `box`: only that part of the turned page, in thousandths."""
        head = {"op": "image", "page": number, "max_side": max_side, "rotation": rotation % 360 // 90 * 90, "box": box}
        frame = await self._ask(head)
        with _sense():
            return answer.picture(frame.blobs)

    async def close(self) -> None:
        """Forget the document. Calls that still run end by themselves."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._pool._forget(self._number)

    async def _open(self) -> None:
        frame = await self._ask({"op": "open"}, late=TooComplex)
        with _sense():
            self.probe = answer.probe(self._type, frame.head)

    async def _ask(self, head: dict[str, Any], late: type[DocumentError] = Timeout) -> wire.Frame:
        if self._fd is None:
            raise Internal("The document was closed.")
        fd = os.dup(self._fd)  # so that closing the document cannot pull it away from a call that waits its turn
        call = {**head, "document": self._number, "type": self._type, "passwords": list(self._passwords)}
        return await self._pool._document_call(self._number, call, fd, late)


class PagePool:
    """Sandboxed parser processes. See the module's docstring for what it promises."""

    def __init__(
        self,
        *,
        processes: int,
        page_seconds: float,
        memory_bytes: int = 3 << 30,
        units: Path | None = None,
        sandbox: Sandbox | None = None,
        module: str = MODULE,
    ) -> None:
        """`units`: the socket at which systemd starts parsers (setting `pages_socket`). `sandbox`: None finds the
        strongest that works. `module`: what runs in a child (tests replace it)."""
        self.page_seconds = page_seconds
        self.sandbox = sandbox
        self._units = units
        self._memory = memory_bytes
        self._module = module
        self._seats = [_Seat() for _ in range(max(1, processes))]
        self._idle: list[_Seat] = []
        self._waiting: deque[asyncio.Future[_Seat]] = deque()
        self._threads = ThreadPoolExecutor(2 * len(self._seats) + 1, thread_name_prefix="pages")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._numbers = 0
        self._open: set[int] = set()
        self._closed = False
        self.peak_bytes = 0
        """The most resident memory that any process reported after a call."""

    async def start(self) -> None:
        """Start the processes. Raises Unavailable if they do not come up. Where this is cancelled, `close` ends those
        that are still coming."""
        if self.sandbox is None:
            self.sandbox = await self._blocking(sandbox.detect, self._units)
        await asyncio.gather(*(asyncio.shield(self._background(self._staff(seat))) for seat in self._seats))
        self._idle = list(self._seats)

    async def close(self) -> None:
        """Kill the processes; calls that still run fail."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft().cancel()
        for seat in self._seats:
            if seat.process is not None:
                await self._blocking(seat.process.kill)
        if self._tasks:
            await asyncio.wait(self._tasks)
        for seat in self._seats:
            seat.clear()
        self._threads.shutdown(wait=True)

    def describe(self) -> dict[str, str]:
        """The active layers of the sandbox, in words."""
        return (self.sandbox or sandbox.detect(self._units)).describe()

    async def open(self, path: Path, media_type: str, *, passwords: Sequence[str] = ()) -> OpenDocument:
        """Open a document. Raises DocumentError: encrypted, damaged, empty, too_large, too_complex, unsupported."""
        fd = await self._blocking(open_regular, path)
        self._numbers += 1
        self._open.add(self._numbers)
        document = OpenDocument(self, self._numbers, fd, media_type, tuple(passwords))
        try:
            await document._open()
        except BaseException:
            await document.close()
            raise
        return document

    async def searchable_pdf(
        self, path: Path, media_type: str, pages_jsonl: Path, out: Path, *, passwords: Sequence[str] = ()
    ) -> None:
        """Write `out` (which must not exist): the original's pages with the text of the page records behind them."""
        fds = [await self._blocking(open_regular, path), await self._blocking(open_regular, pages_jsonl)]
        try:
            fds.append(os.open(out, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        except BaseException:
            _close(fds)
            raise
        head = {"op": "searchable_pdf", "type": media_type, "passwords": list(passwords)}
        seconds = self.page_seconds * WHOLE_DOCUMENT
        try:
            await self._shielded(None, lambda seat: self._ask(seat, head, fds, seconds, Timeout), fds)
        except BaseException:
            out.unlink(missing_ok=True)
            raise

    async def expand(
        self,
        path: Path,
        media_type: str,
        into: Path,
        *,
        passwords: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> list[Member]:
        """Unpack a ZIP or a mail into the folder `into` (made if missing) as files that we name.

        Nested archives are unpacked too. Members that are bad or not readable are listed with their error. Raises
        ArchiveUnsafe, Damaged, Encrypted, Empty for the whole.
        """
        chosen = limits or Limits.for_folder(into)
        return await Expansion(self._unpack_one, into, chosen, tuple(passwords)).run(path, media_type)

    # Calls ---------------------------------------------------------------------------------------------------------

    async def _unpack_one(
        self, path: Path, media_type: str, passwords: Sequence[str], limits: Limits, take: Callable[[wire.Frame], None]
    ) -> None:
        fds = [await self._blocking(open_regular, path)]
        head = {
            "op": "expand", "type": media_type, "passwords": list(passwords), "members": limits.members,
            "ratio": limits.ratio,
        }  # fmt: skip
        await self._shielded(None, lambda seat: self._stream(seat, head, fds, take), fds)

    async def _document_call(self, number: int, head: dict[str, Any], fd: int, late: type[DocumentError]) -> wire.Frame:
        async def call(seat: _Seat) -> wire.Frame:
            drop = self._make_room(seat, number)
            if number in seat.known:
                seat.known.move_to_end(number)
            fds = [] if number in seat.known else [reopen(fd)]
            seat.documents += len(fds)
            seat.pages += 1
            try:
                return await self._ask(seat, {**head, "drop": drop}, fds, self.page_seconds, late)
            finally:
                _close(fds)

        return await self._shielded(number, call, [fd])

    def _make_room(self, seat: _Seat, number: int) -> list[int]:
        """Documents that the process shall close before this call: closed ones, and all but the last few used."""
        drop = [n for n in seat.known if n not in self._open]
        keep = [n for n in seat.known if n in self._open and n != number]
        drop += keep[: max(0, len(keep) - KEEP_OPEN + 1)]
        for n in drop:
            del seat.known[n]
        return drop

    def _forget(self, number: int) -> None:
        """A document was closed: each process closes it with its next call."""
        self._open.discard(number)

    async def _shielded(self, number: int | None, call: Callable[[_Seat], Awaitable[T]], fds: Sequence[int]) -> T:
        """Run `call` on a seat to its end, even if the caller is cancelled meanwhile; then close `fds`."""
        try:
            seat = await self._take(number)
        except BaseException:
            _close(fds)
            raise

        async def run() -> T:
            try:
                if seat.spent():
                    await self._blocking(seat.clear)
                if seat.process is None:
                    await self._staff(seat)
                return await call(seat)
            finally:
                _close(fds)
                self._release(seat)

        return await asyncio.shield(self._background(run()))

    async def _ask(
        self, seat: _Seat, head: dict[str, Any], fds: Sequence[int], seconds: float, late: type[DocumentError]
    ) -> wire.Frame:
        """One request to the seat's process. Raises what the process reports, or what became of it."""
        process = _process(seat)
        work = self._blocking(process.ask, {**head, "seconds": seconds}, list(fds))
        frame = await self._in_time(seat, work, seconds, late)
        return self._checked(seat, frame)

    async def _stream(
        self, seat: _Seat, head: dict[str, Any], fds: Sequence[int], take: Callable[[wire.Frame], None]
    ) -> None:
        """One request with many answers, each within the page deadline, given to `take` until the last."""
        process = _process(seat)
        await self._in_time(seat, self._blocking(process.send, {**head, "seconds": 3600}, fds), 10, Timeout)
        while True:
            frame = await self._in_time(seat, self._blocking(process.receive), self.page_seconds, TooComplex)
            if self._checked(seat, frame).head.get("end") is True:
                return
            try:
                await self._blocking(take, frame)
            except BaseException:
                seat.clear()
                raise

    async def _in_time(self, seat: _Seat, work: asyncio.Future[T], seconds: float, late: type[DocumentError]) -> T:
        process = _process(seat)
        done, _ = await asyncio.wait([work], timeout=seconds)
        if not done:
            await self._blocking(process.kill)
            await asyncio.wait([work])
            with contextlib.suppress(Exception):
                work.result()
            seat.clear()
            raise late()
        try:
            return work.result()
        except wire.PeerGone:
            if self._closed:
                raise Unavailable("Inkstick is being stopped.") from None
            error = await self._blocking(process.epitaph)
            seat.clear()
            raise error from None
        except wire.WireError as error:
            seat.clear()
            raise Damaged("The file's reader answers nonsense.") from error

    def _checked(self, seat: _Seat, frame: wire.Frame) -> wire.Frame:
        try:
            seat.rss = answer.integer(frame.head.get("rss"), 0, 1 << 50)
            self.peak_bytes = max(self.peak_bytes, seat.rss)
            seat.note(answer.integers(frame.head.get("open"), 4 * KEEP_OPEN))
            error = answer.error(frame.head)
        except wire.WireError as fault:
            seat.clear()
            raise Damaged("The file's reader answers nonsense.") from fault
        if error is not None:
            raise error
        return frame

    # Seats ---------------------------------------------------------------------------------------------------------

    async def _take(self, number: int | None) -> _Seat:
        """A free seat: one that knows the document, else the one that has been free longest, else wait for one."""
        if self._closed:
            raise Unavailable("Inkstick is being stopped.")
        for seat in self._idle:
            if number in seat.known:
                self._idle.remove(seat)
                return seat
        if self._idle:
            return self._idle.pop(0)
        waiter: asyncio.Future[_Seat] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._release(waiter.result())
            if self._closed:
                raise Unavailable("Inkstick is being stopped.") from None
            raise

    def _release(self, seat: _Seat) -> None:
        """Give the seat to the next who waits; a dead or worn process is replaced first."""
        if not self._closed and (seat.process is None or seat.process.dead or seat.worn()):
            self._background(self._replace(seat))
        else:
            self._hand_over(seat)

    async def _replace(self, seat: _Seat) -> None:
        try:
            await self._blocking(seat.clear)
            await self._staff(seat)
        except InkstickError:
            seat.process = None  # the next call tries again, and reports it
        finally:
            self._hand_over(seat)

    def _hand_over(self, seat: _Seat) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(seat)
                return
        self._idle.append(seat)

    async def _staff(self, seat: _Seat) -> None:
        if self._closed:
            raise Unavailable("Inkstick is being stopped.")
        chosen = self.sandbox or Sandbox()
        process = await self._blocking(Process, chosen, self._memory, self.page_seconds, self._module)
        seat.process = process
        if self._closed:
            await self._blocking(process.kill)

    def _background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at here, in case its caller is gone

    def _blocking(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


@contextlib.contextmanager
def _sense() -> Iterator[None]:
    """What a parser says that none of ours would say is its document's fault, as is all else that befalls it."""
    try:
        yield
    except wire.WireError as error:
        raise Damaged("The file's reader answers nonsense.") from error


def open_regular(path: Path) -> int:
    """A descriptor of a regular file. Raises Damaged when it is gone, Unsupported for anything that is not a file, and
    Unavailable for what is no document's fault."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in _NOT_ITS_FAULT:
            raise Unavailable(f"The file cannot be opened now: {error.strerror}.") from error
        raise Damaged(f"The file cannot be opened: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Unsupported("This is not a regular file.")
    return fd


def reopen(fd: int) -> int:
    """Another descriptor of the same file with a position of its own."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


def _process(seat: _Seat) -> Process:
    if seat.process is None:
        raise Internal("The parser process is gone.")
    return seat.process


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
