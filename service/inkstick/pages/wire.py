"""Frames between the service and a parser process, over a unix stream socket.

A frame is a 4-byte big-endian length, that many bytes of JSON (one object), then the binary blobs that the object
lists by length under ``blobs``. Requests may carry file descriptors (SCM_RIGHTS); answers never do: the service does
not take descriptors from a process that it does not trust. Every length is checked before anything is read, so that a
lying peer costs at most `MAX_JSON` plus `MAX_BLOBS` bytes.

Blobs arrive by one ``recv`` each, straight into the bytes object that the caller keeps: pixels are never copied again.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_JSON = 32 << 20
MAX_BLOB = 512 << 20
MAX_BLOBS = 768 << 20
MAX_BLOB_COUNT = 64
MAX_FDS = 4
_LENGTH = struct.Struct("!I")

Buffer = bytes | bytearray | memoryview


class WireError(Exception):
    """The peer broke the protocol."""


class PeerGone(WireError):
    """The peer closed the connection or died."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: an object, its blobs in order, and (in requests) descriptors that the receiver now owns."""

    head: dict[str, Any]
    blobs: tuple[bytes, ...] = ()
    fds: tuple[int, ...] = ()


def send(sock: socket.socket, head: dict[str, Any], blobs: Sequence[Buffer] = (), fds: Sequence[int] = ()) -> None:
    """Send one frame. Raises PeerGone."""
    text = json.dumps({**head, "blobs": [len(blob) for blob in blobs]}, ensure_ascii=False).encode("utf-8", "replace")
    if len(text) > MAX_JSON:
        raise WireError("message too long")
    try:
        start = _LENGTH.pack(len(text)) + text
        sent = socket.send_fds(sock, [start[:4096]], list(fds)) if fds else sock.send(start[:4096])
        sock.sendall(memoryview(start)[sent:])
        for blob in blobs:
            sock.sendall(blob)
    except OSError as error:
        raise PeerGone(str(error)) from error


def receive(sock: socket.socket, *, fds: bool = False) -> Frame:
    """Receive one frame from a blocking socket. Raises PeerGone at its end, WireError on anything out of bounds."""
    first, received = _first(sock, fds)
    length = _LENGTH.unpack(first)[0]
    if length > MAX_JSON:
        raise WireError(f"announces {length} bytes of JSON")
    try:
        head = json.loads(_exactly(sock, length))
    except (ValueError, RecursionError) as error:
        raise WireError("not JSON") from error
    if not isinstance(head, dict):
        raise WireError("not an object")
    return Frame(head, tuple(_exactly(sock, n) for n in _blob_lengths(head.pop("blobs", []))), received)


def _first(sock: socket.socket, fds: bool) -> tuple[bytes, tuple[int, ...]]:
    if not fds:
        return _exactly(sock, _LENGTH.size), ()
    data, received, _, _ = socket.recv_fds(sock, _LENGTH.size, MAX_FDS)
    if not data:
        raise PeerGone("closed")
    return data + _exactly(sock, _LENGTH.size - len(data)), tuple(received)


def _blob_lengths(value: object) -> list[int]:
    if not isinstance(value, list) or len(value) > MAX_BLOB_COUNT:
        raise WireError("blob list out of bounds")
    lengths = [n for n in value if type(n) is int and 0 <= n <= MAX_BLOB]
    if len(lengths) != len(value) or sum(lengths) > MAX_BLOBS:
        raise WireError("blob length out of bounds")
    return lengths


def _exactly(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:  # a signal may cut MSG_WAITALL short
        try:
            more = sock.recv(length - len(data), socket.MSG_WAITALL)
        except OSError as error:
            raise PeerGone(str(error)) from error
        if not more:
            raise PeerGone("closed in the middle of a frame")
        data += more
    return data
