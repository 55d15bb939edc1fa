"""What is particular to a model: its name on the server, prompts, sampling, limits. Plain data, from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from inkstick.document import Task
from inkstick.engines.protocol import Request
from inkstick.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Sampling:
    """As vLLM names them. `max_tokens` bounds the answer."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = -1
    repetition_penalty: float = 1.0
    max_tokens: int = 16384


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """`prompts`: by task; ``{keys}`` (extract) is filled in. `prompts_to`: translate, by language. `sampling` is for
    the first attempt, `retries` for the following ones (the last one stays). `system`: sent as it is, even empty.
    `priority`: the server schedules by priority (``--scheduling-policy priority``)."""

    id: str
    served: str
    prompts: Mapping[Task, str]
    prompts_to: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    sampling: Sampling = Sampling()
    retries: tuple[Sampling, ...] = ()
    system: str | None = ""
    seed: int | None = None
    priority: bool = False

    @property
    def tasks(self) -> frozenset[Task]:
        return frozenset(self.prompts) | ({Task.TRANSLATE} if self.prompts_to else set())

    def prompt(self, request: Request) -> str:
        """The text sent with the image. Raises Unsupported for a task this model has no prompt for."""
        if request.prompt is not None:
            return request.prompt
        if request.task is Task.TRANSLATE:
            text = self.prompts_to.get(request.to or "en")
        else:
            text = self.prompts.get(request.task)
        if text is None:
            raise Unsupported(f"{self.id} does not offer the task {request.task}.", hint="Choose another task.")
        return text.replace("{keys}", str(list(request.keys))) if request.task is Task.EXTRACT else text

    def sampled(self, attempt: int) -> Sampling:
        """Sampling of the n-th attempt (from 1)."""
        ladder = (self.sampling, *self.retries)
        return ladder[min(attempt, len(ladder)) - 1]


HUNYUAN_OCR_1_5 = ModelSpec(
    id="hunyuanocr-1.5",
    served="tencent/HunyuanOCR",
    prompts=MappingProxyType(
        {
            Task.PARSE: (
                "提取文档图片中正文的所有信息用markdown格式表示，其中页眉、页脚部分忽略，表格用html格式表达，"
                "文档中公式用latex格式表示，按照阅读顺序组织进行解析。"
            ),
            Task.TEXT: "提取图中的文字。",
            Task.SPOTTING: (
                "检测并识别图中所有的文字行，请按从上到下、从左到右的阅读顺序进行识别。 "
                "输出格式为 JSON 数组，每个元素必须包含："
                '"box": [xmin, ymin, xmax, ymax]（坐标需归一化到 [0, 1000] 范围内）；"text": "识别出的文字内容"。 '
                "注意：请直接输出 JSON 数组，不要包含任何多余的描述性文字。"
            ),
            Task.TABLE: "把图中的表格解析为HTML。",
            Task.FORMULA: "识别图片中的公式，用LaTeX格式表示。",
            Task.CHART: "解析图中的图表，对于流程图使用Mermaid格式表示，其他图表使用Markdown格式表示。",
            Task.EXTRACT: "提取图片中的: {keys} 的字段内容，并按照 JSON 格式返回。",
            Task.SUBTITLES: "提取图片中的字幕。",
        }
    ),
    prompts_to=MappingProxyType(
        {
            "en": "按照阅读顺序，提取图中文字，公式用latex格式表示，表格用markdown格式表示，再将文字内容翻译为英文。",
            "zh": "按照阅读顺序，提取图中文字，公式用latex格式表示，表格用markdown格式表示，再将文字内容翻译为中文。",
        }
    ),
    sampling=Sampling(0.0, 1.0, -1, 1.08, 16384),
    retries=(Sampling(0.2, 1.0, -1, 1.08, 16384), Sampling(0.5, 1.0, -1, 1.12, 16384)),
    seed=1234,
)
"""Extract and subtitles are the 1.0 model's prompts: the 1.5 list has none. max_tokens is the 1.0 limit: with the
appliance's context of 32,768 tokens, the documented 32,768 would leave no room for the page itself."""
