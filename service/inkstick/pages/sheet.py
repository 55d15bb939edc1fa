"""What a parser must offer of one page, and how a view is made of it. Runs inside the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inkstick.document import Box, Flag
from inkstick.errors import Damaged
from inkstick.pages.ink import ink, mostly_outside
from inkstick.pages.plan import Plan, Rect
from inkstick.pages.view import Budget, Ink, TextLayer, TextLayerMode, Word

RGB = NDArray[np.uint8]
"""Shape (height, width, 3)."""
LOW_DPI = 110.0
FULL_PAGE = 2000
"""Characters of a text layer from which nobody looks whether more is printed: the look costs as much as the page."""


class Sheet(Protocol):
    """One page of an open document. Sizes are in the page's own units, upright as the file says (/Rotate, EXIF)."""

    width: float
    height: float

    def plan(self, budget: Budget) -> Plan: ...

    def render(self, scale: float, clip: Rect | None = None) -> RGB: ...

    def torn(self) -> bool:
        """Of what was rendered, a picture or the page's instructions end too early: a part is missing."""

    def unseen(self) -> bool:
        """Something of what was rendered could not be drawn, so that white paper is not what is printed."""

    def dpi(self, scale: float) -> float | None: ...

    def low_dpi(self) -> bool: ...

    def layer(self) -> TextLayer | None: ...

    def text_turn(self) -> int | None:
        """Degrees clockwise that bring most of the page's own visible text upright; None when there is too little."""


class OpenFile(Protocol):
    """An open document. `pages` is at least 1; `warnings` are stable words."""

    pages: int
    warnings: tuple[str, ...]

    def sheet(self, number: int) -> Sheet: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RawTile:
    rgb: RGB
    box: Box


@dataclass(frozen=True, slots=True)
class RawView:
    """A `PageView` before it goes over the wire."""

    rgb: RGB
    ink: Ink
    rotation: int
    dpi: float | None
    layer: TextLayer | None
    tiles: tuple[RawTile, ...]
    flags: tuple[Flag, ...]


def view(sheet: Sheet, budget: Budget, mode: TextLayerMode, orient: bool, model: Callable[[RGB], int]) -> RawView:
    """Render a page upright within the budget, with what is known of it. `model` tells the turn from pixels."""
    plan = sheet.plan(budget)
    rgb = sheet.render(plan.scale)
    found = _ink(sheet, plan, rgb)
    if found is Ink.BLANK and sheet.unseen():
        raise Damaged("What is on the page cannot be drawn: its data is damaged.")
    layer = _whole(sheet.layer(), rgb) if mode is not TextLayerMode.SKIP else None
    if layer is not None and layer.born_digital and layer.words and found is Ink.BLANK:
        found = Ink.UNSURE  # visible words that the image test overlooked
    turn = _turn(sheet, layer, rgb, found, model) if orient else 0
    tiles = () if found is Ink.BLANK else _tiles(sheet, plan, turn)
    flags = [
        (Flag.BLANK, found is Ink.BLANK), (Flag.ROTATED, bool(turn)), (Flag.TILED, bool(tiles)),
        (Flag.LOW_DPI, sheet.low_dpi()), (Flag.SUSPECT, sheet.torn()),
    ]  # fmt: skip
    return RawView(
        turned(rgb, turn),
        found,
        turn,
        sheet.dpi(plan.scale),
        turned_layer(layer, turn) if layer is not None else None,
        tiles,
        tuple(flag for flag, holds in flags if holds),
    )


def _whole(layer: TextLayer | None, rgb: RGB) -> TextLayer | None:
    """The page's text; not called good where most of what is printed is not in it: a caption over a scanned letter."""
    if layer is None or not layer.good or sum(len(word.text) for word in layer.words) >= FULL_PAGE:
        return layer
    if mostly_outside(rgb, (word.box for word in layer.words)):
        return replace(layer, good=False, born_digital=False, reason="partial")
    return layer


def _ink(sheet: Sheet, plan: Plan, rgb: RGB) -> Ink:
    """From the whole page; where that is too small to show a line of text, from its tiles before it is called blank."""
    found = ink(rgb)
    if found is not Ink.BLANK:
        return found
    return next((Ink.UNSURE for clip in plan.tiles if ink(sheet.render(plan.tile_scale, clip)) is not found), found)


def _turn(sheet: Sheet, layer: TextLayer | None, rgb: RGB, found: Ink, model: Callable[[RGB], int]) -> int:
    if layer is not None and layer.born_digital:
        known = sheet.text_turn()
        if known is not None:
            return known
    return model(rgb) if found is Ink.PRINTED else 0


def _tiles(sheet: Sheet, plan: Plan, turn: int) -> tuple[RawTile, ...]:
    """The tiles as they stand on the turned page, top to bottom, then left to right."""
    tiles = []
    for x0, y0, x1, y1 in plan.tiles:
        part = (x0 / sheet.width, y0 / sheet.height, x1 / sheet.width, y1 / sheet.height)
        tiles.append((thousandths(turned_rect(part, turn)), (x0, y0, x1, y1)))
    tiles.sort(key=lambda tile: (tile[0][1], tile[0][0]))
    return tuple(RawTile(turned(sheet.render(plan.tile_scale, clip), turn), box) for box, clip in tiles)


def turned(rgb: RGB, degrees: int) -> RGB:
    """The image turned clockwise."""
    return np.ascontiguousarray(np.rot90(rgb, k=-(degrees // 90)))


def turned_rect(rect: Rect, degrees: int) -> Rect:
    """A rectangle in the unit square, turned clockwise with it."""
    x0, y0, x1, y1 = rect
    for _ in range(degrees // 90 % 4):
        x0, y0, x1, y1 = 1 - y1, x0, 1 - y0, x1
    return (x0, y0, x1, y1)


def turned_layer(layer: TextLayer, degrees: int) -> TextLayer:
    words = tuple(Word(word.text, _turned_box(word.box, degrees)) for word in layer.words)
    return TextLayer(words, layer.good, layer.born_digital, layer.reason)


def _turned_box(box: Box, degrees: int) -> Box:
    x0, y0, x1, y1 = (v / 1000 for v in box)
    return thousandths(turned_rect((x0, y0, x1, y1), degrees))


def thousandths(rect: Rect) -> Box:
    """A rectangle in the unit square as a box, cut to the page."""
    x0, y0, x1, y1 = (min(1000, max(0, round(v * 1000))) for v in rect)
    return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
