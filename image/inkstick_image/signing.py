"""Kernel modules and the builder's own key: made once where none is given, used here, never part of a layer.

A signature is what the kernel's own `sign-file` writes: a detached CMS without attributes (so without a date: same
module, same key, same bits), a description of twelve bytes and a mark at the end.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from inkstick_image.errors import ImageError
from inkstick_image.tools import run

MARK = b"~Module signature appended~\n"
_PKCS7 = 2
_DESCRIPTION = 12
_PURPOSE = (
    "extendedKeyUsage=1.3.6.1.4.1.2312.16.1.2"  # modules only: shim refuses it for programs that start a computer
)
_SECRET = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\r?\n(?:[A-Z][\w-]+: [^\n]*\n|\r?\n)*[A-Za-z0-9+/=]{40,}")


@dataclass(frozen=True, slots=True)
class Key:
    """`private`: PEM. `certificate`: DER, as MokManager enrols it. `made`: just now, by us."""

    private: Path
    certificate: Path
    made: bool = False


def key(private: Path | None, certificate: Path | None, folder: Path) -> Key:
    """The given pair, else the one in `folder`, made there at first. Raises ImageError for half a pair, or one whose
    halves do not belong together."""
    if (private is None) != (certificate is None):
        raise ImageError("A key needs both halves.", "Give --mok-key FILE (PEM) and --mok-cert FILE (DER).")
    made = False
    if private is None or certificate is None:
        private, certificate = folder / "inkstick.key", folder / "inkstick.cer"
        if not private.exists():
            _make(private, certificate)
            made = True
    for path in (private, certificate):
        if not path.is_file():
            raise ImageError(f"There is no file {path}.", "Give --mok-key FILE (PEM) and --mok-cert FILE (DER).")
    if _public("pkey", "-in", private, "-pubout") != _public("x509", "-in", certificate, "-pubkey", "-noout"):
        raise ImageError("The key and the certificate do not belong together.", "Give the two of one pair.")
    return Key(private, certificate, made)


def _make(private: Path, certificate: Path) -> None:
    private.parent.mkdir(parents=True, exist_ok=True)
    private.parent.chmod(0o700)
    subject = ["-subj", "/CN=Inkstick kernel modules/", "-days", "7300", "-sha256"]
    kind = [
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        "keyUsage=digitalSignature",
        "-addext",
        _PURPOSE,
    ]
    command = ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *kind]
    made, signed_by = private.with_suffix(".key.part"), certificate.with_suffix(".cer.part")
    run([*command, "-keyout", made, "-out", signed_by, "-outform", "DER"])
    made.chmod(0o600)
    signed_by.rename(certificate)
    made.rename(private)  # last: a pair is there when its key is


def _public(*arguments: str | Path) -> str:
    return run(["openssl", *arguments]).strip()


def unsigned(module: bytes) -> bytes:
    """A module without the signature that it may have."""
    if not module.endswith(MARK):
        return module
    end = len(module) - len(MARK)
    size = int.from_bytes(module[end - 4 : end], "big")
    return module[: end - _DESCRIPTION - size]


def signed(module: bytes, by: Key) -> bytes:
    """The module with the key's signature, and no other."""
    bare = unsigned(module)
    with tempfile.TemporaryDirectory() as folder:
        pem, given, made = (Path(folder) / name for name in ("signer.pem", "module", "signature"))
        given.write_bytes(bare)
        run(["openssl", "x509", "-in", by.certificate, "-out", pem])
        form = ["-binary", "-noattr", "-nocerts", "-nosmimecap", "-md", "sha256", "-outform", "DER"]
        run(["openssl", "cms", "-sign", *form, "-signer", pem, "-inkey", by.private, "-in", given, "-out", made])
        signature = made.read_bytes()
    description = bytes([0, 0, _PKCS7, 0, 0, 0, 0, 0]) + len(signature).to_bytes(4, "big")
    return bare + signature + description + MARK


def check_no_key(tree: Path, layer: str) -> None:
    """Raises ImageError if a file that goes into a layer holds a private key: its words with a key's text behind them.
    (Programs that read keys hold the words alone.)"""
    words = ["grep", "--recursive", "--files-with-matches", "--null", "--text", "--fixed-strings", "PRIVATE KEY-----"]
    found = subprocess.run([*words, str(tree)], capture_output=True)
    if found.returncode > 1:
        raise ImageError(f"{layer} could not be searched for keys.", found.stderr.decode(errors="replace")[:300])
    for name in found.stdout.split(b"\0")[:-1]:
        path = Path(name.decode())
        if _SECRET.search(path.read_bytes()):
            raise ImageError(
                f"{layer} holds a private key: {path.relative_to(tree)}", "A key never leaves the builder."
            )
