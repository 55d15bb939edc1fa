"""What a page lacks for those without a mouse, with a screen reader, or with weak eyes: looked up in the browser.

By axe-core (from the package axe-playwright-python, for the tests alone: nothing of it is served), and by a few rules
of our own for what axe does not decide: contrast of text over several layers, order of headings, a visible focus.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.async_api import Page

LACKS = (Path(__file__).parent / "lacks.js").read_text(encoding="utf-8")
FOCUS = (Path(__file__).parent / "focus.js").read_text(encoding="utf-8")
AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
COLOURS = ["color-contrast", "link-in-text-block"]
"""The rules of axe that see colours: in the dark only they can find anything new."""


async def lacks(page: Page, rules: list[str] | None = None) -> list[str]:
    """What is wrong with the page as it is shown now, a sentence each. `rules`: of axe; all of them if left out."""
    found: list[str] = await page.evaluate(LACKS)
    return found + await violations(page, rules)


async def violations(page: Page, rules: list[str] | None = None) -> list[str]:
    """What axe finds."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE)
    options: dict[str, Any] = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    found: dict[str, Any] = await page.evaluate("options => axe.run(document, options)", options)
    return [
        f"axe {rule['id']}: {rule['help']}: {node['target']} {node['html'][:200]} {node['failureSummary'][:300]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


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
