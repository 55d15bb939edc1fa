"""The same image under UEFI with Secure Boot on and Microsoft's keys, as a USB stick: the firmware takes it, the kernel
knows, and the layers are verified. What runs then is what test_cpu_edition.py looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.appliance import BOOT_SECONDS, verity_targets
from vm.machine import OVMF_CODE, Machine

pytestmark = pytest.mark.timeout(BOOT_SECONDS + 600)


@pytest.mark.skipif(not Path(OVMF_CODE).exists(), reason="no UEFI firmware for QEMU here: install ovmf")
def test_it_starts_under_uefi_with_secure_boot(iso: Path) -> None:
    with Machine(iso, "uefi", "usb") as machine:
        print(f"UEFI: agent after {machine.wait(BOOT_SECONDS):.0f} s")
        said = machine.text("dmesg")
        assert "Secure boot enabled" in said
        assert "Kernel is locked down from EFI Secure Boot" in said
        assert len(verity_targets(machine)) == 3
