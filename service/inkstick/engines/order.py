"""Reading order: which box of a page comes after which. Pure geometry.

Columns are cut before rows, so that paragraphs that happen to end at the same height in two columns are not read
across; but a cut down the page counts only where both sides are columns of text. Two short labels side by side are a
row, and are read across.
"""

from __future__ import annotations

from collections.abc import Sequence

Rectangle = tuple[float, float, float, float]


def reading_order(boxes: Sequence[Rectangle], line_height: float) -> list[int]:
    """Indexes into `boxes`, ``(x0, y0, x1, y1)`` with y downwards, first to last. `line_height` in the same unit."""
    return _order(list(range(len(boxes))), boxes, max(line_height, 1e-6))


def _order(members: list[int], boxes: Sequence[Rectangle], line_height: float) -> list[int]:
    if len(members) < 2:
        return members
    sides = _columns(members, boxes, line_height)
    if sides:
        return [index for side in sides for index in _order(side, boxes, line_height)]
    bands = _bands(members, boxes, line_height)
    if len(bands) == 1:
        return _across(members, boxes, line_height)
    ordered: list[int] = []
    for band in _joined(bands, boxes, line_height):
        ordered += _order(band, boxes, line_height)
    return ordered


def _columns(members: list[int], boxes: Sequence[Rectangle], line_height: float) -> list[list[int]] | None:
    """Left and right of the widest clear strip down the page; None if there is none or a side is not a column."""
    best: tuple[float, list[list[int]]] | None = None
    for gap, left, right in _cuts(members, boxes, axis=0):
        if gap < 0.4 * line_height or (best and gap <= best[0]) or not _beside(left, right, boxes):
            continue
        if _is_column(left, boxes, line_height) and _is_column(right, boxes, line_height):
            best = (gap, [left, right])
    return best[1] if best else None


def _is_column(side: list[int], boxes: Sequence[Rectangle], line_height: float) -> bool:
    """At least one block of several lines, or several blocks one below another that are long as a line of text is."""
    if any(boxes[index][3] - boxes[index][1] > 2.6 * line_height for index in side):
        return True
    return sum(boxes[index][2] - boxes[index][0] > 8 * line_height for index in side) >= 3


def _beside(left: list[int], right: list[int], boxes: Sequence[Rectangle]) -> bool:
    """Do the two sides share any height? If not, they are above and below each other."""
    top = max(min(boxes[index][1] for index in side) for side in (left, right))
    bottom = min(max(boxes[index][3] for index in side) for side in (left, right))
    return bottom > top


def _cuts(members: list[int], boxes: Sequence[Rectangle], axis: int) -> list[tuple[float, list[int], list[int]]]:
    """Every clear strip across `axis` (0: x, 1: y): its width, and what lies before and after it."""
    order = sorted(members, key=lambda index: (boxes[index][axis], boxes[index][axis + 2]))
    found = []
    reach = boxes[order[0]][axis + 2]
    for place, index in enumerate(order[1:], start=1):
        gap = boxes[index][axis] - reach
        if gap > 0:
            found.append((gap, order[:place], order[place:]))
        reach = max(reach, boxes[index][axis + 2])
    return found


def _bands(members: list[int], boxes: Sequence[Rectangle], line_height: float) -> list[list[int]]:
    """What lies above one another, top to bottom; boxes may overlap by a fifth of a line (skew, tall letters)."""
    shrunk = {index: _shrunk(boxes[index], line_height / 5) for index in members}
    order = sorted(members, key=lambda index: shrunk[index][0])
    bands: list[list[int]] = []
    reach = float("-inf")
    for index in order:
        top, bottom = shrunk[index]
        if top > reach:
            bands.append([])
        bands[-1].append(index)
        reach = max(reach, bottom)
    return bands


def _shrunk(box: Rectangle, margin: float) -> tuple[float, float]:
    top, bottom = box[1] + margin, box[3] - margin
    return (top, bottom) if top < bottom else ((box[1] + box[3]) / 2,) * 2


def _joined(bands: list[list[int]], boxes: Sequence[Rectangle], line_height: float) -> list[list[int]]:
    """Neighbouring bands put together again as long as one strip between columns runs through all of them."""
    runs: list[list[list[int]]] = []
    for band in bands:
        together = [index for part in [*runs[-1], band] for index in part] if runs else band
        if runs and _columns(together, boxes, line_height):
            runs[-1].append(band)
        else:
            if runs:
                runs[-1:] = _parted(runs[-1], boxes, line_height)
            runs.append([band])
    return [[index for band in run for index in band] for run in runs]


def _parted(run: list[list[int]], boxes: Sequence[Rectangle], line_height: float) -> list[list[list[int]]]:
    """A short line that closes a run of columns, with something across the page below it, is the heading of that."""
    *rest, last = run
    if rest and len(last) == 1 and boxes[last[0]][3] - boxes[last[0]][1] <= 2.6 * line_height:
        return [rest, [last]]
    return [run]


def _across(members: list[int], boxes: Sequence[Rectangle], line_height: float) -> list[int]:
    """Boxes on one band that nothing cuts: by rows of half a line, then left to right."""

    def place(index: int) -> tuple[int, float]:
        return (round(boxes[index][1] / (line_height / 2)), boxes[index][0])

    return sorted(members, key=place)


def printed_rows(boxes: Sequence[Rectangle]) -> list[list[int]]:
    """Boxes of single lines that stand on one printed row together: rows top to bottom, each left to right."""
    order = sorted(range(len(boxes)), key=lambda index: boxes[index][1] + boxes[index][3])
    rows: list[list[int]] = []
    for index in order:
        if rows and _same_row(boxes[rows[-1][-1]], boxes[index]):
            rows[-1].append(index)
        else:
            rows.append([index])
    return [sorted(row, key=lambda index: boxes[index][0]) for row in rows]


def _same_row(one: Rectangle, other: Rectangle) -> bool:
    """Half of the lower of the two boxes lies beside the other, and they do not stand over each other."""
    shared = min(one[3], other[3]) - max(one[1], other[1])
    over = min(one[2], other[2]) - max(one[0], other[0])
    narrower = min(one[2] - one[0], other[2] - other[0])
    return shared > 0.5 * min(one[3] - one[1], other[3] - other[1]) and over < 0.5 * narrower
