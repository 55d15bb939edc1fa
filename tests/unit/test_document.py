"""The document model: what is written can be read back, and the record is the contract's."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from inkstick.document import (
    Block,
    Box,
    Flag,
    Header,
    Kind,
    Line,
    Page,
    Part,
    header_from_json,
    header_json,
    page_from_json,
    page_json,
    record_chunks,
)

sides = st.integers(0, 1000)
boxes: st.SearchStrategy[Box] = st.tuples(sides, sides, sides, sides)
scores = st.one_of(st.none(), st.floats(0, 1))
lines = st.builds(Line, st.text(), boxes, scores)
blocks = st.builds(
    Block,
    order=st.integers(1, 99),
    kind=st.sampled_from(Kind),
    text=st.text(),
    box=st.one_of(st.none(), boxes),
    score=scores,
    lines=st.lists(lines, max_size=3).map(tuple),
    level=st.one_of(st.none(), st.integers(1, 6)),
)
pages = st.builds(
    Page,
    number=st.integers(1, 10_000),
    width=st.integers(1, 10_000),
    height=st.integers(1, 10_000),
    engine=st.one_of(st.none(), st.just("rapidocr")),
    flags=st.lists(st.sampled_from(Flag), unique=True).map(tuple),
    score=scores,
    blocks=st.lists(blocks, max_size=3).map(tuple),
    rotation=st.sampled_from([0, 90, 180, 270]),
    part=st.one_of(st.none(), st.text()),
    error=st.one_of(st.none(), st.just({"code": "timeout", "message": "m", "hint": "h"})),
)


@given(pages)
def test_a_page_survives_its_record(page: Page) -> None:
    assert page_from_json(json.loads(json.dumps(page_json(page)))) == page


def test_the_record_has_the_contract_s_keys_and_is_json_page_by_page() -> None:
    part = Part("a/b.pdf", "application/pdf", 1, 1)
    header = Header("box.zip", "0" * 64, 12, "application/zip", versions={"inkstick": "1"}, parts=(part,))
    page = Page(1, 10, 20, "rapidocr", blocks=(Block(1, Kind.PARAGRAPH, "text", (1, 2, 3, 4), 0.5),))
    text = "".join(record_chunks(header, [page, replace(page, number=2)]))
    record = json.loads(text)
    assert record["inkstick"] == 1
    assert set(record["document"]) == {"name", "sha256", "size", "type", "task", "versions", "parts"}
    assert set(record["pages"][0]) >= {
        "number", "width", "height", "engine", "model", "prompt", "seconds", "attempts", "flags", "score", "blocks",
    }  # fmt: skip
    assert set(record["pages"][1]["blocks"][0]) >= {"order", "kind", "text", "box", "score"}
    assert header_from_json(record["document"]) == header
    assert header_from_json(header_json(header)) == header
    assert json.loads("".join(record_chunks(header, [])))["pages"] == []


def test_a_flag_is_kept_once_and_flags_stand_in_the_order_of_the_closed_set() -> None:
    page = Page(1, 1, 1, None, flags=(Flag.SUSPECT,))
    assert page.flagged(Flag.BLANK, Flag.SUSPECT).flags == (Flag.BLANK, Flag.SUSPECT)
