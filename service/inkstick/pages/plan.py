"""How large a page is rendered: pure arithmetic from its size to a scale and tiles.

A page may state any size it likes: everything follows from the pixel budget, never from a dpi. The unit of a page's
size is the point (1/72 inch) for PDF and the pixel for images; ``scale`` turns units into rendered pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from inkstick.errors import Empty, TooLarge
from inkstick.pages.view import Budget

MAX_DPI = 300.0
"""A page is never rendered finer: more pixels than this say nothing more to any reader."""
MIN_SIDE = 32
"""Engines fail on thinner images; a page is scaled up to it."""
EMPTY_SIDE = 8
"""A page whose shorter side is below this many pixels at its natural size holds nothing readable."""
MAX_RATIO = 20.0
"""Beyond this ratio of its sides a page is tiled: engines scale the long side down to nothing otherwise."""
TILE_RATIO = 5.0
CAMERA_PIXELS = 60_000_000
"""An image that states no resolution is taken for a photo of one page, and not tiled, up to this size."""
OVERLAP = 0.06
PAGE_INCHES = 8.27
"""The short side of A4: what an image that states no resolution is taken to show."""
MAX_SIDE = 60_000.0

Rect = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """`scale` for the whole page; `tiles` as rectangles in the page's units, in reading order; their `tile_scale`."""

    scale: float
    tiles: tuple[Rect, ...] = ()
    tile_scale: float = 0.0


def plan_points(width: float, height: float, budget: Budget, *, native_dpi: float | None = None) -> Plan:
    """Plan for a page in points. `native_dpi`: resolution of the one image that covers the page, if one does.

    Raises Empty for a page without area, TooLarge for one that needs more than `Budget.max_tiles`.
    """
    _check_side(min(width, height) * 150 / 72)
    fits = math.sqrt(budget.pixels / (width * height))
    scale = max(min(fits, MAX_DPI / 72), MIN_SIDE / min(width, height))
    needed = min(budget.min_dpi, native_dpi or budget.min_dpi)
    readable = fits * 72 >= needed * 0.98
    return _with_tiles(width, height, scale, needed / 72, budget, readable)


def plan_pixels(width: int, height: int, budget: Budget, *, dpi: float | None = None) -> Plan:
    """Plan for an image in pixels. `dpi`: its resolution where the file states a believable one. Raises as above."""
    _check_side(min(width, height))
    fits = math.sqrt(budget.pixels / (width * height))
    scale = max(min(fits, 1.0), MIN_SIDE / min(width, height))
    if dpi is None:  # a scan or photo of one page; only beyond any camera is it taken for a larger sheet
        page = max(budget.min_dpi, min(width, height) / PAGE_INCHES)
        dpi = MAX_DPI if width * height > CAMERA_PIXELS else page
    needed = min(1.0, budget.min_dpi / dpi)
    return _with_tiles(width, height, scale, needed, budget, fits >= needed * 0.98)


def _check_side(pixels: float) -> None:
    if not pixels >= EMPTY_SIDE:  # also true of NaN
        raise Empty("The page has no area to speak of.")


def _with_tiles(width: float, height: float, scale: float, needed: float, budget: Budget, readable: bool) -> Plan:
    ratio = max(width, height) / min(width, height)
    scale = _bounded(width, height, scale, budget)
    if readable and ratio <= MAX_RATIO:
        return Plan(scale)
    tile_scale = max(needed if not readable else scale, MIN_SIDE / min(width, height))
    columns, rows = _grid(width * tile_scale, height * tile_scale, budget)
    if columns * rows <= 1:
        return Plan(scale)
    return Plan(scale, _tiles(width, height, columns, rows), tile_scale)


def _bounded(width: float, height: float, scale: float, budget: Budget) -> float:
    """The overview never exceeds twice the budget, whatever the minimum side asks for."""
    area = width * height * scale * scale
    if area > 2 * budget.pixels:
        scale *= math.sqrt(2 * budget.pixels / area)
    return min(scale, MAX_SIDE / max(width, height))


def _grid(width: float, height: float, budget: Budget) -> tuple[int, int]:
    """The fewest tiles (columns, rows) that fit the budget and are not too thin; on a tie, the fewest columns."""
    best: tuple[float, int, int] | None = None
    grid = (1, 1)
    for columns in range(1, budget.max_tiles + 1):
        for rows in range(1, budget.max_tiles // columns + 1):
            w, h = _grown(width, columns), _grown(height, rows)
            thin = max(0.0, round(max(w, h) / min(w, h) - TILE_RATIO, 2))
            cost = (thin, columns * rows, columns)
            if w * h <= budget.pixels and (best is None or cost < best):
                best, grid = cost, (columns, rows)
    if best is None:
        raise TooLarge("The page is larger than can be read even in parts.", hint="Split the sheet into smaller pages.")
    return grid


def _grown(side: float, count: int) -> float:
    """Side of one of `count` tiles with its share of the overlap."""
    return side if count == 1 else side / count * (1 + OVERLAP)


def _tiles(width: float, height: float, columns: int, rows: int) -> tuple[Rect, ...]:
    xs, ys = _spans(width, columns), _spans(height, rows)
    return tuple((x0, y0, x1, y1) for y0, y1 in ys for x0, x1 in xs)


def _spans(side: float, count: int) -> list[tuple[float, float]]:
    """`count` overlapping stretches of equal length that cover the side."""
    length = _grown(side, count)
    if count == 1:
        return [(0.0, side)]
    step = (side - length) / (count - 1)
    return [(i * step, i * step + length) for i in range(count)]
