"""A general plug-in of vLLM 0.19.1 for tests on a CPU. vLLM calls `mend` in each of its processes.

HunYuanVL's rotary embedding (`XDRotaryEmbedding`) has no CPU form of its own and inherits one that hands
positions of four rows to a kernel of one row: an abort at the first request with an image. Its native form does the
same in plain PyTorch. On a GPU nothing is mended: its own form is right there.
"""


def mend() -> None:
    from vllm.model_executor.layers.rotary_embedding.xdrope import XDRotaryEmbedding
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        XDRotaryEmbedding.forward_cpu = XDRotaryEmbedding.forward_native
