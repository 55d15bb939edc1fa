from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkstick.results.names import LIMIT, STEM_LIMIT, numbered, part_names, result_name, safe_name

ANY = st.text(st.characters(), max_size=300)  # lone surrogates included
_PIECES = ["CON", "nul", ".", " ", "/", "\\", "\0", "\u202e", "e\u0301", "文", "<", "\u0338", "COM1", ".pdf", "é" * 90]
NASTY = st.lists(st.sampled_from(_PIECES)).map("".join)


def is_safe(name: str) -> bool:
    return (
        bool(name)
        and unicodedata.is_normalized("NFC", name)
        and not set(name) & set('<>:"/\\|?*')
        and not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c == "\u202e" for c in name)
        and name[0] not in ". "
        and name[-1] not in ". "
        and name.split(".")[0].strip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}
    )


@given(ANY | NASTY)
def test_every_name_becomes_a_safe_one_that_stays_as_it_is(original: str) -> None:
    name = result_name(original)
    assert is_safe(name)
    assert len(f"{name}.hocr.html".encode()) <= LIMIT
    assert safe_name(name) == name


@given(ANY | NASTY, st.integers(2, 99_999))
def test_a_numbered_name_is_safe_and_differs(original: str, n: int) -> None:
    name = result_name(original)
    assert is_safe(numbered(name, n))
    assert numbered(name, n) != name
    assert len(numbered(name, n).encode()) <= STEM_LIMIT


@given(st.lists(ANY | NASTY, max_size=30))
def test_parts_get_safe_names_that_never_collide_even_ignoring_case(names: list[str]) -> None:
    folders = part_names(names)
    assert len({folder.casefold() for folder in folders}) == len(names)
    assert all(is_safe(folder) and len(folder.encode()) <= STEM_LIMIT for folder in folders)


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("report.pdf", "report"),
        ("scans/2026/report.final.PDF", "report.final"),
        ("Invoice 2024.01", "Invoice 2024.01"),
        (".hidden.pdf", "hidden"),
        ("CON.pdf", "_CON"),
        ("aux.x.y.pdf", "_aux.x.y"),
        ("a<b>:c?.tif", "a_b__c_"),
        ("trailing. .pdf", "trailing"),
        ("re\u0301sume\u0301.png", "résumé"),
        ("invoice\u202efdp.exe", "invoicefdp"),
        ("..", "document"),
        ("", "document"),
        (".pdf", "pdf"),
        ("发票 三月.jpg", "发票 三月"),
        ("two\nlines.pdf", "two lines"),
    ],
)
def test_names_that_people_have(original: str, name: str) -> None:
    assert result_name(original) == name


def test_the_first_of_a_name_has_no_number() -> None:
    assert [numbered("report", n) for n in (1, 2, 3)] == ["report", "report (2)", "report (3)"]


def test_parts_keep_the_order_of_the_archive() -> None:
    assert part_names(["b/scan.pdf", "a/scan.pdf"]) == ("01 scan", "02 scan")
