"""A folder that counts as a whole model, with a manifest of its own: a few bytes in the place of gigabytes of weights.

python tests/support/small_weights.py OUT [CHECKPOINT]     OUT/weights and OUT/manifests, for
    `build.sh image --edition gpu`; CHECKPOINT: a folder whose files take the place of those bytes, such as the one that
    `build.sh engine --tiny` makes
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "config.json": json.dumps({"model_type": "hunyuan_vl", "max_position_embeddings": 8192}).encode(),
    "chat_template.jinja": b"{{ messages }}",
    "LICENSE": b"Made for tests; no rights reserved.\n",
}


def safetensors() -> bytes:
    """One tensor of four numbers."""
    header = json.dumps({"weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + bytes(16)


def write(out: Path, *, accept: bool = True, checkpoint: Path | None = None) -> tuple[Path, Path]:
    """(folder of the weights, folder of the manifests). `accept`: whether its licence must be accepted."""
    weights, manifests = out / "weights", out / "manifests"
    shutil.rmtree(out, ignore_errors=True)
    weights.mkdir(parents=True)
    manifests.mkdir()
    files = {**FILES, "model.safetensors": safetensors()}
    if checkpoint is not None:
        files |= {path.name: path.read_bytes() for path in sorted(checkpoint.iterdir())}
    for name, data in files.items():
        (weights / name).write_bytes(data)
    (manifests / "small-test.toml").write_text(_manifest(files, accept), encoding="utf-8")
    return weights, manifests


def _manifest(files: dict[str, bytes], accept: bool) -> str:
    """HunyuanOCR 1.5's manifest with another name and these files."""
    whole = (ROOT / "models-manifest/hunyuanocr-1.5.toml").read_text(encoding="utf-8")
    whole = whole.replace('id = "hunyuanocr-1.5"', 'id = "small-test"')
    head, _, rest = whole.partition("[[repository.file]]")
    after = rest[rest.index("\n[", rest.rindex("[[repository.file]]")) :]
    roles = {"model.safetensors": "weights", "LICENSE": "licence", "chat_template.jinja": "tokenizer"}
    roles |= {"tokenizer.json": "tokenizer", "tokenizer_config.json": "tokenizer"}
    listed = "".join(
        f'[[repository.file]]\npath = "{name}"\nsize = {len(data)}\nsha256 = "{hashlib.sha256(data).hexdigest()}"\n'
        f'role = "{roles.get(name, "config")}"\n\n'
        for name, data in files.items()
    )
    return head + listed + (after if accept else after.replace("accept = true", "accept = false"))


if __name__ == "__main__":
    for folder in write(Path(sys.argv[1]), checkpoint=Path(sys.argv[2]) if len(sys.argv) > 2 else None):
        print(folder)
