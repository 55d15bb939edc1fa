"""The tiny PaddleOCR-VL checkpoint's configuration; transformers 4.57, which vLLM 0.19.1 uses, has none of its own."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class PaddleOCRVisionConfig(PretrainedConfig):  # type: ignore[misc]
    model_type = "paddleocr_vl_vision"
    base_config_key = "vision_config"


class PaddleOCRVLConfig(PretrainedConfig):  # type: ignore[misc]
    """The text model's values lie flat beside `vision_config`, as in the real one."""

    model_type = "paddleocr_vl"
    sub_configs = {"vision_config": PaddleOCRVisionConfig}  # noqa: RUF012

    def __init__(self, vision_config: Any = None, **values: Any) -> None:
        if not isinstance(vision_config, PaddleOCRVisionConfig):
            vision_config = PaddleOCRVisionConfig(**(vision_config or {}))
        self.vision_config = vision_config
        super().__init__(**values)
