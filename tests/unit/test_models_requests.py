"""From a task to a request: exactly what each model's authors send, or a refusal that names a model that can."""

from __future__ import annotations

import base64
import io
import json
import tomllib
from typing import Any

import pytest
from PIL import Image

from inkstick.document import Task
from inkstick.engines.openai import OpenAiEngine, body
from inkstick.engines.protocol import Request
from inkstick.engines.spec import spec_of
from inkstick.errors import Unsupported
from inkstick.models import catalogue as catalogues
from inkstick.models.catalogue import Catalogue
from inkstick.pages.view import Pixels
from support.fake_engine import FakeEngine

IMAGE = "data:image/png;base64,AAAA"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return catalogues.read()


def request(catalogue: Catalogue, model: str, asked: Request) -> dict[str, Any]:
    """What the client sends."""
    spec = spec_of(catalogue.get(model))
    sent = body(spec, IMAGE.encode(), spec.prompt(asked), spec.sampled(asked.attempt), task=asked.task)
    return dict(json.loads(sent))


def test_the_default_parses_as_its_authors_do(catalogue: Catalogue) -> None:
    assert request(catalogue, catalogue.default.id, Request(Task.PARSE)) == {
        "model": "tencent/HunyuanOCR",
        "messages": [
            {"role": "system", "content": ""},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": IMAGE}},
                    {
                        "type": "text",
                        "text": "提取文档图片中正文的所有信息用markdown格式表示，其中页眉、页脚部分忽略，"
                        "表格用html格式表达，文档中公式用latex格式表示，按照阅读顺序组织进行解析。",
                    },
                ],
            },
        ],
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": -1,
        "repetition_penalty": 1.08,
        "max_tokens": 16384,
        "skip_special_tokens": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_every_request_is_what_the_manifest_says(catalogue: Catalogue) -> None:
    """Compared with the file itself, not with what the program made of it."""
    for id, manifest in catalogue.manifests.items():
        if manifest.serve is None:
            continue
        told = tomllib.loads((catalogue.folder / f"{id}.toml").read_text(encoding="utf-8"))
        for name, offer in told["tasks"].items():
            sent = request(catalogue, id, Request(Task(name), keys=("date",), to="en"))
            prompt = told["prompts"][offer["to"]["en"] if "to" in offer else offer["prompt"]]
            *system, user = sent["messages"]
            assert [message["content"] for message in system] == [
                value for key, value in told["chat"].items() if key == "system"
            ]
            assert [part["type"].removesuffix("_url") for part in user["content"]] == told["chat"]["order"]
            assert {"type": "text", "text": prompt.replace("{keys}", "['date']")} in user["content"]
            sampling = {key: value for key, value in told["sampling"].items() if key != "retry"}
            sampling |= {key: offer[key] for key in ("skip_special_tokens",) if key in offer}
            assert {key: sent[key] for key in sampling} == sampling, (id, name)
            most = {"max_pixels": offer["maximum_pixels"]} if "maximum_pixels" in offer else None
            assert sent.get("mm_processor_kwargs") == most, (id, name)
            assert sent["model"] == told["serve"]["served"]


def test_later_attempts_take_the_retries_and_stay_at_the_last(catalogue: Catalogue) -> None:
    told = [request(catalogue, catalogue.default.id, Request(Task.PARSE, attempt)) for attempt in (1, 2, 3, 4)]
    assert [(one["temperature"], one["repetition_penalty"]) for one in told] == [
        (0.0, 1.08), (0.2, 1.08), (0.5, 1.12), (0.5, 1.12),
    ]  # fmt: skip


def test_a_model_of_a_third_family_is_asked_in_its_own_way(catalogue: Catalogue) -> None:
    told = request(catalogue, "glm-ocr", Request(Task.TABLE))
    assert told["model"] == "zai-org/GLM-OCR"
    assert [message["role"] for message in told["messages"]] == ["user"]
    assert [part["type"] for part in told["messages"][0]["content"]] == ["image_url", "text"]
    assert told["messages"][0]["content"][1]["text"] == "Table Recognition:"


def test_keys_are_written_as_the_authors_write_them(catalogue: Catalogue) -> None:
    spec = spec_of(catalogue.get("hunyuanocr-1.0"))
    assert spec.prompt(Request(Task.EXTRACT, keys=("单价", "上车时间", "{keys}"))) == (
        "Extract the content of the fields: ['单价', '上车时间', '{keys}'] from the image and return it in JSON format."
    )


@pytest.mark.parametrize("task", [Task.EXTRACT, Task.SUBTITLES])
def test_what_only_1_0_documents_is_refused_by_1_5_with_its_name(catalogue: Catalogue, task: Task) -> None:
    with pytest.raises(Unsupported, match=f"does not offer the task {task}") as caught:
        spec_of(catalogue.default).prompt(Request(task, keys=("a",)))
    assert caught.value.hint == "Use a model that does: HunyuanOCR 1.0 (--model hunyuanocr-1.0)."


def test_what_the_cpu_engine_cannot_is_answered_with_the_models_that_can(catalogue: Catalogue) -> None:
    hint = catalogue.instead(Task.FORMULA)
    assert "--model hunyuanocr-1.5" in hint
    assert "--model paddleocr-vl-1.6" in hint
    assert "glm-ocr" not in hint


def test_translation_goes_to_the_language_asked_for_or_names_who_can(catalogue: Catalogue) -> None:
    new, old = spec_of(catalogue.default), spec_of(catalogue.get("hunyuanocr-1.0"))
    assert new.prompt(Request(Task.TRANSLATE, to="zh")).endswith("再将文字内容翻译为中文。")
    assert new.prompt(Request(Task.TRANSLATE)).endswith("再将文字内容翻译为英文。")
    assert "into English" in old.prompt(Request(Task.TRANSLATE, to="en"))
    with pytest.raises(Unsupported, match="translation to 'zh'") as caught:
        old.prompt(Request(Task.TRANSLATE, to="zh"))
    assert "hunyuanocr-1.5" in caught.value.hint
    with pytest.raises(Unsupported) as nobody:
        new.prompt(Request(Task.TRANSLATE, to="fr"))
    assert nobody.value.hint == "No model that Inkstick knows offers it."


@pytest.mark.parametrize(
    ("task", "size", "sent_size", "most"),
    [
        (Task.SPOTTING, (600, 848), (1200, 1696), 1_605_632),
        (Task.SPOTTING, (1499, 1499), (2998, 2998), 1_605_632),
        (Task.SPOTTING, (1000, 1500), (1000, 1500), 1_605_632),
        (Task.TABLE, (600, 848), (600, 848), None),
    ],
)
async def test_paddleocr_is_sent_the_picture_and_told_the_limits_that_its_authors_use(
    catalogue: Catalogue, task: Task, size: tuple[int, int], sent_size: tuple[int, int], most: int | None
) -> None:
    """Spotting: both sides below 1500 are doubled, and the picture may be larger."""
    async with FakeEngine() as fake:
        engine = OpenAiEngine(fake.url, spec=spec_of(catalogue.get("paddleocr-vl-1.6")))
        await engine.start()
        try:
            width, height = size
            await engine.read(Pixels(width, height, b"\xff" * (width * height * 3)), Request(task))
        finally:
            await engine.close()
        (sent,) = fake.seen.bodies
    data = sent["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == sent_size
    assert sent.get("mm_processor_kwargs") == (most and {"max_pixels": most})
    assert sent["skip_special_tokens"] is (task is not Task.SPOTTING)
