"""What this appliance is called: a word and a number, the same at each start of a computer, and easy to say."""

from __future__ import annotations

import hashlib

WORDS = (
    "amber", "apple", "badger", "bamboo", "basil", "beaver", "birch", "bison", "candle", "canoe", "cedar", "cello",
    "cherry", "clover", "comet", "coral", "crane", "daisy", "delta", "dolphin", "eagle", "ember", "falcon", "fern",
    "finch", "flint", "forest", "garnet", "ginger", "hazel", "heron", "ivory", "jasper", "kettle", "lantern", "lemon",
    "lilac", "linen", "lotus", "magpie", "maple", "meadow", "mint", "nutmeg", "oak", "olive", "onyx", "orchid",
    "otter", "panda", "pebble", "pepper", "pine", "poppy", "quartz", "raven", "river", "robin", "saffron", "sparrow",
    "tulip", "violet", "walnut", "willow",
)  # fmt: skip


def hostname(serial: str) -> str:
    """`inkstick-<word>-<two digits>`, from the computer's serial number, or whatever else stays the same."""
    digest = hashlib.sha256(b"inkstick hostname\0" + serial.strip().encode()).digest()
    return f"inkstick-{WORDS[digest[0] % len(WORDS)]}-{int.from_bytes(digest[1:3], 'big') % 100:02}"


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate as browsers show it: 32 pairs with colons."""
    digest = hashlib.sha256(der).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
