"""Signatures: RFC 8032's own vectors, and a signature that minisign itself made."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from inkstick_image import manifest, minisign
from inkstick_image.errors import ImageError

VECTORS = [  # RFC 8032, section 7.1: public key, message, signature
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_standard_s_own_vectors(key: str, message: str, signature: str) -> None:
    raw = bytes.fromhex(signature)
    assert minisign.verifies(bytes.fromhex(key), bytes.fromhex(message), raw)
    assert not minisign.verifies(bytes.fromhex(key), bytes.fromhex(message) + b"x", raw)
    assert not minisign.verifies(bytes.fromhex(key), bytes.fromhex(message), raw[:-1] + b"\x7f")
    assert not minisign.verifies(b"\xff" * 32, bytes.fromhex(message), raw)


PUBLIC = "untrusted comment: minisign public key\nRWQimOMpGgmShcJ1/R9RoXU88kKEIqRUNl3ZTWSKquWYebpt2foZtrNA\n"
SIGNATURE = """untrusted comment: signature from minisign secret key
RUQimOMpGgmShZJ3gC7xjU1j+2A1vECNdKBPnUNnWMjFixtq0sQZ5f8vFMgMSX+nSyTh0jEqtps4tF8Svls0RajZjUun47PXYQY=
trusted comment: inkstick 0.1.0 cpu
rqz+DqfVSvz6N25Z0Sn+w+zwoB8K8UET87AZnzQfs8JRHGiQbGUGctBf2s7wBYe9MTBdfdzy/sWvEyqodDkvBw==
"""
DATA = b'{"iso": 1}\n'


def test_what_minisign_signed_is_known_by_its_public_key() -> None:
    key = minisign.public_key(PUBLIC)
    assert minisign.check(DATA, SIGNATURE, key) == "inkstick 0.1.0 cpu"
    assert minisign.public_key(PUBLIC.splitlines()[1]) == key


@pytest.mark.parametrize(
    ("data", "signature", "why"),
    [
        (b'{"iso": 2}\n', SIGNATURE, "changed after it was signed"),
        (DATA, SIGNATURE.replace("0.1.0 cpu", "0.1.0 gpu"), "changed after it was signed"),
        (DATA, SIGNATURE.replace("RUQimOMp", "RUQimOMq"), "another key"),
        (DATA, SIGNATURE.replace("ZJ3gC7", "ZJ3gC8"), "changed after it was signed"),
        (DATA, SIGNATURE[:200], "not a minisign signature"),
        (DATA, "", "not a minisign signature"),
    ],
)
def test_anything_changed_is_found_out(data: bytes, signature: str, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        minisign.check(data, signature, minisign.public_key(PUBLIC))


@pytest.mark.parametrize("text", ["", "x", "AAAA", base64.b64encode(b"Xd" + b"\0" * 40).decode()])
def test_what_is_no_key_is_told_so(text: str) -> None:
    with pytest.raises(ImageError, match="not a minisign public key"):
        minisign.public_key(text)


def test_the_signature_of_an_earlier_build_does_not_stay_beside_a_new_manifest(tmp_path: Path) -> None:
    """Else whoever checks the new image is told that somebody has changed it."""
    iso, key = tmp_path / "inkstick.iso", tmp_path / "minisign.pub"
    iso.write_bytes(b"new")
    key.touch()
    (tmp_path / "inkstick.iso.json.minisig").write_text("of the build before")
    manifest.write(iso, {})
    with pytest.raises(ImageError, match=r"There is no file .*\.minisig\."):
        manifest.signed(iso, key)
