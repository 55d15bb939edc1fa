"""`./build.sh vm ISO`: the appliance in QEMU, with this computer at the other end of its network cable.

As root the cable is a real one (a tap device): the page answers here at the very address that the appliance's screen
shows. Without root QEMU itself stands between, and a port of this computer leads to the page.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAGE, OURS, PORT = "10.77.0.1", "10.77.0.2", 8443
TAP = "inkstick0"
BROWSER = f'chromium --host-resolver-rules="MAP {PAGE}:443 127.0.0.1:{PORT}" https://{PAGE}/'
"""Without a real cable. (The page answers to its own names alone, and 127.0.0.1 is none of them.)"""
SLOW = (
    "No KVM on this computer: every instruction is emulated. The first question comes after some five minutes, the "
    "page answers after ten, or after thirty where other work takes the processor."
)
SCREENS = {
    "curses": "This terminal can show letters only: choose 'Safe graphics' in the boot menu, at once.",
    "none": "There is neither a window nor a terminal, so no screen: without --settings FILE nobody can answer.",
}
"""QEMU's display → what a person must know of it."""
EMULATED_CPU = "max,erms=off,fsrm=off,la57=off,avx=off,avx2=off,fma=off"
"""Without the "fast" string instructions: emulated they go byte by byte, and the kernel clears every page with them.
AVX is emulated slowly too: with it openssl's SHA-256, which is dm-verity's, does 17 MB/s instead of 38, and one line of
text is read in 73 s instead of 31."""
EMULATOR = "tcg,thread=multi,tb-size=64"
"""A library's page runs at another address in every process, and QEMU keeps a translation of it for each. When the page
is used for something else they are taken out of a list one by one: minutes, with the default of 1 GiB of them."""
# One processor: with two emulated ones Linux once panicked in a function that it patches while it runs.
EMULATED = (EMULATOR, EMULATED_CPU, "1")
PROBE = ("-machine", "q35", "-accel", "kvm", "-cpu", "max", "-m", "64", "-S", "-display", "none", "-monitor", "stdio")


@dataclass(frozen=True, slots=True)
class Wanted:
    """`kvm`: the processor may be lent to the machine. `tap`: a real cable. `display`: QEMU's words for it. `settings`:
    an inkstick.toml, given as a credential."""

    iso: Path
    memory: str = "4096"
    kvm: bool = False
    tap: bool = False
    display: tuple[str, ...] = field(default_factory=tuple)
    settings: str = ""


def command(wanted: Wanted) -> list[str]:
    """QEMU's command line."""
    accel, processor, count = ("kvm", "max", "2") if wanted.kvm else EMULATED
    out = ["qemu-system-x86_64", "-machine", "q35", "-accel", accel, "-cpu", processor, "-smp", count]
    out += ["-m", wanted.memory]
    out += ["-device", "qemu-xhci", "-drive", f"if=none,id=stick,file={wanted.iso},format=raw,readonly=on"]
    out += ["-device", "usb-storage,drive=stick,bootindex=1", "-device", "virtio-net-pci,netdev=cable"]
    out += ["-netdev", _tap() if wanted.tap else _user()]
    if wanted.settings:
        text = base64.b64encode(wanted.settings.encode()).decode()
        out += ["-smbios", f"type=11,value=io.systemd.credential.binary:inkstick.toml={text}"]
    return [*out, *wanted.display]


def _tap() -> str:
    return f"tap,id=cable,ifname={TAP},script=no,downscript=no"


def _user() -> str:
    """Nothing of the machine gets out of QEMU: only the page's port is passed on."""
    forward = f"hostfwd=tcp:127.0.0.1:{PORT}-{PAGE}:443"
    return f"user,id=cable,net=10.77.0.0/24,host={OURS},dns=10.77.0.3,dhcpstart=10.77.0.15,restrict=on,{forward}"


def has_kvm() -> bool:
    """Whether KVM really works here, by trying: its device alone says little."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    try:
        done = subprocess.run(["qemu-system-x86_64", *PROBE], input=b"quit\n", capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def has_tap() -> bool:
    """Whether a cable can be made: rights, the device, and nobody uses these addresses here."""
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        return False
    used = subprocess.run(["ip", "-o", "-4", "route", "show", "to", "match", PAGE], capture_output=True, text=True)
    return used.returncode == 0 and not any(line.startswith("10.77.0.") for line in used.stdout.splitlines())


def steps_of_tap() -> tuple[Sequence[str], ...]:
    """The cable before the start: this end has a fixed address, and no route but to the appliance."""
    return (
        ("ip", "tuntap", "add", "dev", TAP, "mode", "tap"),
        ("ip", "address", "add", f"{OURS}/24", "dev", TAP),
        ("ip", "link", "set", TAP, "up"),
    )


def words(wanted: Wanted) -> list[str]:
    """What a person needs to know beforehand."""
    address = f"https://{PAGE}/" if wanted.tap else f"https://{PAGE}/ for this browser, and only for it:\n  {BROWSER}\n"
    told = [] if wanted.kvm else [SLOW]
    told += [sentence for display, sentence in SCREENS.items() if display in wanted.display]
    return [
        *told,
        f"Answer the first start on its screen; with the network mode 'direct' the page is at {address}",
        "and waits for the PIN that the screen shows. Nothing is kept: the machine's documents are in its memory.",
    ]


def run(wanted: Wanted) -> int:
    """Until the machine is switched off; QEMU's exit status."""
    if not wanted.tap:
        return subprocess.run(command(wanted)).returncode
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that the cable goes away then, too: a closed terminal hangs up
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        for step in steps_of_tap():
            subprocess.run(list(step), check=True)
        return subprocess.run(command(wanted)).returncode
    finally:
        subprocess.run(["ip", "link", "delete", TAP], capture_output=True)
