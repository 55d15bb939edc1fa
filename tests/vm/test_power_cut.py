"""The plug pulled: a document that was accepted is there, whatever the stick had not written yet.

One machine works on a stick whose writes are recorded; afterwards it opens the volumes of sticks made from the record,
each cut at another flush, with a random half of what came after that flush.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from functools import partial
from pathlib import Path

import pytest

from vm.cuts import cut, flushes, recorded
from vm.laptop import PATIENCE, STICK_BYTES, Laptop, stick, until
from vm.test_usb import LETTER, SECRET, SETTINGS

pytestmark = [pytest.mark.vm_full, pytest.mark.timeout(10 * PATIENCE)]
CUTS = 6
SEED = 20261126
OPEN = """
set -e
key=/run/cut-key dump="luksDump --batch-mode --dump-volume-key"
[ -e $key ] || printf %s "$1" | cryptsetup $dump --volume-key-file $key --key-file - "$2"
cryptsetup open --type luks2 --volume-key-file $key "$2" cut
e2fsck -p /dev/mapper/cut >&2 || [ $? = 1 ]
mkdir -p /run/cut
mount -o ro /dev/mapper/cut /run/cut
find /run/cut -type f -exec sha256sum '{}' +
umount /run/cut
cryptsetup close cut
"""
"""The passphrase opens the first cut; to the others, whose header is the same, its key: argon2id is slow emulated."""


def test_an_accepted_document_survives_a_cut_at_any_flush(iso: Path, tmp_path: Path) -> None:
    base, medium, log = shutil.copyfile(iso, tmp_path / "base.img"), stick(iso, tmp_path), tmp_path / "log"
    log.touch()
    letter = LETTER
    with Laptop(medium, SETTINGS, log=log) as laptop:
        laptop.wait(PATIENCE)
        laptop.wait_for("done")
        promised: dict[str, int] = {}  # a document's hash → the entry of the record from which on it must survive
        for number in range(3):
            document = letter + f"\n% {number}\n".encode()
            laptop.drop(f"letter-{number}.pdf", document)
            until(partial(laptop.accepted, document), laptop.journal)
            # Nothing is synced here: what is accepted has been flushed. At each flush the record counts its entries.
            promised[hashlib.sha256(document).hexdigest()] = flushes(recorded(log))[-1]
        own = laptop.parts()
        chance = random.Random(SEED)
        for number in range(CUTS):
            copy, image = shutil.copyfile(log, tmp_path / "record"), tmp_path / f"cut{number}.img"
            last = chance.choice([at for at in flushes(recorded(copy)) if at >= min(promised.values())])
            after, kept = cut(base, copy, image, last, chance, STICK_BYTES)
            wanted = [sha for sha, at in promised.items() if at <= last]
            print(f"cut {number}: at entry {last}, of {after} writes after it {kept} kept, {len(wanted)} documents")
            laptop.plug(image, f"cut{number}")
            device = laptop.new_part(own)
            status, out, errors = laptop.run("sh", "-c", OPEN, "sh", SECRET, device, seconds=PATIENCE)
            assert status == 0, f"cut {number}: {errors}"
            assert all(sha in out.decode() for sha in wanted), f"cut {number}: a document is lost\n{out.decode()}"
            laptop.unplug(f"cut{number}")
            laptop.forget(f"cut{number}")
            image.unlink()
