"""PP-DocLayoutV3: cuts a page into regions, with a class and a place in the reading order each. ONNX, on the CPU.

The model takes the page stretched to a square, RGB from 0 to 1, with the square's size and the two factors, and returns
rows ``[class, score, x0, y0, x1, y1, order]`` in the page's own pixels (the manifest's `layout` says all of this).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inkstick.errors import EngineDown
from inkstick.models.manifest import Layout

INPUTS = frozenset({"image", "im_shape", "scale_factor"})
SAME, ANY, INSIDE = 0.6, 0.98, 0.5
"""Two regions are one from this share of common area on: of one class; of any; an inline formula in its paragraph."""
SMALLEST_SIDE = 4.0
"""Pixels. Narrower crops made the reading model crash elsewhere, and hold no print."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Region:
    """`name`: the class's. `box`: x0, y0, x1, y1 in pixels of the page."""

    name: str
    score: float
    box: Box


class DocLayout:
    """The model, loaded. Raises EngineDown where it cannot be, or is another kind. One page at a time."""

    def __init__(self, path: Path, layout: Layout, *, threads: int = 2) -> None:
        import onnxruntime as ort  # here: a service without such a model does without it

        from inkstick.engines.ocr_lines import session_options

        self._layout = layout
        try:
            options = session_options(threads)
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own for each fault
            raise EngineDown(f"The layout model {path} cannot be loaded: {str(error)[:200]}") from error
        wanted = {value.name for value in self._session.get_inputs()}
        if wanted != INPUTS:
            raise EngineDown(f"The layout model {path} wants {sorted(wanted)}, not {sorted(INPUTS)}.")

    def regions(self, image: npt.NDArray[np.uint8]) -> list[Region]:
        """Of a page, ``(height, width, 3)`` RGB, in reading order."""
        height, width = image.shape[:2]
        for output in self._session.run(None, feed(image, self._layout.side)):
            rows = np.asarray(output)
            if rows.ndim == 2 and rows.shape[1] >= len(self._layout.columns):
                return chosen(rows, width, height, self._layout)
        raise EngineDown("The layout model gave no regions with a reading order: is it another version?")


def feed(image: npt.NDArray[np.uint8], side: int) -> dict[str, npt.NDArray[np.float32]]:
    """What the model is given for a page."""
    height, width = image.shape[:2]
    square = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255.0
    return {
        "image": np.ascontiguousarray(square.transpose(2, 0, 1)[None]),
        "im_shape": np.array([[side, side]], np.float32),
        "scale_factor": np.array([[side / height, side / width]], np.float32),
    }


def chosen(rows: npt.NDArray[Any], width: int, height: int, layout: Layout) -> list[Region]:
    """The regions worth reading, in reading order: sure enough, large enough, none twice. Pure."""
    column = {name: place for place, name in enumerate(layout.columns)}
    found: list[tuple[float, Region]] = []
    for row in rows[np.argsort(-rows[:, column["score"]], kind="stable")]:
        number, score = int(row[column["class"]]), float(row[column["score"]])
        if not np.isfinite(row).all() or not 0 <= number < len(layout.classes) or score < layout.threshold:
            continue
        edges = zip(("x0", "y0", "x1", "y1"), (width, height, width, height), strict=True)
        x0, y0, x1, y1 = (min(float(most), max(0.0, float(row[column[name]]))) for name, most in edges)
        if min(x1 - x0, y1 - y0) >= SMALLEST_SIDE:
            found.append((float(row[column["order"]]), Region(layout.classes[number], score, (x0, y0, x1, y1))))
    kept: list[tuple[float, Region]] = []
    for order, region in found:
        if not any(_same(region, other) for _, other in kept):
            kept.append((order, region))
    regions = [region for _, region in sorted(kept, key=lambda pair: pair[0])]
    return [region for region in regions if not _belongs(region, regions)]


def _same(less: Region, more: Region) -> bool:
    return _common(less.box, more.box) > (SAME if less.name == more.name else ANY)


def _belongs(region: Region, regions: Sequence[Region]) -> bool:
    """An inline formula is read with the text around it."""
    others = (other for other in regions if other is not region and other.name != region.name)
    return region.name == "inline_formula" and any(
        _overlap(region.box, other.box) > INSIDE * _area(region.box) for other in others
    )


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _overlap(a: Box, b: Box) -> float:
    return _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def _common(a: Box, b: Box) -> float:
    both = _overlap(a, b)
    return both / max(_area(a) + _area(b) - both, 1e-9)
