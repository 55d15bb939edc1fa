"""The header of a safetensors file, read with suspicion: nothing of it is believed before it is checked.

Format: eight bytes, little-endian length of a JSON object; the object; then the data. The object maps each tensor's
name to ``{dtype, shape, data_offsets}`` (offsets into the data) and may hold ``__metadata__``, a map of texts. The data
must be covered without a gap or an overlap, so that nothing can hide in the file.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

HEADER_LIMIT = 100_000_000
"""Bytes; the bound of the format's own reader. Real headers are below 1 MB."""

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip


def problem(path: Path) -> str | None:
    """What is wrong with the file's header, as half a sentence; None if nothing is. Reads the header alone."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        if len(prefix) < 8:
            return "is too short to be a safetensors file"
        length = int.from_bytes(prefix, "little")
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            return f"announces a header of {length} bytes, which cannot be"
        raw = stream.read(length)
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        return f"has a header that is not proper JSON ({error})"
    return _header_problem(header, size - 8 - length)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _header_problem(header: Any, size: int) -> str | None:
    if not isinstance(header, dict):
        return "has a header that is not a JSON object"
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        return "has metadata that are not texts"
    spans: list[tuple[int, int]] = []
    for name, tensor in header.items():
        span = _span(tensor)
        if isinstance(span, str):
            return f"describes the tensor {name[:80]!r} {span}"
        spans.append(span)
    return _cover_problem(sorted(spans), size)


def _span(tensor: Any) -> tuple[int, int] | str:
    """Where a tensor's data lie, or what is wrong with its description."""
    if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"}:
        return "without exactly dtype, shape and data_offsets"
    dtype, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        return f"with the unknown type {dtype!r}"
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        return "with a shape or offsets that are not whole numbers"
    start, end = offsets
    if end - start != math.prod(shape) * BITS[dtype] // 8:
        return "with offsets that do not fit its shape"
    return start, end


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _cover_problem(spans: list[tuple[int, int]], size: int) -> str | None:
    position = 0
    for start, end in spans:
        if start != position:
            return "has tensors that overlap or leave a gap"
        position = end
    return None if position == size else f"holds {size} bytes of data, but describes {position}"
