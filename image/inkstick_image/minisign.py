"""minisign's signatures (Ed25519): made by Debian's `minisign`, checked here, so that checking needs nothing installed.

The arithmetic is RFC 8032's own, for public values only: no secret ever comes near it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from inkstick_image.errors import ImageError

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_Point = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`number`: 8 bytes that say which key; `key`: 32 bytes."""

    number: bytes
    key: bytes


def public_key(text: str) -> PublicKey:
    """From a minisign.pub file, or its last line alone."""
    raw = _decoded(text.strip().splitlines()[-1] if text.strip() else "", 42, "public key")
    if raw[:2] != b"Ed":
        raise ImageError("This is not a minisign public key.", "Give the file that `minisign -G` wrote as .pub.")
    return PublicKey(raw[2:10], raw[10:])


def check(data: bytes, signature: str, key: PublicKey) -> str:
    """The signature's trusted comment. Raises ImageError unless `data` and the comment were signed with `key`."""
    lines = signature.splitlines()
    if len(lines) < 4 or not lines[2].startswith("trusted comment: "):
        raise ImageError("This is not a minisign signature.", "It has four lines and ends in .minisig.")
    raw, whole = _decoded(lines[1], 74, "signature"), _decoded(lines[3], 64, "signature")
    comment = lines[2].removeprefix("trusted comment: ")
    if raw[2:10] != key.number:
        raise ImageError("This was signed with another key.", "Ask whoever gave you the image for their public key.")
    message = hashlib.blake2b(data).digest() if raw[:2] == b"ED" else data
    good = raw[:2] in (b"ED", b"Ed") and verifies(key.key, message, raw[10:])
    if not (good and verifies(key.key, raw[10:] + comment.encode(), whole)):
        raise ImageError("The signature does not fit: this was changed after it was signed.", "Do not use this image.")
    return comment


def sign(file: Path, secret_key: Path, comment: str) -> Path:
    """Write FILE.minisig with Debian's minisign, which may ask for the key's password."""
    command = ["minisign", "-S", "-s", str(secret_key), "-m", str(file), "-t", comment]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise ImageError("minisign could not sign.", "Is the key right? minisign -G makes a new one.")
    return file.with_name(f"{file.name}.minisig")


def verifies(key: bytes, message: bytes, signature: bytes) -> bool:
    """Ed25519 as in RFC 8032, section 5.1.7."""
    point, first = _unpacked(key), _unpacked(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if point is None or first is None or len(signature) != 64 or scalar >= _L:
        return False
    hashed = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % _L
    return _same(_times(scalar, _BASE), _add(first, _times(hashed, point)))


def _decoded(line: str, length: int, what: str) -> bytes:
    try:
        raw = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != length:
        raise ImageError(f"This is not a minisign {what}.", "Was the file copied whole?")
    return raw


def _add(a: _Point, b: _Point) -> _Point:
    one, two = (a[1] - a[0]) * (b[1] - b[0]) % _P, (a[1] + a[0]) * (b[1] + b[0]) % _P
    three, four = 2 * a[3] * b[3] * _D % _P, 2 * a[2] * b[2] % _P
    e, f, g, h = two - one, four - three, four + three, two + one
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    found: _Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            found = _add(found, point)
        point, scalar = _add(point, point), scalar >> 1
    return found


def _same(a: _Point, b: _Point) -> bool:
    return (a[0] * b[2] - b[0] * a[2]) % _P == 0 and (a[1] * b[2] - b[1] * a[2]) % _P == 0


def _unpacked(raw: bytes) -> _Point | None:
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = _root(y, sign) if y < _P and len(raw) == 32 else None
    return None if x is None else (x, y, 1, x * y % _P)


def _root(y: int, sign: int) -> int | None:
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    if square == 0:
        return None if sign else 0
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if (x * x - square) % _P:
        return None
    return _P - x if x & 1 != sign else x


_Y = 4 * pow(5, _P - 2, _P) % _P
_BASE: _Point = _unpacked(_Y.to_bytes(32, "little")) or (0, 1, 1, 0)
