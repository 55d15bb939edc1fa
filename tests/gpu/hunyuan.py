"""HunyuanOCR's files as vLLM 0.19.1 reads them, without HunyuanOCR: its configuration, a tokenizer of our own with its
official ids, and random weights of its exact shapes. Standard library only.

    tests/gpu/hunyuan.py OUT [--small]

The shapes are those of revision 449e7d47: 996,208,112 numbers and the output layer stored once more come to
2,239,851,488 bytes in bfloat16; the published file has 81,024 bytes more, its header. What such weights answer is
noise, how long it takes is not.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOCABULARY = 120_818
START, END, IMAGE = "<｜hy_place▁holder▁no▁100｜>", "<｜hy_place▁holder▁no▁101｜>", "<｜hy_place▁holder▁no▁102｜>"
NEWLINE = "<｜hy_place▁holder▁no▁103｜>"
NAMED = {120000: "<bos>", 120002: "<pad>", 120006: "<user>", 120007: "<eos>", 120118: START, 120119: END, 120120: IMAGE,
         120121: NEWLINE, 120817: "<｜hy_place▁holder▁no▁799｜>"}  # fmt: skip
"""vLLM 0.19.1 has these ids written into it. The names of the image's tokens are the official ones."""
TEMPLATE = (
    "{% for m in messages %}{% if m.role=='user' %}<bos>{% if m.content is string %}{{m.content}}{% else %}"
    "{% for c in m.content %}{% if c.type in ('image','image_url') %}" + START + IMAGE + END +
    "{% elif c.type=='text' %}{{c.text}}{% endif %}{% endfor %}{% endif %}<user>"
    "{% elif m.role=='assistant' %}{{m.content}}<eos>{% endif %}{% endfor %}"
)  # fmt: skip
TIED = 4711
"""Where in the noise the embedding and the output layer begin: they are the same numbers."""
MEAN, DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


@dataclass(frozen=True)
class Text:
    """The language model. `sections`: of the rotary frequencies, for each of an image token's four positions."""

    hidden: int = 1024
    inner: int = 3584
    layers: int = 24
    heads: int = 16
    key_heads: int = 8
    head: int = 128
    context: int = 131_072
    alpha: float = 1000.0
    sections: tuple[int, ...] = (16, 16, 16, 16)


@dataclass(frozen=True)
class Vision:
    """The vision tower. `largest`: side in pixels of the image that its table of positions is for."""

    hidden: int = 1152
    inner: int = 4304
    layers: int = 27
    heads: int = 16
    patch: int = 16
    largest: int = 2048


SMALL = (Text(128, 256, 2, 4, 2, 32, 4096, 1.0, (4, 4, 4, 4)), Vision(64, 128, 2, 4, 16, 512))


def config(text: Text, vision: Vision, dtype: str) -> dict[str, Any]:
    """config.json in the style of revision 449e7d47."""
    number = {name: id for id, name in NAMED.items()}
    scaling = dict(type="xdrope", rope_type="xdrope", alpha=text.alpha, factor=1.0, beta_fast=32, beta_slow=1,
                   mscale=1.0, mscale_all_dim=1.0, xdrope_section=list(text.sections))  # fmt: skip
    tower = dict(
        model_type="hunyuan_vl", hidden_size=vision.hidden, intermediate_size=vision.inner,
        num_attention_heads=vision.heads, num_hidden_layers=vision.layers, out_hidden_size=text.hidden,
        text_hidden_size=text.hidden, patch_size=vision.patch, spatial_merge_size=2, temporal_patch_size=1,
        num_channels=3, max_image_size=vision.largest, min_image_size=min(512, vision.largest), rms_norm_eps=1e-5,
        hidden_act="gelu", interpolate_mode="bilinear",
    )  # fmt: skip
    return dict(
        architectures=["HunYuanVLForConditionalGeneration"], model_type="hunyuan_vl", dtype=dtype, torch_dtype=dtype,
        vocab_size=VOCABULARY, hidden_size=text.hidden, intermediate_size=text.inner, num_hidden_layers=text.layers,
        num_attention_heads=text.heads, num_key_value_heads=text.key_heads, head_dim=text.head,
        attention_head_dim=text.head, max_position_embeddings=text.context, hidden_act="silu", rms_norm_eps=1e-5,
        use_qk_norm=True, attention_bias=False, mlp_bias=False, tie_word_embeddings=True, use_cache=True,
        rope_theta=10000.0, rope_scaling=scaling, pad_token_id=number["<pad>"], bos_token_id=number["<bos>"],
        eos_token_id=number["<eos>"], eod_token_id=number["<eos>"], sep_token_id=number["<eos>"],
        image_start_token_id=number[START], image_end_token_id=number[END], image_token_id=number[IMAGE],
        image_newline_token_id=number[NEWLINE], im_start_id=number[START], im_end_id=number[END],
        im_newline_id=number[NEWLINE], vision_config=tower,
    )  # fmt: skip


def preprocessor(least: int, most: int) -> dict[str, Any]:
    """preprocessor_config.json. `least`, `most`: pixels of an image."""
    return dict(
        image_processor_type="HunYuanVLImageProcessor", processor_class="HunYuanVLProcessor", min_pixels=least,
        max_pixels=most, patch_size=16, temporal_patch_size=1, merge_size=2, image_mean=MEAN, image_std=DEVIATION,
        resample=3,
    )  # fmt: skip


def alphabet() -> list[str]:
    """The 256 characters that stand for bytes in a byte-level vocabulary, sorted."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return sorted([chr(byte) for byte in plain] + [chr(256 + n) for n in range(256 - len(plain))])


def vocabulary(named: dict[int, str]) -> dict[str, int]:
    """Bytes, the named tokens at their ids, and fillers."""
    vocab = {byte: id for id, byte in enumerate(alphabet())}
    return vocab | {named.get(id, f"<fill{id}>"): id for id in range(len(vocab), VOCABULARY)}


def tokenizer() -> dict[str, Any]:
    """tokenizer.json: every byte of a prompt is a token."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    model: dict[str, Any] = dict(
        type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
        fuse_unk=False, byte_fallback=False, ignore_merges=False, vocab=vocabulary(NAMED), merges=[],
    )  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": level,
        "added_tokens": [{"id": id, "content": name, **plain} for id, name in NAMED.items()],
        "post_processor": None, "decoder": level, "model": model,
    }  # fmt: skip


def shapes(text: Text, vision: Vision) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of model.safetensors by its published name, the output layer (tied, yet stored) too."""
    wide, narrow = text.heads * text.head, text.key_heads * text.head
    yield "model.embed_tokens.weight", (VOCABULARY, text.hidden)
    for n in range(text.layers):
        at = f"model.layers.{n}"
        yield f"{at}.self_attn.q_proj.weight", (wide, text.hidden)
        yield f"{at}.self_attn.k_proj.weight", (narrow, text.hidden)
        yield f"{at}.self_attn.v_proj.weight", (narrow, text.hidden)
        yield f"{at}.self_attn.o_proj.weight", (text.hidden, wide)
        yield f"{at}.self_attn.query_layernorm.weight", (text.head,)
        yield f"{at}.self_attn.key_layernorm.weight", (text.head,)
        yield f"{at}.mlp.gate_proj.weight", (text.inner, text.hidden)
        yield f"{at}.mlp.up_proj.weight", (text.inner, text.hidden)
        yield f"{at}.mlp.down_proj.weight", (text.hidden, text.inner)
        yield f"{at}.input_layernorm.weight", (text.hidden,)
        yield f"{at}.post_attention_layernorm.weight", (text.hidden,)
    yield "model.norm.weight", (text.hidden,)
    yield "lm_head.weight", (VOCABULARY, text.hidden)
    yield from _tower(vision, text.hidden)


def _tower(vision: Vision, out: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    wide = vision.hidden
    yield "vit.embeddings.patch_embedding.weight", (wide, 3, vision.patch, vision.patch)
    yield "vit.embeddings.patch_embedding.bias", (wide,)
    yield "vit.embeddings.position_embedding.weight", ((vision.largest // vision.patch) ** 2 + 1, wide)
    for n in range(vision.layers):
        at = f"vit.layers.{n}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{at}.self_attn.{name}.weight", (wide, wide)
            yield f"{at}.self_attn.{name}.bias", (wide,)
        yield f"{at}.mlp.dense_h_to_4h.weight", (vision.inner, wide)
        yield f"{at}.mlp.dense_h_to_4h.bias", (vision.inner,)
        yield f"{at}.mlp.dense_4h_to_h.weight", (wide, vision.inner)
        yield f"{at}.mlp.dense_4h_to_h.bias", (wide,)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{at}.{name}.weight", (wide,)
            yield f"{at}.{name}.bias", (wide,)
    at = "vit.perceive"
    yield f"{at}.proj.0.weight", (wide * 2, wide, 2, 2)
    yield f"{at}.proj.0.bias", (wide * 2,)
    yield f"{at}.proj.2.weight", (wide * 4, wide * 2, 1, 1)
    yield f"{at}.proj.2.bias", (wide * 4,)
    yield f"{at}.mlp.weight", (out, wide * 4)
    yield f"{at}.mlp.bias", (out,)
    yield f"{at}.image_newline", (wide * 4,)
    for name in ("image_begin", "image_end", "image_sep"):
        yield f"{at}.{name}", (out,)
    yield f"{at}.before_rms.weight", (wide,)
    yield f"{at}.after_rms.weight", (out,)


def size_of(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def write_weights(path: Path, text: Text, vision: Vision) -> None:
    """model.safetensors in bfloat16: norms of one, biases of zero, the rest normal (0.02) from one long block, each
    tensor from another place in it, but the tied output layer from where the embedding is."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes(text, vision):
        begin, end = end, end + 2 * size_of(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)
    chance = random.Random(19)
    noise = b"".join(_bfloat16(chance.gauss(0.0, 0.02)) for _ in range(1 << 18))
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(told)) + told)
        for name, shape in shapes(text, vision):
            start = TIED if shape == (VOCABULARY, text.hidden) else chance.randrange(1 << 18)
            _fill(file, name, size_of(shape), noise, start)


def _fill(file: Any, name: str, count: int, noise: bytes, start: int) -> None:
    if name.endswith("bias"):
        file.write(bytes(2 * count))
    elif name.endswith(("norm.weight", "_rms.weight")):
        file.write(_bfloat16(1.0) * count)
    else:
        turned = noise[2 * start :] + noise[: 2 * start]
        left = 2 * count
        while left > 0:
            file.write(turned[:left])
            left -= len(turned)


def _bfloat16(value: float) -> bytes:
    """The upper half of the number as a float of 32 bits, little end first."""
    return struct.pack("<f", value)[2:]


def write(out: Path, text: Text, vision: Vision, least: int = 262_144, most: int = 16_777_216) -> None:
    """A whole checkpoint folder."""
    out.mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "processor_class": "HunYuanVLProcessor"}
    names |= {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "model_max_length": text.context}
    files = {
        "config.json": config(text, vision, "bfloat16"), "preprocessor_config.json": preprocessor(least, most),
        "tokenizer.json": tokenizer(), "tokenizer_config.json": names,
        "generation_config.json": {"eos_token_id": [120007], "pad_token_id": 120002, "do_sample": False},
    }  # fmt: skip
    for name, value in files.items():
        (out / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    (out / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    write_weights(out / "model.safetensors", text, vision)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", action="store_true", help="a model of the same kind with two layers")
    chosen = parser.parse_args()
    write(chosen.out, *(SMALL if chosen.small else (Text(), Vision())))
