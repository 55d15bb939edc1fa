"""The transformers engine's process: ``<engine's Python> -P transformers_worker.py MODEL PIXELS_FD``.

It runs in the engine's own Python environment and imports nothing of Inkstick (-P: nor anything that lies beside this
file). Requests come as lines of JSON on standard input: ``{"id", "width", "height", "prompt", "system", "sampling"}``,
sampling as vLLM names it; the page's pixels lie in the memory file PIXELS_FD (RGB, 8 bits, row-major). ``{"cancel":
id}`` ends the answer to that request early. On standard output: ``{"ready": {…}}`` once the weights are loaded; then
for each request ``{"id", "piece"}`` as the text grows, and at its end ``{"id", "text", "finish", "tokens"}`` (finish:
stop, length or cancelled) or ``{"id", "error"}``. When standard input ends the process ends at once.

One page a forward: in a batch, transformers 5.19 numbers the images across the batch in HunYuanVL's positions.
"""

from __future__ import annotations

import json
import mmap
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

HUNYUAN = "hunyuan_vl"
NAMED = {
    "image_start_token": "<｜hy_place▁holder▁no▁100｜>",
    "image_end_token": "<｜hy_place▁holder▁no▁101｜>",
    "image_token": "<｜hy_place▁holder▁no▁102｜>",
}
"""HunyuanOCR's tokens around an image, which older tokenizer files do not name."""


def main() -> None:
    """Serve until standard input ends."""
    folder, pixels = Path(sys.argv[1]), int(sys.argv[2])
    answers = _own_stdout()
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    cancelled: set[int] = set()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests, cancelled), daemon=True).start()
    model = Model(folder)
    facts = {"device": model.device, "torch": torch.__version__, "transformers": transformers.__version__}
    _say(answers, {"ready": facts | {"most_tokens": model.most_tokens}})
    while True:
        request = requests.get()
        _say(answers, {"id": request["id"]} | _answer(model, pixels, request, cancelled, answers))


def _own_stdout() -> BinaryIO:
    """Keep the pipe to the parent for answers alone: whatever a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _listen(stream: BinaryIO, requests: queue.SimpleQueue[dict[str, Any]], cancelled: set[int]) -> None:
    for line in stream:
        message = json.loads(line)
        if "cancel" in message:
            cancelled.add(message["cancel"])
        else:
            requests.put(message)
    os._exit(0)


def _say(answers: BinaryIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")
    answers.flush()


def _answer(
    model: Model, pixels: int, request: dict[str, Any], cancelled: set[int], answers: BinaryIO
) -> dict[str, Any]:
    number = int(request["id"])

    def grown(text: str) -> bool:
        """Tell the piece; whether to go on."""
        if text:
            _say(answers, {"id": number, "piece": text})
        return number not in cancelled

    try:
        page = _image(pixels, int(request["width"]), int(request["height"]))
        return model.read(page, request["system"], request["prompt"], request["sampling"], grown)
    except Exception as error:  # a fault in reading one page must be told, not end the process
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    finally:
        cancelled.discard(number)


def _image(pixels: int, width: int, height: int) -> Image.Image:
    with mmap.mmap(pixels, width * height * 3, access=mmap.ACCESS_READ) as memory:
        return Image.frombytes("RGB", (width, height), memory[:])


def configuration(folder: Path) -> Path:
    """Where the configuration is: a model may bring one for transformers 5 beside the one that vLLM reads."""
    newer = folder / "transformers"
    return newer if (newer / "config.json").is_file() else folder


class Model:
    """The weights in plain PyTorch: bfloat16 on a GPU where there is one, else float32 on the CPU."""

    def __init__(self, folder: Path) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        newer = configuration(folder)
        config = json.loads((newer / "config.json").read_text(encoding="utf-8"))
        hunyuan = config.get("model_type") == HUNYUAN
        if hunyuan:
            lay_axes_out_as_trained()
        self._processor = hunyuan_processor(folder) if hunyuan else _processor(folder)
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        own = AutoConfig.from_pretrained(newer, local_files_only=True)
        model = AutoModelForImageTextToText.from_pretrained(folder, config=own, dtype=dtype, local_files_only=True)
        self._model = model.to(self.device).eval()
        whole = {**(config.get("text_config") or {}), **config}.get("max_position_embeddings")
        self.most_tokens = max(1, int(whole) // 2) if isinstance(whole, int) else None
        """Half of the model's context: the other half is the page's, as for a server."""

    def read(
        self, page: Image.Image, system: str | None, prompt: str, sampling: dict[str, Any], grown: Any
    ) -> dict[str, Any]:
        """The answer to `prompt` about `page`. `grown` is told each piece of it and says whether to go on."""
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": content})
        asked = self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = self._processor(images=[page], text=[asked], return_tensors="pt").to(self.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        start = inputs["input_ids"].shape[1]
        grows = Growing(self._processor.tokenizer, start, sampling.get("skip_special_tokens", True), grown)
        with torch.inference_mode():
            whole = self._model.generate(**inputs, **self._options(sampling), stopping_criteria=[grows])
        tokens = whole[0, start:].tolist()
        ended = bool(tokens) and tokens[-1] in self._ends()
        return {
            "text": grows.decoded(tokens),
            "finish": "cancelled" if grows.stopped else "stop" if ended else "length",
            "tokens": len(tokens),
        }

    def _ends(self) -> set[int]:
        eos = self._model.generation_config.eos_token_id
        own = [] if eos is None else eos if isinstance(eos, list) else [eos]
        return {*own, self._processor.tokenizer.eos_token_id}

    def _options(self, sampling: dict[str, Any]) -> dict[str, Any]:
        """vLLM's names for generate(); temperature 0 is greedy."""
        most = int(sampling["max_tokens"])
        options: dict[str, Any] = {
            "max_new_tokens": min(most, self.most_tokens or most),
            "repetition_penalty": sampling["repetition_penalty"],
            "eos_token_id": sorted(self._ends()),
            "do_sample": False, "temperature": None, "top_p": None, "top_k": None,
        }  # fmt: skip
        if sampling["temperature"] > 0:
            top_k = sampling["top_k"] if sampling["top_k"] > 0 else 0
            options |= {"do_sample": True, "temperature": sampling["temperature"], "top_p": sampling["top_p"]}
            options["top_k"] = top_k
            torch.manual_seed(sampling.get("seed") or 0)
        return options


class Growing(transformers.StoppingCriteria):  # type: ignore[misc]
    """Told after each token; every few of them the text so far is decoded, and what is new in it passed on."""

    EVERY = 16

    def __init__(self, tokenizer: Any, start: int, skip_special: bool, grown: Any) -> None:
        self._tokenizer, self._start, self._skip, self._grown = tokenizer, start, skip_special, grown
        self._told = ""
        self.stopped = False

    def decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=self._skip, clean_up_tokenization_spaces=False))

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        tokens = input_ids[0, self._start :].tolist()
        text = self.decoded(tokens).rstrip("\ufffd") if len(tokens) % self.EVERY == 0 else self._told
        new, self._told = text[len(self._told) :], text
        self.stopped = not self._grown(new)
        return torch.full((input_ids.shape[0],), self.stopped, dtype=torch.bool, device=input_ids.device)


def _processor(folder: Path) -> Any:
    return AutoProcessor.from_pretrained(folder, local_files_only=True)


def hunyuan_processor(folder: Path) -> Any:
    """Put together by hand: the files of either configuration revision may lack what the newer class looks for."""
    from transformers import HunYuanVLProcessor

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for name, token in NAMED.items():
        if getattr(tokenizer, name, None) is None:
            setattr(tokenizer, name, token)
            setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    images = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    template = folder / "chat_template.jinja"
    text = template.read_text(encoding="utf-8") if template.is_file() else None
    return HunYuanVLProcessor(images, tokenizer, chat_template=text)


def lay_axes_out_as_trained() -> None:
    """The four axes of HunYuanVL's rotary positions as its authors lay them out: a quarter of the half each, and the
    half twice. transformers 5.19.0 gives each axis a quarter of the doubled half (docs/engines.md)."""
    from transformers.models.hunyuan_vl import modeling_hunyuan_vl

    def recomposition_frequencies(self: Any, freq: Any) -> Any:
        parts = freq.split(list(self.mrope_section), dim=-1)
        half = torch.cat([part[axis] for axis, part in enumerate(parts)], dim=-1)
        return torch.cat((half, half), dim=-1)

    modeling_hunyuan_vl.HunYuanVLRotaryEmbedding.recomposition_frequencies = recomposition_frequencies


if __name__ == "__main__":
    main()
