"""The first start as a dialogue: events in, screens out. Pure; the console and the page show the same screens.

Language → network → clock, if it is wrong → (unlock → clock, if the volume knows that it is behind | where documents
are kept → passphrase, twice → recovery key) → ready. The network comes early so that the rest can be answered in a
browser. A wrong answer changes nothing and is explained; an empty line goes back one step. A machine that nobody
answers works on in memory all the while, and what it took in then is carried onto the volume.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from inkstick_provisioning import moment
from inkstick_provisioning.language import LANGUAGES, clean, say
from inkstick_provisioning.moment import Clock
from inkstick_provisioning.network import Mode, Port
from inkstick_provisioning.unattended import Wishes, weakness
from inkstick_provisioning.volume import Offer, Refusal, State, Survey, Where, first_locked, locked, size


class Step(StrEnum):
    """Where the dialogue stands. WORKING: the choices are being carried out. DONE: nothing is asked any more."""

    LANGUAGE = "language"
    UNLOCK = "unlock"
    WHERE = "where"
    PASSPHRASE = "passphrase"  # noqa: S105
    AGAIN = "again"
    CLOCK = "clock"
    NETWORK = "network"
    CONFIRM = "confirm"
    WORKING = "working"
    RECOVERY = "recovery"
    DONE = "done"


class Field(StrEnum):
    """What is typed: a number of a choice, a line, or a line that is not shown."""

    CHOICE = "choice"
    LINE = "line"
    SECRET = "secret"  # noqa: S105
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Situation:
    """What the machine found about itself."""

    survey: Survey
    clock: Clock
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialogue:
    """`secret`: the passphrase, until it was used; `recovery`: the key that is shown once; repr leaves both out.
    `problem`, `advice`: English sentences, or "": why the last answer was not taken, and what to do.
    `opened`: the volume is open, and the clock alone is asked for. `clock`: as a person typed it."""

    situation: Situation
    step: Step = Step.LANGUAGE
    wishes: Wishes = field(default_factory=Wishes)
    offer: Offer | None = None
    secret: str = field(default="", repr=False)
    recovery: str = field(default="", repr=False)
    clock: float | None = None
    problem: str = ""
    advice: str = ""
    unattended: bool = False
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Screen:
    """What is shown, in the person's language. `choices` are numbered from 1. `problem`: why the last answer was not
    taken, "" otherwise. `code`: what is shown as a QR code beside it, or ""."""

    step: Step
    title: str
    lines: tuple[str, ...]
    choices: tuple[str, ...] = ()
    field: Field = Field.CHOICE
    problem: str = ""
    back: bool = False
    code: str = ""


def begin(situation: Situation, language: str | None = None) -> Dialogue:
    """With a language that is known already, its question is left out."""
    dialogue = Dialogue(situation)
    return _after_language(_language(dialogue, language)) if language in LANGUAGES else dialogue


def again(situation: Situation, wishes: Wishes) -> Dialogue:
    """A later start: the volume's header says what was chosen, and only its passphrase is asked (and the clock)."""
    return _after_network(replace(Dialogue(situation), wishes=wishes))


def answer(dialogue: Dialogue, typed: str) -> Dialogue:
    """After one line typed by a person; the same dialogue, with a `problem`, if it is no answer."""
    handler = _HANDLERS.get(dialogue.step)
    if handler is None:
        return dialogue
    line = typed.rstrip("\r\n")
    if not line.strip() and dialogue.step not in (Step.LANGUAGE, Step.RECOVERY):
        return back(dialogue)
    return handler(_to(dialogue, dialogue.step), line)


def back(dialogue: Dialogue) -> Dialogue:
    """One step back. From a volume that nobody can open: to the other places."""
    if dialogue.opened:
        return _to(dialogue, Step.WORKING)
    if dialogue.step is Step.UNLOCK:
        return _to(replace(dialogue, offer=None), Step.WHERE)
    if dialogue.step is Step.WHERE and first_locked(dialogue.situation.survey):
        return _to(dialogue, Step.UNLOCK)
    place = _BEFORE.get(dialogue.step, dialogue.step)
    if place is Step.NETWORK and not dialogue.situation.ports:
        place = Step.LANGUAGE
    return _to(replace(dialogue, secret=""), place)


def failed(dialogue: Dialogue, message: str, advice: str = "") -> Dialogue:
    """The work did not go through: back to where another answer helps, with the reason. That is the passphrase where
    there is a volume by now, however far it came (`dialogue.situation`: as it is after that)."""
    offer = dialogue.offer
    there = [now for now in locked(dialogue.situation.survey) if offer and _lies_on(now.device, offer.device)]
    open_it = bool(there) or (offer is not None and offer.locked)
    step, offer = (Step.UNLOCK, there[0] if there else offer) if open_it else (Step.WHERE, offer)
    return replace(dialogue, step=step, offer=offer, secret="", problem=message, advice=advice, unattended=False)


def _lies_on(device: str, disk: str) -> bool:
    """Whether it is that device, or a part of that disk."""
    return device == disk or re.fullmatch(rf"{re.escape(disk)}p?\d+", device) is not None


def finished(dialogue: Dialogue, recovery: str = "") -> Dialogue:
    """The work is done; a new volume's recovery key is shown before nothing is asked any more."""
    step = Step.RECOVERY if recovery else Step.DONE
    return replace(_to(dialogue, step), secret="", recovery=recovery, opened=False)


def late(dialogue: Dialogue, clock: Clock) -> Dialogue:
    """The volume is open, and was used later than this computer's clock says it is: what time is it?"""
    situation = replace(dialogue.situation, clock=clock)
    return replace(_to(dialogue, Step.CLOCK), situation=situation, secret="", offer=None, opened=True)


def unattended(situation: Situation, wishes: Wishes, secret: str) -> Dialogue:
    """The dialogue with the file's answers: WORKING if they are enough, else at the first question that is open. Where
    somebody is asked anyway, so is what the network is for, if the file does not say, and the time, if it is wrong."""
    dialogue = replace(begin(situation, wishes.language), wishes=wishes)
    asks = situation.ports and not wishes.network_given
    asked = _to(dialogue, Step.NETWORK) if asks else _after_network(dialogue)
    if wishes.where is None:
        return asked
    offer, problem = choose(situation.survey, wishes)
    if offer is None or (offer.where is not Where.MEMORY and not secret):
        lacks = "The key file that the settings name is not there, or is empty."
        told = lacks if wishes.key_file else "The file gives no passphrase and no key for the data volume."
        return replace(asked, problem=problem or told)
    if offer.state in (State.FREE, State.BLANK) and secret and (weak := weakness(secret)):  # of a key file
        return replace(asked, problem=weak)
    return replace(asked, secret=secret, offer=offer, step=Step.WORKING, unattended=True)


def choose(survey: Survey, wishes: Wishes) -> tuple[Offer | None, str]:
    """The place that the wishes mean (`disk`: as the kernel calls it now); None and a sentence where there is no such
    place, or more than one."""
    if wishes.where is Where.MEMORY:
        return survey.offers[-1], ""
    kept = [offer for offer in survey.found if offer.where is wishes.where]
    fresh = [offer for offer in survey.offers if offer.where is wishes.where]
    if wishes.disk:
        kept = [offer for offer in kept if _lies_on(offer.device, wishes.disk)]
        fresh = [offer for offer in fresh if offer.device == wishes.disk]
    for places in (kept, fresh):
        if len(places) == 1:
            return places[0], ""
        if places:
            return None, "There is more than one such disk: say which one."
    return None, "The place for documents that the file names is not there."


# ---- what each answer does


def _to(dialogue: Dialogue, step: Step) -> Dialogue:
    return replace(dialogue, step=step, problem="", advice="")


def _wrong(dialogue: Dialogue, problem: str) -> Dialogue:
    return replace(dialogue, problem=problem)


def _number(typed: str, count: int) -> int | None:
    """The index of the choice that was typed; full-width digits, as Chinese keyboards give them, are digits too."""
    text = typed.strip()
    return int(text) - 1 if text.isdecimal() and len(text) < 4 and 1 <= int(text) <= count else None


def _language(dialogue: Dialogue, code: str | None) -> Dialogue:
    return replace(dialogue, wishes=replace(dialogue.wishes, language=code or "en"))


def _asked(dialogue: Dialogue) -> Offer | None:
    """The volume whose passphrase is asked for: the chosen one, else the first."""
    chosen = dialogue.offer
    return chosen if chosen and chosen.locked else first_locked(dialogue.situation.survey)


def _after_language(dialogue: Dialogue) -> Dialogue:
    if dialogue.situation.ports:
        return _to(dialogue, Step.NETWORK)
    # An adapter that is plugged in later gives out no addresses unasked: it may be an office's network.
    return _after_network(replace(dialogue, wishes=replace(dialogue.wishes, network=Mode.NONE)))


def _after_network(dialogue: Dialogue) -> Dialogue:
    wrong = not dialogue.situation.clock.right and dialogue.clock is None
    return _to(dialogue, Step.CLOCK) if wrong else _volume(dialogue)


def _volume(dialogue: Dialogue) -> Dialogue:
    if dialogue.opened:
        return _to(dialogue, Step.WORKING)
    return _to(dialogue, Step.UNLOCK if first_locked(dialogue.situation.survey) else Step.WHERE)


def _on_language(dialogue: Dialogue, typed: str) -> Dialogue:
    index = _number(typed, len(LANGUAGES))
    if index is None:
        return _wrong(dialogue, "Type one of the numbers.")
    return _after_language(_language(dialogue, list(LANGUAGES)[index]))


def _on_unlock(dialogue: Dialogue, typed: str) -> Dialogue:
    return replace(dialogue, secret=typed, offer=_asked(dialogue), step=Step.WORKING)


def places(survey: Survey) -> tuple[Offer, ...]:
    """What can be chosen: where there are several volumes, those; for a new one, one of ours that is still empty first;
    memory last."""
    several = locked(survey) if len(locked(survey)) > 1 else ()
    return (*several, *(offer for offer in survey.found if offer.state is State.BLANK), *survey.offers)


def _on_where(dialogue: Dialogue, typed: str) -> Dialogue:
    offers = places(dialogue.situation.survey)
    index = _number(typed, len(offers))
    if index is None:
        return _wrong(dialogue, "Type one of the numbers.")
    chosen = replace(dialogue, offer=offers[index], wishes=replace(dialogue.wishes, where=offers[index].where))
    if offers[index] in locked(dialogue.situation.survey):
        return _to(chosen, Step.UNLOCK)
    return _to(chosen, Step.CONFIRM if offers[index].where is Where.MEMORY else Step.PASSPHRASE)


def _on_passphrase(dialogue: Dialogue, typed: str) -> Dialogue:
    if problem := weakness(typed):
        return _wrong(dialogue, problem)
    return _to(replace(dialogue, secret=typed), Step.AGAIN)


def _on_again(dialogue: Dialogue, typed: str) -> Dialogue:
    if typed != dialogue.secret:
        return replace(dialogue, step=Step.PASSPHRASE, secret="", problem="The two were not the same. Try again.")
    return _to(dialogue, Step.CONFIRM)


def _on_clock(dialogue: Dialogue, typed: str) -> Dialogue:
    seconds = moment.parse_typed(typed)
    if seconds is None:
        return _wrong(dialogue, "Type it like this: 2026-11-20 14:05")
    if seconds < dialogue.situation.clock.floor - 86400:
        return _wrong(dialogue, "That is before this image was built or last used.")
    if seconds > dialogue.situation.clock.ceiling:
        return _wrong(dialogue, "That is too far ahead.")
    return _volume(replace(dialogue, clock=seconds))


def _on_network(dialogue: Dialogue, typed: str) -> Dialogue:
    index = _number(typed, len(_MODES))
    if index is None:
        return _wrong(dialogue, "Type one of the numbers.")
    return _after_network(replace(dialogue, wishes=replace(dialogue.wishes, network=_MODES[index])))


def _on_confirm(dialogue: Dialogue, typed: str) -> Dialogue:
    index = _number(typed, 2)
    if index is None:
        return _wrong(dialogue, "Type one of the numbers.")
    return _to(dialogue, Step.WORKING) if index == 0 else _to(replace(dialogue, secret=""), Step.WHERE)


def _on_recovery(dialogue: Dialogue, typed: str) -> Dialogue:
    return finished(dialogue) if _number(typed, 1) == 0 else _wrong(dialogue, "Type one of the numbers.")


_MODES = (Mode.DIRECT, Mode.JOIN, Mode.NONE)
_HANDLERS: Mapping[Step, Callable[[Dialogue, str], Dialogue]] = {
    Step.LANGUAGE: _on_language,
    Step.UNLOCK: _on_unlock,
    Step.WHERE: _on_where,
    Step.PASSPHRASE: _on_passphrase,
    Step.AGAIN: _on_again,
    Step.CLOCK: _on_clock,
    Step.NETWORK: _on_network,
    Step.CONFIRM: _on_confirm,
    Step.RECOVERY: _on_recovery,
}
_BEFORE = {
    Step.NETWORK: Step.LANGUAGE,
    Step.CLOCK: Step.NETWORK,
    Step.WHERE: Step.NETWORK,
    Step.PASSPHRASE: Step.WHERE,
    Step.AGAIN: Step.PASSPHRASE,
    Step.CONFIRM: Step.WHERE,
}


# ---- what each step shows


def screen(dialogue: Dialogue) -> Screen:
    """The screen of the present step."""
    code = dialogue.wishes.language
    shown = _SCREENS[dialogue.step](dialogue, code)
    problem = " ".join(say(code, told) for told in (dialogue.problem, dialogue.advice) if told)
    return replace(shown, problem=problem, back=dialogue.step in _BEFORE and not dialogue.opened)


def _show_language(dialogue: Dialogue, code: str) -> Screen:
    title = "Welcome to Inkstick  ·  欢迎使用 Inkstick"
    lines = ("Type a number and press Enter.  请输入数字，然后按回车键。",)
    return Screen(Step.LANGUAGE, title, lines, tuple(LANGUAGES.values()))


def _show_unlock(dialogue: Dialogue, code: str) -> Screen:
    offer, several = _asked(dialogue), len(locked(dialogue.situation.survey)) > 1
    alone = "Press Enter alone to go on without it: in another place, or in memory only."
    lines = (
        say(code, "Your documents are on this volume: {place}", place=offer.text if offer else ""),
        say(code, "Type its passphrase, or its recovery key. Nothing appears while you type."),
        say(code, "Press Enter alone to choose another volume, or memory only." if several else alone),
    )
    return Screen(Step.UNLOCK, say(code, "Open the data volume"), lines, field=Field.SECRET)


def _show_where(dialogue: Dialogue, code: str) -> Screen:
    offers = places(dialogue.situation.survey)
    lines = [say(code, "Documents and results are kept encrypted. Nothing that is on this computer is changed.")]
    lines += [f"{clean(refusal.text)}: {_reason(refusal, code)}" for refusal in dialogue.situation.survey.refused]
    choices = tuple(_place(offer, code) for offer in offers)
    return Screen(Step.WHERE, say(code, "Where shall documents be kept?"), tuple(lines), choices)


def _place(offer: Offer, code: str) -> str:
    if offer.where is Where.MEMORY:
        return say(code, "In memory only. EVERYTHING IS LOST when this computer is switched off.")
    if offer.locked:
        here = "Open the data volume of this stick ({place})"
        there = "Open the data volume that is on another disk: {place}"
        return say(code, here if offer.where is Where.STICK else there, place=offer.text)
    if offer.where is Where.STICK:
        return say(code, "On this stick: {size} are free ({place})", size=size(offer.size), place=offer.text)
    return say(code, "On an empty disk: {place}", place=offer.text)


def _reason(refusal: Refusal, code: str) -> str:
    if "touches" in refusal.reason:
        return say(code, "It is in use or not empty and stays as it is.")
    return say(code, refusal.reason, **refusal.values)


def _show_passphrase(dialogue: Dialogue, code: str) -> Screen:
    lines = (
        say(code, "Choose a passphrase: four or more words that nobody guesses. Nothing appears while you type."),
        say(code, "Without it nobody can read the documents again, and nobody can recover it, we neither."),
    )
    return Screen(Step.PASSPHRASE, say(code, "A passphrase for the data volume"), lines, field=Field.SECRET)


def _show_again(dialogue: Dialogue, code: str) -> Screen:
    lines = (say(code, "Type the same passphrase again."),)
    return Screen(Step.AGAIN, say(code, "A passphrase for the data volume"), lines, field=Field.SECRET)


def _show_clock(dialogue: Dialogue, code: str) -> Screen:
    clock = dialogue.situation.clock
    lines = (
        say(code, "This computer's clock says {now}, and that is wrong.", now=moment.shown(clock.now)),
        say(code, "Type date and time (UTC) like this: 2026-11-20 14:05"),
        *([say(code, "Press Enter alone if you do not know it.")] if dialogue.opened else []),
    )
    return Screen(Step.CLOCK, say(code, "What time is it?"), lines, field=Field.LINE)


def _show_network(dialogue: Dialogue, code: str) -> Screen:
    lines = (say(code, "Other computers reach the page by cable. Nothing ever leaves through it to the Internet."),)
    choices = (
        say(code, "A cable straight to another computer (this one gives it an address)"),
        say(code, "An existing network (this one asks it for an address)"),
        say(code, "No network: only this computer and USB sticks"),
    )
    return Screen(Step.NETWORK, say(code, "How is this computer connected?"), lines, choices)


def _show_confirm(dialogue: Dialogue, code: str) -> Screen:
    offer = dialogue.offer
    lines = [_place(offer, code)] if offer else []
    if offer and offer.where is not Where.MEMORY:
        lines.append(say(code, "An encrypted volume is made there now. It takes about a minute."))
    choices = (say(code, "Yes, do it"), say(code, "No, choose again"))
    return Screen(Step.CONFIRM, say(code, "Is this right?"), tuple(lines), choices)


def _show_working(dialogue: Dialogue, code: str) -> Screen:
    lines = (say(code, "Please wait. Do not switch off and do not pull the stick out."),)
    return Screen(Step.WORKING, say(code, "Working"), lines, field=Field.NOTHING)


def _show_recovery(dialogue: Dialogue, code: str) -> Screen:
    lines = (
        say(code, "This key opens the data volume if the passphrase is forgotten. It is shown only now."),
        dialogue.recovery[: len(dialogue.recovery) // 2],
        dialogue.recovery[len(dialogue.recovery) // 2 + 1 :],
        say(code, "Write it down, or photograph it, and keep it where the stick is not."),
    )
    title = say(code, "The recovery key")
    return Screen(Step.RECOVERY, title, lines, (say(code, "I have it: go on"),), code=dialogue.recovery)


def _show_done(dialogue: Dialogue, code: str) -> Screen:
    return Screen(Step.DONE, say(code, "Ready"), (), field=Field.NOTHING)


_SCREENS: Mapping[Step, Callable[[Dialogue, str], Screen]] = {
    Step.LANGUAGE: _show_language,
    Step.UNLOCK: _show_unlock,
    Step.WHERE: _show_where,
    Step.PASSPHRASE: _show_passphrase,
    Step.AGAIN: _show_again,
    Step.CLOCK: _show_clock,
    Step.NETWORK: _show_network,
    Step.CONFIRM: _show_confirm,
    Step.WORKING: _show_working,
    Step.RECOVERY: _show_recovery,
    Step.DONE: _show_done,
}
