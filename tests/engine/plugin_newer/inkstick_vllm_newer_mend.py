"""A general plug-in of vLLM 0.32.0 for one test on a CPU. vLLM calls `mend` in each of its processes.

Two things keep the tiny HunYuanVL checkpoint from running there, and neither has to do with how pages are told apart:
oneDNN's linear wants a contiguous input, which the patch merger's is not; and transformers 5.19.0 lays the rotary
positions out otherwise than the checkpoint (and the real model) was trained (docs/engines.md). What that vLLM does
wrong with several pages at once (it splits the vision tower's output by the number of patches) is left as it is: the
test is about that.
"""


def mend() -> None:
    import torch
    from transformers.models.hunyuan_vl.modeling_hunyuan_vl import HunYuanVLRotaryEmbedding
    from vllm import _custom_ops as ops

    plain = ops.onednn_mm

    def onednn_mm(handler, x, bias):  # type: ignore[no-untyped-def]
        return plain(handler, x.contiguous(), bias)

    def recomposition_frequencies(self, freq):  # type: ignore[no-untyped-def]
        parts = freq.split(list(self.mrope_section), dim=-1)
        half = torch.cat([part[axis] for axis, part in enumerate(parts)], dim=-1)
        return torch.cat((half, half), dim=-1)

    ops.onednn_mm = onednn_mm
    HunYuanVLRotaryEmbedding.recomposition_frequencies = recomposition_frequencies
