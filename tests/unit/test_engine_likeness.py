"""Whose answer is it: a few characters may differ, another page's text may not pass. Both directions."""

from __future__ import annotations

import asyncio
import random

import pytest

from inkstick.engines.canary import Verdict, pages, prove, still
from inkstick.engines.likeness import Sort, digits_changed, judge

SERIAL = [" ".join(page.text.split()) for page in pages()]


@pytest.mark.parametrize("number", range(len(SERIAL)))
def test_an_answer_is_its_own_page_s_and_no_other_page_s(number: int) -> None:
    assert judge(SERIAL[number], number, SERIAL).sort is Sort.SAME
    for other in range(len(SERIAL)):
        if other != number:
            assert judge(SERIAL[other], number, SERIAL).sort is Sort.WRONG


def test_one_other_character_is_close_wherever_it_is_and_a_digit_is_told() -> None:
    for number, text in enumerate(SERIAL):
        for place, character in enumerate(text):
            changed = text[:place] + ("7" if character.isdigit() and character != "7" else "x") + text[place + 1 :]
            judged = judge(changed, number, SERIAL)
            assert judged.sort is Sort.CLOSE, (text, changed, judged)
            assert (judged.digits > 0) == character.isdigit()


def test_another_page_s_text_with_a_few_other_characters_is_still_caught() -> None:
    chance = random.Random(7)
    for number, text in enumerate(SERIAL):
        for _ in range(20):
            place = chance.randrange(len(text))
            changed = text[:place] + "x" + text[place + 1 :]
            for own in range(len(SERIAL)):
                if own != number:
                    assert judge(changed, own, SERIAL).sort is Sort.WRONG


@pytest.mark.parametrize("half", [0.3, 0.5])
def test_text_of_two_pages_and_garbage_are_caught(half: float) -> None:
    one, two = SERIAL[0], SERIAL[1]
    cut = round(len(one) * (1 - half))
    assert judge(one[:cut] + two[cut:], 0, SERIAL).sort is Sort.WRONG
    for garbage in ("", "the the the the the the", "\ufffd" * 20, one[: len(one) // 2]):
        assert judge(garbage, 0, SERIAL).sort is Sort.WRONG


def test_digits_that_differ_are_counted() -> None:
    assert digits_changed("Total 1234", "Total 1284") == 1
    assert digits_changed("Total 1234", "Total 12") == 2
    assert digits_changed("Total 1234", "T0tal 1234") == 1
    assert digits_changed("Total", "total") == 0


async def _proved(kind: str) -> Verdict:
    """An engine whose answers at more than two in flight are of one `kind`."""
    inside, asked = 0, 0

    async def ask(number: int) -> str:
        nonlocal inside, asked
        inside += 1
        asked += 1
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            crowd = inside > 2
        finally:
            inside -= 1
        text = SERIAL[number]
        if not crowd:
            return text
        return {"rounding": text[:2] + "8" + text[3:], "mixed": SERIAL[(number + 1) % len(SERIAL)]}[kind]

    return await prove(ask, 8)


async def test_rounding_does_not_lower_the_pages_in_flight_and_is_told() -> None:
    verdict = await _proved("rounding")
    assert verdict.in_flight == 8
    assert verdict.close > 0
    assert "a few characters" in verdict.detail


async def test_mixed_up_pages_do() -> None:
    verdict = await _proved("mixed")
    assert verdict.in_flight == 2
    assert verdict.wrong > 0
    assert "another page's text" in verdict.detail


def test_a_test_page_may_be_read_a_little_otherwise_later_and_not_much() -> None:
    assert still(SERIAL[0], SERIAL[0][:-1] + "x")
    assert not still(SERIAL[0], SERIAL[1])
    assert not still(SERIAL[0], "\ue000" * 30)
