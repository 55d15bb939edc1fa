"""What a folder or a request may ask for."""

from __future__ import annotations

import pytest

from inkstick.document import Task
from inkstick.errors import UsageError
from inkstick.profile import Format, Originals, Priority, Profile, merge, parse_toml


def test_wishes_replace_what_is_inherited_key_by_key() -> None:
    base = merge(Profile(), {"originals": "keep", "priority": "bulk"})
    profile = parse_toml('task = "text"\nformats = ["md", "md", "csv"]\n', base, where=".inkstick.toml")
    assert (profile.task, profile.originals, profile.priority) == (Task.TEXT, Originals.KEEP, Priority.BULK)
    assert profile.formats == (Format.MD, Format.CSV, Format.JSON), "the record is always written"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("task = ", "not valid TOML"),
        ('tsak = "text"', "unknown key 'tsak'"),
        ('task = "dance"', "task cannot be 'dance'"),
        ('task = "extract"', "needs keys"),
        ('priority = "now"', "priority cannot be 'now'"),
        ('formats = "md"', "must be a list of words"),
        ('formats = ["exe"]', "formats cannot be 'exe'"),
        ('to = "fr"', "to cannot be 'fr'"),
        ("passwords = [1]", "must be a list of words"),
        ("prompt = 7", "prompt must be a text"),
    ],
)
def test_a_wrong_wish_is_named_with_what_it_may_be(toml: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_toml(toml, Profile(), where="inbox/.inkstick.toml")
    assert said in caught.value.message
    assert caught.value.message.startswith("inbox/.inkstick.toml: ")
    assert caught.value.hint


def test_a_profile_survives_its_json() -> None:
    wishes = {"task": "extract", "keys": ["a", "b"], "passwords": ["x"], "text_layer": "force", "prompt": "Read."}
    profile = merge(Profile(priority=Priority.PERSON), wishes)
    assert merge(Profile(), profile.as_json()) == profile


def test_the_reading_key_changes_with_what_changes_the_text_and_with_nothing_else() -> None:
    base = Profile()
    same = merge(base, {"formats": ["txt"], "originals": "keep", "priority": "bulk"})
    others = [{"task": "text"}, {"engine": "rapidocr"}, {"text_layer": "skip"}, {"prompt": "Read."}, {"to": "zh"}]
    assert same.reading_key() == base.reading_key()
    assert len({merge(base, wishes).reading_key() for wishes in others} | {base.reading_key()}) == len(others) + 1
