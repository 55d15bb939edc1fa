"""The tiny PaddleOCR-VL checkpoint's processor: one placeholder for each merged patch."""

from __future__ import annotations

from typing import Any

from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

IMAGE = "<|IMAGE_PLACEHOLDER|>"


class PaddleOCRVLProcessor(ProcessorMixin):  # type: ignore[misc]
    attributes = ["image_processor", "tokenizer"]  # noqa: RUF012
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **_: Any) -> None:
        self.image_token = IMAGE
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def __call__(self, images: Any = None, text: Any = None, return_tensors: Any = None, **_: Any) -> BatchFeature:
        texts, seen = [text] if isinstance(text, str) else list(text), {}
        if images is not None:
            seen = self.image_processor.preprocess(images, return_tensors="pt")
            merged = self.image_processor.merge_size**2
            for grid in seen["image_grid_thw"].tolist():
                count = grid[0] * grid[1] * grid[2] // merged
                texts[0] = texts[0].replace(IMAGE, "<placeholder>" * count, 1)
            texts[0] = texts[0].replace("<placeholder>", IMAGE)
        asked = self.tokenizer(texts, add_special_tokens=False, return_tensors=return_tensors)
        return BatchFeature({**asked, **seen}, tensor_type=return_tensors)
