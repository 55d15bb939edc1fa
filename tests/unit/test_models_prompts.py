"""From a task to a request: exactly what each model's authors send, or a refusal that names a model that can."""

from __future__ import annotations

import pytest

from inkstick.document import Task
from inkstick.errors import Unsupported, UsageError
from inkstick.models import catalogue as catalogues
from inkstick.models.catalogue import Catalogue
from inkstick.models.manifest import Answer
from inkstick.models.prompts import body, prompt, render_keys

IMAGE = "data:image/png;base64,AAAA"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return catalogues.read()


def test_the_default_parses_as_its_authors_do(catalogue: Catalogue) -> None:
    model = catalogue.default
    asked = prompt(model, Task.PARSE, catalogue)
    assert body(model, asked, IMAGE) == {
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
    }


def test_later_attempts_take_the_retries_and_stay_at_the_last(catalogue: Catalogue) -> None:
    model = catalogue.default
    asked = prompt(model, Task.PARSE, catalogue)
    told = [body(model, asked, IMAGE, attempt) for attempt in (1, 2, 3, 4)]
    assert [(one["temperature"], one["repetition_penalty"]) for one in told] == [
        (0.0, 1.08), (0.2, 1.08), (0.5, 1.12), (0.5, 1.12),
    ]  # fmt: skip


def test_a_model_of_a_third_family_is_asked_in_its_own_way(catalogue: Catalogue) -> None:
    model = catalogue.get("glm-ocr")
    told = body(model, prompt(model, Task.TABLE, catalogue), IMAGE)
    assert told["model"] == "zai-org/GLM-OCR"
    assert [message["role"] for message in told["messages"]] == ["user"]
    assert [part["type"] for part in told["messages"][0]["content"]] == ["image_url", "text"]
    assert told["messages"][0]["content"][1]["text"] == "Table Recognition:"


def test_keys_are_written_as_the_authors_write_them(catalogue: Catalogue) -> None:
    assert render_keys(["单价", "上车时间"]) == "['单价', '上车时间']"
    asked = prompt(catalogue.get("hunyuanocr-1.0"), Task.EXTRACT, catalogue, keys=["date", "{keys}"])
    assert asked.text == (
        "Extract the content of the fields: ['date', '{keys}'] from the image and return it in JSON format."
    )
    assert asked.answer is Answer.FIELDS_JSON


def test_extract_without_keys_says_how_to_give_them(catalogue: Catalogue) -> None:
    with pytest.raises(UsageError, match="needs keys") as caught:
        prompt(catalogue.get("hunyuanocr-1.0"), Task.EXTRACT, catalogue)
    assert "--keys" in caught.value.hint


@pytest.mark.parametrize("task", [Task.EXTRACT, Task.SUBTITLES])
def test_what_only_1_0_documents_is_refused_by_1_5_with_its_name(catalogue: Catalogue, task: Task) -> None:
    with pytest.raises(Unsupported, match=f"HunyuanOCR 1.5 does not offer the task {task}") as caught:
        prompt(catalogue.default, task, catalogue, keys=["a"])
    assert caught.value.hint == "Use a model that does: HunyuanOCR 1.0 (--model hunyuanocr-1.0)."


def test_the_cpu_engine_names_the_models_that_read_formulas(catalogue: Catalogue) -> None:
    with pytest.raises(Unsupported) as caught:
        prompt(catalogue.get("pp-ocrv6-small"), Task.FORMULA, catalogue)
    assert "--model hunyuanocr-1.5" in caught.value.hint
    assert "--model paddleocr-vl-1.6" in caught.value.hint
    assert "glm-ocr" not in caught.value.hint


def test_translation_goes_to_the_language_asked_for_or_names_who_can(catalogue: Catalogue) -> None:
    new, old = catalogue.default, catalogue.get("hunyuanocr-1.0")
    assert (prompt(new, Task.TRANSLATE, catalogue, to="zh").text or "").endswith("再将文字内容翻译为中文。")
    assert (prompt(new, Task.TRANSLATE, catalogue).text or "").endswith("再将文字内容翻译为英文。")
    assert "into English" in (prompt(old, Task.TRANSLATE, catalogue, to="en").text or "")
    with pytest.raises(Unsupported, match="translation to 'zh'") as caught:
        prompt(old, Task.TRANSLATE, catalogue, to="zh")
    assert "hunyuanocr-1.5" in caught.value.hint
    with pytest.raises(Unsupported) as nobody:
        prompt(new, Task.TRANSLATE, catalogue, to="fr")
    assert nobody.value.hint == "No model that Inkstick knows offers it."


def test_spotting_with_paddleocr_keeps_place_tokens_and_takes_larger_images(catalogue: Catalogue) -> None:
    model = catalogue.get("paddleocr-vl-1.6")
    asked = prompt(model, Task.SPOTTING, catalogue)
    assert asked.pixels and asked.pixels.maximum == 1_605_632
    assert asked.answer is Answer.BOXES_LOC
    assert body(model, asked, IMAGE)["skip_special_tokens"] is False
    assert body(model, asked, IMAGE, attempt=2)["skip_special_tokens"] is False
    assert body(model, prompt(model, Task.TABLE, catalogue), IMAGE)["skip_special_tokens"] is True


def test_paddleocr_parses_region_by_region(catalogue: Catalogue) -> None:
    assert prompt(catalogue.get("paddleocr-vl-1.6"), Task.PARSE, catalogue).layout
    assert not prompt(catalogue.default, Task.PARSE, catalogue).layout


def test_an_engine_without_words_has_none(catalogue: Catalogue) -> None:
    model = catalogue.get("pp-ocrv6-small")
    asked = prompt(model, Task.PARSE, catalogue)
    assert (asked.text, asked.answer) == (None, Answer.LINES)
    with pytest.raises(UsageError, match="not a model that a server offers"):
        body(model, asked, IMAGE)
