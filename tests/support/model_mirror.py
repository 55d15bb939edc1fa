"""A small model on disk, and a real HTTP server that offers it and misbehaves on request."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"
LICENCE = "You may read pages with it.\n"


def safetensors(size: int = 300_000, header: bytes | None = None) -> bytes:
    """A sound safetensors file with one tensor of `size` bytes (with another header if one is given)."""
    tensor = {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}, "__metadata__": {"format": "pt"}}
    raw = json.dumps(tensor).encode() if header is None else header
    return len(raw).to_bytes(8, "little") + raw + (bytes(range(251)) * (size // 251 + 1))[:size]


def model_files() -> dict[str, bytes]:
    return {
        "LICENSE": LICENCE.encode(),
        "config.json": b'{"model_type": "tiny"}',
        "model.safetensors": safetensors(),
        "modeling_tiny.py": b"print('hello')\n",
    }


def entry(name: str, data: bytes, **changes: object) -> str:
    """A [[repository.file]] for these bytes. `changes`: other values; None leaves a key out."""
    roles = {"LICENSE": "licence", "config.json": "config", "modeling_tiny.py": "code", "model.safetensors": "weights"}
    values: dict[str, object] = {
        "path": name,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "role": roles.get(name, "config"),
    }
    values |= changes
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "[[repository.file]]\n" + "\n".join(lines) + "\n"


def manifest_text(
    files: dict[str, bytes] | None = None, *, accept: bool = False, changes: dict[str, dict[str, object]] | None = None
) -> str:
    """A manifest of a tiny served model with these files."""
    files = model_files() if files is None else files
    entries = "\n".join(entry(name, data, **(changes or {}).get(name, {})) for name, data in files.items())
    return f"""
schema = 1
id = "tiny"
title = "Tiny"
family = "tiny"
version = "1"
status = "default"
engines = ["vllm"]
evidence = "Made by a test."

[[repository]]
name = "somebody/Tiny"
revision = "{REVISION}"
purpose = "reading"
endpoint = "https://hub.invalid"
mirrors = {{ other = "Else/Tiny" }}

{entries}

[licence]
name = "Test Licence"
reference = "LicenseRef-Test"
text = "LICENSE"
accept = {str(accept).lower()}
excluded = ["EU", "GB", "KR"]
conditions = ["Only for tests."]

[serve]
runtime = "vllm==0.19.1"
served = "somebody/Tiny"
arguments = []

[chat]
system = ""
order = ["image", "text"]

[sampling]
max_tokens = 64

[prompts]
read = 'Read.'

[tasks.parse]
prompt = "read"
answer = "markdown"
"""


def write_manifest(folder: Path, text: str, name: str = "tiny.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def write_model(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    for name, data in (model_files() if files is None else files).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@dataclass
class Faults:
    """How the server misbehaves. `drops`: for each of the next body answers, close after so many bytes. `stalls`: for
    each, send so many bytes and then nothing until `moved` is set."""

    drops: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    moved: threading.Event = field(default_factory=threading.Event)
    busy: int = 0
    ignore_range: bool = False
    wrong_start: bool = False
    length: int | None = None
    chunked_short: bool = False
    redirect: bool = False
    etags: list[str] = field(default_factory=list)


@dataclass
class Mirror:
    """A running server. `files` by URL path; `asked` is every request: path, Range, If-Range."""

    url: str
    files: dict[str, bytes]
    faults: Faults
    asked: list[tuple[str, str | None, str | None]]


def hub_paths(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"/somebody/Tiny/resolve/{REVISION}/{name}": data for name, data in files.items()}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mirror: Mirror

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        mirror, faults = self.mirror, self.mirror.faults
        mirror.asked.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        if faults.busy:
            faults.busy -= 1
            self._empty(503, {"Retry-After": "7"})
        elif faults.redirect and not self.path.startswith("/cdn"):
            self._empty(302, {"Location": f"/cdn{self.path}"})
        elif (data := mirror.files.get(self.path.removeprefix("/cdn"))) is None:
            self._empty(404, {})
        else:
            self._body(data)

    def _empty(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()

    def _body(self, data: bytes) -> None:
        faults = self.mirror.faults
        tag = faults.etags.pop(0) if faults.etags else '"one"'
        wanted = self.headers["Range"] and not faults.ignore_range
        same = self.headers["If-Range"] in (None, tag)
        start = int(self.headers["Range"][6:-1]) if wanted and same else 0
        if start >= len(data) and start:
            self._empty(416, {})
            return
        self.send_response(206 if wanted and same else 200)
        self.send_header("ETag", tag)
        if wanted and same:
            told = start + 1 if faults.wrong_start else start
            self.send_header("Content-Range", f"bytes {told}-{len(data) - 1}/{len(data)}")
            start = told
        self._send(data[start:])

    def _send(self, rest: bytes) -> None:
        faults = self.mirror.faults
        cut = faults.drops.pop(0) if faults.drops else None
        if faults.chunked_short:
            faults.chunked_short = False
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            half = rest[: len(rest) // 2]
            self.wfile.write(f"{len(half):x}\r\n".encode() + half + b"\r\n0\r\n\r\n")
            return
        self.send_header("Content-Length", str(faults.length or len(rest)))
        self.end_headers()
        if faults.stalls:
            self.wfile.write(rest[: faults.stalls.pop(0)])
            faults.moved.wait(30)
            return
        self.wfile.write(rest if cut is None else rest[:cut])
        if cut is not None or faults.length:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


@contextmanager
def serving(files: dict[str, bytes], faults: Faults | None = None) -> Iterator[Mirror]:
    """The server, for the time of a with block. `files` by URL path."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    mirror = Mirror(f"http://127.0.0.1:{server.server_port}", files, faults or Faults(), [])
    server.RequestHandlerClass.mirror = mirror  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
