"""Secure Boot, and a stick with the builder's own key: enrolled by its boot menu, step by step as in
docs/field-guide.md, after which the kernel trusts it. The cpu edition does: menu, shim and MokManager are the same as
the gpu edition's.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from inkstick_image import signing
from inkstick_image.signing import Key
from inkstick_provisioning import hardware
from vm.appliance import BOOT_SECONDS
from vm.machine import OVMF_CODE, Machine
from vm.screen import choose, insist, keep, menu, shows

pytestmark = [
    pytest.mark.vm_full,
    pytest.mark.timeout(3 * BOOT_SECONDS),
    pytest.mark.skipif(not Path(OVMF_CODE).exists(), reason="no UEFI firmware for QEMU here: install ovmf"),
]
ROOT = Path(__file__).resolve().parents[2]
ENROL = 4
"""Lines of the boot menu above "Secure Boot: enrol the key of this stick"."""
STEPS = (
    ("INKSTICKESP", ("ret",), "enrol-disk"),
    ("INKSTICK.CER", ("down", "ret"), "enrol-file"),
    ("Continue", ("down", "ret"), "enrol-continue"),
    ("Enroll the key", ("down", "ret"), "enrol-yes"),
    ("Reboot", ("ret",), "enrol-reboot"),
)
"""After "Enroll key from disk": what the screen says, what is pressed then, and the name of its picture."""


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return signing.key(None, None, tmp_path_factory.mktemp("key") / "keys")


@pytest.fixture(scope="module")
def keyed(key: Key, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cpu edition with this key on its medium."""
    out = tmp_path_factory.mktemp("keyed")
    command: list[str | Path] = [ROOT / "build.sh", "image", "--edition", "cpu", "--quick", "--out", out]
    subprocess.run([*command, "--mok-key", key.private, "--mok-cert", key.certificate], cwd=ROOT, check=True)
    return next(out.glob("inkstick-cpu-*.iso"))


def trusted(machine: Machine) -> bytes:
    """The keys of this computer's owner, as shim gives them to the kernel."""
    return machine.run("sh", "-c", "cat /sys/firmware/efi/mok-variables/MokListRT*")[1]


def test_a_key_that_was_enrolled_by_the_menu_is_trusted_by_the_kernel(keyed: Path, key: Key) -> None:
    with Machine(keyed, "uefi", "usb") as machine:
        menu(machine, BOOT_SECONDS)
        keep(machine.picture(), "enrol-menu")
        choose(machine, ENROL)
        insist(machine, "Enroll key from disk", BOOT_SECONDS)  # the key manager counts down ten seconds
        keep(machine.picture(), "enrol-key")
        machine.press("down")
        machine.press("ret")
        for wanted, keys, name in STEPS:
            shows(machine, wanted, BOOT_SECONDS)
            keep(machine.picture(), name)
            for pressed in keys:
                machine.press(pressed)
        print(f"key enrolled after {machine.seconds:.0f} s")
        print(f"agent after {machine.wait(BOOT_SECONDS):.0f} s")
        assert hardware.enrolled([trusted(machine)], key.certificate.read_bytes())
        assert "Loaded X.509 cert 'Inkstick kernel modules" in machine.text("dmesg")
