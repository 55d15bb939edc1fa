"""The tiny PaddleOCR-VL checkpoint's image processor: an image into patches, as the real one lays them out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor


def resized(height: int, width: int, factor: int, least: int, most: int) -> tuple[int, int]:
    """Both sides divisible by `factor`, the area between `least` and `most` (as vLLM computes it)."""
    high, wide = round(height / factor) * factor, round(width / factor) * factor
    if high * wide > most:
        shrink = math.sqrt(height * width / most)
        high, wide = (math.floor(side / shrink / factor) * factor for side in (height, width))
    elif high * wide < least:
        grow = math.sqrt(least / (height * width))
        high, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return high, wide


def patches(image: Any, patch: int, merge: int, least: int, most: int) -> tuple[torch.Tensor, list[int]]:
    """((patches, 3, patch, patch) from -1 to 1, row by row; [1, rows, columns])."""
    page = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    high, wide = resized(page.height, page.width, patch * merge, least, most)
    values = np.asarray(page.convert("RGB").resize((wide, high), Image.Resampling.BICUBIC), np.float32) / 127.5 - 1
    rows, columns = high // patch, wide // patch
    cut = values.reshape(rows, patch, columns, patch, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, patch, patch)
    return torch.from_numpy(np.ascontiguousarray(cut)), [1, rows, columns]


class PaddleOCRVLImageProcessor(BaseImageProcessor):  # type: ignore[misc]
    model_input_names = ["pixel_values", "image_grid_thw"]  # noqa: RUF012

    def __init__(
        self, min_pixels: int = 3136, max_pixels: int = 49152, patch_size: int = 14, merge_size: int = 2, **rest: Any
    ) -> None:
        super().__init__(**rest)
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        self.size = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        self.patch_size, self.merge_size, self.temporal_patch_size = patch_size, merge_size, 1

    def preprocess(self, images: Any, return_tensors: str | None = None, **_: Any) -> BatchFeature:
        several = images if isinstance(images, list | tuple) else [images]
        cut = [patches(i, self.patch_size, self.merge_size, self.min_pixels, self.max_pixels) for i in several]
        values = torch.cat([one for one, _ in cut])
        grids = torch.tensor([grid for _, grid in cut])
        return BatchFeature({"pixel_values": values, "image_grid_thw": grids}, tensor_type=return_tensors)
