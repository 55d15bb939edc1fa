"""Sentences that several screens share, and those that the scripts need, in the language of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inkstick.errors import BLOCKED_CODES, DOCUMENT_CODES, by_code
from inkstick.web import language, words
from inkstick.web.language import Translate

SCRIPT: Mapping[str, str] = {
    "of": "{done} of {of}",
    "upload": "Upload of {name}",
    "broken": "The connection broke off. It goes on by itself.",
    "unreadable": "This file cannot be read any more. Choose it again.",
    "cancel": "Stop",
    "cancels": "Stop the upload of {name}",
    "strip": "{read} read, {warn} to look at, {failed} failed, {waiting} waiting",
    "choose": "Choose {name}",
    "chosen": "{n} chosen",
    "sent": "{done} of {of} files sent",
    "page": "{done} of {of} page",
    "pages": "{done} of {of} pages",
    "lost": "The service did not answer. Try again.",
}
"""What the scripts say, by the name that they use."""


def reason(code: str) -> tuple[str, str]:
    """An error code in words: what it is, and what to do."""
    error = by_code(code)
    return error.default_message, error.default_hint


REASONS: Mapping[str, tuple[str, str]] = {code: reason(code) for code in (*DOCUMENT_CODES, *BLOCKED_CODES)}


def script(_: Translate, code: str) -> dict[str, Any]:
    """The words of the page's language for its scripts. `errors`: from the English sentence of an error, which may hold
    values as ``{name}``."""
    sentences = [*(text for pair in REASONS.values() for text in pair), *language.errors(code)]
    return {
        "states": {state: _(text) for state, text in words.STATES.items()},
        "flags": {flag: [_(name), _(meaning)] for flag, (name, meaning) in words.FLAGS.items()},
        "warn": list(words.WARNING_FLAGS),
        "errors": {text: _(text) for text in sentences if _(text) != text},
        "texts": {name: _(text) for name, text in SCRIPT.items()},
    }
