"""Figures and states in plain words, for the pages and for systemd's status line."""

from __future__ import annotations

from collections.abc import Mapping

from inkstick.web.office_port import Stats

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
    return f"{done} of {of} page{'s' * (of != 1)}" if of else ""


def when(iso: str) -> str:
    """A time stamp for people, to the minute."""
    return iso[:16].replace("T", " ")


def engine(stats: Stats) -> tuple[str, str]:
    """Is anybody reading? ``good``, ``warn`` or ``bad``, and a sentence."""
    if stats.blocked:
        return "bad", stats.blocked[1]
    ready = [engine for engine in stats.engines if engine.ready]
    if not ready:
        states = ", ".join(f"{engine.name}: {engine.state}" for engine in stats.engines)
        return "bad", f"No engine is ready ({states or 'none is set up'}). Documents wait; nothing is lost."
    first = ready[0]
    if first.role == "primary":
        return "good", f"{first.name} is ready ({first.model})."
    return "warn", f"The main engine is not there; {first.name} reads instead, and its pages say so."


def disk(stats: Stats) -> tuple[str, str]:
    """Room on the disk: ``good``, ``warn`` or ``bad``, and a sentence."""
    if not stats.disk_total:
        return "warn", "unknown"
    text = f"{size(stats.disk_free)} of {size(stats.disk_total)} free"
    if stats.disk_free < stats.disk_reserve:
        return "bad", f"{text}: too little, nothing is accepted until there is more"
    return ("warn" if stats.disk_free < 2 * stats.disk_reserve else "good"), text


def summary(stats: Stats) -> str:
    """One line for `systemctl status` and the console."""
    counts = ", ".join(f"{number} {state(word)}" for word, number in stats.documents.items() if number)
    return f"{counts or 'no documents yet'}; {engine(stats)[1]}"


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
    "edit": "text corrected",
    "delete": "document deleted",
    "settings": "settings changed",
    "bulk": "several documents read again or deleted",
    "diagnostics": "diagnostics taken away",
    "power": "machine locked or switched off",
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
