"""Where documents may be kept: what is offered, what is never touched, and what is still to be done."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inkstick_provisioning import blocks, firststart, keyboards, luks, recovery, volume
from inkstick_provisioning.blocks import SECTOR, Block
from inkstick_provisioning.faults import NoRoom, NotEmpty, SetupError, VolumeDamaged, WrongKey
from inkstick_provisioning.firststart import Situation
from inkstick_provisioning.moment import Clock
from inkstick_provisioning.volume import Action, Checked, Offer, Room, State, Where

GB = 10**9
OURS = {"parttype": volume.PARTITION_TYPE, "partlabel": volume.PARTITION_NAME, "type": "part"}


def entry(path: str, size: int = 0, **more: Any) -> dict[str, Any]:
    return {"path": path, "type": "disk", "size": size, "rm": False, "ro": False, "mountpoints": [None], **more}


def part(path: str, start: int, size: int, **more: Any) -> dict[str, Any]:
    return entry(path, size, **{"type": "part", "start": start // SECTOR, **more})


def stick(*more: dict[str, Any], size: int = 64 * GB, **fields: Any) -> dict[str, Any]:
    """The medium as lsblk tells it: iso9660 is the first partition, mounted by live-boot, the ESP behind it."""
    system = part("/dev/sda1", 32768, 600 << 20, fstype="iso9660", label="INKSTICK", mountpoints=["/run/live/medium"])
    esp = part("/dev/sda2", 601 << 20, 64 << 20, fstype="vfat")
    rest = {"pttype": "gpt", "tran": "usb", "rm": True, "model": "DataTraveler 3.0", "vendor": "Kingston", **fields}
    return entry("/dev/sda", size, children=[system, esp, *more], **rest)


def windows() -> dict[str, Any]:
    parts = [
        part("/dev/nvme0n1p1", 1 << 20, 260 << 20, fstype="vfat"),
        part("/dev/nvme0n1p3", 300 << 20, 400 * GB, fstype="BitLocker"),
    ]
    return entry("/dev/nvme0n1", 512 * GB, pttype="gpt", tran="nvme", model="SAMSUNG MZVL2512", children=parts)


def survey(*disks: dict[str, Any], subsystems: dict[str, str] | None = None) -> volume.Survey:
    return volume.survey(blocks.parse(json.dumps({"blockdevices": list(disks)})), subsystems)


def places(found: volume.Survey) -> list[tuple[Where, str]]:
    return [(offer.where, offer.device) for offer in found.offers]


MEMORY = (Where.MEMORY, "")
EMPTY = entry("/dev/nvme0n1", 256 * GB, tran="nvme")


def test_a_disk_is_called_by_its_words_and_size_not_by_a_number_of_its_maker() -> None:
    found = survey(entry("/dev/nvme0n1", 256 * GB, vendor="0x1af4"), entry("/dev/nvme1n1", 256 * GB, model="SAMSUNG"))
    assert [offer.text for offer in found.offers[:2]] == ["256 GB", "SAMSUNG, 256 GB"]


@pytest.mark.parametrize(
    ("disks", "expected"),
    [
        ([stick()], [(Where.STICK, "/dev/sda"), MEMORY]),
        ([stick(), windows()], [(Where.STICK, "/dev/sda"), MEMORY]),
        ([stick(), EMPTY], [(Where.STICK, "/dev/sda"), (Where.DISK, "/dev/nvme0n1"), MEMORY]),
        ([stick(size=4 * GB)], [MEMORY]),  # too small
        ([stick(ro=True)], [MEMORY]),  # the switch on its side
        ([stick(pttype="dos")], [MEMORY]),  # written by Rufus as files, not raw
        ([entry("/dev/sr0", 600 << 20, type="rom", mountpoints=["/run/live/medium"])], [MEMORY]),  # a DVD
        ([], [MEMORY]),
    ],
)
def test_only_our_stick_and_empty_disks_are_offered(
    disks: list[dict[str, Any]], expected: list[tuple[Where, str]]
) -> None:
    assert places(survey(*disks)) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"fstype": "ntfs"},
        {"fstype": "crypto_LUKS"},
        {"fstype": "BitLocker"},
        {"fstype": "linux_raid_member"},
        {"fstype": "LVM2_member"},
        {"pttype": "gpt"},
        {"pttype": "dos"},
        {"mountpoints": ["/mnt"]},
        {"ro": True},
        {"size": GB},
        {"children": [part("/dev/sdb1", 1 << 20, 10 * GB)]},
        {"children": [part("/dev/sdb1", 1 << 20, 10 * GB, fstype="ext4", label=volume.LABEL)]},
    ],
)
def test_a_disk_with_anything_on_it_is_never_offered(fields: dict[str, Any]) -> None:
    found = survey(stick(), entry("/dev/sdb", **{"size": 100 * GB, **fields}))
    assert [offer.device for offer in found.offers] == ["/dev/sda", ""]
    assert [refusal.device for refusal in found.refused] == ["/dev/sdb"]
    assert found.refused[0].reason


@pytest.mark.parametrize(
    ("fields", "subsystem", "state", "first", "last"),
    [
        ({}, "", State.BLANK, Action.ENCRYPT, Action.MOUNT),
        ({"fstype": "crypto_LUKS"}, volume.NEW, State.NEW, Action.OPEN, Action.MOUNT),
        ({"fstype": "crypto_LUKS"}, volume.READY, State.LOCKED, Action.OPEN, Action.MOUNT),
    ],
)
def test_a_volume_of_ours_is_taken_up_where_the_power_left_it(
    fields: dict[str, Any], subsystem: str, state: State, first: Action, last: Action
) -> None:
    data = part("/dev/sda3", 700 << 20, 60 * GB, **{**OURS, **fields})
    found = survey(stick(data), subsystems={"/dev/sda3": subsystem})
    assert [(offer.device, offer.state, offer.where) for offer in found.found] == [("/dev/sda3", state, Where.STICK)]
    assert places(found) == [MEMORY], "the rest of the stick is not offered a second time"
    assert (volume.steps(state)[0], volume.steps(state)[-1]) == (first, last)


def test_the_stick_s_own_volume_comes_before_one_that_is_plugged_in_beside_it() -> None:
    """Whichever of the two the kernel found first."""
    ours = part("/dev/sda3", 700 << 20, 60 * GB, **OURS, fstype="crypto_LUKS")
    other = part("/dev/nvme0n1p1", 1 << 20, 60 * GB, **OURS, fstype="crypto_LUKS")
    found = survey(entry("/dev/nvme0n1", 64 * GB, pttype="gpt", children=[other]), stick(ours))
    assert [offer.device for offer in volume.locked(found)] == ["/dev/sda3", "/dev/nvme0n1p1"]


def test_a_finished_volume_is_never_formatted() -> None:
    assert Action.FORMAT not in volume.steps(State.LOCKED)
    assert Action.ENCRYPT not in volume.steps(State.LOCKED)
    assert Action.FORMAT in volume.steps(State.NEW)


def test_a_partition_of_our_kind_with_something_else_in_it_is_left_alone_and_told() -> None:
    """Windows offers to format what it does not know. Unexplained, the stick offers memory alone."""
    found = survey(stick(part("/dev/sda3", 700 << 20, 60 * GB, **{**OURS, "fstype": "ntfs"})))
    assert found.found == () and places(found) == [MEMORY]
    assert ["formatted by another" in refusal.reason for refusal in found.refused] == [True]
    other = survey(stick(part("/dev/sda3", 700 << 20, 60 * GB, **{**OURS, "partlabel": "data"})))
    assert other.found == ()


def test_a_volume_on_a_write_protected_stick_is_told() -> None:
    found = survey(stick(part("/dev/sda3", 700 << 20, 60 * GB, **{**OURS, "fstype": "crypto_LUKS"}), ro=True))
    assert found.found == () and "write-protected" in found.refused[0].reason


def test_free_space_lies_behind_the_last_partition_and_leaves_the_second_table() -> None:
    disk = Block("/dev/sda", "disk", 64 * GB, inside=(Block("/dev/sda1", "part", 1000, start=512),))
    assert volume.free_space(disk) == 64 * GB - volume.TAIL - (1 << 20)
    full = Block("/dev/sda", "disk", 10 << 20, inside=(Block("/dev/sda1", "part", 10 << 20),))
    assert volume.free_space(full) == 0


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (0, Checked.CLEAN),
        (1, Checked.REPAIRED),
        (2, Checked.REPAIRED),
        (3, Checked.REPAIRED),
        (4, Checked.THOROUGH),
        (5, Checked.THOROUGH),
        (8, Checked.FAILED),
        (12, Checked.FAILED),
        (32, Checked.FAILED),
    ],
)
def test_what_the_file_system_check_says(status: int, found: Checked) -> None:
    assert volume.checked(status) is found


def test_a_full_volume_is_told() -> None:
    assert volume.fullness(Room(10 * GB, 60 * GB, 2 * GB)) == ""
    assert "nearly full" in volume.fullness(Room(5 * GB, 60 * GB, 2 * GB))
    assert "Nothing is lost" in volume.fullness(Room(2 * GB, 60 * GB, 2 * GB))


@pytest.mark.parametrize(
    ("disk", "said"),
    [
        (stick(size=4 * GB), "Only 3.3 GB are free on it; 4.29 GB are needed."),
        (stick(size=(666 << 20) + volume.LEAST - 1), "Only 4294 MB are free on it; 4295 MB are needed."),
        (stick(ro=True), "It is write-protected."),
        (stick(pttype="dos"), "Its partition table cannot hold a volume: write the image raw, with dd."),
        (entry("/dev/sdb", GB), "It is too small: 1 GB."),
        (windows(), "It is in use or not empty and stays as it is."),
        (stick(part("/dev/sda3", 700 << 20, GB, **{**OURS, "fstype": "ntfs"})), "formatted by another computer"),
        (stick(part("/dev/sda3", 700 << 20, GB, **OURS), ro=True), "It has a data volume, but it is write-protected."),
    ],
)
def test_why_a_disk_is_not_offered_is_said_in_the_person_s_language(disk: dict[str, Any], said: str) -> None:
    """What had a size in it was in English on the Chinese screen."""
    found = Situation(survey(disk), Clock(2.0, 1.0, True))
    english, chinese = (firststart.screen(firststart.answer(firststart.begin(found), code)) for code in "12")
    assert said in english.lines[1]
    assert not re.search("[a-z]{2,} [a-z]{2,}", chinese.lines[1].partition(": ")[2]), chinese.lines[1]


def test_a_stick_with_just_enough_room_is_offered() -> None:
    assert places(survey(stick(size=(666 << 20) + volume.LEAST))) == [(Where.STICK, "/dev/sda"), MEMORY]


def test_what_is_not_lsblk_is_refused() -> None:
    for text in ("", "[]", "{}", '{"blockdevices": 3}'):
        with pytest.raises(ValueError):
            blocks.parse(text)


# ---- the real thing, where this machine lets us

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def needs(*programs: str) -> pytest.MarkDecorator:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [program for program in programs if not shutil.which(program, path=path)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(autouse=True)
def system_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An empty disk of 64 MiB."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    return path


@pytest.fixture
def loop(disk: Path) -> Iterator[str]:
    """The same as a loop device."""
    done = subprocess.run(["losetup", "--find", "--show", str(disk)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    device = done.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_content_that_no_tool_knows_is_content(disk: Path) -> None:
    assert luks.is_blank(disk)
    with disk.open("r+b") as file:
        file.seek((64 << 20) - 100)
        file.write(b"keep me")
    assert not luks.is_blank(disk)


@needs("cryptsetup", "blkid")
def test_the_volume_opens_with_its_passphrase_and_after_a_wipe_with_none(disk: Path) -> None:
    device, secret = str(disk), "correct horse 电池".encode()
    luks.encrypt(device, secret, memory_kib=1024, iterations=4)
    assert luks.subsystem(device) == volume.NEW
    subprocess.run(volume.finish_command(device), check=True)
    assert luks.subsystem(device) == volume.READY
    assert luks.fits(device, secret)
    assert not luks.fits(device, b"wrong")
    shown = subprocess.run(["cryptsetup", "luksDump", device], capture_output=True, text=True).stdout
    assert "argon2id" in shown and "Version:       \t2" in shown
    with pytest.raises(NotEmpty):
        luks.encrypt(device, secret)
    subprocess.run(volume.wipe_commands(device)[0], check=True)
    assert not luks.fits(device, secret)


@needs("cryptsetup", "blkid")
def test_a_header_without_any_key_is_made_anew(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power went while luksFormat worked on the first key slot, which takes the most of its time; or a stick
    without discard was wiped. No passphrase opens it, and nothing else was ever offered on that stick."""
    device = str(disk)
    luks.encrypt(device, b"correct horse", memory_kib=1024, iterations=4)
    luks.remember(device, 'language = "zh"\n')
    data = part(device, 700 << 20, 60 * GB, **OURS, fstype="crypto_LUKS")
    monkeypatch.setattr(luks, "_run", lambda _: json.dumps({"blockdevices": [stick(data)]}))
    assert [offer.state for offer in luks.look().found] == [State.NEW]
    subprocess.run(volume.wipe_commands(device)[0], check=True)
    assert [offer.state for offer in luks.look().found] == [State.BLANK]
    monkeypatch.undo()
    monkeypatch.setenv("PATH", f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    luks.encrypt(device, b"another one", memory_kib=1024, iterations=4)
    assert luks.fits(device, b"another one") and luks.subsystem(device) == volume.NEW
    with disk.open("r+b") as file:  # a header that is damaged is none without a key
        file.write(bytes(16 << 20))
    assert not luks.keyless(device)


@needs("cryptsetup", "blkid")
def test_the_recovery_key_fits_however_it_is_typed_until_the_wipe(disk: Path) -> None:
    device, secret, key = str(disk), b"correct horse", recovery.make()
    luks.encrypt(device, secret, memory_kib=1024, iterations=4)
    assert luks.slots(device) == 1
    luks.add_recovery(device, secret, key)
    assert luks.slots(device) == 2
    assert luks.fits(device, secret) and luks.fits(device, key.encode())
    assert luks.fits(device, recovery.read(key.lower().replace("-", "  ")).encode())
    assert not luks.fits(device, recovery.make().encode())
    with pytest.raises(SetupError):
        luks.add_recovery(device, b"wrong", recovery.make())
    subprocess.run(volume.wipe_commands(device)[0], check=True)
    assert not luks.fits(device, key.encode())


@needs("cryptsetup", "blkid")
def test_settings_in_the_header_can_be_read_without_the_passphrase_and_replaced(disk: Path) -> None:
    device = str(disk)
    luks.encrypt(device, b"correct horse", memory_kib=1024, iterations=4)
    assert luks.recall(device) == ""
    for settings in ('language = "zh"\n', 'language = "en"\n[usb]\nread = "inbox"\n'):
        luks.remember(device, settings)
        assert luks.recall(device) == settings
    assert luks.fits(device, b"correct horse")


def test_lsblk_is_asked_in_the_way_in_which_it_tells_what_lies_inside_a_disk() -> None:
    """Without NAME it writes one flat list, in which the stick is a disk of somebody else."""
    assert "NAME" in blocks.COLUMNS.split(",") and "--json" in blocks.COMMAND


HEARD = [
    ("zwei Yaks? Nein!", "ywei Zaks_ Nein!"),  # a German keyboard
    ("quiche, azur; maman 12", "auichem qwur, ;q;qn !@"),  # a French one
]
"""What was typed by the letters on the keys, and what the console heard."""


@pytest.mark.parametrize(("typed", "heard"), HEARD)
def test_what_was_typed_is_known_on_another_keyboard_too(typed: str, heard: str) -> None:
    assert typed in keyboards.readings(heard) and heard in keyboards.readings(typed)
    assert [*keyboards.readings("the onset of this script")] == [], "the same on all of them"
    assert len(set(keyboards.readings(heard)) - {heard}) == len([*keyboards.readings(heard)]), "each once"


@needs("cryptsetup", "blkid")
@pytest.mark.parametrize("chosen", range(2))
@pytest.mark.parametrize("words", HEARD)
def test_a_passphrase_chosen_at_the_one_keyboard_opens_the_volume_at_the_other(
    words: tuple[str, str], chosen: int, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chosen in a browser and typed at the console at the next start, or the other way round, it did not fit, and
    nothing shows what was typed. Such a volume gets its recovery key, too, and that key is taken from any keyboard."""
    monkeypatch.setattr(volume, "MAPPER", str(disk))  # so that nothing is opened
    kept, typed, device = words[chosen].encode(), words[1 - chosen].encode(), str(disk)
    luks.encrypt(device, kept, memory_kib=1024, iterations=4)
    luks.unlock(device, kept)
    luks.unlock(device, typed)
    with pytest.raises(WrongKey):
        luks.unlock(device, typed + b"z")
    key = "0123456789ABCDEFGHJKMNPQRSTVWXYZ".ljust(40, "M")
    key = "-".join(key[at : at + 5] for at in range(0, 40, 5))
    with pytest.raises(WrongKey):
        luks.add_recovery(device, typed + b"z", key)
    luks.add_recovery(device, typed, key)
    assert luks.slots(device) == 2
    at_a_french_console = key.lower().translate(str.maketrans("0123456789-aqwzm", ")!@#$%^&*(6qazw;"))
    luks.unlock(device, at_a_french_console.encode())


def test_what_is_no_recovery_key_is_none() -> None:
    key = recovery.make(lambda letters: letters[1])
    assert key == "-".join(["11111"] * 8)
    assert recovery.read("iLiIl " * 8) == key, "letters that look like a one are a one"
    for typed in ("", "four plain words", key[:-1], f"{key}1", key.replace("1", "U")):
        assert recovery.read(typed) == ""
    assert len({recovery.make() for _ in range(100)}) == 100


@needs("cryptsetup", "blkid", "mkfs.ext4")
def test_a_foreign_file_system_is_not_encrypted_over(disk: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    before = disk.read_bytes()
    with pytest.raises(NotEmpty):
        luks.encrypt(str(disk), b"secret")
    assert disk.read_bytes() == before


@needs("mkfs.ext4", "e2fsck")
def test_a_damaged_superblock_is_mended_from_its_copies(disk: Path) -> None:
    subprocess.run(volume.format_command(str(disk)), check=True)
    assert luks.check(str(disk)) is Checked.CLEAN
    with disk.open("r+b") as file:
        file.seek(1024)
        file.write(bytes(1024))
    assert luks.check(str(disk)) is Checked.THOROUGH
    assert luks.check(str(disk)) is Checked.CLEAN
    with disk.open("r+b") as file:
        file.write(bytes(64 << 20))
    with pytest.raises(VolumeDamaged):
        luks.check(str(disk))


@needs_root
@needs("systemd-repart", "losetup")
def test_the_partition_is_added_behind_what_is_there(loop: str, disk: Path, tmp_path: Path) -> None:
    """On a table that another partition is in: that one stays as it is, byte for byte."""
    first = tmp_path / "first"
    first.mkdir()
    (first / "10.conf").write_text("[Partition]\nType=esp\nSizeMaxBytes=8M\nSizeMinBytes=8M\n")
    subprocess.run(volume.partition_command(loop, str(first), empty=True), check=True, capture_output=True)
    with disk.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"the system" * 100)
    definitions = tmp_path / "ours"
    definitions.mkdir()
    (definitions / "50-data.conf").write_text(volume.DEFINITION)
    subprocess.run(volume.partition_command(loop, str(definitions), empty=False), check=True, capture_output=True)
    table = subprocess.run(["blkid", "-p", "-s", "PTTYPE", "-o", "value", loop], capture_output=True, text=True).stdout
    assert table.strip() == "gpt"
    data = disk.read_bytes()
    assert volume.PARTITION_NAME.encode("utf-16-le") in data[:65536]
    assert data[1 << 20 :].startswith(b"the system" * 100)
    assert volume.PARTITION_NAME.encode("utf-16-le") in data[-65536:], "the second table has it too"


@needs_root
@needs("systemd-repart", "losetup")
def test_a_disk_that_is_not_empty_is_not_partitioned(loop: str, disk: Path) -> None:
    with disk.open("r+b") as file:
        file.write(b"something")
    before = disk.read_bytes()
    with pytest.raises(NotEmpty):
        luks.partition(Offer(Where.DISK, State.FREE, loop, 64 << 20))
    assert disk.read_bytes() == before


@needs_root
@needs("cryptsetup", "mkfs.ext4", "losetup")
@pytest.mark.skipif("device-mapper" not in Path("/proc/misc").read_text(), reason="this kernel has no device mapper")
def test_made_closed_and_opened_again_it_still_has_the_file(loop: str, tmp_path: Path) -> None:
    point = tmp_path / "data"
    offer = Offer(Where.DISK, State.BLANK, loop, 64 << 20)
    try:
        luks.prepare(offer, b"secret", point)
        assert os.statvfs(point).f_flag & (os.ST_NOSUID | os.ST_NOEXEC | os.ST_NODEV)
        (point / "kept").write_text("kept")
        subprocess.run(["umount", str(point)], check=True)
        luks.close()
        with pytest.raises(WrongKey):
            luks.prepare(Offer(Where.DISK, State.LOCKED, loop), b"wrong", point)
        luks.prepare(Offer(Where.DISK, State.LOCKED, loop), b"secret", point)
        assert (point / "kept").read_text() == "kept"
    finally:
        subprocess.run(["umount", str(point)])
        luks.close()


def test_what_was_taken_in_before_the_volume_opened_is_carried_onto_it(tmp_path: Path) -> None:
    memory, kept = tmp_path / "memory", tmp_path / "volume"
    for folder, text in ((memory, "new"), (kept, "old")):
        (folder / "state/spool").mkdir(parents=True)
        (folder / "state/ledger.sqlite").write_text(text)
        (folder / "inbox").mkdir()
        (folder / "inbox/both.pdf").write_text(text)
    (memory / "state/ballast").write_text("nothing but room")
    (memory / "inbox/sub").mkdir()
    (memory / "inbox/sub/scan.pdf").write_text("scan")
    (memory / "inbox/link").symlink_to("/etc/passwd")
    (memory / "inbox/same.pdf").write_text("same")
    (kept / "inbox/same.pdf").write_text("same")
    long = "卷" * 83 + ".pdf"  # 253 bytes: one more letter is no name any more
    (memory / "inbox/sub" / long).write_text("long")
    luks.carry(memory, kept)
    assert (kept / "inbox/sub" / long).read_text() == "long"
    (memory / "inbox/sub" / long).write_text("another")
    luks.carry(memory, kept)
    assert {path.read_text() for path in (kept / "inbox/sub").iterdir()} == {"scan", "long", "another"}
    assert (kept / "inbox/sub/scan.pdf").read_text() == "scan"
    assert (kept / "inbox/both.pdf").read_text() == "old", "what is on the volume is never replaced"
    assert (kept / "inbox/both (2).pdf").read_text() == "new", "and what is new is never dropped"
    assert sorted(path.name for path in (kept / "inbox").iterdir()) == ["both (2).pdf", "both.pdf", "same.pdf", "sub"]
    assert (kept / "state/ledger.sqlite").read_text() == "old"
    assert not (kept / "state/ballast").exists()
    assert not (kept / "inbox/link").exists()


def test_what_has_the_name_of_another_kind_of_thing_on_the_volume_is_carried_beside_it(tmp_path: Path) -> None:
    """A folder here, a file there: the volume could not be opened. Through a link nothing goes, and nothing is lost."""
    memory, kept, outside = tmp_path / "memory", tmp_path / "volume", tmp_path / "outside"
    for folder in (memory / "done/scan", memory / "inbox/k", kept / "done", kept / "inbox", outside):
        folder.mkdir(parents=True)
    (memory / "done/scan/1.pdf").write_text("one")
    (memory / "inbox/k/2.pdf").write_text("two")
    (kept / "done/scan").write_text("a file")
    (kept / "inbox/k").symlink_to(outside)
    assert luks.carry(memory, kept) == 2
    assert (kept / "done/scan").read_text() == "a file" and (kept / "done/scan (2)/1.pdf").read_text() == "one"
    assert (kept / "inbox/k (2)/2.pdf").read_text() == "two" and not list(outside.iterdir())


@needs_root
def test_a_volume_without_room_for_what_was_taken_in_says_so(tmp_path: Path) -> None:
    memory, full = tmp_path / "memory", tmp_path / "volume"
    for folder in (memory, full):
        folder.mkdir()
    (memory / "Case 12 Smith.pdf").write_bytes(b"x" * 200_000)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(full)]).returncode:
        pytest.skip("cannot mount here")
    try:
        with pytest.raises(NoRoom):
            luks.carry(memory, full)
        assert list(full.iterdir()) == [] and (memory / "Case 12 Smith.pdf").exists()
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_a_command_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cryptsetup|No such"):
        luks.encrypt(str(tmp_path / "nothing"), b"x")
