"""The appliance's own TLS key and certificate: made once for a data folder, never leaving it.

ECDSA P-256, self-signed, made by the openssl command. Its dates do not come from the clock, which may be wrong: it is
good from a fixed day before any release to the end of 2049. Nobody vouches for it: a person compares the fingerprint
that the browser shows with the one that the console shows.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inkstick import durable
from inkstick.access import private
from inkstick.errors import Internal, UsageError

FROM, TO = "20250101000000Z", "20491231235959Z"
_CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = Inkstick
O = Inkstick {label}
[own]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
subjectAltName = {names}
[ca]
default_ca = self
[self]
database = {folder}/index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = own
unique_subject = no
[any]
commonName = supplied
organizationName = optional
"""


@dataclass(frozen=True, slots=True)
class Key:
    """Where key and certificate lie, both mode 0600 in a folder of mode 0700."""

    folder: Path

    @property
    def private(self) -> Path:
        return self.folder / "key.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as browsers show it: upper-case hex in pairs with colons."""
        return _colons(self.certificate.read_text(encoding="ascii"))

    def context(self) -> ssl.SSLContext:
        """TLS 1.3 and nothing else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.certificate, self.private)
        return context


def _colons(pem: str) -> str:
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def ensure(state: Path, names: Sequence[str]) -> Key:
    """The key of the data folder, made now if there is none, or none that TLS can be spoken with: what a damaged disk
    garbled would keep the service from starting for good. `names`: host names and addresses of this machine.

    Raises UsageError where the openssl command is missing, Internal where it fails, DiskFull or Unavailable."""
    key = Key(state / "tls")
    if _is_whole(key):
        return key
    try:
        with tempfile.TemporaryDirectory(dir=state, prefix=".tls-") as work:
            _make(Path(work), names)
            fresh = Path(tempfile.mkdtemp(dir=state, prefix=".tls-new-"))
            for name in ("key.pem", "certificate.pem"):
                _install(Path(work) / name, fresh / name)
            durable.sync_folder(fresh)
            shutil.rmtree(key.folder, ignore_errors=True)  # half a pair is of no use
            fresh.rename(key.folder)
            durable.sync_folder(state)
    except OSError as error:
        raise private.translated(error) from error
    return key


def _is_whole(key: Key) -> bool:
    try:
        key.context()
    except (FileNotFoundError, ssl.SSLError):
        return False
    return True


def _install(source: Path, target: Path) -> None:
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())


def _make(work: Path, names: Sequence[str]) -> None:
    label = base64.b32encode(os.urandom(5)).decode()  # two appliances must not look like one to a browser
    config = work / "config"
    config.write_text(_CONFIG.format(folder=work, label=label, names=_alternatives(names)), encoding="ascii")
    (work / "index").touch()
    made = ["-out", str(work / "key.pem")]
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", *made)
    request = ["-config", str(config), "-key", str(work / "key.pem"), "-out", str(work / "request.pem")]
    _openssl("req", "-new", *request)
    dates = ["-startdate", FROM, "-enddate", TO]
    signed = ["-config", str(config), "-keyfile", str(work / "key.pem"), "-in", str(work / "request.pem")]
    _openssl("ca", "-selfsign", "-batch", "-notext", *dates, *signed, "-out", str(work / "certificate.pem"))


def _alternatives(names: Sequence[str]) -> str:
    """The names in openssl's words: ``DNS:inkstick, IP:192.0.2.1``."""
    return (
        ", ".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in dict.fromkeys(names)) or "DNS:inkstick"
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _openssl(*arguments: str) -> None:
    try:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise UsageError(
            "The openssl command is missing: there is no key for the page's TLS without it.",
            hint="Install openssl, or serve on this machine only: leave --host out.",
        ) from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(error.stderr or error).strip().splitlines()
        raise Internal(f"openssl {arguments[0]} failed: {said[-1] if said else ''}") from error
