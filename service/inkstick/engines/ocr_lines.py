"""Finding and reading printed lines: PP-OCRv6-small from the rapidocr wheel, run by ONNX Runtime.

The two networks and the arithmetic around the first are RapidOCR's; the calls are ours, because RapidOCR's own
pipeline reads one crop after another padded to the widest, turns correct lines upside down (its line-angle
classifier), reads from a shrunk copy of large pages, and fetches a model that is missing from the network.
Nothing here ever leaves the machine: a missing model is an error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

DETECTOR = "PP-OCRv6_det_small.onnx"
RECOGNIZER = "PP-OCRv6_rec_small.onnx"
SHEET = math.sqrt(2)
"""Ratio of the sides of the sheets (A4) for which `ReaderOptions.detect_side` was measured."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """One printed line. `box` is ``(x0, y0, x1, y1)`` in pixels of the page, upright even where the line is skewed."""

    text: str
    box: tuple[float, float, float, float]
    score: float
    size: float = 0.0
    """How high the print is, in pixels, measured across the line: `box` is higher where the line is skewed."""

    @property
    def height(self) -> float:
        return self.size or self.box[3] - self.box[1]


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """How pages are read.

    `detect_side`: the longer side, in pixels, of the image in which lines are looked for (of a strip, more);
    recognition always reads from the full image. Looking at 1280 instead of RapidOCR's 2000 finds the same lines in
    40 % of the time.
    `squeeze`: lines are made this much narrower before they are read; the time falls with the width, and on eleven
    test pages (9,879 characters) 0.85 cost no character, 0.75 four and 0.5 half of the Latin ones.
    `min_score`: below it a line is noise (RapidOCR's own figure). `batch_width`: sum of the widths, at 48 pixels
    height, of the lines that are read in one call. The work is in the convolutions: batches gain nothing.
    """

    threads: int = 1
    detect_side: int = 1280
    squeeze: float = 0.85
    min_score: float = 0.5
    batch_width: int = 1
    max_line_width: int = 4800
    min_line_width: int = 64


def model_folder() -> Path:
    """Where the installed rapidocr wheel keeps its models. Raises FileNotFoundError, never downloads."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the rapidocr package is not installed")
    folder = Path(spec.origin).parent / "models"
    for name in (DETECTOR, RECOGNIZER):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"the rapidocr package lacks its model {name}")
    return folder


def model_name() -> str:
    """The name that goes into results, such as ``pp-ocrv6-small@3.10.0``."""
    return f"pp-ocrv6-small@{importlib.metadata.version('rapidocr')}"


def session_options(threads: int) -> ort.SessionOptions:
    """Options for several sessions side by side: a fixed number of threads, asleep while idle."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class LineReader:
    """Detector and recogniser, loaded. One page at a time; not for use from two threads at once."""

    def __init__(self, options: ReaderOptions | None = None) -> None:
        from rapidocr.ch_ppocr_det.utils import DBPostProcess

        self.options = options or ReaderOptions()
        folder = model_folder()
        self._detector = _session(folder / DETECTOR, self.options.threads)
        self._recognizer = _session(folder / RECOGNIZER, self.options.threads)
        # The values of rapidocr's config.yaml for this model, but for its limit of 1,000 lines.
        self._boxes = DBPostProcess(0.3, 0.5, 4000, 1.6, "fast", use_dilation=True)
        characters = self._recognizer.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._alphabet = ["", *characters, " "]

    def read(self, image: Image) -> list[TextLine]:
        """All printed lines of an image, ``(height, width, 3)`` BGR, top to bottom. Nothing printed: an empty list."""
        quads = self.find(image)
        crops = [_crop(image, quad) for quad in quads]
        texts = self.recognize(crops)
        height, width = image.shape[:2]
        return [
            TextLine(text, _bounds(quad, width, height), score, float(np.linalg.norm(quad[3] - quad[0])))
            for quad, (text, score) in zip(quads, texts, strict=True)
            if text.strip() and score >= self.options.min_score
        ]

    def find(self, image: Image) -> list[Floats]:
        """The corners of each line, ``(4, 2)`` in pixels, clockwise from top left, sorted top to bottom."""
        height, width = image.shape[:2]
        if min(height, width) < 4:
            return []
        padded, left, top = _pad(image)
        tensor = _detector_input(padded, self.options.detect_side)
        heat = self._detector.run(None, {self._detector.get_inputs()[0].name: tensor})[0]
        quads, _ = self._boxes(heat, padded.shape[:2])
        moved = [np.asarray(quad, np.float32) - np.array([left, top], np.float32) for quad in quads]
        return sorted(moved, key=lambda quad: (float(quad[0][1]), float(quad[0][0])))

    def recognize(self, crops: Sequence[Image]) -> list[tuple[str, float]]:
        """Text and score of each crop, in the order given."""
        found: list[tuple[str, float]] = [("", 0.0)] * len(crops)
        for group in _groups([self._width(crop) for crop in crops], self.options.batch_width):
            width = max(self._width(crops[index]) for index in group)
            tensor = np.stack([_recognizer_input(crops[index], width, self.options.squeeze) for index in group])
            answer = self._recognizer.run(None, {self._recognizer.get_inputs()[0].name: tensor})[0]
            for index, steps in zip(group, answer, strict=True):
                found[index] = self._decode(steps)
        return found

    def _width(self, crop: Image) -> int:
        """Width of the recogniser's input for this crop, in multiples of 16: lines of nearly one width share a call."""
        height, width = (int(side) for side in crop.shape[:2])
        wanted = math.ceil(48 * width / height * self.options.squeeze / 16) * 16
        return min(max(wanted, self.options.min_line_width), self.options.max_line_width)

    def _decode(self, steps: Floats) -> tuple[str, float]:
        """CTC: the best character of each step, repeats and blanks dropped; the score is the mean of those kept."""
        best = steps.argmax(axis=1)
        kept = best != 0
        kept[1:] &= best[1:] != best[:-1]
        if not kept.any():
            return "", 0.0
        chances = steps[np.nonzero(kept)[0], best[kept]]
        return "".join(self._alphabet[index] for index in best[kept]), float(chances.mean())


def _session(path: Path, threads: int) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])


def _pad(image: Image) -> tuple[Image, int, int]:
    """Strips and slivers get a white surround, so that no side falls below what the detector can see."""
    height, width = image.shape[:2]
    want_height = max(height, 64, width // 8)
    want_width = max(width, 64, height // 8)
    if (want_height, want_width) == (height, width):
        return image, 0, 0
    top, left = (want_height - height) // 2, (want_width - width) // 2
    bottom, right = want_height - height - top, want_width - width - left
    padded = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return np.asarray(padded, np.uint8), left, top


def _detector_input(image: Image, longest: int) -> Floats:
    """The image with its longer side at most `longest`; that of a strip longer, so that it has the area of a sheet: the
    print of a long receipt would be too small to be seen."""
    height, width = image.shape[:2]
    longest = max(longest, round(longest * math.sqrt(max(height, width) / min(height, width) / SHEET)))
    scale = min(1.0, longest / max(height, width))
    if min(height, width) * scale < 736:
        scale = min(736 / min(height, width), longest / max(height, width))
    size = tuple(max(32, round(side * scale / 32) * 32) for side in (width, height))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, size, interpolation=way)
    return _normal(small)[None]


def _normal(image: Any) -> Floats:
    """``(height, width, 3)`` bytes to ``(3, height, width)`` in -1..1."""
    return np.ascontiguousarray(cv2.dnn.blobFromImage(image, 1 / 127.5, mean=(127.5, 127.5, 127.5))[0])


def _recognizer_input(crop: Image, width: int, squeeze: float) -> Floats:
    height, crop_width = crop.shape[:2]
    wanted = min(width, max(1, math.ceil(48 * crop_width / height * squeeze)))
    way = cv2.INTER_AREA if wanted < crop_width else cv2.INTER_LINEAR
    tensor = np.zeros((3, 48, width), np.float32)
    tensor[:, :, :wanted] = _normal(cv2.resize(crop, (wanted, 48), interpolation=way))
    return tensor


def _crop(image: Image, quad: Floats) -> Image:
    """The line set upright. Standing lines (taller than wide by half) are turned, as RapidOCR does."""
    from rapidocr.utils.process_img import get_rotate_crop_image

    return np.asarray(get_rotate_crop_image(image, quad.copy()), np.uint8)


def _bounds(quad: Floats, width: int, height: int) -> tuple[float, float, float, float]:
    x0, y0 = quad.min(axis=0)
    x1, y1 = quad.max(axis=0)
    return (max(0.0, float(x0)), max(0.0, float(y0)), min(float(width), float(x1)), min(float(height), float(y1)))


def _groups(widths: Sequence[int], batch_width: int) -> Iterator[list[int]]:
    """Lines of nearly one width together: a batch is as wide as its widest line, and padding is paid for."""
    order = sorted(range(len(widths)), key=lambda index: widths[index])
    group: list[int] = []
    for index in order:
        too_many = group and (len(group) + 1) * widths[index] > batch_width
        if too_many:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
