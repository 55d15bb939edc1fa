"""What a page lacks for those without a mouse, with a screen reader, or with weak eyes: looked up in the browser.

An own, small set of rules; what each finds is a sentence. They are those that a program can decide: names of controls,
order of headings, contrast of every visible text, a visible focus, language, doubled ids.
"""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Page

LACKS = (Path(__file__).parent / "lacks.js").read_text(encoding="utf-8")
FOCUS = (Path(__file__).parent / "focus.js").read_text(encoding="utf-8")


async def lacks(page: Page) -> list[str]:
    """What is wrong with the page as it is shown now, a sentence each."""
    found: list[str] = await page.evaluate(LACKS)
    return found


async def focus_lost(page: Page, most: int = 200) -> tuple[int, list[str]]:
    """How many stops the tab key makes, and those at which the focus cannot be seen."""
    bad, stops = [], 0
    await page.evaluate("document.activeElement.blur()")
    while stops < most:
        await page.keyboard.press("Tab")
        at = await page.evaluate(FOCUS)
        if at is None:
            break
        stops += 1
        if not at["good"]:
            bad.append(at["what"])
    return stops, bad
