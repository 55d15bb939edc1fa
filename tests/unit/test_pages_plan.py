"""How large a page is rendered, whatever size it states."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkstick.errors import Empty, TooLarge
from inkstick.pages.plan import MAX_RATIO, Plan, plan_pixels, plan_points
from inkstick.pages.view import Budget

A4 = (595.0, 842.0)
A0 = (2384.0, 3370.0)


def covered(plan: Plan, width: float, height: float) -> bool:
    """Every point of a grid over the page lies in a tile."""
    points = [(width * (i + 0.5) / 50, height * (j + 0.5) / 50) for i in range(50) for j in range(50)]
    return all(any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in plan.tiles) for x, y in points)


def test_an_ordinary_page_fills_the_budget_and_is_not_tiled() -> None:
    plan = plan_points(*A4, Budget())
    assert not plan.tiles
    assert A4[0] * A4[1] * plan.scale**2 == pytest.approx(Budget().pixels)


def test_a_small_page_is_rendered_at_300_dpi_at_most() -> None:
    assert plan_points(100, 60, Budget()).scale == pytest.approx(300 / 72)


def test_a_large_sheet_is_tiled_at_the_least_readable_resolution() -> None:
    plan = plan_points(*A0, Budget())
    assert plan.tile_scale == pytest.approx(110 / 72)
    assert 6 <= len(plan.tiles) <= 9
    assert covered(plan, *A0)
    for x0, y0, x1, y1 in plan.tiles:
        assert (x1 - x0) * (y1 - y0) * plan.tile_scale**2 <= Budget().pixels * 1.001


def test_a_sheet_whose_image_has_no_more_to_show_is_not_tiled() -> None:
    assert not plan_points(*A0, Budget(), native_dpi=45).tiles


def test_a_page_beyond_all_tiles_is_too_large() -> None:
    with pytest.raises(TooLarge):
        plan_points(14_400_000, 14_400_000, Budget())


@pytest.mark.parametrize("size", [(1, 842), (0.1, 0.1), (math.nan, 10)])
def test_a_page_without_area_is_empty(size: tuple[float, float]) -> None:
    with pytest.raises(Empty):
        plan_points(*size, Budget())


def test_a_thin_image_is_scaled_up_to_32_pixels() -> None:
    assert plan_pixels(100, 16, Budget()).scale == pytest.approx(2)


def test_an_image_thinner_than_8_pixels_is_empty() -> None:
    with pytest.raises(Empty):
        plan_pixels(7, 900, Budget())


def test_a_photo_is_scaled_down_and_not_tiled() -> None:
    plan = plan_pixels(8000, 6000, Budget())
    assert not plan.tiles
    assert 48e6 * plan.scale**2 == pytest.approx(Budget().pixels)


def test_a_scan_of_a_large_sheet_is_tiled_by_its_stated_resolution() -> None:
    plan = plan_pixels(9933, 14043, Budget(), dpi=300)
    assert plan.tile_scale == pytest.approx(110 / 300)
    assert covered(plan, 9933, 14043)


@given(st.integers(8, 200_000), st.integers(8, 200_000), st.sampled_from([100_000, 1_000_000, 3_400_000]))
def test_no_image_ever_exceeds_twice_the_budget(width: int, height: int, pixels: int) -> None:
    budget = Budget(pixels=pixels)
    try:
        plan = plan_pixels(width, height, budget)
    except TooLarge:
        return
    assert width * height * plan.scale**2 <= 2.01 * pixels
    assert len(plan.tiles) <= budget.max_tiles
    if max(width, height) / min(width, height) > 2 * MAX_RATIO and min(width, height) * plan.scale >= 16:
        assert plan.tiles
    if plan.tiles:
        assert covered(plan, width, height)
        for x0, y0, x1, y1 in plan.tiles:
            assert (x1 - x0) * (y1 - y0) * plan.tile_scale**2 <= pixels * 1.001
