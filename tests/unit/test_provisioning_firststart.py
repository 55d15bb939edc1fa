"""The first start, asked on the screen or answered by a file: every way through, and every wrong turn."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkstick_provisioning import console, firststart, hardware, language, terminal, volume
from inkstick_provisioning.faults import UnattendedError, WrongKey
from inkstick_provisioning.firststart import Dialogue, Field, Situation, Step, answer, begin, screen
from inkstick_provisioning.language import clean, cut, width, wrap
from inkstick_provisioning.moment import Clock
from inkstick_provisioning.network import Mode, Port
from inkstick_provisioning.unattended import Lid, Usb, Wishes, parse
from inkstick_provisioning.volume import Offer, Refusal, State, Survey, Where

STICK = Offer(Where.STICK, State.FREE, "/dev/sda", 60 * 10**9, "Kingston DataTraveler, 64 GB")
DISK = Offer(Where.DISK, State.FREE, "/dev/sdb", 256 * 10**9, "Samsung T7, 256 GB")
MEMORY = Offer(Where.MEMORY, State.FREE)
LOCKED = Offer(Where.STICK, State.LOCKED, "/dev/sda3", 60 * 10**9, "Kingston DataTraveler, 64 GB")
BLANK = replace(LOCKED, state=State.BLANK)
FOREIGN = "It holds data of somebody else (BitLocker). Inkstick never touches it."
WINDOWS = Refusal("/dev/nvme0n1", "SAMSUNG, 512 GB", FOREIGN)
GOOD, BAD = Clock(2e9, 1e9, True), Clock(5.0, 1e9, False, 2.5e9)
NEW = Situation(Survey((), (STICK, MEMORY), (WINDOWS,)), GOOD, (Port("eth0"),))
KNOWN = Situation(Survey((LOCKED,), (MEMORY,), ()), GOOD, (Port("eth0"),))
EARLY = "That is before this image was built or last used."
TWO = Survey((), (DISK, replace(DISK, device="/dev/sdc"), MEMORY), ())
PASS = "four plain words here"


def go(situation: Situation, *typed: str) -> Dialogue:
    dialogue = begin(situation)
    for line in typed:
        dialogue = answer(dialogue, line)
    return dialogue


@pytest.mark.parametrize(
    ("situation", "typed", "offer", "mode"),
    [
        (NEW, ["1", "1", "1", PASS, PASS, "1"], STICK, Mode.DIRECT),
        (NEW, ["2", "２", "1", PASS, PASS, "1"], STICK, Mode.JOIN),  # full-width two
        (NEW, ["1", "3", "2", "1"], MEMORY, Mode.NONE),
        (replace(NEW, ports=()), ["1", "2", "1"], MEMORY, Mode.NONE),  # nobody was asked
        (replace(NEW, clock=BAD), ["1", "1", "2026-11-20 14:05", "1", PASS, PASS, "1"], STICK, Mode.DIRECT),
        (KNOWN, ["1", "1", PASS], LOCKED, Mode.DIRECT),
        (KNOWN, ["1", "1", "", "1", "1"], MEMORY, Mode.DIRECT),  # the passphrase is forgotten: go on in memory
        (replace(NEW, survey=Survey((BLANK,), (MEMORY,), ())), ["1", "1", "1", PASS, PASS, "1"], BLANK, Mode.DIRECT),
        (NEW, ["1", "1", "1", PASS, "other", PASS, PASS, "1"], STICK, Mode.DIRECT),  # mistyped, then right
        (NEW, ["1", "1", "1", PASS, PASS, "2", "2", "1"], MEMORY, Mode.DIRECT),  # "no, choose again"
        (NEW, ["1", "1", "1", "", "2", "1"], MEMORY, Mode.DIRECT),  # back from the passphrase
    ],
)
def test_every_way_ends_with_a_decision(situation: Situation, typed: list[str], offer: Offer, mode: Mode) -> None:
    dialogue = go(situation, *typed)
    assert dialogue.step is Step.WORKING
    assert dialogue.offer == offer
    assert dialogue.wishes.network is mode
    assert dialogue.secret == ("" if offer is MEMORY else PASS)


@pytest.mark.parametrize(
    ("situation", "typed", "step", "problem"),
    [
        (NEW, ["3"], Step.LANGUAGE, "Type one of the numbers."),
        (NEW, ["x"], Step.LANGUAGE, "Type one of the numbers."),
        (NEW, [""], Step.LANGUAGE, "Type one of the numbers."),
        (NEW, ["1", "1", "9"], Step.WHERE, "Type one of the numbers."),
        (NEW, ["1", "4"], Step.NETWORK, "Type one of the numbers."),
        (NEW, ["1", "1", "1", "short"], Step.PASSPHRASE, "A passphrase has at least 8 letters."),
        (NEW, ["1", "1", "1", "aaaaaaaaaaaa"], Step.PASSPHRASE, "A passphrase has at least 4 different letters."),
        (NEW, ["1", "1", "1", PASS, "x"], Step.PASSPHRASE, "The two were not the same. Try again."),
        (replace(NEW, clock=BAD), ["1", "2", "today"], Step.CLOCK, "Type it like this: 2026-11-20 14:05"),
        (replace(NEW, clock=BAD), ["1", "2", "1999-01-01 00:00"], Step.CLOCK, EARLY),
        (replace(NEW, clock=BAD), ["1", "2", "2062-11-20 14:05"], Step.CLOCK, "That is too far ahead."),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_explained_and_changes_nothing(
    situation: Situation, typed: list[str], step: Step, problem: str
) -> None:
    dialogue = go(situation, *typed)
    assert (dialogue.step, dialogue.problem) == (step, problem)
    assert screen(dialogue).problem == problem


def test_work_that_failed_leads_back_to_a_question_with_the_reason() -> None:
    wrong = firststart.failed(go(KNOWN, "1", "1", "wrong words"), "This passphrase does not open the data volume.")
    assert (wrong.step, wrong.secret) == (Step.UNLOCK, "")
    assert "passphrase" in screen(wrong).problem
    full = firststart.failed(go(NEW, "1", "1", "1", PASS, PASS, "1"), "systemd-repart failed")
    assert full.step is Step.WHERE


@pytest.mark.parametrize("state", [State.NEW, State.LOCKED])
def test_work_that_came_as_far_as_a_volume_leads_to_its_passphrase(state: State) -> None:
    """A new one on the stick whose last steps failed: the other places offer that stick no more."""
    working = go(NEW, "1", "1", "1", PASS, PASS, "1")
    begun = replace(LOCKED, state=state)
    after = replace(working, situation=replace(NEW, survey=Survey((begun,), (MEMORY,), ())))
    failed = firststart.failed(after, "mkfs.ext4 failed")
    assert failed.step is Step.UNLOCK
    assert answer(failed, PASS).offer == begun


def test_what_to_do_is_said_with_what_is_wrong() -> None:
    wrong = firststart.failed(go(KNOWN, "2", "1", "wrong words"), WrongKey.default_message, WrongKey.default_hint)
    assert "键盘布局" in screen(wrong).problem, "the console's is American, a browser's may be another"
    assert screen(answer(wrong, "")).problem == ""


def test_a_new_volume_s_recovery_key_is_shown_once_and_has_to_be_acknowledged() -> None:
    key = "-".join(["ABCDE"] * 8)
    shown = firststart.finished(go(NEW, "1", "1", "1", PASS, PASS, "1"), key)
    assert shown.step is Step.RECOVERY and key not in repr(shown)
    page = screen(shown)
    assert page.code == key and key in "-".join(page.lines)
    assert answer(shown, "").step is Step.RECOVERY, "Enter alone is not enough"
    done = answer(shown, "1")
    assert (done.step, done.recovery) == (Step.DONE, "")
    assert firststart.finished(go(KNOWN, "1", "1", PASS)).step is Step.DONE


def test_at_a_later_start_only_the_passphrase_is_asked_and_a_clock_that_is_wrong() -> None:
    wishes = Wishes(language="zh", where=Where.STICK, network=Mode.JOIN)
    dialogue = firststart.again(KNOWN, wishes)
    assert dialogue.step is Step.UNLOCK and "口令" in screen(dialogue).title + screen(dialogue).lines[1]
    assert answer(dialogue, PASS).wishes == wishes
    assert firststart.again(replace(KNOWN, clock=BAD), wishes).step is Step.CLOCK


def test_a_volume_that_is_there_is_never_offered_for_a_new_one() -> None:
    dialogue = go(KNOWN, "1", "1", "")
    assert dialogue.step is Step.WHERE
    assert [place.where for place in firststart.places(dialogue.situation.survey)] == [Where.MEMORY]


def test_of_several_volumes_each_can_be_opened() -> None:
    """Another Inkstick's stick beside this one, or one that was made for that: its passphrase is not the person's."""
    other = replace(LOCKED, where=Where.DISK, device="/dev/sdb3", text="SanDisk, 32 GB")
    both = replace(KNOWN, survey=Survey((LOCKED, other), (MEMORY,), ()))
    assert go(both, "1", "1", PASS).offer == LOCKED
    asked = go(both, "1", "1", "")
    assert [*screen(asked).choices[:2]] == [
        "Open the data volume of this stick (Kingston DataTraveler, 64 GB)",
        "Open the data volume that is on another disk: SanDisk, 32 GB",
    ]
    chosen = answer(asked, "2")
    assert chosen.step is Step.UNLOCK and "SanDisk" in screen(chosen).lines[0]
    working = answer(chosen, PASS)
    assert (working.step, working.offer, working.wishes.where) == (Step.WORKING, other, Where.DISK)
    wrong = firststart.failed(working, "This passphrase does not open the data volume.")
    assert wrong.step is Step.UNLOCK and "SanDisk" in screen(wrong).lines[0]
    assert answer(answer(wrong, ""), "3").step is Step.CONFIRM, "and memory"
    assert "Kingston" in screen(answer(answer(wrong, ""), "1")).lines[0]


def test_foreign_disks_are_named_as_untouched() -> None:
    assert any("SAMSUNG" in line and "stays as it is" in line for line in screen(go(NEW, "1", "1")).lines)


def test_a_passphrase_is_on_no_screen_and_in_no_repr() -> None:
    dialogue = begin(NEW)
    for line in ("1", "1", "1", PASS, PASS, "1"):
        dialogue = answer(dialogue, line)
        assert PASS not in repr(screen(dialogue)) + repr(dialogue)
    assert PASS not in repr(replace(Wishes(), passphrase=PASS))


def test_secrets_are_typed_unseen() -> None:
    assert screen(go(NEW, "1", "1", "1")).field is Field.SECRET
    assert screen(go(NEW, "1", "1", "1", PASS)).field is Field.SECRET
    assert screen(go(KNOWN, "1", "1")).field is Field.SECRET


@settings(deadline=None)
@given(st.lists(st.sampled_from(["", "1", "2", "3", "9", PASS, "x", "2026-11-20 14:05", "\x1b[A"]), max_size=14))
def test_whatever_is_typed_there_is_a_screen_and_a_way_on(typed: list[str]) -> None:
    for situation in (NEW, KNOWN, replace(NEW, clock=BAD, ports=())):
        dialogue = go(situation, *typed)
        shown = screen(dialogue)
        assert shown.title
        assert shown.choices or shown.field is not Field.CHOICE
        assert dialogue.step is not Step.WORKING or dialogue.offer is not None


# ---- the file

WHOLE = """
language = "zh"
name = "Archive-2"
[data]
where = "disk"
disk = "/dev/disk/by-id/usb-Samsung_T7"
passphrase = "four plain words here"
[network]
mode = "join"
[network.ports]
eth1 = "direct"
[usb]
read = "inbox"
[power]
lid = "off"
"""


def test_a_whole_file_is_understood() -> None:
    assert parse(WHOLE) == Wishes(
        "zh", Where.DISK, "/dev/disk/by-id/usb-Samsung_T7", PASS, "", Mode.JOIN, {"eth1": Mode.DIRECT}, Usb.INBOX,
        Lid.OFF, "archive-2",
    )  # fmt: skip
    assert parse("") == Wishes()
    assert parse("\ufefflanguage = 'en'\r\n") == Wishes()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("language = ", "Invalid value"),
        ("name = " + "9" * 5000, "digits"),  # Python's own limit
        ("name = " + "[" * 5000, "recursion"),
        ("langauge = 'en'", "langauge: there is no such setting; known here: language, name"),
        ("language = 'fr'", "language: 'fr' is not one of en, zh"),
        ("[data]\nwhere = 'cloud'", "data.where: 'cloud' is not one of stick, disk, memory"),
        ("[data]\nwhere = 3", "data.where: 3 is not one of"),
        ("data = 'stick'", "data: is a section, write [data]"),
        ("[data]\npassphrase = 'x'", "data.passphrase: A passphrase has at least 8 letters."),
        ("[data]\npassphrase = 12345678", "data.passphrase: must be a line of text in quotes"),
        ("[data]\nkey_file = '../../etc/shadow'", "data.key_file: must be the name of a file beside"),
        ("[data]\nwhere='disk'\ndisk = 'sda'", "data.disk: must be a path below /dev"),
        ("[data]\nwhere='disk'\ndisk = '/dev/../etc'", "data.disk: must be a path below /dev"),
        ("[data]\ndisk = '/dev/sdb'", 'data.disk: goes with where = "disk" only'),
        ("[data]\nwhere = 'memory'\nkey_file = 'k'", 'data: where = "memory" has no key'),
        ("[data]\nwhere='stick'\nkey_file = 'k'\npassphrase='four words here'", "a passphrase or a key_file, not both"),
        ("name = 'my laptop'", "name: may hold letters, digits and hyphens only"),
        ("[network.ports]\n'a b' = 'join'", "network.ports: not a port's name"),
        ("[usb]\nread = true", "usb.read: True is not one of"),
        ("x" * 70000, "larger than 64 KiB"),
    ],
)
def test_each_mistake_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(UnattendedError) as caught:
        parse(text)
    assert told in caught.value.message


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(UnattendedError) as caught:
        parse("language = 'fr'\nfoo = 1\n[usb]\nread = 1")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("survey", "wishes", "secret", "step", "offer"),
    [
        (NEW.survey, Wishes(where=Where.STICK), PASS, Step.WORKING, STICK),
        (KNOWN.survey, Wishes(where=Where.STICK), PASS, Step.WORKING, LOCKED),
        (NEW.survey, Wishes(where=Where.MEMORY), "", Step.WORKING, MEMORY),
        (NEW.survey, Wishes(), "", Step.NETWORK, None),  # only the language is answered
        (NEW.survey, Wishes(network_given=True), "", Step.WHERE, None),
        (NEW.survey, Wishes(where=Where.STICK), "", Step.NETWORK, None),  # no passphrase: a person is asked
        (NEW.survey, Wishes(where=Where.DISK), PASS, Step.NETWORK, None),  # no such disk
        (TWO, Wishes(where=Where.DISK, network_given=True), PASS, Step.WHERE, None),
        (NEW.survey, Wishes(where=Where.STICK), "1234", Step.NETWORK, None),  # no key for a new volume
        (KNOWN.survey, Wishes(where=Where.STICK), "1234", Step.WORKING, LOCKED),  # but one of an old volume, perhaps
        (TWO, Wishes(where=Where.DISK, disk="/dev/sdb"), PASS, Step.WORKING, DISK),
    ],
)  # fmt: skip
def test_the_file_decides_or_a_person_is_asked(
    survey: Survey, wishes: Wishes, secret: str, step: Step, offer: Offer | None
) -> None:
    dialogue = firststart.unattended(replace(NEW, survey=survey), wishes, secret)
    assert (dialogue.step, dialogue.offer) == (step, offer)
    assert dialogue.secret == (secret if step is Step.WORKING else "")


@pytest.mark.parametrize(
    ("language", "key_file", "said"),
    [("en", "inkstick.key", "key file that the settings name is not there"), ("zh", "inkstick.key", "密钥文件不存在"),
     ("en", "", "gives no passphrase")],
)  # fmt: skip
def test_a_key_file_that_is_not_there_is_not_called_unnamed(language: str, key_file: str, said: str) -> None:
    """Left on another stick, or called inkstick.key.txt."""
    wishes = Wishes(language, Where.STICK, key_file=key_file)
    assert said in screen(firststart.unattended(NEW, wishes, "")).problem


# ---- words


def sentences() -> set[str]:
    """Every sentence that the dialogue, the volume's reasons and the console say in a language."""
    found = set()
    for module in (firststart, hardware, console, terminal):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(node, ast.Call):
                continue
            if getattr(node.func, "id", getattr(node.func, "attr", "")) in ("say", "_wrong", "Advice"):
                for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and " " in argument.value:
                        found.add(argument.value)
    return found


def test_every_sentence_is_in_chinese_too() -> None:
    chinese = language.catalogue("zh")
    assert not sorted(sentences() - set(chinese))


def test_translations_keep_the_placeholders() -> None:
    for english, chinese in tomllib.loads((language.FOLDER / "zh.toml").read_text(encoding="utf-8")).items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", chinese)), english


def test_control_letters_reach_no_screen() -> None:
    assert clean("a\x1b[2J\x9b31m\u202eb\tc\r\nd\ue000\u200b") == "a[2J31mb c d"
    assert clean("x" * 1000) == "x" * 200
    assert language.say("en", "{place}", place="\x1b]0;evil\x07") == "]0;evil"


@settings(deadline=None)
@given(st.text(alphabet="ab 中文，。é", max_size=80), st.integers(6, 30))
def test_lines_are_never_wider_than_the_screen(text: str, columns: int) -> None:
    assert all(width(line) <= columns for line in wrap(text, columns))
    assert width(cut(text, columns)) <= columns
    assert "".join("".join(wrap(text, columns)).split()) == "".join(text.split())


def test_memory_is_the_last_choice() -> None:
    assert volume.survey(()).offers[-1].where is Where.MEMORY


def test_a_line_ends_before_an_opening_bracket_and_not_after_it() -> None:
    assert wrap("尚无文档; rapidocr 已就绪（pp-ocrv6-small）。", 28) == [
        "尚无文档; rapidocr 已就绪",
        "（pp-ocrv6-small）。",
    ]
