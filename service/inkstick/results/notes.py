"""What a person should know before relying on a text: which pages failed, which need a look, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inkstick.document import Flag, Header, Page

# In the order of concern. The flags that are not here (blank, rotated, tiled, text_layer, edited) need no look.
SENTENCES = {
    Flag.REPETITION: "the engine repeated itself; text may be missing or doubled",
    Flag.TRUNCATED: "the text may end too early",
    Flag.SUSPECT: "the text does not fit what is printed; compare it with the page",
    Flag.LOW_AGREEMENT: "two readings differ; check names, numbers and dates",
    Flag.TABLE_BROKEN: "a table may have lost its shape",
    Flag.FALLBACK_CPU: "read by the simpler engine, because the main one was not available",
    Flag.LOW_DPI: "the image is coarse; small print may be wrong",
}


def page_notes(header: Header, pages: Iterable[Page]) -> list[str]:
    """Sentences about the document, most serious first; empty when there is nothing to say. One pass."""
    failed: dict[tuple[str, str], list[int]] = {}
    flagged: dict[Flag, list[int]] = {flag: [] for flag in SENTENCES}
    for page in pages:
        if page.error is not None:
            key = (page.error.get("code", "internal"), page.error.get("message", ""))
            failed.setdefault(key, []).append(page.number)
        for flag in page.flags:
            if flag in flagged:
                flagged[flag].append(page.number)
    notes = [f"{_pages(numbers)} could not be read: {message} ({code})" for (code, message), numbers in failed.items()]
    notes += [
        f"{part.name} could not be read{' to its end' if part.first else ''}: {part.error.get('message', '')}"
        f" ({part.error.get('code', 'internal')})"
        for part in header.parts
        if part.error
    ]
    return notes + [f"{_pages(numbers)}: {SENTENCES[flag]} ({flag})" for flag, numbers in flagged.items() if numbers]


def _pages(numbers: Sequence[int]) -> str:
    return ("Page " if len(numbers) == 1 else "Pages ") + ranges(numbers)


def ranges(numbers: Sequence[int]) -> str:
    """``1-3, 7`` for 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
