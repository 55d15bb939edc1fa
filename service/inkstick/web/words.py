"""Figures and states in plain words, for the pages and for systemd's status line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from inkstick.web.language import Said, Translate

if TYPE_CHECKING:  # `inkstick run` has words to say, and no office to load for them
    from inkstick.appliance import Stick
    from inkstick.web.office_port import Stats
    from inkstick.web.screens_port import Remaining

STATES: Mapping[str, str] = {
    "queued": "waiting",
    "reading": "reading",
    "done": "done",
    "partial": "done in part",
    "failed": "failed",
    "blocked": "held back",
}
FLAGS: Mapping[str, tuple[str, str]] = {
    "blank": ("blank", "Nothing is printed on it."),
    "rotated": ("turned", "The page lay on its side or upside down and was turned upright."),
    "tiled": ("in tiles", "The page is so large that it was read in pieces."),
    "low_dpi": ("coarse scan", "The scan has few dots per inch: small print may be misread."),
    "repetition": ("repeats", "The reader began to repeat itself; the text was cut there or read again."),
    "truncated": ("cut short", "The text may lack its end."),
    "suspect": ("in doubt", "Something about the text does not fit the page: compare it with the picture."),
    "fallback_cpu": ("second engine", "Read by the CPU engine because the main one was not there."),
    "text_layer": ("own text", "The file's own text was used."),
    "low_agreement": ("readers differ", "Two readers saw different text, look at digits above all."),
    "table_broken": ("table broken", "A table could not be rebuilt."),
    "edited": ("edited", "A person changed the text."),
}
WARNING_FLAGS = ("repetition", "truncated", "suspect", "low_agreement", "table_broken", "fallback_cpu", "low_dpi")


def state(word: str) -> str:
    return STATES.get(word, word)


def flag(word: str) -> tuple[str, str]:
    """A flag's short name and its sentence."""
    return FLAGS.get(word, (word, ""))


STICKS = {
    "looking": "Looking what is on {name}…",
    "unreadable": "{name} cannot be read.",
    "offered": "Read {count} documents from {name}?",
    "copying": "Copying from {name}: {done} of {count} documents",
    "copied": "{count} documents were copied from {name}. Bring the results back onto it when they are read.",
    "partly": "{done} of {count} documents were copied from {name}. The rest cannot be read there.",
    "exporting": "Writing results onto {name}: {results}",
    "exported": "{results} results were written onto {name}. Let go of it before you take it out.",
    "stopped": "{name} was taken out. What was copied is safe; put it in again and the rest is copied.",
    "full": "{name} is full: make room on it and bring the results back again.",
    "no_volume": "Nothing can be written to the data volume: {done} of {count} documents of {name} were copied. Start"
    " the machine again.",
    "no_room": "There is too little room here for the documents on {name}.",
    "locked": "Nothing can be written to {name}: is it write-protected? Download the results instead.",
    "ejected": "{name} can be taken out.",
}


def stick(stick: Stick) -> Said:
    """What is going on with a stick, in a sentence."""
    empty = stick.state == "offered" and not stick.count
    sentence = "There is no document on {name}." if empty else STICKS.get(stick.state, "{name}")
    values = {"name": stick.name, "count": stick.count, "done": stick.done, "results": stick.results}
    return Said(sentence, **values)


def stick_progress(stick: Stick) -> tuple[int, int]:
    """So many of so many are done; of 0 where nothing is under way."""
    done = {"copying": stick.done, "exporting": stick.results}.get(stick.state)
    return (0, 0) if done is None else (done, max(1, stick.count))


def stick_offers(stick: Stick) -> tuple[tuple[str, str], ...]:
    """What can be done with a stick now: the word of the request, and the button's sentence."""
    eject = ("eject", "Let go of the stick")
    if stick.state == "offered" and stick.count:
        return ("stick", "Read them all"), ("decline", "Not now")
    if stick.state in ("copied", "partly", "exported", "full"):
        return ("export", "Bring the results back"), eject
    return (eject,) if stick.state in ("offered", "no_room", "no_volume") else ()


def size(count: int | None) -> str:
    """Bytes for people: ``1.4 MB``."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def pages(done: int, of: int | None) -> str:
    """Progress: ``3 of 12 pages``; nothing before the document was opened."""
    if not of:
        return ""
    return Said("{done} of {of} page" if of == 1 else "{done} of {of} pages", done=done, of=of)


def when(iso: str) -> str:
    """A time stamp for people, to the minute: the same for all who look, wherever their clocks stand."""
    return f"{iso[:16].replace('T', ' ')} UTC" if iso else ""


def engine(stats: Stats) -> tuple[str, str]:
    """Is anybody reading? ``good``, ``warn`` or ``bad``, and a sentence."""
    if stats.blocked:
        return "bad", stats.blocked[1]
    ready = [engine for engine in stats.engines if engine.ready]
    if not ready:
        states = ", ".join(f"{engine.name}: {engine.state}" for engine in stats.engines)
        told = states or Said("none is set up")
        return "bad", Said("No engine is ready ({states}). Documents wait; nothing is lost.", states=told)
    first = ready[0]
    if first.role == "primary":
        return "good", Said("{name} is ready ({model}).", name=first.name, model=first.model)
    text = "The main engine is not there; {name} reads instead, and its pages say so."
    return "warn", Said(text, name=first.name)


def disk(stats: Stats) -> tuple[str, str]:
    """Room on the disk: ``good``, ``warn`` or ``bad``, and a sentence."""
    if not stats.disk_total:
        return "warn", "unknown"
    room = {"free": size(stats.disk_free), "total": size(stats.disk_total)}
    if stats.disk_free < stats.disk_reserve:
        return "bad", Said("{free} of {total} free: too little, nothing is accepted until there is more", **room)
    return ("warn" if stats.disk_free < 2 * stats.disk_reserve else "good"), Said("{free} of {total} free", **room)


def pace(stats: Stats) -> str:
    """How quickly pages are read just now."""
    rate = stats.pages_per_second
    if rate <= 0:
        return "nothing is being read"
    if rate < 1:
        return Said("{n} pages a minute", n=f"{60 * rate:.0f}")
    return Said("{n} pages a second", n=f"{rate:.1f}")


def left(remaining: Remaining, stats: Stats) -> str:
    """How long the rest will take, roughly; what waits where that cannot be said."""
    if not remaining.pages and not remaining.unopened:
        return "nothing waits"
    seconds = remaining.seconds(stats.pages_per_second)
    if seconds is None:
        text = "{pages} pages of opened documents, {unopened} documents not opened yet"
        return Said(text, pages=remaining.pages, unopened=remaining.unopened)
    return duration(seconds)


def duration(seconds: float) -> str:
    """A span of time to one figure that people need."""
    if seconds < 60:
        return "less than a minute"
    if seconds < 5400:
        return Said("about {n} minutes", n=round(seconds / 60))
    return Said("about {n} hours", n=f"{seconds / 3600:.1f}")


def strip(counts: Mapping[str, int]) -> str:
    """What a strip of colours shows, for those who do not see it."""
    return Said(
        "{read} read, {warn} to look at, {failed} failed, {waiting} waiting",
        read=counts.get("read", 0) + counts.get("note", 0) + counts.get("warn", 0),
        warn=counts.get("warn", 0),
        failed=counts.get("failed", 0),
        waiting=counts.get("waiting", 0),
    )


def summary(stats: Stats, translate: Translate) -> str:
    """One line for `systemctl status` and the console: documents, how fast they are read, and by whom."""
    counts = ", ".join(f"{number} {translate(state(word))}" for word, number in stats.documents.items() if number)
    parts = [counts or translate("no documents yet")]
    if stats.pages_per_second > 0:
        parts.append(translate(pace(stats)))
    return "; ".join([*parts, translate(engine(stats)[1])])


TASKS: Mapping[str, str] = {
    "parse": "Read everything, keep the structure",
    "text": "Plain text only",
    "spotting": "Text with its place on the page",
    "table": "Tables",
    "formula": "Formulas",
    "chart": "Charts",
    "extract": "Extract named values",
    "translate": "Translate",
    "subtitles": "Subtitles of a picture",
}
FORMATS: Mapping[str, str] = {
    "md": "Markdown",
    "json": "JSON",
    "txt": "Text",
    "pdf": "Searchable PDF",
    "alto": "ALTO",
    "hocr": "hOCR",
    "csv": "Tables (CSV)",
    "docx": "Word",
}


def task(word: str) -> str:
    return TASKS.get(word, word)


def format(word: str) -> str:
    return FORMATS.get(word, word)


ROLES: Mapping[str, str] = {
    "reader": "Look and take away",
    "operator": "Bring in, correct and delete",
    "admin": "Everything",
}
ACTS: Mapping[str, str] = {
    "paired": "browser paired",
    "pair_failed": "wrong PIN",
    "refused": "came without a good token or session",
    "forbidden": "asked for more than allowed",
    "left": "browser unpaired itself",
    "upload": "document brought in",
    "upload_begun": "upload begun",
    "upload_dropped": "upload dropped",
    "download": "results taken away",
    "retry": "read again",
    "read_at_once": "image read at once",
    "corrected": "text corrected",
    "read_once_more": "page read once more",
    "delete": "document deleted",
    "stick": "stick read, written or let go",
    "first_start": "first start answered",
    "folder_made": "folder made",
    "folder_settings": "settings of a folder changed",
    "self_test": "self-test run",
    "bulk": "several documents read again or deleted",
    "diagnostics": "diagnostics taken away",
    "machine": "machine locked or switched off",
    "lock": "data locked",
    "power_off": "machine switched off",
    "pin_made": "PIN made",
    "session_revoked": "browser revoked",
    "token_made": "token made",
    "token_revoked": "token revoked",
    "mended": "a torn line was cut off",
}


def role(word: str) -> str:
    """What a role may do."""
    return ROLES.get(word, word)


def act(word: str) -> str:
    """What an entry of the audit log says."""
    return ACTS.get(word, word)
