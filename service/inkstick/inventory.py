"""What this Inkstick is made of: versions and hashes of its packages and models, and the machine it runs on."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from inkstick import __version__
from inkstick.errors import UsageError
from inkstick.models import catalogue
from inkstick.supervise.machine import pci_cards


@dataclass(frozen=True, slots=True)
class Item:
    """`sha256`: of a package's RECORD (which lists the hash of each of its files), or of a model's manifest; empty
    where there is none."""

    name: str
    version: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    packages: tuple[Item, ...]
    models: tuple[Item, ...]
    machine: Mapping[str, str]
    gpu: tuple[str, ...]


@cache
def inventory() -> Inventory:
    """Looked at once: nothing of it changes while the service runs."""
    return Inventory(tuple(_packages()), tuple(_models()), _machine(), _gpu())


def _packages() -> list[Item]:
    items = [Item("inkstick", __version__)]
    for distribution in metadata.distributions():
        name, record = distribution.metadata["Name"], distribution.read_text("RECORD")
        if name and name.lower() != "inkstick":
            items.append(Item(name, distribution.version, _sha256((record or "").encode()) if record else ""))
    return sorted(set(items), key=lambda item: (item.name != "inkstick", item.name.lower()))


def _models() -> list[Item]:
    try:
        found = catalogue.read()
    except UsageError:
        return []
    items = []
    for path in sorted(found.folder.glob("*.toml")):
        manifest = found.manifests.get(path.stem)
        items.append(Item(path.stem, manifest.version if manifest else "", _sha256(path.read_bytes())))
    return items


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _machine() -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "System": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "Kernel": platform.release(),
        "Python": platform.python_version(),
        "Cores": str(len(os.sched_getaffinity(0))),
        "Memory": f"{memory / (1 << 30):.1f} GiB",
    }


def _gpu() -> tuple[str, ...]:
    driver = Path("/proc/driver/nvidia/version")
    cards = tuple(f"NVIDIA, {address}" for address in pci_cards(Path("/sys/bus/pci/devices")))
    return (*cards, driver.read_text(encoding="utf-8").splitlines()[0]) if driver.exists() else cards
