"""A tiny PaddleOCR-VL checkpoint that reads given pages by heart, in the shape that vLLM 0.19.1 wants.

    PYTHONPATH=<newer transformers>:tests/gpu <engine python> tests/engine/paddle.py train PAGES LEARNED
    PYTHONPATH=<newer transformers>:tests/gpu <engine python> tests/engine/paddle.py write LEARNED OUT

As `tiny.py`, whose training it shares. vLLM 0.19.1 runs PaddleOCR-VL with the program code that lies beside the weights
(transformers 4.57 does not know it): the files in paddle_code/ are ours and stand in for the publisher's.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import tiny
import torch
from paddle_code.image_processing_paddleocr_vl import patches
from paddle_code.processing_paddleocr_vl import IMAGE
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PaddleOCRVLConfig, PaddleOCRVLForConditionalGeneration, PreTrainedTokenizerFast

PROMPT = "OCR:"
START, END, BEGIN = "<|IMAGE_START|>", "<|IMAGE_END|>", "<|begin_of_sentence|>"
NAMES = ("<pad>", BEGIN, "</s>", START, IMAGE, END, "<video>", "<ask>", PROMPT)
TEMPLATE = (
    BEGIN + "{% for m in messages %}{% if m.role=='user' %}{% for c in m.content %}"
    "{% if c.type in ('image','image_url') %}" + START + IMAGE + END +
    "{% elif c.type=='text' %}{{c.text}}{% endif %}{% endfor %}<ask>"
    "{% elif m.role=='assistant' %}{{m.content}}</s>{% endif %}{% endfor %}"
)  # fmt: skip
PATCH, MERGE, PIXELS = 14, 2, (56 * 56, 256 * 192)
TEXT = dict(
    hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    head_dim=32, max_position_embeddings=4096, rms_norm_eps=1e-5, use_bias=False, hidden_act="silu",
)  # fmt: skip
VISION = dict(
    hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_channels=3, image_size=224,
    patch_size=PATCH, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, attention_dropout=0.0,
    spatial_merge_size=MERGE,
)  # fmt: skip
SECTIONS = [4, 6, 6]


def make_tokenizer() -> tuple[PreTrainedTokenizerFast, dict[str, int]]:
    vocab = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {name: len(vocab) + i for i, name in enumerate(NAMES)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(NAMES))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token=BEGIN, eos_token="</s>",
        chat_template=TEMPLATE,
    )  # fmt: skip
    return fast, vocab


def make_model(ids: dict[str, int]) -> PaddleOCRVLForConditionalGeneration:
    special = dict(pad_token_id=ids["<pad>"], bos_token_id=ids[BEGIN], eos_token_id=ids["</s>"])
    rope = dict(rope_type="default", rope_theta=10000.0, mrope_section=SECTIONS)
    config = PaddleOCRVLConfig(
        text_config=TEXT | special | dict(vocab_size=len(ids), rope_parameters=rope, tie_word_embeddings=True),
        vision_config=VISION, image_token_id=ids[IMAGE], video_token_id=ids["<video>"],
        vision_start_token_id=ids[START], vision_end_token_id=ids[END],
        tie_word_embeddings=True,
    )  # fmt: skip
    model = PaddleOCRVLForConditionalGeneration(config)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "patch_embedding.weight" in name:
                values.mul_(4)
    return model


def lessons(tokenizer: Any, ids: dict[str, int], folder: Path) -> list[list[tuple[Any, torch.Tensor]]]:
    """For each page its variants, each (inputs, labels)."""
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    chance = random.Random(7)
    out = []
    for name, text in sorted(texts.items()):
        page = Image.open(folder / name).convert("RGB")
        views = [page] + [tiny.varied(page, chance) for _ in range(tiny.VARIANTS - 1)]
        out.append([_lesson(tokenizer, ids, view, text) for view in views])
    return out


def _lesson(tokenizer: Any, ids: dict[str, int], page: Image.Image, text: str) -> tuple[Any, torch.Tensor]:
    values, grid = patches(page, PATCH, MERGE, *PIXELS)
    content = [{"type": "image"}, {"type": "text", "text": PROMPT}]
    asked = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    asked = asked.replace(IMAGE, IMAGE * (grid[1] * grid[2] // MERGE**2))
    head = tokenizer(asked, add_special_tokens=False)["input_ids"]
    answer = tokenizer(text + "</s>", add_special_tokens=False)["input_ids"]
    whole = torch.tensor([head + answer])
    batch = {
        "input_ids": whole, "attention_mask": torch.ones_like(whole), "pixel_values": values,
        "image_grid_thw": torch.tensor([grid]), "mm_token_type_ids": (whole == ids[IMAGE]).int(),
    }  # fmt: skip
    labels = whole.clone()
    labels[:, : len(head)] = -100
    return batch, labels


def flatten(out: Path, ids: dict[str, int]) -> None:
    """The configuration files as the real model has them: flat, and naming the code beside the weights."""
    code = Path(__file__).parent / "paddle_code"
    for file in code.glob("*_paddleocr_vl.py"):
        shutil.copy(file, out)
    maps = {
        "AutoConfig": "configuration_paddleocr_vl.PaddleOCRVLConfig",
        "AutoProcessor": "processing_paddleocr_vl.PaddleOCRVLProcessor",
        "AutoImageProcessor": "image_processing_paddleocr_vl.PaddleOCRVLImageProcessor",
    }
    flat = TEXT | dict(
        architectures=["PaddleOCRVLForConditionalGeneration"], model_type="paddleocr_vl", torch_dtype="float32",
        auto_map={"AutoConfig": maps["AutoConfig"]}, vocab_size=len(ids), image_token_id=ids[IMAGE],
        video_token_id=ids["<video>"], vision_start_token_id=ids[START],
        vision_end_token_id=ids[END], pad_token_id=ids["<pad>"], bos_token_id=ids[BEGIN],
        eos_token_id=ids["</s>"], tie_word_embeddings=True, rope_theta=10000.0,
        rope_scaling=dict(rope_type="default", type="default", mrope_section=SECTIONS),
        vision_config=VISION | {"model_type": "paddleocr_vl_vision"},
    )  # fmt: skip
    (out / "config.json").write_text(json.dumps(flat, indent=1))
    image = dict(
        image_processor_type="PaddleOCRVLImageProcessor", processor_class="PaddleOCRVLProcessor", patch_size=PATCH,
        merge_size=MERGE, min_pixels=PIXELS[0], max_pixels=PIXELS[1], auto_map=maps,
    )  # fmt: skip
    (out / "preprocessor_config.json").write_text(json.dumps(image))
    named = {"processor_class": "PaddleOCRVLProcessor", "auto_map": {"AutoProcessor": maps["AutoProcessor"]}}
    (out / "processor_config.json").write_text(json.dumps(named))
    tokenizer = json.loads((out / "tokenizer_config.json").read_text())
    tokenizer |= {"tokenizer_class": "PreTrainedTokenizerFast"} | named
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (out / "chat_template.jinja").write_text(TEMPLATE)


def learn(pages: Path, learned: Path) -> None:
    tokenizer, ids = make_tokenizer()
    model = make_model(ids)
    tiny.train(model, lessons(tokenizer, ids, pages))
    tiny.save(model, learned)


def write(learned: Path, out: Path) -> None:
    tokenizer, ids = make_tokenizer()
    model = make_model(ids)
    model.load_state_dict(load_file(learned), strict=False)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    flatten(out, ids)


def main(what: str, first: Path, second: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    (learn if what == "train" else write)(first, second)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
