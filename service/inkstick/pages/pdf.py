"""PDF files and plain text, by MuPDF. Runs inside the sandbox: MuPDF cannot be interrupted, only killed."""

from __future__ import annotations

import contextlib
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pymupdf

from inkstick.errors import Damaged, Empty, Encrypted, TooComplex, TooLarge, Unsupported
from inkstick.pages.layer import Facts, judge
from inkstick.pages.plan import Plan, Rect, plan_points
from inkstick.pages.sheet import LOW_DPI, RGB, thousandths
from inkstick.pages.view import Budget, TextLayer, Word

MAX_PAGES = 1_000_000
MANY_PAGES = 2_000
MAX_WORDS = 50_000
MAX_IN_MEMORY = 256 << 20
MAX_INSIDE = 1000
MAX_COUNTED, MAX_DEPTH = 100_000, 60
COVERING = 0.8
OVERPRINT = 2
"""Thousandths of the page by which the same word may lie beside itself."""
SMALLER, RAISED = 0.9, 0.1
"""A figure is a raised one from this size on down, and from this height above its neighbour's line, both in sizes of
the neighbour."""
_A4 = (595.0, 842.0)
_INVISIBLE = 3
_DOCUMENTS = (".pdf", ".tif", ".tiff", ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".jp2", ".heic", ".zip", ".eml")
_SHAPE = re.compile("[\ufb00-\ufb4f\ufb50-\ufdfb\ufe70-\ufefc]")
_FIGURE = re.compile(r"\s*[-+\u2212(]?[0-9][0-9,)]{0,4}\s*")
_AS_RAISED = str.maketrans("0123456789+-\u2212()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾")
_MISSING = re.compile("padding truncated image|premature end of file|read error; treating as end of file")
_FAULTY = re.compile(f"error|premature end|{_MISSING.pattern}")

_ERRORS = (RuntimeError, ValueError, pymupdf.mupdf.FzErrorBase)
"""What MuPDF complains with: PyMuPDF turns only some of it into exceptions of Python's."""

pymupdf.TOOLS.mupdf_display_errors(False)
pymupdf.TOOLS.mupdf_display_warnings(False)


class PdfFile:
    """An open PDF (or mail body). Raises Damaged, Empty, Encrypted, TooComplex."""

    def __init__(self, fd: int, *, passwords: Sequence[str] = (), kind: str = "pdf") -> None:
        try:
            self.doc: Any = _open(fd, kind)
            _unlock(self.doc, passwords)
            if kind == "txt":
                self.doc.layout(width=_A4[0], height=_A4[1], fontsize=11)
            count_all(self.doc)
            stated = self.doc.page_count
            self.pages, lacks = _real_pages(self.doc, stated)
        except (*_ERRORS, AttributeError, TypeError) as error:
            raise fault(error) from error
        if self.pages < 1:
            raise Empty()
        self._own, self._inside = self.pages, _documents_inside(self.doc)
        self.pages += self._inside > 0  # that they were not read is told where one looks for them: behind the last page
        warnings = [("page_count", lacks), ("xfa", kind == "pdf" and _is_xfa_stub(self.doc))]
        self.warnings = tuple(word for word, holds in warnings if holds)

    def sheet(self, number: int) -> PdfSheet:
        if number > self._own:
            raise Unsupported(
                f"Other documents lie inside this PDF and were not read: {self._inside}.",
                hint="Save them from the PDF into a folder, and drop that.",
            )
        try:
            return PdfSheet(in_its_paper(self.doc.load_page(number - 1)))
        except (*_ERRORS, IndexError) as error:
            raise fault(error) from error

    def close(self) -> None:
        self.doc.close()
        pymupdf.TOOLS.store_shrink(100)


class PdfSheet:
    """One page. Its units are points, after /Rotate and UserUnit."""

    def __init__(self, page: Any) -> None:
        self.page = page
        rect = page.rect
        self.width, self.height = float(rect.width), float(rect.height)
        if not (math.isfinite(self.width * self.height) and self.width > 0 and self.height > 0):
            raise Empty("The page has no area.")
        self._images: tuple[float, float | None] | None = None
        self._said = ""

    def plan(self, budget: Budget) -> Plan:
        cover, native = self._image_facts()
        covering = native if cover >= COVERING else None
        try:
            return plan_points(self.width, self.height, budget, native_dpi=covering)
        except TooLarge:
            if native is None or self.page.get_text("text").strip():
                raise
            return plan_points(self.width, self.height, budget, native_dpi=native)

    def render(self, scale: float, clip: Rect | None = None) -> RGB:
        pymupdf.TOOLS.reset_mupdf_warnings()
        try:
            area = pymupdf.Rect(clip) if clip else None
            pixmap = self.page.get_pixmap(
                matrix=pymupdf.Matrix(scale, scale), clip=area, colorspace=pymupdf.csRGB, alpha=False
            )
        except _ERRORS as error:
            raise fault(error) from error
        self._said += pymupdf.TOOLS.mupdf_warnings()
        if pixmap.width < 1 or pixmap.height < 1:
            raise Empty("The page has no area.")
        rows = np.frombuffer(pixmap.samples_mv, np.uint8).reshape(pixmap.height, pixmap.stride)
        # A copy: the samples belong to the pixmap and vanish with it.
        return rows[:, : pixmap.width * 3].reshape(pixmap.height, pixmap.width, 3).copy()

    def torn(self) -> bool:
        return _MISSING.search(self._said) is not None

    def unseen(self) -> bool:
        return _FAULTY.search(self._said) is not None or _is_nothing(self.page)

    def dpi(self, scale: float) -> float | None:
        return scale * 72

    def low_dpi(self) -> bool:
        cover, native = self._image_facts()
        return cover >= COVERING and native is not None and native < LOW_DPI

    def layer(self) -> TextLayer | None:
        """The page's words with the verdict on them; None when there are none."""
        try:
            words = self._words()
            if not words:
                return None
            visible, invisible = self._drawn()
        except _ERRORS as error:
            raise fault(error) from error
        return judge(words, Facts(visible, invisible, self._image_facts()[0]))

    def text_turn(self) -> int | None:
        turns: Counter[int] = Counter()
        for span in self._spans():
            if span["type"] != _INVISIBLE:
                turns[self._turn_of(span["dir"])] += len(span["chars"])
        if turns.total() < 20:
            return None
        turn, count = turns.most_common(1)[0]
        return turn if count > 0.8 * turns.total() else 0

    def _turn_of(self, direction: tuple[float, float]) -> int:
        """Degrees clockwise that make this writing direction (in the unrotated page) run left to right."""
        x, y = direction
        angle = math.degrees(math.atan2(y, x)) + self.page.rotation  # clockwise, as y points down
        return int(round(-angle / 90) * 90) % 360

    def _words(self) -> list[Word]:
        """Words in the page's order, their boxes after /Rotate."""
        matrix = to_display(self.page)
        text = self.page.get_textpage(flags=pymupdf.TEXTFLAGS_WORDS)
        found = self.page.get_text("words", textpage=text, sort=False)[:MAX_WORDS]
        words = []
        for word in with_raised(found, self.page.get_text("dict", textpage=text)):
            box = pymupdf.Rect(word[:4]) * matrix
            rect = (box.x0 / self.width, box.y0 / self.height, box.x1 / self.width, box.y1 / self.height)
            if all(map(math.isfinite, rect)) and rect[0] < 1 and rect[1] < 1 and rect[2] > 0 and rect[3] > 0:
                words.append(Word(_letters(word[4])[:1000], thousandths(rect)))
        return _once(words)

    def _spans(self) -> list[Any]:
        spans: list[Any] = self.page.get_texttrace()
        return spans

    def _drawn(self) -> tuple[int, int]:
        """Characters drawn visibly and invisibly."""
        visible = invisible = 0
        for span in self._spans():
            if span["type"] == _INVISIBLE or span["opacity"] == 0:
                invisible += len(span["chars"])
            else:
                visible += len(span["chars"])
        return visible, invisible

    def _image_facts(self) -> tuple[float, float | None]:
        """Share of the page under images, and the resolution of the largest one."""
        if self._images is None:
            self._images = self._measure_images()
        return self._images

    def _measure_images(self) -> tuple[float, float | None]:
        page = pymupdf.Rect(0, 0, self.width, self.height)
        largest, covered, native = 0.0, 0.0, None
        try:
            found = self.page.get_image_info()[:5000]
        except _ERRORS as error:
            raise fault(error) from error
        for info in found:
            box = pymupdf.Rect(info["bbox"]) * to_display(self.page)
            area = abs((box & page).get_area())
            covered += area
            if area > largest and box.width > 0 and box.height > 0:
                largest = area
                native = math.sqrt(info["width"] * info["height"] / (box.width * box.height)) * 72
        cover = min(1.0, covered / (self.width * self.height))
        return cover, native


def _letters(text: str) -> str:
    """Letters in place of the shapes that they take when printed (ligatures, Arabic within a word): people look for
    those."""
    return text if text.isascii() else _SHAPE.sub(lambda shape: unicodedata.normalize("NFKC", shape[0]), text)


def _once(words: Sequence[Word]) -> list[Word]:
    """Without words that are printed a second time over themselves, to look bold."""
    found: dict[str, list[Word]] = {}
    for word in words:
        same = found.setdefault(word.text, [])
        if not any(all(abs(a - b) <= OVERPRINT for a, b in zip(word.box, one.box, strict=True)) for one in same[-50:]):
            same.append(word)
    kept = {id(word) for same in found.values() for word in same}
    return [word for word in words if id(word) in kept]


def with_raised(words: Sequence[Any], text: Any) -> list[Any]:
    """PyMuPDF's words with raised figures as such: the note mark in 1,250² would make it 1,2502 otherwise, and 10³
    would be 103. `text`: its dictionary of the same page."""
    raised = list(_raised(text))
    out = []
    for word in words:
        x0, y0, x1, y1, written, *rest = word
        for x, y, plain, shown in raised:
            if x0 <= x <= x1 and y0 <= y <= y1:
                written = shown.join(written.rsplit(plain, 1))
        out.append((x0, y0, x1, y1, written, *rest))
    return out


def _raised(text: Any) -> Iterator[tuple[float, float, str, str]]:
    """Of each raised figure that touches another word the middle, and how both are written: flat, and as they stand."""
    for line in (line for block in text["blocks"] for line in block.get("lines", ())):
        across, down = line["dir"]
        for before, after in pairwise(line["spans"]):
            for base, figure in ((before, after), (after, before)):
                x, y = (base["origin"][n] - figure["origin"][n] for n in (0, 1))
                small = figure["size"] <= SMALLER * base["size"] and _FIGURE.fullmatch(figure["text"])
                if small and y * across - x * down > RAISED * base["size"]:
                    left, right = before["text"].split(" ")[-1], after["text"].split(" ")[0]
                    shown = (left + right.translate(_AS_RAISED), left.translate(_AS_RAISED) + right)[base is after]
                    box = figure["bbox"]
                    if left and right:
                        yield (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, left + right, shown


def in_its_paper(page: Any) -> Any:
    """The page; loaded anew without its crop where that lies wholly beside the paper: MuPDF shows empty paper then,
    other viewers the page."""
    if not page.parent.is_pdf:
        return page
    node, mupdf = pymupdf._as_pdf_page(page).obj(), pymupdf.mupdf
    boxes = [mupdf.pdf_dict_get_inheritable(node, pymupdf.PDF_NAME(name)) for name in ("CropBox", "MediaBox")]
    if not all(map(mupdf.pdf_is_array, boxes)):
        return page
    crop, paper = (pymupdf.Rect(mupdf.pdf_to_rect(box)).normalize() for box in boxes)
    if crop.is_empty or paper.is_empty or not (crop & paper).is_empty:
        return page
    document, number = page.parent, page.number
    mupdf.pdf_dict_put_rect(node, pymupdf.PDF_NAME("CropBox"), mupdf.pdf_to_rect(boxes[1]))
    return document.load_page(number)


def _is_nothing(page: Any) -> bool:
    """MuPDF makes an empty page of whatever the page tree names: of what is not in the file, or is no page."""
    if not page.parent.is_pdf:
        return False
    node, mupdf = pymupdf._as_pdf_page(page).obj(), pymupdf.mupdf
    kind, contents = (mupdf.pdf_dict_gets(node, key) for key in ("Type", "Contents"))
    return bool(mupdf.pdf_is_null(contents)) and mupdf.pdf_to_name(kind) != "Page"


def to_display(page: Any) -> Any:
    """From MuPDF's text coordinates, which ignore /Rotate, to those of the page as displayed. PyMuPDF's own
    `rotation_matrix` forgets UserUnit."""
    width, height = page.rect.width, page.rect.height
    return {
        90: pymupdf.Matrix(0, 1, -1, 0, width, 0),
        180: pymupdf.Matrix(-1, 0, 0, -1, width, height),
        270: pymupdf.Matrix(0, -1, 1, 0, 0, height),
    }.get(page.rotation, pymupdf.Matrix(1, 0, 0, 1, 0, 0))


def _open(fd: int, kind: str) -> Any:
    """By /proc, so that MuPDF reads what it needs; from memory where the descriptor cannot be opened again."""
    if os.fstat(fd).st_size == 0:
        raise Empty("The file is empty.")
    path = f"/proc/self/fd/{fd}"
    if os.access(path, os.R_OK):
        return pymupdf.open(path, filetype=kind)
    if os.fstat(fd).st_size > MAX_IN_MEMORY:
        raise TooComplex("The file is too large to be opened in memory, and its permissions allow no other way.")
    return pymupdf.open(stream=os.pread(fd, MAX_IN_MEMORY, 0), filetype=kind)


def _unlock(doc: Any, passwords: Sequence[str]) -> None:
    if doc.needs_pass and not any(doc.authenticate(password) for password in passwords):
        raise Encrypted.despite(passwords)


def count_all(document: Any) -> None:
    """Have MuPDF know all pages where the tree states fewer than hang in it: it would show the first ones only."""
    if not document.is_pdf:
        return
    trailer = pymupdf.mupdf.pdf_trailer(pymupdf._as_pdf_document(document))
    with contextlib.suppress(*_ERRORS):  # a tree that cannot be walked is as large as it says
        _counted(pymupdf.mupdf.pdf_dict_getp(trailer, "Root/Pages"), MAX_COUNTED, frozenset())


def _counted(node: Any, most: int, above: frozenset[int]) -> int:
    """How many pages hang in a node of the page tree; in it and in those below it that number is put right where less
    is stated. At most `most` nodes are looked at, and a plain list of pages as long as it says is believed."""
    mupdf, number = pymupdf.mupdf, pymupdf.mupdf.pdf_to_num(node)
    kids, stated = mupdf.pdf_dict_gets(node, "Kids"), int(mupdf.pdf_to_int(mupdf.pdf_dict_gets(node, "Count")))
    length = int(mupdf.pdf_array_len(kids))
    if (number and number in above) or len(above) > MAX_DEPTH or length > most:
        return stated
    if length == stated and not any(_has_kids(mupdf.pdf_array_get(kids, n)) for n in (0, length - 1)):
        return stated
    found, left = 0, most - length
    for kid in (mupdf.pdf_array_get(kids, n) for n in range(length)):
        found += _counted(kid, left // length, above | {number}) if _has_kids(kid) else mupdf.pdf_is_dict(kid)
    if found > stated:
        mupdf.pdf_dict_put_int(node, pymupdf.PDF_NAME("Count"), found)
    return found


def _has_kids(node: Any) -> bool:
    return bool(pymupdf.mupdf.pdf_is_array(pymupdf.mupdf.pdf_dict_gets(node, "Kids")))


def _documents_inside(document: Any) -> int:
    """How many embedded files are documents: in a portfolio all of them, elsewhere those of a kind that is read, and
    not the data of an electronic invoice."""
    if not document.is_pdf:
        return 0
    mupdf = pymupdf.mupdf
    with contextlib.suppress(*_ERRORS):
        root = mupdf.pdf_dict_gets(mupdf.pdf_trailer(pymupdf._as_pdf_document(document)), "Root")
        portfolio = mupdf.pdf_is_dict(mupdf.pdf_dict_gets(root, "Collection"))
        names = islice(_names(mupdf.pdf_dict_getp(root, "Names/EmbeddedFiles")), MAX_INSIDE)
        return sum(bool(portfolio) or name.lower().endswith(_DOCUMENTS) for name in names)
    return 0


def _names(tree: Any) -> Iterator[str]:
    """Names of the embedded files in a tree of them; of a large or endless one the first."""
    mupdf, nodes, visits = pymupdf.mupdf, [tree], 0
    while nodes and visits < MAX_INSIDE:
        node, visits = nodes.pop(), visits + 1
        kids, entries = mupdf.pdf_dict_gets(node, "Kids"), mupdf.pdf_dict_gets(node, "Names")
        nodes += [mupdf.pdf_array_get(kids, n) for n in range(min(mupdf.pdf_array_len(kids), MAX_INSIDE))]
        for n in range(1, mupdf.pdf_array_len(entries), 2):
            file = mupdf.pdf_array_get(entries, n)
            told = (mupdf.pdf_dict_gets(file, key) for key in ("UF", "F"))
            yield next((mupdf.pdf_to_text_string(name) for name in told if mupdf.pdf_is_string(name)), "")


def _real_pages(doc: Any, stated: int) -> tuple[int, bool]:
    """How many pages are to be read, and whether the file states more than it has.

    A page that is not there is one of them, so that somebody is told of it; of a great many at the end the first."""
    if stated > MAX_PAGES:
        raise Damaged(f"It claims to have {stated} pages.")
    if stated < 1 or _loads(doc, stated - 1):
        return stated, False
    if stated <= MANY_PAGES:
        there = any(_loads(doc, index) for index in range(stated))
        last = stated
    else:
        low, high = 0, stated - 1  # pages below `low` load, page `high` does not
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if _loads(doc, middle) else (low, middle)
        there, last = low > 0, low + 1
    if not there:
        raise Damaged("None of its pages can be opened.")
    return last, True


def _loads(doc: Any, index: int) -> bool:
    try:
        doc.load_page(index)
    except (*_ERRORS, IndexError):
        return False
    return True


def _is_xfa_stub(doc: Any) -> bool:
    """A dynamic form: the pages say only that another program is needed, in English or whatever its maker speaks."""
    try:
        if not doc.is_pdf or doc.xref_get_key(doc.pdf_catalog(), "AcroForm/XFA")[0] in ("null", "undefined"):
            return False
        if doc.xref_get_key(doc.pdf_catalog(), "NeedsRendering")[1] == "true":
            return True
        text = "".join(doc.load_page(i).get_text() for i in range(min(2, doc.page_count)))
    except (*_ERRORS, IndexError):
        return False
    return doc.page_count <= 2 and "please wait" in text.lower()


def fault(error: BaseException) -> Damaged | TooComplex:
    """MuPDF's complaint as one of ours."""
    text = str(error).lower()
    if "alloc" in text or "memory" in text or "too many" in text or isinstance(error, MemoryError):
        return TooComplex()
    return Damaged()
