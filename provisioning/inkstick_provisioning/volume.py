"""Where documents are kept: the stick's free space, another disk, or memory. Pure: disks in, offers and steps out.

Nothing here ever names a device that holds something of somebody else: an offer is free space on the stick that we were
started from, a disk without any content, or a volume of our own. `steps` are carried out by `luks.py`, which looks at
the device itself once more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from inkstick_provisioning.blocks import Block, walk

GIB = 1 << 30
LEAST = 4 * GIB
"""A volume smaller than this is not worth its name."""
TAIL = 1 << 20
"""Left alone at a disk's end: the second partition table lies there."""
ALIGNED = 1 << 20
PARTITION_TYPE = "8d1f4a90-7b3c-4e52-9c1e-1d6b05c7a911"
PARTITION_NAME = "inkstick-data"
LABEL = "inkstick-data"
NEW, READY = "inkstick-new", "inkstick"
"""The LUKS header's subsystem field: NEW until the file system inside is made, so that a cut in between is seen."""
SETTINGS_SLOT = "7"
"""The token of the LUKS header that holds the settings: language, network, USB, power, name. Nothing secret."""
MAPPED = "inkstick-data"
MAPPER = f"/dev/mapper/{MAPPED}"
MEDIUM = "/run/live/medium"
DEFINITION = f"[Partition]\nType={PARTITION_TYPE}\nLabel={PARTITION_NAME}\n"
MOUNT_OPTIONS = "nodev,nosuid,noexec,noatime,errors=remount-ro,commit=5"


class Where(StrEnum):
    """Where the data folder lies."""

    STICK = "stick"
    DISK = "disk"
    MEMORY = "memory"


class State(StrEnum):
    """How far a volume is: free (no partition yet), blank (ours, with nothing that anybody could open), new (encrypted,
    not yet formatted), locked."""

    FREE = "free"
    BLANK = "blank"
    NEW = "new"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Offer:
    """A place for documents. `device`: the disk (free) or the partition (else). `size`: bytes. `text`: for people."""

    where: Where
    state: State
    device: str = ""
    size: int = 0
    text: str = ""

    @property
    def locked(self) -> bool:
        """Whether a passphrase opens it: it is encrypted, formatted or not yet."""
        return self.state in (State.LOCKED, State.NEW)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A disk that is not offered, and why, in an English sentence; `values` fill its placeholders."""

    device: str
    text: str
    reason: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Survey:
    """`found`: volumes of ours, begun or finished, this stick's first. `offers`: places for a new one; memory
    is always the last."""

    found: tuple[Offer, ...]
    offers: tuple[Offer, ...]
    refused: tuple[Refusal, ...]


class Action(StrEnum):
    """One durable step; each may be the last before the power goes, and the next start takes up after it."""

    PARTITION = "partition"
    ENCRYPT = "encrypt"
    OPEN = "open"
    FORMAT = "format"
    FINISH = "finish"
    CHECK = "check"
    MOUNT = "mount"


_AFTER = {
    State.FREE: tuple(Action),
    State.BLANK: tuple(Action)[1:],
    State.NEW: tuple(Action)[2:],
    State.LOCKED: (Action.OPEN, Action.CHECK, Action.MOUNT),
}


def steps(state: State) -> tuple[Action, ...]:
    """What is still to be done to a volume in this state, in order."""
    return _AFTER[state]


def survey(blocks: Sequence[Block], subsystems: dict[str, str] | None = None, keyless: Collection[str] = ()) -> Survey:
    """What can hold documents. `subsystems`: of the LUKS headers that were looked into, by device; `keyless`: those of
    them that have no key slot."""
    known = subsystems or {}
    found, offers, refused = [], [], []
    for disk in (block for block in blocks if block.kind in ("disk", "loop") and block.size):
        parts = [part for part in disk.inside if is_ours(part)]
        ours = [_ours(disk, part, known.get(part.path, READY), keyless=part.path in keyless) for part in parts]
        found += [offer for offer in ours if isinstance(offer, Offer)]
        refused += [refusal for refusal in ours if isinstance(refusal, Refusal)]
        if ours:
            continue
        judged = _stick(disk) if is_boot(disk) else _disk(disk)
        if isinstance(judged, Offer):
            offers.append(judged)
        elif disk.kind == "disk":
            refused.append(judged)
    found.sort(key=lambda offer: offer.where is not Where.STICK)  # the kernel numbers disks as it likes
    offers.sort(key=lambda offer: (offer.where is not Where.STICK, offer.device))
    memory = Offer(Where.MEMORY, State.FREE, text="memory only: everything is lost at power-off")
    return Survey(tuple(found), (*offers, memory), tuple(refused))


def locked(survey: Survey) -> tuple[Offer, ...]:
    """The volumes that a passphrase opens, this stick's first."""
    return tuple(offer for offer in survey.found if offer.locked)


def first_locked(survey: Survey) -> Offer | None:
    """The one whose passphrase is asked for."""
    return next(iter(locked(survey)), None)


def is_ours(part: Block) -> bool:
    """A partition that Inkstick made: our type and our name; what anybody else makes has another type."""
    return part.type == PARTITION_TYPE and part.name == PARTITION_NAME


def is_boot(disk: Block) -> bool:
    """Whether we were started from it."""
    return any(MEDIUM in block.mounts for block in disk.everything())


def _ours(disk: Block, part: Block, subsystem: str, *, keyless: bool) -> Offer | Refusal:
    where = Where.STICK if is_boot(disk) else Where.DISK
    if disk.read_only or part.read_only:
        return Refusal(disk.path, _name(disk), "It has a data volume, but it is write-protected.")
    if not part.filesystem or (part.filesystem == "crypto_LUKS" and keyless):
        state = State.BLANK
    elif part.filesystem == "crypto_LUKS":
        state = State.NEW if subsystem == NEW else State.LOCKED
    else:  # somebody's computer asked whether to format it, and was told yes
        return Refusal(disk.path, _name(disk), "Its data volume was formatted by another computer. It stays as it is.")
    return Offer(where, state, part.path, part.size, _name(disk))


def _stick(disk: Block) -> Offer | Refusal:
    """The free space behind the image on the stick that we were started from."""
    free = free_space(disk)
    if disk.read_only:
        return Refusal(disk.path, _name(disk), "It is write-protected.")
    if disk.table != "gpt":
        return Refusal(
            disk.path, _name(disk), "Its partition table cannot hold a volume: write the image raw, with dd."
        )
    if free < LEAST:
        values = {"size": size(free), "place": size(LEAST)}
        if values["size"] == values["place"]:  # what lacks is less than these tell
            values = {"size": f"{free // 10**6} MB", "place": f"{-(-LEAST // 10**6)} MB"}
        return Refusal(disk.path, _name(disk), "Only {size} are free on it; {place} are needed.", values)
    return Offer(Where.STICK, State.FREE, disk.path, free, _name(disk))


def _disk(disk: Block) -> Offer | Refusal:
    """Another disk, only if there is nothing at all on it."""
    if disk.read_only:
        return Refusal(disk.path, _name(disk), "It is write-protected.")
    if disk.inside or disk.filesystem or disk.table or any(block.mounts for block in disk.everything()):
        return Refusal(disk.path, _name(disk), f"It holds {_content(disk)}. Inkstick never touches it.")
    if disk.size < LEAST:
        return Refusal(disk.path, _name(disk), "It is too small: {size}.", {"size": size(disk.size)})
    return Offer(Where.DISK, State.FREE, disk.path, disk.size - 2 * TAIL, _name(disk))


def free_space(disk: Block) -> int:
    """Bytes behind the last partition that a new one can have; 0 or more."""
    last = max((part.end for part in disk.inside if part.kind == "part"), default=ALIGNED)
    start = -(-last // ALIGNED) * ALIGNED
    return max(0, disk.size - TAIL - start)


def _content(disk: Block) -> str:
    kinds = sorted({block.filesystem for block in disk.everything() if block.filesystem})
    return f"data of somebody else ({', '.join(kinds)})" if kinds else "a partition table"


def _name(disk: Block) -> str:
    return ", ".join(part for part in (disk.model, size(disk.size)) if part)


def size(number: int) -> str:
    """Bytes for people, as sticks are sold: in powers of ten."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number} bytes"


# ---- the commands, as lists; a passphrase goes in by standard input and is never among them


def partition_command(disk: str, definitions: str, *, empty: bool) -> list[str]:
    """`empty`: the disk has no partition table and gets one; else one must be there and is only added to."""
    mode = "require" if empty else "refuse"
    return ["systemd-repart", "--dry-run=no", f"--empty={mode}", f"--definitions={definitions}", disk]


def encrypt_command(device: str, memory_kib: int = 262144, iterations: int = 5) -> list[str]:
    """argon2id with a fixed, modest cost: a benchmark on a strong laptop would lock out a weak one."""
    cost = ["--pbkdf", "argon2id", "--pbkdf-memory", str(memory_kib), "--pbkdf-force-iterations", str(iterations)]
    cost += ["--pbkdf-parallel", "2"]
    form = ["--type", "luks2", "--sector-size", "4096", "--label", LABEL, "--subsystem", NEW]
    return ["cryptsetup", "luksFormat", "--batch-mode", *cost, *form, "--key-file", "-", device]


def open_command(device: str) -> list[str]:
    return ["cryptsetup", "open", "--type", "luks2", "--allow-discards", "--key-file", "-", device, MAPPED]


def try_command(device: str) -> list[str]:
    """Whether the passphrase fits, without opening."""
    return ["cryptsetup", "open", "--type", "luks2", "--test-passphrase", "--key-file", "-", device]


def recovery_command(device: str, key_file: str) -> list[str]:
    """A second key slot; the key in it has 200 random bits, so nothing is gained by making each guess slow."""
    cost = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    return ["cryptsetup", "luksAddKey", "--batch-mode", *cost, "--key-file", "-", device, key_file]


def remember_command(device: str) -> list[str]:
    """The settings, by standard input, into a token of the header: they can be read before the passphrase is typed."""
    return ["cryptsetup", "token", "import", "--token-id", SETTINGS_SLOT, "--token-replace", "--json-file", "-", device]


def recall_command(device: str) -> list[str]:
    return ["cryptsetup", "token", "export", "--token-id", SETTINGS_SLOT, device]


def format_command(device: str = MAPPER) -> list[str]:
    return ["mkfs.ext4", "-q", "-F", "-m", "0", "-L", LABEL, "-O", "metadata_csum", device]


def finish_command(device: str) -> list[str]:
    return ["cryptsetup", "config", "--label", LABEL, "--subsystem", READY, device]


def mount_command(folder: str, device: str = MAPPER) -> list[str]:
    return ["mount", "-t", "ext4", "-o", MOUNT_OPTIONS, device, folder]


def check_command(device: str = MAPPER, *, thorough: bool = False) -> list[str]:
    return ["e2fsck", "-f", "-y", device] if thorough else ["e2fsck", "-p", device]


def wipe_commands(device: str) -> tuple[list[str], ...]:
    """Every key slot destroyed, then the header's place discarded: what is left is noise without a key."""
    return (
        ["cryptsetup", "luksErase", "--batch-mode", device],
        ["blkdiscard", "--force", "--length", str(32 << 20), device],
    )


class Checked(StrEnum):
    """What `e2fsck` found."""

    CLEAN = "clean"
    REPAIRED = "repaired"
    THOROUGH = "thorough"
    FAILED = "failed"


def checked(status: int) -> Checked:
    """From e2fsck's exit status (bits: 1 repaired, 2 reboot, 4 errors left, 8 and up: it could not work)."""
    if status >= 8:
        return Checked.FAILED
    if status & 4:
        return Checked.THOROUGH
    return Checked.REPAIRED if status & 3 else Checked.CLEAN


# ---- fullness


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of the data folder's file system, and the reserve below which nothing is accepted."""

    free: int
    total: int
    reserve: int


def fullness(room: Room) -> str:
    """A warning in a sentence; "" while there is room."""
    if room.free <= room.reserve:
        return (
            "The data volume is full. Nothing is lost, nothing new is taken in. Carry results away, then delete them."
        )
    if room.free <= 3 * room.reserve:
        return f"The data volume is nearly full: {size(room.free)} of {size(room.total)} are left."
    return ""


def of_device(blocks: Sequence[Block], device: str) -> Block | None:
    return next((block for block in walk(tuple(blocks)) if block.path == device), None)
