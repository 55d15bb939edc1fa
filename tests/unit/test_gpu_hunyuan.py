"""The files that stand in for HunyuanOCR's where the real ones are absent."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from gpu import hunyuan
from inkstick.models import catalogue, safetensors

PUBLISHED = 2_239_932_512
"""Bytes of the real model.safetensors."""


def test_the_weights_have_the_size_of_the_published_ones() -> None:
    """Only the header's length may differ: 714 names and places."""
    shapes = list(hunyuan.shapes(hunyuan.Text(), hunyuan.Vision()))
    numbers = sum(hunyuan.size_of(shape) for _, shape in shapes)
    files = [file for one in catalogue.read().default.repositories for file in one.files]
    assert PUBLISHED in {file.size for file in files if file.path == "model.safetensors"}
    assert 0 < PUBLISHED - 2 * numbers < 150 * len(shapes)


def test_a_small_checkpoint_is_whole(tmp_path: Path) -> None:
    hunyuan.write(tmp_path, *hunyuan.SMALL)
    assert safetensors.problem(tmp_path / "model.safetensors") is None
    data = (tmp_path / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = {name: value for name, value in json.loads(data[8 : 8 + length]).items() if name != "__metadata__"}
    assert dict(hunyuan.shapes(*hunyuan.SMALL)) == {name: tuple(value["shape"]) for name, value in header.items()}
    assert max(value["data_offsets"][1] for value in header.values()) == len(data) - 8 - length
    begin, end = header["model.norm.weight"]["data_offsets"]
    assert data[8 + length + begin : 8 + length + end] == b"\x80\x3f" * 128
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(hunyuan.VOCABULARY))
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == hunyuan.VOCABULARY
