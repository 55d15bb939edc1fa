"""Which text layers are worth trusting."""

from __future__ import annotations

import pytest

from inkstick.pages.layer import Facts, judge
from inkstick.pages.view import TextLayer, Word

ENGLISH = [
    "The",
    "committee",
    "met",
    "on",
    "Tuesday",
    "to",
    "consider",
    "the",
    "report",
    "of",
    "the",
    "auditors",
    "for",
    "the",
    "year",
    "2024.",
]
CHINESE = [
    "使用价值是商品的自然属性，交换价值首先表现为一种使用价值同另一种使用价值相交换的量的关系或比例。这个比例随着时间和地点而变化。"
]
VISIBLE = Facts(visible=100, invisible=0, cover=0.0)


def layer(words: list[str], facts: Facts = VISIBLE) -> TextLayer:
    return judge([Word(text, (0, 0, 10, 10)) for text in words], facts)


@pytest.mark.parametrize("words", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_ordinary_text_is_good_and_born_digital(words: list[str]) -> None:
    found = layer(words)
    assert found.good
    assert found.born_digital


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["Page", "7"], "short"),
        ([word.replace("e", "\ufffd") for word in ENGLISH], "unmapped"),
        ([word.replace("t", "\ue012") for word in ENGLISH], "unmapped"),
        ([word + "(cid:12)" for word in ENGLISH], "unmapped"),
        (["!#$%&/()=?*+'<>;:[]{}"] * 6, "symbols"),
        ([word + "!!!!!!!" for word in ENGLISH], "punctuation"),
        ([word.replace("e", "\u0435").replace("o", "\u043e") for word in ENGLISH], "mixed_scripts"),
    ],
)
def test_broken_text_is_not_good_and_says_why(words: list[str], reason: str) -> None:
    found = layer(words)
    assert not found.good
    assert found.reason == reason


def test_dot_leaders_are_not_garbage() -> None:
    assert layer([*ENGLISH, "Contents", "." * 40, "7", "Index", "." * 40, "9"]).good


def test_an_invisible_layer_is_an_earlier_ocr() -> None:
    found = layer(ENGLISH, Facts(visible=0, invisible=100, cover=1.0))
    assert found.reason == "earlier_ocr"
    assert not found.born_digital


def test_visible_text_over_a_full_page_image_is_not_born_digital() -> None:
    assert not layer(ENGLISH, Facts(visible=100, invisible=0, cover=0.95)).born_digital
