"""The manifests of this repository against the publishers' facts, and what a manifest is refused for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from inkstick.document import Task
from inkstick.errors import UsageError
from inkstick.models import catalogue as catalogues
from inkstick.models.catalogue import Catalogue
from inkstick.models.manifest import Answer, Role, Status, load
from support.model_mirror import entry, manifest_text, model_files, write_manifest

REPOSITORY = Path(__file__).parents[2] / "models-manifest"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return catalogues.read(REPOSITORY)


def short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_every_model_that_is_promised_has_a_manifest(catalogue: Catalogue) -> None:
    found = {manifest.id: manifest.status for manifest in catalogue.manifests.values()}
    assert found == {
        "hunyuanocr-1.5": Status.DEFAULT,
        "hunyuanocr-1.0": Status.OFFERED,
        "paddleocr-vl-1.6": Status.OFFERED,
        "pp-ocrv6-small": Status.EMBEDDED,
        "glm-ocr": Status.EXAMPLE,
    }
    assert catalogue.default.id == "hunyuanocr-1.5"
    assert all((REPOSITORY / f"{model_id}.toml").is_file() for model_id in found)


def test_hunyuanocr_1_5_sends_the_publishers_prompts_byte_for_byte(catalogue: Catalogue) -> None:
    """First 16 digits of the sha256 of each entry of inference/utils/tasks.py, as published."""
    prompts = catalogue.get("hunyuanocr-1.5").prompts
    assert {name: short(text) for name, text in prompts.items()} == {
        "doc_parse": "16f15a15a1eb5181",
        "structured_parse": "ed471d18b8266adb",
        "spotting_json": "5f5f7c04b71aa98f",
        "spotting_hunyuan": "9d5efb395cfbe2ab",
        "layout": "7f0aead1c6dcac74",
        "layout_parse": "915ac071db0a2eec",
        "chart_parse": "0d37a14f1b5a3320",
        "formula": "4e79e42648a4252d",
        "table": "57324c7f31defb97",
        "doc_trans_en2zh": "bc41d6e8a350b7a0",
        "trans_other2en": "7781c97c9640a165",
        "trans_other2zh": "9d4c227aab2dc1b1",
    }


def test_hunyuanocr_1_0_sends_the_prompts_of_its_model_card(catalogue: Catalogue) -> None:
    prompts = catalogue.get("hunyuanocr-1.0").prompts
    assert (
        prompts["extract"] == "Extract the content of the fields: {keys} from the image and return it in JSON format."
    )
    assert prompts["subtitles"] == "Extract the subtitles from the image."
    assert prompts["spotting"] == (
        "Detect and recognize text in the image, and output the text coordinates in a formatted manner."
    )
    assert prompts["doc_parse"] == (
        "Extract all information from the main body of the document image and represent it in markdown format, "
        "ignoring headers and footers. Tables should be expressed in HTML format, formulas in the document should be "
        "represented using LaTeX format, and the parsing should be organized according to the reading order."
    )


def test_paddleocr_vl_prompts_keep_their_colons(catalogue: Catalogue) -> None:
    assert set(catalogue.get("paddleocr-vl-1.6").prompts.values()) == {
        "OCR:", "Table Recognition:", "Formula Recognition:", "Chart Recognition:", "Spotting:", "Seal Recognition:",
    }  # fmt: skip


def test_sampling_and_limits_are_the_publishers(catalogue: Catalogue) -> None:
    new, old = catalogue.get("hunyuanocr-1.5"), catalogue.get("hunyuanocr-1.0")
    assert new.sampling and old.sampling and new.pixels and old.pixels and new.repetition and old.repetition
    assert (new.sampling.temperature, new.sampling.top_p, new.sampling.top_k) == (0.0, 1.0, -1)
    assert (old.sampling.temperature, old.sampling.top_p, old.sampling.top_k) == (0.0, 0.95, 1)
    assert (new.sampling.repetition_penalty, old.sampling.repetition_penalty) == (1.08, 1.0)
    assert (new.pixels.minimum, new.pixels.maximum, new.pixels.factor) == (512**2, 4096**2, 32)
    assert (old.pixels.minimum, old.pixels.maximum, old.pixels.factor) == (512**2, 2048**2, 32)
    rule = new.repetition
    assert (rule.start, rule.every, rule.window, rule.largest_unit, rule.repeats) == (4000, 1000, 8000, 256, 8)
    assert (rule.clean_start, rule.clean_repeats) == (2000, 10)
    assert (old.repetition.clean_start, old.repetition.clean_repeats) == (8000, 10)
    assert old.seed == 1234


def test_paddleocr_vl_pixels_are_those_of_its_tasks(catalogue: Catalogue) -> None:
    paddle = catalogue.get("paddleocr-vl-1.6")
    assert paddle.pixels and (paddle.pixels.minimum, paddle.pixels.maximum) == (130 * 28 * 28, 1280 * 28 * 28)
    assert paddle.offers[Task.SPOTTING].maximum_pixels == 2048 * 28 * 28
    assert paddle.offers[Task.SPOTTING].double_below == 1500


def test_a_largest_page_and_its_answer_fit_the_context(catalogue: Catalogue) -> None:
    """One token per factor×factor pixels; otherwise every large page is refused by the server."""
    for manifest in catalogue.manifests.values():
        for memory in manifest.serve.memory if manifest.serve else ():
            assert manifest.pixels and manifest.sampling
            context = int(memory.arguments[memory.arguments.index("--max-model-len") + 1])
            assert manifest.pixels.maximum // manifest.pixels.factor**2 + manifest.sampling.max_tokens <= context


@pytest.mark.parametrize(
    ("model", "path", "size", "sha256"),
    [
        ("hunyuanocr-1.5", "model.safetensors", 2239932512, "632a1e082c4dd5a3284cf1ffcdba2fda"),
        ("hunyuanocr-1.5", "config.json", None, "cc34ab90d0b873a1832c06e0f3fe127b"),
        ("hunyuanocr-1.5", "transformers/config.json", 2233, "14aeb192e94fbe9c3ec71fb7ed003955"),
        ("hunyuanocr-1.5", "LICENSE", 16277, "745adaa59575d2a98b64fd6d3452537b"),
        ("hunyuanocr-1.0", "model-00004-of-00004.safetensors", 637958736, "fd82d09583ee16037f04532808d0f003"),
        ("paddleocr-vl-1.6", "model.safetensors", 1917255968, "85a479d506a11e724e7285d395c551be"),
        ("paddleocr-vl-1.6", "layout/inference.onnx", 130502049, "45bf71750b00739a41fc209f132eb104"),
    ],
)  # fmt: skip
def test_files_are_pinned_to_what_was_published(
    catalogue: Catalogue, model: str, path: str, size: int | None, sha256: str
) -> None:
    file = next(file for file in catalogue.get(model).files() if file.to == path)
    assert file.size == size
    assert (file.sha256 or "").startswith(sha256)


def test_the_default_is_pinned_to_the_revision_that_vllm_0_19_reads(catalogue: Catalogue) -> None:
    repository = catalogue.default.repositories[0]
    assert repository.revision == "449e7d471a8a1ef5bd5d652e4881183d7252cbc7"
    assert repository.name == "tencent/HunyuanOCR"


def test_all_weights_and_code_of_all_models_have_a_hash_and_weights_a_size(catalogue: Catalogue) -> None:
    for manifest in catalogue.manifests.values():
        for file in manifest.all_files():
            assert file.pinned or file.role not in (Role.WEIGHTS, Role.CODE), (manifest.id, file.path)
            assert file.size or file.role is not Role.WEIGHTS, (manifest.id, file.path)


def test_licences_name_their_territories(catalogue: Catalogue) -> None:
    for model in ("hunyuanocr-1.5", "hunyuanocr-1.0"):
        licence = catalogue.get(model).licence
        assert licence.accept and licence.excluded == ("EU", "GB", "KR")
        assert licence.notice and "Copyright © 2025 Tencent" in licence.notice
    assert catalogue.get("paddleocr-vl-1.6").licence.excluded == ()


def test_an_empty_system_message_is_sent_where_the_authors_send_one(catalogue: Catalogue) -> None:
    systems = {manifest.id: manifest.chat.system for manifest in catalogue.manifests.values() if manifest.chat}
    assert systems == {"hunyuanocr-1.5": "", "hunyuanocr-1.0": "", "paddleocr-vl-1.6": None, "glm-ocr": None}


def test_memory_classes_fit_what_cards_report(catalogue: Catalogue) -> None:
    serve = catalogue.default.serve
    assert serve and [entry.gb for entry in serve.memory] == [12, 16, 24, 48]
    found = {gib: serve.for_memory(gib) for gib in (7.8, 11.9, 15.6, 22.5, 23.99, 47.5, 139.8)}
    assert {gib: entry.gb if entry else None for gib, entry in found.items()} == {
        7.8: None, 11.9: 12, 15.6: 16, 22.5: 24, 23.99: 24, 47.5: 48, 139.8: 48,
    }  # fmt: skip


def test_a_card_that_will_not_do_is_told_why(catalogue: Catalogue) -> None:
    hardware = catalogue.default.hardware
    assert hardware
    assert hardware.lacks(550, (8, 9), 23.99) is None
    assert hardware.lacks(550, (8, 6), 11.9) is None
    assert hardware.lacks(580, (12, 0), 15.9) is None
    assert "compute capability 7.5, but 8.0" in (hardware.lacks(550, (7, 5), 16) or "")
    assert "driver is 470, but a card of compute capability 8.9 needs 525" in (hardware.lacks(470, (8, 9), 24) or "")
    assert "driver is 550, but a card of compute capability 12.0 needs 575" in (hardware.lacks(550, (12, 0), 24) or "")
    assert "has 7.8 GiB of memory, but 12 GB" in (hardware.lacks(550, (8, 9), 7.8) or "")


def test_nothing_but_paddles_own_listed_code_is_trusted(catalogue: Catalogue) -> None:
    trusting = {
        manifest.id
        for manifest in catalogue.manifests.values()
        if manifest.serve and "--trust-remote-code" in manifest.serve.arguments
    }
    assert trusting == {"paddleocr-vl-1.6"}
    code = [file for file in catalogue.get("paddleocr-vl-1.6").files() if file.role is Role.CODE]
    assert len(code) == 4


def test_a_clients_specification_comes_from_the_manifest(catalogue: Catalogue) -> None:
    spec = catalogue.default.spec()
    assert (spec["id"], spec["served"], spec["system"]) == ("hunyuanocr-1.5", "tencent/HunyuanOCR", "")
    assert spec["prompts"][Task.TABLE] == "把图中的表格解析为HTML。"
    assert set(spec["prompts_to"]) == {"en", "zh"}
    assert [retry.temperature for retry in spec["retries"]] == [0.2, 0.5]
    with pytest.raises(UsageError, match="not a model that a server offers"):
        catalogue.get("pp-ocrv6-small").spec()


def test_the_layout_stage_reads_every_class_somehow(catalogue: Catalogue) -> None:
    layout = catalogue.get("paddleocr-vl-1.6").layout
    assert layout and len(layout.classes) == len(set(layout.classes)) == 25
    assert layout.columns[-1] == "order"


def test_adding_a_model_is_adding_one_file(tmp_path: Path) -> None:
    for path in REPOSITORY.glob("*.toml"):
        write_manifest(tmp_path, path.read_text(encoding="utf-8"), path.name)
    write_manifest(tmp_path, manifest_text().replace('status = "default"', 'status = "offered"'))
    added = catalogues.read(tmp_path)
    assert added.get("tiny").offers[Task.PARSE].answer is Answer.MARKDOWN
    assert added.get("tiny") in added.offering(Task.PARSE)


def _changed(old: str, new: str) -> str:
    text = manifest_text()
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_changed("schema = 1", "schema = 2"), "schema must be 1"),
        (_changed("schema = 1\n", ""), "schema is missing"),
        (_changed("schema = 1", "schema = true"), "schema must be a whole number"),
        (_changed('title = "Tiny"', 'titel = "Tiny"'), "title is missing"),
        (_changed('title = "Tiny"', 'title = "Tiny"\ncolour = "red"'), "colour is not a known key"),
        (_changed('title = "Tiny"', 'title = ""'), "title is empty"),
        (_changed('id = "tiny"', 'id = "../tiny"'), "id is '../tiny', but must be small letters"),
        (_changed('status = "default"', 'status = "best"'), "status is 'best', but must be one of: default"),
        (_changed('engines = ["vllm"]', 'engines = ["warp"]'), "engines must name some of: vllm"),
        (_changed("0123456789abcdef0123456789abcdef01234567", "main"), "repository 1: revision is 'main'"),
        (_changed('name = "somebody/Tiny"', ""), "repository 1: name or package must be given"),
        (_changed('role = "weights"', 'role = "wights"'), "file 3: role is 'wights'"),
        (_changed("model.safetensors", "model.bin"), "weights are taken only as .safetensors or .onnx"),
        (_changed('role = "code"', 'role = "config"'), ".py files, and only they, are code"),
        (_changed('"config.json"', '"../config.json"'), "not a plain path below"),
        (_changed('"config.json"', '"/etc/passwd"'), "not a plain path below"),
        (_changed('"config.json"', '"a//b.json"'), "not a plain path below"),
        (_changed('text = "LICENSE"', 'text = "NOTICE"'), "which is not among the files"),
        (_changed('text = "LICENSE"\naccept = false', "accept = true"), "must be accepted, but names no text"),
        (_changed('order = ["image", "text"]', 'order = ["text"]'), "order must name image and text"),
        (_changed("max_tokens = 64", "max_tokens = 0"), "max_tokens is 0, but must be at least 1"),
        (_changed("max_tokens = 64", "max_tokens = 64\ntemprature = 1.0"), "sampling: temprature is not a known key"),
        (_changed("max_tokens = 64", 'max_tokens = 64\ntemperature = "hot"'), "temperature must be a number"),
        (_changed("max_tokens = 64", "max_tokens = 64\ntemperature = nan"), "temperature is nan, but must be from 0"),
        (_changed("max_tokens = 64", "max_tokens = 64\ntop_p = 7"), "top_p is 7.0, but must be from 0.01 to 1"),
        (_changed("max_tokens = 64", "max_tokens = 64\nrepetition_penalty = 0"), "repetition_penalty is 0.0"),
        (_changed("[sampling]\nmax_tokens = 64", ""), "sampling is missing"),
        (_changed('prompt = "read"', 'prompt = "raed"'), "names 'raed', which is not among the prompts"),
        (_changed('answer = "markdown"', 'answer = "poem"'), "answer is 'poem'"),
        (_changed("[tasks.parse]", "[tasks.paint]"), "paint is not a task"),
        (_changed("[tasks.parse]", "[tasks.extract]"), "must hold {keys} for extract"),
        (_changed("[tasks.parse]", "[tasks.translate]"), "belongs to translate, and translate needs it"),
        (_changed('answer = "markdown"', 'answer = "markdown"\nlayout = true'), "layout is missing"),
        (_changed("[chat]", "[[serve.memory]]\ngb = 12\nin_flight = 0\n[chat]"), "in_flight is 0"),
        (_changed("[chat]", "[hardware]\ndriver = 525\ncapability = '89'\n[chat]"), "looks like 8.9"),
        (_changed("[chat]", "[pixels]\nminimum = 9\nmaximum = 4\nfactor = 1\n[chat]"), "minimum is above maximum"),
        (manifest_text(model_files() | {"CONFIG.json": b"{}"}), "two files that would be stored as 'config.json'"),
        ("schema = [", "cannot be read as TOML"),
    ],
)  # fmt: skip
def test_a_wrong_manifest_is_refused_with_its_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(write_manifest(tmp_path, text))
    assert caught.value.message.startswith("tiny.toml: ")
    assert message in caught.value.message
    assert caught.value.code == "manifest"


@pytest.mark.parametrize("key", ["size", "sha256", "to", "extra", "revision"])
def test_a_misspelt_key_of_a_file_is_refused(tmp_path: Path, key: str) -> None:
    good = entry("config.json", b"{}")
    text = manifest_text().replace(
        "[licence]", good.replace("config.json", "other.json") + f'{key}s = "x"\n\n[licence]'
    )
    with pytest.raises(UsageError, match=f"{key}s is not a known key"):
        load(write_manifest(tmp_path, text))


def test_two_manifests_with_one_id_or_two_defaults_are_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest_text())
    write_manifest(tmp_path, manifest_text(), "copy.toml")
    with pytest.raises(UsageError, match="the same id"):
        catalogues.read(tmp_path)
    write_manifest(tmp_path, manifest_text().replace('id = "tiny"', 'id = "other"'), "copy.toml")
    with pytest.raises(UsageError, match="are the default"):
        catalogues.read(tmp_path)


def test_an_unknown_model_names_the_known_ones(catalogue: Catalogue) -> None:
    with pytest.raises(UsageError, match="no model 'hunyuan'") as caught:
        catalogue.get("hunyuan")
    assert "hunyuanocr-1.5" in caught.value.hint


def test_a_folder_without_manifests_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No model manifests") as caught:
        catalogues.read(tmp_path)
    assert "--manifests" in caught.value.hint


def test_the_manifests_beside_the_checkout_are_found() -> None:
    assert catalogues.find() == REPOSITORY


def test_serve_arguments_that_are_json_are_json(catalogue: Catalogue) -> None:
    for manifest in catalogue.manifests.values():
        arguments = manifest.serve.arguments if manifest.serve else ()
        for argument in arguments:
            if argument.startswith("{"):
                assert json.loads(argument)["image"] == 1
