"""The error tree: closed codes, a sentence and a hint for each."""

from __future__ import annotations

import pytest

from inkstick.errors import BLOCKED_CODES, DOCUMENT_CODES, Blocked, DocumentError, by_code


@pytest.mark.parametrize("code", [*DOCUMENT_CODES, *BLOCKED_CODES])
def test_each_code_has_one_class_a_sentence_and_what_to_do(code: str) -> None:
    error = by_code(code)
    assert error.code == code
    assert isinstance(error, DocumentError if code in DOCUMENT_CODES else Blocked)
    assert error.message.endswith(".")
    assert error.hint.endswith(".")
    assert error.as_json() == {"code": code, "message": error.message, "hint": error.hint}


def test_the_codes_are_the_contract_s() -> None:
    documents = (
        "encrypted damaged empty too_large too_complex unsupported incomplete timeout archive_unsafe page_failed"
    )
    assert set(DOCUMENT_CODES) == {*documents.split(), "internal"}
    assert set(BLOCKED_CODES) == {"engine_down", "disk_full", "unavailable"}


def test_an_unknown_code_is_our_own_fault() -> None:
    assert by_code("strange").code == "internal"
