"""A tiny HunYuanVL checkpoint that reads given pages by heart, in the shape that vLLM 0.19.1 wants.

    PYTHONPATH=<newer transformers>:tests/gpu <engine python> tests/engine/tiny.py train PAGES LEARNED
    PYTHONPATH=<newer transformers>:tests/gpu <engine python> tests/engine/tiny.py write LEARNED OUT [native]

PAGES is a folder with PNG files and texts.json, LEARNED a small file of weights, OUT the checkpoint; native: configured
as transformers 5 does, for a newer vLLM.

0.19.1's processor has the official token ids and a vocabulary of 120,818 written into it; training takes only the few
ids that occur, and the embedding is spread out afterwards (rows that never occur stay zero, and tied as the head they
never win). What makes it learn: one optimiser step for each pass over all pages, each page in a forward of its own (in
a batch this transformers version numbers the images across the batch), a higher rate for the vision tower, the patch
embedding scaled up. The margin: every pass sees another shift, scale and noise of each page, and it ends only when
every token of every variant of every page is right, under a higher repetition penalty than is asked for.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hunyuan import END, IMAGE, NAMED, NEWLINE, SMALL, START, TEMPLATE, VOCABULARY, config, preprocessor, vocabulary
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import HunYuanVLConfig, HunYuanVLForConditionalGeneration, HunYuanVLProcessor, PreTrainedTokenizerFast
from transformers.models.hunyuan_vl.image_processing_hunyuan_vl import HunYuanVLImageProcessor
from transformers.models.hunyuan_vl.modeling_hunyuan_vl import HunYuanVLRotaryEmbedding

PROMPTS = (
    "提取文档图片中正文的所有信息用markdown格式表示，其中页眉、页脚部分忽略，表格用html格式表达，"
    "文档中公式用latex格式表示，按照阅读顺序组织进行解析。",
    "提取图中的文字。",
)
"""What the service and the canary ask (HunyuanOCR 1.5: parse and text). Each is one token: training is shorter."""
TOKENS = NAMED | {120200: PROMPTS[0], 120201: PROMPTS[1]}
IDS = {name: number for number, name in TOKENS.items()}
PIXELS = (64 * 64, 256 * 192)
VARIANTS, PASSES, GOOD, CALM, PENALTY = 16, 4000, 0.03, 3, 1.15
STEADY = 200
"""Passes at the full rate, about as many as it takes to read most pages; then it falls."""


def make_processor() -> HunYuanVLProcessor:
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary(TOKENS), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(TOKENS.values()))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", chat_template=TEMPLATE,
        extra_special_tokens={"image_token": IMAGE, "image_start_token": START, "image_end_token": END},
    )  # fmt: skip
    images = HunYuanVLImageProcessor(min_pixels=PIXELS[0], max_pixels=PIXELS[1])
    return HunYuanVLProcessor(images, fast, chat_template=TEMPLATE)


def make_model(vocabulary: int, number: dict[str, int]) -> HunYuanVLForConditionalGeneration:
    """`number`: the ids of the special tokens in this model's vocabulary."""
    special = dict(pad_token_id=number["<pad>"], bos_token_id=number["<bos>"], eos_token_id=number["<eos>"],
                   eod_token_id=number["<eos>"], sep_token_id=number["<eos>"])  # fmt: skip
    config = HunYuanVLConfig(
        image_token_id=number[IMAGE], im_start_id=number[START], im_end_id=number[END], im_newline_id=number[NEWLINE],
        text_config=dict(
            vocab_size=vocabulary, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=32, max_position_embeddings=4096, tie_word_embeddings=True, **special,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0, mrope_section=[4, 4, 4, 4]),
        ),
        vision_config=dict(
            hidden_size=64, intermediate_size=128, num_attention_heads=4, num_hidden_layers=2, out_hidden_size=128,
            patch_size=16, max_image_size=512, min_image_size=128, text_hidden_size=128,
        ),
    )  # fmt: skip
    model = HunYuanVLForConditionalGeneration(config)
    with torch.no_grad():  # image_newline, image_begin, image_end, image_sep are created uninitialised
        for name, values in model.named_parameters():
            if name.rsplit(".", 1)[-1].startswith("image_"):
                values.normal_(0, 0.02)
            if "patch_embedding.weight" in name:
                values.mul_(4)
    return model


def varied(page: Image.Image, chance: random.Random) -> Image.Image:
    """The page as another scan of it would look: moved, a little larger or smaller in print, with noise."""
    width, height = page.size
    scale = chance.uniform(0.97, 1.03)
    moved = Image.new("RGB", page.size, "white")
    moved.paste(
        page.resize((round(width * scale), round(height * scale))), (chance.randint(-6, 6), chance.randint(-6, 6))
    )
    grain = np.random.default_rng(chance.randrange(1 << 30)).normal(0, chance.uniform(0, 6), (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(moved, np.float32) + grain, 0, 255).astype(np.uint8))


def lessons(processor: HunYuanVLProcessor, folder: Path, compact: torch.Tensor) -> list[list[tuple[Any, torch.Tensor]]]:
    """For each page its variants, each (inputs, labels) in compact ids."""
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    chance = random.Random(7)
    out = []
    for name, text in sorted(texts.items()):
        page = Image.open(folder / name).convert("RGB")
        views = [page] + [varied(page, chance) for _ in range(VARIANTS - 1)]
        out.append([_lesson(processor, view, PROMPTS[i % 2], text, compact) for i, view in enumerate(views)])
    return out


def _lesson(
    processor: Any, page: Image.Image, prompt: str, text: str, compact: torch.Tensor
) -> tuple[Any, torch.Tensor]:
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    asked = processor.tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    batch = processor(images=[page], text=[asked + text + "<eos>"], return_tensors="pt")
    head = processor(images=[page], text=[asked], return_tensors="pt")["input_ids"].shape[1]
    batch["input_ids"] = compact[batch["input_ids"]]
    labels = batch["input_ids"].clone()
    labels[:, :head] = -100
    return batch, labels


def as_vllm_rotates(self: HunYuanVLRotaryEmbedding, freq: torch.Tensor) -> torch.Tensor:
    """The four axes' frequencies as vLLM 0.19.1 lays them out: a quarter of the half for each, the half twice.
    transformers 5.19.0 gives each axis a quarter of the doubled half, which is another model for image tokens."""
    parts = freq.split(list(self.mrope_section), dim=-1)
    half = torch.cat([part[axis] for axis, part in enumerate(parts)], dim=-1)
    return torch.cat((half, half), dim=-1)


def penalised(model: Any, batch: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(numbers for each next token of the answer, the right tokens), made harder than vLLM's repetition penalty (1.08)
    makes it: tokens that have occurred, in the question too, count for less. What is right so is right without, too."""
    logits, ids = model(**batch).logits, batch["input_ids"]
    seen = torch.nn.functional.one_hot(ids[0], logits.shape[-1]).cumsum(0) > 0
    plain = logits[0].float()
    harder = torch.where(seen, torch.where(plain > 0, plain / PENALTY, plain * PENALTY), plain)
    answer = labels[0, 1:] != -100
    return harder[:-1][answer], labels[0, 1:][answer]


def knows(model: Any, pages: list[list[tuple[Any, torch.Tensor]]]) -> bool:
    """Whether every token of every variant of every page is right."""
    with torch.no_grad():
        found = (penalised(model, batch, labels) for views in pages for batch, labels in views)
        return all(bool((numbers.argmax(-1) == right).all()) for numbers, right in found)


def save(model: Any, path: Path) -> None:
    """Its weights; the output layer is the embedding."""
    save_file({name: each.contiguous() for name, each in model.state_dict().items() if "lm_head" not in name}, path)


def train(model: Any, pages: list[list[tuple[Any, torch.Tensor]]]) -> int:
    """Until it knows its pages; the passes that it took. Exits where it does not learn them."""
    vision = [p for name, p in model.named_parameters() if "vi" in name.split(".")[1]]
    known = {id(p) for p in vision}
    rest = [p for p in model.parameters() if id(p) not in known]
    optimiser = torch.optim.AdamW(
        [dict(params=vision, lr=2e-3), dict(params=rest, lr=1e-3)], weight_decay=0.0, betas=(0.9, 0.95)
    )
    # At a constant rate the losses never settle: they go up and down for hundreds of passes.
    falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda turn: max(0.02, 0.99 ** max(0, turn - STEADY)))
    chance, calm, worst = random.Random(11), 0, 0.0
    for turn in range(PASSES):
        worst = 0.0
        for views in pages:
            batch, labels = chance.choice(views)
            loss = torch.nn.functional.cross_entropy(*penalised(model, batch, labels))
            (loss / len(pages)).backward()
            worst = max(worst, loss.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        falling.step()
        optimiser.zero_grad()
        calm = calm + 1 if worst < GOOD else 0
        if turn % 25 == 0:
            print(f"pass {turn}: worst loss {worst:.4f}", flush=True)
        if calm >= CALM:
            calm = 0
            if knows(model, pages):
                return turn
    raise SystemExit(f"the tiny model did not learn its pages: loss {worst:.4f} after {PASSES} passes")


def spread(small: HunYuanVLForConditionalGeneration, used: torch.Tensor) -> HunYuanVLForConditionalGeneration:
    """The same model with the whole vocabulary."""
    large = make_model(VOCABULARY, IDS)
    values = small.state_dict()
    with torch.no_grad():
        for name, target in large.state_dict().items():
            if target.shape == values[name].shape:
                target.copy_(values[name])
            else:
                target.zero_()
                target[used] = values[name]
    return large


def flatten(out: Path) -> None:
    """The configuration files in the style of revision 449e7d47, which 0.19.1 reads."""
    tokenizer = json.loads((out / "tokenizer_config.json").read_text())
    tokenizer.pop("extra_special_tokens", None)
    (out / "processor_config.json").unlink()
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "processor_class": "HunYuanVLProcessor"}
    flat = config(*SMALL, "float32")
    (out / "config.json").write_text(json.dumps(flat, indent=1))
    (out / "preprocessor_config.json").write_text(json.dumps(preprocessor(*PIXELS)))
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer | names))


def compacted() -> tuple[torch.Tensor, torch.Tensor]:
    """(the ids that occur, from every id to its place among them)"""
    used = torch.tensor([*range(256), *sorted(TOKENS)])
    compact = torch.full((VOCABULARY,), -1, dtype=torch.long)
    compact[used] = torch.arange(len(used))
    return used, compact


def small_model() -> HunYuanVLForConditionalGeneration:
    """Not trained; with the ids that occur alone."""
    used, compact = compacted()
    return make_model(len(used), {name: int(compact[number]) for name, number in IDS.items()})


def learn(pages: Path, learned: Path) -> None:
    model = small_model()
    train(model, lessons(make_processor(), pages, compacted()[1]))
    save(model, learned)


def write(learned: Path, out: Path, native: bool) -> None:
    model = small_model()
    model.load_state_dict(load_file(learned), strict=False)
    spread(model, compacted()[0]).save_pretrained(out)
    make_processor().save_pretrained(out)
    if not native:
        flatten(out)


def main(what: str, first: Path, second: Path, *options: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so little work: a second thread only waits
    HunYuanVLRotaryEmbedding.recomposition_frequencies = as_vllm_rotates
    if what == "train":
        learn(first, second)
    else:
        write(first, second, native="native" in options)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
