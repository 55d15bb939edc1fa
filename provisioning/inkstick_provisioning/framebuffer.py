"""The screen's picture as the kernel offers it: its form, by /sys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEVICE = Path("/dev/fb0")


@dataclass(frozen=True, slots=True)
class Frame:
    """A framebuffer: pixels, bytes of a line, bits of a pixel (32 or 16)."""

    width: int
    height: int
    stride: int
    bits: int


def look(framebuffer: Path, sys_class: Path = Path("/sys/class/graphics/fb0")) -> Frame | None:
    """The framebuffer's form; None where there is none that can be painted."""
    try:
        wide, high = ((sys_class / "virtual_size").read_text().split(","))[:2]
        stride, bits = (int((sys_class / name).read_text()) for name in ("stride", "bits_per_pixel"))
    except (OSError, ValueError):
        return None
    return Frame(int(wide), int(high), stride, bits) if bits in (16, 32) and framebuffer.exists() else None
