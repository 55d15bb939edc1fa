"""The data volume made, opened, mounted and wiped: `volume.py`'s steps carried out with cryptsetup. Runs as root.

A passphrase is bytes, goes in by a pipe, and is kept nowhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from inkstick.config import DataFolder
from inkstick.errors import no_room
from inkstick_provisioning import blocks, copying, keyboards, recovery, volume
from inkstick_provisioning.faults import NoRoom, NotEmpty, SetupError, VolumeDamaged, WrongKey
from inkstick_provisioning.volume import Action, Checked, Offer, Survey, Where

SETTLE_SECONDS = 180.0
"""Until a new partition counts as missing; udev was seen to take more than half a minute over one on a busy machine."""
WRONG = 2
"""How cryptsetup ends where the passphrase does not fit."""
PROBE = 1 << 20
"""Bytes that are looked at, at the start and the end of a disk that is said to be empty."""


def look() -> Survey:
    """The disks as they are now."""
    found = blocks.parse(_run(list(blocks.COMMAND)))
    luks = [b.path for b in blocks.walk(found) if volume.is_ours(b) and b.filesystem == "crypto_LUKS"]
    return volume.survey(found, {device: subsystem(device) for device in luks}, list(filter(keyless, luks)))


def subsystem(device: str) -> str:
    """The subsystem field of a LUKS header, "" without one."""
    shown = subprocess.run(["cryptsetup", "luksDump", device], capture_output=True, text=True).stdout
    for line in shown.splitlines():
        name, _, value = line.partition(":")
        if name == "Subsystem":
            return value.strip().replace("(no subsystem)", "")
    return ""


def slots(device: str) -> int | None:
    """How many keys a LUKS header has a slot for; None where it cannot be read."""
    shown = subprocess.run(["cryptsetup", "luksDump", "--dump-json-metadata", device], capture_output=True)
    try:
        return len(json.loads(shown.stdout)["keyslots"])
    except (ValueError, KeyError, TypeError):
        return None


def keyless(device: str) -> bool:
    """Whether a LUKS header has no key slot: the power went while it was being made, or after a wipe. Nobody can open
    what is behind it, and never again. False where the header cannot be read: it may be mended."""
    return slots(device) == 0


def prepare(offer: Offer, secret: bytes, folder: Path) -> Checked:
    """Every step that this place still needs, to a volume mounted at `folder`. Raises SetupError."""
    device, found = offer.device, Checked.CLEAN
    for action in volume.steps(offer.state):
        if action is Action.PARTITION:
            device = partition(offer)
        elif action is Action.ENCRYPT:
            encrypt(device, secret)
        elif action is Action.OPEN:
            unlock(device, secret)
        elif action is Action.FORMAT:
            _run(volume.format_command())
        elif action is Action.FINISH:
            _run(volume.finish_command(device))
        elif action is Action.CHECK:
            found = check()
        else:
            mount(folder)
    return found


def partition(offer: Offer) -> str:
    """A new partition of ours on a disk; its path. Raises NotEmpty for a disk that is said to be empty and is not."""
    whole = offer.where is Where.DISK
    if whole and not is_blank(Path(offer.device)):
        raise NotEmpty
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "50-data.conf").write_text(volume.DEFINITION, encoding="ascii")
        _run(volume.partition_command(offer.device, folder, empty=whole))
    _run(["blockdev", "--rereadpt", offer.device], status=None)  # busy where the stick is in use: the kernel knows
    return _appeared(offer.device)


def _appeared(disk: str) -> str:
    """The path of our partition on `disk`, waited for: udev makes its name a moment later."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        found = volume.of_device(blocks.parse(_run(list(blocks.COMMAND))), disk)
        for part in found.inside if found else ():
            if volume.is_ours(part) and Path(part.path).exists():
                return part.path
        if time.monotonic() > until:
            raise SetupError("The new partition did not appear.", hint="Take the stick out, put it in and start again.")
        time.sleep(0.2)


def is_blank(device: Path) -> bool:
    """Whether the first and the last MiB hold nothing but zeros or ones: content that no tool knows is content too."""
    with device.open("rb", buffering=0) as file:
        end = os.lseek(file.fileno(), 0, os.SEEK_END)
        return all(_uniform(file.fileno(), at) for at in (0, max(0, end - PROBE)))


def _uniform(handle: int, at: int) -> bool:
    data = os.pread(handle, PROBE, at)
    return not data.strip(b"\0") or not data.strip(b"\xff")


def encrypt(device: str, secret: bytes, *, memory_kib: int = 262144, iterations: int = 5) -> None:
    """A new LUKS2 header on a partition of ours. Raises NotEmpty where there is a file system already, or a header
    that somebody can have a key for."""
    kinds = ["--match-tag", "TYPE", "--match-tag", "PTTYPE"]  # else it tells of the partition's own entry in its table
    there = _run(["blkid", "--probe", *kinds, "--output", "value", device], status=None).strip()
    if there and not (there == "crypto_LUKS" and keyless(device)):
        raise NotEmpty
    _run(volume.encrypt_command(device, memory_kib, iterations), secret)


def fits(device: str, secret: bytes) -> bool:
    """Whether the passphrase opens it; nothing is opened."""
    return subprocess.run(volume.try_command(device), input=secret, capture_output=True).returncode == 0


def unlock(device: str, secret: bytes) -> None:
    """By the passphrase or by the recovery key, on whatever keyboard. Raises WrongKey, or SetupError for another
    reason."""
    command = volume.try_command(device) if Path(volume.MAPPER).exists() else volume.open_command(device)
    for key in _meant(secret):
        done = subprocess.run(command, input=key, capture_output=True)
        if done.returncode == 0:
            return
        if done.returncode != WRONG:
            raise SetupError(f"cryptsetup failed: {done.stderr.decode(errors='replace').strip()}")
    raise WrongKey


def _meant(secret: bytes) -> Iterator[bytes]:
    """The keys that may be meant: as it was typed first. Each costs as long as one wrong passphrase."""
    typed = secret.decode(errors="replace")
    if typed.encode() != secret:
        yield secret
        return
    for reading in (typed, *keyboards.readings(typed)):
        yield from (key.encode() for key in dict.fromkeys((reading, recovery.read(reading))) if key)


def remember(device: str, settings: str) -> None:
    """Settings into the header, for the next start."""
    token = json.dumps({"type": "inkstick", "keyslots": [], "settings": settings})
    _run(volume.remember_command(device), token.encode())


def recall(device: str) -> str:
    """The settings in the header, "" where there are none. Whoever holds the stick can have written them."""
    done = subprocess.run(volume.recall_command(device), capture_output=True, text=True)
    try:
        return str(json.loads(done.stdout)["settings"])
    except (ValueError, KeyError, TypeError):
        return ""


def add_recovery(device: str, secret: bytes, key: str) -> None:
    """A second way in. The key goes in by a pipe; it is nowhere else. `secret`: as it was typed. Raises WrongKey."""
    for known in _meant(secret):
        reading, writing = os.pipe()
        try:
            os.write(writing, key.encode())
            os.close(writing)
            command = volume.recovery_command(device, f"/dev/fd/{reading}")
            done = subprocess.run(command, input=known, capture_output=True, pass_fds=(reading,))
        finally:
            os.close(reading)
        if done.returncode == 0:
            return
        if done.returncode != WRONG:
            raise SetupError(f"cryptsetup failed: {done.stderr.decode(errors='replace').strip()}")
    raise WrongKey


def check(device: str = volume.MAPPER) -> Checked:
    """The file system's journal replayed and looked over. Raises VolumeDamaged where it cannot be mended."""
    found = volume.checked(subprocess.run(volume.check_command(device), capture_output=True).returncode)
    if found in (Checked.CLEAN, Checked.REPAIRED):
        return found
    # (after FAILED too: only the thorough one looks for a damaged superblock's copies)
    status = subprocess.run(volume.check_command(device, thorough=True), capture_output=True).returncode
    if volume.checked(status) in (Checked.FAILED, Checked.THOROUGH):
        raise VolumeDamaged
    return Checked.THOROUGH


def mount(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _run(volume.mount_command(str(folder)))


def close() -> None:
    """The key forgotten by the kernel. Whatever still has the volume open keeps it from that: end it before."""
    if Path(volume.MAPPER).exists():
        _run(["cryptsetup", "close", volume.MAPPED])


def wipe(device: str) -> None:
    """Crypto-erase: without the key slots nobody can open it, with the passphrase neither. The volume may be open."""
    erase, discard = volume.wipe_commands(device)
    _run(erase)
    _run(["cryptsetup", "luksSuspend", volume.MAPPED], status=None)  # the key leaves the kernel's memory
    _run(discard, status=None)  # many sticks have no discard: without the slots it is noise anyway


def carry(source: Path, target: Path) -> int:
    """What was taken in while the data folder was in memory, copied onto the volume; durable on return. What is there
    already stays as it is: another document of the same name comes beside it, and of state/ the volume's own counts.
    The ledger finds the rest by itself. The number of files copied. Raises NoRoom."""
    try:
        return _carry(source, target, target / "state")
    except OSError as error:
        if no_room(error):
            raise NoRoom from error
        raise


def _carry(source: Path, target: Path, state: Path) -> int:
    """One folder of it, into one that is there. A name that is another kind of thing there is taken beside it too."""
    copied = 0
    for path in sorted(source.iterdir()):
        place = target / path.name
        ours = path.name.startswith("ledger.sqlite") or path.name.endswith(".sock") or copying.is_part(path.name)
        if path.is_symlink() or ours or place == DataFolder(state.parent).ballast:  # which is nothing but room
            continue
        owner = path.stat().st_uid
        if path.is_dir():
            place = next(name for name in copying.names(place) if not os.path.lexists(name) or _is_folder(name))
            copying.make_folder(place, target, owner)
            copied += _carry(path, place, state)
        elif path.is_file() and not (os.path.lexists(place) and place.is_relative_to(state)):
            copying.copy(path, place, owner)
            copied += 1
    return copied


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _run(command: Sequence[str], secret: bytes | None = None, *, status: int | None = 0) -> str:
    """What it printed. Raises SetupError where it ends otherwise than `status` (None: anything)."""
    done = subprocess.run(list(command), input=secret or b"", capture_output=True)
    if status is not None and done.returncode != status:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise SetupError(f"{command[0]} failed: {told[-1] if told else done.returncode}")
    return done.stdout.decode(errors="replace")
