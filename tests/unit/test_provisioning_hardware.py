"""What is said of real computers: PCI ids as in the public pci.ids, memory as their drivers report it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

from inkstick_provisioning import hardware, machine
from inkstick_provisioning.hardware import (
    AMD,
    GIB,
    INTEL,
    NVIDIA,
    Driven,
    Facts,
    Finding,
    Generation,
    Pci,
    Thunderbolt,
    generation,
    judge,
)

IRIS, UHD, VEGA, RADEON = Pci(INTEL, 0x9A49), Pci(INTEL, 0x46A6), Pci(AMD, 0x1638), Pci(AMD, 0x15BF)


@dataclass(frozen=True)
class Laptop:
    """`mib`: memory that the driver reports; None: the driver does not answer."""

    name: str
    device: int
    beside: Pci | None
    mib: int | None
    capability: tuple[int, int]
    finding: Finding
    size: int | None = None
    driver: int = 550

    def facts(self) -> Facts:
        card = Pci(NVIDIA, self.device, 0x0302 if self.beside else 0x0300)
        displays = (self.beside, card) if self.beside else (card,)
        driven = (Driven(self.name, self.mib << 20, self.capability, self.driver),) if self.mib else ()
        return Facts(32 * GIB, 16, displays, driven, self.driver, chassis=10)


LAPTOPS = [
    Laptop("RTX 4090 Laptop, Lenovo Legion Pro 7", 0x2717, UHD, 16376, (8, 9), Finding.READY, 16),
    Laptop("RTX 4090 Laptop, ASUS Strix, Intel off", 0x2757, None, 16376, (8, 9), Finding.READY, 16),
    Laptop("RTX 4080 Laptop, Razer Blade 16", 0x27A0, UHD, 12282, (8, 9), Finding.READY, 12),
    Laptop("RTX 4080 Laptop, MSI Vector", 0x27E0, UHD, 12282, (8, 9), Finding.READY, 12),
    Laptop("RTX 4070 Laptop, ASUS G14", 0x2820, RADEON, 8188, (8, 9), Finding.SMALL),
    Laptop("RTX 4060 Laptop, Acer Nitro", 0x28A0, UHD, 8188, (8, 9), Finding.SMALL),
    Laptop("RTX 4050 Laptop, Dell G15", 0x28A1, UHD, 6141, (8, 9), Finding.SMALL),
    Laptop("RTX 5000 Ada, Dell Precision 7780", 0x2730, UHD, 16376, (8, 9), Finding.READY, 16),
    Laptop("RTX 4000 Ada, HP ZBook Fury", 0x27BA, UHD, 12282, (8, 9), Finding.READY, 12),
    Laptop("RTX 3500 Ada, Lenovo P1", 0x27BB, UHD, 12282, (8, 9), Finding.READY, 12),
    Laptop("RTX 2000 Ada, Lenovo P16v", 0x28B8, UHD, 8188, (8, 9), Finding.SMALL),
    Laptop("RTX 3080 Ti Laptop, Lenovo Legion 7i", 0x2420, UHD, 16384, (8, 6), Finding.READY, 16),
    Laptop("RTX 3080 Laptop 16 GB, Gigabyte Aero", 0x249C, UHD, 16384, (8, 6), Finding.READY, 16),
    Laptop("RTX 3080 Laptop 8 GB, Razer Blade 15", 0x24DC, UHD, 8192, (8, 6), Finding.SMALL),
    Laptop("RTX 3070 Laptop, ASUS Zephyrus", 0x249D, VEGA, 8192, (8, 6), Finding.SMALL),
    Laptop("RTX 3060 Laptop, Lenovo Legion 5", 0x2520, VEGA, 6144, (8, 6), Finding.SMALL),
    Laptop("RTX A5500 Laptop, Dell Precision 7770", 0x2438, UHD, 16384, (8, 6), Finding.READY, 16),
    Laptop("RTX A3000 12GB, HP ZBook Studio", 0x24B9, UHD, 12288, (8, 6), Finding.READY, 12),
    Laptop("RTX A1000, Lenovo P15v", 0x25B9, IRIS, 4096, (8, 6), Finding.SMALL),
    Laptop("RTX 3050 Ti, Dell XPS 15", 0x25A0, IRIS, 4096, (8, 6), Finding.SMALL),
    Laptop("RTX 2080 SUPER Mobile, Acer Helios", 0x1E93, Pci(INTEL, 0x3E9B), 8192, (7, 5), Finding.TOO_OLD),
    Laptop("Quadro RTX 5000 Mobile 16 GB, Lenovo P73", 0x1EB5, Pci(INTEL, 0x3E9B), 16384, (7, 5), Finding.TOO_OLD),
    Laptop("RTX 2060 Mobile, HP Omen", 0x1F11, Pci(INTEL, 0x3E9B), 6144, (7, 5), Finding.TOO_OLD),
    Laptop("GTX 1650 Mobile, Lenovo IdeaPad", 0x1F91, Pci(INTEL, 0x3E9B), 4096, (7, 5), Finding.TOO_OLD),
    Laptop("GTX 1660 Ti Mobile, ASUS TUF", 0x2191, Pci(INTEL, 0x3E9B), None, (0, 0), Finding.TOO_OLD),
    Laptop("MX450, Lenovo ThinkPad T14", 0x1F97, IRIS, None, (0, 0), Finding.TOO_OLD),
    Laptop("MX150, Xiaomi Notebook", 0x1D10, Pci(INTEL, 0x5917), None, (0, 0), Finding.TOO_OLD),
    Laptop("GTX 1080 Mobile, Alienware 17", 0x1BA0, None, 8192, (6, 1), Finding.TOO_OLD),
    Laptop("GTX 960M, Dell Inspiron 7559", 0x139B, Pci(INTEL, 0x191B), None, (0, 0), Finding.TOO_OLD),
    Laptop("GT 650M, MacBook Pro 2012", 0x0FD5, Pci(INTEL, 0x0166), None, (0, 0), Finding.TOO_OLD),
    Laptop("RTX 5090 Laptop, Razer Blade 16", 0x2C18, RADEON, None, (0, 0), Finding.TOO_NEW),
    Laptop("RTX 5080 Laptop, Lenovo Legion 9i", 0x2C19, UHD, None, (0, 0), Finding.TOO_NEW),
    Laptop("RTX 5070 Ti Laptop, ASUS G14", 0x2F18, RADEON, None, (0, 0), Finding.TOO_NEW),
    Laptop("RTX 5060 Laptop, HP Victus", 0x2D19, UHD, None, (0, 0), Finding.TOO_NEW),
    Laptop("RTX 5090 Laptop with cuda13", 0x2C18, RADEON, 24463, (12, 0), Finding.READY, 24, driver=580),
    Laptop("RTX 5090 Laptop with 570", 0x2C18, RADEON, 24463, (12, 0), Finding.TOO_NEW, driver=570),
    Laptop("RTX 5080 Laptop with cuda13", 0x2C19, UHD, 16303, (12, 0), Finding.READY, 16, driver=580),
    Laptop("RTX 5070 Laptop with cuda13", 0x2D18, UHD, 8151, (12, 0), Finding.SMALL, driver=580),
    Laptop("RTX 5090, a tower, with 595", 0x2B85, None, 32607, (12, 0), Finding.READY, 24, driver=595),
    Laptop("RTX 5090, a tower, with 550", 0x2B85, None, None, (0, 0), Finding.TOO_NEW),
    Laptop("RTX 4090 Laptop with cuda13", 0x2717, UHD, 16376, (8, 9), Finding.READY, 16, driver=580),
    Laptop("RTX 2080 SUPER Mobile with cuda13", 0x1E93, UHD, 8192, (7, 5), Finding.TOO_OLD, driver=580),
    Laptop("H100 with 580", 0x2330, None, 81559, (9, 0), Finding.READY, 48, driver=580),
    Laptop("RTX 4090, 24 GB, a tower", 0x2684, None, 24564, (8, 9), Finding.READY, 24),
    Laptop("RTX 6000 Ada, 48 GB, a workstation", 0x26B1, None, 49140, (8, 9), Finding.READY, 48),
    Laptop("H100 with 550", 0x2330, None, 81559, (9, 0), Finding.TOO_NEW),
    Laptop("RTX 4090 Laptop that hangs", 0x2717, UHD, None, (0, 0), Finding.NO_DRIVER),
]


@pytest.mark.parametrize("laptop", LAPTOPS, ids=lambda laptop: laptop.name)
def test_what_is_said_of_a_computer(laptop: Laptop) -> None:
    verdict = judge(laptop.facts())
    assert (verdict.finding, verdict.memory_class) == (laptop.finding, laptop.size)
    assert verdict.hybrid is (laptop.beside is not None)
    assert verdict.portable
    told = verdict.advice.sentence.format(**verdict.advice.values)
    assert "{" not in told
    assert verdict.usable or verdict.advice.action, "whoever cannot use the card is told what to do"


@pytest.mark.parametrize(
    ("displays", "finding"),
    [
        ((IRIS,), Finding.NONE),
        ((RADEON,), Finding.NONE),  # the processor's own
        ((), Finding.NONE),
        ((Pci(AMD, 0x1638), Pci(AMD, 0x73DF)), Finding.OTHER_MAKER),  # RX 6800M beside it
        ((Pci(0x1234, 0x1111),), Finding.NONE),  # a virtual machine
        ((Pci(NVIDIA, 0x3FFF),), Finding.TOO_NEW),  # nobody knows it yet
    ],
)
def test_computers_without_a_usable_card_are_told_so(displays: tuple[Pci, ...], finding: Finding) -> None:
    verdict = judge(Facts(8 * GIB, 4, displays))
    assert verdict.finding is finding
    assert "processor" in verdict.advice.sentence


@pytest.mark.parametrize(
    ("secure", "enrolled", "finding"),
    [
        (True, False, Finding.LOCKED),
        (True, True, Finding.NO_DRIVER),
        (False, False, Finding.NO_DRIVER),
        (None, False, Finding.NO_DRIVER),  # BIOS
    ],
)
def test_a_card_that_secure_boot_locks_is_told_with_what_to_do(
    secure: bool | None, enrolled: bool, finding: Finding
) -> None:
    verdict = judge(Facts(displays=(UHD, Pci(NVIDIA, 0x2717)), secure_boot=secure, enrolled=enrolled))
    assert verdict.finding is finding
    assert (finding is Finding.LOCKED) == ("enrol" in verdict.advice.action)


@pytest.mark.parametrize(
    ("driver", "tried", "finding", "action"),
    [
        (550, "failed", Finding.TOO_NEW, "driver profile cuda13"),
        (570, "failed", Finding.TOO_NEW, "driver profile cuda13"),
        (580, "failed", Finding.NO_DRIVER, "start it again"),
        (580, "locked", Finding.LOCKED, "enrol key"),
    ],
)
def test_what_helps_a_card_of_the_rtx_50_depends_on_the_image_s_driver(
    driver: int, tried: str, finding: Finding, action: str
) -> None:
    verdict = judge(Facts(displays=(UHD, Pci(NVIDIA, 0x2C18)), driver=driver, tried=tried))
    assert verdict.finding is finding
    assert action in verdict.advice.action
    assert ("needs driver" in verdict.advice.sentence) is (finding is Finding.TOO_NEW)


def test_too_old_is_said_before_locked_since_no_key_would_help() -> None:
    facts = Facts(displays=(Pci(NVIDIA, 0x139B),), secure_boot=True)
    assert judge(facts).finding is Finding.TOO_OLD


def test_the_cpu_edition_says_that_it_is_the_edition() -> None:
    verdict = judge(Facts(displays=(Pci(NVIDIA, 0x2717),), driver=0))
    assert "edition" in verdict.advice.sentence


def test_an_external_card_waits_for_a_click() -> None:
    box = Thunderbolt("0-1", "Razer Core X", authorised=False)
    assert judge(Facts(displays=(IRIS,), thunderbolt=(box,))).finding is Finding.NOT_AUTHORISED
    let_in = Facts(
        displays=(IRIS, Pci(NVIDIA, 0x2684, removable=True)),
        driven=(Driven("RTX 4090", 24564 << 20, (8, 9), 550),),
        thunderbolt=(Thunderbolt("0-1", "Razer Core X", authorised=True),),
    )
    verdict = judge(let_in)
    assert (verdict.finding, verdict.memory_class, verdict.hybrid) == (Finding.READY, 24, False)
    assert any("unplug" in note.sentence for note in verdict.notes)


@pytest.mark.parametrize(
    ("mib", "size"),
    [(8188, None), (11264, None), (11520, 12), (12282, 12), (15360, 16), (16376, 16), (20470, 16), (23034, 24)],
)
def test_memory_classes(mib: int, size: int | None) -> None:
    assert hardware.memory_class(mib << 20) == size


def test_generations_follow_the_ids_without_overlap() -> None:
    ranges = hardware._RANGES
    assert all(low <= high for low, high, _ in ranges)
    assert all(one[1] < other[0] for one, other in pairwise(ranges))
    known = {
        0x1401: "Maxwell",
        0x1618: "Maxwell",
        0x1B06: "Pascal",
        0x1DB6: "Volta",
        0x20B5: "Ampere",
        0x21C4: "Turing",
    }
    assert {device: generation(device).value for device in known} == known
    assert generation(0x9999) is Generation.UNKNOWN


def test_a_machine_with_little_memory_is_told() -> None:
    assert any("little memory" in note.sentence for note in judge(Facts(memory=2 * GIB)).notes)


# ---- reading the facts


def test_nvidia_smi_and_its_excuses() -> None:
    text = "NVIDIA GeForce RTX 4090 Laptop GPU, 16376, 8.9, 550.163.01\n"
    assert hardware.driven(text) == (Driven("NVIDIA GeForce RTX 4090 Laptop GPU", 16376 << 20, (8, 9), 550),)
    for nothing in ("", "No devices were found\n", "[N/A], [N/A], [N/A], [N/A]\n", "Unable to determine, lost\n"):
        assert hardware.driven(nothing) == ()


def test_the_firmware_variable() -> None:
    assert hardware.secure_boot(b"\x06\0\0\0\x01") is True
    assert hardware.secure_boot(b"\x06\0\0\0\x00") is False
    assert hardware.secure_boot(None) is None
    assert hardware.secure_boot(b"") is None


def test_an_enrolled_key_is_found_whole_or_by_its_hash() -> None:
    key = bytes(range(200))
    assert hardware.enrolled([b"head" + key + b"tail"], key)
    assert hardware.enrolled([b"x", hashlib.sha256(key).digest()], key)
    assert not hardware.enrolled([b"another"], key)
    assert not hardware.enrolled([b"anything"], b""), "an image without a key of its own has none enrolled"


def tree(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_a_laptop_is_read_from_its_files(tmp_path: Path) -> None:
    pci, thunder = "sys/bus/pci/devices/0000:01:00.0", "sys/bus/thunderbolt/devices"
    tree(tmp_path, {
        "proc/meminfo": "MemTotal:       32768000 kB\n",
        f"{pci}/vendor": "0x10de\n", f"{pci}/device": "0x2717\n", f"{pci}/class": "0x030000\n",
        f"{pci}/removable": "fixed\n",
        "sys/bus/pci/devices/0000:02:00.0/vendor": "0x8086", "sys/bus/pci/devices/0000:02:00.0/device": "0x15f3",
        "sys/bus/pci/devices/0000:02:00.0/class": "0x020000",
        f"sys/firmware/efi/efivars/{hardware.SECURE_BOOT}": b"\x06\0\0\0\x01",
        "sys/firmware/efi/mok-variables/MokListRT": b"..our certificate..",
        "usr/share/inkstick/module-signing.der": b"our certificate",
        "usr/share/inkstick/nvidia-driver": "550\n",
        "sys/class/dmi/id/sys_vendor": "LENOVO\n", "sys/class/dmi/id/product_name": "82WQ\x1b[2J\n",
        "sys/class/dmi/id/chassis_type": "10\n", "sys/class/power_supply/BAT0/type": "Battery\n",
        f"{thunder}/0-0/authorized": "1", f"{thunder}/0-0/device_name": "gpu host",
        f"{thunder}/0-1/authorized": "0", f"{thunder}/0-1/vendor_name": "Razer", f"{thunder}/0-1/device_name": "Core X",
        f"{thunder}/0-3/authorized": "0", f"{thunder}/0-3/device_name": "Dock with disks",
    })  # fmt: skip
    facts = machine.look(tmp_path)
    assert facts.displays == (Pci(NVIDIA, 0x2717),)
    assert (facts.secure_boot, facts.enrolled, facts.driver, facts.battery) == (True, True, 550, True)
    assert facts.product == "LENOVO 82WQ[2J"
    assert facts.thunderbolt == (Thunderbolt("0-1", "Razer Core X", False),)
    machine.authorise("0-1", tmp_path)
    assert machine.look(tmp_path).thunderbolt[0].authorised
    with pytest.raises(KeyError):
        machine.authorise("../../../etc", tmp_path)


def test_a_machine_that_says_nothing_still_gets_a_verdict(tmp_path: Path) -> None:
    assert judge(machine.look(tmp_path)).finding is Finding.NONE


def test_a_card_whose_driver_is_still_to_be_tried_is_not_called_silent() -> None:
    facts = Facts(displays=(UHD, Pci(NVIDIA, 0x2717)), tried="")
    assert "is being started" in judge(facts).advice.sentence
    assert "does not answer" in judge(replace(facts, tried="failed")).advice.sentence
    assert judge(replace(facts, tried="locked")).finding is Finding.LOCKED, "the kernel's word counts"


def test_what_became_of_the_driver_and_what_is_plugged_in_are_signs_to_look_again(tmp_path: Path) -> None:
    pci, thunder = "sys/bus/pci/devices/0000:01:00.0", "sys/bus/thunderbolt/devices/0-1"
    steps: list[dict[str, str | bytes]] = [
        {f"{thunder}/authorized": "0", f"{thunder}/device_name": "eGPU"},
        {f"{thunder}/authorized": "1"},
        {f"{pci}/vendor": "0x10de\n", f"{pci}/device": "0x2717\n", f"{pci}/class": "0x030000\n"},
        {"run/inkstick/gpu.json": '{"state": "ready"}'},
    ]
    seen = [machine.signs(tmp_path)]
    for files in steps:
        tree(tmp_path, files)
        seen.append(machine.signs(tmp_path))
    assert len(set(seen)) == len(seen)
    assert machine.look(tmp_path).tried == "ready"
    tree(tmp_path, {"run/inkstick/gpu.json": "[]"})
    assert machine.look(tmp_path).tried == ""


def test_a_card_that_hangs_in_its_driver_holds_up_nobody_at_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There SIGKILL does not end nvidia-smi: here, because nobody sends it."""
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin/nvidia-smi"
    tool.write_text(f"#!/bin/sh\nexec cat {tmp_path}/end\n")
    tool.chmod(0o755)
    os.mkfifo(tmp_path / "end")
    (tmp_path / "sys/module/nvidia").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(machine, "SECONDS", 0.3)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda _: None)
    assert machine.look(tmp_path).driven == ()
    (tmp_path / "end").write_text("")  # only now it ends
