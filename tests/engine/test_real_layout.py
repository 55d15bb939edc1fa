"""The layout stage on PP-DocLayoutV3's own architecture: ONNX through our code, beside transformers' post-processing.

The weights are random (layout.py says how), so what is found on a page means nothing; but classes, places and reading
order come through the whole network, and two readings of the same weights must agree on them. They agree up to
rounding: a sum in another order can move a box by a pixel and swap two neighbours of the order.
"""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from engine.setup import LayoutModel
from inkstick.engines import doclayout
from inkstick.engines.doclayout import Box, DocLayout, Region, feed
from inkstick.models import catalogue
from inkstick.models.manifest import Layout

pytestmark = pytest.mark.timeout(1500)
_LAYOUT = catalogue.read().manifests["paddleocr-vl-1.6"].layout
assert _LAYOUT is not None
LAYOUT: Layout = _LAYOUT
PAGES = ("contract.png", "invoice.png", "passport.png", "poster.png")
NEAR, UNSURE = 0.75, 0.05
"""The common area from which two boxes are the same one; what may lie this near the threshold may be missing."""


def page(model: LayoutModel, name: str) -> npt.NDArray[np.uint8]:
    with Image.open(model.pages / name) as opened:
        return np.asarray(opened.convert("RGB"))


def theirs(model: LayoutModel, name: str) -> list[Region]:
    """What transformers finds, in reading order, cut off at the page's edges as ours is."""
    height, width = page(model, name).shape[:2]
    told = json.loads((model.folder / "theirs.json").read_text())[name]
    return [Region(LAYOUT.classes[one["class"]], one["score"], _inside(one["box"], width, height)) for one in told]


def _inside(box: list[float], width: int, height: int) -> Box:
    x0, y0, x1, y1 = box
    return max(0, min(x0, width)), max(0, min(y0, height)), max(0, min(x1, width)), max(0, min(y1, height))


def common(a: Box, b: Box) -> float:
    """The share of their area that two boxes have in common, each four pixels larger on each side: there are slivers
    among them, and a pixel more or less is rounding."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a, b
    wide, high = min(ax1, bx1) - max(ax0, bx0) + 8, min(ay1, by1) - max(ay0, by0) + 8
    both = max(0.0, wide) * max(0.0, high)
    return both / ((ax1 - ax0 + 8) * (ay1 - ay0 + 8) + (bx1 - bx0 + 8) * (by1 - by0 + 8) - both)


def partners(some: list[Region], others: list[Region]) -> list[int | None]:
    """For each of `some` the place of its likeness among `others`: same class, nearly the same box and score."""
    found: list[int | None] = []
    for one in some:
        alike = [
            (common(one.box, other.box), place)
            for place, other in enumerate(others)
            if one.name == other.name and abs(one.score - other.score) < UNSURE and place not in found
        ]
        best = max(alike, default=(0.0, -1))
        found.append(best[1] if best[0] > NEAR else None)
    return found


def swapped(places: list[int | None]) -> float:
    """The share of pairs that stand in the other order."""
    pairs = list(combinations([place for place in places if place is not None], 2))
    return sum(a > b for a, b in pairs) / len(pairs)


@pytest.fixture(scope="module")
def stage(layout: LayoutModel) -> DocLayout:
    return DocLayout(layout.onnx, LAYOUT)


def test_the_file_has_the_inputs_and_outputs_of_the_published_one(layout: LayoutModel) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(str(layout.onnx), providers=["CPUExecutionProvider"])
    assert {(value.name, tuple(value.shape)) for value in session.get_inputs()} == {
        ("image", (1, 3, LAYOUT.side, LAYOUT.side)),
        ("im_shape", (1, 2)),
        ("scale_factor", (1, 2)),
    }
    assert [(value.name, value.shape) for value in session.get_outputs()] == [
        ("fetch_name_0", [300, len(LAYOUT.columns)]),
        ("fetch_name_1", [1]),
        ("fetch_name_2", [300, 200, 200]),
    ]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_prepared_as_transformers_prepares_it(layout: LayoutModel, name: str) -> None:
    with np.load(layout.folder / "pixels.npz") as kept:
        their = kept[name]
    ours = feed(page(layout, name), LAYOUT.side)["image"][0]
    assert ours.shape == their.shape
    assert np.abs(ours - their).mean() < 0.25 / 255  # OpenCV's cubic is not quite torchvision's


@pytest.mark.parametrize("name", PAGES)
def test_classes_places_and_reading_order_are_those_of_transformers(
    layout: LayoutModel, stage: DocLayout, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours leaves out what is found twice and slivers, theirs does not: so here ours does not either."""
    for limit in ("SAME", "ANY", "INSIDE"):
        monkeypatch.setattr(doclayout, limit, 9.0)
    monkeypatch.setattr(doclayout, "SMALLEST_SIDE", -1e9)
    ours, their = stage.regions(page(layout, name)), theirs(layout, name)
    assert len({region.name for region in their}) > 3
    there, here = partners(ours, their), partners(their, ours)
    print(f"{name}: {len(ours)} and {len(their)} regions, {len(ours) - there.count(None)} alike, {swapped(there):.2%}")
    assert all(region.score < 0.5 + UNSURE for region, place in zip(ours, there, strict=True) if place is None)
    assert all(region.score < 0.5 + UNSURE for region, place in zip(their, here, strict=True) if place is None)
    assert len(there) - there.count(None) > 10
    assert swapped(there) < 0.03


@pytest.mark.parametrize("name", PAGES)
def test_what_is_left_out_is_there_already_or_a_sliver(layout: LayoutModel, stage: DocLayout, name: str) -> None:
    ours, their = stage.regions(page(layout, name)), theirs(layout, name)
    places = partners(their, ours)
    assert swapped(partners(ours, their)) < 0.03
    for region, place in zip(their, places, strict=True):
        x0, y0, x1, y1 = region.box
        others = [other for other in their if other is not region]
        twice = any(
            other.score >= region.score - UNSURE and common(region.box, other.box) > 0.5 for other in others
        )  # of one class from 0.6 on; a little less, for the rounding
        inline = region.name == "inline_formula"
        sliver = min(x1 - x0, y1 - y0) < doclayout.SMALLEST_SIDE + 1
        assert place is not None or region.score < 0.5 + UNSURE or twice or inline or sliver, region


def test_the_scale_turns_places_into_the_pages_own_pixels(layout: LayoutModel, stage: DocLayout) -> None:
    """The same picture twice as wide: the model sees the same square, so the places are twice as far to the right."""
    plain = page(layout, "poster.png")
    wide = np.repeat(plain, 2, axis=1)
    square, other = feed(plain, LAYOUT.side)["image"], feed(wide, LAYOUT.side)["image"]
    assert np.abs(square - other).mean() < 0.05
    height, width = plain.shape[:2]
    assert {region.box[2] for region in stage.regions(wide)} - {region.box[2] for region in stage.regions(plain)}
    assert max(region.box[2] for region in stage.regions(wide)) > width
    assert max(region.box[3] for region in stage.regions(wide)) <= height


def test_one_page_at_a_time_gives_the_same_regions_each_time(layout: LayoutModel, stage: DocLayout) -> None:
    first = stage.regions(page(layout, "poster.png"))
    stage.regions(page(layout, "invoice.png"))
    assert stage.regions(page(layout, "poster.png")) == first
