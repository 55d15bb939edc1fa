"""A PP-DocLayoutV3 of random weights as ONNX, and what transformers itself makes of the same weights and pages.

    PYTHONPATH=<newer transformers>:<onnx> <engine python> tests/engine/layout.py [--full] PAGES SQUARES OUT

PAGES: the pages as PNG. SQUARES: the same, stretched to 800 x 800 by our own code.

The real weights are not here. So its architecture is taken from transformers, narrower (--full: as published, 33 M
numbers), filled with random numbers that are spread so that some regions are sure, and exported with what the
publisher's file has around it: inputs `image`, `im_shape`, `scale_factor`; outputs `fetch_name_0`, a row `[class,
score, x0, y0, x1, y1, order]` in the page's pixels for each of 300 queries, the surest first; `fetch_name_1`, how many;
`fetch_name_2`, a mask of 200 x 200 for each. Beside it OUT/theirs.json has the regions of each page that transformers'
own post-processing finds on the square, and OUT/pixels.npz what its image processor makes of the page.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PPDocLayoutV3Config, PPDocLayoutV3ForObjectDetection, PPDocLayoutV3ImageProcessor

CLASSES, SIDE, OPSET, SURE = 25, 800, 17, 40
"""`SURE`: of the 300 queries, about so many that pass the threshold of 0.5."""
BACKBONE = dict(
    model_type="hgnet_v2", arch="L", return_idx=[0, 1, 2, 3], out_features=["stage1", "stage2", "stage3", "stage4"],
    stem_channels=[3, 16, 16], stage_in_channels=[16, 32, 48, 64], stage_mid_channels=[16, 16, 24, 32],
    stage_out_channels=[32, 48, 64, 96], hidden_sizes=[32, 48, 64, 96], stage_num_blocks=[1, 1, 1, 1],
    stage_numb_of_layers=[2, 2, 2, 2],
)  # fmt: skip
NARROW = dict(
    backbone_config=BACKBONE, encoder_in_channels=[48, 64, 96], encoder_hidden_dim=64, x4_feat_dim=32, d_model=64,
    encoder_ffn_dim=128, decoder_ffn_dim=128, decoder_in_channels=[64, 64, 64], decoder_layers=3,
    mask_feature_channels=[32, 32],
)  # fmt: skip


class Constant(nn.Module):  # type: ignore[misc]
    """In the place of a part whose answer depends on sizes alone, which never change here."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.register_buffer("answer", answer)

    def forward(self, *_: object, **__: object) -> Tensor:
        return self.answer


class Published(nn.Module):  # type: ignore[misc]
    """The model with the inputs and outputs of the publisher's file; one page."""

    def __init__(self, model: PPDocLayoutV3ForObjectDetection) -> None:
        super().__init__()
        self.model = model
        for layer in model.model.encoder.aifi:  # positions by cosines in float64, which onnxruntime does not have
            where = layer.position_embedding(SIDE // 32, SIDE // 32, device=torch.device("cpu"), dtype=torch.float32)
            layer.position_embedding = Constant(where)

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.model(image)
        scores, place = torch.sigmoid(found.logits).flatten(1).topk(found.logits.shape[1], dim=1)
        query = place // CLASSES
        centre, size = found.pred_boxes.split(2, dim=-1)
        page = torch.floor(im_shape / scale_factor + 0.5).flip(1).repeat(1, 2)  # width, height, width, height
        boxes = torch.cat((centre - size / 2, centre + size / 2), dim=-1) * page[:, None]
        columns = [
            (place % CLASSES).float()[..., None],
            scores[..., None],
            boxes.gather(1, query[..., None].repeat(1, 1, 4)),
            turns(found.order_logits).gather(1, query).float()[..., None],
        ]
        masks = found.out_masks.gather(1, query[..., None, None].repeat(1, 1, *found.out_masks.shape[2:]))
        count = torch.full_like(scores[:, :1], scores.shape[1]).int().flatten()
        return torch.cat(columns, dim=-1).flatten(0, 1), count, (masks > 0).int().flatten(0, 1)


def turns(order: Tensor) -> Tensor:
    """The place of each query in the reading order. `order`: for each pair i < j, whether i comes before j; so a query
    comes after as many others as are said to come before it."""
    before = torch.sigmoid(order).triu(1)
    votes = before.sum(1) + (1 - before).triu(1).sum(2)
    return votes.argsort(1).argsort(1)


def random_model(full: bool, squares: Tensor) -> PPDocLayoutV3ForObjectDetection:
    """Numbers that keep every layer's output about as large as its input, and heads that spread: some queries sure,
    boxes of many sizes, an order that is not the same for all."""
    torch.manual_seed(7)
    model = PPDocLayoutV3ForObjectDetection(PPDocLayoutV3Config(num_labels=CLASSES, **({} if full else NARROW))).eval()
    normal = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if isinstance(module, nn.Conv2d) else "linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif hasattr(module, "running_mean"):
            module.weight.data.fill_(1.0)
            module.bias.data.zero_()
            normal.append(module.register_forward_pre_hook(_measure))
    parts, layers = model.model, model.config.decoder_layers
    with torch.no_grad():
        # The masks of random weights cover the page, and each layer adds to the box before it: smaller ones again.
        last = parts.decoder.bbox_embed.layers[-1]
        last.bias[2:] = -14 / layers
        last.weight *= 1.5
        parts.decoder.class_embed.weight *= 3
        parts.decoder_global_pointer.dense.weight *= 2
        seen = model(squares).logits
        for hook in normal:
            hook.remove()
        parts.decoder.class_embed.bias -= seen.mean((0, 1))  # else two classes have nearly all regions
        best = model(squares).logits.amax(-1).flatten().sort(descending=True).values
        parts.decoder.class_embed.bias -= best[SURE * len(squares) :][:2].mean()
    return model


def _measure(module: nn.Module, given: tuple[Tensor]) -> None:
    module.running_mean.copy_(given[0].mean((0, 2, 3)))
    module.running_var.copy_(given[0].var((0, 2, 3)))


def regions(model: nn.Module, pixels: Tensor, size: tuple[int, int]) -> list[dict[str, object]]:
    """What transformers finds on a page of that height and width, in reading order."""
    with torch.no_grad():
        found = PPDocLayoutV3ImageProcessor().post_process_object_detection(model(pixels), 0.5, [size])[0]
    columns = zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist(), strict=True)
    return [{"class": label, "score": score, "box": box} for label, score, box in columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="as wide and deep as the published one")
    parser.add_argument("pages", type=Path)
    parser.add_argument("squares", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")  # the tracer's: sizes that never change become constants, which is wanted
    names = sorted(path.name for path in chosen.pages.glob("*.png"))
    pages = [Image.open(chosen.pages / name).convert("RGB") for name in names]
    squares = np.stack([np.asarray(Image.open(chosen.squares / name).convert("RGB")) for name in names])
    pixels = torch.from_numpy(squares.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    model = random_model(chosen.full, pixels)
    chosen.out.mkdir(parents=True)
    found = {n: regions(model, one[None], (p.height, p.width)) for n, p, one in zip(names, pages, pixels, strict=True)}
    (chosen.out / "theirs.json").write_text(json.dumps(found), encoding="utf-8")
    theirs = PPDocLayoutV3ImageProcessor()(images=pages, return_tensors="pt")["pixel_values"]
    np.savez_compressed(chosen.out / "pixels.npz", **dict(zip(names, theirs.numpy(), strict=True)))
    side = torch.tensor([[float(SIDE), float(SIDE)]])
    torch.onnx.export(
        Published(model).eval(), (pixels[:1], side, torch.ones(1, 2)), str(chosen.out / "inference.onnx"), dynamo=False,
        opset_version=OPSET, input_names=["image", "im_shape", "scale_factor"],
        output_names=["fetch_name_0", "fetch_name_1", "fetch_name_2"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
